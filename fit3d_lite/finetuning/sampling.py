"""Which views a step sees, and which of them are mirrored: a function of the seed and the step, so that nothing has to
be remembered to continue a run, and every process can work it out for itself."""

from __future__ import annotations

import torch
from torch import Tensor


class Sampler:
    """Every view once an epoch, in a new order; a rest that fills no batch is left out, as FiT3D does.

    Views are divided into ``shards`` by scene, shard s taking scenes s, s + shards, …, and every step takes equally
    many views of each shard. Several processes are shards too: two processes with a batch of 2 see, step for step, what
    one process sees with a batch of 4 and two shards.
    """

    def __init__(
        self,
        scene_of: list[int],  # by view
        batch: int,
        shards: int = 1,
        seed: int = 0,
        first_shard: int = 0,  # number of this process's first shard among all processes'
    ):
        if batch % shards:
            raise ValueError(f"A batch of {batch} cannot take equally many views of {shards} shards.")
        self.views = [[i for i, s in enumerate(scene_of) if s % shards == shard] for shard in range(shards)]
        self.share, self.seed, self.first = batch // shards, int(seed), first_shard
        self.steps = min(len(v) for v in self.views) // self.share  # of an epoch
        if not self.steps:
            counts = ", ".join(str(len(v)) for v in self.views)
            raise ValueError(f"A batch of {batch} needs {self.share} views of each shard; the shards have {counts}.")
        self._orders: tuple[int, list[Tensor]] = (-1, [])

    def __call__(self, step: int) -> tuple[list[int], list[float]]:
        """Views of a step (counted over all epochs), and for each a number in 0..1 that decides on mirroring."""
        epoch, at = divmod(step, self.steps)
        if self._orders[0] != epoch:
            rngs = [self._rng(shard, epoch, 0) for shard in range(len(self.views))]
            self._orders = epoch, [torch.randperm(len(v), generator=g) for v, g in zip(self.views, rngs, strict=True)]
        views, chances = [], []
        for shard, order in enumerate(self._orders[1]):
            views += [self.views[shard][i] for i in order[at * self.share : (at + 1) * self.share].tolist()]
            chances += torch.rand(self.share, generator=self._rng(shard, step, 1)).tolist()
        return views, chances

    def _rng(self, shard: int, count: int, use: int) -> torch.Generator:
        number = ((self.seed * 2 + use) * 1_000_003 + count) * 1_009 + self.first + shard
        return torch.Generator().manual_seed(number % 2**63)
