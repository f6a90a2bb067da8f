"""Drawing on a CPU with loops that numba compiles: the same picture, weights and gradients as torch's way, without pairs.

numba_project.py and numba_paint.py have the loops. This file gives them memory and shares them out to as many threads as
torch has, each taking the next band of rows when it is done with one. They are plain Python threads, since the loops run
without Python's lock: so nothing spins while it waits, and nothing is left over when a process is forked.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..base.machine import quiet_sparse
from ..scenes.camera import Camera
from . import quality
from .blend import ALPHA_MAX, T_MIN
from .gaussians import Gaussians
from .projection import ALPHA_MIN, EPS2D, lens, near_to_far

CHUNK = 4096  # Gaussians that one thread projects at a time
LIMITS = (ALPHA_MIN, ALPHA_MAX, T_MIN)


def problem(device: torch.device) -> str:
    """Why numba cannot draw on this device, or nothing."""
    if torch.device(device).type != "cpu":
        return f"its loops run on a CPU, and the Gaussians are on {device}"
    return "" if importlib.util.find_spec("numba") else "numba is not installed (pip install numba)"


def disagreement(device: torch.device) -> float:
    """How far the kernels are from torch's way here; see quality.disagreement."""
    return quality.disagreement("numba", device)


def _shared_out(work: Callable, parts: Sequence) -> None:
    """``work(part)`` for each part, on torch's number of threads."""
    threads = min(torch.get_num_threads(), len(parts))
    if threads <= 1:
        for part in parts:
            work(part)
        return
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(work, parts):
            pass  # asking for a result is what raises a thread's error here


class _View:
    """One camera's sorted ellipses, [K, 6] with their first and last rows [K, 2], and how to go through them."""

    def __init__(self, cloud: Gaussians, camera: Camera, near: float):
        projecting, self.painting = kernels()
        seen, view = near_to_far(cloud, camera, near, torch.float64)
        self.index, self.height, self.width = seen.numpy(), camera.height, camera.width
        self.view = tuple(map(tuple, torch.cat([view[0], view[1][None], view[2][None]]).tolist()))
        self.lens = (*lens(camera), EPS2D)
        self.ellipses, self.rows = np.empty((len(seen), 6)), np.empty((len(seen), 2), np.int64)
        shape = [_array(part) for part in (cloud.means, cloud.quats, cloud.scales, cloud.opacities)]

        def project(begin):
            where = (begin, min(begin + CHUNK, len(self.index)), self.ellipses, self.rows)
            projecting.project(*shape, self.index, self.view, self.lens, ALPHA_MIN, self.height, self.width, *where)

        _shared_out(project, range(0, len(seen), CHUNK))

    def walk(self, loop: Callable, *arrays, rows: int, head: tuple = ()) -> None:
        """``loop`` over all bands of ``rows`` rows; ``head`` holds what stands before its limits."""

        def band(top):
            bottom = min(top + rows, self.height)
            loop(self.ellipses, self.rows, self.index, *head, LIMITS, top, bottom, *arrays)

        _shared_out(band, range(0, self.height, rows))

    def open(self) -> np.ndarray:  # [H, W]
        """What passes each pixel before anything is drawn."""
        return np.ones((self.height, self.width))


class Paint(torch.autograd.Function):
    """(means, quats, scales, opacities, values [N, C], camera, near) -> image [H, W, C], alpha [H, W]."""

    @staticmethod
    def forward(ctx, means, quats, scales, opacities, values, camera, near):
        view = _View(Gaussians(means, quats, scales, opacities, means), camera, near)  # colors play no part in it
        image, passing = np.zeros((view.height, view.width, values.shape[1])), view.open()
        view.walk(view.painting.paint, image, passing, rows=view.painting.BAND, head=(_array(values),))
        ctx.save_for_backward(means, quats, scales, opacities, values)
        alpha = 1 - np.abs(passing)
        ctx.view, ctx.drawn = view, (image, alpha)
        return torch.from_numpy(image.astype(np.float32)), torch.from_numpy(alpha.astype(np.float32))

    @staticmethod
    @once_differentiable
    def backward(ctx, d_image, d_alpha):
        view, (image, alpha), (*shape, values) = ctx.view, ctx.drawn, ctx.saved_tensors
        channels, band = values.shape[1], view.painting.BAND
        d_image, d_alpha = _array(d_image), _array(d_alpha)
        behind = np.einsum("hwc,hwc->hw", image, d_image) + alpha * d_alpha
        touched = np.where(view.rows[:, 1] >= view.rows[:, 0], view.rows[:, 1] // band - view.rows[:, 0] // band + 1, 0)
        starts = np.concatenate([[0], touched.cumsum()])
        received = np.empty((starts[-1], 6 + channels))
        arrays = (view.open(), d_image, d_alpha, behind, starts, received)
        view.walk(view.painting.paint_back, *arrays, rows=band, head=(_array(values),))

        grads = [torch.zeros_like(part, memory_format=torch.contiguous_format) for part in (*shape, values)]
        geometry, arrays = any(ctx.needs_input_grad[:4]), [grad.numpy() for grad in grads]
        means, quats, scales, _ = map(_array, shape)

        def back(begin):
            known = (means, quats, scales, view.index, view.view, view.lens, view.ellipses, received, starts)
            kernels()[0].project_back(*known, begin, min(begin + CHUNK, len(view.index)), geometry, *arrays)

        _shared_out(back, range(0, len(view.index), CHUNK))
        return *(grad if asked else None for grad, asked in zip(grads, ctx.needs_input_grad, strict=False)), None, None


def render(
    cloud: Gaussians, camera: Camera, values: Tensor, near: float
) -> tuple[Tensor, Tensor]:  # [H, W, C], [H, W]
    """What :func:`fit3d_lite.render` gives, for inputs that it has checked."""
    return Paint.apply(cloud.means, cloud.quats, cloud.scales, cloud.opacities, values, camera, near)


def matrix(cloud: Gaussians, camera: Camera, near: float, down: int = 1, across: int = 1) -> Tensor:
    """The view matrix as sparse CSR without gradient, each block of ``down`` × ``across`` pixels folded into one row by
    its mean: [H / down · W / across, N]. Within a row, Gaussians stand from near to far.

    It is walked twice, once to count and once to write.
    """
    view = _View(cloud.detach(), camera, near)
    h, w, rows = view.height // down, view.width // across, down * max(1, view.painting.BAND // down)
    counts, nothing = np.zeros((h, w), np.int64), np.zeros(0, np.int64)
    fold = view.painting.fold
    view.walk(fold, view.open(), down, across, counts, counts, nothing, np.zeros(0, np.float32), rows=rows)
    starts = np.concatenate([[0], counts.cumsum()])
    columns, weights = np.empty(starts[-1], np.int64), np.empty(starts[-1], np.float32)
    places = starts[:-1].reshape(h, w).copy()
    view.walk(fold, view.open(), down, across, counts, places, columns, weights, rows=rows)
    quiet_sparse()
    parts = (torch.from_numpy(part) for part in (starts, columns, weights))
    return torch.sparse_csr_tensor(*parts, (h * w, len(cloud)))


def pairs(cloud: Gaussians, camera: Camera, near: float) -> tuple[Tensor, Tensor]:
    """Gaussian [M] and pixel [M] of every entry of the view matrix."""
    W = matrix(cloud, camera, near)
    pixels = torch.arange(W.shape[0])
    return W.col_indices(), torch.repeat_interleave(pixels, W.crow_indices().diff(), output_size=len(W.values()))


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().contiguous().numpy()


@functools.cache
def kernels() -> tuple[ModuleType, ModuleType]:
    """numba_project and numba_paint. Importing them compiles the loops, which takes seconds, or finds what an earlier
    start has compiled."""
    from ..base.loops import load

    return load("drawing", __package__, "numba_project", "numba_paint")
