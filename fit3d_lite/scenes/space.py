"""Directions and extents: of a cloud of points, for whatever looks at it from outside, and how far a scene's cameras see."""

import torch
from torch import Tensor


def ball_around(points: Tensor) -> tuple[Tensor, float]:  # [N, 3]
    """Middle [3] and radius of the box that holds 2 to 98 % of the points along each axis."""
    some = points.detach().cpu().double()[:: max(1, len(points) // 1_000_000)]
    low, high = torch.quantile(some, torch.tensor([0.02, 0.98]).double(), dim=0)
    return (low + high) / 2, ((high - low).norm() / 2).item()


def viewing_distance(scene) -> float:
    """Median distance, along the optical axis, of what the cameras see: by depths, else by sparse points, else as far as
    the cameras lie apart. In the scene's own unit."""
    if scene.depths is not None and bool((scene.depths > 0).any()):
        known = scene.depths[scene.depths > 0]
        return known[:: max(1, len(known) // 1_000_000)].median().item()
    if scene.points is not None and len(scene.points):
        ahead = torch.cat([camera.project(scene.points.xyz)[1] for camera in scene.cameras])
        if bool((ahead > 0).any()):
            return ahead[ahead > 0].median().item()
    centers = torch.stack([camera.center for camera in scene.cameras])
    return (centers - centers.mean(0)).norm(dim=1).max().item() or 1.0


def axes_of(up) -> Tensor:
    """[3, 3] rows: two directions along the ground, and up, all of length 1.

    Raises:
        ValueError: ``up`` is no direction of three numbers.
    """
    up = torch.as_tensor(up, dtype=torch.float64)
    if up.shape != (3,) or not up.isfinite().all() or up.norm() < 1e-9:
        raise ValueError(f"up must be a direction of three numbers, not {up.tolist()}")
    up = up / up.norm()
    side = torch.eye(3, dtype=torch.float64)[(int(up.abs().argmax()) + 2) % 3]  # y where z is up: x comes first
    first = torch.linalg.cross(side, up)
    first = first / first.norm()
    return torch.stack([first, torch.linalg.cross(up, first), up])
