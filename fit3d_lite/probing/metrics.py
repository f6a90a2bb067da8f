"""How good is a map of labels or of depths? One confusion matrix, and six numbers a photo.

Segmentation: everything follows from the confusion matrix of all pixels of all photos, so mIoU here is that of the
whole data set and not a mean over photos. A class that never occurs in the ground truth does not count, however often
it is guessed: its IoU would be 0/something and say how many classes were listed rather than how good the map is.

Depth: errors are computed photo by photo and then averaged over photos, as the paper's evaluation does, so that each
photo weighs the same whatever its number of valid pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..base.inputs import as_tensor, check_whole
from ..scenes.scene import IGNORE

__all__ = [
    "DepthScore", "SegmentationScore", "class_accuracies", "class_ious", "confusion_matrix", "depth_errors", "mean_iou",
]  # fmt: skip


def confusion_matrix(
    guess: Tensor,  # [...] integers in 0..M-1
    truth: Tensor,  # [...] integers in 0..M-1, or IGNORE
    classes: int,
) -> Tensor:  # [M, M] int64: rows truth, columns guess, pixels
    """Count the pixels of every (truth, guess) pair; pixels of truth IGNORE are left out. Matrices of several batches
    add up. Raises ValueError for shapes that differ and for labels out of range."""
    guess, truth = as_tensor(guess, "The guesses"), as_tensor(truth, "The truth")
    check_whole(1, classes=classes)
    if guess.is_floating_point() or truth.is_floating_point():
        raise ValueError(f"Labels are whole numbers; got guesses of {guess.dtype} and a truth of {truth.dtype}.")
    if guess.shape != truth.shape:
        raise ValueError(f"The guesses have shape {list(guess.shape)}, the truth {list(truth.shape)}: they must match.")
    known = truth != IGNORE
    guess, truth = guess[known].long(), truth[known].long()
    for name, labels in (("guesses", guess), ("true labels", truth)):
        if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
            raise ValueError(
                f"The {name} run from {labels.min()} to {labels.max()}, there are classes 0 to {classes - 1}; "
                f"shift labels that start at 1, and set pixels without a label to {IGNORE} in the truth."
            )
    pairs = truth * classes + guess
    return torch.bincount(pairs, minlength=classes * classes).view(classes, classes)


def class_ious(confusion: Tensor) -> Tensor:  # [M, M] -> [M], nan where the class is absent from the truth
    """Intersection over union by class: hits / (truth + guesses - hits)."""
    if confusion.ndim != 2 or confusion.shape[0] != confusion.shape[1]:
        raise ValueError(f"A confusion matrix is [M, M], got {list(confusion.shape)}.")
    hit, truth = confusion.diagonal().double(), confusion.sum(1)
    return (hit / (truth + confusion.sum(0) - hit)).where(truth > 0, torch.nan)


def class_accuracies(confusion: Tensor) -> Tensor:  # [M, M] -> [M], nan where the class is absent from the truth
    """The share of a class's pixels that were found (its recall)."""
    truth = confusion.sum(1)
    return (confusion.diagonal().double() / truth).where(truth > 0, torch.nan)


def mean_iou(confusion: Tensor) -> float:  # confusion: [M, M], rows truth, columns guess, pixels
    """Mean intersection over union of the classes that occur in the ground truth; the others are not counted."""
    return class_ious(confusion).nanmean().item()


@dataclass(frozen=True)
class SegmentationScore:
    """What a confusion matrix says; all shares in 0..1."""

    confusion: Tensor = field(repr=False)  # [M, M] int64: rows truth, columns guess, pixels of all photos
    classes: tuple[str, ...] = field(repr=False)
    miou_by_photo: Tensor | None = field(default=None, repr=False)  # [V] of each photo by itself, to compare photo by photo

    @property
    def miou(self) -> float:
        """Mean IoU of the classes in the ground truth."""
        return mean_iou(self.confusion)

    @property
    def macc(self) -> float:
        """Mean accuracy of the classes in the ground truth: what balanced accuracy is in scikit-learn."""
        return class_accuracies(self.confusion).nanmean().item()

    @property
    def aacc(self) -> float:
        """Share of all labelled pixels that are right."""
        return (self.confusion.diagonal().sum() / self.confusion.sum()).item()

    @property
    def iou(self) -> tuple[float, ...]:
        """By class; nan where the class is absent from the ground truth."""
        return tuple(class_ious(self.confusion).tolist())

    @property
    def accuracy(self) -> tuple[float, ...]:
        """By class; nan where the class is absent from the ground truth."""
        return tuple(class_accuracies(self.confusion).tolist())

    def table(self) -> str:
        """One line a class: IoU, accuracy, and its share of the labelled pixels; the most frequent first."""
        share = self.confusion.sum(1) / self.confusion.sum()
        width = max(len("class"), *(len(name) for name in self.classes))
        lines = [f"{'class':{width}}    IoU  accuracy  pixels"]
        for i in share.argsort(descending=True, stable=True).tolist():
            if share[i] == 0:
                lines.append(f"{self.classes[i]:{width}}      absent: does not count")
            else:
                lines.append(f"{self.classes[i]:{width}}  {self.iou[i]:.3f}     {self.accuracy[i]:.3f}  {share[i]:6.1%}")
        return "\n".join(lines)

    def __str__(self) -> str:
        return f"mIoU {self.miou:.3f}  mAcc {self.macc:.3f}  aAcc {self.aacc:.3f}"


def depth_errors(
    prediction: Tensor,  # [V, H, W] metres, > 0
    truth: Tensor,  # [V, H, W] metres
    valid: Tensor,  # [V, H, W] bool
) -> Tensor:  # [V, 6] float64 on the CPU: rmse, abs_rel, log10, delta1, delta2, delta3; nan for a photo without a valid pixel
    """The usual six numbers of monocular depth, for every photo by itself (Eigen et al. 2014, section 3.2).

    rmse = sqrt(mean (p - t)²) in metres; abs_rel = mean |p - t| / t; log10 = mean |log10 p - log10 t|;
    delta_k = share of pixels with max(p / t, t / p) < 1.25^k.
    """
    rows = []
    for p, t, known in zip(prediction, truth, valid, strict=True):
        p, t = p[known].double(), t[known].double()
        ratio = torch.maximum(p / t, t / p)
        deltas = [(ratio < 1.25**k).double().mean() for k in (1, 2, 3)]
        errors = [(p - t).square().mean().sqrt(), ((p - t).abs() / t).mean(), (p / t).log10().abs().mean()]
        rows.append(torch.stack(errors + deltas))
    return torch.stack(rows).cpu()


@dataclass(frozen=True)
class DepthScore:
    """Depth errors by photo, and their means over the photos that have a valid pixel."""

    by_photo: Tensor = field(repr=False)  # [V, 6] as depth_errors gives them
    columns = ("rmse", "abs_rel", "log10", "delta1", "delta2", "delta3")

    def __getattr__(self, name: str) -> float:
        if name not in DepthScore.columns:
            raise AttributeError(f"DepthScore has no {name!r}")
        return self.by_photo[:, DepthScore.columns.index(name)].nanmean().item()

    def __str__(self) -> str:
        return (
            f"RMSE {self.rmse:.3f} m  AbsRel {self.abs_rel:.3f}  log10 {self.log10:.3f}  "
            f"delta1 {self.delta1:.3f}  delta2 {self.delta2:.3f}  delta3 {self.delta3:.3f}"  # a Windows log has no Greek
        )
