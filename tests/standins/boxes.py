"""The inside of a box, whose depth has a closed form, seen by cameras on a quarter circle."""

import math

import torch

from fit3d_lite import Camera, Scene


def orbit(count=6, width=48, height=36):
    """Cameras on a quarter circle around the origin, looking at it."""
    angles = [0.25 * math.pi * i / count for i in range(count)]
    eyes = [(3 * math.cos(a), 3 * math.sin(a), 1.0 + 0.1 * i) for i, a in enumerate(angles)]
    return [Camera.look_at(eye, (0, 0, 0), fov_x=70, width=width, height=height) for eye in eyes]


def box_depth(camera):
    """Closed form: z-depth of the inside of a 10 × 12 × 8 m box centered a little off the origin."""
    origin, directions = camera.rays(dtype=torch.float64)
    low, high = torch.tensor([-5.0, -6.0, -3.5]).double(), torch.tensor([5.0, 6.0, 4.5]).double()
    t = torch.maximum((low - origin) / directions, (high - origin) / directions)
    return t.min(-1).values.float()


def painted_box(count=6, width=48, height=36):
    """The inside of a box whose color is a smooth function of the place."""
    cameras = orbit(count, width, height)
    depths = torch.stack([box_depth(c) for c in cameras])
    places = torch.stack([c.unproject(d) for c, d in zip(cameras, depths, strict=True)])
    return Scene((0.5 + 0.5 * torch.sin(places)).permute(0, 3, 1, 2).clamp(0, 1), cameras, depths)
