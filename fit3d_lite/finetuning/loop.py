"""3D-aware fine-tuning, the second stage of FiT3D: pull a ViT's features towards what the Gaussians say.

    tuned = finetune(vit, scenes, lifted)                       # a new ViT; the original is untouched
    tuned = finetune(vit, scenes, lifted, recipe="paper")       # the paper's settings
    tuned.history.plot()                                        # loss, standard-deviation ratio, cosine to the original

Each step takes a few photos of any scene, renders the lifted features from the same cameras at the patch grid, and
takes one step of AdamW on their distance (arXiv 2407.20229). What is trained, how, and what else pulls is
the recipe's (recipes.py). From a shell, and on several GPUs: ``python -m fit3d_lite finetune --help``.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from tqdm import tqdm

from ..backbones.adapters import merge_lora
from ..base.history import History
from ..base.inputs import check_callable, check_kind, check_vit, check_whole
from ..base.machine import usual_torch
from ..base.whole import check_writable
from ..lifting.lifted import Lifted
from ..scenes.scene import Scene
from . import processes
from .recipes import Recipe, named_recipe
from .sampling import Sampler
from .state import Checkpoint, content_of
from .step import Trainer
from .targets import Targets

if TYPE_CHECKING:  # at run time vit.py costs four seconds, and whoever has a ViT has paid them
    from ..backbones.vit import ViT

__all__ = ["finetune"]


@usual_torch()
def finetune(
    vit: ViT,
    scenes: Sequence[Scene],
    lifted: Sequence[Lifted | str | Path] | Targets,  # of each scene; a path is one that Lifted.save wrote
    recipe: str | Recipe = "lite",
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    targets: str = "auto",
    shards: int = 1,
    at_once: int | None = None,
    grad_checkpointing: bool | str = "auto",
    cache: str | Path | None = None,
    checkpoint: str | Path | None = None,
    every: int = 50,
    resume: bool = False,
    stop: int | None = None,
    log: str | Path | None = None,
    watch: int = 5,
    on_step: Callable[[History], None] | None = None,
    progress: bool = True,
    **changes,
) -> ViT:
    """Fine-tune ``vit`` on scenes and the features that were lifted from it; returns a new ViT, in evaluation mode.

    Args:
        lifted: or ready :class:`Targets`, such as a control (:class:`ShuffledPoses`).
        recipe: "lite", "brief", "paper", "one-scene" or a :class:`Recipe`; ``changes`` change settings of it
            (``lr=…, train="lora"``).
        dtype: of the products (autocast): fp32; ``run.dtype`` is the fast one of a GPU. fp16 comes with a GradScaler.
        targets: keep rendered targets in "memory" or on "disk", "render" them anew each time, or "auto".
        shards: see :class:`Sampler`.
        at_once: images on the device at once; fewer than the batch add up to it. Halved when memory runs out.
        grad_checkpointing: keep less for the backward pass and compute it again (:meth:`ViT.set_grad_checkpointing`):
            True, False, or "auto": as the ViT has it, and switched on where one image does not fit without.
        cache: folder to keep the original's features of up to 32 photos in, on which scales are measured: a second run on
            the same photos, such as a control, need not make them again.
        checkpoint: file for the state of the run, written every ``every`` steps, at the end, and on Ctrl-C.
        resume: go on from ``checkpoint`` if it is there; on a CPU the result is the same to the last bit.
        stop: stop after this many steps, with a checkpoint, as an interruption would.
        log: file for one JSON line a step.
        watch: steps between two looks at standard-deviation ratio and cosine to the original (they cost a forward pass).
        on_step: called with the history after each step; ``viz.LivePlot()`` is one. On a GPU each call waits for the
            step; without it numbers are read every few steps, see :class:`History`.

    The result carries ``.history`` (a :class:`History`). Under torch.distributed every process passes *its own* scenes
    and lifted features, ``batch`` is each process's, gradients are exactly those of the joint batch, and the first
    process writes.

    Raises:
        ValueError: no scenes; scenes of different sizes; lifted features that are not this ViT's width; recipe settings
            out of range; a batch larger than the views.
        ArtifactMismatch: the checkpoint was made with other settings.
        FloatingPointError: the loss is not finite. MemoryError: one image does not fit.
    """
    recipe = named_recipe(recipe, **changes)
    check_vit(vit)
    check_callable(on_step=on_step)
    check_whole(0, seed=seed)
    if vit.mean.dtype != torch.float32:
        raise ValueError(f"The weights are {vit.mean.dtype}, too coarse to train: load the ViT in float32; dtype= makes it fast.")
    scenes = [scenes] if isinstance(scenes, Scene) else scenes
    lifted = [lifted] if isinstance(lifted, Lifted | str | Path) else lifted
    grid = _checked_grid(vit, scenes, lifted, recipe.finer)
    check_whole(1, every=every, watch=watch, at_once=at_once, stop=stop, shards=shards)
    if dtype not in (torch.float32, torch.float16, torch.bfloat16):
        raise ValueError(f"dtype must be torch.float32, torch.float16 or torch.bfloat16, got {dtype!r}.")
    if grad_checkpointing not in (True, False, "auto"):
        raise ValueError(f'grad_checkpointing must be True, False or "auto", got {grad_checkpointing!r}.')
    if resume and checkpoint is None:
        raise ValueError("resume=True needs checkpoint=, the file to go on from.")
    # Now, and not after the first steps.
    checkpoint, log = (None if path is None else check_writable(path) for path in (checkpoint, log))
    rendered = lifted if isinstance(lifted, Targets) else Targets(scenes, lifted, vit.channels, grid, targets)
    device, first = vit.mean.device, not processes.rank()
    sampler = Sampler([s for s, _ in rendered.where], recipe.batch, shards, seed, processes.rank() * shards)
    sampler.steps = processes.least(sampler.steps, device)  # the same in every process
    steps = sampler.steps * recipe.epochs
    # Hashing every photo takes time, and only a run that is kept is ever compared with another.
    settings = {} if checkpoint is None else _settings(vit, scenes, rendered, recipe, seed, dtype, shards)
    # What a run draws (LoRA's start, dropout if a ViT has any) depends on its seed and on nothing before it.
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        trainer = Trainer(vit, scenes, rendered, recipe, dtype, at_once, grad_checkpointing, cache)
        torch.manual_seed(seed + processes.rank())
        run = Checkpoint(checkpoint, every, settings, trainer.parts(), device)
        history = History(accept=trainer.accept_or_raise)
        if resume and checkpoint.is_file():
            history = History(run.load(), accept=trainer.accept_or_raise)
        else:
            trainer.begin()
        if log is not None and first:
            history.log_to(log)  # rows after the checkpoint will come again
        end = min(steps, stop or steps)
        bar = tqdm(range(len(history), end), "fine-tuning", initial=len(history), total=steps, unit="step",
                   mininterval=1, disable=not (progress and first))  # fmt: skip
        with _interruptions() as interrupted:
            for step in bar:
                began = time.perf_counter()
                look = step % watch == 0 or step + 1 == steps
                views, chances = sampler(step)
                mirrored = [c < recipe.flip for c in chances]
                row = {"step": step, "epoch": step // sampler.steps, "views": views, "mirrored": mirrored}
                row |= trainer.step(views, mirrored, recipe.lr_at(step, steps), look)
                history.add(row, began)
                if look or on_step is not None:
                    history.sync()
                    bar.set_postfix(loss=f"{history.last('loss', 20):.3f}", refresh=False)
                if on_step is not None:
                    try:
                        on_step(history)
                    except Exception:
                        if not processes.running():  # writing takes all processes, and the others are not here
                            run.keep_if_due(history, last=True)
                        raise
                # Where one process stops, all do: the others would wait for it in the next step.
                stopped = processes.total(len(interrupted), device=device)[0] > 0
                run.keep_if_due(history, last=stopped or step + 1 == end)
                if stopped:
                    kept = "" if checkpoint is None else f"; {checkpoint} holds it, resume=True goes on"
                    raise KeyboardInterrupt(f"stopped after step {step + 1} of {steps}{kept}")
    return _finished(vit, trainer.student.vit, recipe, History(history))  # a copy that holds no trainer


def _checked_grid(vit, scenes, lifted, finer: int) -> tuple[int, int]:
    for scene in scenes or ():
        check_kind(Scene, each_scene=scene)
    if not scenes:
        raise ValueError("There are no scenes to fine-tune on.")
    if isinstance(lifted, Targets):
        if lifted.scenes is not scenes and list(lifted.scenes) != list(scenes):
            raise ValueError("These targets were made for other scenes than the ones to fine-tune on.")
    elif len(scenes) != len(lifted):
        raise ValueError(f"{len(scenes)} scenes but lifted features of {len(lifted)}: each scene needs its own.")
    sizes = sorted({(scene.height, scene.width) for scene in scenes})
    if len(sizes) > 1:
        said = ", ".join(f"{h}×{w}" for h, w in sizes)
        raise ValueError(
            f"The scenes have photos of {len(sizes)} sizes ({said}, H×W): bring them to one by scene.resized(width, height)."
        )
    grid = tuple(finer * side for side in vit.grid(*sizes[0]))
    if isinstance(lifted, Targets) and (lifted.channels, lifted.grid) != (vit.channels, grid):
        raise ValueError(
            f"The targets are {lifted.channels} channels on {lifted.grid}; of this ViT and finer={finer} they must be "
            f"{vit.channels} on {grid} (h, w)."
        )
    return grid


def _settings(vit, scenes, targets, recipe, seed, dtype, shards) -> dict:
    """What must be the same for a run to be continued."""
    mine = [f"{s.name}, {len(s)} views of {s.height}×{s.width}, content {content_of(s)}" for s in scenes]
    return recipe.settings() | {
        "targets": [type(targets).__name__, *(one.settings for one in targets.lifted)],
        "vit": vit.fingerprint(), "scenes": sum(processes.gathered(mine), []),
        "seed": seed, "dtype": str(dtype), "shards": shards, "processes": processes.world(),
    }  # fmt: skip


@torch.no_grad()
def _finished(vit, tuned, recipe, history):
    """The trained ViT as one that can be used: LoRA merged, blended with the original, nothing frozen."""
    merge_lora(tuned.model)
    if recipe.blend:
        for mine, old in zip(tuned.model.parameters(), vit.model.parameters(), strict=True):
            mine.lerp_(old, recipe.blend)
    tuned.set_grad_checkpointing(vit.grad_checkpointing)
    tuned.history = history
    return tuned.requires_grad_(True).eval()


@contextmanager
def _interruptions():
    """A list that Ctrl-C (or a notebook's stop button) fills, so that a step is never cut in two.

    A second Ctrl-C interrupts at once. Outside the main thread signals cannot be caught, and nothing changes.
    """
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = signal.getsignal(signal.SIGINT)

    def note(number, frame):
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    signal.signal(signal.SIGINT, note)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)
