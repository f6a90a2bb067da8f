"""Lifting 384 channels from 100 views: by the view matrix, and by gsplat's gradients in passes of 32 channels.

The second way is how lifting is done without a matrix (gradient-weighted back-projection, Joseph et al. 2024): the
gradient of Σ render(values) · F with respect to the values is Wᵀ F.
"""

from __future__ import annotations

import math

import torch

from fit3d_lite import Camera, lift, render, set_backend

from .gpu_clock import measure
from .gpu_draw import scene
from .report import table

VIEWS, COUNT, CHANNELS, GRID, SAMPLES = 100, 100_000, 384, 37, 4


def around(views: int, size: int) -> list[Camera]:
    """Cameras on a circle of 3 m around the origin, looking at it."""
    turns = [2 * math.pi * v / views for v in range(views)]
    return [Camera.look_at((3 * math.sin(a), -3 * math.cos(a), 0.4), (0, 0, 0), fov_x=60, width=size, height=size) for a in turns]


def by_gradients(cloud, cameras, feats, backend: str) -> torch.Tensor:
    """Wᵀ F / Wᵀ 1 summed over views, by automatic differentiation of the picture. The features are stretched to pixels."""
    still = cloud.detach()
    values = torch.zeros(len(cloud), feats.shape[1] + 1, device=feats.device, requires_grad=True)
    for camera, view in zip(cameras, feats, strict=True):
        image, _ = render(still, camera, values, backend=backend)
        target = torch.nn.functional.interpolate(view[None], image.shape[:2])[0].movedim(0, -1)
        ((image[..., :-1] * target).sum() + image[..., -1].sum()).backward()
    return values.grad[:, :-1] / values.grad[:, -1:].clamp_min(1e-8)


def report(device: torch.device, backends: list[str], tiny: bool) -> str:
    views, count, channels, grid = (2, 60, 20, 6) if tiny else (VIEWS, COUNT, CHANNELS, GRID)
    cloud = scene(count, device)
    size = grid * SAMPLES  # both ways see pictures of the same size
    cameras = around(views, size)
    feats = torch.randn(views, channels, grid, grid, device=device)
    rows, base = [], None
    for name in backends:
        set_backend(name)
        took = measure(device, lambda: lift(cloud, cameras, feats, "mean"), 1 if tiny else 3)
        rows.append([f"view matrix, {name}", took])
    set_backend("auto")
    for name in backends:
        if name == "torch":
            continue  # its picture is a matrix already
        took = measure(device, lambda name=name: by_gradients(cloud, cameras, feats, name), 1 if tiny else 3)
        rows.append([f"gradients in passes, {name}", took])
        base = took if name == "gsplat" else base
    body = [[way, "out of memory" if t is None else f"{t.ms / 1000:.2f}", "" if t is None else f"{t.mb:.0f}",
             f"{base.ms / t.ms:.1f}" if base and t else ""] for way, t in rows]  # fmt: skip
    return (
        f"## Lifting {channels} channels from {views} views of {size}² to {count:,} Gaussians\n\n"
        + table(["way", "s", "peak, MB", "times faster than gsplat's passes (aim: above 1)"], body)
    )
