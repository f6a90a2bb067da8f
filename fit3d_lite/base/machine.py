"""What machine is this: Colab or not, which float type the GPU is good at, where downloads, artifacts and the files that
come with the course lie."""

from __future__ import annotations

import os
import re
import subprocess
import warnings
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch

_HERE = Path(__file__).resolve().parents[1]
# A checkout has assets/ beside the package, for readers; an install carries it inside (see pyproject.toml).
ASSET_FOLDERS = (_HERE.parent / "assets", _HERE / "assets")


def on_colab() -> bool:
    """True inside Google Colab, which sets this variable; the package google.colab can be installed anywhere."""
    return "COLAB_RELEASE_TAG" in os.environ


def origin(init: Path = _HERE / "__init__.py") -> tuple[str, list[str]]:
    """This package's version, and the commit that it is from with its parents, 40 digits each; none where nothing knows it.

    A zip from GitHub says it in ``__commit__``, a checkout's git in its log.
    """
    source = init.read_text(encoding="utf-8")
    version, text = (re.search(rf'^{x} = "(.*?)"', source, re.MULTILINE)[1] for x in ("__version__", "__commit__"))
    if text.startswith("$") and (init.parents[1] / ".git").exists():
        try:
            asked = ["git", "-C", init.parent, "log", "-1", "--format=%H %P"]
            text = subprocess.run(asked, capture_output=True, text=True).stdout
        except FileNotFoundError:  # no git on this machine
            pass
    return version, re.findall(r"\b[0-9a-f]{40}\b", text)


def cache_folder(cache=None) -> Path:
    """Where downloads are kept: ``cache`` or FIT3D_CACHE; else /content/fit3d_cache on Colab, ~/.cache/fit3d_lite."""
    if cache or os.environ.get("FIT3D_CACHE"):
        return Path(cache or os.environ["FIT3D_CACHE"]).expanduser()
    return Path("/content/fit3d_cache") if on_colab() else Path.home() / ".cache" / "fit3d_lite"


def asset(name: str) -> Path:
    """Path of a file that comes with fit3d_lite, such as ``vit_small.safetensors``.

    Raises:
        FileNotFoundError: when neither the checkout nor the install has it; the message names both folders.
    """
    for folder in ASSET_FOLDERS:
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(
        f"the asset {name!r} is in neither {ASSET_FOLDERS[0]} nor {ASSET_FOLDERS[1]}; "
        "install fit3d_lite again from its repository, or work in a full checkout"
    )


def usable_device(device=None) -> torch.device:
    """``device``, by default the GPU if there is one. Raises ValueError for one that cannot be used here."""
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, TypeError) as error:
        said = str(error).strip().splitlines()[0]
        raise ValueError(f"device {device!r} cannot be used here: {said[:200]}") from None


def best_dtype(device: torch.device) -> torch.dtype:
    """Precision for autocast: bf16 from compute capability 8.0, fp16 below it (a T4 is 7.5), fp32 on a CPU.

    ``torch.cuda.is_bf16_supported()`` is no guide: it says True on a T4, which only emulates bf16.
    """
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16


@contextmanager
def usual_torch(grad: bool | None = True):
    """Gradients, float32 and the CPU as default, whatever the caller has set: inference_mode, no_grad, set_default_dtype
    and set_default_device would reach every tensor made inside. Also a decorator: ``@usual_torch()``. ``grad=None`` leaves
    gradients as they are."""
    before, grad = torch.get_default_dtype(), torch.is_grad_enabled() if grad is None else grad
    elsewhere = torch.get_default_device().type != "cpu"
    torch.set_default_dtype(torch.float32)
    try:
        with torch.inference_mode(False), torch.set_grad_enabled(grad), torch.device("cpu") if elsewhere else nullcontext():
            yield
    finally:
        torch.set_default_dtype(before)


def out_of_memory(error: RuntimeError) -> bool:
    """True for torch.OutOfMemoryError and for the CPU's, which has no class of its own."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def quiet_sparse() -> None:
    """Settle torch's two notes on sparse CSR tensors (beta state, invariant checks), which would open every notebook."""
    warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")
    if not torch.sparse.check_sparse_tensor_invariants.is_enabled():
        torch.sparse.check_sparse_tensor_invariants.disable()
