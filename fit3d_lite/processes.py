"""One process or many: what fine-tuning needs to know of torch.distributed, the same words for both."""

from __future__ import annotations

import torch
import torch.distributed as dist


def running() -> bool:
    return dist.is_available() and dist.is_initialized()


def world() -> int:
    return dist.get_world_size() if running() else 1


def rank() -> int:
    return dist.get_rank() if running() else 0


def total(*numbers: float, device=None) -> list[float]:
    """Each number summed over all processes."""
    return _reduced(numbers, device, dist.ReduceOp.SUM) if running() else list(numbers)


def least(number: int, device=None) -> int:
    """The smallest of all processes' numbers."""
    return int(_reduced([number], device, dist.ReduceOp.MIN)[0]) if running() else number


def gathered(thing) -> list:
    """One picklable thing of every process, in order of rank."""
    if not running():
        return [thing]
    things = [None] * world()
    dist.all_gather_object(things, thing)
    return things


def _reduced(numbers, device, how) -> list[float]:
    tensor = torch.tensor(numbers, dtype=torch.float64, device=device)
    dist.all_reduce(tensor, how)
    return tensor.tolist()
