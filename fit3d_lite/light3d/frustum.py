"""What a camera has before it: bare points, and the sparse matrix that carries whatever is known of them to its pixels.

The paper projects each point to a pixel and finds out which are hidden. Here both are in the view matrix: a row holds the
points that a pixel sees, near ones first, and what a nearer one covers has no weight in it. ``W @ f`` passes gradients to f,
so a network that makes f learns from labels in the picture, and no point ever needs a label of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..base.machine import quiet_sparse
from ..scenes.camera import Camera
from ..splatting.gaussians import Gaussians
from ..splatting.splat import view_matrix

__all__ = ["Frustum", "frustum"]

NEIGHBOURS = 12


@dataclass(frozen=True, eq=False)
class Frustum:
    """The N points before one camera, the hidden ones too."""

    points: Tensor  # [N, 3] metres, in the camera's frame: x right, y down, z ahead
    W: Tensor  # sparse [H*W, N]
    height: int
    width: int
    up: Tensor  # [3] unit, against gravity, in the camera's frame

    def __len__(self) -> int:
        return len(self.points)

    def carry(self, values: Tensor) -> Tensor:  # [N, d] -> [d, H, W]
        """What pixels see of the values of the points; differentiable in the values."""
        return (self.W @ values).T.reshape(-1, self.height, self.width)

    @cached_property
    def handmade(self) -> Tensor:  # [N, 5]
        """What geometry says without learning: height in metres, normal (x, y, z in the camera's frame), planarity.

        Height counts from the lowest points. Of the spreads l1 ≥ l2 ≥ l3 of a point's nearest :data:`NEIGHBOURS` along their
        principal axes, planarity is (l2 − l3) / l1, and the third axis, turned to the camera, is the normal.
        """
        from sklearn.neighbors import NearestNeighbors  # here, because importing scikit-learn takes a second

        array = self.points.cpu().numpy()
        near = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(array))).fit(array).kneighbors(array)[1]
        around = self.points[torch.from_numpy(near).to(self.points.device)]  # [N, k, 3]
        around = around - around.mean(1, keepdim=True)
        squares, axes = torch.linalg.eigh(around.transpose(1, 2) @ around)  # ascending
        l3, l2, l1 = squares.clamp_min(0).sqrt().unbind(1)
        normal = axes[:, :, 0]
        normal = torch.where((normal * self.points).sum(1, keepdim=True) > 0, -normal, normal)
        height = self.points @ self.up
        lowest = height.quantile(0.01)  # not the minimum: one stray point would move the floor
        return torch.cat([(height - lowest)[:, None], normal, ((l2 - l3) / l1.clamp_min(1e-9))[:, None]], 1)


@torch.no_grad()
def frustum(cloud: Gaussians, camera: Camera, up: tuple = (0.0, 0.0, 1.0)) -> Frustum:
    """The points of ``cloud`` that lie before ``camera``, and its view matrix.

    Args:
        up: the direction against gravity in the world; (0, 0, 1) in our rooms, (0, -1, 0) for one photo held upright.

    Raises ValueError when nothing of the cloud is before the camera, and as :func:`~fit3d_lite.splatting.view_matrix`.
    """
    quiet_sparse()
    W = view_matrix(cloud, camera)
    pixels, depth = camera.project(cloud.means)
    u, v = pixels.unbind(1)
    keep = (depth > camera.near) & (u >= 0) & (u < camera.width) & (v >= 0) & (v < camera.height)
    keep[W.col_indices().unique()] = True  # centers beside the picture that reach into it
    if not keep.any():
        raise ValueError(f"None of the {len(cloud)} points lies before this camera: are cloud and camera of one scene?")
    pose = camera.world_to_camera.to(cloud.means)
    points = cloud.means[keep] @ pose[:3, :3].T + pose[:3, 3]
    number = keep.cumsum(0) - 1  # of a point among those kept
    size = (camera.height * camera.width, len(points))
    W = torch.sparse_csr_tensor(W.crow_indices().long(), number[W.col_indices()], W.values(), size)
    return Frustum(points, W, camera.height, camera.width, pose[:3, :3] @ torch.tensor(up).to(pose))
