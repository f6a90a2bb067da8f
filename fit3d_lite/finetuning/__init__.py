"""3D-aware fine-tuning, FiT3D's second stage: pull a ViT's features towards what the lifted Gaussians say.

Read recipes (what a run is made of), targets (what the photos should say, and the controls that should not help), step
(one move of the weights) and loop (all of them); then sampling, state and processes, for runs that are stopped or
shared by several GPUs; and command, prepare and pipeline for a shell. Letters: B photos of a step, C channels on a grid
of h × w patches; f a feature, t its target, z the logarithm of a depth.
"""

from .loop import finetune
from .recipes import RECIPES, Recipe, named_recipe
from .sampling import Sampler
from .step import drift
from .targets import AgreeingPatches, BlurredFeatures, OwnFeatures, RandomPatches, ShuffledPoses, Targets

__all__ = [
    "AgreeingPatches", "BlurredFeatures", "OwnFeatures", "RECIPES", "RandomPatches", "Recipe", "Sampler", "ShuffledPoses",
    "Targets", "drift", "finetune", "named_recipe",
]  # fmt: skip
