"""Photos to Gaussians: gradient descent on position, rotation, scale, opacity and color (3D Gaussian Splatting,
sections 4 to 6).

A small version of 3DGS training that starts from a good guess (depth maps or points) instead of from nothing:

* loss 0.8 · L1 + 0.2 · (1 − SSIM) on one photo a step;
* Adam on the raw values (logarithms of scales, logits of opacities, spherical-harmonic colors) with 3DGS's learning
  rates, all of them times ``lr_scale``: we take hundreds of steps where 3DGS takes 30,000;
* every ``refine_every`` steps the faintest Gaussians are dropped and some are split. The number never passes
  ``max_count``.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from ..base.history import to_floats
from ..scenes.scene import Scene
from .gaussians import SH0, Gaussians, rotation_matrices
from .ply import stored
from .quality import WINDOW, decibels, ssim
from .splat import render

# 3DGS's learning rates; that of the means is per metre of scene extent and falls to a hundredth of it.
RATES = {"means": 1.6e-4, "quats": 1e-3, "scales": 5e-3, "opacities": 5e-2, "colors": 2.5e-3}
FAINT = 0.02  # opacity under which a Gaussian is dropped
REFINED = 0.8  # share of the steps after which the number of Gaussians stays, so that all have time to settle


@torch.inference_mode(False)
@torch.enable_grad()  # a cell under no_grad wants a fitted cloud all the same
def fit(
    cloud: Gaussians,
    scene: Scene,
    steps: int = 300,
    *,
    lr_scale: float = 4.0,
    refine_every: int = 60,
    split_share: float = 0.05,
    max_count: int | None = None,
    backend: str = "auto",
    seed: int = 0,
    history: list | None = None,
    progress: bool = True,
) -> Gaussians:
    """Gaussians that look more like the photos of ``scene`` than ``cloud`` did. ``cloud`` itself is not changed.

    ``split_share`` of the Gaussians are split at each refinement, up to ``max_count`` (default 1.3 times the start);
    0 keeps the number. ``backend`` is :func:`render`'s. ``history`` receives one dict a step: step, loss, psnr in dB of
    that step's photo, count. Interrupting keeps what has been reached, and calling again goes on from there. Raises
    ValueError for steps < 0, an unknown backend, an empty cloud or photos under 11×11.
    """
    if steps < 0 or lr_scale <= 0 or refine_every < 1 or not 0 <= split_share < 1:
        raise ValueError(
            f"Need steps ≥ 0, lr_scale > 0, refine_every ≥ 1, 0 ≤ split_share < 1; "
            f"got {steps}, {lr_scale}, {refine_every}, {split_share}."
        )
    if not len(cloud):
        raise ValueError("There are no Gaussians to fit; start from Gaussians.from_depth or from_points.")
    if min(scene.height, scene.width) < WINDOW:
        raise ValueError(f"SSIM needs photos of at least {WINDOW}×{WINDOW}, got {scene.height}×{scene.width}.")
    cloud.check()
    cloud = cloud.to(scene.images.device)
    generator = torch.Generator().manual_seed(seed)
    densifier = Densifier(len(cloud), split_share, int(1.3 * len(cloud)) if max_count is None else max_count)
    raw = _raw(cloud)
    rates = {name: rate * lr_scale * (_extent(scene) if name == "means" else 1) for name, rate in RATES.items()}
    groups = [{"name": name, "params": [parameter], "lr": rates[name]} for name, parameter in raw.items()]
    optimizer = torch.optim.Adam(groups, eps=1e-15, fused=True)  # one pass over each parameter, not ten
    (of_means,) = (group for group in optimizer.param_groups if group["name"] == "means")
    order: list[int] = []
    bar = tqdm(range(steps), desc="fitting photos", disable=not progress)
    try:
        for step in bar:
            whole = dict(raw)  # an interrupt may fall between two parameters of a refinement
            order = order or torch.randperm(len(scene), generator=generator).tolist()
            view = scene[order.pop()]
            image, _ = render(_activated(raw), view.camera, backend=backend)
            if not image.requires_grad:
                continue  # a camera that sees no Gaussian teaches nothing
            image = image.permute(2, 0, 1)
            loss = 0.8 * (image - view.image).abs().mean() + 0.2 * (1 - ssim(image, view.image))
            of_means["lr"] = rates["means"] * 0.01 ** (step / steps)
            optimizer.zero_grad()
            loss.backward()
            densifier.watch(raw["means"])
            optimizer.step()
            if history is not None:
                quality = decibels(image.detach().clamp(0, 1), view.image)
                history.append({"step": step, "loss": loss.detach(), "psnr": quality, "count": len(raw["means"])})
            if (step + 1) % refine_every == 0 and step + 1 < REFINED * steps:
                densifier.refine(raw, optimizer)
            if step % 10 == 0:
                bar.set_postfix(loss=f"{loss.item():.3f}", gaussians=len(raw["means"]))
    except KeyboardInterrupt:
        raw = whole
        print(f"Stopped after {step} of {steps} steps; what is reached is kept.")
    finally:
        to_floats(history or [])  # at once: on a GPU each number that is asked for makes the CPU wait
    with torch.no_grad():
        return stored(_activated(raw, brightest=1))


def _raw(cloud: Gaussians) -> dict[str, torch.nn.Parameter]:
    """What Adam works on: numbers that may take any value."""
    values = {
        "means": cloud.means,
        "quats": F.normalize(cloud.quats, dim=1),
        "scales": cloud.scales.log(),
        "opacities": torch.logit(cloud.opacities.clamp(1e-4, 1 - 1e-4)),
        "colors": (cloud.colors - 0.5) / SH0,
    }
    return {name: torch.nn.Parameter(value.detach().clone()) for name, value in values.items()}


def _activated(raw: dict[str, Tensor], brightest: float | None = None) -> Gaussians:
    """Back to what is drawn. While colors are fitted they may pass 1, so that a photo can still pull them back."""
    colors = (raw["colors"] * SH0 + 0.5).clamp(0, brightest)
    return Gaussians(raw["means"], raw["quats"], raw["scales"].exp(), raw["opacities"].sigmoid(), colors)


def _extent(scene: Scene) -> float:
    """3DGS's measure of a scene: 1.1 times the largest distance of a camera from the mean camera, but at least a
    metre.
    """
    centers = torch.stack([c.center for c in scene.cameras])
    return max(1.0, 1.1 * float((centers - centers.mean(0)).norm(dim=1).max()))


class Densifier:
    """Where Gaussians are added and dropped: 3DGS's adaptive density control (section 5.2).

    What is almost invisible is dropped. What pulls hardest on its position is split in two along its longest axis: a
    strong pull is the sign of detail that one Gaussian cannot show.
    """

    def __init__(self, count: int, share: float, max_count: int):
        self.share, self.max_count = share, max_count
        self.pull = torch.zeros(count, 2)  # summed length of the position's gradient, times seen

    def watch(self, means: Tensor) -> None:
        """After each backward pass."""
        strength = means.grad.norm(dim=1)
        self.pull = self.pull.to(strength.device)
        self.pull += torch.stack([strength, (strength > 0).float()], 1)

    @torch.no_grad()
    def refine(self, raw: dict[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
        """Drop the faint and split ``share`` of the rest, up to ``max_count``. Changes ``raw`` and ``optimizer``, one
        group of which holds each of ``raw``'s parameters by its name."""
        keep = torch.nonzero(raw["opacities"].sigmoid() > FAINT).squeeze(1)
        room = max(0, min(math.ceil(self.share * len(keep)), self.max_count - len(keep)))
        mean_pull = (self.pull[:, 0] / self.pull[:, 1].clamp_min(1))[keep]
        parents = keep[mean_pull.topk(room).indices]
        index = torch.cat([keep, parents])

        first = torch.searchsorted(keep, parents)  # one child takes its parent's row, the other a new one at the end
        second = torch.arange(len(keep), len(index), device=first.device)
        axis = raw["scales"][parents].argmax(1)
        length = raw["scales"][parents].exp().gather(1, axis[:, None])
        along = rotation_matrices(raw["quats"][parents]).gather(2, axis[:, None, None].expand(-1, 3, 1)).squeeze(2)
        values = {name: old[index].clone() for name, old in raw.items()}
        # The children sit half a standard deviation to either side and are shorter, so that together they cover what
        # the parent covered.
        for rows, side in ((first, -0.5), (second, 0.5)):
            values["means"][rows] += side * length * along
            values["scales"][rows, axis] += math.log(0.7)

        for group in optimizer.param_groups:  # Adam's memory follows its Gaussian
            old, new = raw[group["name"]], torch.nn.Parameter(values[group["name"]])
            memory = optimizer.state.pop(old, {})
            optimizer.state[new] = {k: v[index] if v.shape == old.shape else v for k, v in memory.items()}
            group["params"], raw[group["name"]] = [new], new
        self.pull = self.pull.new_zeros(len(index), 2)
