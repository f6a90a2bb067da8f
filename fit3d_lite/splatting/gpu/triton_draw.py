"""Drawing with Triton: the same picture, weights and gradients as torch's way, in four kernels.

Where torch's way lists every (pixel, Gaussian) pair, this lists (tile, Gaussian) pairs, some fifty times fewer, and
lets each tile of 8 × 8 pixels go through its Gaussians by itself:

1. project (projection.py), as torch's way does.
2. ``tile_lists``: the Gaussians of each tile from near to far, by one sort with a short key, in torch.
3. blend forward and backward (triton_kernels.py), or the weights themselves as the rows of W.

The host waits twice a picture, for the number of Gaussians that are seen and of (tile, Gaussian) pairs. Sums of
gradients come in whatever order the tiles end, so their last digits differ from run to run, as gsplat's do.
"""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass

import torch
from torch import Tensor

from ...scenes.camera import Camera
from .. import quality
from ..blend import PairWeights
from ..gaussians import Gaussians
from ..pairs import expand
from ..projection import ALPHA_MIN, every_ellipse, project

MAX_BLOCK = 16  # channels that a tile adds up at once, in several passes; 32 would not fit a T4's registers (255 a thread)
MAX_LISTED = 2**24  # (tile, Gaussian) pairs listed at once, about 1 GB while they are sorted; else in bands of tiles


def problem(device: torch.device) -> str:
    """Why Triton cannot draw on this device, or nothing."""
    if not importlib.util.find_spec("triton"):
        return "Triton is not installed (it comes with torch's CUDA builds for Linux)"
    if torch.device(device).type == "cuda" or os.environ.get("TRITON_INTERPRET") == "1":
        return ""
    return f"its kernels run on CUDA, and the Gaussians are on {device}"


@dataclass
class TileLists:
    """The Gaussians of each tile of a band of tile rows, from near to far."""

    listed: Tensor  # [I] int32
    starts: Tensor  # [tiles + 1] int32
    tiles_x: int
    first_row: int  # of pixels

    @property
    def tiles(self) -> int:
        return len(self.starts) - 1

    def sizes(self, camera: Camera) -> tuple[int, int, int, int]:
        """What every kernel is told: width, one past the last row of these tiles, tiles in a row, first row."""
        from .triton_kernels import TILE

        end = self.first_row + self.tiles // self.tiles_x * TILE
        return camera.width, min(camera.height, end), self.tiles_x, self.first_row


def tile_lists(
    ellipses: Tensor,  # [N, 6]
    order: Tensor,  # [K] int64: the Gaussians that are seen, from near to far
    camera: Camera,
    max_listed: int = MAX_LISTED,
) -> list[TileLists]:
    """Which Gaussians each tile has to go through, by the rectangle around what each draws (alpha ≥ 1/255)."""
    from .triton_kernels import TILE

    mean_u, mean_v, slope, inv_v, inv_u, opacity = ellipses[order].unbind(1)
    reach = (2 * (opacity / ALPHA_MIN).log()).clamp_min(0).sqrt()  # in standard deviations
    half_v = reach / inv_v
    half_u = reach * (inv_u**-2 + (slope / inv_v) ** 2).sqrt()
    tiles_x, tiles_y = -(-camera.width // TILE), -(-camera.height // TILE)
    left, right = _cells(mean_u, half_u, camera.width, TILE)
    top, bottom = _cells(mean_v, half_v, camera.height, TILE)
    wide = (right - left + 1).clamp_min(0)

    total = int((wide * (bottom - top + 1).clamp_min(0)).sum())
    bands = min(tiles_y, max(1, -(-total // max_listed)))
    edges = [tiles_y * b // bands for b in range(bands + 1)]
    lists = []
    for begin, end in zip(edges[:-1], edges[1:], strict=True):
        first = top.clamp_min(begin)
        tall = (bottom.clamp_max(end - 1) - first + 1).clamp_min(0)
        counts = wide * tall
        size = total if bands == 1 else int(counts.sum())
        owner, step = expand(counts, size)
        across = wide[owner]
        tile = (first[owner] - begin + step // across) * tiles_x + left[owner] + step % across
        # The fewer bytes a key has, the fewer passes a radix sort makes: two for up to 32,767 tiles, 1440² pixels.
        tiles = (end - begin) * tiles_x
        key, place = tile.to(torch.int16 if tiles < 2**15 else torch.int32).sort(stable=True)
        starts = torch.searchsorted(key.int(), torch.arange(tiles + 1, dtype=torch.int32, device=key.device))
        listed = order[owner[place]].int()
        lists.append(TileLists(listed, starts.int(), tiles_x, begin * TILE))
    return lists


def _cells(mean: Tensor, half: Tensor, size: int, cell: int) -> tuple[Tensor, Tensor]:
    """First and last cell whose pixel centers lie within ``half`` of ``mean``; last < first where there is none."""
    low = (mean - half - 0.5).ceil().clamp(0, size).long()
    high = (mean + half - 0.5).floor().clamp(-1, size - 1).long()
    return torch.div(low, cell, rounding_mode="floor"), torch.where(high >= low, torch.div(high, cell, rounding_mode="floor"), -1)


class Blend(torch.autograd.Function):
    """(ellipses [N, 6], values [N, C ≥ 1], lists, camera) -> image [H*W, C], alpha [H*W]."""

    @staticmethod
    def forward(ctx, ellipses, values, lists, camera):
        from .triton_kernels import blend_forward

        ellipses, values = ellipses.contiguous(), values.contiguous()
        pixels, channels = camera.height * camera.width, values.shape[1]
        image = values.new_empty(pixels, channels)
        passing = values.new_empty(pixels)
        last = torch.empty(pixels, dtype=torch.int32, device=values.device)
        block, parts = _blocks(channels)
        with torch.cuda.device_of(values):  # a kernel starts on the current GPU, wherever its tensors are
            for one in lists:
                scene = (ellipses, one.listed, one.starts, values, image, passing, last)
                blend_forward[(one.tiles, parts)](*scene, *one.sizes(camera), channels, BLOCK=block, num_warps=1)
        ctx.save_for_backward(ellipses, values, passing, last)
        ctx.lists, ctx.camera = lists, camera
        return image, 1 - passing

    @staticmethod
    def backward(ctx, d_image, d_alpha):
        from .triton_kernels import blend_backward

        ellipses, values, passing, last = ctx.saved_tensors
        geometry, wanted = ctx.needs_input_grad[:2]
        d_ellipses, d_values = torch.zeros_like(ellipses), torch.zeros_like(values)
        arriving = (d_image.contiguous(), d_alpha.contiguous())
        block, parts = _blocks(values.shape[1])
        asked = {"BLOCK": block, "GEOMETRY": geometry, "VALUES": wanted, "num_warps": 1}
        with torch.cuda.device_of(values):
            for one in ctx.lists:
                scene = (ellipses, one.listed, one.starts, values, passing, last, *arriving, d_ellipses, d_values)
                blend_backward[(one.tiles, parts)](*scene, *one.sizes(ctx.camera), values.shape[1], **asked)
        return d_ellipses if geometry else None, d_values if wanted else None, None, None


def blend(
    ellipses: Tensor, values: Tensor, lists: list[TileLists], camera: Camera
) -> tuple[Tensor, Tensor]:  # [H*W, C], [H*W]
    """Weighted sums of ``values`` [N, C] in every pixel, and the opacity."""
    channels = values.shape[1]
    some = values if channels else values.new_zeros(len(values), 1)  # without a channel no program would run
    image, alpha = Blend.apply(ellipses, some, lists, camera)
    return image[:, :channels], alpha


def _blocks(channels: int) -> tuple[int, int]:
    """Channels of one program, a power of two, and how many programs share a tile."""
    block = min(MAX_BLOCK, 1 << (channels - 1).bit_length())
    return block, -(-channels // block)


def _ellipses(cloud: Gaussians, camera: Camera, near: float) -> tuple[Tensor, Tensor]:  # [N, 6] float32, [K] int64
    """A row for every Gaussian, and which are seen, from near to far."""
    flat = project(cloud, camera, near)
    return every_ellipse(flat, len(cloud)).float(), flat.index


def render(
    cloud: Gaussians, camera: Camera, values: Tensor, near: float
) -> tuple[Tensor, Tensor]:  # [H, W, C], [H, W]
    """What :func:`fit3d_lite.render` gives, for inputs that it has checked."""
    ellipses, order = _ellipses(cloud, camera, near)
    with torch.no_grad():
        lists = tile_lists(ellipses, order, camera)
    image, alpha = blend(ellipses, values, lists, camera)
    return image.reshape(camera.height, camera.width, values.shape[1]), alpha.reshape(camera.height, camera.width)


def weights(cloud: Gaussians, camera: Camera, near: float) -> tuple[Tensor, Tensor, Tensor]:
    """Weights [M], Gaussian [M] and pixel [M], sorted by pixel and from near to far; nothing of size M is sorted.

    The tiles are gone through twice, once to count and once to write.
    """
    from .triton_kernels import count_pairs, write_pairs

    ellipses, order = _ellipses(cloud, camera, near)
    pixels, fixed = camera.height * camera.width, ellipses.detach().contiguous()
    counted = torch.zeros(pixels, dtype=torch.int32, device=fixed.device)
    with torch.no_grad(), torch.cuda.device_of(fixed):
        lists = tile_lists(fixed, order, camera)
        for one in lists:
            count_pairs[(one.tiles,)](fixed, one.listed, one.starts, counted, *one.sizes(camera), num_warps=1)
        rows = torch.cat([counted.new_zeros(1, dtype=torch.int64), counted.cumsum(0)])
        total = int(rows[-1])
        gaussian = torch.empty(total, dtype=torch.int64, device=fixed.device)
        found = fixed.new_empty(total)
        for one in lists:
            scene = (fixed, one.listed, one.starts, rows, gaussian, found, *one.sizes(camera))
            write_pairs[(one.tiles,)](*scene, num_warps=1)
        everyone = torch.arange(pixels, device=fixed.device)
        pixel = torch.repeat_interleave(everyone, counted, output_size=total)
    if torch.is_grad_enabled() and ellipses.requires_grad:
        found, keep = PairWeights.apply(ellipses, gaussian, pixel, camera.width)
        gaussian, pixel = gaussian[keep], pixel[keep]
    return found, gaussian, pixel


def disagreement(device: torch.device) -> float:
    """How far the kernels are from torch's way here; see quality.disagreement."""
    return quality.disagreement("triton", device)
