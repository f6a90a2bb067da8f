"""gsplat behind splat.py: the same picture, the same pairs, from gsplat's CUDA kernels.

``ready`` says whether they can be used, and asking costs nothing worth mentioning and never starts a compiler;
``render`` and ``pairs`` use them. Our constants are gsplat's, so nothing needs converting but the layout: gsplat wants a
batch of cameras (ours is one, C = 1) and float32.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...scenes.camera import Camera
from ..gaussians import Gaussians
from ..projection import EPS2D, check_near
from .gsplat_found import why_not

TILE = 16  # pixels; gsplat's own, "other values are not tested"
# The backward kernel holds a tile's Gaussians with all their channels in shared memory: 39,936 bytes at 32 channels,
# 72,704 at 64, and a block of a T4 has 65,536.
CHUNK = 32
EVERY_BATCH = 2**31 - 1  # rasterize_to_indices_in_range lists batches of Gaussians from 0 up to this one


def ready() -> bool:
    """Whether gsplat can draw in this process: CUDA is there, its extension is compiled, and one Gaussian came out
    right.

    Never compiles, prints or raises. A yes is remembered for good, a no until a build finishes or ten seconds pass.
    """
    return why_not(_draw_one) is None


def problem(device: torch.device) -> str | None:
    """Why gsplat cannot draw what lies on ``device``, without a full stop, or None when it can."""
    reason = why_not(_draw_one)
    if reason is None and torch.device(device).type != "cuda":
        return f"gsplat draws on a CUDA device, and the Gaussians are on {device}"
    return reason


def render(
    cloud: Gaussians,
    camera: Camera,
    values: Tensor,  # [N, C]
    near: float,  # metres
    channel_chunk: int = CHUNK,
) -> tuple[Tensor, Tensor]:  # [H, W, C], [H, W]
    """``W @ values`` as a picture, and the opacity of each pixel, both differentiable in the Gaussians and the values.

    C may be any number; more than ``channel_chunk`` (at most 32) are drawn in turn, after one projection and one sort.
    Raises ValueError for other types than float32, the only one that gsplat's kernels know.
    """
    _only_float32(cloud, values)
    check_near(near)
    camera.check()
    if not len(cloud):  # gsplat divides by the number of Gaussians
        return values.new_zeros(camera.height, camera.width, values.shape[1]), values.new_zeros(
            camera.height, camera.width
        )
    import gsplat

    pose, K = _batch_of_one(camera, cloud.means)
    image, alpha, _ = gsplat.rasterization(
        cloud.means,
        cloud.quats,
        cloud.scales,
        cloud.opacities,
        # gsplat refuses zero channels; then one is drawn for the opacity and none returned.
        values if values.shape[1] else values.new_zeros(len(cloud), 1),
        pose,
        K,
        camera.width,
        camera.height,
        near_plane=near,
        eps2d=EPS2D,
        packed=False,
        tile_size=TILE,
        rasterize_mode="classic",
        channel_chunk=min(channel_chunk, CHUNK),
    )
    return image[0, ..., : values.shape[1]], alpha[0, ..., 0]


@torch.no_grad()
def pairs(cloud: Gaussians, camera: Camera, near: float) -> tuple[Tensor, Tensor]:  # [M], [M] int64
    """The (Gaussian, pixel) pairs that reach the eye, sorted by pixel (row · W + column) and in a pixel from near to
    far.

    Without weights: those are computed from the pairs (blend.PairWeights), so that they carry gradients. Raises
    ValueError for other types than float32.
    """
    _only_float32(cloud)
    none = torch.zeros(0, dtype=torch.int64, device=cloud.means.device)
    if not len(cloud):
        return none, none
    import gsplat

    pose, K = _batch_of_one(camera, cloud.means)
    width, height = camera.width, camera.height
    # Not packed: rasterize_to_indices_in_range finds a Gaussian's number as a row of [1, N].
    radii, means2d, depths, conics, _ = gsplat.fully_fused_projection(
        cloud.means,
        None,
        cloud.quats,
        cloud.scales,
        pose,
        K,
        width,
        height,
        eps2d=EPS2D,
        near_plane=near,
        packed=False,
        opacities=cloud.opacities,
    )
    across, down = math.ceil(width / TILE), math.ceil(height / TILE)
    _, tile_ids, order = gsplat.isect_tiles(means2d, radii, depths, TILE, across, down, packed=False)
    offsets = gsplat.isect_offset_encode(tile_ids, 1, across, down).reshape(1, down, across)
    gaussian, pixel, _ = gsplat.rasterize_to_indices_in_range(
        0,
        EVERY_BATCH,
        torch.ones(1, height, width, device=cloud.means.device),  # nothing drawn yet: all light passes
        means2d,
        conics,
        cloud.opacities[None],
        width,
        height,
        TILE,
        offsets,
        order,
    )
    return gaussian.long(), pixel.long()


def _batch_of_one(camera: Camera, like: Tensor) -> tuple[Tensor, Tensor]:  # [1, 4, 4], [1, 3, 3]
    return camera.world_to_camera.to(like)[None], camera.K.to(like)[None]


def _only_float32(cloud: Gaussians, values: Tensor | None = None) -> None:
    types = {cloud.means.dtype} | ({values.dtype} if values is not None else set())
    if types != {torch.float32}:
        names = ", ".join(sorted(str(t).removeprefix("torch.") for t in types))
        raise ValueError(f"gsplat computes in float32 only, got {names}: call .float(), or use backend='torch'.")


def _draw_one() -> None:
    """Draw one Gaussian in the middle of a picture: shows that the library fits this torch and this device."""
    one = torch.ones(1, device="cuda")
    cloud = Gaussians(
        torch.tensor([[0.0, 0.0, 2.0]], device="cuda"),
        torch.tensor([[1.0, 0.0, 0.0, 0.0]], device="cuda"),
        0.1 * one.expand(1, 3),
        0.8 * one,
        one.expand(1, 3),
    )
    camera = Camera(torch.tensor([[16.0, 0, 8.5], [0, 16.0, 8.5], [0, 0, 1]]), torch.eye(4), 17, 17)
    with torch.no_grad():
        image, alpha = render(cloud, camera, cloud.colors, 0.2)
    seen = float(alpha[8, 8]), float(image[8, 8, 0])
    if any(abs(s - 0.8) > 1e-3 for s in seen):
        raise RuntimeError(f"a Gaussian of opacity 0.8 was drawn with {seen[0]:.3f} and {seen[1]:.3f}")
