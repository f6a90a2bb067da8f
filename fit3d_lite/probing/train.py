"""How a head is trained on frozen features: the settings, the learning rate over time, and the loop.

"paper" is FiT3D's recipe as far as features that are extracted once allow: its optimizer, learning rates, schedules,
batch (8 GPUs × 2 photos) and number of steps. Left out are the augmentations that need a ViT pass a step (random scale
and crop, colors); mirrored photos are kept, since their features can be extracted once as well. "light" trains
in seconds on a CPU: fewer steps at a higher rate, and in each step a lattice of pixels of every photo instead of all.

How long is long enough? Until copies of the same features gain nothing. A wider head learns faster, so one that is
stopped early makes anything wider look better: at a third of the light rate and three quarters of its steps
features of 192 channels beside themselves gained 0.015 mIoU over themselves, and beside fine-tuned ones no more.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..base.history import History
from ..base.inputs import check_whole

__all__ = ["LIGHT", "PAPER", "Step", "Training", "fit_head", "training_of"]


@dataclass(frozen=True)
class Training:
    """Settings of one training; AdamW with betas 0.9 and 0.999."""

    steps: int
    batch: int  # photos a step
    rate: float  # the learning rate at its highest
    weight_decay: float
    warm_up: float  # share of the steps in which the rate rises to its course, from a thousandth of it
    decay: str  # "poly" (a straight line to 0) or "cosine"
    clip: float | None = None  # largest norm of the gradient
    mirror: bool = False  # half of the batches are mirrored
    points: int | None = None  # pixels along each side of the lattice that a step looks at; None takes all
    scale_first: int = 0  # steps in which SigLoss is its scale term alone (depth)
    checks: int = 5  # times that the validation set is measured, the last time at the end

    def __post_init__(self) -> None:
        check_whole(1, steps=self.steps, batch=self.batch, checks=self.checks, points=self.points)
        if not 0 < self.rate < math.inf or not 0 <= self.warm_up < 1:
            raise ValueError(
                f"A training needs a rate > 0 and a warm-up share in 0..1; got rate={self.rate}, warm_up={self.warm_up}."
            )
        if self.decay not in ("poly", "cosine"):
            raise ValueError(f"decay must be 'poly' or 'cosine', got {self.decay!r}.")

    def rate_at(self, done: int) -> float:
        """The learning rate of the step after ``done`` steps."""
        along = done / self.steps
        course = 1 - along if self.decay == "poly" else (1 + math.cos(math.pi * along)) / 2
        rising = self.warm_up * self.steps
        if done < rising:
            course *= 1e-3 + (1 - 1e-3) * done / rising
        return self.rate * course


PAPER = {
    "segmentation": Training(40_000, 16, 1e-3, 1e-4, 1_500 / 40_000, "poly", mirror=True, checks=20),
    "depth": Training(38_400, 16, 1e-4, 0.01, 12_800 / 38_400, "cosine", clip=35.0, mirror=True, scale_first=100, checks=20),
}
LIGHT = {
    "segmentation": Training(200, 16, 1e-2, 1e-4, 0.05, "poly", points=24),
    "depth": Training(200, 16, 1e-3, 0.01, 0.05, "cosine", clip=35.0, points=16, scale_first=5),
}
# A DPT head costs a hundred times the products of a linear one and learns more slowly: half a minute on a CPU.
LIGHT_DPT = {
    "segmentation": Training(200, 4, 3e-3, 1e-4, 0.05, "poly", points=48),
    "depth": Training(200, 4, 3e-3, 0.01, 0.05, "cosine", clip=35.0, points=32, scale_first=5),
}


def training_of(task: str, head: str, training: str | Training) -> Training:
    """What "light" or "paper" means for a task and a head, or the Training given. Raises ValueError for anything else."""
    if isinstance(training, Training):
        return training
    if training not in ("light", "paper"):
        raise ValueError(f"training must be 'light', 'paper' or a Training, got {training!r}.")
    light = LIGHT_DPT if head == "dpt" else LIGHT
    return (light if training == "light" else PAPER)[task]


@dataclass(frozen=True)
class Step:
    """One step of a training, for a live curve."""

    number: int  # 1 to steps
    steps: int
    loss: float
    rate: float
    validation: float | None = None  # mIoU or RMSE where it was measured in this step


def fit_head(
    head: nn.Module,
    loss_of: Callable[[int], Tensor],  # steps done before -> the loss of a fresh batch
    training: Training,
    validate: Callable[[], float] | None = None,
    larger_is_better: bool = True,
    on_step: Callable[[Step], None] | None = None,
) -> list[Step]:
    """Train ``head`` in place and leave it in evaluation mode; with ``validate`` it is the best of all that were
    measured, without it the last.

    Raises FloatingPointError when the loss is no longer finite.
    """
    groups = getattr(head, "parameter_groups", head.parameters)()  # a group may learn at a "share" of the rate
    optimizer = torch.optim.AdamW(groups, lr=training.rate, weight_decay=training.weight_decay)
    checked = {round(training.steps * (k + 1) / training.checks) for k in range(training.checks)} if validate else ()
    best, best_state = -math.inf, None

    def accept_or_raise(row: dict) -> None:
        if not math.isfinite(row["loss"]):
            raise FloatingPointError(
                f"The loss is {row['loss']} in step {row['number']} of {training.steps} at a rate of {row['rate']:.1e}: "
                f"lower it."
            )

    history = History(accept=accept_or_raise)
    # A caller with a callback shows progress in its own way.
    quiet = on_step is not None
    for done in tqdm(range(training.steps), "training the head", unit="step", delay=10.0, mininterval=1.0, disable=quiet):
        head.train()
        rate = training.rate_at(done)
        for group in optimizer.param_groups:
            group["lr"] = rate * group.get("share", 1.0)
        loss = loss_of(done)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if training.clip is not None:
            nn.utils.clip_grad_norm_(head.parameters(), training.clip)
        row = history.add({"number": done + 1, "loss": loss.detach(), "rate": rate, "validation": None})
        if on_step is not None or done + 1 in checked or done + 1 == training.steps:
            history.sync()
        optimizer.step()
        if done + 1 in checked:
            head.eval()
            row["validation"] = validate()
            quality = row["validation"] if larger_is_better else -row["validation"]
            if quality > best:
                best, best_state = quality, copy.deepcopy(head.state_dict())
        if on_step is not None:
            on_step(Step(steps=training.steps, **row))
    if best_state is not None:
        head.load_state_dict(best_state)
    head.eval()
    return [Step(steps=training.steps, **row) for row in history]


def lattice(
    height: int, width: int, points: int, rng: torch.Generator
) -> tuple[Tensor, Tensor]:  # rows [points], columns [points]
    """Rows and columns equally far apart, shifted at random, so that over many steps every pixel is looked at."""

    def places(size: int) -> Tensor:
        count, shift = min(points, size), torch.rand((), generator=rng)
        return ((torch.arange(count) + shift) * size / count).long().clamp(max=size - 1)

    return places(height), places(width)
