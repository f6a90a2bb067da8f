"""The two linear heads of the paper: what one matrix can read from the features of a patch.

Segmentation: a batch normalisation and a 1×1 convolution, one score a class at every patch; the scores are enlarged to
the pixels. Depth: a 1×1 convolution to 256 bins of depth, and the mean of the bins under the probabilities that the
scores give (the linear head of DINOv2, arXiv 2304.07193, section 7.4, which FiT3D uses).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["BinnedDepth", "DepthHead", "SegmentationHead", "bin_probabilities", "enlarge", "expected_depth"]

FLOOR = 0.1  # added to every score: no bin is ever ruled out, and the normalisation never divides by zero
FINER = 4  # the depth head works on a grid this many times finer than the patches

Lattice = tuple[Tensor, Tensor]  # rows [a] and columns [b]: the a × b pixels where they cross


def enlarge(
    maps: Tensor,  # [B, K, h, w]
    size: tuple[int, int],  # H, W
    lattice: Lattice | None = None,
) -> Tensor:  # [B, K, H, W], or [B, K, a, b] at the lattice
    """Bilinear enlargement, of which only a lattice of pixels is computed when one is given.

    Rows and columns are enlarged one after the other and each is a matrix, so a lattice costs two small products: the
    rows of those matrices that it asks for.
    """
    if lattice is None:
        return F.interpolate(maps, size, mode="bilinear", align_corners=False)
    rows, columns = lattice
    down, across = (_enlarging(n, N, maps) for n, N in zip(maps.shape[-2:], size, strict=True))
    return down[rows] @ maps @ across[columns].T


def _enlarging(n: int, N: int, like: Tensor) -> Tensor:  # [N, n]
    """The matrix that enlarges n numbers to N, read off what it does to each of them alone."""
    eye = torch.eye(n, device=like.device, dtype=like.dtype)
    return F.interpolate(eye[None], N, mode="linear", align_corners=False)[0].T


class SegmentationHead(nn.Module):
    """Batch normalisation, then one score a class from the features of one patch."""

    def __init__(self, channels: int, classes: int):
        super().__init__()
        self.normalise = nn.BatchNorm2d(channels)
        self.score = nn.Conv2d(channels, classes, 1)
        nn.init.normal_(self.score.weight, std=0.01)
        nn.init.zeros_(self.score.bias)

    def forward(self, feats: Tensor) -> Tensor:  # [B, C, h, w] -> scores [B, M, h, w]
        return self.score(self.normalise(feats))


def bin_probabilities(scores: Tensor) -> Tensor:  # [B, K, h, w] -> [B, K, h, w], sums to 1 over K
    """Scores to probabilities by "linear normalisation": (relu(s) + 0.1) / Σ (relu(s) + 0.1).

    Unlike softmax it grows in proportion to the score, so two bins can share a pixel, at an edge for instance.
    """
    positive = scores.relu() + FLOOR
    return positive / positive.sum(1, keepdim=True)


def expected_depth(
    scores: Tensor,  # [B, K, h, w]
    bins: Tensor,  # [K] metres
) -> Tensor:  # [B, h, w] metres
    """The mean depth under :func:`bin_probabilities`.

    Numerator and denominator are two weighted sums of the same numbers, so the probabilities need never be stored:
    Σ b (relu(s) + 0.1) and Σ (relu(s) + 0.1).
    """
    sums = F.conv2d(scores.relu(), torch.stack([bins, torch.ones_like(bins)])[:, :, None, None])
    return (sums[:, 0] + FLOOR * bins.sum()) / (sums[:, 1] + FLOOR * len(bins))


class BinnedDepth(nn.Module):
    """What every depth head ends with: a score for each of K depths between ``low`` and ``high``, equally far apart, on
    a grid four times finer than the patches; depth is their mean. How scores come about is the head's own."""

    def __init__(self, low: float, high: float, bins: int):
        super().__init__()
        self.register_buffer("bins", torch.linspace(low, high, bins))

    def scores(self, feats, cls: Tensor, lattice: Lattice | None = None) -> Tensor:  # [B, K, 4h, 4w], or at the lattice
        raise NotImplementedError

    def forward(self, feats, cls: Tensor, lattice: Lattice | None = None) -> Tensor:  # [B, 4h, 4w] metres
        return expected_depth(self.scores(feats, cls, lattice), self.bins)


class DepthHead(BinnedDepth):
    """Patch features, enlarged four times, with the CLS token beside each; a 1×1 convolution to the scores of the bins.

    A 1×1 convolution acts on channels and a bilinear enlargement on places, and the weights of the enlargement sum to
    1, so the two can change places: scores are computed at the patches and enlarged, which gives the same map for a
    sixteenth of the products. The CLS token, equal at every patch, adds one number a bin to the whole photo.
    """

    def __init__(self, channels: int, cls_channels: int, low: float, high: float, bins: int = 256):
        super().__init__(low, high, bins)
        self.patch_score = nn.Conv2d(channels, bins, 1)
        self.cls_score = nn.Linear(cls_channels, bins, bias=False)
        nn.init.normal_(self.patch_score.weight, std=0.01)
        nn.init.normal_(self.cls_score.weight, std=0.01)
        nn.init.zeros_(self.patch_score.bias)

    def scores(
        self,
        feats: Tensor,  # [B, C, h, w] before the last LayerNorm
        cls: Tensor,  # [B, D]
        lattice: Lattice | None = None,  # in cells of the 4h × 4w grid
    ) -> Tensor:  # [B, K, 4h, 4w], or [B, K, a, b]
        size, whole_photo = (FINER * feats.shape[2], FINER * feats.shape[3]), self.cls_score(cls)[:, :, None, None]
        if lattice is None:
            return enlarge(self.patch_score(feats) + whole_photo, size)
        # A lattice has fewer cells than there are patches: here it pays to choose the places first.
        return self.patch_score(enlarge(feats, size, lattice)) + whole_photo
