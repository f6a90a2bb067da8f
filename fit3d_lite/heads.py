"""The two linear heads of the paper: what one matrix can read from the features of a patch.

Segmentation: a batch normalisation and a 1×1 convolution, one score a class at every patch; the scores are enlarged to
the pixels. Depth: a 1×1 convolution to 256 bins of depth, and the mean of the bins under the probabilities that the
scores give (the linear head of DINOv2, arXiv 2304.07193, section 7.4, which FiT3D uses).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["BinnedDepth", "DepthHead", "SegmentationHead", "bin_probabilities", "expected_depth", "uniform_bins"]

FLOOR = 0.1  # added to every score: no bin is ever ruled out, and the normalisation never divides by zero
UPSAMPLING = 4  # the depth head works on a grid this many times finer than the patches


class SegmentationHead(nn.Module):
    """Batch normalisation, then one score a class from the features of one patch."""

    def __init__(self, channels: int, classes: int):
        super().__init__()
        self.normalise = nn.BatchNorm2d(channels)
        self.score = nn.Conv2d(channels, classes, 1)
        nn.init.normal_(self.score.weight, std=0.01)
        nn.init.zeros_(self.score.bias)

    def forward(self, feats: Tensor) -> Tensor:  # [B, C, h, w] -> logits [B, M, h, w]
        return self.score(self.normalise(feats))


def uniform_bins(low: float, high: float, count: int) -> Tensor:  # [K] metres
    """``count`` depths from ``low`` to ``high``, equally far apart."""
    return torch.linspace(low, high, count)


def bin_probabilities(logits: Tensor) -> Tensor:  # [B, K, h, w] -> [B, K, h, w], sums to 1 over K
    """Scores to probabilities by "linear normalisation": (relu(s) + 0.1) / Σ (relu(s) + 0.1).

    Unlike softmax it grows in proportion to the score, so two bins can share a pixel, at an edge for instance.
    """
    positive = logits.relu() + FLOOR
    return positive / positive.sum(1, keepdim=True)


def expected_depth(
    logits: Tensor,  # [B, K, h, w]
    bins: Tensor,  # [K] metres
) -> Tensor:  # [B, h, w] metres
    """The mean depth under :func:`bin_probabilities`.

    Numerator and denominator are two weighted sums of the same scores, so the probabilities need never be stored:
    Σ b (relu(s) + 0.1) and Σ (relu(s) + 0.1).
    """
    sums = F.conv2d(logits.relu(), torch.stack([bins, torch.ones_like(bins)])[:, :, None, None])
    return (sums[:, 0] + FLOOR * bins.sum()) / (sums[:, 1] + FLOOR * len(bins))


class BinnedDepth(nn.Module):
    """What every depth head ends with: scores of bins, from which depth is the mean. ``scores`` is the head's own."""

    def __init__(self, low: float, high: float, bins: int):
        super().__init__()
        self.register_buffer("bins", uniform_bins(low, high, bins))

    def scores(self, feats, cls: Tensor) -> Tensor:  # -> [B, K, 4h, 4w]
        raise NotImplementedError

    def forward(self, feats, cls: Tensor) -> Tensor:  # -> [B, 4h, 4w] metres
        return expected_depth(self.scores(feats, cls), self.bins)

    def distribution(self, feats, cls: Tensor) -> Tensor:  # -> [B, K, 4h, 4w], sums to 1 over K
        return bin_probabilities(self.scores(feats, cls))


class DepthHead(BinnedDepth):
    """Patch features, enlarged four times, with the CLS token beside each; a score a bin; the expected depth.

    A 1×1 convolution and a bilinear enlargement are both linear in space and weights of the enlargement sum to 1, so
    they can change places: the scores are computed at the patches and enlarged, which is the same map for a sixteenth
    of the products. The CLS token, equal at every patch, adds one score a bin to the whole photo.
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
    ) -> Tensor:  # [B, K, 4h, 4w]
        scores = self.patch_score(feats) + self.cls_score(cls)[:, :, None, None]
        return F.interpolate(scores, scale_factor=UPSAMPLING, mode="bilinear", align_corners=False)
