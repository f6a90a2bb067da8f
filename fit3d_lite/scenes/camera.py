"""A pinhole camera, and the conventions that hold everywhere in the course.

* A camera looks along +z, x points right and y points down (OpenCV).
* A pose is ``world_to_camera``: ``x_camera = R @ x_world + t``, in metres.
* The center of pixel (row r, column c) is at (u, v) = (c + 0.5, r + 0.5), as in gsplat.
* A depth is the z of the camera frame, not the length of the ray; 0 means "not known".
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..base.inputs import as_tensor, check_kind, check_whole
from .poses import explain_rigid

NEAR = 0.2  # metres; what is nearer than this would smear over the whole picture


@dataclass(frozen=True, eq=False)
class Camera:
    """A pinhole camera without lens distortion. Values are checked by :meth:`check`, which ``Scene`` and
    ``project`` call.
    """

    K: Tensor  # [3, 3] pixels
    world_to_camera: Tensor  # [4, 4] rigid motion, metres
    width: int
    height: int
    near: float = NEAR  # Gaussians nearer than this are not drawn; world units, since not every scene has metres

    def __post_init__(self) -> None:
        for name, size in (("K", (3, 3)), ("world_to_camera", (4, 4))):
            value = as_tensor(getattr(self, name), f"Camera.{name}").detach().cpu()
            if tuple(value.shape) != size:
                raise ValueError(f"Camera.{name} must be {list(size)}, got {list(value.shape)}.")
            value = value if value.dtype == torch.float64 else value.float()
            object.__setattr__(self, name, value)
        for name in ("width", "height"):
            side = getattr(self, name)
            check_whole(1, **{name: int(side) if isinstance(side, float) and side.is_integer() else side})
            object.__setattr__(self, name, int(side))

    @classmethod
    def look_at(
        cls,
        eye,  # [3] metres
        target,  # [3] metres
        up=(0.0, 0.0, 1.0),
        fov_x: float = 60.0,  # degrees
        width: int = 224,
        height: int = 224,
    ) -> Camera:
        """A camera at ``eye`` with ``target`` in the middle of its picture and ``up`` pointing to the top of it.

        Raises ValueError when the viewing direction is zero or parallel to ``up``.
        """
        if not 0 < fov_x < 180:
            raise ValueError(f"fov_x must lie between 0 and 180 degrees, got {fov_x}.")
        eye, target, up = (torch.as_tensor(v, dtype=torch.float64, device="cpu") for v in (eye, target, up))
        forward = target - eye
        right = torch.linalg.cross(forward, up)
        if not forward.norm() >= 1e-9 or not right.norm() >= 1e-6 * forward.norm() * up.norm():
            raise ValueError(
                f"look_at needs a direction: eye {eye.tolist()} to target {target.tolist()} is zero "
                f"or parallel to up {up.tolist()}."
            )
        forward, right = forward / forward.norm(), right / right.norm()
        rotation = torch.stack([right, torch.linalg.cross(forward, right), forward])
        pose = torch.eye(4, dtype=torch.float64, device="cpu")
        pose[:3, :3], pose[:3, 3] = rotation, -(rotation * eye).sum(1)
        focal = 0.5 * width / math.tan(math.radians(fov_x) / 2)
        K = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]], device="cpu")
        return cls(K.float(), pose.float(), width, height)

    @property
    def camera_to_world(self) -> Tensor:  # [4, 4]
        """The inverse pose, exact for a rigid motion: (Rᵀ, −Rᵀ t)."""
        rotation, shift = self.world_to_camera[:3, :3], self.world_to_camera[:3, 3]
        inverse = torch.eye(4, dtype=rotation.dtype, device=rotation.device)
        inverse[:3, :3], inverse[:3, 3] = rotation.T, -(rotation.T @ shift)
        return inverse

    @property
    def center(self) -> Tensor:  # [3] metres, world
        return self.camera_to_world[:3, 3]

    @property
    def forward(self) -> Tensor:  # [3] unit viewing direction, world
        return self.world_to_camera[2, :3]

    @property
    def fov_x(self) -> float:
        """Horizontal field of view in degrees."""
        return math.degrees(2 * math.atan(self.width / (2 * float(self.K[0, 0]))))

    def check(self) -> Camera:
        """Raise ValueError, with the numbers, unless this is a pinhole camera with a rigid pose; else return self."""
        if not (torch.isfinite(self.K).all() and torch.isfinite(self.world_to_camera).all()):
            raise ValueError("The camera has NaN or infinite numbers in K or world_to_camera; drop that frame.")
        (fx, skew, _), (below, fy, _), last = self.K.tolist()
        if fx <= 0 or fy <= 0:
            raise ValueError(f"Focal lengths must be > 0 pixels, got fx={fx:g}, fy={fy:g}.")
        if skew or below or last != [0, 0, 1]:
            raise ValueError(f"K must read [fx 0 cx; 0 fy cy; 0 0 1], got {self.K.tolist()}.")
        if not self.near > 0:
            raise ValueError(f"The near plane must be > 0 metres, got {self.near}.")
        problem = explain_rigid(self.world_to_camera)
        if problem:
            raise ValueError(problem)
        return self

    def scaled(self, width: int, height: int) -> Camera:
        """The camera of the same photo resized to ``width`` × ``height``."""
        K = self.K.clone()
        K[0] *= width / self.width
        K[1] *= height / self.height
        return replace(self, K=K, width=width, height=height)

    def cropped(self, left: int, top: int, width: int, height: int) -> Camera:
        """The camera of the part of the photo that starts at column ``left``, row ``top``."""
        inside = 0 <= left and 0 <= top and left + width <= self.width and top + height <= self.height
        if not inside or width < 1 or height < 1:
            raise ValueError(f"Crop {left},{top} + {width}×{height} does not lie inside {self.width}×{self.height}.")
        K = self.K.clone()
        K[0, 2] -= left
        K[1, 2] -= top
        return replace(self, K=K, width=width, height=height)

    def project(
        self,
        points: Tensor,  # [..., 3] metres, world
    ) -> tuple[Tensor, Tensor]:
        """World points to pixels [..., 2] (u, v) and depths [...]. Points behind the camera have depth ≤ 0 and no
        meaningful pixel.
        """
        pose, K = self.world_to_camera.to(points), self.K.to(points)
        local = points @ pose[:3, :3].T + pose[:3, 3]
        depth = local[..., 2]
        pixels = local[..., :2] / depth.unsqueeze(-1) * K.diagonal()[:2] + K[:2, 2]
        return pixels, depth

    def rays(self, device=None, dtype=torch.float32) -> tuple[Tensor, Tensor]:
        """Origin [3] and directions [H, W, 3] in the world; a direction has length 1 along the optical axis, so
        ``origin + depth * direction`` is the point at that (z-) depth."""
        device = device or "cpu"  # whatever set_default_device says
        K, pose = self.K.to(device, dtype), self.camera_to_world.to(device, dtype)
        u = (torch.arange(self.width, device=device, dtype=dtype) + 0.5 - K[0, 2]) / K[0, 0]
        v = (torch.arange(self.height, device=device, dtype=dtype) + 0.5 - K[1, 2]) / K[1, 1]
        # Sums of products rather than a matmul: the same bits on every machine, which the procedural rooms rely on.
        right, down, ahead = pose[:3, 0], pose[:3, 1], pose[:3, 2]
        directions = u[None, :, None] * right + v[:, None, None] * down + ahead
        return pose[:3, 3], directions

    def unproject(
        self,
        depth: Tensor,  # [H, W] metres
    ) -> Tensor:  # [H, W, 3] metres, world
        """The world point seen in every pixel. Raises ValueError when the depth map is not this camera's size."""
        if tuple(depth.shape) != (self.height, self.width):
            raise ValueError(
                f"Depth is {list(depth.shape)} but the camera is [{self.height}, {self.width}]: use camera.scaled()."
            )
        origin, directions = self.rays(depth.device, depth.dtype)
        return origin + depth.unsqueeze(-1) * directions


def cameras_of(given) -> tuple[Camera, ...]:
    """The cameras of a Scene, of several cameras or views, or the one that is given. Raises ValueError for anything else."""
    given = getattr(given, "cameras", given)
    try:
        found = tuple(getattr(one, "camera", one) for one in ([given] if isinstance(given, Camera) else given))
    except TypeError:
        found = (given,)
    for one in found:
        check_kind(Camera, **{"each camera": one})
    return found
