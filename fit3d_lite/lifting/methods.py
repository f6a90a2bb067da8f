"""Lifting: features of photos become features of Gaussians.

With the geometry fixed, view v is a sparse matrix W_v (grid.py), and every way of lifting is built from it alone:

* ``mean``: f = Σ_v W_vᵀ F_v / Σ_v W_vᵀ 1. Each Gaussian takes the mean of the patches that show it, weighted by how
  much they do (LUDVIG, Marrie et al. 2025; by gradients in Joseph et al. 2025). One pass, nothing is learned.
* ``solve``: the features whose renders come closest to the photos' features, held near the mean (solve.py).
* ``decoder``: FiT3D's own way: D numbers per Gaussian and one convolution to C channels, by gradient descent
  (decoder.py).
* ``closed``: the same form without gradient descent: principal components of the mean, and a linear regression.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from ..base.inputs import check_whole
from ..base.machine import usual_torch
from ..scenes.camera import Camera
from ..splatting.gaussians import Gaussians
from .decoder import check_dim, check_rate, regress_decoder, train_decoder
from .grid import SAMPLES, FeatureViews, stacked, transposed
from .lifted import MIN_WEIGHT, Lifted
from .solve import least_squares

ROBUST_ROUNDS = 2
LEAST_TRUST = 1e-3


@usual_torch()
def lift(
    cloud: Gaussians,
    cameras: Sequence[Camera],  # V, at the size of the photos
    feats: Tensor | Iterable[Tensor],  # [V, C, h, w], or V maps [C, h, w] that may come one by one
    method: str = "mean",
    *,
    samples: int | None = SAMPLES,
    **options,
) -> Lifted:
    """Features of V photos to one feature per Gaussian. The geometry receives no gradient.

    The grid h × w divides each photo evenly, as a ViT's patches do; it need not divide its size in pixels.

    Args:
        method: "mean", "solve", "decoder" or "closed".
        samples: pixels along each side of a patch, see :func:`patch_matrix`.
        options: of "mean": ``robust=False``, see :func:`robust_mean`. Of "solve": ``ridge=0.3, steps=4``, see
            :func:`least_squares`. Of "decoder": ``dim=64, steps=600, lr=1e-2`` (or "paper"), ``seed=0, progress=True,
            history=None``, see :func:`train_decoder`. Of "closed": ``dim=64, ridge=0.02``, see :func:`regress_decoder`.

    "mean" keeps one view at a time, whatever V. The others keep all patch matrices and features, about 1 MB a view.

    Raises:
        ValueError: unknown method or option; option out of range; no Gaussians; feats that are not [V, C, h, w], empty,
            not finite, or not one per camera; a camera that sees no Gaussian.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}; got {method!r}.")
    known = [name for name in inspect.signature(METHODS[method]).parameters if name != "views"]
    unknown = sorted(options.keys() - set(known))
    if unknown:
        raise ValueError(f"method {method!r} has no option {', '.join(unknown)}; it has {', '.join(known)}.")
    views = FeatureViews(cloud, cameras, feats, samples)
    features, weight, decoder = METHODS[method](views, **options)
    made = {name: value for name, value in options.items() if name not in ("progress", "history")}
    settings = {"method": method, "samples": samples, "views": len(views), **made}
    return Lifted(views.cloud, features, weight, decoder, settings)


def _mean(views: FeatureViews, robust: bool = False):
    return (*(robust_mean if robust else weighted_mean)(views), None)


def _solve(views: FeatureViews, ridge: float = 0.3, steps: int = 4):
    check_whole(0, steps=steps)
    if not ridge >= 0:
        raise ValueError(f"solve needs ridge ≥ 0, got ridge={ridge}.")
    kept = list(views)
    mean, weight = weighted_mean(kept)
    A, targets = stacked([W for W, _ in kept]), torch.cat([rows for _, rows in kept])
    return least_squares(A, targets, mean, weight, weight >= MIN_WEIGHT, ridge, steps), weight, None


def _decoder(
    views: FeatureViews,
    dim: int = 64,
    steps: int = 600,
    lr: float | str = 1e-2,
    seed: int = 0,
    progress: bool = True,
    history: list | None = None,
):
    check_dim(dim)
    check_rate(steps, lr)
    kept = list(views)
    weight = sum(_seen_by(W) for W, _ in kept)
    low, decoder = train_decoder(kept, views.grid, weight >= MIN_WEIGHT, dim, steps, lr, seed, progress, history)
    return low, weight, decoder


def _closed(views: FeatureViews, dim: int = 64, ridge: float = 0.02):
    check_dim(dim)
    if not ridge >= 0:
        raise ValueError(f"closed needs ridge ≥ 0, got ridge={ridge}.")
    kept = list(views)
    mean, weight = weighted_mean(kept)
    low, decoder = regress_decoder(kept, views.grid, mean, weight >= MIN_WEIGHT, dim, ridge)
    return low, weight, decoder


METHODS = {"mean": _mean, "solve": _solve, "decoder": _decoder, "closed": _closed}


@torch.no_grad()
def weighted_mean(
    views: Iterable[tuple[Tensor, Tensor]],  # patch matrix [h*w, N] and features [h*w, C] of each view
    trust: Sequence[Tensor] | None = None,  # V of [N], factors > 0 for the weights of each Gaussian
) -> tuple[Tensor, Tensor]:  # [N, C], [N]
    """Σ_v W_vᵀ F_v / Σ_v W_vᵀ 1, one view at a time, and Σ_v W_vᵀ 1; rows are 0 where that is below MIN_WEIGHT."""
    total = weight = divisor = None
    for index, (W, F) in enumerate(views):
        if total is None:
            total, weight, divisor = F.new_zeros(W.shape[1], F.shape[1]), F.new_zeros(W.shape[1]), F.new_zeros(W.shape[1])
        seen = _seen_by(W)
        weight += seen
        if trust is not None:
            values = W.values() * trust[index][W.col_indices()]
            W = torch.sparse_csr_tensor(W.crow_indices(), W.col_indices(), values, W.shape)
            seen = seen * trust[index]
        divisor += seen
        torch.addmm(total, transposed(W), F, out=total)  # in place: no second [N, C] is made
    kept = weight >= MIN_WEIGHT
    total /= torch.where(kept, divisor, 1).unsqueeze(1)
    total.masked_fill_(~kept.unsqueeze(1), 0)
    return total, weight


@torch.no_grad()
def robust_mean(views: FeatureViews) -> tuple[Tensor, Tensor]:  # [N, C], [N]
    """A weighted mean that trusts a view less where it disagrees with the others; for a wrong pose or a person
    walking by.

    What view v says of Gaussian n is g = W_vᵀ F_v, and its weight is multiplied by the squared cosine (0 if negative)
    between g and the mean direction of all *other* views, found in two rounds. Leaving itself out keeps a loud view
    from agreeing with a mean that it made. Trust stays above 0.001, so a Gaussian seen once keeps its feature. On
    clean captures held-out cosine moves by up to 0.005 either way (bench/results/lift.md), so it is not the default.
    """
    kept = list(views)
    size, like = kept[0][0].shape[1], kept[0][1]
    trust = [like.new_ones(size) for _ in kept]
    for _ in range(ROBUST_ROUNDS):
        directions = like.new_zeros(size, like.shape[1])
        for factor, (W, F) in zip(trust, kept, strict=True):
            gaussian, own, filled = _said_by(W, F)
            directions.index_add_(0, gaussian, own * (factor[gaussian] * filled).unsqueeze(1))
        for factor, (W, F) in zip(trust, kept, strict=True):
            gaussian, own, filled = _said_by(W, F)
            others = directions[gaussian] - own * (factor[gaussian] * filled).unsqueeze(1)
            factor[gaussian] = cosine_similarity(own, others).clamp_min(0) ** 2 + LEAST_TRUST
    return weighted_mean(kept, trust)


def _seen_by(W: Tensor) -> Tensor:  # sparse [P, N] -> [N]
    """Column sums: how many patches each Gaussian fills."""
    return W.values().new_zeros(W.shape[1]).index_add_(0, W.col_indices(), W.values())


def _said_by(W: Tensor, F: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # -> [K], [K, C], [K]
    """The K Gaussians one view sees, the direction of WᵀF for each, and how many patches it fills."""
    gaussian, local = W.col_indices().unique(return_inverse=True)
    seen = torch.sparse_csr_tensor(W.crow_indices(), local, W.values(), (W.shape[0], len(gaussian)))
    return gaussian, normalize(transposed(seen) @ F, dim=1), _seen_by(seen)
