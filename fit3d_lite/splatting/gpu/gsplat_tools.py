"""What compiling gsplat needs of a machine: looked up before any work, each lack named in one sentence with its remedy."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

PIP = "pip install gsplat==1.5.3 ninja packaging"
KNOWN = "1.5."  # the versions whose sources lie where gsplat_compile.py looks for them
DISK_MB = 200  # objects and library of gsplat 1.5.3 take 53 MB for one architecture
JOB_GB = 2.0  # most that one compiler was seen to hold is 2.2 GB; the others stay near 1
# What torch's CUDA headers include besides the toolkit's own; compilers that come alone lack them, pip's torch has them.
LIBRARY_HEADERS = ("cublas_v2.h", "cublasLt.h", "cusparse.h", "cusolverDn.h")


class BuildError(RuntimeError):
    """gsplat cannot be compiled here, or its compiler failed; the message says why in words of the cause."""


@dataclass(frozen=True)
class Tools:
    """What was found, ready to be handed to the compiling process."""

    package: Path  # folder of the gsplat package
    version: str  # of gsplat
    arch: str  # as TORCH_CUDA_ARCH_LIST wants it: "7.5"
    jobs: int  # compilers at once
    environment: dict[str, str]


def look_for_tools(arch: str | None = None, jobs: int | None = None) -> Tools:
    """All that a build needs, or BuildError (ValueError for arguments out of range) that names the first lack."""
    if jobs is not None and jobs < 1:
        raise ValueError(f"jobs is the number of compilers at once and must be ≥ 1, got {jobs}.")
    if sys.platform != "linux":
        raise BuildError(f"build_gsplat works on Linux only (this is {sys.platform}); the torch path works everywhere.")
    package, version = installed_gsplat()
    arch = architecture(arch)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    for tool, remedy in {
        "ninja": "pip install ninja",
        os.environ.get("CXX", "c++"): "apt-get install g++, or set CXX to your C++ compiler",
    }.items():
        if shutil.which(tool, path=path) is None:
            raise BuildError(f"Compiling gsplat needs {tool}, which is not on the PATH: {remedy}.")
    home = _cuda_home(path)
    _same_cuda(home)
    environment = os.environ | {
        "PATH": path,
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),  # the child sees the packages that we see
        "CUDA_HOME": str(home),
        "TORCH_CUDA_ARCH_LIST": arch,
        "NINJA_STATUS": "[%f/%t] ",  # gsplat_build.py reads it
        # gcc looks here after all that the command line names, so nothing of the toolkit is overridden.
        "CPLUS_INCLUDE_PATH": _joined(os.environ.get("CPLUS_INCLUDE_PATH"), _missing_headers(home)),
        # torch names lib64 alone, even where libcudart.so lies in lib.
        "LIBRARY_PATH": _joined(os.environ.get("LIBRARY_PATH"), [home / "lib64", home / "lib"]),
    }
    jobs = jobs or default_jobs()
    return Tools(package, version, arch, jobs, environment | {"MAX_JOBS": str(jobs)})


def default_jobs() -> int:
    """As many compilers as there are cores and free gigabytes for: 2 on Colab."""
    pages = Path("/proc/meminfo").read_text() if Path("/proc/meminfo").exists() else ""
    free = re.search(r"MemAvailable:\s+(\d+) kB", pages)
    by_memory = int(int(free[1]) / 2**20 / JOB_GB) if free else 1
    return max(1, min(len(os.sched_getaffinity(0)), by_memory))


def need_disk(folder: Path, megabytes: int = DISK_MB) -> None:
    """BuildError unless ``folder`` (which need not exist yet) can be written and has room."""
    there = next(p for p in [folder, *folder.parents] if p.exists())
    if not os.access(there, os.W_OK):
        raise BuildError(f"{there} cannot be written to; give build_gsplat a folder that can.")
    free = shutil.disk_usage(there).free // 2**20
    if free < megabytes:
        raise BuildError(f"gsplat needs {megabytes} MB of disk in {folder}, and {free} MB are free; make room there.")


def installed_gsplat() -> tuple[Path, str]:
    """Folder and version of the gsplat package, or BuildError when it or what it imports is not installed."""
    spec = importlib.util.find_spec("gsplat")
    if spec is None or not spec.origin:
        raise BuildError(f"gsplat is not installed: {PIP}")
    for module in ("packaging", "rich", "jaxtyping", "setuptools"):
        if importlib.util.find_spec(module) is None:
            raise BuildError(f"gsplat and torch's compiler need {module}, which is not installed: pip install {module}")
    version = importlib.metadata.version("gsplat")
    if not version.startswith(KNOWN):
        raise BuildError(f"build_gsplat knows gsplat {KNOWN}x and found {version}: {PIP}")
    return Path(spec.origin).parent, version


def architecture(arch: str | None) -> str:
    """``arch``, checked, or the device's. BuildError without a device, or with a torch that could not use one."""
    if arch is not None and not re.fullmatch(r"\d+\.\d", arch):
        raise ValueError(f'arch is one compute capability such as "7.5" (a T4), got {arch!r}.')
    if torch.version.cuda is None:
        raise BuildError(
            f"This torch {torch.__version__} is a build without CUDA, and gsplat draws on a GPU only; install a CUDA "
            "build of torch (pytorch.org/get-started) or stay with the torch path."
        )
    if arch is not None:
        return arch
    if not torch.cuda.is_available():
        raise BuildError(
            'There is no CUDA device to compile for: switch on the GPU, or name one by arch (a T4 is arch="7.5").'
        )
    return "{}.{}".format(*torch.cuda.get_device_capability())


def _cuda_home(path: str) -> Path:
    """Folder of the CUDA toolkit: one that holds both the compiler and the runtime's header."""
    named = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH")]
    found = shutil.which("nvcc", path=path)
    homes = [Path(n) for n in named if n] + ([Path(found).resolve().parents[1]] if found else [])
    homes.append(Path("/usr/local/cuda"))
    for home in homes:
        if (home / "bin/nvcc").is_file() and (home / "include/cuda_runtime.h").is_file():
            return home
    raise BuildError(
        f"Compiling gsplat needs CUDA's compiler nvcc {torch.version.cuda}, and none is in "
        f"{', '.join(map(str, homes))}; Colab's GPU machines have it, elsewhere install the CUDA toolkit or set CUDA_HOME."
    )


def _same_cuda(home: Path) -> None:
    """torch refuses to mix major versions of CUDA, and says so only after a while."""
    said = subprocess.run([home / "bin/nvcc", "--version"], capture_output=True, text=True).stdout
    release = re.search(r"release (\d+)\.\d+", said)
    if release and release[1] != torch.version.cuda.split(".")[0]:
        raise BuildError(
            f"nvcc in {home} is of CUDA {release[0].split()[1]} and torch of CUDA {torch.version.cuda}: install the "
            "toolkit of torch's version, or set CUDA_HOME to it."
        )


def _missing_headers(home: Path) -> list[Path]:
    """Folders of pip's CUDA packages for those headers that the toolkit lacks."""
    folders = []
    for header in LIBRARY_HEADERS:
        if (home / "include" / header).is_file() or any((f / header).is_file() for f in folders):
            continue
        places = [p.parent for base in sys.path if base for p in Path(base).glob(f"nvidia/*/include/{header}")]
        if not places:
            raise BuildError(
                f"CUDA's header {header} is neither in {home / 'include'} nor in pip's nvidia packages: install the "
                f"full CUDA toolkit {torch.version.cuda}."
            )
        folders.append(places[0])
    return folders


def _joined(given: str | None, folders: list[Path]) -> str:
    return os.pathsep.join(([given] if given else []) + [str(f) for f in folders if f.is_dir()])
