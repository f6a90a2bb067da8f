"""fit3d_lite: 3D-aware fine-tuning of 2D vision features, small enough to read and to run anywhere."""

from .gaussians import Gaussians
from .scene import Camera, Scene, View
from .splat import project, render, view_matrix

__version__ = "0.1.0"

__all__ = ["Camera", "Gaussians", "Scene", "View", "project", "render", "view_matrix"]
