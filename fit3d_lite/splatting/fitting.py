"""Photos to Gaussians: gradient descent on position, rotation, scale, opacity and color (3D Gaussian Splatting,
sections 4 to 6).

A small version of 3DGS training that starts from a good guess (depth maps or points) instead of from nothing:

* loss 0.8 · L1 + 0.2 · (1 − SSIM) on one photo a step;
* Adam on the raw values (logarithms of scales, logits of opacities, spherical-harmonic colors) with 3DGS's learning
  rates, all of them times ``lr_scale``: we take hundreds of steps where 3DGS takes 30,000;
* every ``refine_every`` steps the faintest Gaussians are dropped and some are split (growth.py). The number never
  passes ``max_count``;
* real cameras change their exposure from photo to photo: with ``exposure="affine"`` each photo has 12 numbers of its own
  between the Gaussians' colors and its own (the per-image transform of Kerbl et al. 2024, "A Hierarchical 3D Gaussian
  Representation").
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from ..base.history import to_floats
from ..base.inputs import check_kind, check_whole
from ..base.machine import usual_torch
from ..scenes.scene import Scene, View
from .gaussians import SH0, Gaussians
from .growth import REFINED, Densifier, refinements
from .ply import stored
from .quality import WINDOW, decibels, sharp_photos, ssim
from .splat import render, view_matrix

# 3DGS's learning rates; that of the means is per unit of scene extent and falls to a hundredth of it.
RATES = {"means": 1.6e-4, "quats": 1e-3, "scales": 5e-3, "opacities": 5e-2, "colors": 2.5e-3}
EXPOSURE_RATE = 2e-3
SPLIT = 0.05  # share of the Gaussians that are split at a refinement, where the start is dense
SPARSE = 8  # pixels of a photo for one Gaussian: a start with half as few grows until it has that many


@usual_torch()  # a cell under no_grad wants a fitted cloud all the same
def fit(
    cloud: Gaussians,
    scene: Scene,
    steps: int = 300,
    *,
    lr_scale: float = 4.0,
    refine_every: int = 60,
    split_share: float | None = None,
    max_count: int | None = None,
    exposure: str | None = None,
    drop_blurred: float = 0.0,
    backend: str = "auto",
    seed: int = 0,
    history: list | None = None,
    progress: bool = True,
) -> Gaussians:
    """Gaussians that look more like the photos of ``scene`` than ``cloud`` did. ``cloud`` itself is not changed.

    Args:
        split_share: of the Gaussians, split at each refinement, those with most error first; 0 keeps the number. By
            default 0.05, and for a sparse start (points) what reaches ``max_count``.
        max_count: by default 1.3 times the start, or one Gaussian for 8 pixels of a photo where the start has less than
            half of that.
        exposure: "affine" learns a 3×4 matrix for each photo, whose mean over photos is "nothing changed"; None does not.
        drop_blurred: leave out photos that are less than this times as sharp as their neighbors: 0.6, say. 0 keeps all.
        backend: :func:`render`'s.
        history: receives one dict a step: step, loss, psnr in dB of that step's photo, count.

    Rates are relative to the scene: a scene without metres, of any size, is fitted alike. Interrupting keeps what has
    been reached, and calling again goes on from there.

    Raises ValueError for steps < 0 and other settings out of range, an unknown backend or exposure, an empty cloud,
    photos under 11×11, cameras that see none of the cloud, or when every photo is blurred.
    """
    check_kind(Gaussians, cloud=cloud)
    check_kind(Scene, scene=scene)
    check_whole(0, steps=steps, max_count=max_count, seed=seed)
    check_whole(1, refine_every=refine_every)
    if not lr_scale > 0 or not 0 <= (split_share or 0) < 1 or not 0 <= drop_blurred <= 1:
        raise ValueError(
            f"Need lr_scale > 0, 0 ≤ split_share < 1, 0 ≤ drop_blurred ≤ 1; got {lr_scale}, {split_share}, {drop_blurred}."
        )
    if exposure not in (None, "affine"):
        raise ValueError(f'exposure is "affine" or None, got {exposure!r}.')
    if not len(cloud):
        raise ValueError("There are no Gaussians to fit; start from Gaussians.from_depth or from_points.")
    if min(scene.height, scene.width) < WINDOW:
        raise ValueError(f"SSIM needs photos of at least {WINDOW}×{WINDOW}, got {scene.height}×{scene.width}.")
    cloud.check()
    scene = sharp_photos(scene, drop_blurred)
    cloud = cloud.to(scene.images.device)
    if not any(len(view_matrix(cloud, camera, backend=backend).values()) for camera in scene.cameras):
        raise ValueError(f"None of the {len(scene)} cameras sees a Gaussian: cloud and cameras are of two worlds.")
    generator = torch.Generator().manual_seed(seed)
    densifier = Densifier(len(cloud), *_growth(len(cloud), scene, steps, refine_every, split_share, max_count))
    raw = _raw(cloud)
    rates = {name: rate * lr_scale * (_extent(scene) if name == "means" else 1) for name, rate in RATES.items()}
    groups = [{"name": name, "params": [parameter], "lr": rates[name]} for name, parameter in raw.items()]
    if exposure is not None:
        exposures = _first_exposures(cloud, scene, backend).requires_grad_()
        groups.append({"name": "exposures", "params": [exposures], "lr": EXPOSURE_RATE})
    optimizer = torch.optim.Adam(groups, eps=1e-15, fused=True)  # one pass over each parameter, not ten
    (of_means,) = (group for group in optimizer.param_groups if group["name"] == "means")
    order: list[int] = []
    bar = tqdm(range(steps), desc="fitting photos", disable=not progress)
    try:
        for step in bar:
            whole = dict(raw)  # an interrupt may fall between two parameters of a refinement
            order = order or torch.randperm(len(scene), generator=generator).tolist()
            number = order.pop()
            view = scene[number]
            # One more channel, zero everywhere: the gradient of its values is the error that lies on each Gaussian.
            drawn, silent = _activated(raw), raw["opacities"].new_zeros(len(raw["means"]), 1, requires_grad=True)
            image, _ = render(drawn, view.camera, torch.cat([drawn.colors, silent], 1), backend=backend)
            if not image.requires_grad:
                continue  # a camera that sees no Gaussian teaches nothing
            image, listens = image[..., :3], image[..., 3]
            if exposure is not None:
                image = image @ exposures[number, :, :3].T + exposures[number, :, 3]
            image, photo = (where_it_counts(picture, view) for picture in (image.permute(2, 0, 1), view.image))
            error = (image - photo).abs()
            loss = 0.8 * error.mean() + 0.2 * (1 - ssim(image, photo))
            of_means["lr"] = rates["means"] * 0.01 ** (step / steps)
            optimizer.zero_grad()
            (loss + (listens * error.detach().mean(0)).sum()).backward()
            densifier.watch(silent.grad[:, 0])
            optimizer.step()
            if exposure is not None:
                with torch.no_grad():  # colors and exposures share a freedom: the mean exposure changes nothing
                    exposures -= exposures.mean(0) - torch.eye(3, 4).to(exposures)
            if history is not None:
                quality = decibels(image.detach().clamp(0, 1), photo)
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


@torch.no_grad()
def _first_exposures(cloud: Gaussians, scene: Scene, backend: str) -> Tensor:  # [V, 3, 4]
    """The gain of each photo's channels against the start, whose colors are means over photos: a photo comes up too rarely
    in hundreds of steps to find out by itself."""
    gains = []
    for view in scene:
        image, alpha = render(cloud, view.camera, backend=backend)
        covered = alpha if view.mask is None else alpha * view.mask
        gains.append((view.image * covered).sum((1, 2)) / (image * (covered > 0)[..., None]).sum((0, 1)).clamp_min(1e-6))
    gains = torch.stack(gains).clamp(0.2, 5.0)
    return F.pad(torch.diag_embed(gains / gains.log().mean(0).exp()), (0, 1)).to(cloud.means)


def where_it_counts(picture: Tensor, view: View) -> Tensor:  # [3, H, W]
    """Black where the view's mask says that a pixel does not count: no difference there, and no gradient."""
    return picture if view.mask is None else picture * view.mask


def _extent(scene: Scene) -> float:
    """3DGS's measure of a scene: 1.1 times the largest distance of a camera from the mean camera, but at least five times
    the near plane: a metre, where there are metres.
    """
    centers = torch.stack([c.center for c in scene.cameras])
    return max(5 * scene.cameras[0].near, 1.1 * float((centers - centers.mean(0)).norm(dim=1).max()))


def _growth(count: int, scene: Scene, steps: int, every: int, share: float | None, most: int | None) -> tuple[float, int]:
    """Which share of the Gaussians is split at a refinement, and how many there may be."""
    fine = scene.height * scene.width // SPARSE
    sparse = fine > 2 * count
    if most is None:
        most = fine if sparse else int(1.3 * count)
    if share is None:
        times = refinements(steps, every)
        reach = (most / count) ** (1 / times) - 1 if sparse and times else 0.0
        share = min(1.0, max(SPLIT, 1.2 * reach))  # some are dropped on the way
    return share, most
