"""fit3d_lite: 3D-aware fine-tuning of 2D vision features, small enough to read and to run anywhere.

The names below are what the notebooks use, and the README's recipes; everything else stands in its room. The rooms, from
the ground up, are listed in the README, and each says at its door in which order to read it.
"""

import os
import sys

# Threads that wait for each other spin, by default so long that beside any other busy program all of torch is several times
# slower (bench/bench_waiting.py). libgomp reads this when torch is loaded, so it comes first; your own value stays.
if "torch" not in sys.modules and "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

from . import captures, rooms, viz
from .backbones import Assembly, RawPixels
from .base import DownloadError
from .correspondence import Consistency, consistency, consistency_by_block, mask_propagation, probe3d_recall, view_pairs
from .course import Row, card, check, check_close, exercise, predict, quiz, reveal, setup
from .finetuning import RECIPES, finetune
from .lifting import lift, patch_matrix, with_rendered_depths
from .probing import LabelledPhotos, paired, probe_depth, probe_segmentation, quick_probe
from .rooms import room
from .scenes import Camera, Scene
from .splatting import (
    Gaussians,
    backend,
    fit,
    load_ply,
    photo_psnr,
    project,
    render,
    save_ply,
    set_backend,
    view_matrix,
)

__version__ = "0.1.0"
__commit__ = "$Format:%H %P$"  # `git archive`, and so each zip from GitHub, writes the commit and its parents here

# timm needs torchvision: four seconds that `import fit3d_lite` should not cost those who only splat.
_LATE = {"load_vit": "backbones", "save_vit": "backbones", "build_gsplat": "splatting.gpu.gsplat_build"}

__all__ = [
    "Assembly", "Camera", "Consistency", "DownloadError", "Gaussians", "LabelledPhotos", "RECIPES", "RawPixels", "Row",
    "Scene", "backend", "build_gsplat", "captures", "card", "check", "check_close", "consistency",
    "consistency_by_block", "exercise", "finetune", "fit", "lift", "load_ply", "load_vit", "mask_propagation", "paired",
    "patch_matrix", "photo_psnr", "predict", "probe3d_recall", "probe_depth", "probe_segmentation", "project",
    "quick_probe", "quiz", "render", "reveal", "room", "rooms", "save_ply", "save_vit", "set_backend", "setup", "view_matrix",
    "view_pairs", "viz", "with_rendered_depths",
]  # fmt: skip


def __getattr__(name: str):
    if name in _LATE:
        import importlib

        return getattr(importlib.import_module(f".{_LATE[name]}", __name__), name)
    raise AttributeError(f"fit3d_lite has no {name!r}")


def __dir__():
    return sorted(__all__)
