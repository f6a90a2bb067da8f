"""From rays to a photo: what they meet, its pattern, the light on it, soft shadows, smooth edges, a film-like tone curve."""

from __future__ import annotations

import torch
from torch import Tensor

from .light import Lights, Shadows, light_at, spread
from .patterns import paint
from .raycast import nearest
from .shapes import FAR, Primitives, dot, surface

TILE = 8  # rays are traced in tiles of 8 x 8 pixels


def to_tiles(maps: Tensor) -> Tensor:  # [V, H, W, ...] -> [T, R, ...]
    v, h, w, *rest = maps.shape
    maps = maps.reshape(v, h // TILE, TILE, w // TILE, TILE, *rest).transpose(2, 3)
    return maps.reshape(-1, TILE * TILE, *rest)


def from_tiles(tiles: Tensor, v: int, h: int, w: int) -> Tensor:  # [T, R, ...] -> [V, H, W, ...]
    rest = tiles.shape[2:]
    return tiles.reshape(v, h // TILE, w // TILE, TILE, TILE, *rest).transpose(2, 3).reshape(v, h, w, *rest)


def tone(light: Tensor) -> Tensor:
    """Linear light to a photo value: a filmic shoulder (a ratio of quadratics), then a gamma of 2."""
    x = light.clamp(min=0.0)
    x = (x * (2.2 * x + 0.05)) / (x * (2.1 * x + 0.75) + 0.16)
    return x.clamp(0.0, 1.0).sqrt()


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
