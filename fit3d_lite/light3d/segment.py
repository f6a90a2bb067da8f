"""Points beside pixels: two networks that say what every pixel is, each with or without a map of point features.

Early: photo and point features meet before the first convolution of a small 2D network that is trained from nothing.
Late: they stand beside the frozen features of a ViT, and one matrix reads both.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..probing.heads import SegmentationHead, enlarge
from .frustum import Frustum
from .pointnet import PointNet

__all__ = ["WAYS", "Segmenter", "SmallUNet"]

# What pixels get of the points: what PointNet learned; the same, given to the wrong points; numbers drawn once for each
# point; geometry without learning.
POINT_RATE = 1e-3  # at the rate of a linear head it learns nothing
WAYS = ("none", "points", "shuffled", "random", "handmade")


class Segmenter(nn.Module):
    """Photos, or features of a ViT, and the points before their cameras, to scores of M classes.

    Args:
        way: one of :data:`WAYS`; ValueError for another.
        vit_channels: C of the ViT's features for the late way; None for photos, the early way.
        width: d, the numbers a point has ("handmade" has 5).
    """

    def __init__(self, classes: int, way: str = "points", vit_channels: int | None = None, width: int = 16):
        if way not in WAYS:
            raise ValueError(f"way must be one of {', '.join(WAYS)}, got {way!r}.")
        super().__init__()
        self.rate = 3e-3 if vit_channels is None else 1e-2  # one matrix bears more than a U-Net
        self.way, self.width = way, {"none": 0, "handmade": 5}.get(way, width)
        self.pointnet = PointNet(width) if way in ("points", "shuffled") else None
        self.photo = SmallUNet(3 + self.width, classes) if vit_channels is None else None
        self.of_vit = None if vit_channels is None else SegmentationHead(vit_channels, classes)
        self.of_points = SegmentationHead(self.width, classes) if vit_channels is not None and self.width else None

    def parameter_groups(self) -> list[dict]:
        """For the optimizer: PointNet learns at :data:`POINT_RATE`, whatever the rest can bear."""
        learns = {id(p) for p in self.pointnet.parameters()} if self.pointnet else {}
        points, rest = ([p for p in self.parameters() if (id(p) in learns) == asked] for asked in (True, False))
        groups = [{"params": rest}, {"params": points, "share": POINT_RATE / self.rate}]
        return [group for group in groups if group["params"]]

    def forward(self, inputs: Tensor, views: list[Frustum]) -> Tensor:
        """Photos [B, 3, H, W] or features [B, C, h, w], with B frustums of H × W, to scores [B, M, H, W]."""
        points = self.carried(views) if self.width else None
        if self.photo is not None:
            return self.photo(inputs if points is None else torch.cat([inputs, points], 1))
        # One matrix on [features of the pixel's patch, features of its points]: its two parts, added.
        scores = enlarge(self.of_vit(inputs), (views[0].height, views[0].width))
        return scores if points is None else scores + self.of_points(points)

    def carried(self, views: list[Frustum]) -> Tensor:  # [B, d, H, W]
        """The point features as pixels see them."""
        return torch.stack([view.carry(values) for view, values in zip(views, self.values(views), strict=True)])

    def values(self, views: list[Frustum]) -> list[Tensor]:  # B times [N, d]
        """What is known of each point. Chance is the same whenever the same view comes."""
        chance = [torch.Generator().manual_seed(len(view)) for view in views]
        if self.way == "handmade":
            return [view.handmade for view in views]
        if self.way == "random":
            return [torch.randn(len(v), self.width, generator=rng).to(v.points) for v, rng in zip(views, chance, strict=True)]
        values = self.pointnet([view.points for view in views])
        if self.way == "shuffled":
            values = [some[torch.randperm(len(some), generator=rng)] for some, rng in zip(values, chance, strict=True)]
        return values


class SmallUNet(nn.Module):
    """A U-Net: three times down by a factor of 2, and up again, adding what was there on the way down.

    The first layer mixes all that a pixel has, colors and points, as the paper does, before any pixel sees its neighbours.
    """

    def __init__(self, channels: int, classes: int, widths: tuple[int, ...] = (16, 32, 64, 128)):
        super().__init__()
        self.merge = _block(channels, widths[0], kernel=1)
        pairs = list(zip(widths[:-1], widths[1:], strict=True))
        self.down = nn.ModuleList(nn.Sequential(_block(a, b, stride=2), _block(b, b)) for a, b in pairs)
        self.up = nn.ModuleList(nn.ModuleList([nn.Conv2d(b, a, 1), _block(a, a)]) for a, b in reversed(pairs[1:]))
        self.score = nn.Conv2d(widths[1], classes, 1)

    def forward(self, x: Tensor) -> Tensor:  # [B, C, H, W] -> [B, M, H, W]
        size, kept, x = x.shape[-2:], [], self.merge(x)
        for block in self.down:
            x = block(x)
            kept.append(x)
        for (narrow, block), before in zip(self.up, reversed(kept[:-1]), strict=True):
            x = block(enlarge(narrow(x), before.shape[-2:]) + before)
        return enlarge(self.score(x), size)


def _block(channels: int, out: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(channels, out, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out), nn.ReLU())
