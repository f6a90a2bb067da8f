"""One point of an ablation measured: a ViT fine-tuned on a repetition's own rooms, and what is then read from its features.

    rows = measure(Point(rooms=12, control="wrong poses"), repetition=0)      # one dict alone, one beside the original

Repetition r learns from rooms, is probed on rooms and is judged on rooms that no other repetition and no other use has
(rooms.SEEDS), so differences within a repetition are paired. Rooms, lifted features and the last network are kept in
memory, so points that share them should follow each other.
"""

from __future__ import annotations

import functools
import time
from dataclasses import replace

import torch

from ..backbones.shorten import first_blocks, other_patches, standardise
from ..backbones.vit import ViT, load_vit
from ..base.inputs import check_whole
from ..base.machine import usable_device
from ..finetuning.loop import finetune
from ..finetuning.recipes import named_recipe
from ..finetuning.targets import OwnFeatures
from ..lifting.lifted import Lifted
from ..lifting.methods import lift
from ..rooms.make import SEEDS, room
from ..scenes.scene import Scene
from ..splatting.gaussians import Gaussians
from .judges import agreement, captured, found_again, read, styled_room
from .point import CONTROLS, LEARN, LIFTED, NETWORK, TAUGHT, Point

__all__ = ["measure"]

REPETITIONS = len(SEEDS["finetune"]) // LEARN  # that have rooms of their own
WAYS = ("alone", "beside")  # the features of the network as it was


def measure(point: Point, repetition: int = 0, device=None) -> list[dict]:
    """Train and judge; one dict for the features alone, one for them beside the original's.

    Both hold miou and rmse (m), with the head "k-NN" accuracy (share of single things that are named rightly). Alone there
    are also recall (share found again within 10 and 20 px, and by angle), margin, shuffled (cosine), auc, masks (mIoU of
    labels carried to other views), ami (groups against labels), noise, place (share of the variation that the place in the
    picture explains), room (share of photos whose most similar other photo, by CLS token, shows the same room), pair (recall
    within 10 px on the photographed motorcycle) and, where the point names a scene, captured (the same on it; with depths
    rendered from Gaussians fitted to its photos where it has none).

    Raises ValueError for a repetition that has no rooms of its own, and what reading the named scene raises.
    """
    check_whole(0, repetition=repetition)
    if repetition >= REPETITIONS:
        raise ValueError(f"there are rooms for {REPETITIONS} repetitions, 0 to {REPETITIONS - 1}; got {repetition}.")
    device, began = str(usable_device(device)), time.perf_counter()
    own = captured(point.scene, device) if point.scene else []
    base = before = network(point.of(NETWORK), device)
    if point.beside:
        before = network(replace(point.of(NETWORK), weights=point.beside), device)
    vit = base if point.recipe == "none" else taught(point.of(TAUGHT), repetition, device)
    took = time.perf_counter() - began
    found = []
    for way in WAYS:
        vits = [vit] if way == "alone" else [before, vit]
        numbers = read(point, vits, repetition, device)
        if way == "alone":
            numbers |= agreement(vit, point.test_rooms, repetition, device, point.style)
            numbers |= {"captured": found_again(vit, own)} if own else {}
        found.append({"way": way, **numbers, "training_s": took, "seconds": time.perf_counter() - began, "device": device})
    return found


def try_inputs(points: list[Point], device=None) -> None:
    """Load every network and scene that the points name, so that what cannot be is said before hours of work."""
    device = str(usable_device(device))
    for scene in dict.fromkeys(p.scene for p in points if p.scene):
        captured(scene, device)
    users: dict[Point, list[Point]] = {}  # of each network, which is loaded once
    for point in dict.fromkeys(points):
        own = point.of(NETWORK)
        users.setdefault(own, []).append(point)
        if point.beside:
            users.setdefault(replace(own, weights=point.beside), [])
    for own, theirs in users.items():
        vit = network(own, device)
        if any(point.head == "k-NN" for point in theirs) and not vit.has_cls:
            raise ValueError(f'The head "k-NN" reads CLS tokens, and {vit.name} has none.')
        blocks = [block for point in theirs for block in dict(point.changes).get("lora_blocks") or ()]
        if wrong := [block for block in blocks if not -vit.blocks <= block < vit.blocks]:
            raise ValueError(f"lora_blocks names block {wrong[0]}; {vit.name} has blocks 0 to {vit.blocks - 1} here.")


# ---- the network


@functools.lru_cache(maxsize=3)
def network(point: Point, device: str) -> ViT:
    vit = load_vit(point.network, point.weights, device=device)
    if point.patch:
        vit = other_patches(vit, point.patch)
    if point.blocks:
        vit = first_blocks(vit, point.blocks)
        standardise(vit, room(SEEDS["course"].start, 6, 224).images.to(device))
    return vit


@functools.lru_cache(maxsize=1)
def _lifted(point: Point, repetition: int, device: str) -> tuple[list[Scene], list[Lifted]]:
    first, vit = SEEDS["finetune"].start + LEARN * repetition, network(point.of(NETWORK), device)
    scenes = [styled_room(seed, point.views, point.size, device, point.learned) for seed in range(first, first + point.rooms)]
    options = {"dim": point.dim} if point.dim else {}
    options |= {"progress": False} if point.target == "decoder" else {}
    options |= {"robust": True} if point.robust else {}
    made = []
    for scene in scenes:
        cloud = Gaussians.from_depth(scene, count=point.gaussians)
        parts, side = [scene], point.size - point.windows
        if point.windows:  # the same window as far from the other edges: its patches lie elsewhere in the room
            side -= side % vit.patch_size
            parts = [scene.cropped(at, at, side, side) for at in (0, point.windows)]
        feats = torch.cat([vit.extract(part.images, quiet=True, dtype=torch.float32) for part in parts])
        cameras = [camera for part in parts for camera in part.cameras]
        made.append(lift(cloud, cameras, feats, point.target, samples=point.samples, **options))
    return scenes, made


@functools.lru_cache(maxsize=1)
def taught(point: Point, repetition: int, device: str) -> ViT:
    """The fine-tuned network."""
    vit, (scenes, targets) = network(point.of(NETWORK), device), _lifted(point.of(LIFTED), repetition, device)
    if (kind := CONTROLS[point.control]) is not None:
        extra = {"vit": vit, "dtype": torch.float32} if issubclass(kind, OwnFeatures) else {}
        finer = named_recipe(point.recipe, **dict(point.changes)).finer
        grid = tuple(finer * side for side in vit.grid(point.size, point.size))
        targets = kind(scenes, targets, vit.channels, grid, **extra)
    return finetune(vit, scenes, targets, point.recipe, seed=repetition, progress=False, watch=10**6, **dict(point.changes))
