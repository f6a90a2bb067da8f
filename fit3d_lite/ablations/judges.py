"""What is read from a network's features in an ablation: labels and depth by a head, and numbers of the features alone.

Rooms and what a network sees in them are kept in memory, so points of one network and repetition should follow each other.
"""

from __future__ import annotations

import functools
import shlex
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..backbones.vit import ViT
from ..captures import stereo
from ..correspondence.consistency import BINS, consistency
from ..correspondence.masks import mask_propagation
from ..finetuning.pipeline import arguments
from ..finetuning.prepare import fitted, makers_of
from ..lifting.depth import with_rendered_depths
from ..probing.classify import classifier, photos_of_things
from ..probing.probe import probe_depth, probe_segmentation
from ..probing.ridge import quick_probe
from ..rooms.make import SEEDS, room
from ..scenes.scene import Scene
from ..viz.clusters import kmeans
from ..viz.noise import local_noise, position_share
from ..viz.scores import cluster_scores
from .point import JUDGES, Point

VIEWS, SIZE = 4, 224  # views of such a room, pixels a side
AGREE, GROUPED, GROUPS = 12, 8, 20  # test rooms for agreement and for groups; groups of a room
PAIR = 336, 504  # pixels of the photographed pair
LONG = 7  # 32nds of a photo's side that are cut off all around for the longer lens
THING, NEIGHBOURS = 84, 10  # pixels a side of the photo of a single thing; of k-NN
NOISY, PAIRS = 0.05, 60  # tolerance of a captured scene's depths; pairs of its views that are asked


@functools.lru_cache(maxsize=256)
def styled_room(seed: int, views: int, size: int, device: str, style: str = "drawn") -> Scene:
    if style == "long lens":  # the middle of larger photos
        edge = LONG * size // 32
        scene = room(seed, views, size + 2 * edge, device=device).cropped(edge, edge, size, size)
    else:
        scene = room(seed, views, size, device=device, textures=style != "untextured", furniture=style != "empty")
    if style == "recoloured":
        scene = replace(scene, images=scene.images.flip(1).contiguous())
    return scene if style == "drawn" else replace(scene, name=f"{scene.name}, {style}")


def _judges(use: str, count: int, repetition: int, device: str, style: str) -> list[Scene]:
    """The first rooms of a repetition for one use."""
    first = SEEDS[use].start + JUDGES[use] * repetition
    return [styled_room(seed, VIEWS, SIZE, device, style) for seed in range(first, first + count)]


@functools.lru_cache(maxsize=3)  # the original's, what the training began with, and the latest network's
def _seen(vit: ViT) -> dict[str, tuple]:
    return {}


def _looked(vit: ViT, scene: Scene) -> tuple:  # [V, C, h, w], [V, C] or None
    """Features and CLS tokens of a room's photos, looked at once."""
    known = _seen(vit)
    if scene.name not in known:
        found = vit.extract(scene.images, cls=vit.has_cls, quiet=True, dtype=torch.float32)
        known[scene.name] = found if vit.has_cls else (found, None)
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
    if point.head == "k-NN":
        return {"accuracy": _named(vits, fit, test)}
    options = {"head": point.head, "seed": repetition}
    labels = probe_segmentation(vits, fit, test, choose, **options)
    depths = probe_depth(vits, fit, test, choose, **options, **({"rate": 3e-3} if point.head == "linear" else {}))
    return {"miou": labels.miou, "rmse": depths.rmse}


@functools.lru_cache(maxsize=4)  # points that differ in the probe alone share it
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
    if vit.has_cls:
        found["room"] = _same_room([_looked(vit, scene)[1] for scene in test])
    photos = _pair(device)
    found["pair"] = consistency(vit.extract(photos.images, quiet=True, dtype=torch.float32), photos).recall["10 px"]
    return found


@functools.lru_cache(maxsize=1)
def _pair(device: str) -> Scene:
    return stereo(size=PAIR).to(device)


@functools.lru_cache(maxsize=4)
def captured(named: str, device: str) -> list[Scene]:
    """The scenes that ``--scene`` of the command line names so; views without depths get those of fitted Gaussians."""
    try:
        a = arguments(["--size", str(SIZE), "--scene", *shlex.split(named)])
    except SystemExit:
        raise ValueError(f"The scene {named!r} is not what may follow --scene; the usage stands above.") from None
    a.work = None  # nothing of it is kept
    scenes = [make().to(device) for make in makers_of(a)]
    return [s if s.depths is not None else with_rendered_depths(s, fitted(a, s)) for s in scenes]


def found_again(vit: ViT, scenes: list[Scene]) -> float:
    """Share of points of captured scenes that are found again within 10 px in another view."""
    feats = [vit.extract(scene.images, quiet=True, dtype=torch.float32) for scene in scenes]
    return consistency(feats, scenes, tolerance=NOISY, most=PAIRS).recall["10 px"]


def _named(vits: list[ViT], fit: list[Scene], test: list[Scene]) -> float:
    """Share of the test rooms' single things that k nearest neighbours name rightly by these networks' CLS tokens."""
    (x, classes), (y, truth) = (
        [torch.cat(parts) for parts in zip(*(_things(vits, scene) for scene in scenes), strict=True)] for scenes in (fit, test)
    )
    known = torch.isin(truth, classes)
    votes = classifier("knn", min(NEIGHBOURS, len(x))).fit(x.numpy(), classes.numpy())
    return (votes.predict(y[known].numpy()) == truth[known].numpy()).mean().item()


def _things(vits: list[ViT], scene: Scene) -> tuple[Tensor, Tensor]:  # [N, C], [N]
    """CLS tokens of a room's single things, and their classes; each network looks once."""
    photos, classes = photos_of_things(scene, THING)
    if not len(photos):
        return torch.zeros(0, sum(vit.channels for vit in vits)), classes
    key = f"things of {scene.name}"
    for vit in vits:
        if key not in _seen(vit):
            _seen(vit)[key] = vit.extract(photos, cls=True, quiet=True, dtype=torch.float32)[1].cpu()
    return torch.cat([_seen(vit)[key] for vit in vits], 1), classes


def _same_room(tokens: list) -> float:  # one [V, C] a room
    """Share of photos whose nearest other photo is of the same room."""
    of = torch.cat([torch.full((len(t),), i) for i, t in enumerate(tokens)])
    vectors = F.normalize(torch.cat(tokens).float().cpu(), dim=1)
    alike = vectors @ vectors.T
    alike.fill_diagonal_(-2)
    return (of[alike.argmax(1)] == of).float().mean().item()
