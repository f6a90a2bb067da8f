"""Where Gaussians are added and dropped while they are fitted: adaptive density control (3DGS, section 5.2), by error.

What is almost invisible is dropped. Where the picture is still wrong, Gaussians are split in two along their longest axis.
3DGS splits what pulls hardest on its position; here counts how much error lies on a Gaussian, as in Rota Bulò et al. 2024
("Revising Densification in Gaussian Splatting"): Wᵀ e, with e the error of each pixel, which the backward pass gives for
nothing as the gradient of one more channel that is zero everywhere.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .gaussians import rotation_matrices

FAINT = 0.02  # opacity under which a Gaussian is dropped
REFINED = 0.8  # share of the steps after which the number of Gaussians stays, so that all have time to settle


def refinements(steps: int, every: int) -> int:
    """How often the number of Gaussians is changed in so many steps."""
    return sum(1 for step in range(every, steps, every) if step < REFINED * steps)


class Densifier:
    """Counts the error on each Gaussian, and from time to time drops and splits some of them."""

    def __init__(self, count: int, share: float, max_count: int):
        self.share, self.max_count = share, max_count
        self.error = torch.zeros(count)  # summed over photos, of each Gaussian

    def watch(self, error: Tensor) -> None:  # [N]
        """After each backward pass: the error that lies on each Gaussian in this photo."""
        self.error = self.error.to(error.device) + error

    @torch.no_grad()
    def refine(self, raw: dict[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
        """Drop the faint and split ``share`` of the rest, up to ``max_count``. Changes ``raw`` and ``optimizer``, one
        group of which holds each of ``raw``'s parameters by its name."""
        keep = torch.nonzero(raw["opacities"].sigmoid() > FAINT).squeeze(1)
        room = max(0, min(math.ceil(self.share * len(keep)), self.max_count - len(keep)))
        parents = keep[self.error[keep].topk(room).indices]
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
            if group["name"] not in raw:
                continue  # exposures and poses belong to photos
            old, new = raw[group["name"]], torch.nn.Parameter(values[group["name"]])
            memory = optimizer.state.pop(old, {})
            optimizer.state[new] = {k: v[index] if v.shape == old.shape else v for k, v in memory.items()}
            group["params"], raw[group["name"]] = [new], new
        self.error = self.error.new_zeros(len(index))
