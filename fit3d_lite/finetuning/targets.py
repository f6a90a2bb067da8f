"""The targets of fine-tuning: what each photo's patches should say, rendered from the Gaussians by its own camera.

A target is rendered at the patch grid (or a finer one), once per view, when it is first needed. All of them are kept in
memory, or in a file that the system maps into memory where they would not fit, or nowhere (``keep="render"``). Lifted
features may be given as the paths of files that :meth:`Lifted.save` wrote; these are mapped too, so scenes need not fit in
memory.

The second half are targets that should not help: what fine-tuning must beat before a gain may be called 3D. The
recipe, the photos and the number of steps stay what they are.

    tuned = finetune(vit, scenes, ShuffledPoses(scenes, lifted, vit.channels, grid))
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..base.inputs import check_kind
from ..lifting.lifted import Lifted
from ..scenes.scene import Scene

__all__ = ["AgreeingPatches", "BlurredFeatures", "OwnFeatures", "RandomPatches", "ShuffledPoses", "Targets"]

KEEP = ("auto", "memory", "disk", "render")
BUDGET = 2 * 2**30  # bytes of targets that "auto" keeps in memory


class Targets:
    """Feature, log-depth and mask of every view of every scene, by one number from 0."""

    @torch.inference_mode(False)  # targets are filled in later, which torch forbids of tensors made in that mode
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
            check_kind(Lifted, **{f"what was lifted for {scene.name}": one})
            if not one.features.isfinite().all():
                raise ValueError(f"The features lifted for {scene.name} are not finite: lift again, from features in float32.")
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
            self.kept = torch.empty(shape, dtype=torch.float32)
        elif self.keep == "disk":
            self._folder = tempfile.TemporaryDirectory(prefix="fit3d_targets_")
            file = Path(self._folder.name) / "targets.bin"
            with open(file, "wb") as opened:  # a disk that fills up under a mapped file kills the process
                _reserve(opened, size)
            self.kept = torch.from_file(str(file), shared=True, size=size // 4, dtype=torch.float32).view(shape)

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
        counts = self.scenes[s].masks
        if counts is not None:  # of anonymised photos a patch counts where most of its pixels do
            mask = mask & (F.adaptive_avg_pool2d(counts[v][None].float(), (h, w))[0] > 0.5).to(mask.device)
            feature = feature * mask
        z = camera.project(one.cloud.means)[1].clamp_min(1e-3).to(W.dtype)
        depth = (W @ z[:, None]).reshape(h, w)
        log_depth = torch.where(mask, depth.clamp_min(1e-3).log(), 0)
        return torch.cat([feature, log_depth[None], mask[None].to(feature)]).float().cpu()

    def some(self, most: int) -> list[int]:
        """At most ``most`` views, evenly over all of them."""
        count = min(most, len(self))
        return [i * len(self) // count for i in range(count)]


def enlarged(maps: Tensor, grid: tuple[int, int]) -> Tensor:  # [B, C, h, w], (h', w') -> [B, C, h', w']
    """Maps at the grid of the targets, bilinearly."""
    return maps if maps.shape[2:] == grid else F.interpolate(maps, tuple(grid), mode="bilinear", align_corners=False)


def _reserve(file, size: int) -> None:
    """Take ``size`` bytes of the disk now."""
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return  # a file system that reserves nothing
        folder = Path(file.name).parents[1]
        free = shutil.disk_usage(folder).free / 2**20
        raise OSError(
            error.errno,
            f"the targets need {size / 2**20:,.0f} MB and {folder} has {free:,.0f} MB free; make room, set TMPDIR to another "
            f'folder, or use targets="render"',
        ) from None


class TargetScale(nn.Module):
    """Fixed scales, kept as buffers so that a checkpoint carries them: t' = t · scale + shift, z' = (z − mean) / std."""

    def __init__(self, channels: int):
        super().__init__()
        self.register_buffer("scale", torch.ones(channels, 1, 1))
        self.register_buffer("shift", torch.zeros(channels, 1, 1))
        self.register_buffer("depth", torch.tensor([0.0, 1.0]))  # mean and std of the log-depth

    def forward(self, feature: Tensor, log_depth: Tensor) -> tuple[Tensor, Tensor]:  # [B, C, h, w], [B, h, w], as they come
        mean, std = self.depth
        return feature * self.scale + self.shift, (log_depth - mean) / std


class ShuffledPoses(Targets):
    """Each photo gets what the camera of another photo of its scene sees: real renders, in the wrong place."""

    def render(self, index: int) -> Tensor:
        scene, view = self.where[index]
        views = len(self.scenes[scene])
        if views < 2:
            raise ValueError(f"{self.scenes[scene].name} has one view: there is no other pose to take.")
        return super().render(index - view + (view + views // 2) % views)


class OwnFeatures(Targets):
    """Each photo gets the ViT's own features of it: what training on as such does, with nothing to learn.

    ``cache`` and ``dtype`` are those of :meth:`ViT.extract`; they should be what the lifted features were made with.
    """

    def __init__(self, *args, vit, cache=None, dtype=None, **options):
        super().__init__(*args, **options)
        self.vit, self.asked, self.own = vit, {"cache": cache, "dtype": dtype}, {}

    def feature(self, own: Tensor) -> Tensor:  # [C, h, w] -> [C, h, w]
        return own

    @torch.no_grad()
    def render(self, index: int) -> Tensor:
        whole = super().render(index).clone()  # its depth and mask are kept, so that only the feature differs
        whole[:-2] = self._own(index) * whole[-1]
        return whole

    def _own(self, index: int) -> Tensor:  # [C, h, w] at the targets' grid
        scene, view = self.where[index]
        if scene not in self.own:  # all photos of a scene at once, as who lifted them has asked for them
            found = self.vit.extract(self.scenes[scene].images, quiet=True, **self.asked).cpu()
            self.own = {**(self.own if self.keep == "memory" else {}), scene: found}
        return enlarged(self.feature(self.own[scene][view])[None], self.grid)[0]


class BlurredFeatures(OwnFeatures):
    """Each photo gets the ViT's own features of it, averaged over 5 × 5 patches: smoothing without any 3D."""

    WINDOW = 5  # patches

    def feature(self, own: Tensor) -> Tensor:
        side = self.WINDOW
        return F.avg_pool2d(own[None], side, 1, side // 2, count_include_pad=False)[0]


class AgreeingPatches(OwnFeatures):
    """No control, but a narrower target: of each photo the half of its covered patches whose own feature is nearest, by
    cosine, to what the Gaussians say. Where the views disagree nothing is asked."""

    @torch.no_grad()
    def render(self, index: int) -> Tensor:
        whole = Targets.render(self, index).clone()
        alike, covered = F.cosine_similarity(whole[:-2], self._own(index), dim=0), whole[-1] > 0.5
        if covered.any():
            whole *= covered & (alike >= alike[covered].median())
        return whole


class RandomPatches(Targets):
    """The control of :class:`AgreeingPatches`: of each photo some half of its covered patches."""

    @torch.no_grad()
    def render(self, index: int) -> Tensor:
        whole = super().render(index)
        drawn = torch.rand(self.grid, generator=torch.Generator().manual_seed(index))
        return whole * (drawn < 0.5)
