"""Lifting: features of photos become features of Gaussians, and can be rendered from anywhere.

Read grid (the view matrix at the size of patches), methods (four ways to lift; the mean stands there), lifted (what comes
back: render, save, load), then solve and decoder for the other ways; depth renders what a capture without depth lacks.
Letters: V views, N Gaussians, C channels on a grid of h × w patches, P patches in all; W a view's matrix [h*w, N], A all of
them in one; F features of photos, f of Gaussians.
"""

from .depth import with_rendered_depths
from .grid import patch_matrix
from .lifted import Lifted
from .methods import lift, robust_mean

__all__ = ["Lifted", "lift", "patch_matrix", "robust_mean", "with_rendered_depths"]
