"""Lifting: features of photos become features of Gaussians.

With the geometry fixed, view v is a sparse matrix W_v (see patches.py), so lifting has the view matrix as its only
ingredient:

* ``mean``: f = Σ_v W_vᵀ F_v / Σ_v W_vᵀ 1. Each Gaussian takes the mean of the patches that show it, weighted by how
  much they do (LUDVIG, Marrie et al. 2025, eq. 3; the same by gradients in Joseph et al. 2025). One pass, no
  learning.
* ``solve``: the features whose renders come closest to the photos' features, held near the mean (least_squares in
  solve.py).
* ``decoder``: FiT3D's own way (section 3.1): D numbers per Gaussian and one convolution to C channels, by gradient
  descent.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from .camera import Camera
from .gaussians import Gaussians
from .lifted import MIN_WEIGHT, Lifted
from .patches import SAMPLES, FeatureViews, transposed

METHODS = ("mean", "solve", "decoder")


def lift(
    cloud: Gaussians,
    cameras: Sequence[Camera],  # V, at the size of the photos
    feats: Tensor | Iterable[Tensor],  # [V, C, h, w], or V maps [C, h, w] that may come one by one
    method: str = "mean",
    *,
    samples: int | None = SAMPLES,
    **options,
) -> Lifted:
    """Features of V photos to one feature per Gaussian. Geometry receives no gradient.

    The grid h × w divides each photo evenly, as a ViT's patches do; it need not divide its size in pixels.

    Args:
        method: "mean", "solve" or "decoder"; see the top of this file.
        samples: pixels along each side of a patch, see :func:`patch_matrix`.
        options: those of the method.

    Raises:
        ValueError: unknown method or option; no Gaussians; feats that are not [V, C, h, w], empty, not finite or not
        one per
            camera; a camera that sees no Gaussian.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}; got {method!r}.")
    views = FeatureViews(cloud, cameras, feats, samples)
    settings = {"method": method, "samples": samples, "views": len(views), **options}
    features, weight = weighted_mean(views)
    return Lifted(views.cloud, features, weight, None, settings)


@torch.no_grad()
def weighted_mean(views: FeatureViews) -> tuple[Tensor, Tensor]:  # [N, C], [N]
    """Σ_v W_vᵀ F_v / Σ_v W_vᵀ 1, one view at a time, and the divisor; 0 for Gaussians that (almost) no view saw."""
    total = weight = None
    for W, F in views:
        if total is None:
            total, weight = F.new_zeros(len(views.cloud), F.shape[1]), F.new_zeros(len(views.cloud))
        add_product(total, transposed(W), F)
        weight.index_add_(0, W.col_indices(), W.values())
    total /= weight.clamp_min(MIN_WEIGHT).unsqueeze(1)
    total[weight < MIN_WEIGHT] = 0
    return total, weight


def add_product(total: Tensor, A: Tensor, B: Tensor) -> None:
    """total += A @ B with sparse A, in place: no second [N, C] is made."""
    torch.addmm(total, A, B, out=total)
