"""fit3d_lite: 3D-aware fine-tuning of 2D vision features, small enough to read and to run anywhere.

The names below are what the notebooks use. The files, in the order to read them, are listed in the README.
"""

import warnings

from . import backend, captures, rooms, viz
from .artifacts import ArtifactMismatch
from .assembly import Assembly, RawPixels
from .backend import set_backend
from .cards import Row, card
from .checks import check, check_close, exercise, predict, reveal
from .classify import classify
from .consistency import Consistency, consistency, consistency_by_block
from .correspond import view_pairs
from .course import Run, setup
from .depth_span import DepthSpan
from .download import DownloadError, fetch, fetch_many
from .finer import features_finer
from .finetune import finetune
from .gaussians import Gaussians
from .history import History
from .labelled import LabelledPhotos
from .lift import lift
from .lifted import Lifted
from .patches import patch_matrix
from .paths import asset
from .photofit import fit, photo_psnr, psnr, ssim
from .ply import load_ply, save_ply
from .probe import probe_depth, probe_segmentation
from .probe3d import probe3d_recall
from .probe_result import load_probe
from .propagate import mask_propagation
from .quickprobe import cross_view_cosine, quick_probe
from .recipes import RECIPES, Recipe
from .rooms import room
from .runs import over_seeds, paired
from .scene import Camera, Scene, View
from .splat import project, render, view_matrix
from .training import Training

# `python -m fit3d_lite.finetune` imports this package first, and with it the module that it is about to run.
warnings.filterwarnings("ignore", message="'fit3d_lite.finetune' found in sys.modules", category=RuntimeWarning)

__version__ = "0.1.0"

# These need timm, and timm needs torchvision: four seconds that `import fit3d_lite` should not cost those who only splat.
_LATE = {"ViT": "vit", "load_vit": "vit", "save_vit": "vit", "save_checkpoint": "vit"}
# And this is for a GPU; late, so that `python -m fit3d_lite.gsplat_build` does not find itself imported already.
_LATE["build_gsplat"] = "gsplat_build"

__all__ = [
    "ArtifactMismatch", "Assembly", "Camera", "Consistency", "DepthSpan", "DownloadError", "Gaussians", "History",
    "LabelledPhotos", "Lifted", "RECIPES", "RawPixels", "Recipe", "Row", "Run", "Scene", "Training", "ViT", "View",
    "asset", "backend", "build_gsplat", "captures", "card", "check", "check_close", "classify", "consistency",
    "consistency_by_block", "cross_view_cosine", "exercise", "features_finer", "fetch", "fetch_many", "finetune",
    "fit", "lift", "load_ply", "load_probe", "load_vit", "mask_propagation", "over_seeds", "paired", "patch_matrix",
    "photo_psnr", "predict", "probe3d_recall", "probe_depth", "probe_segmentation", "project", "psnr", "quick_probe",
    "render", "reveal", "room", "rooms", "save_checkpoint", "save_ply", "save_vit", "set_backend", "setup", "ssim",
    "view_matrix", "view_pairs", "viz",
]  # fmt: skip


def __getattr__(name: str):
    if name in _LATE:
        import importlib

        return getattr(importlib.import_module(f".{_LATE[name]}", __name__), name)
    raise AttributeError(f"fit3d_lite has no {name!r}")


def __dir__():
    return sorted(__all__)
