"""Alpha blending of listed (pixel, Gaussian) pairs, and its exact gradient.

For one pixel with pairs k = 1, 2, … from near to far:

    alpha_k = min(0.999, opacity · exp(−½ distance²)),   T_k = ∏_{j<k} (1 − alpha_j),   weight_k = alpha_k · T_k.

All pixels are done at once: the product over nearer pairs is a running sum of log(1 − alpha) from which the value at
the start of the pixel is taken off. The sum runs over all pairs of the picture, hence in float64. A pixel stops at
the pair that would bring its transmittance to 1e-4, and pairs under 1/255 do not count; both as in gsplat.

The gradients are written out here rather than left to autograd, because the pair is what there are millions of:
autograd would keep a dozen numbers for each, this keeps four. tests/splatting/test_splat.py checks them against a
dense float64 version.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..base.machine import quiet_sparse
from .projection import ALPHA_MIN

ALPHA_MAX = 0.999
T_MIN = 1e-4


def _segment_starts(pixel: Tensor) -> Tensor:
    """For each pair, the index of the first pair of its pixel. pixel [M], sorted."""
    position = torch.arange(len(pixel), device=pixel.device)
    first = torch.ones_like(pixel, dtype=torch.bool)
    first[1:] = pixel[1:] != pixel[:-1]
    return torch.where(first, position, 0).cummax(0).values


def _segment_ends(pixel: Tensor) -> Tensor:
    """For each pair, the index of the last pair of its pixel."""
    return len(pixel) - 1 - _segment_starts(pixel.flip(0)).flip(0)


def _offsets(ellipses: Tensor, gaussian: Tensor, pixel: Tensor, width: int):
    """Offsets of a pixel's center from a Gaussian: u given v, and v, in units of their spreads; then both in pixels."""
    mean_u, mean_v, slope, inv_v, inv_u, _ = ellipses.index_select(0, gaussian).unbind(1)
    row = torch.div(pixel, width, rounding_mode="floor")
    dv = row + 0.5 - mean_v
    du = (pixel - row * width) + 0.5 - mean_u - slope * dv
    return du * inv_u, dv * inv_v, du, dv


class PairWeights(torch.autograd.Function):
    """(ellipses [K, 6], gaussian [M], pixel [M] sorted, width) -> (weights [L], keep [L]), the L ≤ M pairs that reach
    the eye; ``gaussian`` is a row of ``ellipses``.
    """

    @staticmethod
    def forward(ctx, ellipses, gaussian, pixel, width):
        across, along, _, _ = _offsets(ellipses, gaussian, pixel, width)
        alpha = (ellipses[:, 5][gaussian] * torch.exp(-0.5 * (across**2 + along**2))).clamp_max(ALPHA_MAX)
        alpha = torch.where(alpha >= ALPHA_MIN, alpha, 0)
        log_pass = torch.log1p(-alpha.double())
        through = log_pass.cumsum(0)
        before = through - log_pass
        start = _segment_starts(pixel)
        reaches = (alpha > 0) & (through - before[start] > math.log(T_MIN))
        keep = torch.nonzero(reaches).squeeze(1)  # how many there are is all that a GPU has to tell the host
        alpha, transmittance = alpha[keep], (before - before[start])[keep].exp().to(alpha.dtype)
        ctx.save_for_backward(ellipses, gaussian[keep], pixel[keep], alpha, transmittance)
        ctx.width = width
        ctx.mark_non_differentiable(keep)
        return alpha * transmittance, keep

    @staticmethod
    def backward(ctx, grad, _):
        ellipses, gaussian, pixel, alpha, transmittance = ctx.saved_tensors
        if not len(gaussian):
            return torch.zeros_like(ellipses), None, None, None
        # weight_k grows with alpha_k, and every later weight shrinks by 1 / (1 − alpha_k) of itself.
        flow = (grad * alpha * transmittance).double().cumsum(0)
        behind = (flow[_segment_ends(pixel)] - flow).to(grad.dtype)
        d_alpha = transmittance * grad - behind / (1 - alpha)
        d_alpha = torch.where(alpha < ALPHA_MAX, d_alpha, 0)

        _, _, slope, inv_v, inv_u, opacity = ellipses.index_select(0, gaussian).unbind(1)
        across, along, du, dv = _offsets(ellipses, gaussian, pixel, ctx.width)
        d_square = -d_alpha * alpha  # gradient of ½ distance²
        d_across, d_along = d_square * across, d_square * along
        d_du = d_across * inv_u
        terms = [
            -d_du,
            d_du * slope - d_along * inv_v,
            -d_du * dv,
            d_along * dv,
            d_across * du,
            d_alpha * alpha / opacity,
        ]
        total = torch.zeros_like(ellipses).index_add_(0, gaussian, torch.stack(terms, 1))
        return total, None, None, None


class Composite(torch.autograd.Function):
    """(weights [M], gaussian [M], pixel [M] sorted, P pixels, values [N, C]) -> [P, C]: the product W @ values."""

    @staticmethod
    def forward(ctx, weights, gaussian, pixel, pixels, values):
        ctx.save_for_backward(weights, gaussian, pixel, values)
        quiet_sparse()
        matrix = torch.sparse_csr_tensor(
            row_starts(pixel, pixels), gaussian, weights.to(values.dtype), (pixels, len(values))
        )
        return matrix @ values

    @staticmethod
    def backward(ctx, grad):
        weights, gaussian, pixel, values = ctx.saved_tensors
        d_weights = d_values = None
        # Channels at a time: a few million numbers stay near a CPU's cache; a GPU wants few and large steps (0.5 GB).
        step = max(1, (2**27 if grad.is_cuda else 2**22) // max(len(gaussian), 1))
        if ctx.needs_input_grad[4]:
            d_values = torch.zeros_like(values)
        if ctx.needs_input_grad[0]:
            d_weights = torch.zeros_like(weights)
        for start in range(0, values.shape[1], step):
            part = slice(start, start + step)
            arriving = grad[:, part].index_select(0, pixel)
            if d_weights is not None:
                d_weights += (arriving * values[:, part].index_select(0, gaussian)).sum(1)
            if d_values is not None:
                d_values[:, part].index_add_(0, gaussian, arriving * weights.unsqueeze(1).to(grad.dtype))
        return d_weights, None, None, None, d_values


def row_starts(pixel: Tensor, rows: int) -> Tensor:  # [M] sorted -> [rows + 1]
    """Where each row of a CSR matrix begins."""
    return torch.searchsorted(pixel, torch.arange(rows + 1, device=pixel.device))
