"""A view is a sparse matrix.

With the Gaussians fixed, every pixel is a weighted sum over the Gaussians that its ray meets, and the weights do not
depend on what is summed. ``view_matrix`` returns these weights as a sparse [H*W, N] matrix W, so that a photo is ``W
@ colors``, a depth map ``W @ depths``, a feature map ``W @ features``, and the row sums of W are the opacity of each
pixel.

How W is made (3D Gaussian Splatting, Kerbl et al. 2023; constants equal to gsplat 1.5):

1. ``project``: each 3D Gaussian becomes a 2D Gaussian in the image (EWA splatting, Zwicker et al. 2001).
2. ``list_pairs``: list the (pixel, Gaussian) pairs whose alpha is at least 1/255, by pixel and from near to far. A
   2D Gaussian cut along one row of pixels is a 1D Gaussian, so the columns it covers in that row are known in closed
   form and no pixel is tried in vain.
3. ``blend.PairWeights``: alpha times transmittance for every pair, and its gradient.

Nothing here is dense in pixels × Gaussians, and all of it runs on the CPU and on a GPU alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .blend import ALPHA_MIN, Composite, PairWeights
from .camera import Camera
from .environment import quiet_sparse
from .gaussians import Gaussians, rotation_matrices

NEAR = 0.2  # metres; Gaussians nearer than this smear over the whole picture
EPS2D = 0.3  # pixels²; added to each 2D covariance, so that no Gaussian is thinner than a pixel
CLAMP = 0.3  # the Jacobian is taken at most this far (in half fields of view) outside the picture
MAX_PAIRS = 8_000_000  # pairs listed at once; larger pictures are done in bands of rows


@dataclass
class Projected:
    """K of the N Gaussians as seen by one camera, sorted from near to far. All float64: K is small and needles
    cancel.
    """

    index: Tensor  # [K] int64, which Gaussian
    means: Tensor  # [K, 2] pixels (u, v)
    covariances: Tensor  # [K, 3] pixels²: uu, uv, vv, with EPS2D included
    opacities: Tensor  # [K]
    depths: Tensor  # [K] metres


def project(cloud: Gaussians, camera: Camera, near: float = NEAR) -> Projected:
    """Gaussians to the image plane; those behind the near plane or too faint to see (opacity < 1/255) are left out.

    The covariance is J R Σ Rᵀ Jᵀ + 0.3 I with J the Jacobian of the perspective division at the Gaussian's mean
    (3DGS, eq. 5). The slopes x/z and y/z inside J are clamped to the picture plus 30 % of half a field of view on
    each side, as gsplat does. Raises ValueError for a camera that :meth:`Camera.check` refuses or a near plane ≤ 0.
    """
    camera.check()
    if near <= 0:
        raise ValueError(f"The near plane must be > 0 metres, got {near}.")
    pose, K = camera.world_to_camera.to(cloud.means.device, torch.float64), camera.K.double()
    rotation, shift = pose[:3, :3], pose[:3, 3]
    with torch.no_grad():
        z = cloud.means.double() @ rotation[2] + shift[2]
        seen = torch.nonzero((z > near) & (cloud.opacities >= ALPHA_MIN)).squeeze(1)
        seen = seen[z[seen].argsort(stable=True)]

    local = cloud.means[seen].double() @ rotation.T + shift
    x, y, z = local.unbind(1)
    (fx, _, cx), (_, fy, cy), _ = K.tolist()
    half_x, half_y = camera.width / (2 * fx), camera.height / (2 * fy)
    slope_x = (x / z).clamp(-cx / fx - CLAMP * half_x, (camera.width - cx) / fx + CLAMP * half_x)
    slope_y = (y / z).clamp(-cy / fy - CLAMP * half_y, (camera.height - cy) / fy + CLAMP * half_y)
    zero = torch.zeros_like(z)
    jacobian = torch.stack(
        [torch.stack([fx / z, zero, -fx * slope_x / z], 1), torch.stack([zero, fy / z, -fy * slope_y / z], 1)], 1
    )
    # Σ = (R_g S)(R_g S)ᵀ, so J R Σ Rᵀ Jᵀ = A Aᵀ with A = J R R_g S, [K, 2, 3].
    turned = rotation_matrices(cloud.quats[seen].double()) * cloud.scales[seen].double().unsqueeze(1)
    uu, uv, _, vv = ((a := jacobian @ rotation @ turned) @ a.transpose(1, 2)).flatten(1).unbind(1)
    return Projected(
        index=seen,
        means=torch.stack([fx * x / z + cx, fy * y / z + cy], 1),
        covariances=torch.stack([uu + EPS2D, uv, vv + EPS2D], 1),
        opacities=cloud.opacities[seen].double(),
        depths=z,
    )


def _ellipses(flat: Projected) -> Tensor:  # [K, 6]
    """What a pair needs to know about its Gaussian: mean u, mean v, slope, 1/σ_v, 1/σ_u|v, opacity.

    This is the Cholesky form of the 2D Gaussian: first v with its own spread, then u given v, whose mean moves along
    ``slope`` = cov_uv / cov_vv and whose spread is what is left. Unlike the usual conic it is a sum of squares, so a
    needle lying across the picture loses no digits in float32.
    """
    uu, uv, vv = flat.covariances.unbind(1)
    slope = uv / vv
    return torch.stack([*flat.means.unbind(1), slope, vv.rsqrt(), (uu - slope * uv).rsqrt(), flat.opacities], 1)


def _expand(counts: Tensor) -> tuple[Tensor, Tensor]:
    """counts [K] -> (owner, position) of sum(counts) items: owner 0,0,0,1,1… and position 0,1,2,0,1…"""
    owner = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
    first = counts.cumsum(0) - counts
    return owner, torch.arange(len(owner), device=counts.device) - first[owner]


def _spans(ellipses: Tensor, camera: Camera) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Runs of pixels that a Gaussian covers in one row: (Gaussian, row, first column, length), each [S]."""
    mean_u, mean_v, slope, inv_v, inv_u, opacity = ellipses.unbind(1)
    reach = (2 * (opacity / ALPHA_MIN).log()).clamp_min(0)  # alpha ≥ 1/255 where the squared distance is at most this
    half = reach.sqrt() / inv_v
    top = (mean_v - half - 0.5).ceil().clamp(0, camera.height)
    bottom = (mean_v + half - 0.5).floor().clamp(-1, camera.height - 1)
    who, step = _expand((bottom - top + 1).clamp_min(0).long())
    row = top[who].long() + step
    dv = row + 0.5 - mean_v[who]
    half = (reach[who] - (dv * inv_v[who]) ** 2).clamp_min(0).sqrt() / inv_u[who] + 1e-3  # a hair wider; alpha decides
    middle = mean_u[who] + slope[who] * dv
    left = (middle - half - 0.5).ceil().clamp(0, camera.width).long()
    right = (middle + half - 0.5).floor().clamp(-1, camera.width - 1).long()
    some = right >= left
    return who[some], row[some], left[some], (right - left + 1)[some]


@dataclass
class Pairs:
    """M (pixel, Gaussian) pairs of one band of rows, sorted by pixel and, within a pixel, from near to far."""

    who: Tensor  # [M] int64, index into Projected
    pixel: Tensor  # [M] int64, row * W + column


def list_pairs(ellipses: Tensor, camera: Camera, max_pairs: int = MAX_PAIRS):
    """Yield Pairs for one band of rows after another, each of at most ``max_pairs`` (or one row)."""
    who, row, left, length = _spans(ellipses, camera)
    if not len(who):
        return
    total = int(length.sum())
    bands = [slice(None)]
    if total > max_pairs:
        per_row = torch.zeros(camera.height, dtype=torch.int64, device=row.device).index_add_(0, row, length)
        band_of_row = (per_row.cumsum(0) - 1).clamp_min(0) // max_pairs
        band = band_of_row[row]
        bands = [torch.nonzero(band == b).squeeze(1) for b in band.unique()]
    for chosen in bands:
        owner, step = _expand(length[chosen])
        pixel = (row[chosen] * camera.width + left[chosen])[owner] + step
        # Gaussians are already in depth order, so a stable sort by pixel alone finishes the job. int32 keys sort
        # fastest.
        pixel, order = pixel.int().sort(stable=True)
        yield Pairs(who[chosen][owner[order]], pixel.long())


def _weights(cloud: Gaussians, camera: Camera, near: float):
    """Yield (weights [M], Gaussian [M], pixel [M]) band by band; weights are differentiable in the Gaussians."""
    cloud.check()
    flat = project(cloud, camera, near)
    ellipses = _ellipses(flat)
    drawn = ellipses.to(cloud.means.dtype)
    for pairs in list_pairs(ellipses.detach(), camera):
        weights, keep = PairWeights.apply(drawn, pairs.who, pairs.pixel, camera.width)
        yield weights, flat.index[pairs.who[keep]], pairs.pixel[keep]


def view_matrix(
    cloud: Gaussians,
    camera: Camera,
    *,
    differentiable: bool = False,
    near: float = NEAR,  # metres
) -> Tensor:  # sparse [H*W, N]
    """The blending weights of every pixel: ``W[pixel, n]`` = alpha of Gaussian n there, times what the nearer ones
    let through.

    Row sums are opacities in 0..1. The result is sparse CSR without gradient, for products of any width (the
    transpose is ``W.t()``; torch has no ``W.T`` for CSR); with
    ``differentiable=True`` it is sparse COO and ``W @ values`` passes gradients to means, quats, scales and
    opacities too. Raises ValueError for a camera or a cloud that their ``check`` refuses.
    """
    shape = (camera.height * camera.width, len(cloud))
    with torch.set_grad_enabled(differentiable and torch.is_grad_enabled()):
        bands = list(_weights(cloud, camera, near))
    empty = torch.zeros(0, dtype=torch.int64, device=cloud.means.device)
    weights = torch.cat([b[0] for b in bands]) if bands else cloud.means.new_zeros(0)
    who = torch.cat([b[1] for b in bands]) if bands else empty
    pixel = torch.cat([b[2] for b in bands]) if bands else empty
    quiet_sparse()
    if differentiable:
        # Not marked as coalesced: within a pixel the pairs stand in depth order, not in column order.
        return torch.sparse_coo_tensor(torch.stack([pixel, who]), weights, shape)
    return torch.sparse_csr_tensor(_row_starts(pixel, shape[0]), who, weights, shape)


def _row_starts(pixel: Tensor, rows: int) -> Tensor:  # [rows + 1]
    return torch.searchsorted(pixel, torch.arange(rows + 1, device=pixel.device))


def render(
    cloud: Gaussians,
    camera: Camera,
    values: Tensor | None = None,  # [N, C]; the colors when left out
    *,
    background: Tensor | None = None,  # [C], seen where the opacity is below 1
    near: float = NEAR,  # metres
) -> tuple[Tensor, Tensor]:  # [H, W, C], [H, W]
    """``W @ values`` as a picture, and the opacity of each pixel. Differentiable in the Gaussians and in the values.

    To keep the gradient of values away from the geometry, as FiT3D does with features, pass ``cloud.detach()``.
    Raises ValueError when ``values`` does not have one row per Gaussian.
    """
    values = cloud.colors if values is None else values
    if values.ndim != 2 or len(values) != len(cloud):
        raise ValueError(f"values must be [N, C] with N = {len(cloud)} Gaussians, got {list(values.shape)}.")
    pixels = camera.height * camera.width
    ones = values.new_ones(len(cloud), 1)
    image = torch.zeros(pixels, values.shape[1] + 1, dtype=values.dtype, device=values.device)
    for weights, who, pixel in _weights(cloud, camera, near):
        # Opacity is one more channel, of ones.
        image = image + Composite.apply(weights, who, pixel, pixels, torch.cat([values, ones], 1))
    image, alpha = image[:, :-1], image[:, -1]
    if background is not None:
        image = image + (1 - alpha).unsqueeze(1) * background
    return image.reshape(camera.height, camera.width, -1), alpha.reshape(camera.height, camera.width)
