"""How alike two pictures are: PSNR in decibels, and the structural similarity SSIM. And whether two backends draw alike."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from ..scenes.camera import Camera
from ..scenes.scene import Scene
from .gaussians import Gaussians
from .splat import render

WINDOW = 11  # pixels a side of SSIM's window


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
    rows, columns = (_window(n).to(a) for n in a.shape[-2:])
    # The window is separable, so one matrix blurs the rows and one the columns; on a CPU that beats convolutions of
    # one channel.
    mean_a, mean_b, aa, bb, ab = rows @ torch.stack([a, b, a * a, b * b, a * b]) @ columns.T
    covariance, variances = ab - mean_a * mean_b, aa - mean_a**2 + bb - mean_b**2
    top = (2 * mean_a * mean_b + 0.01**2) * (2 * covariance + 0.03**2)
    return (top / ((mean_a**2 + mean_b**2 + 0.01**2) * (variances + 0.03**2))).mean()


@functools.cache
def _window(size: int) -> Tensor:  # [size - 10, size]
    """Row r holds the 11 weights of SSIM's Gaussian window around pixel r + 5."""
    middle = WINDOW // 2
    offset = torch.arange(size)[None, :] - torch.arange(size - WINDOW + 1)[:, None] - middle
    weights = torch.exp(-0.5 * (offset / 1.5) ** 2) * (offset.abs() <= middle)
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
def photo_psnr(cloud: Gaussians, scene: Scene) -> list[float]:
    """PSNR in dB of each photo of ``scene`` against its render."""
    return [psnr(render(cloud, v.camera)[0].clamp(0, 1).permute(2, 0, 1), v.image) for v in scene]

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
