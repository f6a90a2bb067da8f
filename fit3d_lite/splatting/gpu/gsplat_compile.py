"""The process that compiles gsplat: started in the background by gsplat_build.py, and nothing waits for it.

    python -m fit3d_lite.splatting.gpu.gsplat_compile <folder of the gsplat package> <library to make> [<copy to keep>]

gsplat would compile itself at its first use, but it does so inside the running cell, and starts from nothing when it
was interrupted (it deletes its build folder unless the library is whole). Here torch's public
``cpp_extension.load`` does the same work in a folder that is kept, so that ninja goes on where it was stopped.

    <library>.lock   held (flock) while a process compiles; the kernel lets go of it however the process ends.
                     Inside stands that process's number
    <library>.log    what the compilers said
    build/           objects, build.ninja and ninja's memory
    <library>        appears when all is compiled, has been imported once and holds the functions we call
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time
from pathlib import Path

from ...base.whole import replace_when_whole

NAME = "gsplat_cuda"  # fixed in gsplat's sources: the library's own name for itself
# The flags that gsplat 1.5.3 compiles itself with.
FLAGS = {"extra_cflags": ["-O3", "-Wno-attributes"], "extra_cuda_cflags": ["-O3", "-use_fast_math"]}
# gsplat's functions behind render, pairs and MCMCStrategy.
NEEDED = (
    "CameraModelType", "projection_ewa_3dgs_fused_fwd", "projection_ewa_3dgs_fused_bwd", "intersect_tile",
    "intersect_offset", "rasterize_to_pixels_3dgs_fwd", "rasterize_to_pixels_3dgs_bwd", "rasterize_to_indices_3dgs",
    "quat_scale_to_covar_preci_fwd", "relocation",
)  # fmt: skip


def lock(library: Path):
    """An open file that holds the lock of ``library``, or None when another process holds it. Its folder is there."""
    import fcntl  # here, because Windows has none, and there this module is imported too

    file = open(library.with_suffix(".lock"), "a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def end_orphans(session: int, folder: Path) -> None:
    """End compilers that outlived a killed ninja: two of them at one object would spoil it.

    They are known by the session of the process that started them and by ninja's folder, in which they work.
    """
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):  # ended meanwhile, or not ours to look at
            if os.getsid(int(process.name)) == session and (process / "cwd").readlink() == folder.resolve():
                os.kill(int(process.name), signal.SIGKILL)


def sources(package: Path) -> list[str]:
    """The CUDA and C++ files of gsplat, sorted, so that the same files always give the same library."""
    cuda = package / "cuda"
    files = sorted(cuda.glob("csrc/*.cu")) + sorted(cuda.glob("csrc/*.cpp")) + [cuda / "ext.cpp"]
    return [str(file) for file in files]


def compile_library(package: Path, library: Path) -> None:
    """Compile what is not compiled yet, import the result once, and give it its name."""
    from torch.utils import cpp_extension

    folder = library.parent / "build"
    folder.mkdir(parents=True, exist_ok=True)
    # torch ≤ 2.11 waits forever for this file when its owner was killed. We hold our own lock, so nobody owns it.
    (folder / "lock").unlink(missing_ok=True)
    include = [package / "cuda/include", package / "cuda/csrc/third_party/glm"]
    module = cpp_extension.load(
        NAME,
        sources(package),
        **FLAGS,
        extra_include_paths=[str(path) for path in include],
        build_directory=str(folder),
        verbose=True,
    )
    if missing := [name for name in NEEDED if not hasattr(module, name)]:
        raise ImportError(f"error: the compiled library lacks {', '.join(missing)}; is gsplat at {package} whole?")
    copy_whole(folder / f"{NAME}.so", library)


def copy_whole(source: Path, target: Path) -> None:
    with replace_when_whole(target) as partial:
        shutil.copyfile(source, partial)


def main() -> int:
    package, library, *kept = map(Path, sys.argv[1:])
    library.parent.mkdir(parents=True, exist_ok=True)
    held = lock(library)
    if held is None:
        print("another process is compiling this library")
        return 0
    os.nice(10)  # the notebook's own work goes first
    held.seek(0)
    former = held.read()
    if former.isdigit():
        end_orphans(int(former), library.parent / "build")
    held.truncate(0)
    held.write(str(os.getsid(0)))
    held.flush()
    with contextlib.suppress(OSError):  # a terminal has no length
        os.ftruncate(1, 0)  # the log is of this attempt alone
    start = time.time()
    compile_library(package, library)
    print(f"compiled in {time.time() - start:.0f} s: {library}", flush=True)
    for place in kept:
        copy_whole(library, place)
    return 0


if __name__ == "__main__":
    sys.exit(main())
