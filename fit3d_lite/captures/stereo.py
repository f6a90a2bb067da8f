"""Two real photos with measured depth and no download: the rectified stereo pair that scikit-image carries.

The "motorcycle" of the Middlebury 2014 stereo benchmark (Scharstein et al., "High-resolution stereo datasets with
subpixel-accurate ground truth", GCPR 2014), a quarter of its size. The numbers below are those of the docstring of
``skimage.data.stereo_motorcycle``.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..base.inputs import target_size
from ..scenes.camera import Camera
from ..scenes.scene import Scene

FOCAL, CENTER = 994.978, (311.193, 254.877)  # pixels, of the left photo
OFFSET = 31.086  # pixels: the right photo's principal point lies further right by this much
BASELINE = 0.193001  # metres


def stereo(size: int | tuple[int, int] | None = None) -> Scene:
    """A motorcycle in a workshop: two views, left and right, 0.19 m apart.

    Args:
        size: (height, width) in pixels, or an int for the shorter side with the proportions kept; None keeps 500 × 741.

    Returns a Scene: images [2, 3, H, W] in 0..1 and depths [2, H, W] in metres, 2.1 to 5.0, 0 = unknown. The left
    depth is measured (93 % of the pixels), z = f b / (disparity + offset). The right one is the left one moved over, and
    unknown where the left photo does not see. The world is the left camera.

    Raises ValueError for a size that is none, ModuleNotFoundError without scikit-image.
    """
    from skimage.data import stereo_motorcycle

    left, right, disparity = stereo_motorcycle()
    disparity = torch.from_numpy(np.where(np.isfinite(disparity), disparity, np.nan)).float()
    depth = (FOCAL * BASELINE / (disparity + OFFSET)).nan_to_num(0.0)
    images = torch.from_numpy(np.stack([left, right])).movedim(-1, 1).float() / 255
    height, width = depth.shape
    cameras = []
    for x, shift in ((CENTER[0], 0.0), (CENTER[0] + OFFSET, BASELINE)):
        K = torch.tensor([[FOCAL, 0.0, x], [0.0, FOCAL, CENTER[1]], [0.0, 0.0, 1.0]])
        pose = torch.eye(4)
        pose[0, 3] = -shift
        cameras.append(Camera(K, pose, width, height))
    depths = torch.stack([depth, moved_over(depth, disparity)])
    height, width = target_size(size, height, width)
    return Scene(images, tuple(cameras), depths, name="stereo").resized(width, height)


def moved_over(
    depth: Tensor,  # [H, W] metres of the left photo, 0 = unknown
    disparity: Tensor,  # [H, W] pixels: column c of the left photo is column c − disparity of the right one
) -> Tensor:  # [H, W] metres of the right photo
    """Each depth in the two columns it falls between; the nearest surface wins, and what nothing falls on is unknown."""
    found = torch.full_like(depth, torch.inf)
    rows, columns = torch.nonzero(depth > 0, as_tuple=True)
    values, exact = depth[rows, columns], columns - disparity[rows, columns]
    for target in (exact.floor().long(), exact.ceil().long()):
        inside = (target >= 0) & (target < depth.shape[1])
        index = rows[inside] * depth.shape[1] + target[inside]
        found.view(-1).scatter_reduce_(0, index, values[inside], "amin")
    return found.where(found.isfinite(), 0)
