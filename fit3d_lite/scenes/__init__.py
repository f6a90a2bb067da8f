"""Cameras, and photos with their cameras: what every other room takes in, and where bad input is refused.

Read camera.py first (the conventions stand there), then scene.py; points.py holds what structure from motion leaves
and what a reader reports, lens.py undistorts. poses.py names the convention that a wrong pose is in, space.py finds the
axes and the extent of a cloud of points.

Letters: V views, H W pixels; images [V, 3, H, W] in 0..1, depths [V, H, W] in metres (0 = unknown), K in pixels.
"""

from .camera import Camera
from .points import Report, ScenePoints
from .scene import IGNORE, Scene, View

__all__ = ["IGNORE", "Camera", "Report", "Scene", "ScenePoints", "View"]
