"""Light 3D features: a small network reads the bare points before a camera and hands what it found to the pixels.

After "Lightweight integration of 3D features to improve 2D image segmentation" (arXiv 2212.08334), with the view matrix as
its projection. Read pointnet.py (numbers for points), frustum.py (points to pixels), segment.py (points beside photos or
beside features of a ViT), train.py (all of it, from labels in the picture).

Letters: V views, B of a batch, N points of one view, d numbers a point, H W pixels, C channels, h w patches, M classes.
"""

from .frustum import Frustum, frustum
from .pointnet import PointNet
from .segment import WAYS, Segmenter
from .train import EndToEnd, Sample, other_places, samples_of, train_segmenter

__all__ = [
    "EndToEnd", "Frustum", "PointNet", "Sample", "Segmenter", "WAYS", "frustum", "other_places", "samples_of",
    "train_segmenter",
]  # fmt: skip
