"""FiT3D's form of a lifted scene, a short vector per Gaussian and one convolution, without gradient descent.

Both halves have a closed form once the weighted mean is there. The short vectors are the mean's coordinates along the
D strongest directions of the features (principal components, not centred). The 3 × 3 convolution that takes their
render back to C channels is a linear regression: each patch of each photo is one equation, its 3 × 3 neighbourhood
the 9·D unknowns' factors.

What the convolution adds to the mean is context within a picture: it sharpens what averaging over patches blurred,
and the zeros around a picture and around holes tell it where the border is, near which a ViT's features differ.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import unfold

from .lifted import normalised_weights


@torch.no_grad()
def regress_decoder(
    views: Sequence[tuple[Tensor, Tensor]],  # patch matrix [h*w, N] and features [h*w, C] of each view
    grid: tuple[int, int],  # h, w
    mean: Tensor,  # [N, C]
    seen: Tensor,  # [N] bool
    dim: int,  # D ≤ C
    ridge: float,
) -> tuple[Tensor, Tensor]:  # [N, D], [C, D, 3, 3]
    """(mean @ B, weights): B [C, D] the principal directions of all features; weights minimise, over the covered
    patches,

        Σ_p ‖conv(render(mean @ B))_p − F_p‖²  +  ridge · s · ‖weights‖²,   s the mean squared length of an input
        column.

    Only sums over views are kept: [C, C], [9D, 9D] and [9D, C]. Raises ValueError when D > C.
    """
    channels = mean.shape[1]
    if dim > channels:
        raise ValueError(f"dim={dim} is more than the C={channels} channels of the features: take dim ≤ {channels}.")
    spread = sum(F.double().T @ F.double() for _, F in views)
    basis = torch.linalg.eigh(spread).eigenvectors[:, -dim:].flip(1).to(mean)
    low = mean @ basis
    gram = cross = 0
    for W, F in views:
        W, mask = normalised_weights(W, seen)
        picture = (W @ low).T.reshape(1, dim, *grid)
        inputs = unfold(picture, 3, padding=1)[0].T[mask].double()  # [patches, D * 9]
        gram = gram + inputs.T @ inputs
        cross = cross + inputs.T @ F[mask].double()
    # At least a hair of ridge: without any, fewer patches than unknowns would have no single answer.
    held = max(ridge, 1e-9) * gram.diagonal().mean().clamp_min(1e-30)
    weights = torch.linalg.solve(gram + held * torch.eye(len(gram), dtype=gram.dtype, device=gram.device), cross)
    return low, weights.T.reshape(channels, dim, 3, 3).to(mean)
