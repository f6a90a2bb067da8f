"""Procedural rooms: the embedded data set of the course. A seed gives a furnished room, its photos, depths and labels.

`room(seed)` needs no file and no network. The room depends on the seed alone; a camera depends on the seed, the split
and its number, so the first 8 of 24 views are the 8 views one gets when asking for 8.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..base.inputs import check_whole, target_size
from ..base.machine import usable_device, usual_torch
from ..scenes.camera import Camera
from ..scenes.scene import Scene
from .build import build
from .builder import CLASSES, Rng
from .patterns import ID
from .photo import shoot
from .plan import Plan
from .raycast import nearest

__all__ = ["CLASSES", "SEEDS", "room"]

SPLITS = ("train", "holdout")
# Which rooms serve what. The ranges do not meet, so nothing is tested on a room that it learned from.
SEEDS = {
    "course": range(0, 1000),  # what the notebooks show
    "finetune": range(1000, 2000),
    "probe_train": range(2000, 3000),
    "probe_val": range(3000, 4000),
    "probe_test": range(4000, 5000),
}
GOOD = 4.599  # the best score of a camera, 4 * 0.45 + 1.2 + 1.6, less a rounding
RAYS_AT_ONCE = 110_000  # per thread; bounds the memory


@usual_torch(grad=False)
def room(
    seed: int = 0,
    views: int = 24,
    size: int | tuple[int, int] = 224,
    split: str = "train",
    device: str | torch.device | None = None,
    shadows: bool = True,
    textures: bool = True,
    furniture: bool = True,
) -> Scene:
    """A furnished room seen from `views` places.

    Args:
        seed: which room; a non-negative integer.
        views: number of photos.
        size: pixels, one number for squares or (height, width).
        split: "train", or "holdout" for other cameras in the same room.
        device: where to shade what the rays meet; the result stays there. The rays themselves are cast on the CPU.
        shadows: False skips shadow rays and takes about two thirds of the time.
        textures: False paints every surface plain, in the first of its two colors: the same room without patterns.
        furniture: False leaves out furniture and what stands on it: the same room from the same places in the same light,
            with its doors, windows, pictures and rugs.

    Returns a Scene: images [V, 3, H, W] in multiples of 1/255, depths [V, H, W] in metres (z-depth, multiples of
    0.1 mm), labels [V, H, W] numbering `CLASSES`. Raises ValueError for a negative seed, views < 1, a side under
    8 pixels or an unknown split.
    """
    check_whole(0, seed=seed)
    check_whole(1, views=views)
    height, width = target_size(size, 1, 1)
    if min(height, width) < 8:
        raise ValueError(f"A photo needs at least 8 pixels a side, got {height} x {width}.")
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}.")
    device = usable_device(device or "cpu")
    threads = torch.get_num_threads()
    # A ray takes hundreds of small operations: whole views side by side beat threads inside each operation.
    torch.set_num_threads(1)
    try:
        plan = build(seed)
        cameras, eyes = place_cameras(plan, split, views, height, width)
        prims, eyes = plan.prims.to(device), eyes.to(device)
        if not textures:
            prims = replace(prims, texture=torch.full_like(prims.texture, ID["plain"]))
        if not furniture:
            kept = torch.ones(len(prims.kind), dtype=torch.bool, device=device)
            for first, end in plan.pieces:
                kept[first:end] = False
            prims = prims.only(kept)
        workers = threads if device.type == "cpu" else 1
        step = max(1, min(RAYS_AT_ONCE // (height * width), -(-views // workers)))

        def part(start: int) -> tuple[Tensor, ...]:
            directions = torch.stack([camera.rays(device)[1] for camera in cameras[start : start + step]])
            return shoot(prims, plan.lights, eyes[start : start + step], directions, shadows)

        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            parts = list(pool.map(part, range(0, views, step)))
    finally:
        torch.set_num_threads(threads)
    photos, depths, labels = (torch.cat(maps) for maps in zip(*parts))
    photos = torch.floor(photos * 255.0 + 0.5) * (1.0 / 255.0)
    depths = torch.floor(depths * 1e4 + 0.5) * 1e-4
    return Scene(photos.permute(0, 3, 1, 2).contiguous(), cameras, depths, labels, CLASSES, f"room {seed} ({split})")


def place_cameras(plan: Plan, split: str, views: int, height: int, width: int) -> tuple[list[Camera], Tensor]:
    """Cameras and their eyes [V, 3]: people standing on free floor, looking at furniture."""
    rngs = [Rng(plan.seed, 23 + SPLITS.index(split), i) for i in range(views)]
    best: list[tuple[float, tuple]] = [(-1.0, ())] * views
    waiting = list(range(views))
    for _ in range(6):  # two tries a round; a camera that has found a good place is not asked again
        tries = [(i, _aim(plan, rngs[i])) for i in waiting for _ in range(2)]
        for (i, pose), score in zip(tries, _score(plan, [pose for _, pose in tries])):
            if score > best[i][0] and best[i][0] < GOOD:
                best[i] = score, pose
        waiting = [i for i in waiting if best[i][0] < GOOD]
        if not waiting:
            break
    poses = [pose for _, pose in best]
    cameras = [Camera.look_at(eye, target, fov_x=fov, width=width, height=height) for eye, target, fov in poses]
    return cameras, torch.tensor([eye for eye, _, _ in poses], dtype=torch.float32)


def _score(plan: Plan, poses: list[tuple]) -> list[float]:
    """How well cameras see, from 8 x 8 rays each: nothing close, a free center, some depth. At most GOOD."""
    probes = [Camera.look_at(eye, target, fov_x=fov, width=8, height=8) for eye, target, fov in poses]
    # Four tiles of 4 x 4 rays a view: smaller tiles meet fewer primitives.
    rays = torch.stack([p.rays()[1] for p in probes]).reshape(-1, 2, 4, 2, 4, 3).transpose(2, 3).reshape(-1, 16, 3)
    eye = torch.tensor([eye for eye, _, _ in poses], dtype=torch.float32).repeat_interleave(4, 0)
    depth = nearest(plan.prims, eye, rays)[0].reshape(len(poses), 4, 16)
    center = torch.stack([depth[:, 0, 15], depth[:, 1, 12], depth[:, 2, 3], depth[:, 3, 0]], -1).amin(-1)
    depth = depth.flatten(1)
    middle, least = depth.sort(-1).values[:, 31], depth.amin(-1)
    return (least.clamp(max=0.45) * 4.0 + center.clamp(max=1.2) + middle.clamp(max=1.6)).tolist()


def _aim(plan: Plan, rng: Rng) -> tuple[tuple, tuple, float]:
    """Eye, target and field of view: from free floor towards a piece of furniture."""
    eye = tuple(float(np.float32(c)) for c in _stand(plan, rng))
    x, y, z = rng.pick(plan.focus)
    mix = rng.uniform(0.0, 0.35)  # between the thing and the middle of the room
    x, y = x + mix * (plan.length / 2 - x), y + mix * (plan.width / 2 - y)
    return eye, (x, y, z + rng.uniform(-0.25, 0.35)), rng.uniform(65.0, 75.0)


def _stand(plan: Plan, rng: Rng) -> tuple[float, float, float]:
    best, most = None, -1.0
    for _ in range(60):
        x, y = rng.uniform(0.45, plan.length - 0.45), rng.uniform(0.45, plan.width - 0.45)
        gap = min(max(a - x, x - c, b - y, y - d) for a, b, c, d in plan.taken)
        if gap > most:
            best, most = (x, y), gap
        if gap > 0.3:
            break
    return best[0], best[1], rng.uniform(0.95, 1.85)
