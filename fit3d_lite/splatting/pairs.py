"""The (pixel, Gaussian) pairs of a picture, listed without trying a pixel in vain.

A 2D Gaussian cut along one row of pixels is a 1D Gaussian, so the columns where its alpha reaches 1/255 are known in
closed form: each Gaussian is first unrolled into its rows, then each row into its pixels. Gaussians come in depth
order, so one stable sort by pixel leaves the pairs of a pixel from near to far.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..scenes.camera import Camera
from .projection import ALPHA_MIN

MAX_PAIRS = 8_000_000  # listed at once on a CPU; larger pictures are done in bands of rows
PAIR_BYTES = 256  # what a pair takes at most while it is listed, sorted, weighted and differentiated


@dataclass
class Pairs:
    """M (pixel, Gaussian) pairs of one band of rows, sorted by pixel and, within a pixel, from near to far."""

    gaussian: Tensor  # [M] int64, row of the ellipses
    pixel: Tensor  # [M] int64, row * W + column


def pairs_that_fit(device: torch.device) -> int:
    """Pairs to list at once: on a GPU half of its free memory."""
    if device.type != "cuda":
        return MAX_PAIRS
    return max(1_000_000, torch.cuda.mem_get_info(device)[0] // (2 * PAIR_BYTES))


def list_pairs(
    ellipses: Tensor,  # [K, 6], from near to far; see projection.ellipses
    camera: Camera,
    max_pairs: int | None = None,
) -> Iterator[Pairs]:
    """Yield Pairs for one band of rows after another, each of about ``max_pairs`` at most (or one row).

    Two numbers come back from a GPU for a picture: how many rows and how many pairs there are.
    """
    gaussian, row, left, length = _spans(ellipses, camera)
    total = int(length.sum())
    if not total:
        return
    for chosen, count in _bands(row, length, camera.height, total, max_pairs or pairs_that_fit(ellipses.device)):
        owner, step = expand(length[chosen], count)
        pixel = (row[chosen] * camera.width + left[chosen])[owner] + step
        # int32 keys: half the passes of a radix sort, and the fastest sort of a CPU too.
        pixel, order = pixel.int().sort(stable=True)
        yield Pairs(gaussian[chosen][owner[order]], pixel.long())


def _bands(row: Tensor, length: Tensor, height: int, total: int, most: int) -> Iterator[tuple[Tensor | slice, int]]:
    """Spans of whole rows of pixels that have about ``most`` pairs together at most, and how many they have."""
    if total <= most:
        yield slice(None), total
        return
    per_row = torch.zeros(height, dtype=torch.int64, device=row.device).index_add_(0, row, length)
    band = ((per_row.cumsum(0) - 1).clamp_min(0) // most)[row]
    for number in band.unique():
        chosen = torch.nonzero(band == number).squeeze(1)
        yield chosen, int(length[chosen].sum())


def _spans(ellipses: Tensor, camera: Camera) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Runs of pixels that a Gaussian covers in one row: (Gaussian, row, first column, length ≥ 0), each [S]."""
    mean_u, mean_v, slope, inv_v, inv_u, opacity = ellipses.unbind(1)
    reach = (2 * (opacity / ALPHA_MIN).log()).clamp_min(0)  # alpha ≥ 1/255 where the squared distance is at most this
    half = reach.sqrt() / inv_v
    top = (mean_v - half - 0.5).ceil().clamp(0, camera.height)
    bottom = (mean_v + half - 0.5).floor().clamp(-1, camera.height - 1)
    rows = (bottom - top + 1).clamp_min(0).long()
    gaussian, step = expand(rows, int(rows.sum()))
    row = top.long()[gaussian] + step
    mean_u, mean_v, slope, inv_v, inv_u, reach = (x[gaussian] for x in (mean_u, mean_v, slope, inv_v, inv_u, reach))
    dv = row + 0.5 - mean_v
    half = (reach - (dv * inv_v) ** 2).clamp_min(0).sqrt() / inv_u + 1e-3  # a hair wider; alpha decides
    middle = mean_u + slope * dv
    left = (middle - half - 0.5).ceil().clamp(0, camera.width).long()
    right = (middle + half - 0.5).floor().clamp(-1, camera.width - 1).long()
    return gaussian, row, left, (right - left + 1).clamp_min(0)


def expand(counts: Tensor, total: int) -> tuple[Tensor, Tensor]:
    """counts [K] of sum ``total`` -> (owner, position) of each item: owner 0,0,0,1,1… and position 0,1,2,0,1…"""
    everyone = torch.arange(len(counts), device=counts.device)
    owner = torch.repeat_interleave(everyone, counts, output_size=total)
    first = counts.cumsum(0) - counts
    return owner, torch.arange(total, device=counts.device) - first[owner]
