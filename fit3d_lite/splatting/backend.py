"""Which code draws: plain torch, Triton or gsplat. All three give the same numbers (tests/splatting/gpu/test_gpu_parity.py).

* ``"torch"``: the reference, on every device and in every float type.
* ``"triton"``: four kernels of our own (gpu/triton_kernels.py): the blend forward and backward, and two that count and
  write the entries of a view matrix; CUDA only. Triton comes with torch on Linux and compiles them in seconds when they
  are first used.
* ``"gsplat"``: the fast CUDA rasteriser, if its extension is built. Building takes a quarter of an hour on Colab, so
  nothing here ever starts it: ``f3d.build_gsplat()`` does, in the background.
* ``"auto"``: on a GPU, gsplat when it is built, else Triton if it gives torch's numbers here (tried once, on a small
  cloud, when it is first wanted), else torch. On a CPU, torch.

``set_backend`` says what "auto" means from now on, for experiments.
"""

from __future__ import annotations

import functools
import importlib
import warnings
from types import ModuleType

import torch
from torch import Tensor

NAMES = ("auto", "torch", "triton", "gsplat")
_MODULES = {"triton": "triton_draw", "gsplat": "gsplat_draw"}
_default = "auto"


def set_backend(name: str) -> None:
    """What ``backend="auto"`` means from now on: "torch", "triton", "gsplat", or "auto" again.

    Raises ValueError for another name.
    """
    global _default
    _default = _known(name)


def choose(backend: str, cloud, values: Tensor | None = None) -> str:
    """The backend that will draw ``cloud`` (a Gaussians): "torch", "triton" or "gsplat".

    Raises ValueError for an unknown name, and when the one asked for cannot run here; "auto" never fails.
    """
    backend = _known(backend)
    if backend == "auto":
        backend = _default
    device, dtypes = cloud.means.device, {cloud.means.dtype, torch.float32 if values is None else values.dtype}
    if backend == "auto":
        if device.type != "cuda" or dtypes != {torch.float32}:
            return "torch"
        if module("gsplat").ready():
            return "gsplat"
        return "triton" if triton_agrees(device) else "torch"
    if backend == "torch":
        return backend
    problem = module(backend).problem(device)
    if problem:
        raise ValueError(f"backend={backend!r} cannot run here: {problem}. backend='auto' takes what can.")
    if dtypes != {torch.float32}:
        kinds = ", ".join(sorted(str(d).removeprefix("torch.") for d in dtypes))
        raise ValueError(f"backend={backend!r} draws float32 only, got {kinds}; backend='torch' takes any float type.")
    return backend


def module(name: str) -> ModuleType:
    """The module behind a backend; imported when first needed, as Triton and gsplat are."""
    return importlib.import_module(f".gpu.{_MODULES[name]}", __package__)


def describe(device: torch.device | str) -> str:
    """One line for the setup card: what "auto" would draw with on this device."""
    if _default != "auto":
        return f"{_default} (set_backend)"
    if torch.device(device).type != "cuda":
        return "torch"
    if module("gsplat").ready():
        return "gsplat"
    wish = "gsplat is not built: f3d.build_gsplat() does it in the background"
    return f"{'torch' if module('triton').problem(device) else 'triton, compiled at first use'} ({wish})"


def _known(name: str) -> str:
    if name not in NAMES:
        raise ValueError(f"backend must be one of {', '.join(NAMES)}, got {name!r}.")
    return name


@functools.cache
def triton_agrees(device: torch.device) -> bool:
    """Whether Triton's kernels compile here and give torch's picture and gradients on a small cloud; False warns once.

    The kernels are compiled by this, which whoever draws would wait for anyway.
    """
    triton = module("triton")
    if triton.problem(device):
        return False
    try:
        off = triton.disagreement(device)
    except Exception as error:  # a compiler can fail in more ways than can be listed, and torch still draws
        warnings.warn(f"Triton's kernels do not run here ({type(error).__name__}: {error}); drawing with torch.")
        return False
    agrees = off <= 1e-3  # float32 against float32 on a benign cloud: 1e-6 is usual, a wrong kernel is far beyond
    if not agrees:
        warnings.warn(f"Triton's kernels differ from torch by {off:.1e} here; drawing with torch.")
    return agrees
