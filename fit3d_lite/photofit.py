"""Photos to Gaussians: gradient descent on position, rotation, scale, opacity and colour (3D Gaussian Splatting,
sections 4 to 6).

A small version of 3DGS training that starts from a good guess (depth maps or points) instead of from nothing:

* loss 0.8 · L1 + 0.2 · (1 − SSIM) on one photo a step;
* Adam on the raw values (logarithms of scales, logits of opacities, spherical-harmonic colours) with 3DGS's learning
  rates, all of them times ``lr_scale``: we take hundreds of steps where 3DGS takes 30,000;
* every ``refine_every`` steps, Gaussians that have become almost invisible are dropped and those that pull hardest
  on their position, the sign of detail that one Gaussian cannot show, are split in two along their longest axis. The
  number never passes ``max_count``.
"""

from __future__ import annotations

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from .gaussians import SH0, Gaussians, rotation_matrices
from .ply import stored
from .scene import Scene
from .splat import render

# 3DGS's learning rates; that of the means is per metre of scene extent and falls to a hundredth of it.
RATES = {"means": 1.6e-4, "quats": 1e-3, "scales": 5e-3, "opacities": 5e-2, "colors": 2.5e-3}
FAINT = 0.02  # opacity under which a Gaussian is dropped


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
    return float(-10 * torch.log10(((a - b) ** 2).mean().clamp_min(1e-12)))


@torch.no_grad()
def photo_psnr(cloud: Gaussians, scene: Scene) -> list[float]:
    """PSNR in dB of each photo of ``scene`` against its render."""
    return [psnr(render(cloud, v.camera)[0].clamp(0, 1).permute(2, 0, 1), v.image) for v in scene]


def _raw(cloud: Gaussians) -> dict[str, Tensor]:
    values = {
        "means": cloud.means,
        "quats": F.normalize(cloud.quats, dim=1),
        "scales": cloud.scales.log(),
        "opacities": torch.logit(cloud.opacities.clamp(1e-4, 1 - 1e-4)),
        "colors": (cloud.colors - 0.5) / SH0,
    }
    return {name: value.detach().clone().requires_grad_() for name, value in values.items()}


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
    seed: int = 0,
    history: list | None = None,
    progress: bool = True,
) -> Gaussians:
    """Gaussians that look more like the photos of ``scene`` than ``cloud`` did. ``cloud`` itself is not changed.

    ``split_share`` of the Gaussians are split at each refinement, up to ``max_count`` (default 1.3 times the start);
    0 keeps the number. ``history`` receives one dict a step: step, loss, psnr in dB of that step's photo, count.
    Interrupting keeps what has been reached, and calling again goes on from there. Raises ValueError for steps < 0,
    an empty cloud or photos under 11×11.
    """
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
    extent = _extent(scene)
    raw = _raw(cloud)
    rates = {n: r * lr_scale * (extent if n == "means" else 1) for n, r in RATES.items()}
    optimizer = torch.optim.Adam([{"params": [p], "lr": rates[n], "name": n} for n, p in raw.items()], eps=1e-15)
    pull = torch.zeros(len(cloud), 2, device=cloud.means.device)  # summed position gradient, times seen
    order: list[int] = []
    bar = tqdm(range(steps), desc="fitting photos", disable=not progress)
    try:
        for step in bar:
            order = order or torch.randperm(len(scene), generator=generator).tolist()
            view = scene[order.pop()]
            image, _ = render(_activated(raw), view.camera)
            image = image.permute(2, 0, 1)
            l1 = (image - view.image).abs().mean()
            loss = 0.8 * l1 + 0.2 * (1 - ssim(image, view.image))
            optimizer.param_groups[0]["lr"] = rates["means"] * 0.01 ** (step / max(steps, 1))
            optimizer.zero_grad(set_to_none=True)
            if not loss.requires_grad:
                continue  # a camera that sees no Gaussian teaches nothing
            loss.backward()
            strength = raw["means"].grad.norm(dim=1)
            pull += torch.stack([strength, (strength > 0).float()], 1)
            optimizer.step()
            if history is not None:
                history.append(
                    {
                        "step": step,
                        "loss": loss.item(),
                        "psnr": psnr(image.detach().clamp(0, 1), view.image),
                        "count": len(pull),
                    }
                )
            if (step + 1) % refine_every == 0 and step + 1 < 0.8 * steps:
                raw = _refine(optimizer, raw, pull, split_share, max_count)
                pull = torch.zeros(len(raw["means"]), 2, device=pull.device)
            if step % 10 == 0:
                bar.set_postfix(loss=f"{loss.item():.3f}", gaussians=len(pull))
    except KeyboardInterrupt:
        print(f"Stopped after {step} of {steps} steps; what is reached is kept.")
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


@torch.no_grad()
def _refine(optimizer, raw: dict[str, Tensor], pull: Tensor, share: float, max_count: int) -> dict[str, Tensor]:
    """Drop what is faint, split what pulls hardest; Adam's memory follows its Gaussian."""
    alive = raw["opacities"].sigmoid() > FAINT
    keep = torch.nonzero(alive).squeeze(1)
    room = max(0, min(math.ceil(share * len(keep)), max_count - len(keep)))
    mean_pull = (pull[:, 0] / pull[:, 1].clamp_min(1))[keep]
    chosen = keep[mean_pull.topk(room).indices]
    index = torch.cat([keep, chosen])

    first = torch.searchsorted(keep, chosen)  # one child takes its parent's row, the other a new one at the end
    axis = raw["scales"][chosen].argmax(1)
    length = raw["scales"][chosen].exp().gather(1, axis[:, None])
    along = rotation_matrices(raw["quats"][chosen]).gather(2, axis[:, None, None].expand(-1, 3, 1)).squeeze(2)
    new = {}
    for group in optimizer.param_groups:
        old = group["params"][0]
        value = old[index].clone()
        if group["name"] == "means":  # children sit half a standard deviation to either side
            value[first] -= 0.5 * length * along
            value[len(keep) :] += 0.5 * length * along
        if group["name"] == "scales":  # and are shorter, so that together they cover what the parent covered
            for rows in (first, torch.arange(len(keep), len(index), device=first.device)):
                value[rows, axis] += math.log(0.7)
        state = optimizer.state.pop(old)
        value.requires_grad_()
        optimizer.state[value] = {k: v[index] if v.ndim and len(v) == len(old) else v for k, v in state.items()}
        group["params"][0] = new[group["name"]] = value
    return new
