"""Which primitive does a ray meet first, and is anything in its way? For many rays at once, in tiles of neighbours.

The loops are in numba_rays.py and run on a CPU, on the thread that asks; they are compiled at their first use, in seconds,
and kept for the next time.
"""

from __future__ import annotations

import functools
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from .shapes import FAR, Primitives


@functools.cache
def _loops() -> ModuleType:
    from ..base.loops import load

    return load("room", __package__, "numba_rays")[0]


def _rows(points: Tensor) -> np.ndarray:  # [T, R, 3] -> [T, 3, R]
    return points.transpose(1, 2).contiguous().cpu().numpy()


def nearest(prims: Primitives, eye: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """First primitive along rays that share an origin inside each tile.

    eye: [T, 3], direction: [T, R, 3] (not necessarily unit length). Returns t [T, R], in units of |direction|, and the
    primitive's index [T, R]; t = FAR and index 0 where nothing is hit. Of several at the same t the first box counts,
    then the first ball, then the first cone.
    """
    t = np.full(direction.shape[:2], FAR, np.float32)
    index = np.zeros(direction.shape[:2], np.int64)
    eyes, asked, room = eye.contiguous().cpu().numpy(), np.ones(direction.shape[1], bool), np.empty(len(prims.kind), np.int64)
    _loops().nearest(*prims.tables, eyes, _rows(direction), asked, room, t, index)
    return torch.from_numpy(t).to(eye.device), torch.from_numpy(index).to(eye.device)


def blocked(prims: Primitives, point: Tensor, target: Tensor, needed: Tensor) -> Tensor:
    """Is the open segment from point [T, R, 3] to target [T, R, 3] blocked by something that casts? -> bool [T, R].

    needed: [T, R] bool; the others are answered False.
    """
    out, room = np.zeros(needed.shape, bool), np.empty(len(prims.kind), np.int64)
    _loops().blocked(*prims.casters.tables, _rows(point), _rows(target), needed.contiguous().cpu().numpy(), room, out)
    return torch.from_numpy(out).to(point.device)
