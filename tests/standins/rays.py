"""Every ray against every primitive, in float64: what the compiled loops of rooms are compared with."""

import torch

from fit3d_lite.rooms.shapes import BALL, BOX


def _between_roots(a, b, c):
    """Where a t^2 + 2 b t + c <= 0 for a > 0: nothing is (inf, -inf)."""
    disc = b * b - a * c
    root = disc.clamp(min=0).sqrt()
    miss = disc < 0
    return torch.where(miss, torch.inf, (-b - root) / a), torch.where(miss, -torch.inf, (-b + root) / a)


def crossings(prims, origin, direction):
    """Entry and exit parameter [P, N] of rays [P, 3] into each of N primitives; entry > exit where they miss."""
    near, far = [], []
    for n in range(len(prims.kind)):
        (cos, sin), half, taper = prims.yaw[n].double(), prims.half[n].double(), float(prims.taper[n])
        turn = torch.stack([torch.stack([cos, sin]), torch.stack([-sin, cos])])
        o, d = (torch.cat([v[:, :2] @ turn.T, v[:, 2:]], 1) / half for v in (origin - prims.center[n], direction))
        slab = torch.stack([(-1 - o) / d, (1 - o) / d]).sort(0).values
        if prims.kind[n] == BOX:
            start, stop = slab[0].amax(1), slab[1].amin(1)
        elif prims.kind[n] == BALL:
            start, stop = _between_roots((d * d).sum(1), (o * d).sum(1), (o * o).sum(1) - 1)
        else:  # the points of a cone are those of the slab whose distance from the axis is at most r: the cone is convex
            r, dr = (taper + 1) / 2 + (taper - 1) / 2 * o[:, 2], (taper - 1) / 2 * d[:, 2]
            a = d[:, 0] ** 2 + d[:, 1] ** 2 - dr * dr
            b, c = o[:, 0] * d[:, 0] + o[:, 1] * d[:, 1] - r * dr, o[:, 0] ** 2 + o[:, 1] ** 2 - r * r
            flat = _between_roots(a.clamp(min=1e-12), b, c)
            root = (b * b - a * c).clamp(min=0).sqrt()
            low, high = torch.stack([(-b - root) / a, (-b + root) / a]).sort(0).values
            opens = d[:, 2] * (taper - 1) > 0  # steeper than the side, the ray is inside after or before one root only
            start = torch.where(a > 0, flat[0], torch.where(opens, high, -torch.inf)).maximum(slab[0, :, 2])
            stop = torch.where(a > 0, flat[1], torch.where(opens, torch.inf, low)).minimum(slab[1, :, 2])
        near.append(start)
        far.append(stop)
    return torch.stack(near, 1), torch.stack(far, 1)
