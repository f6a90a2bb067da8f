"""gsplat, compiled in the background while the notebook goes on.

gsplat's wheel holds no binary: at its first use it compiles itself, which takes some ten minutes, blocks the cell, and
starts from nothing when it was interrupted. ``build_gsplat`` has torch's ``cpp_extension.load`` do the same work in a
process of its own, which outlives interrupted cells and restarted kernels, and in a folder that is kept, so that ninja
goes on where it was stopped. Until it is done torch or Triton draw; then ``gsplat_draw.ready()`` turns true, in the same
notebook.

    cache_folder()/gsplat/<versions and architecture>/gsplat_cuda.so     the library: appears when it is whole
    …/gsplat_cuda.log                                                    what the compilers said, this time
    …/build/                                                             objects, and ninja's memory

From a terminal: ``python -m fit3d_lite build-gsplat --arch 7.5``.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch
from tqdm import tqdm

from .gsplat_draw import NAME, PIP, forget_no, library_path

KNOWN = "1.5."  # the versions whose sources lie where compile_library looks for them
TOOLKIT = "/usr/local/cuda"  # where CUDA usually lies, as on Colab
JOB_GB = 2.0  # most that one compiler was seen to hold is 2.2 GB; the others stay near 1
# The flags that gsplat 1.5.3 compiles itself with.
FLAGS = {"extra_cflags": ["-O3", "-Wno-attributes"], "extra_cuda_cflags": ["-O3", "-use_fast_math"]}
CHILD = "import sys; from fit3d_lite.splatting.gpu.gsplat_build import compile_library; compile_library(*sys.argv[1:])"
# The compiler's own words. Not ninja's lines, which begin with a bracket and repeat whole commands, nor "FAILED: file".
ERROR = r"^(?!\[|FAILED:)(?:.*(?:\berror\s*:|undefined reference|cannot find -l|Unsupported gpu|due to signal)|\w*Error: ).*"


class BuildError(RuntimeError):
    """gsplat cannot be compiled here, or its compiler failed; the message says why in words of the cause."""


def build_gsplat(jobs: int | None = None, arch: str | None = None, wait: bool = False) -> Build:
    """Compile gsplat's CUDA extension in the background, or find it compiled, or join a build that is under way.

    Args:
        jobs: compilers at once; by default one per core, as long as each has 2 GB of free memory.
        arch: compute capability to compile for; by default the device's. With it no device is needed ("7.5": a T4).
        wait: show a bar and return only when it is done. Interrupting the wait leaves the build running.

    Raises:
        ValueError: ``jobs`` < 1 or an ``arch`` that is none. BuildError: what a build needs is missing (gsplat, ninja,
            nvcc, a CUDA device …), one sentence with the remedy, before any work; with ``wait`` also when the compiler
            fails.
    """
    if jobs is not None and jobs < 1:
        raise ValueError(f"jobs is the number of compilers at once and must be ≥ 1, got {jobs}.")
    package, arch = installed_gsplat(), architecture(arch)
    build = Build(library_path(arch))
    if not build.done and not build.running:
        jobs = jobs or default_jobs()
        build.start(package, environment(arch, jobs))
        print(f"gsplat is being compiled in the background for compute capability {arch}, {jobs} at a time; the notebook "
              f"goes on without it. Log: {build.log}")  # fmt: skip
    return build.wait() if wait else build


class Build:
    """A library that is compiled, being compiled, or was not: all of it read from disk, so any process may ask."""

    def __init__(self, library: Path):
        self.library, self.log = library, library.with_suffix(".log")
        self._process: subprocess.Popen | None = None

    @property
    def done(self) -> bool:
        """Whether the library is whole."""
        if self.library.is_file():
            forget_no()
            return True
        return False

    @property
    def running(self) -> bool:
        """Whether a process is compiling it, this notebook's or another: then somebody holds the log."""
        if self.library.is_file() or not self.log.is_file():
            return False
        with open(self.log) as log:
            return not _lock(log)

    @property
    def error(self) -> str:
        """What the compiler said first, when the last attempt ended without a library."""
        said = re.findall(ERROR, self._said(), re.MULTILINE)
        text = "\n".join(said[:3]) or "it ended without a word, so it was probably killed"
        killed = re.search(r"Killed|signal 9|out of memory", text)
        return text + "\nThe machine was out of memory: try jobs=1." * bool(killed)

    def progress(self) -> tuple[int, int]:
        """(steps done, steps in all) of this attempt, which leaves out what earlier ones compiled; (0, 0) at first."""
        steps = re.findall(r"^\[(\d+)/(\d+)\] ", self._said(), re.MULTILINE)
        return tuple(map(int, steps[-1])) if steps else (0, 0)

    def start(self, package: Path, environment: dict[str, str]) -> None:
        """Start the compiling process. :func:`build_gsplat` does it when nothing is there and nobody is at it."""
        self.library.parent.mkdir(parents=True, exist_ok=True)
        with open(self.log, "a") as log:
            if not _lock(log):
                return  # another notebook was quicker
            log.truncate(0)
            self._process = subprocess.Popen(  # it and its ninja write to the log, and so hold it as long as they live
                [sys.executable, "-c", CHILD, str(package), str(self.library)],
                env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True,  # a cell's interrupt goes to the notebook's process group, not to this one
            )  # fmt: skip

    def wait(self) -> Build:
        """Return when it is done. BuildError, with the compiler's first errors, when it fails."""
        with tqdm(desc="compiling gsplat", unit="file", delay=1.0) as bar:
            while not self.done and self.running:
                steps, bar.total = self.progress()
                bar.update(steps - bar.n)
                time.sleep(0.2)
        if not self.done:
            raise BuildError(f"gsplat could not be compiled; the whole log is {self.log}.\n{self.error}")
        return self

    def stop(self) -> None:
        """End the process that this notebook started. What is compiled so far is kept, and the next build goes on."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGTERM)  # ninja hears it too, and ends its compilers
            self._process.wait()

    def _said(self) -> str:
        return self.log.read_text(errors="replace") if self.log.is_file() else ""

    def __repr__(self) -> str:
        if self.done:
            return f"gsplat is compiled: {self.library}"
        if self.running:
            return "gsplat is being compiled: {} of {} steps; log {}".format(*self.progress(), self.log)
        return f"gsplat is not compiled; log {self.log}. {self.error}"


def compile_library(package: str, library: str) -> None:
    """What the background process does: compile what is not compiled yet, import it once, and give it its name."""
    from torch.utils import cpp_extension

    os.nice(10)  # the notebook's own work goes first
    cuda, build = Path(package) / "cuda", Path(library).parent / "build"
    build.mkdir(exist_ok=True)
    # torch ≤ 2.11 waits forever for this file when its owner was killed. We hold the log, so nobody owns it.
    (build / "lock").unlink(missing_ok=True)
    cpp_extension.load(
        NAME,
        [str(file) for file in (*sorted(cuda.glob("csrc/*.cu")), *sorted(cuda.glob("csrc/*.cpp")), cuda / "ext.cpp")],
        extra_include_paths=[str(cuda / "include"), str(cuda / "csrc/third_party/glm")],
        build_directory=str(build),
        verbose=True,
        **FLAGS,
    )
    os.replace(build / f"{NAME}.so", library)


def _lock(file) -> bool:
    """Whether this process could take an open file for itself; the kernel gives it back however its holders end."""
    import fcntl  # here, because Windows has none, and there this module is imported too

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def installed_gsplat() -> Path:
    """Folder of the gsplat package, or BuildError when it, or what it imports, is not there."""
    if sys.platform != "linux":
        raise BuildError(f"build_gsplat works on Linux only (this is {sys.platform}); the torch path works everywhere.")
    for module in ("gsplat", "packaging"):  # gsplat imports packaging and does not ask pip for it
        if importlib.util.find_spec(module) is None:
            raise BuildError(f"{module} is not installed: {PIP}")
    version = importlib.metadata.version("gsplat")
    if not version.startswith(KNOWN):
        raise BuildError(f"build_gsplat knows gsplat {KNOWN}x and found {version}: {PIP}")
    return Path(importlib.util.find_spec("gsplat").origin).parent


def architecture(arch: str | None) -> str:
    """``arch``, checked, or the device's. BuildError without a device, or with a torch that could not use one."""
    if arch is not None and not re.fullmatch(r"\d+\.\d", arch):
        raise ValueError(f'arch is one compute capability such as "7.5" (a T4), got {arch!r}.')
    if torch.version.cuda is None:
        raise BuildError(f"This torch {torch.__version__} is a build without CUDA, and gsplat draws on a GPU only.")
    if arch is None and not torch.cuda.is_available():
        raise BuildError('There is no CUDA device to compile for: switch on the GPU, or name one by arch ("7.5": a T4).')
    return arch or "{}.{}".format(*torch.cuda.get_device_capability())


def default_jobs() -> int:
    """As many compilers as there are cores and free memory for: 2 on Colab, whose memory gsplat's own ten would fill."""
    memory = Path("/proc/meminfo")
    free = re.search(r"MemAvailable:\s+(\d+) kB", memory.read_text() if memory.exists() else "")
    return max(1, min(len(os.sched_getaffinity(0)), int(int(free[1]) / 2**20 / JOB_GB) if free else 1))


def environment(arch: str, jobs: int) -> dict[str, str]:
    """What the compiling process is told. BuildError when a tool is missing."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    if shutil.which("ninja", path=path) is None:
        raise BuildError("Compiling gsplat needs ninja, which is not on the PATH: pip install ninja.")
    nvcc = shutil.which("nvcc", path=path)
    homes = [os.environ.get("CUDA_HOME"), nvcc and Path(nvcc).resolve().parents[1], TOOLKIT]
    homes = [Path(home) for home in homes if home]
    # The nvcc on the PATH may be a script that stands for one elsewhere, so the runtime's header is asked for too.
    whole = [home for home in homes if (home / "bin/nvcc").is_file() and (home / "include/cuda_runtime.h").is_file()]
    if not whole:
        raise BuildError(
            f"Compiling gsplat needs CUDA's compiler nvcc {torch.version.cuda}, and none is in "
            f"{', '.join(map(str, homes))}; Colab's GPU machines have it, elsewhere install the CUDA toolkit or set CUDA_HOME."
        )
    return os.environ | {
        "PATH": path,
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),  # a notebook finds this package by its own sys.path
        "CUDA_HOME": str(whole[0]),
        "TORCH_CUDA_ARCH_LIST": arch,
        "MAX_JOBS": str(jobs),
        "NINJA_STATUS": "[%f/%t] ",  # Build.progress reads it
    }


def main(given: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m fit3d_lite build-gsplat", description="Compile gsplat and wait.")
    parser.add_argument("--jobs", type=int, help="compilers at once")
    parser.add_argument("--arch", help='compute capability, such as "7.5"; the device\'s when left out')
    given = parser.parse_args(given)
    try:
        print(build_gsplat(given.jobs, given.arch, wait=True))
    except KeyboardInterrupt:
        print("Not waiting any longer; the build goes on in the background, and this command joins it again.")
    return 0
