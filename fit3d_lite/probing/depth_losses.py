"""The two losses of the depth probe, on logarithms of depth: SigLoss and a multi-scale gradient loss.

With d = log(prediction + ε) − log(truth + ε) at the pixels whose truth is known:
- SigLoss, the scale-invariant loss of Eigen et al. 2014 (eq. 4) as the root that AdaBins (Bhat et al. 2021, eq. 6)
  and FiT3D use: sqrt(var(d) + 0.15 mean(d)²). The variance does not see a common factor, so a map that is wrong by one
  scale pays only for 0.15 of its square.
- Gradient loss (MegaDepth, Li and Snavely 2018, eq. 5): the mean |difference of d between neighbours|, across and
  down, on the map and on three coarser ones. It asks for edges where the truth has them.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["gradient_loss", "sig_loss"]

EPSILON = 1e-3  # metres; keeps the logarithm finite
SCALES = (1, 2, 4, 8)  # every how many pixels the gradient loss looks
GRADIENT_WEIGHT = 0.5  # beside SigLoss (FiT3D's depth configuration)


def sig_loss(
    prediction: Tensor,  # [B, H, W] metres, > 0
    truth: Tensor,  # [B, H, W] metres, 0 = unknown
    warm_up: bool = False,
) -> Tensor:  # []
    """sqrt(var(d) + 0.15 mean(d)²) over all known pixels of the batch; ``warm_up`` leaves the variance out.

    In the first 100 steps FiT3D's configuration warms up: the root of the mean alone brings the scale of the maps
    right before their shape is asked for.
    """
    known = truth > 0
    d = torch.log(prediction[known] + EPSILON) - torch.log(truth[known] + EPSILON)
    scale = 0.15 * d.mean().square()
    # The root has no derivative at 0; the tiny number is far below any error of a real map.
    return (scale if warm_up else d.var() + scale).clamp(min=1e-12).sqrt()


def gradient_loss(
    prediction: Tensor,  # [B, H, W] metres, > 0
    truth: Tensor,  # [B, H, W] metres, 0 = unknown
) -> Tensor:  # []
    """Sum over scales 1, 2, 4, 8 of (Σ |∂x d| + Σ |∂y d|) / known pixels; a difference counts where both pixels are
    known. Scales that leave fewer than two pixels a side are left out."""
    known = truth > 0
    d = torch.log(prediction + EPSILON) - torch.log(truth.where(known, prediction.detach()) + EPSILON)
    total = prediction.new_zeros(())
    for step in SCALES:
        part, there = d[:, ::step, ::step], known[:, ::step, ::step]
        if min(part.shape[1:]) < 2:
            break
        down = (part.diff(dim=1).abs() * (there[:, 1:] & there[:, :-1])).sum()
        across = (part.diff(dim=2).abs() * (there[:, :, 1:] & there[:, :, :-1])).sum()
        total = total + (down + across) / there.sum().clamp(min=1)
    return total
