"""Fitting photos and fine-tuning a ViT on a GPU: steps a second by backend and precision, and peak memory."""

from __future__ import annotations

import time

import torch

from fit3d_lite import Gaussians, finetune, fit, lift, load_vit, photo_psnr, room, set_backend
from fit3d_lite.base.machine import best_dtype

from .report import table


def fitting(device: torch.device, backends: list[str], tiny: bool) -> str:
    """The fit of lesson 01 at its full-profile size."""
    views, size, count, steps = (4, 32, 60, 2) if tiny else (24, 224, 40_000, 600)
    scene = room(0, views, size).to(device)
    held = room(0, 4, size, split="holdout").to(device)
    start = Gaussians.from_depth(scene, count=count).to(device)
    rows = []
    for name in backends:
        set_backend(name)
        fit(start, scene, min(steps, 10), progress=False)  # compiles
        begin = time.perf_counter()
        fitted = fit(start, scene, steps, progress=False)
        if device.type == "cuda":
            torch.cuda.synchronize()
        took = time.perf_counter() - begin
        psnr = sum(photo_psnr(fitted, held)) / len(held)
        rows.append([name, f"{steps / took:.1f}", f"{took:.1f}", f"{psnr:.2f}"])
    set_backend("auto")
    return (
        f"## Fitting {count:,} Gaussians to {views} photos of {size}², {steps} steps\n\n"
        + table(["backend", "steps a second", "s", "held-out PSNR, dB"], rows)
    )


def finetuning(device: torch.device, tiny: bool) -> str:
    """Steps a second of the lite recipe, random weights (speed does not depend on them), lesson 03's full-profile size."""
    names, size, views, steps = (("small",), 56, 4, 2) if tiny else (("dinov2_small", "dinov2_base"), 518, 16, 20)
    scene = room(0, views, size).to(device)
    cloud = Gaussians.from_depth(scene, count=60 if tiny else 40_000).to(device)
    rows = []
    for model in names:
        vit = load_vit(model, weights="random", device=device)
        lifted = lift(cloud, scene.cameras, vit.extract(scene.images))
        for dtype in dict.fromkeys((torch.float32, torch.float16, best_dtype(device))):
            options = {"epochs": 8, "dtype": dtype, "progress": False, "watch": 10**6}
            finetune(vit, [scene], [lifted], "lite", stop=1, **options)
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            tuned = finetune(vit, [scene], [lifted], "lite", stop=steps, **options)
            seconds = tuned.history.column("seconds")[1][1:]
            peak = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else 0.0
            kind = str(dtype).removeprefix("torch.")
            rows.append([model, kind, f"{len(seconds) / sum(seconds):.2f}", f"{peak:.1f}"])
    return (
        f"## Fine-tuning at {size}², the lite recipe, 4 images a step\n\n"
        + table(["ViT", "precision", "steps a second", "peak, GB"], rows)
    )


def memory(device: torch.device, tiny: bool) -> str:
    """Peak memory under a cap that imitates a T4."""
    if device.type != "cuda":
        return "## Memory\n\nnot measured: no CUDA device"
    from .gpu_memory import memory_table

    return "## Memory of the full profile, capped as on a T4\n\n" + memory_table()
