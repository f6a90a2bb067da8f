"""The painter's loop: Gaussians from near to far, and for each its rows and columns. Compiled by numba at first use.

Every pixel carries one number from Gaussian to Gaussian, what the nearer ones let through: 1 at first, negative once the
pixel is closed. Nothing is kept per pair. The gradient walks the same way again: what lies behind a Gaussian in a pixel
is what the whole pixel sums to minus what has been passed, so it need not be walked from far to near.

Threads share out bands of ``BAND`` rows. What a Gaussian receives in each of its bands has a place of its own and is
added up in order, so the bits do not depend on how many threads there are. All sums are float64.
"""

from __future__ import annotations

import math

import numpy as np

from ..base.loops import COUNT, DOUBLE2, DOUBLE3, LIMITS, PLACES, PLACES2, SINGLE1, SINGLE2, SINGLE3, compiled, inner

BAND = 16  # rows of pixels that one thread does at a time


@inner
def _row(ellipse, reach, row, width):
    """A Gaussian cut along one row of pixels, in the columns where its squared distance may be within ``reach``.

    first and last column; how far the first one's center is from the middle of the cut, in standard deviations; alpha
    there, what it is multiplied by from that column to the next, and what that factor is multiplied by: alpha falls as
    exp(−½ across²), so its logarithm has a constant second difference, and a row needs two exponentials in all.
    """
    u, v, slope, inv_v, inv_u, opacity = ellipse
    dv = row + 0.5 - v
    square = (dv * inv_v) ** 2
    half = math.sqrt(max(reach - square, 0.0)) / inv_u + 1e-3  # a hair wider; alpha decides
    middle = u + slope * dv
    left = int(math.ceil(min(max(middle - half - 0.5, 0.0), float(width))))
    right = int(math.floor(max(min(middle + half - 0.5, width - 1.0), -1.0)))
    across = (left + 0.5 - middle) * inv_u
    alpha = opacity * math.exp(-0.5 * (across * across + square))
    return left, right, across, alpha, math.exp(-inv_u * (across + 0.5 * inv_u))


@inner
def _meet(passing, row, column, bell, limits):
    """What reaches a pixel and the alpha that a Gaussian takes of it, which is gone from passing then; 0 and 0 where the
    Gaussian is too thin or the pixel closed, as it is by a Gaussian that would leave too little."""
    alpha_min, alpha_max, t_min = limits
    through, alpha = passing[row, column], min(bell, alpha_max)
    if through < 0 or alpha < alpha_min:
        return 0.0, 0.0
    after = through * (1 - alpha)
    if after <= t_min:
        passing[row, column] = -through
        return 0.0, 0.0
    passing[row, column] = after
    return through, alpha


@compiled(*[DOUBLE2, PLACES2, PLACES, SINGLE2, LIMITS, COUNT, COUNT, DOUBLE3, DOUBLE2])
def paint(ellipses, rows, index, values, limits, top, bottom, image, passing):
    """Add Gaussians from near to far to rows ``top`` to ``bottom`` of image [H, W, C] and passing [H, W] (1 before)."""
    alpha_min = limits[0]
    width, channels = passing.shape[1], image.shape[2]
    for k in range(len(index)):
        if rows[k, 1] < top or rows[k, 0] >= bottom:
            continue
        ellipse = ellipses[k, 0], ellipses[k, 1], ellipses[k, 2], ellipses[k, 3], ellipses[k, 4], ellipses[k, 5]
        value, reach, fall = values[index[k]], 2 * math.log(ellipse[5] / alpha_min), math.exp(-(ellipse[4] ** 2))
        for row in range(max(rows[k, 0], top), min(rows[k, 1] + 1, bottom)):
            left, right, _, bell, ratio = _row(ellipse, reach, row, width)
            for column in range(left, right + 1):
                through, alpha = _meet(passing, row, column, bell, limits)
                bell, ratio = bell * ratio, ratio * fall
                if alpha == 0:
                    continue
                for c in range(channels):
                    image[row, column, c] += alpha * through * value[c]


@compiled(*[DOUBLE2, PLACES2, PLACES, SINGLE2, LIMITS, COUNT, COUNT, DOUBLE2, SINGLE3, SINGLE2, DOUBLE2, PLACES, DOUBLE2])
def paint_back(
    ellipses, rows, index, values, limits, top, bottom, passing, d_image, d_alpha, behind, starts, received,
):  # fmt: skip
    """What each Gaussian receives in rows ``top`` to ``bottom``: its ellipse and its values, into ``received``.

    passing [H, W] is 1 before, behind [H, W] each pixel's sum of (weight · gradient of the weight).
    """
    alpha_min, alpha_max, _ = limits
    width, channels = passing.shape[1], d_image.shape[2]
    for k in range(len(index)):
        if rows[k, 1] < top or rows[k, 0] >= bottom:
            continue
        ellipse = ellipses[k, 0], ellipses[k, 1], ellipses[k, 2], ellipses[k, 3], ellipses[k, 4], ellipses[k, 5]
        _, v, slope, inv_v, inv_u, opacity = ellipse
        value, reach, fall = values[index[k]], 2 * math.log(opacity / alpha_min), math.exp(-inv_u * inv_u)
        into = received[starts[k] + top // BAND - rows[k, 0] // BAND]
        into[:] = 0
        for row in range(max(rows[k, 0], top), min(rows[k, 1] + 1, bottom)):
            left, right, across, bell, ratio = _row(ellipse, reach, row, width)
            across -= inv_u
            zeroth = first = second = 0.0  # sums of (gradient of ½ distance²), times across to that power
            for column in range(left, right + 1):
                through, alpha = _meet(passing, row, column, bell, limits)
                across, bell, ratio = across + inv_u, bell * ratio, ratio * fall
                if alpha == 0:
                    continue
                weight, arriving = alpha * through, np.float64(d_alpha[row, column])
                for c in range(channels):
                    arriving += np.float64(value[c]) * d_image[row, column, c]
                    into[6 + c] += weight * d_image[row, column, c]
                rest = behind[row, column] - weight * arriving
                behind[row, column] = rest
                if alpha < alpha_max:
                    pull = -alpha * (through * arriving - rest / (1 - alpha))
                    zeroth += pull
                    first += pull * across
                    second += pull * across * across
            dv = row + 0.5 - v
            into[0] -= first * inv_u
            into[1] += slope * first * inv_u - zeroth * dv * inv_v * inv_v
            into[2] -= first * inv_u * dv
            into[3] += zeroth * dv * dv * inv_v
            into[4] += second / inv_u
            into[5] -= zeroth / opacity


@compiled(*[DOUBLE2, PLACES2, PLACES, LIMITS, COUNT, COUNT, DOUBLE2, COUNT, COUNT, PLACES2, PLACES2, PLACES, SINGLE1])
def fold(ellipses, rows, index, limits, top, bottom, passing, down, across, counts, places, columns, weights):
    """The view matrix of rows ``top`` to ``bottom``, each ``down`` × ``across`` pixels folded into one by their mean.

    Without ``columns`` the entries of each patch are counted into counts [h, w]; with it they are written, from near to
    far, to columns and weights [M] from places [h, w] on.
    """
    alpha_min, width = limits[0], passing.shape[1]
    share = 1 / (down * across)
    sums = np.zeros(width // across)
    for k in range(len(index)):
        if rows[k, 1] < top or rows[k, 0] >= bottom:
            continue
        ellipse = ellipses[k, 0], ellipses[k, 1], ellipses[k, 2], ellipses[k, 3], ellipses[k, 4], ellipses[k, 5]
        reach, fall = 2 * math.log(ellipse[5] / alpha_min), math.exp(-(ellipse[4] ** 2))
        first, last = max(rows[k, 0], top), min(rows[k, 1] + 1, bottom)
        for patch_row in range(first // down, (last - 1) // down + 1):
            low, high = width, -1
            for row in range(max(first, patch_row * down), min(last, (patch_row + 1) * down)):
                left, right, _, bell, ratio = _row(ellipse, reach, row, width)
                for column in range(left, right + 1):
                    through, alpha = _meet(passing, row, column, bell, limits)
                    bell, ratio = bell * ratio, ratio * fall
                    if alpha == 0:
                        continue
                    sums[column // across] += alpha * through
                low, high = min(low, left // across), max(high, right // across)
            for patch in range(low, high + 1):
                if sums[patch] > 0:
                    if len(columns):
                        place = places[patch_row, patch]
                        columns[place], weights[place] = index[k], sums[patch] * share
                        places[patch_row, patch] = place + 1
                    else:
                        counts[patch_row, patch] += 1
                    sums[patch] = 0.0
