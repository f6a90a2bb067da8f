"""Triton's kernels for the blend: one small tile of pixels a program, one Gaussian after the other.

A tile is TILE × TILE pixels, one warp: sums over its pixels are then shuffles and need no barrier. Each pixel carries
its transmittance T and goes through the Gaussians of its tile, which lie in depth order, exactly as blend.py's formula
says: alpha = min(0.999, opacity · exp(−½ distance²)), weight = alpha · T, T ← T · (1 − alpha); a pair under 1/255 is
skipped, and a pixel stops at the pair that would bring T to 1e-4.

Compiled by Triton when first called; with TRITON_INTERPRET=1 set before the import, run by its interpreter on a CPU.
"""

import triton
import triton.language as tl

from ..blend import ALPHA_MAX, ALPHA_MIN, T_MIN

TILE = 8  # pixels a side
UNROLL = 4  # Gaussians between two looks at whether every pixel of the tile has stopped

# Not compiled anew for a width that is a multiple of 16, or for a first row of 1.
SIZES = ["width", "height", "tiles_x", "first_row"]

# A kernel sees module-level numbers only as constants of this kind.
_ALPHA_MAX = tl.constexpr(ALPHA_MAX)
_ALPHA_MIN = tl.constexpr(ALPHA_MIN)
_T_MIN = tl.constexpr(T_MIN)
_TILE = tl.constexpr(TILE)
_UNROLL = tl.constexpr(UNROLL)


@triton.jit
def _pixels(width, height, tiles_x, first_row):
    """Column and row of each pixel of this program's tile, its index in the picture, and whether it lies inside."""
    tile = tl.program_id(0)
    lane = tl.arange(0, _TILE * _TILE)
    column = (tile % tiles_x) * _TILE + lane % _TILE
    row = first_row + (tile // tiles_x) * _TILE + lane // _TILE
    inside = (column < width) & (row < height)
    return column, row, row * width + column, inside


@triton.jit
def _begin(starts):
    """First and last + 1 entry of this program's list, and the light before any of it: all."""
    tile = tl.program_id(0)
    return tl.load(starts + tile), tl.load(starts + tile + 1), tl.full([_TILE * _TILE], 1.0, tl.float32)


@triton.jit
def _offsets(ellipses, gaussian, column, row):
    """Alpha of a Gaussian in every pixel, before its cut at 0.999; the offsets of pixel centers from it in units of its
    spreads, and in pixels; what of its ellipse the gradient needs."""
    base = ellipses + gaussian * 6
    mean_u = tl.load(base)
    mean_v = tl.load(base + 1)
    slope = tl.load(base + 2)
    inv_v = tl.load(base + 3)
    inv_u = tl.load(base + 4)
    opacity = tl.load(base + 5)
    dv = row + 0.5 - mean_v
    du = column + 0.5 - mean_u - slope * dv
    across = du * inv_u
    along = dv * inv_v
    alpha = opacity * tl.exp(-0.5 * (across * across + along * along))
    return alpha, across, along, du, dv, slope, inv_u, inv_v, opacity


@triton.jit
def _pass_one(ellipses, listed, index, end, column, row, T, live):
    """One Gaussian in front of every pixel of the tile -> which, its weights, the pixels where it counts, T after it,
    the pixels that still look on."""
    there = index < end
    gaussian = tl.load(listed + index, mask=there, other=0).to(tl.int64)  # gaussian · channels may pass 2³¹
    alpha, across, along, du, dv, slope, inv_u, inv_v, opacity = _offsets(ellipses, gaussian, column, row)
    alpha = tl.minimum(alpha, _ALPHA_MAX)
    meets = live & there & (alpha >= _ALPHA_MIN)
    after = T * (1.0 - alpha)
    counts = meets & (after > _T_MIN)
    live = live & ((after > _T_MIN) | ~meets)
    weight = tl.where(counts, alpha * T, 0.0)
    return gaussian, weight, counts, tl.where(counts, after, T), live


@triton.jit
def _push_ellipse(
    out, gain, behind, T, weight, raw, counts, across, along, du, dv, slope, inv_u, inv_v, opacity
):
    """Add what one Gaussian's ellipse gets from this tile, where ``gain`` is the gradient of its weights -> ``behind``
    with the Gaussian in it."""
    alpha = tl.minimum(raw, _ALPHA_MAX)
    grown = tl.where(counts & (raw < _ALPHA_MAX), T * gain - behind / (1.0 - alpha), 0.0)
    d_square = -grown * alpha  # gradient of ½ distance²
    d_du = d_square * across * inv_u
    tl.atomic_add(out, tl.sum(-d_du, axis=0), sem="relaxed")
    tl.atomic_add(out + 1, tl.sum(d_du * slope - d_square * along * inv_v, axis=0), sem="relaxed")
    tl.atomic_add(out + 2, tl.sum(-d_du * dv, axis=0), sem="relaxed")
    tl.atomic_add(out + 3, tl.sum(d_square * along * dv, axis=0), sem="relaxed")
    tl.atomic_add(out + 4, tl.sum(d_square * across * du, axis=0), sem="relaxed")
    tl.atomic_add(out + 5, tl.sum(grown * alpha, axis=0) / opacity, sem="relaxed")
    return behind + weight * gain


@triton.jit(do_not_specialize=SIZES)
def blend_forward(
    ellipses,  # [N, 6]
    listed,  # [I] int32: Gaussians by tile, in each from near to far
    starts,  # [tiles + 1] int32: where each tile's part of it begins
    values,  # [N, C]
    image,  # out [H * W, C]
    passing,  # out [H * W]: transmittance at the end
    last,  # out [H * W] int32: one past the last index that counted
    width, height, tiles_x, first_row, channels,
    BLOCK: tl.constexpr,  # channels of one program, a power of two
):  # fmt: skip
    column, row, pixel, inside = _pixels(width, height, tiles_x, first_row)
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    real = channel < channels
    index, end, T = _begin(starts)
    final = tl.zeros([_TILE * _TILE], tl.int32)
    total = tl.zeros([_TILE * _TILE, BLOCK], tl.float32)
    live = inside
    looking = 1
    while (index < end) & (looking > 0):
        for _ in tl.static_range(_UNROLL):
            gaussian, weight, counts, T, live = _pass_one(ellipses, listed, index, end, column, row, T, live)
            value = tl.load(values + gaussian * channels + channel, mask=real, other=0.0)
            total += weight[:, None] * value[None, :]
            index += 1
            final = tl.where(counts, index, final)
        looking = tl.max(live.to(tl.int32), axis=0)
    where = pixel.to(tl.int64)[:, None] * channels + channel[None, :]
    tl.store(image + where, total, mask=inside[:, None] & real[None, :])
    if tl.program_id(1) == 0:
        tl.store(passing + pixel, T, mask=inside)
        tl.store(last + pixel, final, mask=inside)


@triton.jit(do_not_specialize=SIZES)
def blend_backward(
    ellipses, listed, starts, values, passing, last,  # as above
    d_image,  # [H * W, C]
    d_alpha,  # [H * W]: gradient of the opacity 1 − passing
    d_ellipses,  # out [N, 6], added to
    d_values,  # out [N, C], added to
    width, height, tiles_x, first_row, channels,
    BLOCK: tl.constexpr,
    GEOMETRY: tl.constexpr,  # whether d_ellipses is wanted
    VALUES: tl.constexpr,  # whether d_values is wanted
):  # fmt: skip
    """From far to near. With the gradient of pair k's weight g_k = values_k · d_image + d_alpha, a larger alpha_k adds
    T_k · g_k and dims all behind it: Σ_{j>k} weight_j · g_j / (1 − alpha_k). T is found back by dividing."""
    column, row, pixel, inside = _pixels(width, height, tiles_x, first_row)
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    real = channel < channels
    where = pixel.to(tl.int64)[:, None] * channels + channel[None, :]
    arriving = tl.load(d_image + where, mask=inside[:, None] & real[None, :], other=0.0)
    # The opacity is a channel of ones; it belongs to one of the programs that share a tile.
    mine = inside & (tl.program_id(1) == 0)
    arriving_alpha = tl.load(d_alpha + pixel, mask=mine, other=0.0)
    # Where the forward pass left off: the light that passed, one past the last Gaussian that counted in each pixel.
    T = tl.load(passing + pixel, mask=inside, other=1.0)
    final = tl.load(last + pixel, mask=inside, other=0)
    behind = tl.zeros([_TILE * _TILE], tl.float32)
    start, index = tl.load(starts + tl.program_id(0)), tl.max(final, axis=0) - 1
    while index >= start:
        gaussian = tl.load(listed + index).to(tl.int64)
        raw, across, along, du, dv, slope, inv_u, inv_v, opacity = _offsets(ellipses, gaussian, column, row)
        alpha = tl.minimum(raw, _ALPHA_MAX)
        counts = (index < final) & (alpha >= _ALPHA_MIN)
        if tl.max(counts.to(tl.int32), axis=0) > 0:
            T = tl.where(counts, T / (1.0 - alpha), T)
            weight = tl.where(counts, alpha * T, 0.0)
            value = tl.load(values + gaussian * channels + channel, mask=real, other=0.0)
            gain = tl.sum(arriving * value[None, :], axis=1) + arriving_alpha
            if VALUES:
                tl.atomic_add(
                    d_values + gaussian * channels + channel, tl.sum(arriving * weight[:, None], axis=0), mask=real,
                    sem="relaxed",
                )  # fmt: skip
            if GEOMETRY:
                behind = _push_ellipse(
                    d_ellipses + gaussian * 6, gain, behind, T, weight, raw, counts,
                    across, along, du, dv, slope, inv_u, inv_v, opacity,
                )  # fmt: skip
        index -= 1


@triton.jit(do_not_specialize=SIZES)
def count_pairs(
    ellipses, listed, starts,
    counted,  # out [H * W] int32: Gaussians that count in each pixel
    width, height, tiles_x, first_row,
):  # fmt: skip
    column, row, pixel, inside = _pixels(width, height, tiles_x, first_row)
    index, end, T = _begin(starts)
    number = tl.zeros([_TILE * _TILE], tl.int32)
    live = inside
    looking = 1
    while (index < end) & (looking > 0):
        for _ in tl.static_range(_UNROLL):
            gaussian, weight, counts, T, live = _pass_one(ellipses, listed, index, end, column, row, T, live)
            number += counts.to(tl.int32)
            index += 1
        looking = tl.max(live.to(tl.int32), axis=0)
    tl.store(counted + pixel, number, mask=inside)


@triton.jit(do_not_specialize=SIZES)
def write_pairs(
    ellipses, listed, starts,
    rows,  # [H * W + 1] int64: where each pixel's pairs begin
    columns,  # out [M] int64: Gaussians, by pixel and from near to far
    weights,  # out [M]
    width, height, tiles_x, first_row,
):  # fmt: skip
    column, row, pixel, inside = _pixels(width, height, tiles_x, first_row)
    index, end, T = _begin(starts)
    place = tl.load(rows + pixel, mask=inside, other=0)
    live = inside
    looking = 1
    while (index < end) & (looking > 0):
        for _ in tl.static_range(_UNROLL):
            gaussian, weight, counts, T, live = _pass_one(ellipses, listed, index, end, column, row, T, live)
            tl.store(columns + place, tl.zeros_like(place) + gaussian, mask=counts)
            tl.store(weights + place, weight, mask=counts)
            place += counts.to(tl.int64)
            index += 1
        looking = tl.max(live.to(tl.int32), axis=0)
