"""Pretrain the tiny ViT without labels: it learns to see, in 192 numbers a patch, what a larger ViT sees.

    python -m tools.pretrain --teacher dinov2_small --cache cache/pretrain --steps 3000
    python -m tools.pretrain ... --resume          # after a stop: goes on to the same bits

Feature distillation (Hinton et al. 2015; on dense features as in FeatUp's and AM-RADIO's students, arXiv 2312.06709):

* Pictures: procedural rooms, and any folder of photos. Both are made or cut once (pretrain_cache.py).
* Target: the teacher's patch features, standardised channel by channel and turned to their 192 leading principal
  components. Standardising matters: a few channels of DINOv2 are tens of times larger than the rest, and its features
  share a large mean, so that any two patches have a high cosine.
* Loss: 1 − cosine, patch by patch, between the student's own output (after its last norm; no head) and the target.
* The student sees random windows, mirrored and with changed colors, while the target stays: what depends on the place
  in the picture or on the light is averaged out.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from fit3d_lite.backbones.checkpoints import save_vit
from fit3d_lite.backbones.vit import ViT, load_vit
from fit3d_lite.base.whole import replace_when_whole
from tools.pretrain_cache import components, cut_photos, make_targets, read_all, render_rooms

__all__ = ["Recipe", "train", "centered"]


@dataclass(frozen=True)
class Recipe:
    """Settings of one training; two runs with equal recipe and data give equal weights on one machine."""

    steps: int = 3000
    batch: int = 32
    lr: float = 1e-3
    weight_decay: float = 0.05
    warmup: int = 50
    fall: float = 0.3  # the learning rate falls to zero over this last share of the steps
    window: int = 128  # pixels a side the student sees
    zoom: tuple[float, float] = (0.5, 0.85)  # share of the picture's side in a window
    full_share: float = 0.1  # this last share of the steps sees nearly whole pictures, at the picture's own size
    whiten: float = 0.25  # how far the targets' principal components are evened out, see ``components``
    color: float = 0.25  # largest change of brightness, contrast and saturation
    seed: int = 0


def train(
    student: ViT,
    images: Tensor,  # uint8 [n, 3, S, S]
    targets: Tensor,  # [n, C, h, w], C the student's channels; any grid, read bilinearly
    recipe: Recipe,
    checkpoint: str | Path | None = None,
    every: int = 200,
    resume: bool = False,
    stop: int | None = None,
) -> list[float]:
    """Train ``student`` in place.

    Args:
        checkpoint: file to keep weights, optimizer and losses in, every ``every`` steps; whole or not at all.
        resume: go on from ``checkpoint``. A step's random numbers depend on the seed and the step alone, so the result
            is that of a run that was never stopped. ``steps`` may be changed while the learning rate is constant.
        stop: end after this step, as an interruption would (the checkpoint is written).

    Returns:
        The loss (1 − cosine, 0..2) of every step so far.

    Raises:
        ValueError: shapes that do not fit, or a checkpoint of another recipe. FileNotFoundError: nothing to resume.
        FloatingPointError: the loss is not finite.
    """
    _check(student, images, targets)
    decay = [p for p in student.model.parameters() if p.ndim >= 2 and p.shape[0] != 1]
    rest = [p for p in student.model.parameters() if not (p.ndim >= 2 and p.shape[0] != 1)]
    groups = [{"params": decay, "weight_decay": recipe.weight_decay}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=recipe.lr, betas=(0.9, 0.95))
    settings, losses = json.dumps(asdict(recipe)), []
    if resume:
        state = torch.load(_there(checkpoint), weights_only=True)
        if not _continues(json.loads(state["settings"]), json.loads(settings), len(state["losses"])):
            raise ValueError(f"{checkpoint} was made with {state['settings']}, not {settings}: start without resuming")
        student.model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        losses = state["losses"]

    student.train()
    end = min(recipe.steps, stop or recipe.steps)
    bar = tqdm(range(len(losses), end), initial=len(losses), total=recipe.steps, desc="pretrain", mininterval=2)
    for step in bar:
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr * _schedule(step, recipe)
        seen, wanted = _windows(images, targets, recipe, step, student.patch_size)
        loss = (1 - F.cosine_similarity(student(seen), wanted, dim=1)).mean()
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss.item()} at step {step}: lower the learning rate {recipe.lr}")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        bar.set_postfix(loss=f"{sum(losses[-50:]) / len(losses[-50:]):.3f}", refresh=False)
        if checkpoint and ((step + 1) % every == 0 or step + 1 == end):
            with replace_when_whole(checkpoint) as partial:
                state = {"model": student.model.state_dict(), "optimizer": optimizer.state_dict()}
                torch.save(state | {"losses": losses, "settings": settings}, partial)
    student.eval()
    return losses


@torch.no_grad()
def centered(
    student: ViT,
    images: Tensor,  # uint8 [n, 3, S, S]
) -> ViT:
    """Fold the features' mean into the last LayerNorm's bias: the features lose what all of them share, nothing else.

    Exact, since nothing follows that norm. The student is changed in place and returned.
    """
    total = count = 0
    for batch in images.split(32):
        feats = student.extract(batch.float() / 255, batch=32)
        total, count = total + feats.sum((0, 2, 3), dtype=torch.float64), count + feats[:, 0].numel()
    student.model.norm.bias -= (total / count).to(student.model.norm.bias)
    return student


def _schedule(step: int, recipe: Recipe) -> float:
    """Rise, stay, fall: as long as it stays, a run does not depend on how long it is going to be."""
    rise = min(1.0, (step + 1) / recipe.warmup)
    return min(rise, (recipe.steps - step) / max(1.0, recipe.fall * recipe.steps))


def _continues(made: dict, wanted: dict, step: int) -> bool:
    """Is a run of ``wanted`` the same as one of ``made`` up to ``step``? The number of steps matters only at the end."""
    constant = 1 - max(wanted["fall"], wanted["full_share"])
    return made == wanted or (
        made | {"steps": 0} == wanted | {"steps": 0} and step <= constant * min(made["steps"], wanted["steps"])
    )


def _windows(images, targets, recipe, step, patch) -> tuple[Tensor, Tensor]:
    """A batch of windows, mirrored and recolored, and what the teacher said there."""
    dice = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
    whole = step >= recipe.steps * (1 - recipe.full_share)
    side, (low, high) = (images.shape[-1], (0.85, 1.0)) if whole else (recipe.window, recipe.zoom)
    n = max(1, recipe.batch // 2) if whole else recipe.batch
    chosen = torch.randint(len(images), (n,), generator=dice)

    def draw(*shape):
        return torch.rand(n, *shape, generator=dice)

    share = low + (high - low) * draw()
    shift = (draw(2) * 2 - 1) * (1 - share)[:, None]
    mirror = torch.where(draw() < 0.5, -1.0, 1.0)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1], theta[:, :, 2] = share * mirror, share, shift

    def cut(maps, size):
        grid = F.affine_grid(theta, [n, 1, size, size], align_corners=False)
        return F.grid_sample(maps[chosen].float(), grid, padding_mode="border", align_corners=False)

    seen = cut(images, side) / 255
    change = 1 + recipe.color * (draw(3, 1, 1, 1) * 2 - 1)
    seen = seen * change[:, 0]
    seen = (seen - (middle := seen.mean((1, 2, 3), keepdim=True))) * change[:, 1] + middle
    seen = (seen - (grey := seen.mean(1, keepdim=True))) * change[:, 2] + grey
    return seen.clamp(0, 1), cut(targets, side // patch)


def _check(student, images, targets) -> None:
    side, wanted = images.shape[-1], [len(images), student.channels]
    if images.ndim != 4 or images.dtype != torch.uint8 or images.shape[1:] != (3, side, side):
        raise ValueError(f"images must be uint8 [n, 3, S, S], not {images.dtype} {list(images.shape)}")
    if targets.ndim != 4 or list(targets.shape[:2]) != wanted:
        raise ValueError(f"targets are {list(targets.shape)} and should be [{wanted[0]}, {wanted[1]}, h, w]")


def _there(checkpoint) -> Path:
    if checkpoint is None or not Path(checkpoint).is_file():
        raise FileNotFoundError(f"there is no checkpoint at {checkpoint} to resume from: start without resuming")
    return Path(checkpoint)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], prog="python -m tools.pretrain")
    parser.add_argument("--teacher", default="dinov2_small", help="timm name, or one of FiT3D's six (downloaded once)")
    parser.add_argument("--teacher-weights", default="original", help="a file, instead of the published weights")
    parser.add_argument(
        "--blocks", type=int, nargs="+", default=[-1], help="the teacher's blocks; their mean is taught"
    )
    parser.add_argument("--teacher-grid", type=int, default=24, help="teacher patches a side; 24 is the student's own")
    parser.add_argument("--cache", type=Path, default=Path("cache/pretrain"), help="pictures, targets, checkpoint")
    parser.add_argument("--rooms", type=int, default=400)
    parser.add_argument("--views", type=int, default=4, help="photos of a room")
    parser.add_argument("--size", type=int, default=192, help="pixels a side of a photo")
    parser.add_argument("--photos", type=Path, help="a folder of photos to add")
    parser.add_argument("--photo-count", type=int, help="use the first so many of them")
    parser.add_argument("--every", type=int, default=200, help="steps between checkpoints")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --cache")
    parser.add_argument("--out", type=Path, default=Path("assets/vit_tiny.safetensors"))
    for name in ("steps", "batch", "seed"):
        parser.add_argument(f"--{name}", type=int, default=getattr(Recipe, name))
    for name in ("lr", "whiten"):
        parser.add_argument(f"--{name}", type=float, default=getattr(Recipe, name))
    a = parser.parse_args(arguments)

    begin = time.monotonic()
    try:  # first, since a missing file should not cost an hour of rendering
        teacher = load_vit(a.teacher, a.teacher_weights)
    except (OSError, ValueError) as error:  # a DownloadError is an OSError
        remedy = "Name a file with --teacher-weights, or another ViT of timm with --teacher."
        raise SystemExit(f"pretrain: the teacher cannot be had: {error} {remedy}") from error
    if a.resume:
        _there(a.cache / "checkpoint.pt")
    student = load_vit("tiny", "random", device="cpu", seed=a.seed)
    files = cut_photos(a.cache, a.photos, a.photo_count, a.size) if a.photos else []
    files += render_rooms(a.cache, a.rooms, a.views, a.size)
    targets = read_all(make_targets(a.cache, files, teacher, a.teacher_grid, a.blocks), "targets")
    images = read_all(files, "images")
    recipe = Recipe(steps=a.steps, batch=a.batch, seed=a.seed, lr=a.lr, whiten=a.whiten)
    wanted = components(targets, student.channels, a.whiten)
    print(f"{len(images)} pictures and targets are there after {time.monotonic() - begin:.0f} s")
    losses = train(student, images, wanted, recipe, a.cache / "checkpoint.pt", a.every, a.resume)
    save_vit(
        centered(student, images[:: len(images) // 100 + 1]),
        a.out,
        made_by="tools.pretrain",
        recipe=json.dumps(asdict(recipe)),
    )
    for at in range(0, len(losses), max(1, len(losses) // 10)):
        print(f"step {at + 1:6d}  loss {sum(losses[at : at + 50]) / len(losses[at : at + 50]):.4f}")
    print(f"step {len(losses):6d}  loss {sum(losses[-50:]) / len(losses[-50:]):.4f}")
    print(f"{a.out}: {a.out.stat().st_size:,} bytes, after {time.monotonic() - begin:.0f} s")


if __name__ == "__main__":
    main()
