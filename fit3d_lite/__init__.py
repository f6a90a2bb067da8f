"""fit3d_lite: 3D-aware fine-tuning of 2D vision features, small enough to read and to run anywhere.

The names below are what the notebooks use. The files, in the order to read them, are listed in the README.
"""

from . import captures, rooms, viz
from .artifacts import ArtifactMismatch
from .cards import Row, card
from .checks import check, check_close, exercise, predict, reveal
from .consistency import Consistency, consistency
from .course import Run, setup
from .download import DownloadError, fetch, fetch_many
from .finer import features_finer
from .gaussians import Gaussians
from .lift import lift
from .lifted import Lifted
from .patches import patch_matrix
from .paths import asset
from .photofit import fit, photo_psnr, psnr, ssim
from .ply import load_ply, save_ply
from .quickprobe import cross_view_cosine, quick_probe
from .rooms import room
from .scene import Camera, Scene, View
from .splat import project, render, view_matrix

__version__ = "0.1.0"

# These need timm, and timm needs torchvision: four seconds that `import fit3d_lite` should not cost those who only splat.
_LATE = {"ViT": "vit", "load_vit": "vit", "save_vit": "vit", "save_checkpoint": "vit"}

__all__ = [
    "ArtifactMismatch", "Camera", "Consistency", "DownloadError", "Gaussians", "Lifted", "Row", "Run", "Scene",
    "ViT", "View", "asset", "captures", "card", "check", "check_close", "consistency", "cross_view_cosine",
    "exercise", "features_finer", "fetch", "fetch_many", "fit", "lift", "load_ply", "load_vit", "patch_matrix",
    "photo_psnr", "predict", "project", "psnr", "quick_probe", "render", "reveal", "room", "rooms",
    "save_checkpoint", "save_ply", "save_vit", "setup", "ssim", "view_matrix", "viz",
]  # fmt: skip


def __getattr__(name: str):
    if name in _LATE:
        import importlib

        return getattr(importlib.import_module(f".{_LATE[name]}", __name__), name)
    raise AttributeError(f"fit3d_lite has no {name!r}")


def __dir__():
    return sorted(__all__)
