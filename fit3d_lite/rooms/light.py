"""From hit points to a photo: daylight through windows, sun, lamps, contact shadows, a film-like tone curve.

As in raycast.py only operations whose result IEEE 754 fixes are used, so photos are the same bits everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .patterns import paint
from .raycast import FAR, Primitives, blocked, nearest, surface

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


def spread(seen: Tensor, traced: Tensor, index: Tensor, normal: Tensor) -> Tensor:
    """Mean of seen [V, H, W, L] over the traced pixels among the 4 x 4 neighbours on the same face.

    The weights (1/2, 1, 1, 1, 1/2) give every residue modulo 4 the same total, so on a flat face each pixel gets every
    sample of the repeating 4 x 4 pattern equally: the pattern cancels instead of leaving noise.
    """
    total, weight = seen * traced, traced
    for axis in (1, 2):
        sums, weights = total.clone(), weight.clone()
        for step, gain in ((1, 1.0), (2, 0.5)):
            low, high = (slice(None),) * axis + (slice(0, -step),), (slice(None),) * axis + (slice(step, None),)
            same = (index[low] == index[high]) & (dot(normal[low], normal[high]) > 0.9)
            same = same.to(seen.dtype)[..., None] * gain
            sums[low] += total[high] * same
            sums[high] += total[low] * same
            weights[low] += weight[high] * same
            weights[high] += weight[low] * same
        total, weight = sums, weights
    return total / weight.clamp(min=1e-3)


class Shadows:
    """Traces shadow rays and remembers the answers, one channel for each light."""

    def __init__(self, prims: Primitives, origin: Tensor, half: tuple[Tensor, Tensor]) -> None:
        self.prims, self.origin, self.half = prims, origin, half
        self.seen: list[Tensor] = []
        self.traced: list[Tensor] = []

    def soft(self, target: Tensor, needed: Tensor) -> None:
        """Every other pixel, in a chequerboard that changes its colour from light to light."""
        chosen = self.half[len(self.seen) % 2]
        seen, traced = torch.ones_like(target[..., 0]), torch.zeros_like(target[..., 0])
        hit = blocked(self.prims, self.origin[:, chosen], target[:, chosen], needed[:, chosen])
        seen[:, chosen] = 1.0 - hit.to(seen.dtype)
        traced[:, chosen] = 1.0
        self.seen.append(seen)
        self.traced.append(traced)


def light_at(prims: Primitives, lights: Lights, point: Tensor, normal: Tensor, jitter: Tensor, shadows: Shadows | None):
    """Linear RGB light arriving at points [T, R, 3]: what needs no shadow ray, and a list of lights that do.

    jitter [T, R, 2] in 0..1 chooses the sample of each area light; `spread` averages over neighbours afterwards. The
    list has one [T, R, 3] for each channel of `shadows`.
    """

    def color(*rgb: float) -> Tensor:
        return torch.tensor(rgb, device=point.device)

    up = 0.5 + 0.5 * normal[..., 2:]
    bounce = color(*lights.bounce) * (1.0 - up) + color(0.95, 0.96, 1.0) * up
    open_light = bounce * 0.30 * corner_shade(point, normal, lights.size)[..., None]
    shaded = []
    for window in lights.windows:
        nx, ny = window.normal
        x, y, z = window.center
        a = (jitter[..., 0] - 0.5) * window.width
        b = (jitter[..., 1] - 0.5) * window.height
        target = torch.stack([x + nx * 0.06 - ny * a, y + ny * 0.06 + nx * a, z + b], -1)
        # How much arrives is taken from the middle of the pane: only who is in the way depends on the sample.
        power = pane(point, normal, window) * (window.width * window.height)
        shaded.append(power[..., None] * color(0.86, 0.95, 1.1) * lights.sky_power)
        if shadows:
            shadows.soft(target, power > 0.004)
        # The sun is seen where the line towards it leaves the room through the window.
        toward = -lights.sun[0] * nx - lights.sun[1] * ny
        if lights.sun_power <= 0 or toward < 0.05:
            continue
        sun = color(*lights.sun)
        gap = ((point[..., 0] - x) * nx + (point[..., 1] - y) * ny) * (1.0 / toward)
        out = point + sun * gap[..., None]
        a = (out[..., 0] - x) * -ny + (out[..., 1] - y) * nx
        lit = dot(normal, sun).clamp(min=0.0)
        lit = lit * ((a.abs() < window.width / 2) & ((out[..., 2] - z).abs() < window.height / 2)).to(lit.dtype)
        if shadows:  # a sharp shadow: every pixel asks
            lit = lit * (1.0 - blocked(prims, shadows.origin, out, lit > 0).to(lit.dtype))
        open_light = open_light + lit[..., None] * color(1.0, 0.86, 0.62) * lights.sun_power
    for x, y, z, power in lights.lamps:
        to = color(x, y, z) - point
        d2 = dot(to, to).clamp(min=0.02)
        cos = (dot(to, normal) / d2.sqrt()).clamp(min=0.0)
        # Ends at a finite distance, so that most of the room need not ask about a small lamp.
        amount = (cos * power / (d2 + 0.25) - 0.02).clamp(min=0.0)
        shaded.append(amount[..., None] * color(1.0, 0.78, 0.5))
        if shadows:
            shift = torch.stack([jitter[..., 0] - 0.5, jitter[..., 1] - 0.5, jitter[..., 0] * 0.0], -1) * 0.2
            shadows.soft(color(x, y, z) + shift, amount > 0)
    return open_light, shaded


def pane(point: Tensor, normal: Tensor, window: Window) -> Tensor:
    """Form factor of a window, per area: both cosines over the squared distance, softened near the pane."""
    to = torch.tensor(window.center, device=point.device) - point
    d2 = dot(to, to).clamp(min=0.05)
    r = d2.sqrt()
    here = (dot(to, normal) / r * 0.85 + 0.15).clamp(min=0.0)  # a wide pane is never wholly behind a grazing surface
    there = (-(to[..., 0] * window.normal[0] + to[..., 1] * window.normal[1]) / r).clamp(min=0.0)
    return here * there / (d2 + 0.4)


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
    jitter = torch.stack([(j + 2 * i) % 4, (i + 2 * j) % 4], -1) * 0.25 + 0.125
    jitter = to_tiles(jitter.to(torch.float32).expand(v, -1, -1, -1))
    parity = torch.arange(TILE, device=eye.device)
    parity = ((parity[:, None] + parity[None]) % 2).reshape(-1)
    half = torch.nonzero(parity == 0)[:, 0], torch.nonzero(parity == 1)[:, 0]
    asked = Shadows(prims, point + normal * 2e-3, half) if shadows else None
    light, shaded = light_at(prims, lights, point, normal, jitter, asked)
    if asked and shaded:
        seen, traced = (from_tiles(torch.stack(x, -1), *shape) for x in (asked.seen, asked.traced))
        seen = to_tiles(spread(seen, traced, from_tiles(index, *shape), from_tiles(normal, *shape)))
    for k, part in enumerate(shaded):
        light = light + (part * seen[..., k : k + 1] if asked else part)
    color, light, glow = (from_tiles(x, *shape) for x in (color, light, prims.glow[index][..., None]))
    photo = tone(color * (light + glow) * lights.exposure)
    index, normal = from_tiles(index, *shape), from_tiles(normal, *shape)
    for k in range(v):
        smooth_edges(
            prims, lights.exposure, eyes[k], directions[k][rows][:, columns], index[k], normal[k], light[k], photo[k]
        )
    depth, label = from_tiles(depth, *shape), prims.label[index]
    return photo[:, :height, :width], depth[:, :height, :width], label[:, :height, :width]


def smooth_edges(prims: Primitives, exposure: float, eye: Tensor, directions: Tensor, index: Tensor, normal: Tensor,
                 light: Tensor, photo: Tensor) -> None:  # fmt: skip
    """Two more rays in every pixel of one view beside which another thing begins; changes photo [H, W, 3] in place.

    A new hit borrows its light from the nearest of the nine pixels around that shows the same face, so that it costs
    no shadow rays.
    """
    height, width = index.shape
    edge = torch.zeros_like(index, dtype=torch.bool)
    for axis, size in ((0, height), (1, width)):
        step = index.narrow(axis, 1, size - 1) != index.narrow(axis, 0, size - 1)
        edge.narrow(axis, 1, size - 1).logical_or_(step)
        edge.narrow(axis, 0, size - 1).logical_or_(step)
    number = torch.arange(height * width, device=eye.device).reshape(1, height, width)
    pixel = to_tiles(number)[to_tiles(edge[None])]  # tile by tile, so that packs of neighbours stay small
    if not len(pixel):
        return
    pixel = torch.cat([pixel, pixel[-1:].expand(-len(pixel) % 32)])
    row, column = pixel // width, pixel % width
    right, down = directions[0, 1] - directions[0, 0], directions[1, 0] - directions[0, 0]
    middle, total = directions[row, column], photo[row, column]
    rays = torch.stack([middle + (right * a + down * b) for a, b in ((0.3, 0.2), (-0.3, -0.2))], 1)  # [P, 2, 3]
    pack = rays.reshape(-1, 64, 3)
    t, hit = nearest(prims, eye.expand(len(pack), 3), pack)
    point = eye + pack * t[..., None]
    n, local, unit, local_normal = (x.reshape(-1, 3) for x in surface(prims, hit, point))
    hit, footprint = hit.reshape(-1), (t * dot(pack, pack).sqrt()).reshape(-1) * (1.4 / width)
    color = paint(prims, hit, local, unit, local_normal, footprint)
    row, column = (x[:, None].expand(-1, 2).reshape(-1) for x in (row, column))
    borrowed, found = light[row, column], torch.zeros_like(hit, dtype=torch.bool)
    for i, j in ((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (-1, -1), (1, -1), (-1, 1)):
        r, c = (row + i).clamp(0, height - 1), (column + j).clamp(0, width - 1)
        same = ~found & (index[r, c] == hit) & (dot(normal[r, c], n) > 0.9)
        borrowed = torch.where(same[:, None], light[r, c], borrowed)
        found |= same
    more = tone(color * (borrowed + prims.glow[hit][:, None]) * exposure).reshape(-1, 2, 3)
    photo[pixel // width, pixel % width] = (total + (more[:, 0] + more[:, 1])) * (1.0 / 3.0)
