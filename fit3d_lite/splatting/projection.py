"""Gaussians to the image plane: each 3D Gaussian becomes a 2D one (EWA splatting, Zwicker et al. 2001; 3DGS, eq. 5).

The numbers are float64 on a CPU, which has it for nothing, and float32 on a GPU: a T4 is 32 times slower in float64.
So nothing here may lean on float64: the spread of a needle is found without subtracting two large numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..scenes.camera import Camera
from .gaussians import Gaussians, rotation_matrices

ALPHA_MIN = 1 / 255  # a fainter contribution would not change an 8-bit picture
EPS2D = 0.3  # pixels²; added to each 2D covariance, so that no Gaussian is thinner than a pixel
CLAMP = 0.3  # the Jacobian is taken at most this far (in half fields of view) outside the picture


@dataclass
class Projected:
    """K of the N Gaussians as seen by one camera, sorted from near to far."""

    index: Tensor  # [K] int64, which Gaussian
    means: Tensor  # [K, 2] pixels (u, v)
    covariances: Tensor  # [K, 3] pixels²: uu, uv, vv, with EPS2D included
    given_v: Tensor  # [K] pixels²: variance of u where v is known, uu − uv² / vv
    opacities: Tensor  # [K]
    depths: Tensor  # [K] metres


def geometry_dtype(cloud: Gaussians) -> torch.dtype:
    """What projection computes in: float64 on the CPU; on a GPU the cloud's own type, float32."""
    return torch.float64 if cloud.means.device.type == "cpu" else cloud.means.dtype


def project(
    cloud: Gaussians,
    camera: Camera,
    near: float | None = None,  # metres; the camera's own when left out
    dtype: torch.dtype | None = None,  # of the result; by default geometry_dtype
) -> Projected:
    """Gaussians to the image plane; those behind the near plane or too faint to see (opacity < 1/255) are left out.

    The covariance is J R Σ Rᵀ Jᵀ + 0.3 I with J the Jacobian of the perspective division at the Gaussian's mean
    (3DGS, eq. 5). The slopes x/z and y/z inside J are clamped to the picture plus 30 % of half a field of view on
    each side, as gsplat does. Raises ValueError for a camera that :meth:`Camera.check` refuses or a near plane ≤ 0.
    """
    dtype = dtype or geometry_dtype(cloud)
    seen, (rotation, coarse, fine) = near_to_far(cloud, camera, camera.near if near is None else near, dtype)
    local = (cloud.means[seen].to(dtype) - coarse - fine) @ rotation.T
    x, y, z = local.unbind(1)
    fx, fy, cx, cy, low_x, high_x, low_y, high_y = lens(camera)
    slope_x, slope_y = (x / z).clamp(low_x, high_x), (y / z).clamp(low_y, high_y)
    zero = torch.zeros_like(z)
    jacobian = torch.stack(
        [torch.stack([fx / z, zero, -fx * slope_x / z], 1), torch.stack([zero, fy / z, -fy * slope_y / z], 1)], 1
    )
    # Σ = (R_g S)(R_g S)ᵀ, so J R Σ Rᵀ Jᵀ = A Aᵀ with A = J R R_g S, [K, 2, 3]. Its rows say how the three axes of the
    # Gaussian move u and v.
    turned = rotation_matrices(cloud.quats[seen].to(dtype)) * cloud.scales[seen].to(dtype).unsqueeze(1)
    along_u, along_v = (jacobian @ rotation @ turned).unbind(1)
    uu, uv, vv = (along_u**2).sum(1), (along_u * along_v).sum(1), (along_v**2).sum(1)
    # uu · vv − uv² is the square of a cross product: a sum of squares, which a needle cannot cancel.
    area = (torch.linalg.cross(along_u, along_v) ** 2).sum(1)
    return Projected(
        index=seen,
        means=torch.stack([fx * x / z + cx, fy * y / z + cy], 1),
        covariances=torch.stack([uu + EPS2D, uv, vv + EPS2D], 1),
        given_v=(area + EPS2D * (uu + vv) + EPS2D**2) / (vv + EPS2D),
        opacities=cloud.opacities[seen].to(dtype),
        depths=z,
    )


def near_to_far(
    cloud: Gaussians, camera: Camera, near: float, dtype: torch.dtype
) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:  # [K] int64, ([3, 3], [3], [3])
    """Which Gaussians a camera sees, sorted; and its rotation and its center, the latter as the sum of two.

    Seen from the camera a point is R (x − c), with the center c in two numbers of that type: far from the origin
    R x + t would take the difference of two large numbers. Raises ValueError as :func:`project`.
    """
    check_near(near)
    camera.check()
    pose = camera.world_to_camera.double()
    # c solves R c = −t, since R is orthogonal only to its own rounding.
    center = torch.linalg.solve(pose[:3, :3], -pose[:3, 3])
    coarse = center.to(dtype)
    view = tuple(part.to(cloud.means.device, dtype) for part in (pose[:3, :3], coarse, center - coarse.double()))
    with torch.no_grad():
        z = (cloud.means.to(dtype) - view[1] - view[2]) @ view[0][2]
        seen = torch.nonzero((z > near) & (cloud.opacities >= ALPHA_MIN)).squeeze(1)
        return seen[z[seen].argsort(stable=True)], view


def lens(camera: Camera) -> tuple[float, float, float, float, float, float, float, float]:
    """fx, fy, cx, cy, and the least and largest slope x/z, then y/z, at which the Jacobian is taken."""
    (fx, _, cx), (_, fy, cy), _ = camera.K.double().tolist()
    more_x, more_y = CLAMP * camera.width / (2 * fx), CLAMP * camera.height / (2 * fy)
    across = -cx / fx - more_x, (camera.width - cx) / fx + more_x
    return fx, fy, cx, cy, *across, -cy / fy - more_y, (camera.height - cy) / fy + more_y


def ellipses(flat: Projected) -> Tensor:  # [K, 6]
    """What a pair needs to know about its Gaussian: mean u, mean v, slope, 1/σ_v, 1/σ_u|v, opacity.

    This is the Cholesky form of the 2D Gaussian: first v with its own spread, then u given v, whose mean moves along
    ``slope`` = cov_uv / cov_vv and whose spread is what is left. Unlike the usual conic it is a sum of squares, so a
    needle lying across the picture loses no digits in float32.
    """
    _, uv, vv = flat.covariances.unbind(1)
    return torch.stack([*flat.means.unbind(1), uv / vv, vv.rsqrt(), flat.given_v.rsqrt(), flat.opacities], 1)


def every_ellipse(flat: Projected, count: int) -> Tensor:  # [N, 6]
    """:func:`ellipses` with a row for each of the cloud's N Gaussians; those that are not seen have zeros, so opacity 0."""
    rows = ellipses(flat)
    return rows.new_zeros(count, 6).index_copy(0, flat.index, rows)


def check_near(near: float) -> None:
    """Raise ValueError for a near plane that is not in front of the camera."""
    if not near > 0:
        raise ValueError(f"The near plane must be > 0 metres, got {near}.")
