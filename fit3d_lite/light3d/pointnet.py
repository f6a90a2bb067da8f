"""PointNet (Qi et al. 2017, arXiv 1612.00593) in the size of arXiv 2212.08334: a few numbers for each bare point.

Every point goes through the same small layers, 3 → 64 → 128 → 1024. The maximum over all points of a view says, in 1024
numbers and whatever the order of the points, what kind of place this is. Beside it each point keeps its own 64 numbers, and
from both, 1088 together, shared layers make the d numbers that go to the pixels. The paper normalises over the batch; here a
batch is two or four views, too few for a mean of what is one vector a view, so each point is normalised by itself.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["PointNet"]

SMALL = 0.1  # of the usual first weights: three colors would drown among d loud numbers that mean nothing yet


class PointNet(nn.Module):
    """Points of several views to d = ``width`` numbers each.

    Args:
        width: d.
        own: channels of the shared layers before the maximum; the first is what a point keeps of its own.
        after: channels of the shared layers after it.
    """

    def __init__(self, width: int = 16, own: tuple[int, ...] = (64, 128, 1024), after: tuple[int, ...] = (512, 256, 128)):
        super().__init__()
        self.near = _layer(3, own[0])
        self.far = nn.Sequential(*map(_layer, own[:-1], own[1:]))
        # One matrix of 1088 columns, cut in two: the part for what is equal in all of a view is used once a view.
        self.of_point, self.of_view = nn.Linear(own[0], after[0], bias=False), nn.Linear(own[-1], after[0], bias=False)
        self.mixed = nn.Sequential(nn.LayerNorm(after[0]), nn.ReLU(), *map(_layer, after[:-1], after[1:]))
        self.last = nn.Linear(after[-1], width)
        self.last.weight.data *= SMALL

    def forward(self, points: list[Tensor]) -> list[Tensor]:  # V times [N, 3] metres, in the camera's frame -> V times [N, d]
        counts = [len(some) for some in points]
        if 0 in counts:
            raise ValueError(f"View {counts.index(0)} has no points: is anything in front of its camera?")
        own = self.near(torch.cat(points))
        view = torch.stack([some.amax(0) for some in self.far(own).split(counts)])
        both = self.of_point(own) + self.of_view(view).repeat_interleave(torch.tensor(counts, device=own.device), 0)
        return list(self.last(self.mixed(both)).split(counts))


def _layer(channels: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(channels, out, bias=False), nn.LayerNorm(out), nn.ReLU())
