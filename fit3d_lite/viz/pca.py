"""Features as colors: their three main directions drawn as red, green and blue, with one basis for what is compared.

A principal component analysis (PCA) keeps the three directions in which the patches differ most. Its axes mean nothing
by themselves: fitted again on another picture, or on another model, the same color stands for something else. So
the basis is fitted once over all pictures, and further models are turned onto the first one's scores.

Pictures of one size are one tensor [V, C, h, w]; several scenes, whose grids may differ, are a list of such tensors.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..base.inputs import as_tensor, check_whole

__all__ = ["Basis", "pca_basis", "pca_colors"]

NOTHING = 0.85  # the light grey of a patch that is left out


@dataclass(frozen=True)
class Basis:
    """From features to colors: ``(x - mean) @ axes``, then ``low`` to black and ``high`` to full, by channel."""

    mean: Tensor  # [C]
    axes: Tensor  # [C, 3]
    low: Tensor  # [3]
    high: Tensor  # [3]
    explained: float  # part of the variance the three directions hold, 0..1

    def scores(
        self,
        feats: Tensor,  # [V, C, h, w]
    ) -> Tensor:
        """[V, h, w, 3] coordinates along the three axes."""
        check_features(feats)
        if feats.shape[1] != len(self.mean):
            raise ValueError(f"the basis was fitted on {len(self.mean)} channels, these features have {feats.shape[1]}")
        return (feats.detach().cpu().double().movedim(1, -1) - self.mean) @ self.axes

    def colors(
        self,
        feats: Tensor,  # [V, C, h, w]
    ) -> Tensor:
        """[V, h, w, 3] float32 in 0..1; a channel in which nothing differs is grey."""
        return _between(self.scores(feats), self.low, self.high)


def pca_basis(
    feats: Tensor | list[Tensor],  # [V, C, h, w], or several scenes'
    percentiles: tuple[float, float] = (1.0, 99.0),
    mask: Tensor | list[Tensor] | None = None,  # [V, h, w] bool, the patches to fit on; all by default
    skip: int = 0,
) -> Basis:
    """Fit a basis on all patches of all pictures; a few extreme patches do not set the scale.

    Each axis points so that the scores have a long tail upwards (a positive third moment): the sign then depends on
    the patches alone, not on their order nor on the solver.

    Args:
        percentiles: scores from which to which the colors run; (0, 100) is min-max scaling.
        mask: fit on these patches only, for example on the foreground, as DINOv2 does.
        skip: leave out this many of the strongest directions and take the three that follow.

    Raises:
        ValueError: not [V, C, h, w], fewer than three channels (after ``skip``), values that are not finite,
        percentiles out of order, a mask of another shape or one that leaves fewer than four patches.
    """
    _check_options(percentiles, skip)
    scenes = as_scenes(feats, channels=3 + skip)
    masks = _as_masks(mask, scenes)
    mean, axes, explained = _principal(_rows(scenes, masks), skip)
    low, high = _limits([(_rows(scenes, masks) - mean) @ axes], percentiles)
    return Basis(mean, axes, low, high, explained)


def pca_colors(
    feats,  # Tensor [V, C, h, w], a list of such (scenes), or a dict of either (models' of the same pictures, by name)
    per_image: bool = False,
    percentiles: tuple[float, float] = (1.0, 99.0),
    mask: Tensor | list[Tensor] | None = None,  # [V, h, w] bool
    skip: int = 0,
):
    """Colors [V, h, w, 3] in 0..1 of features, or of several scenes' and models' features, comparable with each other.

    Over pictures and scenes, one basis. Over models, each keeps its own three main directions, since channel 7 of one
    has nothing to do with channel 7 of another; they are scaled to equal spread and turned (orthogonal Procrustes:
    Schönemann 1966) so that their scores lie as close as possible to the first model's. The limits of the colors are
    shared. So a color means the same in every panel, and a model that only turned its feature space looks as if
    nothing had changed. Models may differ in C and in their patch grid.

    Args:
        per_image: fit every picture by itself. Colors then cannot be compared: it is here to show why.
        percentiles: scores from which to which the colors run; (0, 100) is min-max scaling.
        mask: fit on these patches only; the others come out light grey.
        skip: leave out this many of the strongest directions.

    Returns the colors in the form of ``feats``: a tensor, a list of them, or a dict of either.

    Raises:
        ValueError: as :func:`pca_basis`; no model; models that saw different numbers of pictures; a mask together with
        ``per_image``.
    """
    models = feats if isinstance(feats, dict) else {"": feats}
    if not models:
        raise ValueError("there are no features to color: the dict is empty")
    if per_image and mask is not None:
        raise ValueError("a mask fits one basis on the patches it keeps, per_image one on each picture: choose one")
    _check_options(percentiles, skip)
    scenes = {name: as_scenes(value, name, 3 + skip) for name, value in models.items()}
    counts = {name: [len(scene) for scene in some] for name, some in scenes.items()}
    first = next(iter(counts))
    for name, count in counts.items():
        if count != counts[first]:
            raise ValueError(
                f"{name!r} has {_and(count)} pictures and {first!r} has {_and(counts[first])}: "
                "compare colors on the same pictures"
            )
    if per_image:
        colored = {name: [_each(scene, percentiles, skip) for scene in some] for name, some in scenes.items()}
    else:
        colored = _together(scenes, mask, percentiles, skip)
    out = {name: colored[name] if isinstance(value, list | tuple) else colored[name][0] for name, value in models.items()}
    return out if isinstance(feats, dict) else out[""]


def _each(scene: Tensor, percentiles, skip: int) -> Tensor:
    return torch.cat([pca_basis(picture[None], percentiles, skip=skip).colors(picture[None]) for picture in scene])


def _together(models: dict, mask, percentiles, skip: int) -> dict:
    """Colors by model: each model's unit scores turned onto the first one's, with limits shared by all."""
    masks = {name: _as_masks(mask, scenes) for name, scenes in models.items()}
    scores = {}
    for name, scenes in models.items():
        own = _unit_scores(scenes, masks[name], skip)
        scores[name] = _turned(own, next(iter(scores.values())), masks[name]) if scores else own
    low, high = _limits([_rows([s.movedim(-1, 1) for s in scores[n]], masks[n]) for n in models], percentiles)
    return {
        name: [_paint(_between(s, low, high), m) for s, m in zip(scores[name], masks[name], strict=True)]
        for name in models
    }


def _turned(scores: list[Tensor], target: list[Tensor], masks: list) -> list[Tensor]:
    """Scores [V, h, w, 3] turned, or mirrored, to lie closest to those of the reference model."""
    fitted = []
    for mine, theirs in zip(scores, target, strict=True):
        theirs = theirs.movedim(-1, 1)
        if theirs.shape[2:] != mine.shape[1:3]:  # another patch size: compare on the reference's scores at this grid
            theirs = torch.nn.functional.interpolate(theirs, mine.shape[1:3], mode="area")
        fitted.append(theirs)
    mine = _rows([s.movedim(-1, 1) for s in scores], masks)
    u, _, vt = torch.linalg.svd(mine.T @ _rows(fitted, masks))
    return [s @ (u @ vt) for s in scores]  # reflections are allowed: the sign of an axis means nothing


def _unit_scores(scenes: list[Tensor], masks: list, skip: int) -> list[Tensor]:
    """[V, h, w, 3] of each scene, of root-mean-square 1 over the patches that count."""
    rows = _rows(scenes, masks)
    mean, axes, _ = _principal(rows, skip)
    size = ((rows - mean) @ axes).square().mean().sqrt().clamp_min(1e-12)
    return [(scene.detach().cpu().double().movedim(1, -1) - mean) @ axes / size for scene in scenes]


def _principal(x: Tensor, skip: int = 0) -> tuple[Tensor, Tensor, float]:
    """Of rows [P, C]: mean [C], three main axes [C, 3] with settled signs, and the part of the variance they hold."""
    mean = x.mean(0)
    x = x - mean
    values, vectors = (part.flip(-1) for part in torch.linalg.eigh(x.T @ x))  # largest first
    axes = vectors[:, skip : skip + 3]
    skew = (x @ axes).pow(3).sum(0)
    total = values.clamp_min(0).sum()
    explained = (values[skip : skip + 3].sum() / total).item() if total > 0 else 0.0
    return mean, axes * torch.where(skew < 0, -1.0, 1.0), explained


def _limits(scores: list[Tensor], percentiles) -> tuple[Tensor, Tensor]:
    at = torch.tensor(percentiles, dtype=torch.float64) / 100
    pooled = torch.cat(scores)
    pooled = pooled[:: max(1, len(pooled) // 1_000_000)]  # torch.quantile takes at most 16 million values
    return tuple(torch.quantile(pooled, at, dim=0))


def _between(scores: Tensor, low: Tensor, high: Tensor) -> Tensor:
    span = high - low
    flat = span <= 1e-9
    return torch.where(flat, 0.5, (scores - low) / torch.where(flat, 1.0, span)).clamp(0, 1).float()


def _paint(colors: Tensor, mask: Tensor | None) -> Tensor:
    return colors if mask is None else torch.where(mask[..., None], colors, NOTHING)


def _rows(scenes: list[Tensor], masks: list) -> Tensor:
    """[P, C] float64, the patches that count of all scenes."""
    parts = []
    for scene, mask in zip(scenes, masks, strict=True):
        rows = scene.detach().cpu().double().movedim(1, -1)
        parts.append(rows.reshape(-1, scene.shape[1]) if mask is None else rows[mask])
    return torch.cat(parts)


def _as_masks(mask, scenes: list[Tensor]) -> list:
    if mask is None:
        return [None] * len(scenes)
    masks = [mask] if isinstance(mask, Tensor) else list(mask)
    shapes = [[list(m.shape) for m in masks], [[len(s), *s.shape[2:]] for s in scenes]]
    if shapes[0] != shapes[1] or any(m.dtype != torch.bool for m in masks):
        raise ValueError(f"the mask must be bool of shape {_and(shapes[1])}, not {masks[0].dtype} of {_and(shapes[0])}")
    kept = sum(int(m.sum()) for m in masks)
    if kept < 4:
        raise ValueError(f"the mask keeps {kept} of {sum(m.numel() for m in masks)} patches: at least 4 make a basis")
    return [m.cpu() for m in masks]


def _and(values: list) -> str:
    return " and ".join(str(value) for value in values)


def _check_options(percentiles, skip) -> None:
    check_whole(0, skip=skip)
    low, high = percentiles
    if not 0 <= low < high <= 100:
        raise ValueError(f"percentiles are {low} and {high}; they must rise within 0..100, such as (1, 99)")


def as_scenes(feats, name: str = "", channels: int = 1) -> list[Tensor]:
    """Features as a list of scenes [V, C, h, w] of one C; a tensor is one scene. Raises ValueError as below."""
    scenes = list(feats) if isinstance(feats, list | tuple) else [feats]
    scenes = [as_tensor(scene, "features") if isinstance(scene, np.ndarray) else scene for scene in scenes]
    if not scenes:
        raise ValueError(f"there are no features{f' of {name!r}' if name else ''}: the list is empty")
    for scene in scenes:
        check_features(scene, name, channels)
    widths = sorted({scene.shape[1] for scene in scenes})
    if len(widths) > 1:
        raise ValueError(f"scenes of one model must have one C, these have {_and(widths)}: did models get mixed?")
    return scenes


def check_features(feats, name: str = "", channels: int = 3) -> None:
    """Refuse what is not a batch of patch features [V, C, h, w]. Raises ValueError."""
    label = f"the features of {name!r}" if name else "features"
    shape = list(feats.shape) if isinstance(feats, Tensor) else type(feats).__name__
    if not isinstance(feats, Tensor) or feats.ndim != 4 or feats.numel() == 0:
        remedy = "; for one picture write feats[None]" if isinstance(feats, Tensor) and feats.ndim == 3 else ""
        raise ValueError(f"{label} must be a tensor [V, C, h, w], not {shape}{remedy}")
    if feats.shape[1] < channels:
        raise ValueError(f"{label} have C = {feats.shape[1]} channels and at least {channels} are needed: {shape}")
    if not feats.isfinite().all():
        bad = (~feats.isfinite()).sum().item()
        raise ValueError(f"{label} hold {bad} values of {feats.numel()} that are not finite (nan or inf)")
