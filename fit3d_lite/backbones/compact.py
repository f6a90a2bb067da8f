"""Weights in few bytes, for the files that come with the course: int8 matrices, and low-rank differences between two ViTs.

What training changed in a matrix has few large singular values (LoRA, Hu et al. 2021, starts from that), so a fine-tuned
network beside its original is the original's file and, for each matrix, two thin ones: W = W_original + up @ down.
"""

from __future__ import annotations

import torch
from torch import Tensor

SCALE, UP, DOWN = ".scale", ".up", ".down"


def is_matrix(key: str, tensor: Tensor) -> bool:
    """Linear layers and the patch embedding; not norms, biases, positions or the CLS token, which are small."""
    return tensor.ndim > 1 and key.endswith((".weight", UP, DOWN))


def to_int8(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Matrices as int8 with one fp32 step for each output channel (``KEY.scale``); everything else as fp16.

    A weight moves by half a step at most: 1/254 of the largest of its channel.
    """
    small = {}
    for key, tensor in state.items():
        if not is_matrix(key, tensor):
            small[key] = tensor.to(torch.float16)
            continue
        rows = tensor.float().flatten(1)
        scale = rows.abs().amax(1, keepdim=True).clamp_min(1e-12) / 127
        small[key] = (rows / scale).round().to(torch.int8).view_as(tensor)
        small[key + SCALE] = scale[:, 0]
    return small


def from_int8(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """What :func:`to_int8` made as float32; a state dict without int8 comes back as it is.

    Raises ValueError for an int8 tensor without its scales."""
    whole = {}
    for key, tensor in state.items():
        if tensor.dtype == torch.int8:
            scale = state.get(key + SCALE)
            if scale is None or scale.shape != tensor.shape[:1]:
                raise ValueError(f"{key} is int8 {list(tensor.shape)} and needs {key + SCALE} [{tensor.shape[0]}]")
            tensor = tensor.float() * scale.view(-1, *[1] * (tensor.ndim - 1))
        if not key.endswith(SCALE):
            whole[key] = tensor
    return whole


def difference(state: dict[str, Tensor], base: dict[str, Tensor], rank: int) -> dict[str, Tensor]:
    """``state`` as its difference to ``base``: for each matrix the best ``up`` [out, r] and ``down`` [r, in] of rank r
    (singular value decomposition), everything else whole."""
    small = {}
    for key, tensor in state.items():
        if not is_matrix(key, tensor):
            small[key] = tensor
            continue
        U, S, Vh = torch.linalg.svd((tensor.float() - base[key].float()).flatten(1), full_matrices=False)
        root = S[:rank].sqrt()
        small[key + UP], small[key + DOWN] = U[:, :rank] * root, root[:, None] * Vh[:rank]
    return small


def added(base: dict[str, Tensor], small: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of which :func:`difference` was taken, in the precision of its factors."""
    whole = {key: tensor for key, tensor in small.items() if not key.endswith((UP, DOWN))}
    for key in (key.removesuffix(UP) for key in small if key.endswith(UP)):
        whole[key] = base[key].float() + (small[key + UP].float() @ small[key + DOWN].float()).view_as(base[key])
    return whole
