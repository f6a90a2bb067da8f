"""The same surface point in two photos, found from depth and poses. The geometry behind every question of agreement.

    points = surface(scene, a, uv)                 # pixels of view a to points in the world
    uv_b, seen = visible(scene, b, points)         # where view b has them, and whether nothing hides them there
    pairs = view_pairs(scene)                      # pairs of views that overlap, each with points that both see

A point counts as seen when it falls inside the picture and the depth found there is its own, up to ``tolerance``. So
what is hidden behind something nearer, or has no known depth, is never called a correspondence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..base.inputs import check_kind, check_whole
from ..base.machine import usual_torch
from ..scenes.camera import Camera
from ..scenes.scene import Scene

__all__ = ["Pair", "correspondences", "rotation_angle", "surface", "view_pairs", "visible"]

TOLERANCE = 0.02  # of the depth: 6 cm at 3 m, wider than a pixel's step on a slanted wall
NEAR = 0.25  # of the near plane that is drawn, so 5 cm: nothing closer to the camera counts
DRAWS = 2000  # pixels of a view that are followed into every other view; the overlap is known to about 0.01


@dataclass(frozen=True, eq=False)
class Pair:
    """Two views of a scene, and Q points that both see; ordered, the points were drawn in view ``a``."""

    a: int
    b: int
    angle: float  # degrees, of the rotation from one camera to the other
    overlap: float  # share of the known pixels of a that b sees too
    uv_a: Tensor  # [Q, 2] pixels of a, at pixel centers, in random order
    uv_b: Tensor  # [Q, 2] where b sees them
    points: Tensor  # [Q, 3] metres, world


def surface(
    scene: Scene,
    view: int,
    uv: Tensor,  # [P, 2] pixels; the pixel that contains (u, v) gives the depth
) -> Tensor:  # [P, 3] metres, world
    """The world points that a view shows at pixels of known depth."""
    u, v = uv.long().unbind(1)
    return scene.cameras[view].unproject(scene.depths[view])[v, u]


def visible(
    scene: Scene,
    view: int,
    points: Tensor,  # [P, 3] metres, world
    tolerance: float = TOLERANCE,
) -> tuple[Tensor, Tensor]:  # [P, 2], [P] bool
    """Pixels (u, v) of world points in a view, and which are seen there: inside the picture, not hidden, depth known."""
    uv, z = scene.cameras[view].project(points)
    seen = (z > NEAR * scene.cameras[view].near) & (uv >= 0).all(1) & (uv[:, 0] < scene.width) & (uv[:, 1] < scene.height)
    inside = seen.nonzero()[:, 0]
    u, v = uv[inside].long().unbind(1)
    there = scene.depths[view][v, u]
    seen[inside] = (there - z[inside]).abs() < tolerance * z[inside]  # an unknown depth, 0, is never that near
    return uv, seen


def rotation_angle(first: Camera, second: Camera) -> float:
    """Degrees by which one camera is turned against the other, roll included; 0 to 180, as Probe3D bins its pairs."""
    turn = second.world_to_camera[:3, :3].double() @ first.world_to_camera[:3, :3].double().T
    return math.degrees(math.acos(min(1.0, max(-1.0, (float(turn.trace()) - 1) / 2))))


@usual_torch(grad=None)
def view_pairs(
    scene: Scene,
    points: int = 100,
    min_overlap: float = 0.1,
    tolerance: float = TOLERANCE,
    most: int | None = None,
    seed: int = 0,
) -> list[Pair]:
    """All ordered pairs of views that overlap enough, with 2 to ``points`` points each.

    Random pixels of known depth are drawn in each view and followed into every other one.

    Args:
        min_overlap: least share of them that the other view must see, more than 0.
        tolerance: relative difference in depth that still counts as the same surface.
        most: keep that many of the pairs, drawn at random; None keeps all.

    Raises:
        ValueError: no depths; points below 2 or most below 1, min_overlap or tolerance not between 0 and 1; no pair overlaps
            that much.
    """
    check_whole(0, seed=seed)
    check_whole(2, points=points)
    check_whole(1, most=most)
    if not 0 < min_overlap <= 1 or not 0 < tolerance < 1:
        raise ValueError(
            f"min_overlap and tolerance lie between 0 and 1; got min_overlap={min_overlap}, tolerance={tolerance}"
        )
    rng = torch.Generator().manual_seed(seed)
    pairs, best = [], 0.0
    for a, b, uv_a, uv_b, world, seen in _followed(scene, max(DRAWS, 10 * points), tolerance, rng):
        overlap = seen.float().mean().item() if len(seen) else 0.0
        best = max(best, overlap)
        if overlap < min_overlap or seen.sum() < 2:
            continue
        i = seen.nonzero()[:points, 0]
        angle = rotation_angle(scene.cameras[a], scene.cameras[b])
        pairs.append(Pair(a, b, angle, overlap, uv_a[i], uv_b[i], world[i]))
    if not pairs:
        raise ValueError(
            f"no two of the {len(scene)} views of {scene.name} share {min_overlap:.0%} of what they see, the best pair "
            f"{best:.0%}: take views that are closer together, or a smaller min_overlap"
        )
    if most is None or most >= len(pairs):
        return pairs
    return [pairs[i] for i in sorted(torch.randperm(len(pairs), generator=rng)[:most].tolist())]


def correspondences(
    scene: Scene, per_view: int = 200, tolerance: float = TOLERANCE, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The same surface point in two photos, for every two views that share any, however few.

    ``per_view`` random pixels of each view are followed into every other view.

    Returns:
        view_a [P], pixel_a [P, 2], view_b [P], pixel_b [P, 2]; pixels as (u, v).

    Raises:
        ValueError: the scene has no depths, or no two views share a point.
    """
    rng = torch.Generator().manual_seed(seed)
    parts = []
    for a, b, uv_a, uv_b, _, seen in _followed(scene, per_view, tolerance, rng):
        i = seen.nonzero()[:, 0]
        parts.append((torch.full_like(i, a), uv_a[i], torch.full_like(i, b), uv_b[i]))
    if not any(len(part[0]) for part in parts):
        raise ValueError(f"no two of the {len(scene)} views of {scene.name} share a visible point")
    view_a, uv_a, view_b, uv_b = (torch.cat(columns) for columns in zip(*parts, strict=True))
    return view_a, uv_a, view_b, uv_b


def _followed(scene, count, tolerance, rng):
    """Random pixels of each view followed into every other one: a, b, pixels of a, of b, points, which b sees."""
    check_kind(Scene, scene=scene)
    if scene.depths is None:
        raise ValueError(f"{scene.name} has no depths, which show what corresponds: use lifting.with_rendered_depths")
    for a in range(len(scene)):
        known = scene.depths[a].flatten().nonzero()[:, 0]
        picked = known[torch.randperm(len(known), generator=rng)[:count].to(known.device)]
        uv_a = torch.stack([picked % scene.width, picked // scene.width], 1) + 0.5  # pixel centers
        world = surface(scene, a, uv_a)
        for b in range(len(scene)):
            if b != a:
                uv_b, seen = visible(scene, b, world, tolerance)
                yield a, b, uv_a, uv_b, world, seen
