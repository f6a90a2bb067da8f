"""Peak memory of the full profile on a real GPU, under a cap that imitates a T4; beside what bench/vit_memory.py computed.

    python -m bench.gpu_memory            # needs CUDA; `make bench-gpu` calls memory_table()
"""

from __future__ import annotations

import functools
import gc
from contextlib import contextmanager

import torch

from fit3d_lite import Gaussians, Scene, finetune, lift, load_vit, room

from .report import table
from .vit_memory import LIMIT, MODELS, NAMES, SIZE, extract_bytes, gigabytes, step_bytes


@contextmanager
def capped(limit: float = LIMIT * 1e9):
    """Inside, this process may take ``limit`` bytes of the GPU and no more; asking for more is "out of memory"."""
    total = torch.cuda.mem_get_info()[1]
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(min(1.0, limit / total))
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def peak_of(work) -> tuple[int, int] | None:
    """Most bytes at once during ``work()``: of tensors, and of what the allocator had to reserve for them, which is what the
    cap limits. None when it ran out."""
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    try:
        work()
        torch.cuda.synchronize()
    except (torch.OutOfMemoryError, MemoryError):
        return None
    return torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()


@functools.cache  # tracing takes seconds
def photos(views: int, size: int) -> Scene:
    return room(0, views, size)


def finetuning_peak(name: str, recipe: str, batch: int, dtype, checkpointing: bool, size: int = SIZE):
    """:func:`peak_of` three steps of finetune on one room, images at once = batch."""
    vit = load_vit(name, "random", device="cuda")
    scene = photos(max(4, batch), size).to("cuda")
    cloud = Gaussians.from_depth(scene, count=4000).to("cuda")
    lifted = lift(cloud, scene.cameras, vit.extract(scene.images))
    options = dict(batch=batch, at_once=batch, dtype=dtype, grad_checkpointing=checkpointing, epochs=6, stop=3)
    return peak_of(lambda: finetune(vit, [scene], [lifted], recipe, progress=False, **options))


def extraction_peak(name: str, batch: int, dtype, size: int = SIZE):
    vit = load_vit(name, "random", device="cuda")
    images = torch.rand(batch, 3, size, size, device="cuda")
    return peak_of(lambda: vit.extract(images, batch=batch, dtype=dtype, quiet=True))


def memory_table(size: int = SIZE, models=MODELS) -> str:
    """Measured peaks under a cap of 12 GB, and what was computed without a GPU, as Markdown."""
    rows = []

    def row(what: str, measured: tuple[int, int] | None, computed: int) -> None:
        said = ["out of memory", ""] if measured is None else [f"{gigabytes(size):.2f}" for size in measured]
        rows.append([what, *said, f"{gigabytes(computed):.2f}"])

    with capped():
        for name in models:
            plain = load_vit(name, "random", device="cpu")
            for batch, recipe in ((2, "paper"), (4, "lite")):
                for dtype in (torch.float32, torch.float16):
                    for checkpointing in (False, True):
                        row(
                            f"{name}, {recipe}, {batch} images, {NAMES[dtype]}{', checkpointing' if checkpointing else ''}",
                            finetuning_peak(name, recipe, batch, dtype, checkpointing, size),
                            step_bytes(plain, recipe, batch, dtype, checkpointing, size=size),
                        )
            for dtype in (torch.float32, torch.float16):
                row(
                    f"{name}, features of 16 images at once, {NAMES[dtype]}",
                    extraction_peak(name, 16, dtype, size),
                    extract_bytes(plain, 16, dtype, size),
                )
    head = f"{torch.cuda.get_device_name()}, capped at {LIMIT:.0f} GB; photos of {size} × {size}."
    return f"{head}\n\n" + table(["what", "tensors, GB", "reserved, GB", "tensors, computed, GB"], rows)


if __name__ == "__main__":
    print(memory_table())
