"""A view is a sparse matrix.

With the Gaussians fixed, every pixel is a weighted sum over the Gaussians that its ray meets, and the weights do not
depend on what is summed. ``view_matrix`` returns these weights as a sparse [H*W, N] matrix W, so that a photo is
``W @ colors``, a depth map ``W @ depths``, a feature map ``W @ features``, and the row sums of W are the opacity of
each pixel.

How W is made (3D Gaussian Splatting, Kerbl et al. 2023; constants equal to gsplat 1.5):

1. ``project`` (projection.py): each 3D Gaussian becomes a 2D Gaussian in the image.
2. ``list_pairs`` (pairs.py): list the (pixel, Gaussian) pairs whose alpha is at least 1/255, by pixel and from near to
   far.
3. ``PairWeights`` (blend.py): alpha times transmittance for every pair, and its gradient.

Nothing here is dense in pixels × Gaussians, and all of it runs on the CPU and on a GPU alike. Faster ways to the same
numbers stand behind the same functions: ``backend="numba"`` on a CPU, "triton" and "gsplat" on a GPU (backend.py chooses).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..base.inputs import as_tensor, check_kind
from ..base.machine import quiet_sparse
from ..scenes.camera import Camera
from . import backend as backends
from .blend import Composite, PairWeights, row_starts
from .gaussians import Gaussians
from .pairs import list_pairs
from .projection import ellipses, every_ellipse, project


def view_matrix(
    cloud: Gaussians,
    camera: Camera,
    *,
    differentiable: bool = False,
    near: float | None = None,  # metres; the camera's own when left out
    backend: str = "auto",
) -> Tensor:  # sparse [H*W, N]
    """The blending weights of every pixel: ``W[pixel, n]`` = alpha of Gaussian n there, times what the nearer ones
    let through.

    Row sums are opacities in 0..1. The result is sparse CSR without gradient, for products of any width (the
    transpose is ``W.t()``; torch has no ``W.T`` for CSR); with ``differentiable=True`` it is sparse COO and
    ``W @ values`` passes gradients to means, quats, scales and opacities too. ``backend``: see backend.py.
    Raises ValueError for a camera or a cloud that their ``check`` refuses, or a backend that cannot run here.
    """
    check_kind(Gaussians, cloud=cloud)
    check_kind(Camera, camera=camera)
    near = camera.near if near is None else near
    if differentiable:
        weights, gaussian, pixel = _all_weights(cloud, camera, near, backend)
        # Not marked as coalesced: within a pixel the pairs stand in depth order, not in column order.
        return torch.sparse_coo_tensor(
            torch.stack([pixel, gaussian]), weights, (camera.height * camera.width, len(cloud))
        )
    return folded_matrix(cloud, camera, near=near, backend=backend)


@torch.no_grad()
def folded_matrix(
    cloud: Gaussians,
    camera: Camera,
    down: int = 1,
    across: int = 1,
    *,
    near: float | None = None,  # metres; the camera's own when left out
    backend: str = "auto",
) -> Tensor:  # sparse CSR [H/down * W/across, N]
    """The view matrix with each block of ``down`` × ``across`` pixels, of which the picture must be made, folded into one
    row by their mean. No gradient; otherwise as :func:`view_matrix`."""
    near = camera.near if near is None else near
    h, w = camera.height // down, camera.width // across
    if (h * down, w * across) != (camera.height, camera.width):  # compiled loops would write beyond the rows
        raise ValueError(f"A picture of {camera.height}×{camera.width} is not made of blocks of {down}×{across} pixels.")
    if backends.choose(backend, cloud, matrix=True) == "numba":
        return backends.module("numba").matrix(cloud.check(), camera, near, down, across)
    weights, gaussian, pixel = _all_weights(cloud, camera, near, backend)
    quiet_sparse()
    if down == across == 1:
        return torch.sparse_csr_tensor(row_starts(pixel, h * w), gaussian, weights, (h * w, len(cloud)))
    patch = pixel // (camera.width * down) * w + pixel % camera.width // across
    # coalesce() adds up the pixels of a patch that see the same Gaussian.
    blocks = torch.sparse_coo_tensor(torch.stack([patch, gaussian]), weights / (down * across), (h * w, len(cloud)))
    return blocks.coalesce().to_sparse_csr()


def render(
    cloud: Gaussians,
    camera: Camera,
    values: Tensor | None = None,  # [N, C]; the colors when left out
    *,
    background: Tensor | None = None,  # [C], seen where the opacity is below 1
    near: float | None = None,  # metres; the camera's own when left out
    backend: str = "auto",
) -> tuple[Tensor, Tensor]:  # [H, W, C], [H, W]
    """``W @ values`` as a picture, and the opacity of each pixel. Differentiable in the Gaussians and in the values.

    To keep the gradient of values away from the geometry, as FiT3D does with features, pass ``cloud.detach()``.
    ``backend``: see backend.py. Raises ValueError when ``values`` does not have one row per Gaussian, and as
    :func:`view_matrix`.
    """
    check_kind(Gaussians, cloud=cloud)
    check_kind(Camera, camera=camera)
    values = cloud.colors if values is None else as_tensor(values, "values")
    values = values if values.is_floating_point() else values.to(cloud.means)
    if values.ndim != 2 or len(values) != len(cloud):
        raise ValueError(f"values must be [N, C] with N = {len(cloud)} Gaussians, got {list(values.shape)}.")
    near = camera.near if near is None else near
    cloud.check()  # camera and near plane are checked where they are used
    chosen = backends.choose(backend, cloud, values)
    if chosen == "torch":
        image, alpha = _composite(cloud, camera, values, near)
    else:
        image, alpha = backends.module(chosen).render(cloud, camera, values, near)
    if background is not None:
        background = torch.as_tensor(background).to(image)
        if background.shape not in ((), (values.shape[1],)):
            raise ValueError(f"background must be [C] with C = {values.shape[1]} as the values, got {list(background.shape)}.")
        image = image + (1 - alpha).unsqueeze(-1) * background
    return image, alpha


def _composite(cloud: Gaussians, camera: Camera, values: Tensor, near: float) -> tuple[Tensor, Tensor]:
    pixels = camera.height * camera.width
    values = torch.cat([values, values.new_ones(len(cloud), 1)], 1)  # opacity is one more channel, of ones
    image = values.new_zeros(pixels, values.shape[1])
    for weights, gaussian, pixel in _bands(cloud, camera, near):
        image = image + Composite.apply(weights, gaussian, pixel, pixels, values)
    image = image.reshape(camera.height, camera.width, -1)
    return image[..., :-1], image[..., -1]


def _bands(cloud: Gaussians, camera: Camera, near: float):
    """Yield (weights [M], Gaussian [M], pixel [M]) band by band; weights are differentiable in the Gaussians."""
    flat = project(cloud, camera, near)
    exact = ellipses(flat)
    drawn = exact.to(cloud.means.dtype)
    for pairs in list_pairs(exact.detach(), camera):
        weights, keep = PairWeights.apply(drawn, pairs.gaussian, pairs.pixel, camera.width)
        yield weights, flat.index[pairs.gaussian[keep]], pairs.pixel[keep]


def _all_weights(cloud: Gaussians, camera: Camera, near: float, backend: str) -> tuple[Tensor, Tensor, Tensor]:
    """Weights [M], Gaussian [M] and pixel [M] of the whole picture, sorted by pixel and from near to far."""
    cloud.check()
    chosen = backends.choose(backend, cloud, matrix=True)
    if chosen == "triton":
        return backends.module(chosen).weights(cloud, camera, near)
    if chosen in ("gsplat", "numba"):
        # A row for every Gaussian: one on the very edge of being seen may be listed and yet not projected.
        drawn = every_ellipse(project(cloud, camera, near), len(cloud)).to(cloud.means.dtype)
        gaussian, pixel = backends.module(chosen).pairs(cloud, camera, near)
        weights, keep = PairWeights.apply(drawn, gaussian, pixel, camera.width)
        return weights, gaussian[keep], pixel[keep]
    bands = list(_bands(cloud, camera, near))
    if not bands:
        nothing = torch.zeros(0, dtype=torch.int64, device=cloud.means.device)
        return cloud.means.new_zeros(0), nothing, nothing
    return tuple(torch.cat(part) for part in zip(*bands, strict=True))
