"""Procedural surface patterns, in the local coordinates of the thing they cover.

A pattern turns metric surface coordinates (u, v) and two colors into a color. Randomness comes from one table of
value noise, read with bilinear interpolation: a table has the same bits everywhere, a hash of floats does not.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from .shapes import BALL, CONE, Primitives

NAMES = (
    "plain", "wood", "planks", "tiles", "stripes", "checks", "diamonds", "rug", "painting", "outside", "fabric",
    "brick", "spine", "parquet", "dots", "leaf", "mirror", "zigzag",
)  # fmt: skip
ID = {name: number for number, name in enumerate(NAMES)}
SIZE = 512  # texels of the noise table, which repeats


@lru_cache(maxsize=4)
def noise_table(device: str) -> Tensor:
    """[2, SIZE, SIZE] in 0..1: five octaves of smooth value noise, and white noise for one value per cell."""
    raw = np.random.PCG64(20240729)

    def white(n):
        return ((raw.random_raw(n * n) >> np.uint64(40)).astype(np.float64) / 2.0**24).reshape(n, n)

    total, weight = np.zeros((SIZE, SIZE)), 0.0
    for octave, gain in ((16, 1.0), (32, 0.7), (64, 0.5), (128, 0.35), (256, 0.25)):
        grid, step = white(octave), SIZE // octave
        f = (np.arange(SIZE) % step) / step
        f = f * f * (3.0 - 2.0 * f)
        i, j = np.arange(SIZE) // step, (np.arange(SIZE) // step + 1) % octave
        rows = grid[i] * (1.0 - f)[:, None] + grid[j] * f[:, None]
        total += gain * (rows[:, i] * (1.0 - f) + rows[:, j] * f)
        weight += gain
    total = (total / weight - 0.5) * 1.8 + 0.5
    return torch.from_numpy(np.stack([total.clip(0, 1), white(SIZE)]).astype(np.float32)).to(device)


def _read(layer: int, x: Tensor, y: Tensor) -> Tensor:
    x, y = x.to(torch.int64) % SIZE, y.to(torch.int64) % SIZE
    return noise_table(str(x.device))[layer].reshape(-1)[y * SIZE + x]


def noise(u: Tensor, v: Tensor) -> Tensor:
    """Smooth noise in 0..1 with features of about one unit down to 1/16 of it."""
    u, v = u * 32.0, v * 32.0
    x, y = u.floor(), v.floor()
    fx, fy = u - x, v - y
    low = _read(0, x, y) * (1.0 - fx) + _read(0, x + 1, y) * fx
    high = _read(0, x, y + 1) * (1.0 - fx) + _read(0, x + 1, y + 1) * fx
    return low * (1.0 - fy) + high * fy


def cell(x: Tensor, y: Tensor) -> Tensor:
    """One random value in 0..1 per integer cell."""
    return _read(1, x + 37.0 * y, y + 101.0)


def frac(x: Tensor) -> Tensor:
    return x - x.floor()


def tri(x: Tensor) -> Tensor:
    """Triangle wave of period 1: 0 at integers, 1 half way."""
    return 1.0 - (2.0 * frac(x) - 1.0).abs()


def soft(x: Tensor, edge: float | Tensor, width: Tensor) -> Tensor:
    """0 below edge, 1 above, with a ramp `width` wide: a step that does not flicker when it is small in the picture."""
    return ((x - edge) / width + 0.5).clamp(0.0, 1.0)


def _mix(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    return a + (b - a) * t[:, None]


def _wood(u, v, a, b, s, w, q):
    grain = noise(u / s * 0.35, v / s * 4.0)
    rings = tri(noise(u / s * 0.15, v / s * 0.9) * 6.0)
    return _mix(a, b, (0.55 * grain + 0.45 * rings).clamp(0, 1))


def _planks(u, v, a, b, s, w, q):
    row = (v / s).floor()
    long = u / (s * 7.0) + cell(row, row * 0.0) * 5.0
    tone = cell(row, long.floor())
    seam = torch.minimum(tri(v / s + 0.0) * s * 0.5, tri(long) * s * 3.5)
    color = _mix(a, b, (0.55 * tone + 0.6 * noise(u * 0.6 + tone * 9.0, v * 7.0) - 0.1).clamp(0, 1))
    return color * (1.0 - 0.55 * (1.0 - soft(seam, 0.0015, w)))[:, None]


def _parquet(u, v, a, b, s, w, q):
    # Basket weave: squares of four strips, the direction alternates.
    x, y = (u / s).floor(), (v / s).floor()
    odd = tri((x + y) * 0.5) > 0.5
    across = torch.where(odd, u, v)
    along = torch.where(odd, v, u)
    strip = (across / s * 4.0).floor()
    tone = cell(strip + x * 3.0, y * 5.0 + x)
    seam = torch.minimum(tri(across / s * 4.0) * s * 0.125, tri(along / s) * s * 0.5)
    color = _mix(a, b, (0.6 * tone + 0.5 * noise(along * 0.8 + tone * 7.0, across * 8.0) - 0.05).clamp(0, 1))
    return color * (1.0 - 0.5 * (1.0 - soft(seam, 0.0012, w)))[:, None]


def _tiles(u, v, a, b, s, w, q):
    x, y = (u / s).floor(), (v / s).floor()
    seam = torch.minimum(tri(u / s), tri(v / s)) * s * 0.5
    color = a * (0.88 + 0.2 * cell(x, y) + 0.12 * (noise(u * 2.0, v * 2.0) - 0.5))[:, None]
    return _mix(b * torch.ones_like(a), color, soft(seam, 0.004, w))


def _brick(u, v, a, b, s, w, q):
    row = (v / s).floor()
    x = u / (s * 2.6) + 0.5 * row
    seam = torch.minimum(tri(v / s) * s * 0.5, tri(x) * s * 1.3)
    color = a * (0.7 + 0.5 * cell(x.floor(), row) + 0.25 * (noise(u * 4.0, v * 4.0) - 0.5))[:, None]
    return _mix(b, color, soft(seam, 0.008, w))


def _stripes(u, v, a, b, s, w, q):
    return _mix(a, b, soft(tri(u / s), 0.5, 2.0 * w / s))


def _checks(u, v, a, b, s, w, q):
    x, y = soft(tri(u / s), 0.5, 2.0 * w / s), soft(tri(v / s), 0.5, 2.0 * w / s)
    return _mix(a, b, 0.5 * (x + y))


def _diamonds(u, v, a, b, s, w, q):
    x, y = tri(u / s), tri(v / (s * 1.6))
    line = (x + y - 1.0).abs()
    spot = 1.0 - soft((x * x + y * y).sqrt(), 0.28, 2.0 * w / s)
    return _mix(a, b, torch.maximum(1.0 - soft(line, 0.09, 2.0 * w / s), spot) * 0.8)


def _dots(u, v, a, b, s, w, q):
    row = (v / s).floor()
    x, y = frac(u / s + 0.5 * row) - 0.5, frac(v / s) - 0.5
    return _mix(b, a, soft((x * x + y * y).sqrt(), 0.24, w / s))


def _zigzag(u, v, a, b, s, w, q):
    return _mix(a, b, soft(tri(v / s + 0.5 * tri(u / s)), 0.5, 2.0 * w / s))


def _rug(u, v, a, b, s, w, q):
    x, y = q[:, 0].abs(), q[:, 1].abs()
    rim = 1.0 - torch.maximum(x, y)
    field = _diamonds(u, v, a, b, s, w, q)
    medal = x * 1.1 + y
    field = _mix(field, b, (soft(medal, 0.34, w * 2) * (1.0 - soft(medal, 0.42, w * 2))) * 0.9)
    field = _mix(field, 0.5 * a + 0.4 * b, (1.0 - soft(medal, 0.3, w * 2)) * 0.6)
    border = _mix(b, a * 0.55, soft(tri(u / s * 1.5) + tri(v / s * 1.5), 1.0, 3.0 * w / s) * 0.8)
    color = _mix(border, field, soft(rim, 0.16, w * 2))
    color = _mix(color, a * 0.4, soft(rim, 0.13, w * 2) * (1.0 - soft(rim, 0.16, w * 2)))
    return color * (0.85 + 0.3 * noise(u * 14.0, v * 14.0))[:, None]


def _painting(u, v, a, b, s, w, q):
    # A landscape in two colors: sky, sun, three ranges of hills; or, for a small scale, an abstract of blocks.
    x, y = torch.where(q[:, 0].abs() > 0.999, q[:, 1], q[:, 0]), q[:, 2]
    sky = _mix(b * 0.6 + 0.35, a * 0.35 + 0.45, (0.5 * y + 0.5).clamp(0, 1))
    px, py = x - 0.35, y - 0.45
    color = _mix(torch.ones_like(a) * torch.tensor([1.0, 0.85, 0.5], device=a.device), sky,
                 soft((px * px + py * py).sqrt(), 0.2, w * 0 + 0.05))  # fmt: skip
    for k, (height, tone) in enumerate(((0.15, 0.75), (-0.15, 0.5), (-0.5, 0.28))):
        ridge = height + 0.9 * (noise(x * 0.5 + k * 3.1 + s * 40.0, s * 60.0 + k * 1.7 + x * 0.0) - 0.5)
        color = _mix(_mix(a, b, torch.full_like(x, 0.2 + 0.3 * k)) * tone, color, soft(y, ridge, w * 0 + 0.03))
    i, j = (x * 1.7 + noise(y * 0.0 + s * 30, x * 0.0 + s * 9) * 3).floor(), (y * 1.9 + s * 50).floor()
    block, kind = cell(i + (s * 997).floor(), j), cell(j, i + (s * 1999).floor())
    flat = _mix(a, b, block) * (0.5 + 0.9 * kind)[:, None]
    color = torch.where((s < 0.1)[:, None], flat, color)
    return color * (0.85 + 0.3 * noise(u * 6.0, v * 6.0))[:, None]


def _outside(u, v, a, b, s, w, q):
    x, y = u, q[:, 2]
    sky = _mix(torch.ones_like(a), a, (0.35 + 0.5 * y + 0.5 * (noise(x * 0.5, y * 0.7) - 0.5)).clamp(0, 1))
    far = _mix(b * 0.75 + 0.18, sky, soft(y, -0.2 + 0.5 * (noise(x * 0.3, s * 9.0) - 0.5), w * 0 + 0.03))
    leaves = b * (0.35 + 0.9 * noise(x * 2.5, y * 2.5))[:, None]
    return _mix(leaves, far, soft(y, -0.45 + 0.8 * (noise(x * 0.8, s * 5.0) - 0.5), w * 0 + 0.04))


def _fabric(u, v, a, b, s, w, q):
    weave = 0.5 * (tri(u / s) + tri(v / s)) * (s / (s + 4.0 * w))
    return _mix(a, b, (0.35 * weave + 0.75 * noise(u * 5.0, v * 5.0) - 0.2).clamp(0, 1))


def _spine(u, v, a, b, s, w, q):
    z = q[:, 2]
    band = soft(z, 0.45, w * 4) * (1.0 - soft(z, 0.7, w * 4)) + soft(z, -0.75, w * 4) * (1.0 - soft(z, -0.6, w * 4))
    return _mix(a, b, band)


def _leaf(u, v, a, b, s, w, q):
    return _mix(a, b, (noise(u * 6.0, v * 6.0) * 1.2 - 0.1).clamp(0, 1))


def _plain(u, v, a, b, s, w, q):
    return a * (0.94 + 0.12 * noise(u * 1.5, v * 1.5))[:, None]


def _mirror(u, v, a, b, s, w, q):
    return _mix(a, b, (0.5 + 0.25 * q[:, 2] + 0.5 * (noise(u * 0.7 + 0.3 * v, v * 0.4) - 0.5)).clamp(0, 1))


PATTERNS = {name: globals()["_" + name] for name in NAMES}


def paint(
    prims: Primitives,
    index: Tensor,  # [P] int64
    local: Tensor,  # [P, 3] metres
    unit: Tensor,  # [P, 3]
    normal: Tensor,  # [P, 3] local
    footprint: Tensor,  # [P] metres covered by one pixel; patterns fade to their mean below it
) -> Tensor:  # [P, 3] linear RGB
    """The color of each hit point."""
    x, y, z = local.unbind(-1)
    nx, ny, nz = normal.abs().unbind(-1)
    up = (nz >= nx) & (nz >= ny)
    side = ~up & (nx >= ny)
    u, v = torch.where(side, y, x), torch.where(up, y, z)
    # Around a round side u is an angle: the "diamond angle" needs no arctangent.
    reach = (x.abs() + y.abs()).clamp(min=1e-9)
    angle = torch.where(y >= 0, 1.0 - x / reach, 3.0 + x / reach)
    kind = prims.kind[index]
    u = torch.where((kind == CONE) & ~up, angle * 1.57 * prims.half[index, 0], u)
    u = torch.where(kind == BALL, x + 0.7 * y, u)
    start, a, b, s = prims.offset[index], prims.color_a[index], prims.color_b[index], prims.scale[index]
    texture, out = prims.texture[index], a.clone()
    du, dv = u + start[:, 0], v + start[:, 1]
    for number, name in enumerate(NAMES):
        chosen = torch.nonzero(texture == number)[:, 0]
        if len(chosen):
            width = (footprint[chosen] * 1.2).clamp(min=1e-3)
            args = (du[chosen], dv[chosen], a[chosen], b[chosen], s[chosen], width, unit[chosen])
            out[chosen] = PATTERNS[name](*args)
    return out
