"""Light 3D features: a small network reads the bare points before a camera and hands what it found to the pixels.

After "Lightweight integration of 3D features to improve 2D image segmentation" (arXiv 2212.08334), with the view matrix as
its projection. Read pointnet.py.

Letters: V views, N points of one view, d numbers a point.
"""

from .pointnet import PointNet

__all__ = ["PointNet"]
