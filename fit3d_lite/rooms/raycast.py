"""Which primitive does a ray meet first, and is anything in its way? In plain torch, for many rays at once.

Rays come in tiles of neighbours. A tile is tested against a grown box around each primitive first, groups of tiles before
single ones; only the survivors are intersected, by the formulas of shapes.py.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .shapes import BALL, BOX, CONE, FAR, TINY, Primitives, interval, to_unit

GROUP = 8  # neighbouring tiles that are tested together first
PAIRS = 1000  # (tile, primitive) pairs tested at once: small enough for the cache


def _around(points: Tensor) -> tuple[Tensor, Tensor]:
    """Center and half extents [T, 3] of the upright box around the points [T, R, 3] of each tile."""
    low, high = points.amin(1), points.amax(1)
    return (low + high) * 0.5, (high - low) * 0.5 + 1e-3


def _meets(center: Tensor, half: Tensor, start: tuple[Tensor, Tensor], end: tuple[Tensor, Tensor]) -> Tensor:
    """Can a tile of rays from box `start` to box `end` (center, half extents) meet the upright box at `center`? -> bool

    At parameter s every ray of the tile lies within half extents e(s) = e0 + s (e1 - e0) of c(s) = c0 + s (c1 - c0), so
    |c(s) - p| <= half + e(s) must hold along x, y and z for one s in 0..1: six linear inequalities a s <= b. A box can
    only be kept needlessly, never missed, so rounding here does not reach the picture.
    """
    (c0, e0), (c1, e1) = start, end
    near, far = 0.0, None
    for k in range(3):
        gap, size = center[..., k] - c0[..., k], half[..., k] + e0[..., k]
        move, grow = c1[..., k] - c0[..., k], e1[..., k] - e0[..., k]
        if far is None:
            near, far = torch.zeros_like(gap), torch.ones_like(gap)
        for a, b in ((move - grow, size + gap), (-move - grow, size - gap)):
            a = a + TINY
            bound = b * a.reciprocal()
            far = torch.where(a > 0, torch.minimum(far, bound), far)
            near = torch.where(a > 0, near, torch.maximum(near, bound))
    return near <= far


def _pairs(
    prims: Primitives, ids: Tensor, start: tuple[Tensor, Tensor], end: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """Tiles and primitives of `ids` that may meet, sorted by tile: two [P] int64. Groups of tiles are asked first."""
    tiles = torch.arange(-(-len(start[0]) // GROUP) * GROUP, device=ids.device).reshape(-1, GROUP)
    member = tiles.clamp(max=len(start[0]) - 1)

    def union(box):
        center, half = box
        low, high = (center - half)[member].amin(1), (center + half)[member].amax(1)
        return ((low + high) * 0.5)[:, None], ((high - low) * 0.5)[:, None]

    center, half = prims.center[ids], prims.reach[ids] + 1e-3
    group, which = _meets(center[None], half[None], union(start), union(end)).nonzero(as_tuple=True)
    member, tiles = member[group], tiles[group]  # [Q, GROUP]
    one = [tuple(part[member] for part in box) for box in (start, end)]
    keep = _meets(center[which][:, None], half[which][:, None], *one) & (tiles < len(start[0]))
    row, column = keep.nonzero(as_tuple=True)
    tile, order = torch.sort(tiles[row, column], stable=True)
    return tile, ids[which[row]][order]


def _reach(prims: Primitives, kind: int, eye: Tensor, direction: Tensor, tile: Tensor, prim: Tensor) -> Tensor:
    """Where the rays of each (tile [P], primitive [P, 1]) pair enter it, FAR if they do not: [P, R]."""
    o = to_unit([c[:, None] for c in eye[tile].unbind(-1)], prims, prim, True)
    d = to_unit([c[tile] for c in direction.unbind(-1)], prims, prim, False)
    near, far = interval(kind, o, d, prims.taper[prim])
    return torch.where((near <= far) & (near > 1e-4), near, FAR)


def nearest(prims: Primitives, eye: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """First primitive along rays that share an origin inside each tile.

    eye: [T, 3], direction: [T, R, 3] (not necessarily unit length). Returns t [T, R], in units of |direction|, and the
    primitive's index [T, R]; t = FAR and index 0 where nothing is hit.
    """
    t_best = torch.full(direction.shape[:2], FAR, device=eye.device)
    best = torch.zeros(direction.shape[:2], dtype=torch.int64, device=eye.device)
    start, end = (eye, torch.zeros_like(eye)), _around(eye[:, None] + direction * 30.0)  # metres: beyond any room
    for kind in (BOX, BALL, CONE):
        ids = torch.nonzero(prims.kind == kind)[:, 0]
        tile, prim = _pairs(prims, ids, start, end)
        if not len(tile):
            continue
        counts = torch.bincount(tile, minlength=len(eye))
        tiles = torch.sort(counts, descending=True, stable=True).indices
        place = torch.empty_like(tiles)
        place[tiles] = torch.arange(len(tiles), device=tiles.device)
        rank = torch.arange(len(tile), device=tile.device) - (counts.cumsum(0) - counts)[tile]
        # All first candidates, then all second ones, ... each time in the order of `tiles`: those still busy are its
        # first ones, so that the winner is found in slices.
        order = torch.sort(rank * len(tiles) + place[tile]).indices
        tile, prim = tile[order], prim[order][:, None]
        reached = torch.cat(
            [_reach(prims, kind, eye, direction, *part) for part in zip(tile.split(PAIRS), prim.split(PAIRS))]
        )
        t, winner = t_best[tiles], best[tiles]
        done = 0
        for m in (counts[:, None] > torch.arange(int(counts.max()), device=tile.device)).sum(0).tolist():
            new = reached[done : done + m]
            closer = new < t[:m]
            t[:m] = torch.where(closer, new, t[:m])
            winner[:m] = torch.where(closer, prim[done : done + m], winner[:m])
            done += m
        t_best[tiles], best[tiles] = t, winner
    return t_best, best


def blocked(prims: Primitives, point: Tensor, target: Tensor, needed: Tensor) -> Tensor:
    """Is the open segment from point [T, R, 3] to target [T, R, 3] blocked by something that casts? -> bool [T, R].

    needed: [T, R] bool; tiles without any needed ray are skipped and answered False.
    """
    out = torch.zeros(point.shape[:2], dtype=torch.bool, device=point.device)
    rows = torch.nonzero(needed.any(1))[:, 0]
    if not len(rows):
        return out
    point, target, needed = point[rows], target[rows], needed[rows]

    # Rays nobody needs shrink to the first needed one of their tile, so that they do not widen it.
    first = needed.to(torch.uint8).argmax(1)
    one = torch.arange(len(rows), device=rows.device)
    start = _around(torch.where(needed[..., None], point, point[one, first][:, None]))
    end = _around(torch.where(needed[..., None], target, target[one, first][:, None]))
    result = torch.zeros(needed.shape, dtype=torch.bool, device=point.device)
    point, span = point.unbind(-1), (target - point).unbind(-1)
    for kind in (BOX, BALL, CONE):
        ids = torch.nonzero((prims.kind == kind) & prims.casts)[:, 0]
        row, index = _pairs(prims, ids, start, end)
        for tile, prim in zip(row.split(PAIRS), index[:, None].split(PAIRS)):
            o = to_unit([c[tile] for c in point], prims, prim, True)
            d = to_unit([c[tile] for c in span], prims, prim, False)
            near, far = interval(kind, o, d, prims.taper[prim])
            hit = (near <= far) & (far > 1e-4) & (near < 0.999)
            # The pairs of a tile follow each other: it is hit where the running count of hits grows between its ends.
            count = hit.cumsum(0, dtype=torch.int16)
            tiles, length = tile.unique_consecutive(return_counts=True)
            last = count[length.cumsum(0) - 1]
            result[tiles] |= torch.cat([last[:1] > 0, last[1:] > last[:-1]])
    out[rows] = result & needed
    return out
