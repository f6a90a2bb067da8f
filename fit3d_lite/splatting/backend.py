"""Which code draws: plain torch, numba, Triton or gsplat. All give the same numbers (tests/splatting/test_numba.py,
tests/splatting/gpu/test_gpu_parity.py).

* ``"torch"``: the reference, on every device and in every float type, and the one to read.
* ``"numba"``: loops over Gaussians and their pixels (numba_paint.py), on a CPU. numba compiles them at the very first
  use, in seconds, and keeps them.
* ``"triton"``: four kernels of our own (gpu/triton_kernels.py): the blend forward and backward, and two that count and
  write the entries of a view matrix; CUDA only. Triton comes with torch on Linux and compiles them in seconds when they
  are first used.
* ``"gsplat"``: the fast CUDA rasteriser, if its extension is built. Building takes a quarter of an hour on Colab, so
  nothing here ever starts it: ``f3d.build_gsplat()`` does, in the background.
* ``"auto"``: on a GPU, gsplat when it is built, else Triton, and Triton always for a view matrix, which gsplat cannot give
  (bench/results/gpu.md); on a CPU, numba. Triton and numba are tried once, on a small
  cloud, when they are first wanted: if they do not give torch's numbers here, torch draws.

``set_backend`` says what "auto" means from now on, for experiments.
"""

from __future__ import annotations

import functools
import importlib
import warnings
from types import ModuleType

import torch
from torch import Tensor

NAMES = ("auto", "torch", "numba", "triton", "gsplat")
_MODULES = {"numba": ".numba_draw", "triton": ".gpu.triton_draw", "gsplat": ".gpu.gsplat_draw"}
_default = "auto"


def set_backend(name: str) -> None:
    """What ``backend="auto"`` means from now on: "torch", "numba", "triton", "gsplat", or "auto" again.

    Raises ValueError for another name.
    """
    global _default
    _default = _known(name)


def choose(backend: str, cloud, values: Tensor | None = None, matrix: bool = False) -> str:
    """The backend that will draw ``cloud`` (a Gaussians): "torch", "numba", "triton" or "gsplat".

    Raises ValueError for an unknown name, and when the one asked for cannot run here; "auto" never fails.
    """
    backend = _known(backend)
    if backend == "auto":
        backend = _default
    device, dtypes = cloud.means.device, {cloud.means.dtype, torch.float32 if values is None else values.dtype}
    if backend == "auto":
        if device.type not in ("cpu", "cuda") or dtypes != {torch.float32}:
            return "torch"
        if device.type == "cuda" and not matrix and module("gsplat").ready():
            return "gsplat"
        own = "numba" if device.type == "cpu" else "triton"
        return own if agrees(own, device) else "torch"
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
    """The module behind a backend; imported when first needed, as numba, Triton and gsplat are."""
    return importlib.import_module(_MODULES[name], __package__)


def describe(device: torch.device | str) -> str:
    """One line for the setup card: what "auto" would draw with on this device."""
    if _default != "auto":
        return f"{_default} (set_backend)"
    if torch.device(device).type != "cuda":
        return "torch" if module("numba").problem(device) else "numba"
    if module("gsplat").ready():
        return "gsplat"
    wish = "gsplat is not built: f3d.build_gsplat() does it in the background"
    return f"{'torch' if module('triton').problem(device) else 'triton, compiled at first use'} ({wish})"


def _known(name: str) -> str:
    if name not in NAMES:
        raise ValueError(f"backend must be one of {', '.join(NAMES)}, got {name!r}.")
    return name


@functools.cache
def agrees(name: str, device: torch.device) -> bool:
    """Whether "numba" or "triton" compiles here and gives torch's picture and gradients on a small cloud; False warns
    once.

    What is compiled by this, whoever draws would wait for anyway.
    """
    if module(name).problem(device):
        return False
    try:
        off = module(name).disagreement(device)
    except Exception as error:  # a compiler can fail in more ways than can be listed, and torch still draws
        warnings.warn(f"{name}'s kernels do not run here ({type(error).__name__}: {error}); drawing with torch.")
        return False
    close = off <= 1e-3  # float32 against float32 on a benign cloud: 1e-6 is usual, a wrong kernel is far beyond
    if not close:
        warnings.warn(f"{name}'s kernels differ from torch by {off:.1e} here; drawing with torch.")
    return close
