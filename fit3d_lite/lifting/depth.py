"""Depth where a capture has none: what fitted Gaussians know of each photo, by the same matrix as everything else, W z."""

from __future__ import annotations

import torch
from torch import Tensor

from ..scenes.camera import Camera
from ..scenes.scene import Scene
from ..splatting.gaussians import Gaussians
from ..splatting.splat import render

COVERED = 0.7  # opacity from which a pixel has a depth
SPREAD = 0.1  # of the depth: where what a ray meets lies further apart, the mean would be a surface that is not there


@torch.no_grad()
def rendered_depth(cloud: Gaussians, camera: Camera) -> Tensor:  # [H, W] world units, 0 = unknown
    """Mean depth of what each pixel shows, weighted as its color is. 0 where less than 0.7 of it is covered, or where the
    depths on its ray differ by more than a tenth, as at the edges of things."""
    z = camera.project(cloud.means)[1].to(cloud.means.dtype)
    far = z.clamp_min(0).amax().clamp_min(1e-12)  # squares of small numbers lose digits, so they are brought to 0..1
    moments, alpha = render(cloud, camera, torch.stack([z / far, (z / far) ** 2], 1))
    mean, square = (moments / alpha.clamp_min(1e-6).unsqueeze(-1)).unbind(-1)
    spread = (square - mean**2).clamp_min(0).sqrt()
    return torch.where((alpha > COVERED) & (spread < SPREAD * mean) & (mean > 0), mean * far, 0)


def with_rendered_depths(scene: Scene, cloud: Gaussians) -> Scene:
    """The scene with depths rendered from ``cloud``, marked as such (``scene.rendered``).

    :func:`consistency`, correspondences and depth probes then run, and say what their truth is: Gaussians that were
    fitted to the same photos, not a sensor. Depths that the scene has are replaced.

    Raises ValueError where no pixel of any photo is covered.
    """
    depths = torch.stack([rendered_depth(cloud, camera) for camera in scene.cameras]).to(scene.images.device)
    if not bool((depths > 0).any()):
        raise ValueError(f"these {len(cloud)} Gaussians cover no pixel of {scene!r}: fit them to its photos first.")
    return scene._with(depths=depths.to(scene.images.dtype), rendered=True)
