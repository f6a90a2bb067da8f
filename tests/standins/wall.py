"""A flat wall seen by three cameras: depth, labels and every correspondence are known by hand."""

import torch

from fit3d_lite import Camera, Scene

EYES = ((-0.6, 0, 0), (0, 0.1, 0), (0.6, 0, 0.2))


def wall(seed=0, size=32) -> Scene:
    """Three views of a flat wall 3 m ahead, its depth known exactly, with a random photo and four label quadrants."""
    torch.manual_seed(seed)
    cameras = tuple(Camera.look_at(eye, (eye[0], 3, eye[2]), width=size, height=size) for eye in EYES)
    depths = torch.stack([torch.full((size, size), 3.0 - eye[1]) for eye in EYES])
    points = torch.stack([c.unproject(d) for c, d in zip(cameras, depths, strict=True)])
    labels = (points[..., 0] > 0).long() + 2 * (points[..., 2] > 0).long()
    return Scene(torch.rand(3, 3, size, size), cameras, depths, labels, ("a", "b", "c", "d", "never"), f"wall {seed}")
