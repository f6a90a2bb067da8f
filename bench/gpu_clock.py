"""Time and memory on a GPU: events on its own clock, the median of several runs, the peak of its allocator."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Took:
    """Median milliseconds and peak megabytes above what was held before."""

    ms: float
    mb: float


def measure(device: torch.device, call, repeat: int = 7) -> Took | None:
    """One warm-up, then ``repeat`` timed calls, two where one takes half a second; None when memory runs out."""
    try:
        call()  # compiles, allocates
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        begin = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        repeat = 2 if time.perf_counter() - begin > 0.5 else repeat
        if device.type != "cuda":
            return Took(1000 * min(_seconds(call) for _ in range(repeat)), 0.0)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        times = []
        for _ in range(repeat):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            call()
            end.record()
            end.synchronize()
            times.append(begin.elapsed_time(end))
        return Took(statistics.median(times), (torch.cuda.max_memory_allocated(device) - before) / 2**20)
    except torch.OutOfMemoryError:
        pass
    torch.cuda.empty_cache()
    return None


def _seconds(call) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def bandwidth(device: torch.device) -> float:
    """Bytes a second that a plain copy of 1 GB reaches, reading and writing counted: the roof of what memory allows."""
    size = 2**28 if device.type == "cuda" else 2**24
    source = torch.empty(size, dtype=torch.float32, device=device).normal_()
    target = torch.empty_like(source)
    took = measure(device, lambda: target.copy_(source))
    return 2 * 4 * size / (took.ms / 1000)
