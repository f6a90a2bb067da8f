"""Camera paths, and what Gaussians look like along them: orbits, ways between cameras, frames under a slider.

The values that are drawn are three numbers a Gaussian: its colors, or what features, clusters or errors became as
colors. One view matrix draws them all:

    path = orbit(cloud.means)
    fly(cloud, path, {"photo": cloud.colors, "features": colors})     # play it
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..base.inputs import as_tensor, check_whole
from ..scenes.camera import Camera
from ..scenes.space import axes_of, ball_around
from ..splatting.gaussians import Gaussians
from ..splatting.splat import render
from ..widgets.slider import Frames, frames_slider

__all__ = ["between", "fly", "orbit", "under_roof", "up_of"]


def orbit(
    points: Tensor,  # [N, 3] metres, what is to be seen
    frames: int = 24,
    elevation: float = 30.0,
    distance: float = 1.0,
    turn: float = 360.0,
    start: float = 0.0,
    up=(0.0, 0.0, 1.0),
    fov_x: float = 45.0,
    size: tuple[int, int] = (240, 320),
) -> list[Camera]:
    """Cameras on a circle around points, all looking at their middle.

    Args:
        elevation: degrees above the horizon.
        distance: 1 fits the points (2 to 98 % along each axis) into the picture; less comes closer.
        turn: degrees from the first camera to where a further one would stand; 360 closes the circle.
        start: degrees at which the first camera stands.
        fov_x: horizontal field of view, degrees.
        size: (height, width) in pixels.

    Raises:
        ValueError: no points, numbers out of range, or a camera looking along ``up``.
    """
    points = as_tensor(points, "points")
    check_whole(1, frames=frames)
    if points.ndim != 2 or points.shape[-1] != 3 or not len(points) or not points.isfinite().all():
        raise ValueError(f"points must be finite and [N, 3] with at least one, not {list(points.shape)}")
    if not -89 <= elevation <= 89 or distance <= 0 or not 0 < fov_x < 170:
        raise ValueError(
            f"an orbit needs elevation within ±89, distance > 0 and 0 < fov_x < 170; got "
            f"{elevation:g}, {distance:g} and {fov_x:g}"
        )
    middle, radius = ball_around(points)
    height, width = size
    narrow = np.radians(fov_x) / 2
    narrow = min(narrow, np.arctan(np.tan(narrow) * height / width))
    away = max(radius * distance / np.sin(narrow), 1e-3)
    axes = axes_of(up)
    cameras = []
    for angle in np.radians(start + turn * np.arange(frames) / frames):
        e = np.radians(elevation)
        local = torch.tensor([np.cos(e) * np.cos(angle), np.cos(e) * np.sin(angle), np.sin(e)])
        cameras.append(Camera.look_at(middle + away * (local @ axes), middle, axes[2], fov_x, width, height))
    return cameras


def between(
    cameras: list[Camera],
    steps: int = 8,
    loop: bool = False,
) -> list[Camera]:
    """Cameras on the way through the given ones, ``steps`` from each to the next; every given camera is on it.

    Eyes move along a natural cubic spline, which rounds corners; rotations turn evenly about one axis (Slerp); focal
    lengths go over in a straight line.

    Args:
        loop: go back from the last camera to the first.

    Raises:
        ValueError: fewer than two cameras, no steps, or cameras with different picture sizes.
    """
    from scipy.interpolate import CubicSpline
    from scipy.spatial.transform import Rotation, Slerp

    if len(cameras) < 2 or steps < 1:
        raise ValueError(f"a way needs at least two cameras and one step, got {len(cameras)} and {steps}")
    sizes = sorted({(c.height, c.width) for c in cameras})
    if len(sizes) > 1:
        raise ValueError(f"the cameras of a way must have one picture size, these have {sizes}: use camera.scaled()")
    given = [*cameras, cameras[0]] if loop else list(cameras)
    at = np.arange(len(given))
    asked = np.linspace(0, len(given) - 1, steps * (len(given) - 1) + 1)
    asked = asked[:-1] if loop else asked  # the first frame of a loop follows its last
    poses = np.stack([c.camera_to_world.double().numpy() for c in given])
    K = np.stack([c.K.double().numpy() for c in given])
    eyes = CubicSpline(at, poses[:, :3, 3], bc_type="periodic" if loop else "natural")(asked)
    turns = Slerp(at, Rotation.from_matrix(poses[:, :3, :3]))(asked).as_matrix()
    low = asked.astype(int).clip(0, len(given) - 2)
    share = (asked - low)[:, None, None]
    K = K[low] * (1 - share) + K[low + 1] * share
    out = []
    for eye, turn, k in zip(eyes, turns, K, strict=True):
        pose = torch.eye(4, dtype=torch.float64)
        pose[:3, :3] = torch.from_numpy(turn.T.copy())
        pose[:3, 3] = -pose[:3, :3] @ torch.from_numpy(eye)
        out.append(Camera(torch.from_numpy(k).float(), pose.float(), cameras[0].width, cameras[0].height))
    return out


def fly(
    cloud: Gaussians,
    path: list[Camera],
    values: Tensor | dict[str, Tensor] | None = None,  # [N, 3] in 0..1; several are drawn side by side, by name
    background: float = 1.0,
    near: float | None = None,  # metres; the cameras' own when left out
    caption: str = "",
    seconds: float = 0.15,
    quality: int = 78,
) -> Frames:
    """Render Gaussians along a path, as frames under a slider that plays.

    Args:
        values: what to draw on the Gaussians; by default their colors.
        background: grey value where nothing is.
        near: what is nearer than this is not drawn. From outside a room, the distance to its far half opens the wall.
        seconds: that a frame stays when played.

    Raises:
        ValueError: no camera, or values that are not [N, 3].
    """
    shown = values if isinstance(values, dict) else {"": cloud.colors if values is None else values}
    if not path or not shown:
        raise ValueError(f"there is nothing to fly along or to draw: {len(path)} cameras, {len(shown)} sets of values")
    for name, colors in shown.items():
        if tuple(colors.shape) != (len(cloud), 3):
            raise ValueError(f"the values {name!r} must be [{len(cloud)}, 3], one color a Gaussian: {list(colors.shape)}")
    together = torch.cat([colors.to(cloud.means) for colors in shown.values()], 1)
    ground = torch.full((together.shape[1],), float(background), device=together.device, dtype=together.dtype)
    frames = []
    with torch.no_grad():
        for camera in path:
            picture, _ = render(cloud, camera, together, background=ground, near=near)  # [H, W, 3 · sets]
            frames.append(torch.cat(picture.clamp(0, 1).cpu().split(3, dim=-1), 1))
    names = " | ".join(name for name in shown if name)
    labels = [f"{n + 1} of {len(path)}" for n in range(len(path))]
    said = caption or names or "along the path"
    return frames_slider(frames, labels, said, quality=quality, seconds=seconds)


def under_roof(
    points: Tensor,  # [N, 3] metres
    keep: float = 0.85,
    up=(0.0, 0.0, 1.0),
) -> Tensor:
    """[N] bool: what lies below ``keep`` of the height (from 1 to 99 % of the points). ``cloud[under_roof(cloud.means)]``
    lifts the ceiling off a room."""
    if not 0 < keep <= 1:
        raise ValueError(f"keep is the part of the height that stays, 0 to 1, not {keep:g}")
    height = points @ axes_of(up)[2].to(points)
    low, high = torch.quantile(height[:: max(1, len(height) // 1_000_000)], torch.tensor([0.01, 0.99]).to(points))
    return height <= low + keep * (high - low)


def up_of(cameras: list[Camera]) -> Tensor:
    """[3] the direction that is up in a capture: the mean of the cameras' own up, for photos held upright."""
    if not cameras:
        raise ValueError("without cameras there is no up")
    up = -torch.stack([c.world_to_camera[1, :3] for c in cameras]).double().mean(0)
    if up.norm() < 0.3:
        raise ValueError(f"the cameras do not agree on what is up (their mean has length {up.norm():.2f}): give it by hand")
    return up / up.norm()
