"""From hit points to a photo: daylight through windows, sun, lamps, contact shadows, a film-like tone curve.

As in raycast.py only operations whose result IEEE 754 fixes are used, so photos are the same bits everywhere.
"""
from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .raycast import FAR, Primitives, blocked, nearest, surface
from .textures import noise_table, paint

TILE = 8  # rays are traced in tiles of 8 x 8 pixels


@dataclass
class Window:
    center: tuple[float, float, float]  # on the wall
    normal: tuple[float, float]  # into the room
    width: float
    height: float


@dataclass
class Lights:
    size: tuple[float, float, float]  # room: length, width, height
    windows: list[Window]
    sun: tuple[float, float, float]  # direction towards the sun
    sun_power: float
    sky_power: float
    lamps: list[tuple[float, float, float, float]]  # x, y, z, power
    bounce: tuple[float, float, float]  # colour of light reflected by the floor
    exposure: float = 1.0


def to_tiles(maps: Tensor) -> Tensor:  # [V, H, W, ...] -> [T, R, ...]
    v, h, w, *rest = maps.shape
    maps = maps.reshape(v, h // TILE, TILE, w // TILE, TILE, *rest).transpose(2, 3)
    return maps.reshape(-1, TILE * TILE, *rest)


def from_tiles(tiles: Tensor, v: int, h: int, w: int) -> Tensor:  # [T, R, ...] -> [V, H, W, ...]
    rest = tiles.shape[2:]
    return tiles.reshape(v, h // TILE, w // TILE, TILE, TILE, *rest).transpose(2, 3).reshape(v, h, w, *rest)


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Inner product over the last axis of 3, in a fixed order of additions."""
    return a[..., 0] * b[..., 0] + a[..., 1] * b[..., 1] + a[..., 2] * b[..., 2]


def tone(light: Tensor) -> Tensor:
    """Linear light to a photo value: a filmic shoulder (a ratio of quadratics), then a gamma of 2."""
    x = light.clamp(min=0.0)
    x = (x * (2.2 * x + 0.05)) / (x * (2.1 * x + 0.75) + 0.16)
    return x.clamp(0.0, 1.0).sqrt()


def corner_shade(point: Tensor, normal: Tensor, size) -> Tensor:
    """Walls near a point take away sky and bounce: a falloff with the distance to each of the six planes."""
    out = torch.ones_like(point[..., 0])
    for axis in range(3):
        for sign, gap in ((-1.0, point[..., axis]), (1.0, size[axis] - point[..., axis])):
            # A plane one stands on does not shade itself: its direction is behind the surface.
            facing = (1.0 + sign * normal[..., axis]) * 0.5
            near = 1.0 - (gap * 2.2).clamp(0.0, 1.0)
            out = out * (1.0 - 0.34 * near * near * facing * (1.0 - (-sign * normal[..., axis]).clamp(min=0.0)))
    return out


def spread(soft: Tensor, index: Tensor, normal: Tensor) -> Tensor:
    """Average the light [V, H, W, 3] over 4 x 4 pixels of the same face, so that each pixel sees all 16 light samples.

    The weights (1/2, 1, 1, 1, 1/2) give every residue modulo 4 the same total: on a flat face the pattern of the
    samples cancels exactly instead of leaving noise.
    """
    for axis in (1, 2):
        size = soft.shape[axis]
        total, weight = soft.clone(), torch.ones_like(soft[..., :1])
        for step, gain in ((1, 1.0), (2, 0.5)):
            if step >= size:
                continue
            low = [slice(None)] * 3
            low[axis] = slice(0, size - step)
            high = [slice(None)] * 3
            high[axis] = slice(step, size)
            low, high = tuple(low), tuple(high)
            same = (index[low] == index[high]) & (dot(normal[low], normal[high]) > 0.9)
            same = same.to(soft.dtype)[..., None] * gain
            total[low] += soft[high] * same
            weight[low] += same
            total[high] += soft[low] * same
            weight[high] += same
        soft = total / weight
    return soft


def light_at(prims: Primitives, lights: Lights, point: Tensor, normal: Tensor, jitter: Tensor, shadows: bool) -> tuple[Tensor, Tensor]:
    """Linear RGB light arriving at points [T, R, 3]: the soft part and the sun's.

    jitter [T, R, 2] in 0..1 chooses the sample of each area light; `spread` averages over neighbours afterwards.
    """
    device = point.device
    lifted = point + normal * 2e-3

    def visible(target: Tensor, needed: Tensor) -> Tensor:
        if not shadows:
            return torch.ones_like(needed, dtype=torch.float32)
        return 1.0 - blocked(prims, lifted, target, needed).to(torch.float32)

    up = 0.5 + 0.5 * normal[..., 2:]
    bounce, ceiling = torch.tensor(lights.bounce, device=device), torch.tensor([0.95, 0.96, 1.0], device=device)
    total = (bounce * (1.0 - up) + ceiling * up) * 0.30 * corner_shade(point, normal, lights.size)[..., None]
    sky = torch.tensor([0.86, 0.95, 1.1], device=device) * lights.sky_power
    direct = torch.zeros_like(total)
    s = torch.tensor(lights.sun, device=device)
    for window in lights.windows:
        nx, ny = window.normal
        x, y, z = window.center
        a = (jitter[..., 0] - 0.5) * window.width
        b = (jitter[..., 1] - 0.5) * window.height
        target = torch.stack([x + nx * 0.06 - ny * a, y + ny * 0.06 + nx * a, z + b], -1)
        to = target - point
        d2 = dot(to, to).clamp(min=0.05)
        r = d2.sqrt()
        cos_here = (dot(to, normal) / r).clamp(min=0.0)
        cos_there = (-(to[..., 0] * nx + to[..., 1] * ny) / r).clamp(min=0.0)
        power = cos_here * cos_there / (d2 + 0.4) * (window.width * window.height)
        total = total + (power * visible(target, power > 0.004))[..., None] * sky
        # The sun is seen where the line towards it leaves the room through the window.
        toward = -lights.sun[0] * nx - lights.sun[1] * ny
        if lights.sun_power <= 0 or toward < 0.05:
            continue
        gap = ((point[..., 0] - x) * nx + (point[..., 1] - y) * ny) * (1.0 / toward)
        out = point + s * gap[..., None]
        a = (out[..., 0] - x) * -ny + (out[..., 1] - y) * nx
        facing = dot(normal, s).clamp(min=0.0)
        lit = facing * ((a.abs() < window.width / 2) & ((out[..., 2] - z).abs() < window.height / 2)).to(torch.float32)
        lit = lit * visible(out, lit > 0)
        direct = direct + lit[..., None] * torch.tensor([1.0, 0.86, 0.62], device=device) * lights.sun_power
    for x, y, z, power in lights.lamps:
        shift = torch.stack([jitter[..., 0] - 0.5, jitter[..., 1] - 0.5, jitter[..., 0] * 0.0], -1) * 0.2
        target = torch.tensor([x, y, z], device=device) + shift
        to = target - point
        d2 = dot(to, to).clamp(min=0.02)
        cos = (dot(to, normal) / d2.sqrt()).clamp(min=0.0)
        # Ends at a finite distance, so that most of the room need not ask about a small lamp.
        amount = (cos * power / (d2 + 0.25) - 0.02).clamp(min=0.0)
        total = total + (amount * visible(target, amount > 0))[..., None] * torch.tensor([1.0, 0.78, 0.5], device=device)
    return total, direct


def shoot(
    prims: Primitives,
    lights: Lights,
    eyes: Tensor,  # [V, 3]
    directions: Tensor,  # [V, H, W, 3], z-depth 1
    shadows: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Photos [V, H, W, 3] in 0..1, z-depths [V, H, W] and labels [V, H, W]."""
    v, height, width, _ = directions.shape
    # Sides that are no multiple of the tile repeat their last row or column.
    rows = [min(i, height - 1) for i in range(-(-height // TILE) * TILE)]
    columns = [min(i, width - 1) for i in range(-(-width // TILE) * TILE)]
    shape = v, len(rows), len(columns)
    rays = to_tiles(directions[:, rows][:, :, columns])
    eye = eyes.repeat_interleave(len(rows) * len(columns) // TILE**2, 0)
    depth, index = nearest(prims, eye, rays)
    depth = torch.where(depth >= FAR, torch.zeros_like(depth), depth)
    point = eye[:, None] + rays * depth[..., None]
    normal, local, unit, local_normal = surface(prims, index, point)
    footprint = depth * dot(rays, rays).sqrt() * (1.4 / width)
    color = paint(prims, index.reshape(-1), local.reshape(-1, 3), unit.reshape(-1, 3), local_normal.reshape(-1, 3),
                  footprint.reshape(-1)).reshape(point.shape)  # fmt: skip
    # Every 4 x 4 pixels carry all 16 samples of an area light, scattered.
    i, j = torch.arange(len(rows), device=eye.device)[:, None], torch.arange(len(columns), device=eye.device)[None]
    jitter = torch.stack([(j + 2 * i) % 4 + (i * 0), (i + 2 * j + j // 2 * 0) % 4], -1) * 0.25 + 0.125
    jitter = to_tiles(jitter.to(torch.float32).expand(v, -1, -1, -1))
    soft, direct = light_at(prims, lights, point, normal, jitter, shadows)
    soft = spread(from_tiles(soft, *shape), from_tiles(index, *shape), from_tiles(normal, *shape))
    color, direct, glow = (from_tiles(x, *shape) for x in (color, direct, prims.glow[index][..., None]))
    photo = tone(color * (soft + direct + glow) * lights.exposure)
    depth, label = from_tiles(depth, *shape), from_tiles(prims.label[index], *shape)
    return photo[:, :height, :width], depth[:, :height, :width], label[:, :height, :width]
