"""Is this pose what it claims to be? The commonest way to lose a day is a pose in another convention.

A pose file may hold camera-to-world instead of world-to-camera, OpenGL axes (y up, z backward) instead of OpenCV's, or
a matrix written column by column. None of these raises an error by itself; pictures just come out wrong. With depth
maps we can tell: lift pixels of one view into the world, project them into a neighbour, and ask how often the depth
found there agrees. The right convention agrees often, the wrong ones hardly ever.
"""

from __future__ import annotations

import torch
from torch import Tensor

RIGID_TOLERANCE = 2e-3  # pose files with four decimals leave errors of a few 1e-4 in R Rᵀ
SAMPLES = 24  # a grid of 24 × 24 pixels a view is plenty to tell conventions apart
PAIRS = 12
CLEARLY = 1.5  # how many times better another convention must fit before we say so


def explain_rigid(pose: Tensor) -> str:  # pose [4, 4]
    """One sentence on why ``pose`` is not a rigid motion, or an empty string when it is one."""
    pose = pose.double()
    rotation = pose[:3, :3]
    one = torch.eye(3, dtype=pose.dtype, device=pose.device)
    error = float((rotation @ rotation.T - one).abs().max())
    determinant = float(torch.linalg.det(rotation))
    last = [round(v, 4) for v in pose[3].tolist()]
    if (pose[3] - pose.new_tensor([0, 0, 0, 1])).abs().max() > RIGID_TOLERANCE:
        column = pose[:, 3].tolist()
        hint = " Its last column does, so it looks transposed: use pose.T." if column == [0, 0, 0, 1] else ""
        return f"world_to_camera is not a rigid motion: its last row must read [0, 0, 0, 1], got {last}.{hint}"
    if error > RIGID_TOLERANCE:
        scale = abs(determinant) ** (1 / 3)
        if (
            scale > 0
            and float((rotation @ rotation.T / scale**2 - one).abs().max()) < RIGID_TOLERANCE
        ):
            return (
                f"world_to_camera is not a rigid motion: it scales by {scale:.4g}; "
                f"divide its rotation by that and bring the world to metres."
            )
        return (
            f"world_to_camera is not a rigid motion: R Rᵀ differs from the identity by {error:.3g} "
            f"(at most {RIGID_TOLERANCE} is allowed)."
        )
    if determinant < 0:
        return f"world_to_camera is not a rigid motion: det R = {determinant:.3f}, a mirror; one axis is flipped."
    return ""


def conventions(poses: Tensor) -> dict[str, Tensor]:  # [V, 4, 4] -> name: [V, 4, 4]
    """What these poses would be, had they been written in another convention; only those that are rigid motions."""
    opengl = torch.diag(poses.new_tensor([1.0, -1.0, -1.0, 1.0]))
    turned = poses.clone()
    turned[:, :3, :3] = poses[:, :3, :3].transpose(1, 2)
    found = {
        "transposed matrices (pass pose.T)": poses.transpose(1, 2),
        "transposed rotations (pass R.T)": turned,
        "OpenGL axes (pass diag(1, -1, -1, 1) @ pose)": opengl @ poses,
    }
    for axis, name in enumerate("xyz"):
        flip = torch.eye(4, dtype=poses.dtype, device=poses.device)
        flip[axis, axis] = -1
        found[f"poses with the camera's {name} axis flipped"] = flip @ poses
    if bool((torch.linalg.det(poses).abs() > 1e-6).all()):
        inverse = torch.linalg.inv(poses)
        found["camera-to-world poses (pass pose.inverse())"] = inverse
        found["camera-to-world poses with OpenGL axes (pass diag(1, -1, -1, 1) @ pose.inverse())"] = opengl @ inverse
    return {name: p for name, p in found.items() if not any(explain_rigid(one) for one in p)}


def agreement(
    poses: Tensor,  # [V, 4, 4] world to camera
    intrinsics: Tensor,  # [V, 3, 3]
    depths: Tensor,  # [V, H, W]
    pairs: list[tuple[int, int]] | None = None,
) -> float:
    """Share of pixels with a depth that, carried into a nearby view, land where that view has the same depth
    (within 5 %). ``pairs`` says which views are near each other; without them, views one and two places apart.
    """
    count = len(depths)
    if pairs is None:
        pairs = [(i, i + step) for step in (1, 2) for i in range(count - step)]
        pairs = pairs[:: max(1, len(pairs) // PAIRS)]
    found = [same_places(poses, intrinsics, depths, i, j) for i, j in pairs]
    total = sum(asked for *_, asked in found)
    return sum(len(here) for here, *_ in found) / total if total else 0.0


def same_places(
    poses: Tensor,  # as :func:`agreement`
    intrinsics: Tensor,
    depths: Tensor,
    i: int,
    j: int,
) -> tuple[Tensor, Tensor, int]:  # [M, 2], [M, 2] rows and columns
    """Where views i and j show the same M points, as far as their depths tell, and of how many pixels of i that was asked."""
    height, width = depths.shape[1:]
    poses, intrinsics = poses.double(), intrinsics.double()
    rows = torch.linspace(0, height - 1, min(SAMPLES, height)).round().long()
    columns = torch.linspace(0, width - 1, min(SAMPLES, width)).round().long()
    v, u = torch.meshgrid(rows, columns, indexing="ij")
    z = depths[i][v, u].double()
    pixel = torch.stack([u + 0.5, v + 0.5, torch.ones_like(u)], -1).double()
    local = (pixel @ torch.linalg.inv(intrinsics[i]).T * z[..., None])[z > 0]
    world = (local - poses[i, :3, 3]) @ torch.linalg.inv(poses[i, :3, :3]).T
    there = world @ poses[j, :3, :3].T + poses[j, :3, 3]
    ahead = there[:, 2] > 0.05
    image = there @ intrinsics[j].T
    x, y = (image[:, :2] / image[:, 2:].clamp_min(0.05)).floor().long().unbind(1)
    inside = ahead & (x >= 0) & (x < width) & (y >= 0) & (y < height)
    found = depths[j][y.clamp(0, height - 1), x.clamp(0, width - 1)].double()
    same = inside & (found > 0) & ((there[:, 2] - found).abs() < 0.05 * found)
    return torch.stack([v[z > 0], u[z > 0]], 1)[same], torch.stack([y, x], 1)[same], len(local)


def explain_pose(cameras, depths: Tensor) -> str:
    """One sentence naming the convention that fits the depths clearly better than the poses as given; empty when
    none does.

    Clearly means: one and a half times the agreement and 15 percentage points more, or 30 where there is one pair of
    views only: if it shares nothing, a wrong convention agrees by chance here and there. In a real office, neighbouring
    views with right poses agree on 33 to 40 % of their pixels and wrong conventions on 1 to 14 %; in an empty box,
    the hardest case because its walls look alike from everywhere, it is 84 % against 27 to 47 %.
    """
    if len(cameras) < 2:
        return ""
    poses = torch.stack([c.world_to_camera.double() for c in cameras])
    intrinsics = torch.stack([c.K.double() for c in cameras])
    depths = depths.detach().cpu()
    sound = all(torch.isfinite(m).all() for m in (poses, intrinsics)) and not any(
        float(K[0, 0]) <= 0 or float(K[1, 1]) <= 0 for K in intrinsics
    )
    if not sound:
        return ""
    rigid = not any(explain_rigid(p) for p in poses)
    given = agreement(poses, intrinsics, depths) if rigid else 0.0
    if given > 1 / CLEARLY:
        return ""  # nothing can be that much better
    scores = {name: agreement(p, intrinsics, depths) for name, p in conventions(poses).items()}
    if not scores:
        return ""
    best = max(scores, key=scores.get)
    more = 0.15 if len(cameras) > 2 else 0.3
    if scores[best] < max(CLEARLY * given, given + more):
        return ""
    return (
        f"This looks like {best}: then {scores[best]:.0%} of the depths agree between neighbouring views, "
        f"as given {given:.0%}."
    )
