"""Features as colours: their three main directions drawn as red, green and blue, with one basis for what is compared.

A principal component analysis (PCA) keeps the three directions in which the patches differ most. Its axes mean nothing
by themselves: fitted again on another picture, or on another model, the same colour stands for something else. So
the basis is fitted once over all pictures, and further models are turned onto the first one's scores.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Basis", "pca_basis", "pca_colors"]


@dataclass(frozen=True)
class Basis:
    """From features to colours: ``(x - mean) @ axes``, then ``low`` to black and ``high`` to full, by channel."""

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
        span = self.high - self.low
        flat = span <= 1e-9
        scaled = (self.scores(feats) - self.low) / torch.where(flat, 1.0, span)
        return torch.where(flat, 0.5, scaled).clamp(0, 1).float()


def pca_basis(
    feats: Tensor,  # [V, C, h, w]
    percentiles: tuple[float, float] = (1.0, 99.0),
) -> Basis:
    """Fit a basis on all patches of all V pictures; a few extreme patches do not set the scale.

    Each axis points so that the scores have a long tail upwards (a positive third moment): the sign then depends on
    the patches alone, not on their order nor on the solver.

    Raises:
        ValueError: not [V, C, h, w], fewer than three channels, values that are not finite, or percentiles out of
        order.
    """
    _check_percentiles(percentiles)
    mean, axes, explained = _principal(feats)
    scores = (_rows(feats) - mean) @ axes
    low, high = _limits([scores], percentiles)
    return Basis(mean, axes, low, high, explained)


def pca_colors(
    feats: Tensor | dict[str, Tensor],  # [V, C, h, w], or several models' of the same pictures, by name
    per_image: bool = False,
    percentiles: tuple[float, float] = (1.0, 99.0),
) -> Tensor | dict[str, Tensor]:
    """Colours [V, h, w, 3] in 0..1 of features, or of several models' features, comparable with each other.

    Over pictures, one basis. Over models, each keeps its own three main directions, since channel 7 of one has nothing
    to do with channel 7 of another; they are scaled to equal spread and turned (orthogonal Procrustes: Schönemann 1966)
    so that their scores lie as close as possible to the first model's. The limits of the colours are shared. So a
    colour means the same in every panel, and a model that only turned its feature space looks as if nothing had
    changed. Models may differ in C and in their patch grid.

    Args:
        per_image: fit every picture by itself. Colours then cannot be compared: it is here to show why.
        percentiles: scores from which to which the colours run.

    Raises:
        ValueError: as :func:`pca_basis`; no model; models that saw different numbers of pictures.
    """
    single = isinstance(feats, Tensor)
    models = {"": feats} if single else dict(feats)
    if not models:
        raise ValueError("there are no features to colour: the dict is empty")
    _check_percentiles(percentiles)
    for name, tensor in models.items():
        check_features(tensor, name)
    first, count = next((name, len(tensor)) for name, tensor in models.items())
    for name, tensor in models.items():
        if len(tensor) != count:
            raise ValueError(
                f"{name!r} has {len(tensor)} pictures and {first!r} has {count}: compare colours on the same pictures"
            )
    if per_image:
        colored = {
            name: torch.cat([pca_basis(picture[None], percentiles).colors(picture[None]) for picture in tensor])
            for name, tensor in models.items()
        }
        return colored[""] if single else colored

    scores = {name: _aligned_scores(tensor, models[first]) for name, tensor in models.items()}
    low, high = _limits([s.reshape(-1, 3) for s in scores.values()], percentiles)
    identity = torch.eye(3, dtype=torch.float64)
    basis = Basis(torch.zeros(3, dtype=torch.float64), identity, low, high, 0.0)
    colored = {name: basis.colors(s.movedim(-1, 1)) for name, s in scores.items()}
    return colored[""] if single else colored


def _aligned_scores(feats: Tensor, reference: Tensor) -> Tensor:
    """[V, h, w, 3] scores of root-mean-square 1, turned onto those of ``reference``."""
    scores = _unit_scores(feats)
    if feats is reference:
        return scores
    target = _unit_scores(reference)
    if target.shape != scores.shape:  # another patch size: compare on the reference model's scores at this grid
        resized = torch.nn.functional.interpolate(target.movedim(-1, 1), scores.shape[1:3], mode="area")
        target = resized.movedim(1, -1)
    u, _, vt = torch.linalg.svd(scores.reshape(-1, 3).T @ target.reshape(-1, 3))
    return scores @ (u @ vt)  # reflections are allowed: the sign of an axis means nothing


def _unit_scores(feats: Tensor) -> Tensor:
    mean, axes, _ = _principal(feats)
    scores = (feats.detach().cpu().double().movedim(1, -1) - mean) @ axes
    return scores / scores.square().mean().sqrt().clamp_min(1e-12)


def _principal(feats: Tensor) -> tuple[Tensor, Tensor, float]:
    """Mean [C], the three main axes [C, 3] with settled signs, and the part of the variance they hold."""
    check_features(feats)
    x = _rows(feats)
    mean = x.mean(0)
    x = x - mean
    values, vectors = torch.linalg.eigh(x.T @ x)  # ascending
    axes = vectors[:, -3:].flip(1)
    skew = (x @ axes).pow(3).sum(0)
    total = values.clamp_min(0).sum()
    explained = (values[-3:].sum() / total).item() if total > 0 else 0.0
    return mean, axes * torch.where(skew < 0, -1.0, 1.0), explained


def _limits(scores: list[Tensor], percentiles) -> tuple[Tensor, Tensor]:
    at = torch.tensor(percentiles, dtype=torch.float64) / 100
    pooled = torch.cat(scores)
    pooled = pooled[:: max(1, len(pooled) // 1_000_000)]  # torch.quantile takes at most 16 million values
    return tuple(torch.quantile(pooled, at, dim=0))


def _rows(feats: Tensor) -> Tensor:
    return feats.detach().cpu().double().movedim(1, -1).reshape(-1, feats.shape[1])


def _check_percentiles(percentiles) -> None:
    low, high = percentiles
    if not 0 <= low < high <= 100:
        raise ValueError(f"percentiles are {low} and {high}; they must rise within 0..100, such as (1, 99)")


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
