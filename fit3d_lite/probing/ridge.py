"""What do frozen features know? A probe in closed form: seconds on a CPU, no learning rate, the same for every model.

    score = quick_probe(vit.extract, train_rooms, validation_rooms, test_rooms)     # score.miou, score.rmse

Patch features are standardised on the training rooms and mapped by ridge regression to the patch's label histogram and
to its mean depth. Hoerl and Kennard 1970 for ridge; frozen features with a linear map is the protocol of DINOv2
(arXiv 2304.07193, section 7.4). The trained probes of FiT3D are in probe.py; this one is for quick looks and for tables
with many rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..base.inputs import feature_maps
from ..scenes.scene import IGNORE, Scene
from .metrics import class_ious, confusion_matrix, mean_iou

__all__ = ["ProbeScore", "patch_targets", "quick_probe"]

STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)  # ridge penalty per patch; standardised channels make it unit-free


@dataclass(frozen=True)
class ProbeScore:
    """Result on the test scenes: mean intersection over union in 0..1, depth error in metres; None when not measured."""

    miou: float | None
    rmse: float | None
    iou: tuple[float, ...] = ()  # by class; nan where the class is absent from the ground truth
    strengths: tuple[float, float] = (0.0, 0.0)  # ridge strengths chosen for labels and for depth
    rendered: bool = False  # the depths of some scene were rendered from Gaussians, not measured
    scenes: tuple[ProbeScore, ...] = ()  # the same of each test scene by itself: what a difference is compared with


def quick_probe(
    extract: Callable[[Tensor], Tensor],  # images [V, 3, H, W] -> features [V, C, h, w]; or a ViT
    train: Sequence[Scene],
    validation: Sequence[Scene],
    test: Sequence[Scene],
) -> ProbeScore:
    """Fit on ``train``, choose the ridge strength on ``validation``, measure on ``test``.

    Labels need ``scene.labels`` and ``scene.classes``, depth needs ``scene.depths``; what the first scene lacks is not
    measured. Predictions are made at the patch grid; labels are enlarged to the pixels by the nearest patch, depths
    bilinearly, and compared at every pixel that has a label or a depth.

    Raises:
        ValueError: a set is empty, or the scenes have neither labels nor depths.
    """
    train, validation, test = ([part] if isinstance(part, Scene) else part for part in (train, validation, test))
    maker = getattr(extract, "extract", extract)
    if not callable(maker):
        raise ValueError(f"extract must be a ViT or a function from images to features, not {type(extract).__name__}")

    def extract(images: Tensor) -> Tensor:  # [V, C, h, w]
        return feature_maps(maker(images), len(images), *images.shape[-2:], "features")

    sizes = len(train), len(validation), len(test)
    if not all(sizes):
        raise ValueError(
            f"the probe needs train, validation and test scenes; got {sizes[0]}, {sizes[1]} and {sizes[2]}"
        )
    first = train[0]
    tasks = [task for task in ("labels", "depths") if getattr(first, task) is not None]
    for scene in (*train, *validation, *test):
        if lacks := [task for task in tasks if getattr(scene, task) is None]:
            raise ValueError(f"{scene.name} has no {lacks[0]}, which {first.name} has: the probe needs them of all scenes")
    if not tasks:
        raise ValueError(f"{first.name} has neither labels nor depths, so there is nothing to probe")

    seen = [(extract(s.images).double(), s) for s in train]
    mean, std = _moments([f for f, _ in seen])
    seen = [((f - mean) / std, s) for f, s in seen]
    maps = _ridge(seen, tasks)
    del seen

    def measured(scenes, maps) -> list[dict]:  # of each, by task, for each map: a confusion matrix, or (squared error, pixels)
        found = []
        for scene in scenes:
            f = (extract(scene.images).double() - mean) / std
            guesses = {t: [torch.einsum("vchw,ct->vthw", f, m[:-1]) + m[-1, :, None, None] for m in maps[t]] for t in tasks}
            found.append({task: [_compare(guess, scene, task) for guess in guesses[task]] for task in tasks})
        return found

    chosen, each = {}, measured(validation, maps)
    for task in tasks:
        errors = [validation_error(sum(sums), task) for sums in zip(*(one[task] for one in each), strict=True)]
        chosen[task] = errors.index(min(errors))
    best = {task: [maps[task][chosen[task]]] for task in tasks}
    each = [{task: one[task][0] for task in tasks} for one in measured(test, best)]
    strengths = tuple(STRENGTHS[chosen[t]] if t in tasks else 0.0 for t in ("labels", "depths"))
    total = _score({task: sum(one[task] for one in each) for task in tasks}, strengths)
    rendered = any(scene.rendered for scenes in (train, validation, test) for scene in scenes)
    return replace(total, rendered=rendered, scenes=tuple(_score(one, strengths) for one in each))


def _score(sums: dict, strengths: tuple[float, float]) -> ProbeScore:
    confusion, squares = sums.get("labels"), sums.get("depths")
    return ProbeScore(
        miou=None if confusion is None else mean_iou(confusion),
        rmse=None if squares is None else _rmse(squares),
        iou=() if confusion is None else tuple(class_ious(confusion).tolist()),
        strengths=strengths,
    )


def patch_targets(
    scene: Scene, h: int, w: int, task: str
) -> tuple[Tensor, Tensor]:  # targets [V, T, h, w], known [V, h, w]
    """What a patch should say: its label histogram (T = classes) or its mean depth in metres (T = 1).

    Pixels without a label or a depth are left out; ``known`` is the share of a patch's pixels that count.
    """
    if task not in ("labels", "depths") or getattr(scene, task) is None:
        raise ValueError(f'task must be "labels" or "depths", of a scene that has them; got {task!r} of {scene!r}.')
    if task == "labels":
        known = scene.labels != IGNORE
        values = F.one_hot(scene.labels.long().where(known, 0), len(scene.classes)).movedim(-1, 1).double()
    else:
        known = scene.depths > 0
        values = scene.depths[:, None].double()
    share = F.adaptive_avg_pool2d(known[:, None].double(), (h, w))
    values = F.adaptive_avg_pool2d(values * known[:, None], (h, w)) / share.clamp(min=1e-9)
    return values, share[:, 0]


def _moments(features) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of every channel, [1, C, 1, 1]; a constant channel gets 1."""
    n = sum(f[:, 0].numel() for f in features)
    mean = sum(f.sum((0, 2, 3), keepdim=True) for f in features) / n
    std = (sum(((f - mean) ** 2).sum((0, 2, 3), keepdim=True) for f in features) / n).sqrt()
    return mean, std.where(std > 1e-8, 1.0)


def _ridge(seen, tasks) -> dict[str, list[Tensor]]:
    """For each task one linear map [C + 1, T] for each strength; the last row is the bias, which is not penalised."""
    sums = {task: [0, 0, 0] for task in tasks}  # Gram matrix, moments, patches
    for f, scene in seen:
        x, before = F.pad(f.flatten(2), (0, 0, 0, 1), value=1.0), None  # [V, C + 1, hw]
        for task in tasks:
            y, known = patch_targets(scene, *f.shape[-2:], task)
            weighted = x * known.flatten(1)[:, None]
            if before is None or not torch.equal(known, before):  # mostly all pixels have both, a label and a depth
                before, gram = known, torch.einsum("vcn,vdn->cd", weighted, x)
            parts = gram, torch.einsum("vcn,vtn->ct", weighted, y.flatten(2)), known.sum()
            sums[task] = [whole + part for whole, part in zip(sums[task], parts, strict=True)]
    return {task: _solved(*sums[task]) for task in tasks}


def _solved(gram: Tensor, moment: Tensor, total: Tensor) -> list[Tensor]:
    penalty = torch.eye(len(gram), dtype=gram.dtype, device=gram.device) * total
    penalty[-1, -1] = 0
    return [torch.linalg.solve(gram + s * penalty, moment) for s in STRENGTHS]


def _compare(guess, scene, task) -> Tensor:
    size = scene.images.shape[-2:]
    if task == "depths":
        guess = F.interpolate(guess, size, mode="bilinear", align_corners=False)[:, 0]
        known = scene.depths > 0
        return torch.stack([((guess - scene.depths)[known] ** 2).sum(), known.sum().double()])
    guess = F.interpolate(guess.argmax(1, keepdim=True).double(), size, mode="nearest-exact")[:, 0].long()
    return confusion_matrix(guess, scene.labels, len(scene.classes))


def validation_error(sums: Tensor, task: str) -> float:
    """What the ridge strength is chosen by: 1 - mIoU, or the RMSE in metres."""
    return 1 - mean_iou(sums) if task == "labels" else _rmse(sums)


def _rmse(sums: Tensor) -> float:  # (squared error, pixels)
    return (sums[0] / sums[1]).sqrt().item()
