"""Do two views agree? A point of one photo is looked for in another, by its feature alone; depth and poses know where
it is.

    result = consistency(vit, scenes)                  # or features [V, C, h, w] and one scene
    print(result)                                      # a row
    result.recall["10 px"], result.recall_by_angle["30-60°"]["5 cm"], result.margin, result.auc

The protocol follows Probe3D (El Banani et al. 2024, arXiv 2404.08636): nearest neighbours by cosine among all places of
the other photo with known depth, recall within thresholds, in bins of the rotation between the cameras. It differs in
two points, so that each number means what it says: queries are points that the other view does see, rather than the
matches that pass a ratio test best, and pixels are those of the full photo. probe3d.py has theirs.

Raw cosine at true correspondences is no measure of agreement: features that shrink to one vector make it 1. Beside it
always stand the cosine of shuffled pairs and what does not depend on scale: recall, and the area under the ROC curve.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from ..base.inputs import check_kind, check_whole, feature_maps
from ..base.machine import usual_torch
from ..scenes.scene import Scene
from .correspond import TOLERANCE, Pair, surface, view_pairs
from .match import features_at, grid_pixels, roc_auc, soft_argmax

__all__ = ["ANGLES", "BINS", "METRES", "PIXELS", "Consistency", "consistency", "consistency_by_block", "in_bins"]

PIXELS = (5, 10, 20)  # of the full photo
METRES = (0.02, 0.05, 0.10)
BLIND = 512  # places, drawn at random, from which the recall of a guess is told; all of them told the same in twice the time
ANGLES = (0, 15, 30, 60, 180)  # degrees; bins include their lower end
THRESHOLDS = tuple(f"{t} px" for t in PIXELS) + tuple(f"{t * 100:.0f} cm" for t in METRES)
BINS = tuple(f"{low}-{high}°" for low, high in zip(ANGLES, ANGLES[1:], strict=False))

TENSORS = ("pixels", "metres", "soft_pixels", "true", "shuffled", "angle", "chance")


@dataclass(frozen=True, eq=False)
class Consistency:
    """What was measured at each of Q queries; everything else is computed from it. Prints as a row."""

    pixels: Tensor  # [Q] distance of the nearest neighbour from the true place, pixels of the full photo
    metres: Tensor  # [Q] and from the true point, in the world (in its unit, where that is not metres)
    soft_pixels: Tensor  # [Q] distance of the soft-argmax, pixels
    true: Tensor  # [Q] cosine with the feature at the true place
    shuffled: Tensor  # [Q] cosine with the feature at the true place of another query of the same two photos
    angle: Tensor  # [Q] degrees between the two cameras
    chance: Tensor  # [Q, 6] share of the places (of 512 of them) within each threshold: the recall of a random guess
    metric: bool = True  # False: a scene's unit of length is unknown, and nothing is told in centimetres
    rendered: bool = False  # the truth is depth that was rendered from Gaussians, of some scene at least

    @property
    def hits(self) -> Tensor:  # [Q, 6] bool, or [Q, 3] without metres
        """Which queries were found within each threshold, in the order of ``recall``."""
        near = [self.pixels < t for t in PIXELS] + [self.metres < t for t in METRES if self.metric]
        return torch.stack(near, 1)

    @property
    def recall(self) -> dict[str, float]:
        """Share of queries found within "5 px", "10 px", "20 px", and where there are metres "2 cm", "5 cm", "10 cm"."""
        return dict(zip(THRESHOLDS, self.hits.double().mean(0).tolist(), strict=False))

    @property
    def recall_chance(self) -> dict[str, float]:
        """The same for a guess at random."""
        return dict(zip(self.recall, self.chance.double().mean(0).tolist(), strict=False))

    @property
    def recall_by_angle(self) -> dict[str, dict[str, float]]:
        """``recall`` for each bin of viewing angle, "0-15°" to "60-180°"; nan where no pair of views falls."""
        return {name: part.recall for name, part in self._parts()}

    @property
    def queries_by_angle(self) -> dict[str, int]:
        return {name: len(part.angle) for name, part in self._parts()}

    @property
    def cosine_true(self) -> float:
        return self.true.double().mean().item()

    @property
    def cosine_shuffled(self) -> float:
        return self.shuffled.double().mean().item()

    @property
    def margin(self) -> float:
        """How much more a point resembles itself in the other view than another point."""
        return self.cosine_true - self.cosine_shuffled

    @property
    def auc(self) -> float:
        """The chance that a true pair has a higher cosine than a shuffled one: 0.5 tells nothing, 1 tells all."""
        return roc_auc(self.true, self.shuffled)

    @property
    def soft_error(self) -> float:
        """Median distance of the soft-argmax from the true place, pixels."""
        return self.soft_pixels.median().item()

    def select(self, chosen: Tensor) -> Consistency:
        """The result of some queries: ``chosen`` is [Q] bool or indices."""
        return replace(self, **{name: getattr(self, name)[chosen] for name in TENSORS})

    @classmethod
    def pooled(cls, results: Sequence[Consistency]) -> Consistency:
        """Several results as one; every query counts the same. In metres if all are, rendered if one is."""
        whole = (torch.cat([getattr(r, name) for r in results]) for name in TENSORS)
        return cls(*whole, all(r.metric for r in results), any(r.rendered for r in results))

    def _parts(self) -> Iterator[tuple[str, Consistency]]:
        for name, inside in zip(BINS, in_bins(self.angle), strict=True):
            yield name, self.select(inside)

    def __len__(self) -> int:
        return len(self.angle)

    def __repr__(self) -> str:
        recall, chance = self.recall, self.recall_chance
        found = ", ".join(f"{recall[t]:.3f} within {t}" for t in ("10 px", "5 cm") if t in recall)
        by_chance = ", ".join(f"{chance[t]:.3f}" for t in ("10 px", "5 cm") if t in chance)
        truth = " · truth: rendered depths" if self.rendered else ""
        angles = " / ".join(f"{r['10 px']:.3f}" for r in self.recall_by_angle.values())
        return (
            f"recall {found} (chance {by_chance}) · by angle {angles} · cosine "
            f"{self.cosine_true:.3f} true, {self.cosine_shuffled:.3f} shuffled, margin {self.margin:.3f} · AUC "
            f"{self.auc:.3f} · soft-argmax {self.soft_error:.0f} px · {len(self):,} queries{truth}"
        )


@usual_torch(grad=None)
def consistency(
    feats: Tensor | Sequence[Tensor] | Callable[[Tensor], Tensor],
    scenes: Scene | Sequence[Scene],
    *,
    points: int = 100,
    stride: int = 4,
    min_overlap: float = 0.1,
    tolerance: float = TOLERANCE,
    most: int | None = None,
    seed: int = 0,
) -> Consistency:
    """How well points of one view are found in the other, over all pairs of views of one scene or several.

    Args:
        feats: features [V, C, h, w] of the scene's views (a list of them for several scenes); or a ViT (anything with
            ``extract``); or a function from images [V, 3, H, W] to features.
        points: queries for each ordered pair of views.
        stride: places looked at in the other view are every ``stride``-th pixel with known depth. Features there are
            bilinear between patches. 4 is Probe3D's quarter resolution; the nearest place is then within 2.9 px.
        min_overlap, tolerance, most, seed: which pairs of views and points, see :func:`view_pairs`.

    Where several places have the same cosine, one of them is taken at random: features that are constant score chance.

    Raises:
        ValueError: a scene has no depths or no two views that overlap; features that are not [V, C, h, w] with one map
            a view, or not finite; stride below 1.
    """
    scenes = as_list(scenes)
    check_whole(1, stride=stride)
    if not scenes:
        raise ValueError("consistency needs a scene; got none")
    options = dict(points=points, min_overlap=min_overlap, tolerance=tolerance, most=most, seed=seed)
    return Consistency.pooled([_one(*each, stride, seed) for each in features_and_pairs(feats, scenes, **options)])


def consistency_by_block(
    vit, scenes: Scene | Sequence[Scene], blocks: Sequence[int] | None = None, **options
) -> dict[int, Consistency]:
    """:func:`consistency` of the features of each block of a ViT after its last norm; by default of all of them.

    Raises:
        ValueError: as :func:`consistency`; no such block.
    """
    scenes = as_list(scenes)
    if not hasattr(vit, "blocks"):
        raise ValueError(f"consistency_by_block needs a ViT, whose blocks it asks for features, not {type(vit).__name__}.")
    blocks = list(range(vit.blocks)) if blocks is None else list(blocks)
    by_block = {block: [] for block in blocks}
    for scene in scenes:  # one scene's features of all blocks at a time
        for block, feats in zip(blocks, vit.extract(scene.images, block=blocks), strict=True):
            by_block[block].append(consistency(feats, scene, **options))
    return {block: Consistency.pooled(results) for block, results in by_block.items()}


def in_bins(
    angle: Tensor,  # [Q] degrees
) -> list[Tensor]:  # one [Q] bool for each bin
    """Which angles fall into which bin of ``ANGLES``; 180° itself belongs to the last."""
    return [
        (angle >= low) & ((angle < high) | (high == ANGLES[-1])) for low, high in zip(ANGLES, ANGLES[1:], strict=False)
    ]


def as_list(scenes: Scene | Sequence[Scene]) -> list[Scene]:
    scenes = [scenes] if isinstance(scenes, Scene) else list(scenes)
    for scene in scenes:
        check_kind(Scene, each_scene=scene)
    return scenes


def features_and_pairs(feats, scenes: list[Scene], **options) -> Iterator[tuple[Tensor, Scene, list[Pair]]]:
    """Each scene with its features [V, C, h, w], from any of the forms that :func:`consistency` takes, and its pairs of
    views. All pairs come first: scenes that do not overlap are refused before a feature is extracted."""
    pairs = [view_pairs(scene, **options) for scene in scenes]
    if feats is None:
        raise ValueError("consistency needs features, a ViT or a function that makes them; got None")
    given = [feats] if isinstance(feats, Tensor | np.ndarray) else feats
    extract = getattr(feats, "extract", feats if callable(feats) else None)
    if extract is None and len(given) != len(scenes):
        raise ValueError(f"{len(given)} feature tensors for {len(scenes)} scenes: each scene needs its own")
    for i, scene in enumerate(scenes):  # one scene's features at a time
        f = given[i] if extract is None else extract(scene.images)
        f = feature_maps(f, len(scene), scene.height, scene.width, f"features of {scene.name}")
        yield f.detach().to(scene.depths.device), scene, pairs[i]


@torch.no_grad()
def _one(feats, scene, pairs, stride, seed) -> Consistency:
    rng = torch.Generator().manual_seed(seed)
    size, results = (scene.height, scene.width), []
    # One view's places at a time: at full size all views' would not fit.
    for b, group in groupby(sorted(pairs, key=lambda pair: pair.b), key=lambda pair: pair.b):
        places = grid_pixels(scene, b, stride)
        places = places[torch.randperm(len(places), generator=rng).to(places.device)]  # ties: the first is any of them
        world, keys = surface(scene, b, places), features_at(feats[b], places, size)
        for pair in group:
            query, truth = features_at(feats[pair.a], pair.uv_a, size), features_at(feats[b], pair.uv_b, size)
            similarity = query @ keys.T
            best = similarity.argmax(1)
            off = _distances(pair.uv_b, places[:BLIND]), _distances(pair.points, world[:BLIND])
            chance = [(off[0] < t).float().mean(1) for t in PIXELS] + [(off[1] < t).float().mean(1) for t in METRES]
            results.append(
                Consistency(
                    pixels=(places[best] - pair.uv_b).norm(dim=1),
                    metres=(world[best] - pair.points).norm(dim=1),
                    soft_pixels=(soft_argmax(similarity, places) - pair.uv_b).norm(dim=1),
                    true=(query * truth).sum(1),
                    shuffled=(query * truth.roll(1, 0)).sum(1),  # points come in random order: the next is any other
                    angle=torch.full((len(query),), pair.angle, device=query.device),
                    chance=torch.stack(chance, 1),
                    metric=scene.metric,
                    rendered=scene.rendered,
                )
            )
    return Consistency.pooled(results)


def _distances(a: Tensor, b: Tensor) -> Tensor:  # [Q, D], [G, D] -> [Q, G]
    # By products, as torch would for speed, metres come out millimetres wrong.
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
