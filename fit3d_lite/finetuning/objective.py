"""What pulls a feature map towards its target, patch by patch, and the two numbers that show when it pulls too hard.

Every term is a map over patches; a loss is its sum over the covered patches, divided by their number in the *whole*
batch. So a batch split into parts, or over processes, gives exactly the gradient of the batch in one piece.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def patch_terms(
    feats: Tensor,  # [B, C, h, w]
    target: Tensor,  # [B, C, h, w]
    recipe,
) -> dict[str, Tensor]:  # each [B, h, w]
    """The terms of the recipe that compare with the target: "l1" (FiT3D's) and "cosine"."""
    if feats.shape != target.shape:
        raise ValueError(f"features are {list(feats.shape)} and their targets {list(target.shape)}.")
    terms = {}
    if recipe.l1:
        terms["l1"] = (feats - target).abs().mean(1)
    if recipe.cosine:
        terms["cosine"] = 1 - F.cosine_similarity(feats, target, dim=1)
    return terms


def masked_l1(
    feats: Tensor,  # [B, C, h, w]
    target: Tensor,  # [B, C, h, w]
    mask: Tensor,  # [B, h, w] bool
) -> Tensor:
    """Mean over covered patches and channels of |feats − target|; the paper's loss, masked: Σ m|f − t| / (C Σ m)."""
    return ((feats - target).abs().mean(1) * mask).sum() / mask.sum().clamp_min(1)


@torch.no_grad()
def drift(feats: Tensor, original: Tensor) -> tuple[Tensor, Tensor]:  # each [B, C, h, w] -> [], []
    """(standard-deviation ratio, cosine) of features against the original's on the same images.

    The ratio compares the mean over channels of the standard deviation over patches: towards 0, all patches become
    alike (collapse), which a falling loss does not show. The cosine says how far the features have moved.
    """
    a, b = (f.detach().float().movedim(1, -1).flatten(0, -2) for f in (feats, original))
    ratio = a.std(0).mean() / b.std(0).mean().clamp_min(1e-12)
    return ratio, F.cosine_similarity(a, b).mean()
