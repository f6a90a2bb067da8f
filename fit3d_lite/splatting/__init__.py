"""Gaussians, and the sparse matrix that a view is: ``W = view_matrix(cloud, camera)``, and a picture is ``W @ values``.

Read gaussians (and ply), projection (to ellipses in the image), pairs (which pixels an ellipse reaches), blend (alpha
times transmittance, and its gradient), splat (``view_matrix`` and ``render``: the room in one page); then fitting, with
growth and quality, for photos to Gaussians. backend says who draws: on a CPU numba_draw, whose loops are numba_project and
numba_paint; on a GPU one of the two in the folder gpu. torch's way is what the others are compared with.
Letters: N Gaussians, of which K are seen by a camera; M (pixel, Gaussian) pairs; H W pixels; C channels of values.
"""

from . import backend
from .backend import set_backend
from .fitting import fit
from .gaussians import Gaussians
from .ply import load_ply, save_ply
from .projection import project
from .quality import photo_psnr, photo_ssim, psnr, ssim
from .splat import render, view_matrix

__all__ = [
    "Gaussians", "backend", "fit", "load_ply", "photo_psnr", "photo_ssim", "project", "psnr", "render", "save_ply",
    "set_backend", "ssim", "view_matrix",
]  # fmt: skip
