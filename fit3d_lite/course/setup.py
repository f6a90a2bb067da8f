"""setup(): device, precision, profile, cache folder, seed and figure style in one call, shown as one card."""

import html
import importlib.metadata
import os
import platform
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..base import artifacts
from ..base.machine import best_dtype, cache_folder, on_colab, origin, quiet_sparse
from ..splatting import backend
from ..viz.palette import COLORS
from ..widgets.alt import describe_figures
from ..widgets.notebook import in_notebook, show
from .settings import chosen

PROFILES = {
    "quick": "procedural rooms, the embedded ViT, few steps: seconds on a CPU",
    "middle": "DINOv2-S in rooms and on the motorcycle: minutes on a T4, estimated until measured",
    "full": "DINOv2 at full size, NYUv2 (3 GB) and the office, all steps: hours on a T4, estimated until measured",
}
DRIVE = "/content/drive"


@dataclass(frozen=True)
class Run:
    """What :func:`setup` settled; it also keeps the artifacts that one stage hands to the next."""

    device: torch.device
    dtype: torch.dtype
    profile: str
    cache: Path
    seed: int

    def pick(self, quick, full, name: str = "", middle=None):
        """The value for this profile, the full one's in the middle if none is given; with a ``name``, prints what is reduced."""
        picked = {"quick": quick, "middle": full if middle is None else middle, "full": full}[self.profile]
        if name and picked != full:
            print(f"{name}: {picked} in the {self.profile} profile, {full} in the full one")
        return picked

    def tuned(self, backbone: str, mine: bool = False) -> Path | str:
        """What :func:`load_vit` takes for the 3D-aware ``backbone``: the course's, or ``mine`` of lesson 03; says which.

        Raises:
            FileNotFoundError: when it should be lesson 03's and this machine has none.
        """
        kept = self.artifact(f"finetuned_{backbone}")
        if mine and not kept.is_file():
            raise FileNotFoundError(
                f"lesson 03 has left no {kept.name} in {kept.parent} (each Colab badge opens a machine of its own): run it with "
                "this backbone on this machine, tick ON_DRIVE in both lessons, or take the network that comes with the course"
            )
        print(f"3D-aware: {'yours, from lesson 03, ' + str(kept) if mine else 'the network that comes with the course'}")
        return kept if mine else "fit3d"

    @property
    def artifacts(self) -> Path:
        """The folder of this profile's artifacts."""
        return self.cache / "artifacts" / self.profile

    def artifact(self, name: str, suffix: str = ".safetensors") -> Path:
        """Where the artifact ``name`` of this profile lies, whether it is there or not."""
        return artifacts.path(self.artifacts, name, suffix)

    def save(self, name: str, content, settings: dict | None = None) -> Path:
        """Keep a stage's result with the settings that made it; see :func:`fit3d_lite.base.artifacts.save`."""
        return artifacts.save(self.artifacts, name, content, settings)

    def load(self, name: str, settings: dict | None = None, stale: str = "refuse"):
        """What :meth:`save` kept, or None when nothing is there; see :func:`fit3d_lite.base.artifacts.load`."""
        return artifacts.load(self.artifacts, name, settings, stale)


def setup(profile: str | None = None, seed: int = 0, drive: bool = False) -> Run:
    """Settle device, precision, profile, cache folder, seed and figure style, and show them as one card.

    Args:
        profile: "quick", "middle" or "full"; else the environment's FIT3D_PROFILE; else "middle" with CUDA, "quick" without.
        seed: seeds torch, numpy and random.
        drive: on Colab, keep downloads and artifacts in the reader's Google Drive, where every lesson's machine finds them.

    Raises:
        ValueError: for another profile.
    """
    # CUDA or CPU: Apple's MPS lacks the sparse products this course is built on.
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    source = "argument" if profile else "FIT3D_PROFILE" if os.environ.get("FIT3D_PROFILE") else "device"
    profile = profile or os.environ.get("FIT3D_PROFILE") or ("middle" if device.type == "cuda" else "quick")
    if profile not in PROFILES:
        raise ValueError(f"the profile is {profile!r} (from the {source}); it must be 'quick', 'middle' or 'full'")
    if drive and on_colab():
        from google.colab import drive as google_drive

        google_drive.mount(DRIVE)  # asks the reader
        os.environ["FIT3D_CACHE"] = f"{DRIVE}/MyDrive/fit3d_cache"
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)
    quiet_sparse()
    figure_style()
    cache = cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    run = Run(device, best_dtype(device), profile, cache, seed)
    chosen.profile, chosen.artifacts = profile, run.artifacts
    _show_setup(run, source)
    return run


def _show_setup(run: Run, source: str) -> None:
    name = f"{torch.cuda.get_device_name()}" if run.device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    packages = [f"{p} {_version(p)}" for p in ("torch", "timm", "numpy")]
    rows = {
        "device": f"{name} · {str(run.dtype).removeprefix('torch.')}" + (" · Colab" if on_colab() else ""),
        "drawing": backend.describe(run.device),
        "profile": f"{run.profile} (from the {source}): {PROFILES[run.profile]}{_more(run)}",
        "versions": " · ".join([f"Python {platform.python_version()}", *packages]),
        "course": _origin(os.environ.get("FIT3D_NOTEBOOK", "")),
        "cache": str(run.cache),
        "seed": str(run.seed),
    }
    if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys() and run.device.type == "cpu":
        rows["threads"] = "torch was loaded first; GOMP_SPINCOUNT=1000 set before keeps it fast beside busy programs"
    text = "\n".join(["fit3d_lite", *(f"  {k:9}{v}" for k, v in rows.items())])
    line = "padding:.15em 1em .15em 0;text-align:left;vertical-align:top;color:inherit"
    cells = "".join(
        f'<tr style="background:transparent"><td style="{line};opacity:.7">{k}</td>'
        f'<td style="{line}">{html.escape(v)}</td></tr>'
        for k, v in rows.items()
    )
    box = "border:1px solid rgba(128,128,128,.5);border-radius:8px;padding:.6em 1em;display:inline-block;max-width:62em"
    title = '<div style="font-weight:700">fit3d_lite</div>'
    show(text, f'<div style="{box}">{title}<table style="border-collapse:collapse">{cells}</table></div>')


def _more(run: Run) -> str:
    """What the reader could change: a GPU where there is none, else a larger or smaller profile."""
    if run.device.type == "cuda":
        others = " or ".join(f"setup('{name}')" for name in PROFILES if name != run.profile)
        return f". Otherwise: {others}"
    slow = "" if run.profile == "quick" else ". It is meant for a GPU, and there is none"
    return slow + (". For a GPU: Runtime → Change runtime type → T4 GPU" if on_colab() else "")


def _origin(notebook: str) -> str:
    """Version and commit of the package, and a word when the bootstrap cell of the notebook named another."""
    version, commits = origin()
    text = f"version {version}" + (f" · commit {commits[0][:10]}" if commits else "")
    if notebook in ("", version, *commits):
        return text
    return f"{text} · LOOK: this notebook was made for {notebook[:10]}; if a cell fails, take both from one place and restart"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def figure_style() -> None:
    """Figures on white (they read in a dark theme too), in color-blind-safe colors, as JPEG to stay small."""
    import matplotlib
    from cycler import cycler

    matplotlib.rcParams.update({
        "figure.facecolor": "white", "savefig.facecolor": "white", "axes.facecolor": "white",
        "figure.dpi": 96, "savefig.dpi": 96, "figure.constrained_layout.use": True,
        "axes.prop_cycle": cycler(color=COLORS), "image.cmap": "viridis", "image.interpolation": "nearest",
        "axes.spines.top": False, "axes.spines.right": False, "axes.grid": False,
        "font.size": 10, "axes.titlesize": 10, "lines.linewidth": 1.8, "legend.frameon": False,
    })  # fmt: skip
    if not in_notebook() or not importlib.util.find_spec("matplotlib_inline"):
        return
    from IPython import get_ipython
    from matplotlib_inline.backend_inline import set_matplotlib_formats
    from matplotlib_inline.config import InlineBackend

    # Full chroma resolution: the default halves it, which blurs colored lines on white.
    options = {"bbox_inches": "tight", "facecolor": "white", "pil_kwargs": {"quality": 80, "subsampling": 0}}
    inline = InlineBackend.instance(parent=get_ipython())
    inline.figure_formats, inline.print_figure_kwargs = {"jpeg"}, options  # for a backend that starts later
    set_matplotlib_formats("jpeg")  # for the one that runs already
    describe_figures()
