"""Analytic ray casting of boxes, ellipsoids and cones, in plain torch.

Every primitive is a unit shape moved by an anisotropic scale, a yaw about the vertical and a shift. A ray taken into
the unit frame keeps its parameter t, so three short formulas serve every size and pose. Rays come in tiles of
neighbours; a tile is tested against a grown box around each primitive first, and only the survivors are intersected.

Only +, -, *, /, sqrt, floor and comparisons touch a ray, each in its own kernel: IEEE 754 fixes their results, so a
picture is the same to the last bit on every processor and with any number of threads.
"""
from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

BOX, BALL, CONE = 0, 1, 2  # CONE: a cylinder whose top radius is `taper` times its bottom radius
FAR = 1e6


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
    gloss: Tensor  # [N] strength of the highlight

    def to(self, device) -> Primitives:
        return Primitives(*(getattr(self, f.name).to(device) for f in fields(self)))


def turn(x: Tensor, y: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """World to local: rotate by minus the yaw."""
    return x * cos + y * sin, y * cos - x * sin


def to_unit(point, prims: Primitives, index: Tensor, shift: bool):
    """Components of points (shift) or directions in the unit frames of prims[index]; index broadcasts against them."""
    x, y, z = point
    cos, sin = prims.yaw[index, 0], prims.yaw[index, 1]
    hx, hy, hz = prims.half[index].unbind(-1)
    if shift:
        cx, cy, cz = prims.center[index].unbind(-1)
        x, y, z = x - cx, y - cy, z - cz
    x, y = turn(x, y, cos, sin)
    return x / hx, y / hy, z / hz


def _nonzero(x: Tensor) -> Tensor:
    return torch.where(x.abs() < 1e-9, torch.full_like(x, 1e-9), x)


def hit_box(o, d) -> tuple[Tensor, Tensor]:
    """Entry and exit parameter of the cube [-1, 1]^3 by the slab method; entry > exit means a miss."""
    near, far = None, None
    for axis in range(3):
        inverse = 1.0 / _nonzero(d[axis])
        middle, width = -o[axis] * inverse, inverse.abs()
        near = middle - width if near is None else torch.maximum(near, middle - width)
        far = middle + width if far is None else torch.minimum(far, middle + width)
    return near, far


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
    a = _nonzero(d[0] * d[0] + d[1] * d[1] - dr * dr)
    b = o[0] * d[0] + o[1] * d[1] - r * dr
    c = o[0] * o[0] + o[1] * o[1] - r * r
    disc = b * b - a * c
    root = disc.clamp(min=0.0).sqrt()
    first, second = (-b - root) / a, (-b + root) / a
    low, high = torch.minimum(first, second), torch.maximum(first, second)
    inverse = 1.0 / _nonzero(d[2])
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


def _candidates(prims: Primitives, ids: Tensor, start: Tensor, end: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
    """Which of prims[ids] can meet a tile: segment start..end [T, 3], thickened by radius [T, n]. -> order, counts."""
    o = to_unit([c[:, None] for c in start.unbind(-1)], prims, ids[None], True)
    d = to_unit([c[:, None] for c in (end - start).unbind(-1)], prims, ids[None], False)
    half = prims.half[ids]
    grow = [half[None, :, k] / (half[None, :, k] + radius) for k in range(3)]
    near, far = hit_box([o[k] * grow[k] for k in range(3)], [d[k] * grow[k] for k in range(3)])
    keep = (near <= far) & (far >= 0.0) & (near <= 1.0)
    # Stable descending sort puts the kept primitives first, in their own order.
    order = torch.sort(keep.to(torch.uint8), dim=1, descending=True, stable=True).indices
    return ids[order], keep.sum(1)


def _sweep(prims: Primitives, kind: int, ids: Tensor, start, end, radius, visit) -> None:
    """Call visit(tiles, prim ids [m, 1]) for the k-th candidate of every tile that has one, k = 0, 1, ..."""
    if not len(ids) or not len(start):
        return
    lists, counts = _candidates(prims, ids, start, end, radius)
    # Tiles with many candidates first, so that the tiles still busy at step k are a prefix.
    tiles = torch.sort(counts, descending=True, stable=True).indices
    lists = lists[tiles]
    busy = [int(n) for n in (counts[:, None] > torch.arange(int(counts.max()), device=counts.device)).sum(0)]
    for k, m in enumerate(busy):
        visit(tiles[:m], lists[:m, k : k + 1])


def nearest(prims: Primitives, eye: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """First primitive along rays that share an origin inside each tile.

    eye: [T, 3], direction: [T, R, 3] (not necessarily unit length). Returns t [T, R], in units of |direction|, and the
    primitive's index [T, R]; t = FAR and index 0 where nothing is hit.
    """
    t_best = torch.full(direction.shape[:2], FAR, device=eye.device)
    best = torch.zeros(direction.shape[:2], dtype=torch.int64, device=eye.device)
    unit = direction / (direction * direction).sum(-1, keepdim=True).sqrt()
    axis = unit.mean(1)
    axis = axis / (axis * axis).sum(-1, keepdim=True).sqrt()
    cos = (unit * axis[:, None]).sum(-1).amin(1).clamp(0.05, 1.0)
    tan = (1.0 - cos * cos).sqrt() / cos + 1e-3
    components = direction.unbind(-1)
    for kind in (BOX, BALL, CONE):
        ids = torch.nonzero(prims.kind == kind)[:, 0]
        size = (prims.half[ids] ** 2).sum(-1).sqrt()
        reach = (prims.center[ids][None] - eye[:, None]).pow(2).sum(-1).sqrt() + size  # [T, n]

        def visit(tiles, index, kind=kind):
            o = to_unit([c[:, None] for c in eye[tiles].unbind(-1)], prims, index, True)
            d = to_unit([c[tiles] for c in components], prims, index, False)
            near, far = interval(kind, o, d, prims.taper[index])
            old = t_best[tiles]
            closer = (near <= far) & (near > 1e-4) & (near < old)
            t_best[tiles] = torch.where(closer, near, old)
            best[tiles] = torch.where(closer, index, best[tiles])

        _sweep(prims, kind, ids, eye, eye + axis * 100.0, reach * tan[:, None] + 1e-3, visit)
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
    span = target - point

    def middle(x):  # centre and radius of the box around the needed points of a tile
        low = torch.where(needed[..., None], x, FAR).amin(1)
        high = torch.where(needed[..., None], x, -FAR).amax(1)
        return (low + high) * 0.5, ((high - low) ** 2).sum(-1).sqrt() * 0.5

    (start, r0), (end, r1) = middle(point), middle(target)
    radius = torch.maximum(r0, r1)[:, None] + 1e-3
    origin, span = point.unbind(-1), span.unbind(-1)
    result = torch.zeros(needed.shape, dtype=torch.bool, device=point.device)
    for kind in (BOX, BALL, CONE):
        ids = torch.nonzero((prims.kind == kind) & prims.casts)[:, 0]

        def visit(tiles, index, kind=kind):
            o = to_unit([c[tiles] for c in origin], prims, index, True)
            d = to_unit([c[tiles] for c in span], prims, index, False)
            near, far = interval(kind, o, d, prims.taper[index])
            result[tiles] |= (near <= far) & (far > 1e-4) & (near < 0.999)

        _sweep(prims, kind, ids, start, end, radius, visit)
    out[rows] = result
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
