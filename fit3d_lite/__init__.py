"""fit3d_lite: 3D-aware fine-tuning of 2D vision features, small enough to read and to run anywhere.

The names below are what the notebooks use. The files, in the order to read them, are listed in the README.
"""

from . import captures, rooms, viz
from .backbones.assembly import Assembly, RawPixels
from .base.artifacts import ArtifactMismatch
from .base.download import DownloadError, fetch, fetch_many
from .base.history import History
from .base.machine import asset
from .correspondence.consistency import Consistency, consistency, consistency_by_block
from .correspondence.correspond import view_pairs
from .correspondence.cosine import cross_view_cosine
from .correspondence.masks import mask_propagation
from .correspondence.probe3d import probe3d_recall
from .course.cards import Row, card
from .course.checks import check, check_close, exercise, predict, reveal
from .course.setup import Run, setup
from .finetuning.loop import finetune
from .finetuning.recipes import RECIPES, Recipe
from .lifting.grid import patch_matrix
from .lifting.lifted import Lifted
from .lifting.methods import lift
from .probing.classify import classify
from .probing.depth import DepthSpan
from .probing.labelled import LabelledPhotos
from .probing.probe import probe_depth, probe_segmentation
from .probing.result import load_probe
from .probing.ridge import quick_probe
from .probing.seeds import over_seeds, paired
from .probing.train import Training
from .rooms import room
from .scenes.camera import Camera
from .scenes.scene import Scene, View
from .splatting import backend
from .splatting.backend import set_backend
from .splatting.fitting import fit
from .splatting.gaussians import Gaussians
from .splatting.ply import load_ply, save_ply
from .splatting.projection import project
from .splatting.quality import photo_psnr, psnr, ssim
from .splatting.splat import render, view_matrix

__version__ = "0.1.0"

# These need timm, and timm needs torchvision: four seconds that `import fit3d_lite` should not cost those who only splat.
_LATE = dict.fromkeys(("ViT", "load_vit", "save_vit", "save_checkpoint"), "backbones.vit")
_LATE["build_gsplat"] = "splatting.gpu.gsplat_build"  # and this is for a GPU

__all__ = [
    "ArtifactMismatch", "Assembly", "Camera", "Consistency", "DepthSpan", "DownloadError", "Gaussians", "History",
    "LabelledPhotos", "Lifted", "RECIPES", "RawPixels", "Recipe", "Row", "Run", "Scene", "Training", "ViT", "View",
    "asset", "backend", "build_gsplat", "captures", "card", "check", "check_close", "classify", "consistency",
    "consistency_by_block", "cross_view_cosine", "exercise", "fetch", "fetch_many", "finetune",
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
