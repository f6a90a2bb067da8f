"""Analytic ray casting of boxes, ellipsoids and cones, in plain torch.

Every primitive is a unit shape moved by an anisotropic scale, a yaw about the vertical and a shift. A ray taken into
the unit frame keeps its parameter t, so three short formulas serve every size and pose. Rays come in tiles of
neighbours; a tile is tested against a grown box around each primitive first, and only the survivors are intersected.

Only +, -, *, /, sqrt, floor and comparisons touch a ray, each in its own kernel: IEEE 754 fixes their results, so a
picture is the same to the last bit on every processor and with any number of threads.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property

import torch
from torch import Tensor

BOX, BALL, CONE = 0, 1, 2  # CONE: a cylinder whose top radius is `taper` times its bottom radius
FAR = 1e6
GROUP = 8  # neighbouring tiles that are tested together first
PAIRS = 1000  # (tile, primitive) pairs tested at once: small enough for the cache
TINY = 1e-12  # added to a divisor that may be zero; below the last digit of every other value it takes


@dataclass
class Primitives:
    """N primitives as columns; all float32 unless noted, world units in metres."""

    kind: Tensor  # [N] int64: BOX, BALL or CONE
    center: Tensor  # [N, 3]
    half: Tensor  # [N, 3] half extents along the local axes
    yaw: Tensor  # [N, 2] cosine and sine of the turn about z
    taper: Tensor  # [N] cone only
    casts: Tensor  # [N] bool: throws a shadow
    label: Tensor  # [N] int64
    texture: Tensor  # [N] int64
    color_a: Tensor  # [N, 3] linear RGB
    color_b: Tensor  # [N, 3] linear RGB, the texture's second colour
    scale: Tensor  # [N] size of the texture's repeat, metres
    offset: Tensor  # [N, 2] where the texture starts
    glow: Tensor  # [N] emitted light, as a multiple of the surface colour

    @cached_property
    def inverse(self) -> tuple[Tensor, ...]:
        """The five entries of world-to-unit: a turn by minus the yaw, then a division by the half extents."""
        (cos, sin), (x, y, z) = self.yaw.unbind(-1), (1.0 / self.half).unbind(-1)
        return cos * x, sin * x, -sin * y, cos * y, z

    @cached_property
    def reach(self) -> Tensor:
        """[N, 3] half extents of the upright box around each primitive."""
        (cos, sin), (x, y, z) = self.yaw.abs().unbind(-1), self.half.unbind(-1)
        return torch.stack([cos * x + sin * y, sin * x + cos * y, z], -1)

    def to(self, device) -> Primitives:
        return Primitives(*(getattr(self, f.name).to(device) for f in fields(self)))


def to_unit(point, prims: Primitives, index: Tensor, shift: bool):
    """Components of points (shift) or directions in the unit frames of prims[index]; index broadcasts against them."""
    x, y, z = point
    if shift:
        cx, cy, cz = (c[index] for c in prims.center.unbind(-1))
        x, y, z = x - cx, y - cy, z - cz
    xx, xy, yx, yy, zz = (c[index] for c in prims.inverse)
    return x * xx + y * xy, x * yx + y * yy, z * zz


def hit_box(o, d) -> tuple[Tensor, Tensor]:
    """Entry and exit parameter of the cube [-1, 1]^3 by the slab method; entry > exit means a miss."""
    near, far = None, None
    for axis in range(3):
        inverse = (d[axis] + TINY).reciprocal()
        middle, width = o[axis] * inverse, inverse.abs()  # minus the middle of the slab
        enter, leave = middle + width, width - middle
        near = enter if near is None else torch.minimum(near, enter)  # minus the latest entry
        far = leave if far is None else torch.minimum(far, leave)
    return -near, far


def hit_ball(o, d) -> tuple[Tensor, Tensor]:
    """Entry and exit parameter of the unit sphere."""
    a = d[0] * d[0] + d[1] * d[1] + d[2] * d[2]
    b = o[0] * d[0] + o[1] * d[1] + o[2] * d[2]
    # The distance of the line from the centre, taken at its nearest point, loses no digits when the eye is far away.
    t = -b / a
    x, y, z = o[0] + t * d[0], o[1] + t * d[1], o[2] + t * d[2]
    room = 1.0 - (x * x + y * y + z * z)
    width = (room.clamp(min=0.0) / a).sqrt()
    miss = room < 0
    return torch.where(miss, FAR, t - width), torch.where(miss, -FAR, t + width)


def hit_cone(o, d, taper: Tensor) -> tuple[Tensor, Tensor]:
    """Entry and exit parameter of |z| <= 1, x^2 + y^2 <= r(z)^2, with r(-1) = 1 and r(1) = taper in [0, 1]."""
    mid, slope = 0.5 * (taper + 1.0), 0.5 * (taper - 1.0)
    r, dr = mid + slope * o[2], slope * d[2]
    a = d[0] * d[0] + d[1] * d[1] - dr * dr + TINY
    b = o[0] * d[0] + o[1] * d[1] - r * dr
    c = o[0] * o[0] + o[1] * o[1] - r * r
    disc = b * b - a * c
    root = disc.clamp(min=0.0).sqrt()
    first, second = (-b - root) / a, (-b + root) / a
    low, high = torch.minimum(first, second), torch.maximum(first, second)
    inverse = (d[2] + TINY).reciprocal()
    middle, width = -o[2] * inverse, inverse.abs()
    slab_in, slab_out = middle - width, middle + width
    # a < 0: the ray is steeper than the side, so inside is before the first root or after the second. Between the
    # end planes the mirrored half of the double cone is out of reach, so one of the two intervals is the right one.
    steep = a < 0
    start = torch.where(steep & (d[2] * slope > 0), high, torch.where(steep, -FAR, low))
    stop = torch.where(steep & (d[2] * slope > 0), FAR, torch.where(steep, low, high))
    # slope * dz > 0 means the radius grows along the ray: it enters late; otherwise it leaves early.
    near, far = torch.maximum(start, slab_in), torch.minimum(stop, slab_out)
    miss = (disc < 0) & ~steep
    return torch.where(miss, FAR, near), torch.where(miss, -FAR, far)


def interval(kind: int, o, d, taper: Tensor) -> tuple[Tensor, Tensor]:
    if kind == BOX:
        return hit_box(o, d)
    return hit_ball(o, d) if kind == BALL else hit_cone(o, d, taper)


def _around(points: Tensor) -> tuple[Tensor, Tensor]:
    """Centre and half extents [T, 3] of the upright box around the points [T, R, 3] of each tile."""
    low, high = points.amin(1), points.amax(1)
    return (low + high) * 0.5, (high - low) * 0.5 + 1e-3


def _meets(center: Tensor, half: Tensor, start: tuple[Tensor, Tensor], end: tuple[Tensor, Tensor]) -> Tensor:
    """Can a tile of rays from box `start` to box `end` (centre, half extents) meet the upright box at `center`? -> bool

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


def surface(prims: Primitives, index: Tensor, point: Tensor):
    """Outward world normal [..., 3], local metric coordinates [..., 3] and unit coordinates [..., 3] at hit points."""
    q = torch.stack(to_unit(point.unbind(-1), prims, index, True), -1)
    half, kind, taper = prims.half[index], prims.kind[index], prims.taper[index]
    size = q.abs()
    x_face = (size[..., 0] >= size[..., 1]) & (size[..., 0] >= size[..., 2])
    y_face = ~x_face & (size[..., 1] >= size[..., 2])
    faces = torch.stack([x_face, y_face, ~x_face & ~y_face], -1)
    box = torch.where(faces, torch.where(q > 0, 1.0, -1.0), 0.0)
    ball = q / half
    slope = 0.5 * (taper - 1.0)
    radius = 0.5 * (taper + 1.0) + slope * q[..., 2]
    side = torch.stack([q[..., 0] / half[..., 0], q[..., 1] / half[..., 1], -slope * radius / half[..., 2]], -1)
    # On a cap |z| is 1 and the point lies inside the rim; compare how far it is from either surface.
    rim = radius - (q[..., 0] * q[..., 0] + q[..., 1] * q[..., 1]).sqrt()
    cap = (1.0 - size[..., 2]) * half[..., 2] < rim * half[..., 0]
    top = torch.stack([torch.zeros_like(radius), torch.zeros_like(radius), torch.where(q[..., 2] > 0, 1.0, -1.0)], -1)
    cone = torch.where(cap[..., None], top, side)
    n = torch.where((kind == BOX)[..., None], box, torch.where((kind == BALL)[..., None], ball, cone))
    x, y, z = n.unbind(-1)
    cos, sin = prims.yaw[index].unbind(-1)
    length = (x * x + y * y + z * z).sqrt().clamp(min=1e-12)
    x, y, z = x / length, y / length, z / length
    return torch.stack([x * cos - y * sin, y * cos + x * sin, z], -1), q * half, q, torch.stack([x, y, z], -1)
