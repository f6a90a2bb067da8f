"""Boxes, ellipsoids and cones: where they stand, what they look like, and which way their surface faces.

Every primitive is a unit shape moved by an anisotropic scale, a yaw about the vertical and a shift.

Only +, -, *, /, sqrt, floor and comparisons touch a ray, each in its own kernel: IEEE 754 fixes their results, so a
picture is the same to the last bit on every processor and with any number of threads.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
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
    color_b: Tensor  # [N, 3] linear RGB, the texture's second color
    scale: Tensor  # [N] size of the texture's repeat, metres
    offset: Tensor  # [N, 2] where the texture starts
    glow: Tensor  # [N] emitted light, as a multiple of the surface color

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

    @cached_property
    def tables(self) -> tuple[np.ndarray, ...]:
        """What numba_rays.py reads, boxes before balls before cones: number and kind [N, 2], the upright box around each
        [N, 6] (center, half extents), and [N, 9] center, world-to-unit, taper."""
        order = torch.sort(self.kind, stable=True).indices
        boxes = torch.cat([self.center, self.reach], 1)
        frames = torch.stack([*self.center.unbind(-1), *self.inverse, self.taper], -1)
        parts = torch.stack([order, self.kind[order]], -1), boxes[order], frames[order]
        return tuple(part.cpu().numpy() for part in parts)

    @cached_property
    def casters(self) -> Primitives:
        """Those that throw a shadow; their numbers are new."""
        return self.only(self.casts)

    def only(self, which: Tensor) -> Primitives:  # [N] bool
        return Primitives(*(getattr(self, f.name)[which] for f in fields(self)))

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


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Inner product over the last axis of 3, in a fixed order of additions."""
    return a[..., 0] * b[..., 0] + a[..., 1] * b[..., 1] + a[..., 2] * b[..., 2]


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
