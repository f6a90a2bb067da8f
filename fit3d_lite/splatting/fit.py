"""Photos to Gaussians: gradient descent on position, rotation, scale, opacity and colour (3D Gaussian Splatting,
sections 4 to 6).

A small version of 3DGS training that starts from a good guess (depth maps or points) instead of from nothing:

* loss 0.8 · L1 + 0.2 · (1 − SSIM) on one photo a step;
* Adam on the raw values (logarithms of scales, logits of opacities, spherical-harmonic colours) with 3DGS's learning
  rates, all of them times ``lr_scale``: we take hundreds of steps where 3DGS takes 30,000;
* every ``refine_every`` steps Gaussians are dropped and added, by splitting (densify.py) or by moving them like samples
  (mcmc.py). The number never passes ``max_count``.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from ..base.readings import read
from ..scenes.scene import Scene
from . import backend as backends
from . import mcmc
from .densify import Split
from .gaussians import SH0, Gaussians
from .ply import stored
from .splat import render

# 3DGS's learning rates; that of the means is per metre of scene extent and falls to a hundredth of it.
RATES = {"means": 1.6e-4, "quats": 1e-3, "scales": 5e-3, "opacities": 5e-2, "colors": 2.5e-3}
REFINED = 0.8  # share of the steps after which the number of Gaussians stays, so that all have time to settle


def ssim(
    a: Tensor,  # [3, H, W] in 0..1
    b: Tensor,  # [3, H, W]
) -> Tensor:
    """Mean structural similarity with an 11 × 11 Gaussian window of σ = 1.5 (Wang et al. 2004). Borders are left
    out.
    """
    if a.shape != b.shape or min(a.shape[-2:]) < 11:
        raise ValueError(
            f"ssim needs two pictures of one size, at least 11×11; got {list(a.shape)} and {list(b.shape)}."
        )
    rows, columns = (_window(n).to(a) for n in a.shape[-2:])
    # The window is separable, so one matrix blurs the rows and one the columns; on a CPU that beats convolutions of
    # one channel.
    stack = rows @ torch.stack([a, b, a * a, b * b, a * b]) @ columns.T
    mean_a, mean_b, aa, bb, ab = stack
    covariance, variances = ab - mean_a * mean_b, aa - mean_a**2 + bb - mean_b**2
    top = (2 * mean_a * mean_b + 0.01**2) * (2 * covariance + 0.03**2)
    return (top / ((mean_a**2 + mean_b**2 + 0.01**2) * (variances + 0.03**2))).mean()


@functools.cache
def _window(size: int) -> Tensor:  # [size - 10, size]
    """Row r holds the 11 weights of SSIM's Gaussian window around pixel r + 5."""
    offset = torch.arange(size)[None, :] - torch.arange(size - 10)[:, None] - 5
    weights = torch.exp(-0.5 * (offset / 1.5) ** 2) * (offset.abs() <= 5)
    return weights / weights.sum(1, keepdim=True)


def psnr(
    a: Tensor,  # any shape, 0..1
    b: Tensor,
) -> float:
    """Peak signal-to-noise ratio in dB of pictures in 0..1."""
    if a.shape != b.shape:
        raise ValueError(f"psnr needs two pictures of one size, got {list(a.shape)} and {list(b.shape)}.")
    return float(_psnr(a, b))


def _psnr(a: Tensor, b: Tensor) -> Tensor:  # []
    return -10 * torch.log10(((a - b) ** 2).mean().clamp_min(1e-12))


@torch.no_grad()
def photo_psnr(cloud: Gaussians, scene: Scene) -> list[float]:
    """PSNR in dB of each photo of ``scene`` against its render."""
    return [psnr(render(cloud, v.camera)[0].clamp(0, 1).permute(2, 0, 1), v.image) for v in scene]


def _raw(cloud: Gaussians) -> dict[str, torch.nn.Parameter]:
    values = {
        "means": cloud.means,
        "quats": F.normalize(cloud.quats, dim=1),
        "scales": cloud.scales.log(),
        "opacities": torch.logit(cloud.opacities.clamp(1e-4, 1 - 1e-4)),
        "colors": (cloud.colors - 0.5) / SH0,
    }
    return {name: torch.nn.Parameter(value.detach().clone()) for name, value in values.items()}


def _activated(raw: dict[str, Tensor]) -> Gaussians:
    return Gaussians(
        raw["means"],
        raw["quats"],
        raw["scales"].exp(),
        raw["opacities"].sigmoid(),
        (raw["colors"] * SH0 + 0.5).clamp_min(0),
    )


def fit(
    cloud: Gaussians,
    scene: Scene,
    steps: int = 300,
    *,
    lr_scale: float = 4.0,
    refine_every: int = 60,
    split_share: float = 0.05,
    max_count: int | None = None,
    densify: str = "split",
    backend: str = "auto",
    seed: int = 0,
    history: list | None = None,
    progress: bool = True,
) -> Gaussians:
    """Gaussians that look more like the photos of ``scene`` than ``cloud`` did. ``cloud`` itself is not changed.

    ``split_share`` of the Gaussians are split at each refinement, up to ``max_count`` (default 1.3 times the start);
    0 keeps the number. ``densify="mcmc"`` relocates, adds (5 % at a time, or none when ``split_share`` is 0) and jitters
    instead, under the same cap. ``backend`` is :func:`render`'s. ``history`` receives one dict a step: step, loss, psnr
    in dB of that step's photo, count. Interrupting keeps what has been reached, and calling again goes on from there.
    Raises ValueError for steps < 0, an unknown ``densify`` or backend, an empty cloud or photos under 11×11.
    """
    if densify not in ("split", "mcmc"):
        raise ValueError(f'densify must be "split" or "mcmc", got {densify!r}.')
    if steps < 0 or lr_scale <= 0 or refine_every < 1 or not 0 <= split_share < 1:
        raise ValueError(
            f"Need steps ≥ 0, lr_scale > 0, refine_every ≥ 1, 0 ≤ split_share < 1; "
            f"got {steps}, {lr_scale}, {refine_every}, {split_share}."
        )
    if not len(cloud):
        raise ValueError("There are no Gaussians to fit; start from Gaussians.from_depth or from_points.")
    if min(scene.height, scene.width) < 11:
        raise ValueError(f"SSIM needs photos of at least 11×11, got {scene.height}×{scene.width}.")
    cloud.check()
    cloud = cloud.to(scene.images.device)
    generator = torch.Generator().manual_seed(seed)
    max_count = int(1.3 * len(cloud)) if max_count is None else max_count
    if densify == "split":
        shaping = Split(len(cloud), max_count, split_share, refine_every, REFINED * steps)
    else:
        cap = max_count if split_share else len(cloud)
        shaping = mcmc.strategy(backends.choose(backend, cloud), cap, refine_every, REFINED * steps, seed)
    extent = _extent(scene)
    raw = _raw(cloud)
    rates = {n: r * lr_scale * (extent if n == "means" else 1) for n, r in RATES.items()}
    optimizers = {n: torch.optim.Adam([p], lr=rates[n], eps=1e-15) for n, p in raw.items()}
    order: list[int] = []
    bar = tqdm(range(steps), desc="fitting photos", disable=not progress)
    try:
        for step in bar:
            whole = dict(raw)  # an interrupt may fall between two parameters of a refinement
            order = order or torch.randperm(len(scene), generator=generator).tolist()
            view = scene[order.pop()]
            drawn = _activated(raw)
            image, _ = render(drawn, view.camera, backend=backend)
            image = image.permute(2, 0, 1)
            l1 = (image - view.image).abs().mean()
            loss = 0.8 * l1 + 0.2 * (1 - ssim(image, view.image)) + shaping.penalty(drawn)
            rate = rates["means"] * 0.01 ** (step / max(steps, 1))
            optimizers["means"].param_groups[0]["lr"] = rate
            for optimizer in optimizers.values():
                optimizer.zero_grad(set_to_none=True)
            if not image.requires_grad:
                continue  # a camera that sees no Gaussian teaches nothing
            loss.backward()
            shaping.see_gradient(raw)
            for optimizer in optimizers.values():
                optimizer.step()
            if history is not None:
                history.append(
                    {
                        "step": step,
                        "loss": loss.detach(),
                        "psnr": _psnr(image.detach().clamp(0, 1), view.image),
                        "count": len(raw["means"]),
                    }
                )
            shaping.after_step(raw, optimizers, step + 1, rate)
            if step % 10 == 0:
                bar.set_postfix(loss=f"{loss.item():.3f}", gaussians=len(raw["means"]))
    except KeyboardInterrupt:
        raw = whole
        print(f"Stopped after {step} of {steps} steps; what is reached is kept.")
    finally:
        read(history or [])  # at once: on a GPU each number that is asked for makes the CPU wait
    with torch.no_grad():
        fitted = _activated(raw)
        fitted = Gaussians(
            *(getattr(fitted, n).detach() for n in ("means", "quats", "scales", "opacities")), fitted.colors.clamp(0, 1)
        )
    return stored(fitted)


def _extent(scene: Scene) -> float:
    """3DGS's measure of a scene: 1.1 times the largest distance of a camera from the mean camera, but at least a
    metre.
    """
    centers = torch.stack([c.center for c in scene.cameras])
    return max(1.0, 1.1 * float((centers - centers.mean(0)).norm(dim=1).max()))
