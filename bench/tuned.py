"""The fine-tuned small ViTs that several measurements share: trained once, kept in cache/tuned, found again.

    tuned_vit("brief", seed=0)

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
ROOMS, VIEWS, SIZE, GAUSSIANS = 6, 12, 224, 12_000  # of a repetition, of a room, pixels a side, of a room
LIFTING = "mean"
CONTROLS = {"shuffled poses": ShuffledPoses, "blurred in 2D": BlurredFeatures, "own features": OwnFeatures}


@functools.cache
def original() -> ViT:
    return f3d.load_vit("small", device="cpu")


def shipped() -> dict[str, ViT]:
    """The small ViT as it comes with the course, with its controls; the one of wrong poses only where its file is at hand."""
    kinds = {"original": "original", "3D-aware": "fit3d", "wrong poses (control)": "wrong_poses", "untrained (control)": "random"}
    found = {}
    for name, weights in kinds.items():
        try:
            found[name] = f3d.load_vit("small", weights, device="cpu")
        except FileNotFoundError as missing:
            print(f"{name} is left out: {missing}", flush=True)
    return found


@functools.lru_cache(maxsize=1)  # the next rooms take the place of these in memory
def training_scenes(seed: int, rooms: int) -> list[f3d.Scene]:
    """The rooms of a repetition, which are nobody else's."""
    first = SEEDS["finetune"].start + (seed * ROOMS if rooms <= ROOMS else 100 * (seed + 1))
    return [f3d.room(s, VIEWS, SIZE) for s in range(first, first + rooms)]


@functools.lru_cache(maxsize=1)
def training_lifted(seed: int, rooms: int) -> list[Lifted]:
    """The original's features on the Gaussians of these rooms."""
    made = []
    for scene in training_scenes(seed, rooms):
        cloud = f3d.Gaussians.from_depth(scene, count=GAUSSIANS)
        feats = original().extract(scene.images, cache=CACHE / "features")
        made.append(f3d.lift(cloud, scene.cameras, feats, method=LIFTING))
    return made


def tuned_vit(recipe: str = "brief", seed: int = 0, control: str | None = None, rooms: int = ROOMS, **changes) -> ViT:
    """The small ViT after fine-tuning; its ``.history`` too.

    Args:
        recipe: one of RECIPES; ``changes`` are settings of it to change.
        control: train towards the targets of one of ``CONTROLS`` instead.
        rooms: how many rooms to train on.
    """
    old, settings = original(), named_recipe(recipe, **changes).settings()
    made = [old.fingerprint(), settings, seed, control, rooms, LIFTING, VIEWS, SIZE, GAUSSIANS]
    name = hashlib.sha256(json.dumps(made).encode()).hexdigest()[:16]
    path, log = CACHE / f"{name}.safetensors", CACHE / f"{name}.jsonl"
    if not path.is_file() or not log.is_file():
        scenes, targets = training_scenes(seed, rooms), training_lifted(seed, rooms)
        if control is not None:
            grid = old.grid(SIZE, SIZE)
            extra = {} if control == "shuffled poses" else {"vit": old}
            targets = CONTROLS[control](scenes, targets, old.channels, grid, **extra)
        tuned = f3d.finetune(old, scenes, targets, recipe, seed=seed, **changes)
        tuned.history.write(log)
        f3d.save_vit(tuned, path, dtype=torch.float32)
    tuned = f3d.load_vit("small", path, device="cpu")
    tuned.history = History.read(log)
    return tuned
