"""What is trained: features of several ViTs combined, a head on top, and what task it is trained and judged on.

One class a task. Both are built from ``plan``, a dict of plain values that is saved beside the weights, and both have
the same methods, so that one loop trains either and one result keeps either:
    answer(levels, cls, size)     maps at the size of the photos; answer_twice(…) averages with the mirrored photos
    loss(levels, cls, maps, …)    of one batch
    score(answers, maps)          of one batch, total(scores) of all, and metric(score), by which the best head is chosen
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..backbones.assembly import Combine
from ..scenes.scene import IGNORE
from .depth import GRADIENT_WEIGHT, DepthSpan, gradient_loss, sig_loss
from .dpt import DPTDepthHead, DPTSegmentationHead
from .heads import FINER, DepthHead, SegmentationHead, bin_probabilities, enlarge
from .metrics import DepthScore, SegmentationScore, confusion_matrix, depth_errors, mean_iou
from .train import Training, lattice

__all__ = ["DepthReadout", "LEVELS", "Readout", "SegmentationReadout", "readout_of"]

LEVELS = {"linear": 1, "dpt": 4}  # blocks that a head reads


class Readout(nn.Module):
    """The trained part of a probe."""

    def __init__(self, plan: dict):
        super().__init__()
        self.plan, self.levels = plan, LEVELS[plan["head"]]
        self.combine = nn.ModuleList(Combine(plan["way"], plan["widths"]) for _ in range(self.levels))
        channels = self.combine[0].channels
        self.head = self._head(channels if self.levels == 1 else [channels] * self.levels)

    def combined(self, levels: list[list[Tensor]]):  # [level][ViT] of [B, C, h, w] -> one map, or four
        maps = [combine(parts) for combine, parts in zip(self.combine, levels, strict=True)]
        return maps[0] if self.levels == 1 else maps

    @torch.no_grad()
    def answer_twice(self, read: Callable, size: tuple[int, int], flip: bool) -> Tensor:
        """The answer, with ``flip`` averaged with that for the mirrored photos; ``read(mirrored)`` gives (levels, cls)."""
        answers = self.answer(*read(False), size)
        if not flip:
            return answers
        return (answers + self.answer(*read(True), size).flip(-1)) / 2


class SegmentationReadout(Readout):
    """Labels, from features after the last norm."""

    task, norm, larger_is_better = "segmentation", True, True

    def _head(self, channels) -> nn.Module:
        classes = len(self.plan["classes"])
        if self.levels == 1:
            return SegmentationHead(channels, classes)
        return DPTSegmentationHead(channels, classes, self.plan["width"])

    def answer(self, levels, cls, size: tuple[int, int]) -> Tensor:  # probabilities [B, M, H, W]
        return enlarge(self.head(self.combined(levels)), size).softmax(1)

    def loss(self, levels, cls, maps: Tensor, training: Training, rng, done: int) -> Tensor:
        """Mean cross-entropy of the labelled pixels, of all or of those on a lattice."""
        size, where = tuple(maps.shape[1:]), None
        if training.points is not None:
            where = lattice(*size, training.points, rng)
            maps = maps[:, where[0]][:, :, where[1]]
        scores = enlarge(self.head(self.combined(levels)), size, where)
        # A batch without a labelled pixel has no mean; its loss is 0 and teaches nothing.
        known = (maps != IGNORE).sum().clamp(min=1)
        return F.cross_entropy(scores, maps, ignore_index=IGNORE, reduction="sum") / known

    def score(self, answers: Tensor, maps: Tensor) -> tuple[Tensor, Tensor]:  # [M, M] of all, and mIoU of each [B]
        pairs = zip(answers.max(1).indices, maps, strict=True)  # argmax says the same and takes four times as long
        tables = [confusion_matrix(guess, truth, len(self.plan["classes"])).cpu() for guess, truth in pairs]
        return sum(tables), torch.tensor([mean_iou(table) for table in tables])

    def total(self, scores: Sequence[tuple[Tensor, Tensor]]) -> SegmentationScore:
        tables, by_photo = zip(*scores, strict=True)
        return SegmentationScore(sum(tables), tuple(self.plan["classes"]), torch.cat(by_photo))

    @staticmethod
    def metric(score: SegmentationScore) -> float:
        return score.miou


class DepthReadout(Readout):
    """Depth, from features before the last norm and the CLS token."""

    task, norm, larger_is_better = "depth", False, False

    def __init__(self, plan: dict):
        self.span = DepthSpan(**{k: tuple(v) if isinstance(v, list) else v for k, v in plan["span"].items()})
        super().__init__(plan)

    def _head(self, channels) -> nn.Module:
        rest = self.plan["cls_width"], self.span.low, self.span.high, self.plan["bins"]
        return DepthHead(channels, *rest) if self.levels == 1 else DPTDepthHead(channels, *rest, self.plan["width"])

    def answer(self, levels, cls, size: tuple[int, int]) -> Tensor:  # metres [B, H, W]
        return enlarge(self.head(self.combined(levels), cls)[:, None], size)[:, 0]

    def distribution(self, levels, cls) -> Tensor:  # [B, K, 4h, 4w], sums to 1 over K
        return bin_probabilities(self.head.scores(self.combined(levels), cls))

    def loss(self, levels, cls, maps: Tensor, training: Training, rng, done: int) -> Tensor:
        """SigLoss + 0.5 gradient loss, at all pixels, or at the cells of the head's grid that lie on a lattice."""
        feats = self.combined(levels)
        if training.points is None:
            depths = enlarge(self.head(feats, cls)[:, None], tuple(maps.shape[1:]))[:, 0]
        else:
            h, w = levels[0][0].shape[-2:]
            rows, columns = lattice(FINER * h, FINER * w, training.points, rng)
            depths = self.head(feats, cls, (rows, columns))
            # The pixel in the middle of each cell.
            down, across = (((cells + 0.5) * size / (FINER * n)).long() for cells, size, n in zip(
                (rows, columns), maps.shape[1:], (h, w), strict=True
            ))  # fmt: skip
            maps = maps[:, down][:, :, across]
        if (maps > 0).sum() < 2:
            return depths.sum() * 0  # SigLoss needs a variance; a batch without one teaches nothing
        only_scale = done < training.scale_first
        return sig_loss(depths, maps, only_scale) + GRADIENT_WEIGHT * gradient_loss(depths, maps)

    def score(self, answers: Tensor, maps: Tensor) -> Tensor:
        counts = (maps > 0) & self.span.inside(*maps.shape[1:]).to(maps.device)
        return depth_errors(answers, maps, counts)

    def total(self, scores: Sequence[Tensor]) -> DepthScore:
        return DepthScore(torch.cat(list(scores)))

    @staticmethod
    def metric(score: DepthScore) -> float:
        return score.rmse


def readout_of(plan: dict) -> Readout:
    """An untrained readout as ``plan`` describes it; drawn from torch's global generator."""
    return (SegmentationReadout if plan["task"] == "segmentation" else DepthReadout)(plan)
