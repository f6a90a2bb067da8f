"""Noise and artefacts of patch features: lengths that stand out, a pattern that is the same in every photo, grain.

    token_norms      the length of each patch feature; a few tokens of great length are a known artefact of large ViTs
    outlier_tokens   which lengths lie far outside the others
    position_share   how much of the variation depends on the place in the picture alone
    local_noise      how much a patch differs from its neighbors

Long tokens: Darcet et al. 2024, "Vision transformers need registers". The pattern of the place: Yang et al. 2024,
"Denoising vision transformers".
"""

import torch.nn.functional as F
from torch import Tensor

from .pca import check_features

__all__ = ["local_noise", "outlier_tokens", "position_share", "token_norms"]


def token_norms(
    feats: Tensor,  # [V, C, h, w]; from ``vit.extract(images, norm=False)``
) -> Tensor:
    """[V, h, w] length of each patch feature. Take features before the last LayerNorm, which evens lengths out."""
    check_features(feats, channels=1)
    return feats.detach().float().norm(dim=1)


def outlier_tokens(
    norms: Tensor,  # [V, h, w]
    far: float = 6.0,
) -> Tensor:
    """[V, h, w] bool: lengths more than ``far`` robust standard deviations (1.4826 × the median distance from the
    median) above the median. For a normal distribution the default marks one in 10⁹."""
    if far <= 0:
        raise ValueError(f"far counts standard deviations and must be above 0, not {far:g}")
    middle = norms.median()
    return norms > middle + far * 1.4826 * (norms - middle).abs().median()


def position_share(
    feats: Tensor,  # [V, C, h, w]
) -> float:
    """Part of the variation that the place in the picture explains, 0..1, over V photos of different things.

    One-way analysis of variance with the place as the factor: the variance of the mean feature of each place, less the
    part of it that chance leaves with V photos, over that plus the variance within a place. Some of it is honest, since
    ceilings are at the top of photos; the same number for plain colors says how much.

    Raises:
        ValueError: not [V, C, h, w], or fewer than two photos.
    """
    check_features(feats, channels=1)
    views = len(feats)
    if views < 2:
        raise ValueError("one photo cannot part place from content: give at least two, better ten")
    x = feats.detach().double()
    place = x.mean(0)  # [C, h, w]
    within = (x - place).square().mean((0, 2, 3)).sum() * views / (views - 1)
    between = (place - place.mean((1, 2), keepdim=True)).square().mean((1, 2)).sum() - within / views
    between = between.clamp_min(0)
    return (between / (between + within).clamp_min(1e-30)).item()


def local_noise(
    feats: Tensor,  # [V, C, h, w]
) -> Tensor:
    """[V, h, w] in 0..2: one minus the cosine between a patch and the mean of its eight neighbors, with the mean
    feature of all patches taken off. Edges of things are high for good reason; grain inside a thing is noise."""
    check_features(feats, channels=1)
    if min(feats.shape[2:]) < 2:
        raise ValueError(f"a patch needs neighbors, and the grid is {feats.shape[2]}×{feats.shape[3]}")
    x = feats.detach().float()
    x = x - x.mean((0, 2, 3), keepdim=True)
    around = 9 * F.avg_pool2d(x, 3, 1, 1) - x  # the sum has the direction of the mean; at the border there are five
    return 1 - F.cosine_similarity(x, around, dim=1)
