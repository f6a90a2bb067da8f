"""Features on a grid finer than a network's patches, by looking at shifted copies of the image.

Each pass moves the image by a fraction of a patch, so that the patches fall elsewhere; a fine cell takes the mean of
the patches that cover it, s² of them. It is a sliding window with a stride of a fraction of a patch. The network is
any function from images to feature maps and is not touched.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def features_finer(
    vit: Callable[[Tensor], Tensor],  # [V, 3, H, W] -> [V, C, h, w]
    images: Tensor,  # [V, 3, H, W]
    shifts: int = 2,
) -> Tensor:  # [V, C, h * shifts, w * shifts]
    """Feature maps ``shifts`` times finer in both directions, for shifts² passes. ``shifts=1`` is ``vit(images)``.

    Beyond the border the last row or column of pixels is repeated; the cells of the first ``shifts − 1`` rows and
    columns are covered by fewer passes and take the mean of those. When a patch is a multiple of ``shifts`` pixels no
    image is resampled. Raises ValueError for shifts < 1 or images that are not [V, 3, H, W].
    """
    if shifts < 1 or images.ndim != 4:
        raise ValueError(
            f"Need shifts ≥ 1 and images [V, 3, H, W]; got shifts={shifts} and images {list(images.shape)}."
        )
    total = count = None
    for down in range(shifts):
        for across in range(shifts):
            if total is None:
                coarse = vit(images)
                h, w = coarse.shape[-2:]
                total = coarse.new_zeros(*coarse.shape[:2], h * shifts, w * shifts)
                count = coarse.new_zeros(h * shifts, w * shifts)
            else:
                coarse = vit(_shifted(images, down / (shifts * h), across / (shifts * w)))
            fine = coarse.repeat_interleave(shifts, 2).repeat_interleave(shifts, 3)
            # Patch (0, 0) of the shifted image starts at fine cell (down, across); what sticks out is beyond the border.
            total[:, :, down:, across:] += fine[:, :, : h * shifts - down, : w * shifts - across]
            count[down:, across:] += 1
    return total / count


def _shifted(images: Tensor, down: float, across: float) -> Tensor:
    """The image moved up and left by fractions of its height and width."""
    height, width = images.shape[-2:]
    rows = (torch.arange(height, device=images.device) + 0.5) / height + down
    columns = (torch.arange(width, device=images.device) + 0.5) / width + across
    y, x = torch.meshgrid(2 * rows - 1, 2 * columns - 1, indexing="ij")
    where = torch.stack([x, y], -1).to(images.dtype).expand(len(images), -1, -1, -1)
    return F.grid_sample(images, where, mode="bilinear", padding_mode="border", align_corners=False).clamp(0, 1)
