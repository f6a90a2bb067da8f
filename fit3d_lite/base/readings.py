"""Numbers that stay on the GPU until somebody wants to see them.

A GPU works off a queue that the CPU fills. To read one number (``loss.item()``) the CPU waits until the queue is empty,
and the GPU then waits for the CPU to fill it again. So a training loop keeps its numbers as tensors, and reads those of
several steps at once.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

LATEST = 10  # steps after which a loop reads its numbers, whether anybody asked or not


def read(rows: Sequence[dict]) -> None:
    """Replace every tensor of one number in ``rows`` by a float, in place and with one wait for all of them."""
    places = [(row, name) for row in rows for name, value in row.items() if isinstance(value, Tensor)]
    if not places:
        return
    values = torch.stack([row[name].detach().double() for row, name in places]).tolist()
    for (row, name), value in zip(places, values, strict=True):
        row[name] = value
