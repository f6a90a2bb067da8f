"""One process or many: what fine-tuning needs to know of torch.distributed, the same words for both."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def running() -> bool:
    return dist.is_available() and dist.is_initialized()


def world() -> int:
    return dist.get_world_size() if running() else 1


def rank() -> int:
    return dist.get_rank() if running() else 0


def summed(tensor: Tensor) -> Tensor:
    """The tensor summed over all processes."""
    if running():
        tensor = tensor.clone()
        dist.all_reduce(tensor)
    return tensor


def total(*numbers: float, device=None) -> list[float]:
    """Each number summed over all processes."""
    return summed(torch.tensor(numbers, dtype=torch.float64, device=device)).tolist() if running() else list(numbers)


def moments(rows: Tensor, device) -> tuple[Tensor, Tensor]:  # [P, C] -> [C], [C]
    """Mean and standard deviation over the rows of all processes."""
    sums = torch.cat([rows.sum(0), rows.square().sum(0), rows.new_tensor([len(rows)])])
    sums = summed(sums.to(device)).cpu()
    first, second = sums[:-1].view(2, -1) / sums[-1]
    return first, (second - first**2).clamp_min(0).sqrt()


def least(number: int, device=None) -> int:
    """The smallest of all processes' numbers."""
    if not running():
        return number
    tensor = torch.tensor(number, device=device)
    dist.all_reduce(tensor, dist.ReduceOp.MIN)
    return int(tensor)


def gathered(thing) -> list:
    """One picklable thing of every process, in order of rank."""
    if not running():
        return [thing]
    things = [None] * world()
    dist.all_gather_object(things, thing)
    return things
