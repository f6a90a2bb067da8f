"""Random clouds of all shapes, needles and opaque piles among them, a camera before them, and how far two results are apart."""

import math

import torch

from fit3d_lite import Camera, Gaussians

# float32 with float64 projection: rounding of single numbers is 6e-8, sums of some tens of them stay below 1e-6 in
# norm. The aim we hold ourselves to is ten times wider.
CLOSE = 1e-5


def camera(width=40, height=30, **kwargs):
    return Camera.look_at((0.3, -3.0, 0.4), (0.0, 0.0, 0.0), fov_x=60, width=width, height=height, **kwargs)


def cloud(count=400, seed=0, dtype=torch.float32, size=(0.03, 0.3), spread=1.5):
    """Overlapping Gaussians of all shapes, some of them behind the camera or between it and the near plane."""
    g = torch.Generator().manual_seed(seed)
    means = (torch.rand(count, 3, generator=g) - 0.5) * 2 * spread
    means[: count // 20] = torch.tensor([0.3, -3.0, 0.4]) + 0.3 * torch.randn(count // 20, 3, generator=g)
    scales = torch.empty(count, 3).uniform_(math.log(size[0]), math.log(size[1]), generator=g).exp()
    scales[::7, 0] *= 12  # needles
    scales[::7, 1:] *= 0.1
    values = dict(
        means=means,
        quats=torch.randn(count, 4, generator=g),
        scales=scales,
        opacities=torch.rand(count, generator=g),
        colors=torch.rand(count, 3, generator=g),
    )
    return Gaussians(**{k: v.to(dtype) for k, v in values.items()})


def parts(c):
    return [c.means, c.quats, c.scales, c.opacities]


def relative(a, b):
    a, b = a.detach().double(), b.detach().double()
    return float((a - b).norm() / b.norm())


CASES = {
    "overlaps": dict(count=1500, seed=1, size=(0.05, 0.4)),
    "needles": dict(count=300, seed=2, size=(0.002, 1.0)),
    "opaque pile": dict(count=800, seed=3, size=(0.3, 0.6), spread=0.7),
    "sparse dots": dict(count=60, seed=4, size=(0.001, 0.01)),
}


def cube(n=400, seed=0):
    return torch.rand(n, 3, generator=torch.Generator().manual_seed(seed)) * torch.tensor([4.0, 3.0, 2.0]) + 1
