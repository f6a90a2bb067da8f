"""gsplat, compiled in the background while the notebook goes on.

gsplat's wheel holds no binary: at its first use it compiles itself, which takes some ten minutes and blocks the cell.
``build_gsplat`` starts that work in a process of its own (see gsplat_compile.py) that outlives interrupted cells and
restarted kernels. Until it is done everything is drawn by torch or Triton; then ``gsplat_path.ready()`` turns true,
in the same notebook.

    cache_folder()/gsplat/<versions and architecture>/gsplat_cuda.so    the finished library, .log and .lock beside it
    <folder>/<versions and architecture>/gsplat_cuda.so                 a copy to keep, for example on Drive

The finished library alone is kept, and loaded without asking ninja: ninja compares times of files, and on a new Colab
machine all of gsplat's are new, so that it would compile everything again.

From a terminal: ``python -m fit3d_lite build-gsplat --arch 7.5``.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from tqdm import tqdm

from .gsplat_compile import copy_whole, lock
from .gsplat_found import forget, library_path
from .gsplat_tools import BuildError, Tools, architecture, installed_gsplat, look_for_tools, need_disk


def build_gsplat(
    folder: str | Path | None = None,
    jobs: int | None = None,
    arch: str | None = None,
    wait: bool = False,
    *,
    progress: bool = True,
) -> Build:
    """Compile gsplat's CUDA extension in the background, or find it compiled, or join a build that is under way.

    Args:
        folder: where a copy of the finished library is kept and looked for, such as a folder of a mounted Drive.
        jobs: compilers at once; by default one per core, as long as each has 2 GB of free memory.
        arch: compute capability to compile for; by default the device's. With it no device is needed ("7.5": a T4).
        wait: return only when it is done. Interrupting the wait leaves the build running.
        progress: print a line at the start, and a bar while waiting.

    Returns:
        A :class:`Build`: ``.progress()``, ``.done``, ``.wait()``, ``.log``, ``.stop()``.

    Raises:
        ValueError: ``jobs`` < 1 or an ``arch`` that is none. BuildError: what a build needs is missing (gsplat, ninja,
            nvcc, a CUDA device, disk …), one sentence with the remedy, before any work; with ``wait`` also when the
            compiler fails.
    """
    installed_gsplat()
    arch = architecture(arch)
    library = library_path(arch)
    kept = None if folder is None else library_path(arch, Path(folder).expanduser())
    if kept is not None:
        need_disk(kept.parent, megabytes=100)
    if kept is not None and kept.is_file() and not library.is_file():
        copy_whole(kept, library)
    build = Build(library, kept)
    if build.done:
        build.keep()
    elif not build.running:
        tools = look_for_tools(arch, jobs)
        need_disk(library.parent)
        build.start(tools)
        if progress:
            print(
                f"gsplat {tools.version} is being compiled in the background for compute capability {arch}, "
                f"{tools.jobs} file{'s' * (tools.jobs > 1)} at a time; the notebook goes on without it. Log: {build.log}"
            )
    return build.wait(progress=progress) if wait else build


class Build:
    """A library that is compiled, being compiled, or was not: all of it read from disk, so any process may ask."""

    def __init__(self, library: Path, kept: Path | None = None):
        self.library, self.kept = library, kept
        self.log = library.with_suffix(".log")
        self._process: subprocess.Popen | None = None

    @property
    def done(self) -> bool:
        """Whether the library is whole."""
        if self.library.is_file():
            forget()  # what gsplat_path.ready() said before
            return True
        return False

    @property
    def running(self) -> bool:
        """Whether a process is compiling it, this notebook's or another."""
        if self.library.is_file() or not self.library.parent.is_dir():
            return False
        if self._process is not None and self._process.poll() is None:
            return True
        held = lock(self.library)
        if held is not None:
            held.close()
        return held is None

    @property
    def error(self) -> str | None:
        """What the compiler said first, when the last attempt failed or was killed; None while there is none."""
        if self.running or self.library.is_file() or not self.log.is_file():
            return None
        lines = self.log.read_text(errors="replace").splitlines()
        said = [line.strip() for line in lines if _is_error(line)]
        text = "\n".join(said[:3]) or "it ended without a word, so it was probably killed"
        if re.search(r"Killed|signal 9|out of memory", text):
            text += "\nThe machine was out of memory: try jobs=1."
        return text

    def progress(self) -> tuple[int, int]:
        """(steps done, steps in all): the files to compile and the linking; (0, 0) until the list is made."""
        plan = self.library.parent / "build/build.ninja"
        if not plan.is_file():
            return 0, 0
        total = len(re.findall(r"^build \S+: (?:compile|cuda_compile|link) ", plan.read_text(), re.MULTILINE))
        if self.library.is_file():
            return total, total
        said = self.log.read_text(errors="replace") if self.log.is_file() else ""
        steps = re.findall(r"^\[(\d+)/(\d+)\] ", said, re.MULTILINE)
        if not steps:  # nothing finished in this attempt yet; ninja remembers those before
            memory = plan.with_name(".ninja_log")  # start, end, time, name, hash
            known = memory.read_text() if memory.is_file() else ""
            made = set(re.findall(r"^\d+\t\d+\t\d+\t([^\t]+)\t", known, re.MULTILINE))
            return sum((plan.parent / name).is_file() for name in made), total
        finished, planned = map(int, steps[-1])
        return total - planned + finished, total  # a resumed build plans only what is left

    def start(self, tools: Tools) -> None:
        """Start the compiling process. :func:`build_gsplat` does it when nothing is there and nobody is at it."""
        self.library.parent.mkdir(parents=True, exist_ok=True)
        files = [tools.package, self.library] + ([self.kept] if self.kept is not None else [])
        with open(self.log, "a") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "fit3d_lite.splatting.gpu.gsplat_compile", *map(str, files)],
                env=tools.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a cell's interrupt goes to the notebook's process group, not to this one
            )

    def wait(self, timeout: float | None = None, *, progress: bool = True) -> Build:
        """Return when it is done. BuildError, with the compiler's first errors, when it fails; TimeoutError after
        ``timeout`` seconds. Interrupting leaves the build running.
        """
        start = time.monotonic()
        with tqdm(desc="compiling gsplat", unit="file", disable=not progress, delay=1.0) as bar:
            while not self.done and self.running:
                steps, bar.total = self.progress()
                bar.update(steps - bar.n)
                if timeout is not None and time.monotonic() - start > timeout:
                    raise TimeoutError(
                        f"gsplat is not compiled after {timeout:g} s ({steps} of {bar.total} steps done)."
                    )
                time.sleep(0.2)
            bar.update(self.progress()[0] - bar.n)
        if not self.done:
            raise BuildError(f"gsplat could not be compiled; the whole log is {self.log}.\n{self.error}")
        self.keep()
        return self

    def keep(self) -> None:
        """Copy the library to the folder given, unless the compiling process has done so already."""
        if self.kept is not None and not self.kept.is_file():
            copy_whole(self.library, self.kept)

    def stop(self) -> None:
        """End the process that this notebook started. What is compiled so far is kept, and the next build goes on."""
        if self._process is None or self._process.poll() is not None:
            return
        os.killpg(self._process.pid, signal.SIGTERM)  # ninja hears it too, and ends its compilers
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def __repr__(self) -> str:
        if self.done:
            return f"gsplat is compiled: {self.library}"
        steps, total = self.progress()
        how = f"{steps} of {total} steps" if total else "listing what is to compile"
        if self.running:
            return f"gsplat is being compiled: {how}; log {self.log}"
        return f"gsplat is not compiled ({how}): {self.error or 'not started'}; log {self.log}"


def _is_error(line: str) -> bool:
    # Lines in brackets are ninja's, which repeat whole commands; "FAILED:" names only the file. The compiler's error
    # stands above Python's (RuntimeError: Error building …), so it comes first.
    spoken = re.search(
        r"\b(fatal )?error\s*:|undefined reference|cannot find -l|Unsupported gpu|died due to signal|^\w*Error: ", line
    )
    return bool(spoken) and not line.startswith(("[", "FAILED:"))


def main(given: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m fit3d_lite build-gsplat", description="Compile gsplat and wait.")
    parser.add_argument("--folder", help="where a copy of the finished library is kept")
    parser.add_argument("--jobs", type=int, help="compilers at once")
    parser.add_argument("--arch", help='compute capability, such as "7.5"; the device\'s when left out')
    given = parser.parse_args(given)
    try:
        print(build_gsplat(given.folder, given.jobs, given.arch, wait=True))
    except (BuildError, ValueError) as problem:
        sys.exit(str(problem))
    except KeyboardInterrupt:
        print("Not waiting any longer; the build goes on in the background, and this command joins it again.")
    return 0

