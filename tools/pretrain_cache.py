"""Pictures to pretrain on, and what a teacher sees in them: made once, one small file each, so a stopped run resumes.

    cache/pictures_192/room_0100000.safetensors     images   uint8 [v, 3, 192, 192]
    cache/targets_<teacher>/room_0100000.safetensors targets  fp16 [v, C, 24, 24]

A file appears under its name only when whole. Nothing here knows how the student is trained.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from fit3d_lite.backbones.vit import ViT
from fit3d_lite.base.whole import replace_when_whole
from fit3d_lite.rooms.make import SEEDS, room

__all__ = ["FIRST_SEED", "render_rooms", "cut_photos", "make_targets", "components", "read_all", "teacher_features"]

FIRST_SEED = SEEDS["pretrain"].start  # the rooms below are never trained on: the course and its probes use them
PHOTO_ENDINGS = (".jpg", ".jpeg", ".png")


def render_rooms(cache: Path, count: int, views: int = 4, size: int = 192) -> list[Path]:
    """Render ``count`` rooms from ``FIRST_SEED`` on into the cache; those already there are kept."""
    return [
        _once(_pictures(cache, size) / f"room_{seed:07d}.safetensors", "images",
              lambda: (room(seed, views, size).images * 255).round().byte())
        for seed in tqdm(range(FIRST_SEED, FIRST_SEED + count), desc="rooms")
    ]  # fmt: skip


def cut_photos(cache: Path, folder: str | Path, count: int | None = None, size: int = 192) -> list[Path]:
    """Two squares of each of the first ``count`` photos of a folder: the two ends of the long side.

    Raises FileNotFoundError when the folder holds no .jpg, .jpeg or .png.
    """
    files = sorted(p for p in Path(folder).glob("*") if p.suffix.lower() in PHOTO_ENDINGS)[:count]
    if not files:
        raise FileNotFoundError(f"there are no {', '.join(PHOTO_ENDINGS)} files in {Path(folder).absolute()}")

    def squares(file):
        with Image.open(file) as picture:
            photo = torch.from_numpy(np.array(picture.convert("RGB"))).movedim(-1, 0)
        side = min(photo.shape[1:])
        ends = torch.stack([photo[:, :side, :side], photo[:, -side:, -side:]]).float()
        return F.interpolate(ends, (size, size), mode="bilinear", antialias=True).round().clamp(0, 255).byte()

    name = Path(folder).resolve().parent.name + "_" + Path(folder).resolve().name
    place = _pictures(cache, size)
    return [
        _once(place / f"photo_{name}_{f.stem}.safetensors", "images", lambda: squares(f))
        for f in tqdm(files, desc="photos")
    ]


def teacher_features(
    teacher: ViT,
    images: Tensor,  # [V, 3, H, W] in 0..1
    grid: int,  # teacher patches a side
    blocks: list[int],
) -> Tensor:  # [V, C, grid, grid]
    """Mean of some blocks' patch features (after the norm), at a grid of the student's size.

    The images are enlarged or reduced to ``grid`` patches a side; 24 for pictures of 192 would be the student's own grid.
    """
    side = grid * teacher.patch_size
    images = F.interpolate(images, (side, side), mode="bilinear", antialias=True, align_corners=False).clamp(0, 1)
    return torch.stack(teacher.extract(images, batch=8, block=blocks)).mean(0)


def make_targets(cache: Path, pictures: list[Path], teacher: ViT, grid: int, blocks: list[int]) -> list[Path]:
    """The teacher's features of every cached picture, fp16; those already there are kept."""
    name = f"targets_{teacher.fingerprint()[:8]}_{grid}_{'_'.join(map(str, blocks))}"
    return [
        _once(Path(cache) / name / p.name, "targets",
              lambda: teacher_features(teacher, load_file(p)["images"].float() / 255, grid, blocks).half())
        for p in tqdm(pictures, desc="teacher")
    ]  # fmt: skip


def components(
    targets: Tensor,  # [n, C, h, w]
    width: int,
    whiten: float = 0.25,
) -> Tensor:  # [n, width, h, w] fp16
    """The leading principal components of standardised features: ``width`` channels that turn and rescale, nothing else.

    Component k has variance λ_k; dividing by λ_k^``whiten`` (0: PCA, 0.5: fully white) lifts the small ones, in which
    objects differ, against the first few, which say floor, wall or ceiling.

    Raises ValueError when more components are asked for than there are channels.
    """
    n, c, h, w = targets.shape
    if width > c:
        raise ValueError(f"{width} components are asked for and the teacher has {c} channels: use a narrower student")
    mean = torch.stack([t.float().mean((1, 2)) for t in targets]).mean(0)
    std = torch.stack([((t.float() - mean[:, None, None]) ** 2).mean((1, 2)) for t in targets]).mean(0).sqrt()
    std = std.clamp(min=1e-6)
    spread = torch.zeros(c, c, dtype=torch.float64)
    for t in targets.split(64):
        x = ((t.float() - mean[:, None, None]) / std[:, None, None]).movedim(1, -1).reshape(-1, c)
        spread += (x.T @ x).double()
    variance, basis = torch.linalg.eigh(spread / (n * h * w))
    variance, basis = variance.flip(0)[:width].clamp(min=1e-6), basis.flip(1)[:, :width]
    turn = (basis / variance**whiten).float() / std[:, None]
    return torch.cat(
        [torch.einsum("nchw,cd->ndhw", t.float() - mean[:, None, None], turn).half() for t in targets.split(64)]
    )


def read_all(files: list[Path], key: str) -> Tensor:
    """All files' tensors under ``key``, one after the other."""
    return torch.cat([load_file(f)[key] for f in files])


def _pictures(cache, size) -> Path:
    return Path(cache) / f"pictures_{size}"


def _once(path: Path, key: str, make) -> Path:
    if not path.is_file():
        tensor = make()
        with replace_when_whole(path) as partial:
            save_file({key: tensor.contiguous()}, partial)
    return path
