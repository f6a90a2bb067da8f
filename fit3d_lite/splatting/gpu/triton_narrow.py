"""The blend for at most four channels, as a photo has: each channel a number per pixel, and nothing two-dimensional.

The kernels of triton_kernels.py keep a pixels × channels block, and turning pixels into rows of it goes through shared
memory. Four plain accumulators need none of that, and photos are what fitting draws thousands of times.
"""

import triton
import triton.language as tl

from .triton_kernels import (
    _ALPHA_MAX,
    _ALPHA_MIN,
    _TILE,
    _UNROLL,
    SIZES,
    _begin,
    _offsets,
    _pass_one,
    _pixels,
    _push_ellipse,
    _resume,
)

CHANNELS = 4  # what values and pictures are padded to
_CHANNELS = tl.constexpr(CHANNELS)


@triton.jit(do_not_specialize=SIZES)
def narrow_forward(
    ellipses,  # [N, 6]
    listed, starts,  # as in triton_kernels
    values,  # [N, 4]
    image,  # out [H * W, 4]
    passing, last,  # out [H * W]
    width, height, tiles_x, first_row,
):  # fmt: skip
    column, row, pixel, inside = _pixels(width, height, tiles_x, first_row)
    index, end, T = _begin(starts)
    final = tl.zeros([_TILE * _TILE], tl.int32)
    first = tl.zeros([_TILE * _TILE], tl.float32)
    second = tl.zeros([_TILE * _TILE], tl.float32)
    third = tl.zeros([_TILE * _TILE], tl.float32)
    fourth = tl.zeros([_TILE * _TILE], tl.float32)
    live = inside
    looking = 1
    while (index < end) & (looking > 0):
        for _ in tl.static_range(_UNROLL):
            who, weight, counts, T, live = _pass_one(ellipses, listed, index, end, column, row, T, live)
            value = values + who * _CHANNELS
            first += weight * tl.load(value)
            second += weight * tl.load(value + 1)
            third += weight * tl.load(value + 2)
            fourth += weight * tl.load(value + 3)
            index += 1
            final = tl.where(counts, index, final)
        looking = tl.max(live.to(tl.int32), axis=0)
    out = image + pixel * _CHANNELS
    tl.store(out, first, mask=inside)
    tl.store(out + 1, second, mask=inside)
    tl.store(out + 2, third, mask=inside)
    tl.store(out + 3, fourth, mask=inside)
    tl.store(passing + pixel, T, mask=inside)
    tl.store(last + pixel, final, mask=inside)


@triton.jit(do_not_specialize=SIZES)
def narrow_backward(
    ellipses, listed, starts, values, passing, last,
    d_image,  # [H * W, 4]
    d_alpha,  # [H * W]
    d_ellipses,  # out [N, 6], added to
    d_values,  # out [N, 4], added to
    width, height, tiles_x, first_row,
    GEOMETRY: tl.constexpr,
    VALUES: tl.constexpr,
):  # fmt: skip
    """From far to near, as triton_kernels.blend_backward explains."""
    column, row, pixel, inside = _pixels(width, height, tiles_x, first_row)
    arriving = d_image + pixel * _CHANNELS
    d_first = tl.load(arriving, mask=inside, other=0.0)
    d_second = tl.load(arriving + 1, mask=inside, other=0.0)
    d_third = tl.load(arriving + 2, mask=inside, other=0.0)
    d_fourth = tl.load(arriving + 3, mask=inside, other=0.0)
    d_opacity = tl.load(d_alpha + pixel, mask=inside, other=0.0)
    T, final, behind, start, index = _resume(starts, passing, last, pixel, inside)
    while index >= start:
        who = tl.load(listed + index).to(tl.int64)
        raw, across, along, du, dv, slope, inv_u, inv_v, opacity = _offsets(ellipses, who, column, row)
        alpha = tl.minimum(raw, _ALPHA_MAX)
        counts = (index < final) & (alpha >= _ALPHA_MIN)
        if tl.max(counts.to(tl.int32), axis=0) > 0:
            T = tl.where(counts, T / (1.0 - alpha), T)
            weight = tl.where(counts, alpha * T, 0.0)
            value = values + who * _CHANNELS
            gain = d_opacity + d_first * tl.load(value) + d_second * tl.load(value + 1)
            gain += d_third * tl.load(value + 2) + d_fourth * tl.load(value + 3)
            if VALUES:
                out = d_values + who * _CHANNELS
                tl.atomic_add(out, tl.sum(weight * d_first, axis=0), sem="relaxed")
                tl.atomic_add(out + 1, tl.sum(weight * d_second, axis=0), sem="relaxed")
                tl.atomic_add(out + 2, tl.sum(weight * d_third, axis=0), sem="relaxed")
                tl.atomic_add(out + 3, tl.sum(weight * d_fourth, axis=0), sem="relaxed")
            if GEOMETRY:
                behind = _push_ellipse(
                    d_ellipses + who * 6, gain, behind, T, weight, raw, counts,
                    across, along, du, dv, slope, inv_u, inv_v, opacity,
                )  # fmt: skip
        index -= 1
