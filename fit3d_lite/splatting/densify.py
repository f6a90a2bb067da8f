"""Where Gaussians are added and dropped while photos are fitted: by splitting those that pull hardest.

Both ways, ``Split`` here and ``Mcmc`` in mcmc.py, have the same three methods, which ``photofit.fit`` calls in every
step: ``penalty`` before the gradient, ``see_gradient`` after it, ``after_step`` after the optimisers' step. The last may
change the number of Gaussians: it puts new parameters into ``raw`` and into the optimisers, whose memory follows its
Gaussian.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .gaussians import Gaussians, rotation_matrices

FAINT = 0.02  # opacity under which a Gaussian is dropped

Raw = dict[str, torch.nn.Parameter]  # means, quats, scales (logarithms), opacities (logits), colors (harmonics)
Optimizers = dict[str, torch.optim.Optimizer]  # one for each of these names, as gsplat's strategies want it


class Split:
    """Drop what is almost invisible; split in two, along the longest axis, what pulls hardest on its position: the sign
    of detail that one Gaussian cannot show (3DGS, section 5.2).
    """

    def __init__(self, count: int, max_count: int, share: float, every: int, until: float):
        self.max_count, self.share, self.every, self.until = max_count, share, every, until
        self.pull = torch.zeros(count, 2)  # summed length of the position's gradient, times seen

    def penalty(self, cloud: Gaussians) -> float:
        return 0.0

    def see_gradient(self, raw: Raw) -> None:
        strength = raw["means"].grad.norm(dim=1)
        self.pull = self.pull.to(strength.device)
        self.pull += torch.stack([strength, (strength > 0).float()], 1)

    def after_step(self, raw: Raw, optimizers: Optimizers, step: int, lr: float) -> None:
        """``step`` counts from 1."""
        if step % self.every == 0 and step < self.until:
            self.refine(raw, optimizers)

    @torch.no_grad()
    def refine(self, raw: Raw, optimizers: Optimizers) -> None:
        keep = torch.nonzero(raw["opacities"].sigmoid() > FAINT).squeeze(1)
        room = max(0, min(math.ceil(self.share * len(keep)), self.max_count - len(keep)))
        mean_pull = (self.pull[:, 0] / self.pull[:, 1].clamp_min(1))[keep]
        chosen = keep[mean_pull.topk(room).indices]
        index = torch.cat([keep, chosen])

        first = torch.searchsorted(keep, chosen)  # one child takes its parent's row, the other a new one at the end
        second = torch.arange(len(keep), len(index), device=first.device)
        axis = raw["scales"][chosen].argmax(1)
        length = raw["scales"][chosen].exp().gather(1, axis[:, None])
        along = rotation_matrices(raw["quats"][chosen]).gather(2, axis[:, None, None].expand(-1, 3, 1)).squeeze(2)
        values = {name: old[index].clone() for name, old in raw.items()}
        # The children sit half a standard deviation to either side and are shorter, so that together they cover what
        # the parent covered.
        for rows, side in ((first, -0.5), (second, 0.5)):
            values["means"][rows] += side * length * along
            values["scales"][rows, axis] += math.log(0.7)
        replace_parameters(raw, optimizers, values, lambda memory: memory[index])
        self.pull = self.pull.new_zeros(len(index), 2)


def replace_parameters(raw: Raw, optimizers: Optimizers, values: dict[str, Tensor], follow) -> None:
    """Put new values in the place of the parameters; ``follow`` changes Adam's memory (one row per Gaussian) alike."""
    for name, value in values.items():
        old, new = raw[name], torch.nn.Parameter(value)
        memory = optimizers[name].state.pop(old, {})
        optimizers[name].state[new] = {k: follow(v) if v.shape == old.shape else v for k, v in memory.items()}
        optimizers[name].param_groups[0]["params"] = [new]
        raw[name] = new
