"""The fine-tuned embedded ViTs that several measurements share: trained once, kept in cache/tuned, found again.

    tuned_vit("lite", seed=0)                       # the tiny ViT; network="small" for the other

Repetition ``seed`` trains on rooms of its own (SEEDS["finetune"]), with its own order of photos.
"""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path

import torch

import fit3d_lite as f3d
from fit3d_lite.backbones import ViT
from fit3d_lite.base.history import History
from fit3d_lite.finetuning.recipes import named_recipe
from fit3d_lite.finetuning.targets import BlurredFeatures, OwnFeatures, ShuffledPoses
from fit3d_lite.lifting import Lifted
from fit3d_lite.rooms import SEEDS

CACHE = Path(__file__).parents[1] / "cache" / "tuned"
NETWORKS = {"tiny": (12, 16, 192, 12_000), "small": (6, 12, 224, 12_000)}  # rooms, views, pixels a side, Gaussians
ROOMS, VIEWS = NETWORKS["tiny"][:2]
CONTROLS = {"shuffled poses": ShuffledPoses, "blurred in 2D": BlurredFeatures, "own features": OwnFeatures}


@functools.cache
def original(network: str = "tiny") -> ViT:
    return f3d.load_vit(network, device="cpu")


@functools.lru_cache(maxsize=1)  # the next rooms take the place of these in memory
def training_scenes(seed: int, rooms: int, network: str) -> list[f3d.Scene]:
    """The rooms of a repetition, which are nobody else's."""
    usual, views, size, _ = NETWORKS[network]
    first = SEEDS["finetune"].start + (seed * usual if rooms <= usual else 100 * (seed + 1))
    return [f3d.room(s, views, size) for s in range(first, first + rooms)]


@functools.lru_cache(maxsize=1)
def training_lifted(seed: int, rooms: int, method: str, network: str) -> list[Lifted]:
    """The original's features on the Gaussians of these rooms."""
    made = []
    for scene in training_scenes(seed, rooms, network):
        cloud = f3d.Gaussians.from_depth(scene, count=NETWORKS[network][3])
        feats = original(network).extract(scene.images, cache=CACHE / "features")
        made.append(f3d.lift(cloud, scene.cameras, feats, method=method))
    return made


def tuned_vit(
    recipe: str = "lite", seed: int = 0, control: str | None = None, rooms: int | None = None, method: str = "mean",
    network: str = "tiny", **changes,
) -> ViT:  # fmt: skip
    """The embedded ViT of that name after fine-tuning; its ``.history`` too.

    Args:
        recipe: "paper" or "lite"; ``changes`` are settings of it to change.
        control: train towards the targets of one of ``CONTROLS`` instead.
        rooms, method: how many rooms (the network's usual number by default), lifted how.
    """
    usual, views, size, gaussians = NETWORKS[network]
    rooms, old = rooms or usual, original(network)
    settings = named_recipe(recipe, **changes).settings()
    made = [old.fingerprint(), settings, seed, control, rooms, method, views, size, gaussians]
    name = hashlib.sha256(json.dumps(made).encode()).hexdigest()[:16]
    path, log = CACHE / f"{name}.safetensors", CACHE / f"{name}.jsonl"
    if settings["blend"] and not path.is_file():  # the run is that without it; only its end differs
        plain = tuned_vit(recipe, seed, control, rooms, method, network, **{**changes, "blend": 0.0})
        with torch.no_grad():
            for mine, its in zip(plain.model.parameters(), old.model.parameters(), strict=True):
                mine.lerp_(its, settings["blend"])
        plain.history.write(log)
        f3d.save_vit(plain, path, dtype=torch.float32)
    if not path.is_file() or not log.is_file():
        scenes, targets = training_scenes(seed, rooms, network), training_lifted(seed, rooms, method, network)
        if control is not None:
            grid = old.grid(size, size)
            extra = {} if control == "shuffled poses" else {"vit": old}
            targets = CONTROLS[control](scenes, targets, old.channels, grid, **extra)
        tuned = f3d.finetune(old, scenes, targets, recipe, seed=seed, **changes)
        tuned.history.write(log)
        f3d.save_vit(tuned, path, dtype=torch.float32)
    tuned = f3d.load_vit(network, path, device="cpu")
    tuned.history = History.read(log)
    return tuned
