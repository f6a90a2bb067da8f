"""One call from scenes to a 3D-aware ViT, in two halves, since scenes are independent jobs and fine-tuning is one.

    python -m fit3d_lite pipeline --scene colmap:my/scan --vit small                  # fit, lift; kept in work/
    python -m fit3d_lite pipeline --scene colmap:my/scan --vit small --out tuned.safetensors        # and fine-tune
    python -m fit3d_lite pipeline --scene colmap:scans/* --vit small --shard 3/8      # this machine's share of the first half

Every scene's Gaussians and lifted features are kept in --work under a hash of all that made them: what is there is not
made again, by this process or by another. All settings of ``finetune`` hold here too.
"""

from __future__ import annotations

import argparse
import glob
import time
from pathlib import Path

from ..base.inputs import shard_of
from ..base.machine import quiet_sparse
from ..base.whole import check_writable
from . import command
from .prepare import lifted_features, makers_of


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = command.parser_of("pipeline", __doc__)
    parser.set_defaults(work=Path("work"))
    parser.add_argument("--shard", default="1/1", metavar="I/N", help="make and lift scenes I, I + N, I + 2 N, … and stop")
    a = parser.parse_args(given)
    a.scene = [name for scene in a.scene for name in _spread(scene)]
    return a


def _spread(scene: str) -> list[str]:
    """``colmap:scans/*`` as one name for each folder: a shell cannot, for the kind before it."""
    kind, _, where = scene.partition(":")
    found = sorted(glob.glob(where)) if glob.has_magic(where) else []
    return [f"{kind}:{path}" for path in found] or [scene]


def main(given: list[str] | None = None) -> None:
    run(arguments(given))


def run(a: argparse.Namespace) -> None:
    """Fit and lift this shard's scenes; with --out and no other shards, fine-tune on all of them."""
    shard, shards = shard_of(a.shard)
    if shards > 1 and a.out is not None:
        raise ValueError("--shard makes a part of the scenes; fine-tune with --out and without --shard when all parts are made.")
    makers = makers_of(a)
    check_writable(a.work / "lifted")  # now, and not after an hour's work
    from ..backbones.vit import load_vit

    quiet_sparse()
    if a.out is None or shards > 1:
        vit = load_vit(a.backbone, a.weights, device=a.device, seed=a.seed)
        for number in range(shard - 1, len(makers), shards):
            began, scene = time.monotonic(), makers[number]()
            path = lifted_features(a, vit, scene)
            print(f"scene {number + 1} of {len(makers)}, {scene.name}: {path}, {time.monotonic() - began:.0f} s", flush=True)
        return
    command.run(a)  # which finds what the shards have left, and makes the rest
