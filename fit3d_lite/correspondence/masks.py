"""Masks carried from one photo to another by features alone: what agreement between views is good for.

    result = mask_propagation(vit, scenes)
    result.miou, result.miou_by_angle["30-60°"]

Each patch of the other photo takes the labels of its nearest patches in the first one. That is how self-supervised ViTs
are judged on video (DINO, Caron et al. 2021, arXiv 2104.14294, section 4.2.2, after Jabri et al. 2020); here the second
frame is another view of a room, so it can be asked how far the camera may turn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..base.inputs import check_whole
from ..probing.metrics import confusion_matrix, mean_iou
from ..probing.ridge import patch_targets
from ..scenes.scene import IGNORE, Scene
from .consistency import BINS, as_list, features_and_pairs, in_bins
from .correspond import TOLERANCE, visible

__all__ = ["Propagation", "mask_propagation", "propagate_labels"]

NEIGHBOURS = 5
TEMPERATURE = 0.1  # of the cosine, as DINO


@dataclass(frozen=True, eq=False)
class Propagation:
    """Pixels by true class and class found, one table for each bin of rotation between the views."""

    confusion: Tensor  # [4, M, M] pixels; rows truth, columns found

    @property
    def miou(self) -> float:
        """Mean intersection over union of the classes that occur, over all pairs of views."""
        return mean_iou(self.confusion.sum(0))

    @property
    def miou_by_angle(self) -> dict[str, float]:
        """The same in each bin, "0-15°" to "60-180°"; nan where no pair of views falls."""
        return {name: mean_iou(table) for name, table in zip(BINS, self.confusion, strict=True)}

    @property
    def accuracy(self) -> float:
        """Share of pixels with the right class."""
        total = self.confusion.sum(0).double()
        return (total.diagonal().sum() / total.sum()).item()

    def __repr__(self) -> str:
        angles = " / ".join(f"{value:.3f}" for value in self.miou_by_angle.values())
        pixels = int(self.confusion.sum())
        return f"masks: mIoU {self.miou:.3f}, accuracy {self.accuracy:.3f} · by angle {angles} · {pixels:,} pixels"


def propagate_labels(
    source: Tensor,  # [C, h, w] features of the photo whose labels are known
    shares: Tensor,  # [M, h, w] its labels: share of each class in each patch; all 0 where unknown
    target: Tensor,  # [C, h', w'] features of the other photo
    neighbours: int = NEIGHBOURS,
    temperature: float = TEMPERATURE,
) -> Tensor:  # [M, h', w'] shares
    """The mean of the labels of the nearest labelled patches by cosine, weighted by exp(cosine / temperature).

    Raises:
        ValueError: shapes that do not fit, neighbours below 1 or temperature not above 0; no patch has a label.
    """
    if source.shape[1:] != shares.shape[1:] or len(source) != len(target):
        raise ValueError(
            f"source [C, h, w], shares [M, h, w] and target [C, h', w'] do not fit: {list(source.shape)}, "
            f"{list(shares.shape)} and {list(target.shape)}"
        )
    check_whole(1, neighbours=neighbours)
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    labels = shares.flatten(1).T
    known = labels.sum(1) > 0
    if not known.any():
        raise ValueError("no patch of the source has a label")
    keys = F.normalize(source.flatten(1).T[known], dim=1)
    top = (F.normalize(target.flatten(1).T, dim=1) @ keys.T).topk(min(neighbours, len(keys)), dim=1)
    weights = (top.values / temperature).softmax(1)
    mixed = torch.einsum("qk,qkm->mq", weights, labels[known].to(weights)[top.indices])
    return mixed.view(-1, *target.shape[1:])


@torch.no_grad()
def mask_propagation(
    feats: Tensor | Sequence[Tensor] | Callable[[Tensor], Tensor],
    scenes: Scene | Sequence[Scene],
    *,
    neighbours: int = NEIGHBOURS,
    temperature: float = TEMPERATURE,
    min_overlap: float = 0.1,
    tolerance: float = TOLERANCE,
    most: int | None = 60,
    seed: int = 0,
) -> Propagation:
    """Labels of view a carried to view b and compared with b's own, over pairs of views; feats and scenes as for
    ``consistency``.

    The shares found at patches are enlarged bilinearly, the largest wins. Counted are the pixels of b that a sees too:
    what a does not show cannot be carried over.

    Raises:
        ValueError: as ``consistency`` and :func:`propagate_labels`; a scene has no labels or other classes than the
            first.
    """
    scenes = as_list(scenes)
    for scene in scenes:
        if scene.labels is None or scene.classes != scenes[0].classes or not scene.classes:
            raise ValueError(f"mask_propagation needs labels and the same classes everywhere; {scene.name} differs")
    m = len(scenes[0].classes)
    tables = torch.zeros(len(BINS), m, m, dtype=torch.long)
    options = dict(min_overlap=min_overlap, tolerance=tolerance, most=most, seed=seed)
    for f, scene, pairs in features_and_pairs(feats, scenes, **options):
        shares, _ = patch_targets(scene, *f.shape[-2:], "labels")
        bins = torch.stack(in_bins(torch.tensor([p.angle for p in pairs]))).int().argmax(0).tolist()
        for pair, where in zip(pairs, bins, strict=True):
            carried = propagate_labels(f[pair.a], shares[pair.a], f[pair.b], neighbours, temperature)
            carried = F.interpolate(carried[None], (scene.height, scene.width), mode="bilinear", align_corners=False)
            truth = scene.labels[pair.b].flatten().where(_seen_by(scene, pair.b, pair.a, tolerance), IGNORE)
            found = carried[0].max(0).indices.flatten()  # four times as fast on a CPU as argmax
            tables[where] += confusion_matrix(found, truth, m).cpu()
    return Propagation(tables)


def _seen_by(scene, view, other, tolerance) -> Tensor:  # [H*W] bool
    """Which pixels of a view another one sees too."""
    points = scene.cameras[view].unproject(scene.depths[view]).reshape(-1, 3)
    return visible(scene, other, points, tolerance)[1] & (scene.depths[view].flatten() > 0)
