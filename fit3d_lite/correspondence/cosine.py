"""One number for agreement: the cosine of features at the same surface point in two views, beside that of shuffled pairs.

    found = cross_view_cosine(vit.extract(scene.images), scene)        # found.true, found.shuffled, found.margin

For quick looks and for tables with many rows; recall and angles are in consistency.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..base.inputs import feature_maps
from ..scenes.scene import Scene
from .correspond import correspondences
from .match import features_at

__all__ = ["Cosine", "cross_view_cosine"]


@dataclass(frozen=True)
class Cosine:
    """Mean cosine of features at true correspondences and at shuffled ones, over ``pairs`` pairs."""

    true: float
    shuffled: float
    pairs: int

    @property
    def margin(self) -> float:
        return self.true - self.shuffled


def cross_view_cosine(
    feats: Tensor,  # [V, C, h, w] of the scene's views
    scene: Scene,
    per_view: int = 200,
    center: bool = False,
    seed: int = 0,
) -> Cosine:
    """Do two views agree about the same point, and not about just any point?

    The shuffled pairs are the same features with partners drawn anew: what agreement costs nothing. Features with a
    large common mean have a high cosine everywhere; ``center`` removes the scene's mean first.

    Raises:
        ValueError: the scene has no depths, or no two views share a point.
    """
    feats = feature_maps(feats, len(scene), scene.height, scene.width, "feats")
    view_a, uv_a, view_b, uv_b = correspondences(scene, per_view, seed=seed)
    if center:
        feats = feats - feats.mean((0, 2, 3), keepdim=True)
    a, b = _unit_at(feats, scene, view_a, uv_a), _unit_at(feats, scene, view_b, uv_b)
    other = torch.randperm(len(b), generator=torch.Generator().manual_seed(seed + 1))
    true, shuffled = (a * b).sum(1).mean(), (a * b[other]).sum(1).mean()
    return Cosine(true.item(), shuffled.item(), len(a))


def _unit_at(feats, scene, view, uv) -> Tensor:  # [P, C] of length 1
    out = feats.new_empty(len(view), feats.shape[1])
    for v in view.unique().tolist():
        out[view == v] = features_at(feats[v], uv[view == v], (scene.height, scene.width))
    return out
