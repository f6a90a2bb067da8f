"""What a fine-tuning run is made of: one record of settings, and the recipes that have a name.

``paper`` is FiT3D's second stage (arXiv 2407.20229 and its supplement; finetune.py and engine.py of
github.com/ywyue/FiT3D). ``brief`` is this course's: chosen on procedural rooms by bench/bench_finetune.py, so
that the fine-tuned features are better than the original's without them beside; the ablations of lesson 09 train by it.
They found six epochs ahead of three, so ``lite``, by which the shipped network is trained, takes six
(bench/results/small_fit3d.md). ``one-scene`` is for a scene of your own.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from math import inf
from numbers import Real

from ..base.inputs import check_kind, check_whole

__all__ = ["RECIPES", "Recipe", "named_recipe"]

TRAIN = ("full", "lora", "adapter")


@dataclass(frozen=True)
class Recipe:
    """Settings of :func:`fit3d_lite.finetune`; the defaults are the paper's.

    Loss of a patch: ``l1``·|f − t| + ``cosine``·(1 − cos(f, t)) + ``keep``·|f − f₀| + ``geometry``·|g(f) − z|, with f
    the feature, t the target rendered from the Gaussians, f₀ the original ViT's feature, z the logarithm of the
    rendered depth (standardized) and g a linear map that is trained along and thrown away. Absolute values are means
    over channels.
    """

    train: str = "full"  # "full": every weight; "lora": low-rank updates; "adapter": a residual block on top
    lr: float = 1e-5
    weight_decay: float = 1e-4
    clip: float = 0.1  # largest norm of the gradient of all weights
    batch: int = 2  # images a step (of each process)
    epochs: int = 1
    flip: float = 0.5  # probability of mirroring image and target
    warmup: int = 0  # steps in which the learning rate rises from 0
    decay: bool = False  # let the learning rate fall to 0 along a half cosine
    l1: float = 1.0
    cosine: float = 0.0
    keep: float = 0.0
    geometry: float = 0.0
    head_lr: float = 1e-3  # of g alone
    finer: int = 1  # targets on a grid so many times the patch grid; features are enlarged to it bilinearly
    restore_spread: bool = False  # give each channel of the target the original's mean and standard deviation again
    blend: float = 0.0  # share of the original's weights mixed in at the end (WiSE-FT: Wortsman et al. 2022)
    lora_rank: int = 8
    lora_alpha: float = 16.0  # an update is scaled by alpha / rank
    lora_layers: tuple[str, ...] = ("qkv", "proj")  # of the attention
    lora_blocks: tuple[int, ...] | None = None  # None: all
    adapter_width: int = 64  # channels of the block's bottleneck

    def __post_init__(self) -> None:
        object.__setattr__(self, "lora_layers", tuple(self.lora_layers))
        if self.lora_blocks is not None:
            object.__setattr__(self, "lora_blocks", tuple(self.lora_blocks))
        self.check()

    def check(self) -> None:
        """Raise ValueError for a setting out of range."""
        if self.train not in TRAIN:
            raise ValueError(f"train must be one of {', '.join(TRAIN)}; got {self.train!r}.")
        for name in ("lr", "clip", "head_lr", "lora_alpha"):
            if not (isinstance(getattr(self, name), Real) and 0 < getattr(self, name) < inf):
                raise ValueError(f"{name} must be a number above 0, got {getattr(self, name)!r}.")
        for name in ("weight_decay", "l1", "cosine", "keep", "geometry", "warmup"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}.")
        check_whole(1, batch=self.batch, epochs=self.epochs, finer=self.finer)
        check_whole(1, lora_rank=self.lora_rank, adapter_width=self.adapter_width)
        for name in ("flip", "blend"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in 0..1, got {getattr(self, name)}.")
        if not self.l1 + self.cosine + self.geometry > 0:
            raise ValueError("l1, cosine and geometry are all 0: nothing pulls the features towards the scene.")
        if self.train == "adapter" and self.blend:
            raise ValueError(f"blend is {self.blend}, but an adapter has no original weights to blend with: use blend=0.")
        if not self.lora_layers or not set(self.lora_layers) <= {"qkv", "proj"}:
            raise ValueError(f"lora_layers must name qkv, proj or both; got {self.lora_layers}.")

    def lr_at(self, step: int, steps: int) -> float:
        """Factor of the learning rate in step ``step`` (from 0) of ``steps``."""
        from math import cos, pi

        rise = min(1.0, (step + 1) / (self.warmup + 1))
        return rise * (0.5 * (1 + cos(pi * step / steps)) if self.decay else 1.0)

    def settings(self) -> dict:
        """All settings, as JSON can hold them."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}


LITE = Recipe(lr=1e-4, batch=4, epochs=6, warmup=10, decay=True, geometry=0.05, restore_spread=True)
RECIPES = {
    "paper": Recipe(),
    "lite": LITE,
    "brief": replace(LITE, epochs=3),
    # "lite" takes 30 steps on 20 photos, 10 of them warm-up. This one takes 100, and stays near the original, since one
    # scene is little to learn from.
    "one-scene": Recipe(lr=1e-4, batch=2, epochs=10, warmup=3, decay=True, geometry=0.05, keep=0.3, restore_spread=True),
}


def named_recipe(recipe: str | Recipe, **changes) -> Recipe:
    """The recipe of that name with some settings changed. ValueError for an unknown name or setting."""
    if isinstance(recipe, str):
        if recipe not in RECIPES:
            raise ValueError(f"recipe must be one of {', '.join(RECIPES)}, or a Recipe; got {recipe!r}.")
        recipe = RECIPES[recipe]
    check_kind(Recipe, recipe=recipe)
    unknown = sorted(changes.keys() - {f.name for f in fields(Recipe)})
    if unknown:
        raise ValueError(
            f"fine-tuning has no setting {', '.join(unknown)}; it has {', '.join(f.name for f in fields(Recipe))}."
        )
    return replace(recipe, **changes)
