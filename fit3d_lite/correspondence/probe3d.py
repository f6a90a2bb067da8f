"""Probe3D's own correspondence number, in its own pixels, so that it can be put beside published ones.

    found = probe3d_recall(vit, scene)
    found.recall["10 quarter px"], found.by_angle["30-60°"]

El Banani et al. 2024, "Probing the 3D Awareness of Visual Foundation Models" (arXiv 2404.08636, section 4.2 and the
published evaluation on ScanNet). For a pair of photos of 480 × 640: depth and camera at a quarter of the resolution;
every pixel there with known depth is matched to its nearest neighbour by cosine; of all these matches the 1000 that
pass the ratio test best (1 − d₁/d₂ of the two smallest cosine distances) are kept; the error is measured **in pixels of
the quarter resolution**; the recall is averaged over pairs, and at 10 such pixels over pairs in bins of rotation.

So "10 px" there is 40 px of the photo, and no match need be visible in the other view: the ratio test picks. Both make
the numbers higher than :func:`fit3d_lite.consistency`'s. The one difference from theirs is half a pixel of the photo:
depth is read in the middle of the 4 × 4 pixels instead of in their corner.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..scenes.scene import Scene
from .consistency import BINS, as_list, features_and_pairs, in_bins
from .correspond import Pair, surface
from .match import features_at, grid_pixels

__all__ = ["Probe3DRecall", "probe3d_recall"]

QUARTER = 4  # pixels of the photo for one of theirs
PIXELS = (5, 10, 20)  # theirs
MATCHES = 1000
ROWS = 2048  # queries compared at once; bounds the memory at full size


@dataclass(frozen=True, eq=False)
class Probe3DRecall:
    """Errors of the kept matches of P pairs of views."""

    errors: tuple[Tensor, ...]  # P of [at most 1000], pixels of the quarter resolution
    angle: Tensor  # [P] degrees
    rendered: bool = False  # the truth is depth that was rendered from Gaussians

    def _mean(self, chosen, limit: float) -> float:
        shares = [(e < limit).double().mean() for e, keep in zip(self.errors, chosen.tolist(), strict=True) if keep]
        return torch.stack(shares).mean().item() if shares else float("nan")

    @property
    def recall(self) -> dict[str, float]:
        """Mean over pairs of the share of matches within "5 quarter px", "10 quarter px", "20 quarter px"."""
        everything = torch.ones_like(self.angle, dtype=torch.bool)
        return {f"{t} quarter px": self._mean(everything, t) for t in PIXELS}

    @property
    def by_angle(self) -> dict[str, float]:
        """Recall within 10 quarter px in each bin of rotation; nan where no pair falls."""
        return {name: self._mean(inside, 10) for name, inside in zip(BINS, in_bins(self.angle), strict=True)}

    def __repr__(self) -> str:
        recall = ", ".join(f"{value:.3f} within {name}" for name, value in self.recall.items())
        angles = " / ".join(f"{value:.3f}" for value in self.by_angle.values())
        truth = " · truth: rendered depths" if self.rendered else ""
        return f"Probe3D's recall {recall} · by angle {angles} · {len(self.errors)} pairs{truth}"


@torch.no_grad()
def probe3d_recall(
    feats: Tensor | Sequence[Tensor] | Callable[[Tensor], Tensor],
    scenes: Scene | Sequence[Scene],
    *,
    matches: int = MATCHES,
    min_overlap: float = 0.1,
    most: int | None = 60,
    seed: int = 0,
) -> Probe3DRecall:
    """Recall of the best matches, as Probe3D measures it on ScanNet; feats and scenes as for ``consistency``.

    Their 1500 pairs of ScanNet overlap by 0.4 to 0.8; ours by at least ``min_overlap``, ``most`` of them a scene.

    Raises:
        ValueError: as ``consistency``; matches below 1.
    """
    scenes = as_list(scenes)
    if not scenes or matches < 1:
        raise ValueError(f"probe3d_recall needs a scene and at least 1 match; got {len(scenes)} and {matches}")
    errors, angles = [], []
    for f, scene, pairs in features_and_pairs(feats, scenes, min_overlap=min_overlap, most=most, seed=seed):
        errors += [_kept_errors(f, scene, pair, matches) for pair in pairs]
        angles += [pair.angle for pair in pairs]
    return Probe3DRecall(tuple(errors), torch.tensor(angles), any(scene.rendered for scene in scenes))


def _kept_errors(feats, scene, pair: Pair, matches: int) -> Tensor:  # [at most matches]
    size = (scene.height, scene.width)
    places = [grid_pixels(scene, view, QUARTER) for view in (pair.a, pair.b)]
    query, keys = (features_at(feats[v], p, size) for v, p in zip((pair.a, pair.b), places, strict=True))
    top = [(rows @ keys.T).topk(2, dim=1) for rows in query.split(ROWS)]
    distance = (1 - torch.cat([t.values for t in top])).clamp_min(1e-9)
    kept = (1 - distance[:, 0] / distance[:, 1]).topk(min(matches, len(query))).indices
    truth, _ = scene.cameras[pair.b].project(surface(scene, pair.a, places[0][kept]))
    found = places[1][torch.cat([t.indices[:, 0] for t in top])[kept]]
    return (truth - found).norm(dim=1) / QUARTER
