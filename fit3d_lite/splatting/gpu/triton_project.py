"""Gaussians to ellipses on a GPU: one Triton kernel forward, one backward, float32 throughout.

``projection.project`` does the same in some fifty small torch kernels. In float32, which a T4 runs 32 times as fast
as float64, the digits must be guarded: triton_project_kernels.py says how, and holds the two kernels.
"""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from ...scenes.camera import Camera
from ..blend import ALPHA_MIN
from ..gaussians import Gaussians
from ..projection import CLAMP, EPS2D, check_near
from .triton_project_kernels import project_backward_kernel, project_kernel

BLOCK = 128  # Gaussians per program: one for each thread of four warps


def project_ellipses(
    cloud: Gaussians,
    camera: Camera,
    near: float,  # metres
) -> tuple[Tensor, Tensor]:  # [N, 6], [N] metres
    """Every Gaussian as one row mean u, mean v, slope = cov_uv / cov_vv, 1/σ_v, 1/σ_u|v, opacity; and its depth.

    All float32 and in the cloud's own order. A Gaussian that ``projection.project`` leaves out (nearer than the near
    plane, opacity under 1/255) keeps its place with opacity 0, depth +inf and no gradient. The rows pass gradients to
    means, quats, scales and opacities; the depths, meant for sorting, pass none. Nothing here waits for the GPU,
    hence values are not looked at: ``cloud.check()`` does that.

    Raises ValueError for a camera that ``Camera.check`` refuses, a near plane ≤ 0, a cloud that is not float32, or one
    that is not on a GPU (unless Triton interprets, TRITON_INTERPRET=1).
    """
    check_near(near)
    camera.check()
    inputs = (cloud.means, cloud.quats, cloud.scales, cloud.opacities)
    if any(value.dtype != torch.float32 for value in inputs):
        found = ", ".join(sorted({str(value.dtype).removeprefix("torch.") for value in inputs}))
        raise ValueError(
            f"The Triton projection is float32 only, got {found}: use cloud.to(torch.float32) or backend='torch'."
        )
    if isinstance(project_kernel, triton.JITFunction) and not cloud.means.is_cuda:  # interpreted, it takes CPU tensors
        raise ValueError(
            f"The Triton projection needs a cloud on a GPU, got {cloud.means.device}: use cloud.to('cuda') or "
            "backend='torch'."
        )
    return _ProjectEllipses.apply(*inputs, (*_camera_numbers(camera), float(near)))


def _camera_numbers(camera: Camera) -> list[float]:
    """What the kernels take of a camera. Plain numbers: they travel with the launch, no copy to wait for.

    The 9 of M = diag(fx, fy, 1) R; the camera's centre as 3 + 3, its float32 value and what that lacks, so that
    ``mean − centre`` is exact to the last digit of the difference; cx, cy; the limits of the clamp, in pixels from
    (cx, cy): left, right, top, bottom.
    """
    K, pose = camera.K.double(), camera.world_to_camera.double()
    focal = torch.stack([K[0, 0], K[1, 1], torch.ones_like(K[0, 0])])
    center = torch.linalg.solve(pose[:3, :3], -pose[:3, 3])  # not −Rᵀ t: R is orthogonal only to its own rounding
    rounded = center.float().double()
    cx, cy = K[:2, 2].tolist()
    margin_u, margin_v = CLAMP * camera.width / 2, CLAMP * camera.height / 2
    limits = [-cx - margin_u, camera.width - cx + margin_u, -cy - margin_v, camera.height - cy + margin_v]
    matrix = (focal.unsqueeze(1) * pose[:3, :3]).flatten()
    return [*torch.cat([matrix, rounded, center - rounded]).tolist(), cx, cy, *limits]


class _ProjectEllipses(torch.autograd.Function):
    """(means, quats, scales, opacities, numbers) -> (ellipses [N, 6], depths [N]). Keeps only its inputs."""

    @staticmethod
    def forward(ctx, means, quats, scales, opacities, numbers):
        inputs = [value.contiguous() for value in (means, quats, scales, opacities)]
        count = len(means)
        ellipses, depths = means.new_empty(count, 6), means.new_empty(count)
        if count:
            with torch.cuda.device_of(means):
                project_kernel[(triton.cdiv(count, BLOCK),)](
                    *inputs, ellipses, depths, count, *numbers, EPS2D, ALPHA_MIN, BLOCK
                )
        ctx.save_for_backward(*inputs)
        ctx.numbers = numbers
        ctx.mark_non_differentiable(depths)
        return ellipses, depths

    @staticmethod
    def backward(ctx, grad, _):
        inputs = ctx.saved_tensors
        count = len(grad)
        grads = [torch.empty_like(value) for value in inputs]
        if count:
            with torch.cuda.device_of(grad):
                project_backward_kernel[(triton.cdiv(count, BLOCK),)](
                    *inputs, grad.contiguous(), *grads, count, *ctx.numbers, EPS2D, ALPHA_MIN, BLOCK
                )
        return *grads, None
