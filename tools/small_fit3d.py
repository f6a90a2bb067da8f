"""Make assets/vit_small_fit3d.safetensors, the network of load_vit("small", "fit3d"): 3D-aware fine-tuning on rooms.

    python -m tools.small_fit3d                                  # rooms, lifting, fine-tuning with the recipe lite
    python -m tools.small_fit3d --wrong-poses                    # the control beside it: assets/vit_small_wrong_poses.safetensors
    python -m tools.small_fit3d --recipe brief --out other.safetensors   # half as long: what bench_small_fit3d --other compares

What is kept is the difference to vit_small.safetensors, each matrix by two thin ones in int8 (backbones/compact.py).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import fit3d_lite as f3d
from fit3d_lite.backbones import ViT, compact
from fit3d_lite.base import whole
from fit3d_lite.finetuning.recipes import RECIPES
from fit3d_lite.finetuning.targets import ShuffledPoses
from fit3d_lite.rooms import SEEDS

from .bootstrap import ROOT

BASE = "vit_small.safetensors"
FIRST, VIEWS, SIZE, GAUSSIANS = SEEDS["finetune"].start + 300, 12, 224, 12_000


def train(rooms: int, wrong_poses: bool, recipe: str, checkpoint: Path | None = None) -> ViT:
    """``load_vit("small")`` after fine-tuning on so many rooms; a stopped run goes on from ``checkpoint``."""
    vit = f3d.load_vit("small", device="cpu")
    scenes = [f3d.room(FIRST + i, VIEWS, SIZE) for i in range(rooms)]
    lifted = []
    for scene in scenes:
        cloud = f3d.Gaussians.from_depth(scene, count=GAUSSIANS)
        lifted.append(f3d.lift(cloud, scene.cameras, vit.extract(scene.images, quiet=True)))
    targets = ShuffledPoses(scenes, lifted, vit.channels, vit.grid(SIZE, SIZE)) if wrong_poses else lifted
    return f3d.finetune(vit, scenes, targets, recipe, checkpoint=checkpoint, resume=checkpoint is not None)


def save_difference(vit: ViT, path: Path, rank: int, **notes) -> Path:
    """Keep ``vit`` as its low-rank difference to the embedded original."""
    base = f3d.load_vit("small", device="cpu").model.state_dict()
    small = compact.to_int8(compact.difference(vit.model.state_dict(), base, rank))
    return whole.save(path, "vit", {"config": vit.config, "base": BASE} | notes, small)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rooms", type=int, default=48)
    parser.add_argument("--recipe", default="lite", choices=RECIPES)
    parser.add_argument("--rank", type=int, default=64, help="of the difference that is kept")
    parser.add_argument("--wrong-poses", action="store_true", help="each photo gets what another camera of its room sees")
    parser.add_argument("--checkpoint", type=Path, help="file for the state of the run; a stopped one goes on")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    out = given.out or ROOT / "assets" / f"vit_small_{'wrong_poses' if given.wrong_poses else 'fit3d'}.safetensors"
    vit = train(given.rooms, given.wrong_poses, given.recipe, given.checkpoint)
    notes = {"recipe": RECIPES[given.recipe].settings(), "rooms": given.rooms, "wrong_poses": given.wrong_poses}
    save_difference(vit, out, given.rank, **notes)
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
