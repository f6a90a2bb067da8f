"""How alike two pictures are: PSNR in decibels, and the structural similarity SSIM. And whether two backends draw alike."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

from ..scenes.camera import Camera
from ..scenes.scene import Scene, View
from .gaussians import Gaussians
from .splat import render

WINDOW = 11  # pixels a side of SSIM's window
MARGIN = WINDOW - 1  # pixels of a line that no window is centered on


def ssim(
    a: Tensor,  # [3, H, W] in 0..1
    b: Tensor,  # [3, H, W]
) -> Tensor:  # []
    """Mean structural similarity with an 11 × 11 Gaussian window of σ = 1.5 (Wang et al. 2004). Borders are left out.

    Raises ValueError for pictures of two sizes or under 11 × 11.
    """
    if a.shape != b.shape or min(a.shape[-2:]) < WINDOW:
        raise ValueError(
            f"ssim needs two pictures of one size, at least {WINDOW}×{WINDOW}; got {list(a.shape)} and {list(b.shape)}."
        )
    blocks = [_blocks(n, a) for n in a.shape[1:]]
    mean_a, aa, ab = _Blur.apply(torch.cat([a, a * a, a * b]), *blocks).chunk(3)
    mean_b, bb = _Blur.apply(torch.cat([b, b * b]), *blocks).chunk(2)  # apart, since a photo needs no gradient
    covariance, variances = ab - mean_a * mean_b, aa - mean_a**2 + bb - mean_b**2
    top = (2 * mean_a * mean_b + 0.01**2) * (2 * covariance + 0.03**2)
    return (top / ((mean_a**2 + mean_b**2 + 0.01**2) * (variances + 0.03**2))).mean()


class _Blur(torch.autograd.Function):
    """SSIM's window over [M, H, W] -> [M, H - 10, W - 10].

    The window is separable, so a matrix blurs the rows and another the columns; on a CPU that beats convolutions of one
    channel. It is cut in blocks along its diagonal, since a whole one would be almost all zeros.
    """

    @staticmethod
    def forward(ctx, x, rows, columns):
        ctx.rows, ctx.columns = rows, columns
        m, h, w = x.shape
        half, out = x.new_empty(m, h - MARGIN, w), x.new_empty(m, h - MARGIN, w - MARGIN)
        for i, window in rows:
            half[:, i : i + len(window)] = window @ x[:, i : i + len(window) + MARGIN]
        for i, window in columns:
            out[..., i : i + len(window)] = half[..., i : i + len(window) + MARGIN] @ window.T
        return out

    @staticmethod
    def backward(ctx, grad):
        m, h, w = grad.shape
        half, out = grad.new_zeros(m, h, w + MARGIN), grad.new_zeros(m, h + MARGIN, w + MARGIN)
        for i, window in ctx.columns:
            half[..., i : i + len(window) + MARGIN] += grad[..., i : i + len(window)] @ window
        for i, window in ctx.rows:
            out[:, i : i + len(window) + MARGIN] += window.T @ half[:, i : i + len(window)]
        return out, None, None


def _blocks(size: int, x: Tensor) -> list[tuple[int, Tensor]]:
    """Where each block starts, and its window; for one side of a picture. A GPU gets one block: it minds starting a
    kernel more than multiplying with zeros."""
    count = size - MARGIN
    step = count if x.is_cuda else 48
    return [(i, _window(min(step, count - i)).to(x)) for i in range(0, count, step)]


@functools.cache
def _window(size: int) -> Tensor:  # [size, size + 10]
    """Row r holds the 11 weights of SSIM's Gaussian window around r + 5."""
    offset = torch.arange(size + MARGIN)[None, :] - torch.arange(size)[:, None] - WINDOW // 2
    weights = torch.exp(-0.5 * (offset / 1.5) ** 2) * (offset.abs() <= WINDOW // 2)
    return weights / weights.sum(1, keepdim=True)


def psnr(
    a: Tensor,  # any shape, 0..1
    b: Tensor,
) -> float:
    """Peak signal-to-noise ratio in dB of pictures in 0..1. Raises ValueError for pictures of two sizes."""
    if a.shape != b.shape:
        raise ValueError(f"psnr needs two pictures of one size, got {list(a.shape)} and {list(b.shape)}.")
    return float(decibels(a, b))


def decibels(a: Tensor, b: Tensor) -> Tensor:  # []
    """:func:`psnr` as a tensor, which a GPU need not be waited for."""
    return -10 * torch.log10(((a - b) ** 2).mean().clamp_min(1e-12))


@torch.no_grad()
def as_photo(cloud: Gaussians, view: View, exposure: str | None = None) -> Tensor:  # [3, H, W] in 0..1
    """What a view's camera sees of the Gaussians; with ``exposure="affine"`` brought to the photo's exposure by the 3×4
    matrix of colors that comes closest to it (least squares), and the photo itself where its mask counts nothing."""
    image = render(cloud, view.camera)[0].permute(2, 0, 1)
    counts = torch.ones_like(image[0], dtype=torch.bool) if view.mask is None else view.mask
    if exposure == "affine":
        image = image.clamp(0, 1)
        rows = F.pad(image[:, counts].T.double(), (0, 1), value=1.0)
        change = torch.linalg.lstsq(rows, view.image[:, counts].T.double()).solution.to(image)
        image = torch.einsum("chw,cd->dhw", image, change[:3]) + change[3, :, None, None]
    elif exposure is not None:
        raise ValueError(f'exposure is "affine" or None, got {exposure!r}.')
    return torch.where(counts, image.clamp(0, 1), view.image)


def photo_psnr(cloud: Gaussians, scene: Scene, exposure: str | None = None) -> list[float]:
    """PSNR in dB of each photo of ``scene``, where it counts, against its render; ``exposure``: see :func:`as_photo`."""
    pairs = ((as_photo(cloud, view, exposure), view) for view in scene)
    return [psnr(*(p if v.mask is None else p[:, v.mask] for p in (image, v.image))) for image, v in pairs]


def photo_ssim(cloud: Gaussians, scene: Scene, exposure: str | None = None) -> list[float]:
    """SSIM of each photo of ``scene`` against its render."""
    return [float(ssim(as_photo(cloud, view, exposure), view.image)) for view in scene]


def sharpness(images: Tensor) -> Tensor:  # [V, 3, H, W] -> [V]
    """Variance of the Laplacian of the grey photo: small where it is blurred, or where there is nothing to see."""
    kernel = images.new_tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]])[None, None]
    return F.conv2d(images.mean(1, keepdim=True), kernel).flatten(1).var(1)


def sharp_photos(scene: Scene, least: float) -> Scene:
    """The photos that are at least ``least`` times as sharp as the median of two neighbors on each side, which show
    nearly the same. Raises ValueError when none is left."""
    if not least or len(scene) < 3:
        return scene
    sharp, last = sharpness(scene.images), len(scene)
    near = [[j for j in range(max(0, i - 2), min(last, i + 3)) if j != i] for i in range(last)]
    kept = [i for i in range(last) if sharp[i] >= least * sharp[near[i]].median()]
    if not kept:
        raise ValueError(f"all {last} photos are less than {least:g} times as sharp as their neighbors: lower drop_blurred.")
    return scene if len(kept) == last else scene[kept]


@torch.inference_mode(False)  # whatever mode the first picture is drawn in, here gradients are taken
@torch.enable_grad()
def disagreement(name: str, device: torch.device) -> float:
    """Largest relative difference of a backend from torch's way in the picture and in every gradient of a small cloud."""
    generator = torch.Generator().manual_seed(0)
    count = 60
    cloud = [
        torch.rand(count, 3, generator=generator) * 2 - 1,
        torch.randn(count, 4, generator=generator),
        0.05 + 0.2 * torch.rand(count, 3, generator=generator),
        0.2 + 0.6 * torch.rand(count, generator=generator),
        torch.rand(count, 3, generator=generator),
    ]
    camera = Camera.look_at((0.2, -3.0, 0.3), (0, 0, 0), width=21, height=18)
    push = torch.randn(18, 21, 3, generator=generator).to(device)
    found = []
    for backend in ("torch", name):
        leaves = [part.to(device, copy=True).requires_grad_() for part in cloud]
        image, alpha = render(Gaussians(*leaves), camera, backend=backend)
        ((image * push).sum() + (alpha * push[..., 0]).sum()).backward()
        found.append([image.detach(), alpha.detach(), *(leaf.grad for leaf in leaves)])
    differences = [(a - b).norm() / a.norm() for a, b in zip(*found, strict=True)]
    return float(torch.stack(differences).max())  # not Python's max, which would pass over a NaN
