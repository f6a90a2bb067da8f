"""A richer head: a small dense prediction transformer decoder (DPT, Ranftl et al. 2021, arXiv 2103.13413, section 3).

It reads four blocks of the ViT instead of one. Each becomes a map of another size (4, 2, 1 and ½ times the patch grid),
and from the coarsest to the finest they are fused by residual convolutions. The ViT is as frozen as before; what this
head adds is convolutions, which see neighbours, so it answers another question than the linear head: what can be made
of the features, not what lies in them open to a matrix. FiT3D's appendix shows its gain under this head too.

Smaller than the original: 32 channels where it has 256, and an output at 4 times the patch grid, which is the grid of
the linear depth head.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from .heads import FINER, BinnedDepth, Lattice

__all__ = ["DPTDecoder", "DPTDepthHead", "DPTSegmentationHead"]

LEVELS = 4
WIDTH = 32  # channels of the decoder


class Residual(nn.Module):
    """x + conv(relu(conv(relu(x))))."""

    def __init__(self, width: int):
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(self.first(x.relu()).relu())


class DPTDecoder(nn.Module):
    """Four feature maps of one patch grid, early block first, to one map four times finer."""

    def __init__(self, channels: Sequence[int], width: int = WIDTH):
        super().__init__()
        resize = [
            nn.ConvTranspose2d(width, width, 4, stride=4),
            nn.ConvTranspose2d(width, width, 2, stride=2),
            nn.Identity(),
            nn.Conv2d(width, width, 3, stride=2, padding=1),
        ]
        self.reassemble = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c, width, 1), layer, nn.Conv2d(width, width, 3, padding=1, bias=False))
            for c, layer in zip(channels, resize, strict=True)
        )
        self.skip = nn.ModuleList(Residual(width) for _ in range(LEVELS - 1))
        self.fuse = nn.ModuleList(Residual(width) for _ in range(LEVELS))

    def forward(self, feats: Sequence[Tensor]) -> Tensor:  # four of [B, C_i, h, w] -> [B, width, 4h, 4w]
        maps = [layer(f) for layer, f in zip(self.reassemble, feats, strict=True)]
        x = self.fuse[3](maps[3])
        for i in (2, 1, 0):
            x = F.interpolate(x, maps[i].shape[-2:], mode="bilinear", align_corners=False)
            x = self.fuse[i](x + self.skip[i](maps[i]))
        return x


class DPTSegmentationHead(nn.Module):
    """The decoder, then one score a class at every cell of the finer grid."""

    def __init__(self, channels: Sequence[int], classes: int, width: int = WIDTH):
        super().__init__()
        # Features of several blocks differ in scale by far more than convolutions started at random can bear.
        self.normalise = nn.ModuleList(nn.BatchNorm2d(c) for c in channels)
        self.decoder = DPTDecoder(channels, width)
        self.score = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, classes, 1)
        )

    def forward(self, feats: Sequence[Tensor]) -> Tensor:  # four of [B, C_i, h, w] -> scores [B, M, 4h, 4w]
        return self.score(self.decoder([layer(f) for layer, f in zip(self.normalise, feats, strict=True)]))


class DPTDepthHead(BinnedDepth):
    """The decoder, then scores of depth bins as in the linear head, with the CLS token's share."""

    def __init__(
        self, channels: Sequence[int], cls_channels: int, low: float, high: float, bins: int = 256, width: int = WIDTH
    ):
        super().__init__(low, high, bins)
        self.normalise = nn.ModuleList(nn.BatchNorm2d(c) for c in channels)
        self.decoder = DPTDecoder(channels, width)
        self.last = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU())
        self.patch_score = nn.Conv2d(width, bins, 1)
        self.cls_score = nn.Linear(cls_channels, bins, bias=False)

    def scores(self, feats: Sequence[Tensor], cls: Tensor, lattice: Lattice | None = None) -> Tensor:
        fine = self.last(self.decoder([layer(f) for layer, f in zip(self.normalise, feats, strict=True)]))
        assert fine.shape[2] == FINER * feats[0].shape[2], "the decoder's grid is the linear head's"
        if lattice is not None:  # a 1×1 convolution: choose the places first
            fine = fine[:, :, lattice[0]][:, :, :, lattice[1]]
        return self.patch_score(fine) + self.cls_score(cls)[:, :, None, None]
