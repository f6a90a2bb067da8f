"""Where Gaussians are added and dropped while photos are fitted: 3DGS's adaptive density control (section 5.2).

What is almost invisible is dropped. What pulls hardest on its position is split in two along its longest axis: a strong
pull is the sign of detail that one Gaussian cannot show.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .gaussians import rotation_matrices

FAINT = 0.02  # opacity under which a Gaussian is dropped


class Densifier:
    """Watches how hard the photos pull at each Gaussian, and splits by it."""

    def __init__(self, count: int, share: float, max_count: int):
        self.share, self.max_count = share, max_count
        self.pull = torch.zeros(count, 2)  # summed length of the position's gradient, times seen

    def watch(self, means: Tensor) -> None:
        """After each backward pass."""
        strength = means.grad.norm(dim=1)
        self.pull = self.pull.to(strength.device)
        self.pull += torch.stack([strength, (strength > 0).float()], 1)

    @torch.no_grad()
    def refine(self, raw: dict[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
        """Drop the faint and split ``share`` of the rest, up to ``max_count``. Changes ``raw`` and ``optimizer``, one
        group of which holds each of ``raw``'s parameters by its name."""
        keep = torch.nonzero(raw["opacities"].sigmoid() > FAINT).squeeze(1)
        room = max(0, min(math.ceil(self.share * len(keep)), self.max_count - len(keep)))
        mean_pull = (self.pull[:, 0] / self.pull[:, 1].clamp_min(1))[keep]
        parents = keep[mean_pull.topk(room).indices]
        index = torch.cat([keep, parents])

        first = torch.searchsorted(keep, parents)  # one child takes its parent's row, the other a new one at the end
        second = torch.arange(len(keep), len(index), device=first.device)
        axis = raw["scales"][parents].argmax(1)
        length = raw["scales"][parents].exp().gather(1, axis[:, None])
        along = rotation_matrices(raw["quats"][parents]).gather(2, axis[:, None, None].expand(-1, 3, 1)).squeeze(2)
        values = {name: old[index].clone() for name, old in raw.items()}
        # The children sit half a standard deviation to either side and are shorter, so that together they cover what
        # the parent covered.
        for rows, side in ((first, -0.5), (second, 0.5)):
            values["means"][rows] += side * length * along
            values["scales"][rows, axis] += math.log(0.7)

        for group in optimizer.param_groups:  # Adam's memory follows its Gaussian
            old, new = raw[group["name"]], torch.nn.Parameter(values[group["name"]])
            memory = optimizer.state.pop(old, {})
            optimizer.state[new] = {k: v[index] if v.shape == old.shape else v for k, v in memory.items()}
            group["params"], raw[group["name"]] = [new], new
        self.pull = self.pull.new_zeros(len(index), 2)
