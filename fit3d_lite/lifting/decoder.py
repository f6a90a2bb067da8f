"""FiT3D's own lifting: a short vector per Gaussian and one convolution, by gradient descent.

Each Gaussian has D numbers, zero at first. A view renders them to D channels and one 3 × 3 convolution without bias,
shared by the scene, makes C of them; the loss is the L1 distance to the photo's features, and Adam moves both. The
geometry is fixed. Here the loss is taken at the patch grid, where features live; the paper upsamples them to pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from .grid import transposed
from .lifted import normalised_weights

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
    if not DIMS[0] <= dim <= DIMS[1]:
        raise ValueError(
            f"The decoder takes {DIMS[0]} to {DIMS[1]} dimensions per Gaussian, got dim={dim}; FiT3D uses 64."
        )


def check_options(dim: int, steps: int, lr: float | str) -> float:
    """The learning rate as a number. Raises ValueError for a dim outside 8..128, steps < 1 or a learning rate ≤ 0."""
    if not DIMS[0] <= dim <= DIMS[1]:
        raise ValueError(
            f"The decoder takes {DIMS[0]} to {DIMS[1]} dimensions per Gaussian, got dim={dim}; FiT3D uses 64."
        )
    rate = PAPER_LR if lr == "paper" else lr
    if steps < 1 or isinstance(rate, str) or not rate > 0:
        raise ValueError(f"The decoder needs steps ≥ 1 and lr > 0 or 'paper'; got steps={steps} and lr={lr!r}.")
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
    rate = check_options(dim, steps, lr)
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
    W, mask = normalised_weights(W, seen)
    return W, transposed(W), mask.reshape(grid), target.T.reshape(-1, *grid)
