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
import torch.nn.functional as F

from ..backbones.shorten import first_blocks, standardise
from ..backbones.vit import ViT, load_vit
from ..base.inputs import check_whole
from ..base.machine import usable_device
from ..captures import stereo
from ..correspondence.consistency import BINS, consistency
from ..correspondence.masks import mask_propagation
from ..finetuning.loop import finetune
from ..finetuning.recipes import named_recipe
from ..finetuning.targets import ShuffledPoses
from ..lifting.lifted import Lifted
from ..lifting.methods import lift
from ..probing.probe import probe_depth, probe_segmentation
from ..probing.ridge import quick_probe
from ..rooms.make import SEEDS, room
from ..scenes.scene import Scene
from ..splatting.gaussians import Gaussians
from ..viz.clusters import kmeans
from ..viz.noise import local_noise, position_share
from ..viz.scores import cluster_scores
from .point import CONTROLS, JUDGES, LEARN, LIFTED, NETWORK, TAUGHT, Point

__all__ = ["measure"]

WAYS = ("alone", "beside")  # the original's features
VIEWS, SIZE = 4, 224  # views of such a room, pixels a side
AGREE, GROUPED, GROUPS = 12, 8, 20  # test rooms for agreement and for groups; groups of a room
PAIR = 336, 504  # pixels of the photographed pair
LONG = 7  # 32nds of a photo's side that are cut off all around for the longer lens


def measure(point: Point, repetition: int = 0, device=None) -> list[dict]:
    """Train and judge; one dict for the features alone, one for them beside the original's.

    Both hold miou and rmse (m). Alone there are also recall (share found again within 10 and 20 px, and by angle), margin,
    shuffled (cosine), auc, masks (mIoU of labels carried to other views), ami (groups against labels), noise, place (share
    of the variation that the place in the picture explains), room (share of photos whose most similar other photo, by CLS
    token, shows the same room) and pair (recall within 10 px on the photographed motorcycle).

    Raises ValueError for a repetition that has no rooms of its own.
    """
    check_whole(0, repetition=repetition)
    if repetition >= (most := len(SEEDS["finetune"]) // LEARN):
        raise ValueError(f"there are rooms for {most} repetitions, 0 to {most - 1}; got {repetition}.")
    device, began = str(usable_device(device or ("cuda" if torch.cuda.is_available() else "cpu"))), time.perf_counter()
    base = network(point.of(NETWORK), device)
    vit = base if point.recipe == "none" else taught(point.of(TAUGHT), repetition, device)
    took = time.perf_counter() - began
    found = []
    for way in WAYS:
        vits = [vit] if way == "alone" else [base, vit]
        numbers = read(point, vits, repetition, device)
        numbers |= agreement(vit, point.test_rooms, repetition, device, point.style) if way == "alone" else {}
        found.append({"way": way, **numbers, "training_s": took, "seconds": time.perf_counter() - began, "device": device})
    return found


# ---- the network


@functools.lru_cache(maxsize=2)
def network(point: Point, device: str) -> ViT:
    vit = load_vit(point.network, point.weights, device=device)
    if point.blocks and point.blocks != vit.blocks:
        vit = first_blocks(vit, point.blocks)
        standardise(vit, room(SEEDS["course"].start, 6, 224).images.to(device))
    return vit


@functools.lru_cache(maxsize=256)
def _room(seed: int, views: int, size: int, device: str, style: str = "drawn") -> Scene:
    if style == "long lens":  # the middle of larger photos
        edge = LONG * size // 32
        scene = room(seed, views, size + 2 * edge, device=device).cropped(edge, edge, size, size)
    else:
        scene = room(seed, views, size, device=device)
    if style == "recoloured":
        scene = replace(scene, images=scene.images.flip(1).contiguous())
    return scene if style == "drawn" else replace(scene, name=f"{scene.name}, {style}")


@functools.lru_cache(maxsize=1)
def _lifted(point: Point, repetition: int, device: str) -> tuple[list[Scene], list[Lifted]]:
    first, vit = SEEDS["finetune"].start + LEARN * repetition, network(point.of(NETWORK), device)
    scenes = [_room(seed, point.views, point.size, device) for seed in range(first, first + point.rooms)]
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
        extra = {} if kind is ShuffledPoses else {"vit": vit}
        finer = named_recipe(point.recipe, **dict(point.changes)).finer
        grid = tuple(finer * side for side in vit.grid(point.size, point.size))
        targets = kind(scenes, targets, vit.channels, grid, **extra)
    return finetune(vit, scenes, targets, point.recipe, seed=repetition, progress=False, watch=10**6, **dict(point.changes))


# ---- the judges


def _judges(use: str, count: int, repetition: int, device: str, style: str) -> list[Scene]:
    """The first rooms of a repetition for one use."""
    first = SEEDS[use].start + JUDGES[use] * repetition
    return [_room(seed, VIEWS, SIZE, device, style) for seed in range(first, first + count)]


@functools.lru_cache(maxsize=2)  # the original's and the latest network's
def _seen(vit: ViT) -> dict[str, tuple]:
    return {}


def _looked(vit: ViT, scene: Scene) -> tuple:  # [V, C, h, w], [V, C]
    """Features and CLS tokens of a room's photos, looked at once."""
    known = _seen(vit)
    if scene.name not in known:
        known[scene.name] = vit.extract(scene.images, cls=True, quiet=True, dtype=torch.float32)
    return known[scene.name]


def read(point: Point, vits: list[ViT], repetition: int, device: str) -> dict:
    """What a head reads from the features of these networks side by side."""
    counts = {"probe_train": point.probe_rooms, "probe_val": JUDGES["probe_val"], "probe_test": point.test_rooms}
    fit, choose, test = (_judges(use, count, repetition, device, point.style) for use, count in counts.items())
    if point.head == "ridge":
        rooms = {id(scene.images): scene for scene in (*fit, *choose, *test)}
        score = quick_probe(
            lambda images: torch.cat([_looked(vit, rooms[id(images)])[0] for vit in vits], 1), fit, choose, test
        )
        return {"miou": score.miou, "rmse": score.rmse}
    options = {"head": point.head, "seed": repetition}
    labels = probe_segmentation(vits, fit, test, choose, **options)
    depths = probe_depth(vits, fit, test, choose, **options, **({"rate": 3e-3} if point.head == "linear" else {}))
    return {"miou": labels.miou, "rmse": depths.rmse}


@functools.lru_cache(maxsize=2)  # points that differ in the probe alone share it
def agreement(vit: ViT, rooms: int, repetition: int, device: str, style: str = "drawn") -> dict:
    """Numbers of the features alone: do views agree, do groups follow the labels, what is noise, what says the photo?"""
    test = _judges("probe_test", rooms, repetition, device, style)
    feats = [_looked(vit, scene)[0] for scene in test]
    agree, masks = (judge(feats[:AGREE], test[:AGREE]) for judge in (consistency, mask_propagation))
    found = {"recall_10": agree.recall["10 px"], "recall_20": agree.recall["20 px"], "margin": agree.margin}
    found |= {f"recall_{name}": agree.recall_by_angle[name]["20 px"] for name in BINS}
    found |= {"shuffled": agree.cosine_shuffled, "auc": agree.auc, "masks": masks.miou}
    groups = []
    for scene, maps in list(zip(test, feats, strict=True))[:GROUPED]:
        labels = scene.resized(maps.shape[-1], maps.shape[-2]).labels
        guess = kmeans(maps.cpu(), GROUPS, cosine=True, n_init=1, seed=repetition)
        groups.append(cluster_scores([guess], labels.cpu()).mean("AMI"))
    found["ami"] = sum(groups) / len(groups)
    found["noise"] = sum(local_noise(maps).mean().item() for maps in feats) / len(feats)
    found["place"] = position_share(torch.cat(feats))
    found["room"] = _same_room([_looked(vit, scene)[1] for scene in test])
    photos = _pair(device)
    found["pair"] = consistency(vit.extract(photos.images, quiet=True, dtype=torch.float32), photos).recall["10 px"]
    return found


@functools.lru_cache(maxsize=1)
def _pair(device: str) -> Scene:
    return stereo(size=PAIR).to(device)


def _same_room(tokens: list) -> float:  # one [V, C] a room
    """Share of photos whose nearest other photo is of the same room."""
    of = torch.cat([torch.full((len(t),), i) for i, t in enumerate(tokens)])
    vectors = F.normalize(torch.cat(tokens).float().cpu(), dim=1)
    alike = vectors @ vectors.T
    alike.fill_diagonal_(-2)
    return (of[alike.argmax(1)] == of).float().mean().item()
