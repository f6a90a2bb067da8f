"""Targets that should not help: what fine-tuning must beat before a gain may be called 3D.

    tuned = finetune(vit, scenes, ShuffledPoses(scenes, lifted, vit.channels, grid))

Each is a :class:`Targets`; the recipe, the photos and the number of steps stay what they are.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .targets import Targets

__all__ = ["BlurredFeatures", "OwnFeatures", "ShuffledPoses"]


class ShuffledPoses(Targets):
    """Each photo gets what the camera of another photo of its scene sees: real renders, in the wrong place."""

    def render(self, index: int) -> Tensor:
        scene, view = self.where[index]
        views = len(self.scenes[scene])
        if views < 2:
            raise ValueError(f"{self.scenes[scene].name} has one view: there is no other pose to take.")
        return super().render(index - view + (view + views // 2) % views)


class OwnFeatures(Targets):
    """Each photo gets the ViT's own features of it: what training on as such does, with nothing to learn."""

    def __init__(self, *args, vit, **options):
        super().__init__(*args, **options)
        self.vit = vit

    def feature(self, own: Tensor) -> Tensor:  # [C, h, w] -> [C, h, w]
        return own

    @torch.no_grad()
    def render(self, index: int) -> Tensor:
        whole = super().render(index).clone()  # its depth and mask are kept, so that only the feature differs
        scene, view = self.where[index]
        own = self.vit.extract(self.scenes[scene].images[view : view + 1])[0].float().cpu()
        whole[:-2] = self.feature(own) * whole[-1]
        return whole


class BlurredFeatures(OwnFeatures):
    """Each photo gets the ViT's own features of it, averaged over 5 × 5 patches: smoothing without any 3D."""

    WINDOW = 5  # patches; about as much smoothing as lifting does to the tiny ViT's features

    def feature(self, own: Tensor) -> Tensor:
        side = self.WINDOW
        return F.avg_pool2d(own[None], side, 1, side // 2, count_include_pad=False)[0]
