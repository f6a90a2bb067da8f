"""The command line of 3D-aware fine-tuning: scenes in, lifted, fine-tuned, one file of weights out.

    python -m fit3d_lite finetune --rooms 6 --out tuned.safetensors                     # procedural rooms, embedded ViT
    python -m fit3d_lite finetune --scene colmap:my/scan --vit dinov2_small --dtype auto --out tuned.pth
    torchrun --nproc-per-node 2 -m fit3d_lite finetune --rooms 12 --out tuned.safetensors --checkpoint run.pt

Under torchrun every process makes and lifts its own scenes. With --checkpoint and --resume a stopped run goes on; with
--work fitted Gaussians and lifted features are kept there and found again. ``pipeline`` is the same in two halves
(pipeline.py).
"""

from __future__ import annotations

import argparse
import os
from dataclasses import fields
from pathlib import Path

import torch

from ..base.machine import best_dtype, quiet_sparse, usable_device
from ..base.whole import check_writable
from ..lifting.methods import METHODS
from ..rooms.make import SEEDS
from ..scenes.scene import Scene
from . import processes
from .loop import finetune
from .prepare import KINDS, lifted_features, makers_of
from .recipes import RECIPES, Recipe, named_recipe

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    return parser_of("finetune", __doc__).parse_args(given)


def parser_of(command: str, says: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m fit3d_lite {command}", description=says, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = parser.add_argument_group("scenes (at least one)")
    kinds = f"room:7, stereo, office, {', '.join(KINDS)}:PATH"
    data.add_argument("--scene", nargs="+", default=[], metavar="KIND:PATH", help=kinds)
    data.add_argument("--rooms", type=int, default=0, help="so many procedural rooms")
    data.add_argument("--first-room", type=int, default=SEEDS["finetune"].start, help="seed of the first")
    data.add_argument("--views", type=int, default=12, help="photos of a room")
    data.add_argument("--size", type=int, default=224, help="pixels a side of a photo")
    data.add_argument("--rgbd", type=Path, nargs="+", default=[], help="folders with photos, depths and poses")
    data.add_argument("--frames", type=_frames, help="of a folder: 24 for so many evenly spaced, or 0:100:4 as in Python")
    data.add_argument("--depth-scale", type=float, default=1000.0, help="units of the depth maps in one metre")
    data.add_argument("--gaussians", type=int, default=12_000, help="of a scene with depth, at most")
    data.add_argument("--fit-steps", type=int, help="steps of fitting to the photos; by default 0 with depth, 400 without")
    data.add_argument("--exposure", choices=("affine",), help="each photo has its own exposure")
    data.add_argument("--lift", default="mean", choices=METHODS, help="how features get onto Gaussians")
    data.add_argument("--work", type=Path, help="folder in which lifted features are kept; else in memory")
    model = parser.add_argument_group("model")
    model.add_argument(
        "--vit", "--backbone", dest="backbone", default="small", metavar="VIT",
        help="small, which is embedded; one of FiT3D's six; or any ViT of timm",
    )  # fmt: skip
    model.add_argument("--weights", default="original", help="original, random, or the path of a checkpoint")
    model.add_argument(
        "--grad-checkpointing", action=argparse.BooleanOptionalAction, default="auto",
        help="less memory, more time; by default where one image does not fit without",
    )  # fmt: skip
    model.add_argument("--device", help="by default the GPU if there is one")
    model.add_argument("--dtype", default="fp32", choices=[*DTYPES, "auto"], help="auto: the fast one of the device")
    model.add_argument("--out", type=Path, required=command == "finetune", help=".safetensors, or .pth as FiT3D's are published")
    run = parser.add_argument_group("run")
    run.add_argument("--seed", type=int, default=0)
    run.add_argument("--at-once", type=int, help="images on the device at once; the batch stays")
    run.add_argument("--targets", default="auto", choices=("auto", "memory", "disk", "render"))
    run.add_argument("--checkpoint", type=Path, help="file for the state of the run")
    run.add_argument("--every", type=int, default=50, help="steps between checkpoints")
    run.add_argument("--resume", action="store_true", help="go on from --checkpoint if it is there")
    run.add_argument("--log", type=Path, help="file for one JSON line a step")
    recipe = parser.add_argument_group("recipe", "settings that are not given are the recipe's")
    recipe.add_argument("--recipe", default="lite", choices=RECIPES)
    for field in fields(Recipe):
        recipe.add_argument(f"--{field.name.replace('_', '-')}", **_option(field.default), default=None)
    return parser


def _frames(text: str) -> int | slice:
    """What --frames says; argparse names the text where int or slice cannot read it."""
    return slice(*(int(part) if part else None for part in text.split(":"))) if ":" in text else int(text)


def _option(default) -> dict:
    """How argparse reads a setting whose default is this."""
    if isinstance(default, bool):
        return {"action": argparse.BooleanOptionalAction}
    if isinstance(default, tuple) or default is None:
        return {"nargs": "+", "type": str if default else int}
    return {"type": type(default)}


def own_scenes(a: argparse.Namespace) -> list[Scene]:
    """This process's share: every world-size-th scene."""
    makers = makers_of(a)
    if len(makers) < processes.world():
        raise ValueError(f"{len(makers)} scenes are not enough for {processes.world()} processes")
    return [make() for make in makers[processes.rank() :: processes.world()]]


def main(given: list[str] | None = None) -> None:
    run(arguments(given))


def run(a: argparse.Namespace) -> None:
    """Make and lift scenes, fine-tune, write the weights; on every process."""
    if a.out.suffix not in (".safetensors", ".pth"):
        raise ValueError(f"--out must end in .safetensors or .pth, got {a.out}")
    recipe = named_recipe(a.recipe, **{f.name: v for f in fields(Recipe) if (v := getattr(a, f.name)) is not None})
    if recipe.train == "adapter" and a.out.suffix == ".pth":
        raise ValueError("an adapter is no part of a timm state dict: use --out with .safetensors")
    if a.resume and a.checkpoint is None:
        raise ValueError("--resume needs --checkpoint, the file to go on from")
    usable_device(a.device)
    for path in (a.out, *([] if a.work is None else [a.work / "lifted"])):
        check_writable(path)  # now, and not after an hour's work

    from ..backbones.vit import load_vit, save_checkpoint, save_vit

    quiet_sparse()
    device = a.device
    started = "WORLD_SIZE" in os.environ and not processes.running()
    if started:
        on_gpu = torch.cuda.is_available() and a.device != "cpu"
        torch.distributed.init_process_group("nccl" if on_gpu else "gloo")
        if on_gpu:
            device = f"cuda:{os.environ['LOCAL_RANK']}"
            torch.cuda.set_device(device)
    try:
        vit = load_vit(a.backbone, a.weights, device=device, seed=a.seed)
        scenes = own_scenes(a)
        lifted = [lifted_features(a, vit, scene) for scene in scenes]
        tuned = finetune(
            vit, scenes, lifted, recipe, seed=a.seed, targets=a.targets, at_once=a.at_once, every=a.every,
            grad_checkpointing=a.grad_checkpointing,
            dtype=best_dtype(vit.mean.device) if a.dtype == "auto" else DTYPES[a.dtype],
            checkpoint=a.checkpoint, resume=a.resume, log=a.log,
        )  # fmt: skip
        if not processes.rank():
            if a.out.suffix == ".pth":
                save_checkpoint(tuned, a.out)
            else:
                made = {"recipe": recipe.settings(), "scenes": [scene.name for scene in scenes]}
                save_vit(tuned, a.out, made_by="fit3d_lite.finetune", **made)
            print(f"{tuned.history}\n{a.out}: {a.out.stat().st_size:,} bytes")
    finally:
        if started:
            torch.distributed.destroy_process_group()
