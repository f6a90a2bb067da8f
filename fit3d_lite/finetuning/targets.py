"""The targets of fine-tuning: what each photo's patches should say, rendered from the Gaussians by its own camera.

A target is rendered at the patch grid, once per view, when it is first needed. All of them are kept in memory, or in a
file that the system maps into memory where they would not fit, or nowhere (``keep="render"``). Lifted features may be
given as the paths of files that :meth:`Lifted.save` wrote; these are mapped too, so scenes need not fit in memory.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..lifting.lifted import Lifted
from ..scenes.scene import Scene

KEEP = ("auto", "memory", "disk", "render")
BUDGET = 2 * 2**30  # bytes of targets that "auto" keeps in memory


class Targets:
    """Feature, log-depth and mask of every view of every scene, by one number from 0."""

    def __init__(
        self,
        scenes: Sequence[Scene],
        lifted: Sequence[Lifted | str | Path],
        channels: int,
        grid: tuple[int, int],  # h, w
        keep: str = "auto",
        budget: int = BUDGET,
    ):
        if keep not in KEEP:
            raise ValueError(f"targets must be kept in one of {', '.join(KEEP)}; got {keep!r}.")
        self.scenes, self.channels, self.grid = scenes, channels, grid
        self.lifted = [Lifted.load(x) if isinstance(x, str | Path) else x for x in lifted]
        for scene, one in zip(self.scenes, self.lifted, strict=True):
            if one.channels != channels:
                raise ValueError(
                    f"The features lifted for {scene.name} have {one.channels} channels, the ViT gives {channels}: "
                    f"lift this ViT's own features."
                )
        self.where = [(s, v) for s, scene in enumerate(scenes) for v in range(len(scene))]
        cells = (channels + 2) * grid[0] * grid[1]  # features, log-depth, mask
        size = len(self.where) * cells * 4
        self.keep = ("memory" if size <= budget else "disk") if keep == "auto" else keep
        self.done = [False] * len(self.where)
        self._folder = None
        shape = (len(self.where), channels + 2, *grid)
        if self.keep == "memory":
            self.kept = torch.empty(shape)
        elif self.keep == "disk":
            self._folder = tempfile.TemporaryDirectory(prefix="fit3d_targets_")
            file = str(Path(self._folder.name) / "targets.bin")
            self.kept = torch.from_file(file, shared=True, size=len(self.where) * cells).view(shape)

    def __len__(self) -> int:
        return len(self.where)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:  # [C, h, w], [h, w], [h, w] bool
        """(feature, log of the depth in metres, mask) of one view; feature and log-depth are 0 outside the mask."""
        if self.keep == "render":
            whole = self.render(index)
        else:
            if not self.done[index]:
                self.kept[index] = self.render(index)
                self.done[index] = True
            whole = self.kept[index]
        return whole[:-2], whole[-2], whole[-1] > 0.5

    @torch.no_grad()
    def render(self, index: int) -> Tensor:  # [C + 2, h, w]
        """One target, made anew: features W f and depth W z by the same matrix."""
        s, v = self.where[index]
        one, camera, (h, w) = self.lifted[s], self.scenes[s].cameras[v], self.grid
        W, covered = one.weights(camera, h, w)
        feature, mask = one.gather(W, covered, h, w)
        z = camera.project(one.cloud.means)[1].clamp_min(1e-3).to(W.dtype)
        depth = (W @ z[:, None]).reshape(h, w)
        log_depth = torch.where(mask, depth.clamp_min(1e-3).log(), 0)
        return torch.cat([feature, log_depth[None], mask[None].to(feature)]).float().cpu()

    def some(self, most: int) -> list[int]:
        """At most ``most`` views, evenly over all of them."""
        count = min(most, len(self))
        return [i * len(self) // count for i in range(count)]
