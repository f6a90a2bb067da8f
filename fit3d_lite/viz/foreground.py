"""What stands out? Foreground and background by the first principal component, as DINOv2 splits its pictures.

Oquab et al. 2023 (DINOv2, figures 1 and 9): a first PCA over all patches, a threshold on its first component, and a
second PCA on the patches that are left, whose three directions become the colors:

    split = foreground(feats)
    colors = pca_colors(feats, mask=split.mask)
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from .pca import pca_basis

__all__ = ["Foreground", "foreground", "otsu"]


@dataclass(frozen=True)
class Foreground:
    """A split of the patches; :func:`foreground` makes it."""

    mask: Tensor  # [V, h, w] bool, True in front
    scores: Tensor  # [V, h, w] the first component, turned so that the foreground is high
    threshold: float

    def __repr__(self) -> str:
        share = 100 * self.mask.float().mean().item()
        return f"{share:.0f} % of {self.mask.numel():,} patches in front (first component above {self.threshold:.3g})"


def foreground(
    feats: Tensor,  # [V, C, h, w]
    threshold: str | float = "zero",
) -> Foreground:
    """Split patches by the first principal component of all pictures.

    A component has no sign of its own, and DINOv2 settles it by eye. Here the background is the side that holds more of
    the patches along the border of the pictures. A picture without a background is split too: the first component then
    parts whatever differs most, such as the ceiling from the rest. Look at it before you trust it.

    Args:
        threshold: "zero" cuts at the mean of all patches, as DINOv2 does; "otsu" where two groups part best (Otsu
            1979); a number cuts there, in units of the scores.

    Raises:
        ValueError: not [V, C, h, w] with at least three channels, values that are not finite, an unknown threshold, or
        features in which nothing differs.
    """
    if isinstance(threshold, str) and threshold not in ("zero", "otsu"):
        raise ValueError(f'threshold is "zero", "otsu" or a number, not {threshold!r}')
    scores = pca_basis(feats).scores(feats)[..., 0]
    if scores.max() - scores.min() < 1e-9:
        raise ValueError(f"all {scores.numel()} patches are alike: there is no foreground to split off")
    cut = {"zero": 0.0}.get(threshold, threshold) if threshold != "otsu" else otsu(scores)
    edge = torch.ones_like(scores, dtype=torch.bool)
    edge[:, 1:-1, 1:-1] = False
    if (scores[edge] > cut).double().mean() > (scores > cut).double().mean():  # the border is mostly background
        scores, cut = -scores, -cut
    return Foreground(scores > cut, scores.float(), float(cut) + 0.0)  # no minus zero


def otsu(values: Tensor) -> float:  # [...]
    """The threshold that parts numbers into two groups of least variance within (Otsu 1979), exactly: every cut between
    two neighboring values is tried."""
    x = values.detach().flatten().double().sort().values
    n = torch.arange(1, len(x), dtype=torch.float64)
    left = x.cumsum(0)[:-1]
    between = (left / n - (x.sum() - left) / (len(x) - n)).square() * n * (len(x) - n)
    between[x[1:] == x[:-1]] = -1  # equal values cannot be parted
    best = between.argmax()
    return (x[best] + x[best + 1]).item() / 2
