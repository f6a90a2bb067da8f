"""Finding a feature of one photo in another: read features at pixels, compare them, say how well pairs are told apart."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..scenes.scene import Scene

__all__ = ["features_at", "grid_pixels", "roc_auc", "soft_argmax"]


def features_at(
    feats: Tensor,  # [C, h, w] of one view
    uv: Tensor,  # [P, 2] pixels
    size: tuple[int, int],  # height and width of the photo, pixels
) -> Tensor:  # [P, C] of length 1
    """Unit features at pixels, bilinear between the centers of patches."""
    if feats.ndim != 3:
        raise ValueError(f"features of one view must be [C, h, w], got {list(feats.shape)}.")
    height, width = size
    uv = uv if uv.is_floating_point() else uv.float()
    where = uv / uv.new_tensor([width, height]) * 2 - 1
    found = F.grid_sample(feats[None], where[None, None].to(feats), padding_mode="border", align_corners=False)
    return F.normalize(found[0, :, 0].T, dim=1)


def grid_pixels(scene: Scene, view: int, stride: int) -> Tensor:  # [G, 2]
    """Centres of every ``stride``-th pixel of a view, in both directions, where its depth is known."""
    if stride > min(scene.height, scene.width):
        raise ValueError(f"A stride of {stride} leaves no place of photos of {scene.height}×{scene.width} (H×W).")
    rows, cols = (torch.arange(stride // 2, n, stride, device=scene.depths.device) for n in (scene.height, scene.width))
    v, u = torch.meshgrid(rows, cols, indexing="ij")
    known = scene.depths[view][v, u] > 0
    return torch.stack([u[known], v[known]], 1) + 0.5


def soft_argmax(
    similarity: Tensor,  # [Q, G] of Q queries with G places
    places: Tensor,  # [G, 2] pixels
    sharpness: float = 10.0,
) -> Tensor:  # [Q, 2]
    """The mean place, weighted by softmax(sharpness · z), where z is the similarity in standard deviations of its row.

    Standardising makes maps comparable between models: features with a large common part have cosines between .95 and
    1, and a fixed temperature would call that map flat whatever its peak.
    """
    z = similarity - similarity.mean(1, keepdim=True)
    spread = z.square().mean(1, keepdim=True).sqrt()  # torch's own std takes five times as long on a CPU
    return (sharpness / torch.where(spread > 1e-6, spread, 1.0) * z).softmax(1) @ places.to(similarity)


def roc_auc(
    positive: Tensor,  # [P] scores that should be high
    negative: Tensor,  # [N] scores that should be low
) -> float:
    """Area under the ROC curve: the chance that a positive scores above a negative, ties counting one half. Exact."""
    ranked = negative.sort().values
    below = torch.searchsorted(ranked, positive.contiguous()).double()
    not_above = torch.searchsorted(ranked, positive.contiguous(), right=True).double()
    return ((below + not_above) / 2).mean().item() / len(ranked)
