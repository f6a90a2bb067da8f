"""FiT3D's form of a lifted scene: D numbers per Gaussian, and one 3 × 3 convolution that makes C channels of their render.

The convolution has no bias and is shared by the scene; its zeros around a picture and around holes tell it where the
border is, near which a ViT's features differ, and its context sharpens what averaging over patches blurred. Two ways:

* :func:`train_decoder`, FiT3D's first stage (arXiv 2407.20229): both halves from nothing by Adam on the L1 distance
  to the photos' features. Here at the patch grid, where features live; the paper upsamples them to pixels.
* :func:`regress_decoder`, without gradient descent. Both halves have a closed form once the weighted mean is there: the
  short vectors are its coordinates along the D strongest directions of the features (principal components, not
  centered), and the convolution is a linear regression. Each patch of each photo is one equation, its 3 × 3 neighborhood
  the factors of the 9·D unknowns.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from ..base.inputs import check_whole
from .grid import transposed
from .lifted import normalized_weights

PAPER_LR = 6.25e-5  # for 30,000 steps
DIMS = (8, 128)


class Product(torch.autograd.Function):
    """W @ x for a sparse W with its transpose at hand; the gradient goes to x alone."""

    @staticmethod
    def forward(ctx, W, W_transposed, x):
        ctx.W_transposed = W_transposed
        return W @ x

    @staticmethod
    def backward(ctx, grad):
        return None, None, ctx.W_transposed @ grad


def check_dim(dim: int) -> None:
    """Raise ValueError for a dim outside 8..128."""
    check_whole(1, dim=dim)
    if not DIMS[0] <= dim <= DIMS[1]:
        raise ValueError(
            f"The decoder takes {DIMS[0]} to {DIMS[1]} dimensions per Gaussian, got dim={dim}; FiT3D uses 64."
        )


def check_rate(steps: int, lr: float | str) -> float:
    """The learning rate as a number. Raises ValueError for steps < 1 or a learning rate ≤ 0."""
    rate = PAPER_LR if lr == "paper" else lr
    check_whole(1, steps=steps)
    if isinstance(rate, str) or not rate > 0:
        raise ValueError(f"The decoder needs lr > 0 or 'paper'; got lr={lr!r}.")
    return rate


def train_decoder(
    views: Sequence[tuple[Tensor, Tensor]],  # patch matrix [h*w, N] and features [h*w, C] of each view
    grid: tuple[int, int],  # h, w
    seen: Tensor,  # [N] bool
    dim: int,
    steps: int,
    lr: float | str,
    seed: int,
    progress: bool = True,
    history: list | None = None,
) -> tuple[Tensor, Tensor]:  # [N, D], [C, D, 3, 3]
    """Low-dimensional features and the decoder's weights after ``steps`` steps on one view each, in shuffled rounds.

    ``history`` receives the loss of each step. Interrupting keeps what has been reached.
    """
    rate = check_rate(steps, lr)
    channels, like = views[0][1].shape[1], views[0][1]
    generator = torch.Generator().manual_seed(seed)
    bound = (9 * dim) ** -0.5  # as torch starts a convolution
    start = (2 * torch.rand(channels, dim, 3, 3, generator=generator, dtype=like.dtype) - 1) * bound
    with torch.enable_grad():
        low = like.new_zeros(len(seen), dim, requires_grad=True)
        decoder = start.to(like.device).requires_grad_()
        optimizer = torch.optim.Adam([low, decoder], lr=rate, eps=1e-15)
        prepared = [_prepare(W, target, seen, grid) for W, target in views]
        order: list[int] = []
        bar = tqdm(range(steps), desc="training the decoder", disable=not progress)
        try:
            for step in bar:
                order = order or torch.randperm(len(views), generator=generator).tolist()
                W, Wt, mask, target = prepared[order.pop()]
                picture = Product.apply(W, Wt, low).T.reshape(1, dim, *grid)
                guess = F.conv2d(picture, decoder, padding=1)[0]
                loss = ((guess - target).abs() * mask).sum() / (mask.sum() * channels).clamp_min(1)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                if history is not None:
                    history.append(loss.item())
                if step % 20 == 0:
                    bar.set_postfix(loss=f"{loss.item():.3f}")
        except KeyboardInterrupt:
            print(f"Stopped after {step} of {steps} steps; what is reached is kept.")
    return low.detach(), decoder.detach()


def _prepare(W: Tensor, target: Tensor, seen: Tensor, grid: tuple[int, int]):
    """Matrix, its transpose, mask [h, w] and target [C, h, w] of one view: what Lifted.render does, as one matrix."""
    W, mask = normalized_weights(W, seen)
    return W, transposed(W), mask.reshape(grid), target.T.reshape(-1, *grid)


@torch.no_grad()
def regress_decoder(
    views: Sequence[tuple[Tensor, Tensor]],  # patch matrix [h*w, N] and features [h*w, C] of each view
    grid: tuple[int, int],  # h, w
    mean: Tensor,  # [N, C]
    seen: Tensor,  # [N] bool
    dim: int,  # D ≤ C
    ridge: float,
) -> tuple[Tensor, Tensor]:  # [N, D], [C, D, 3, 3]
    """(mean @ B, weights): B [C, D] the principal directions of all features; weights minimize, over the covered
    patches,

        Σ_p ‖conv(render(mean @ B))_p − F_p‖²  +  ridge · s · ‖weights‖²,   s the mean squared length of an input
        column.

    Only sums over views are kept: [C, C], [9D, 9D] and [9D, C]. Raises ValueError when D > C.
    """
    channels = mean.shape[1]
    if dim > channels:
        raise ValueError(f"dim={dim} is more than the C={channels} channels of the features: take dim ≤ {channels}.")
    spread = sum(target.double().T @ target.double() for _, target in views)
    basis = torch.linalg.eigh(spread).eigenvectors[:, -dim:].flip(1).to(mean)
    low = mean @ basis
    gram = cross = 0
    for W, target in views:
        W, mask = normalized_weights(W, seen)
        picture = (W @ low).T.reshape(1, dim, *grid)
        inputs = F.unfold(picture, 3, padding=1)[0].T[mask].double()  # [patches, D * 9]
        gram = gram + inputs.T @ inputs
        cross = cross + inputs.T @ target[mask].double()
    # At least a hair of ridge: without any, fewer patches than unknowns would have no single answer.
    held = max(ridge, 1e-9) * gram.diagonal().mean().clamp_min(1e-30)
    weights = torch.linalg.solve(gram + held * torch.eye(len(gram), dtype=gram.dtype, device=gram.device), cross)
    return low, weights.T.reshape(channels, dim, 3, 3).to(mean)
