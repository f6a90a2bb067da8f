"""gsplat's compiled extension: where it may lie, and how it is handed to gsplat without ever compiling.

Imported the plain way, gsplat starts its compiler when it finds no binary. So the binary is loaded here first, from its
path, and given to gsplat under the name ``gsplat.csrc`` that it looks for before it thinks of compiling.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.metadata
import importlib.util
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from ...base.machine import cache_folder

NAME = "gsplat_cuda"
ASK_AGAIN = 10.0  # seconds that a "no" is believed: a build may finish in another process
_believed: tuple[float, str | None] | None = None  # until when (time.monotonic), and why not


def library_path(arch: str, root: Path | None = None) -> Path:
    """Where the library for these versions of gsplat, torch, CUDA, Python and this architecture is kept."""
    versions = f"gsplat{importlib.metadata.version('gsplat')}-torch{torch.__version__}"
    python = f"py{sys.version_info.major}{sys.version_info.minor}"
    sm = "sm" + arch.replace(".", "")
    return (root or cache_folder() / "gsplat") / f"{versions}-{python}-{sm}" / f"{NAME}.so"


def forget() -> None:
    """Look again at the next question."""
    global _believed
    if _believed is not None and _believed[1] is not None:
        _believed = None


def why_not(works: Callable[[], None]) -> str | None:
    """None when gsplat can draw here, else the reason in one sentence, without its full stop.

    ``works`` is called when the extension is found, and raises if it does not draw right. A yes holds for the life of
    the process, a no for ten seconds or until a build is seen to finish.
    """
    global _believed
    if _believed is None or time.monotonic() > _believed[0]:
        try:
            reason = _connected()
            if reason is None:
                works()
        except Exception as problem:  # of whatever kind: a broken gsplat must not break a render that can do without
            reason = f"gsplat does not run here: {type(problem).__name__}: {problem}"
        _believed = (float("inf") if reason is None else time.monotonic() + ASK_AGAIN, reason)
    return _believed[1]


def _connected() -> str | None:
    """Find the extension, load it, hand it to gsplat; or say what is missing."""
    if not torch.cuda.is_available():
        return "gsplat draws on a CUDA device, and there is none"
    for module in ("gsplat", "packaging", "rich"):
        if importlib.util.find_spec(module) is None:
            return f"{module} is not installed: pip install gsplat==1.5.3 ninja packaging"
    backend = sys.modules.get("gsplat.cuda._backend")
    if backend is not None and backend._C is not None:
        return None  # somebody has used gsplat before
    failures = []
    for path in _candidates():
        try:
            _hand_over(_load(path))
            return None
        except ImportError as problem:
            failures.append(f"{path} cannot be loaded ({problem})")
    return "; ".join(failures) or "gsplat is not compiled yet: f3d.build_gsplat() does it in the background"


def _candidates() -> Iterator[Path]:
    """Existing libraries: of a compiled wheel, of build_gsplat, of gsplat's own compiling, in this order."""
    package = Path(importlib.util.find_spec("gsplat").origin).parent
    for ending in importlib.machinery.EXTENSION_SUFFIXES:
        if (package / f"csrc{ending}").is_file():
            yield package / f"csrc{ending}"
    major, minor = torch.cuda.get_device_capability()
    ours = library_path(f"{major}.{minor}")
    if ours.is_file():
        yield ours
    theirs = _torch_extensions() / NAME / f"{NAME}.so"
    plan = theirs.with_name("build.ninja")
    if theirs.is_file() and plan.is_file() and f"sm_{major}{minor}" in plan.read_text():
        # gsplat's own folder says nothing of torch's version, but a library older than the installed torch is not of it.
        if theirs.stat().st_mtime > Path(torch.__file__).with_name("version.py").stat().st_mtime:
            yield theirs


def _torch_extensions() -> Path:
    """Where torch keeps extensions compiled at first use (torch.utils.cpp_extension, without importing it)."""
    if named := os.environ.get("TORCH_EXTENSIONS_DIR"):
        return Path(named)
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "torch_extensions"
    cuda = re.sub(r"\.", "", torch.version.cuda or "")
    return root / f"py{sys.version_info.major}{sys.version_info.minor}{getattr(sys, 'abiflags', '')}_cu{cuda}"


def _load(path: Path):
    # The part before the first dot is how the library calls itself inside: csrc in a wheel, else gsplat_cuda.
    spec = importlib.util.spec_from_file_location(path.name.split(".")[0], path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _hand_over(module) -> None:
    gsplat = importlib.import_module("gsplat")
    gsplat.csrc = sys.modules["gsplat.csrc"] = module
    backend = importlib.import_module("gsplat.cuda._backend")
    backend._C = module  # also where it was imported before the library was there, and holds None
