"""Compiling gsplat in the background, with a gsplat of two C++ files: what is missing is said, what is stopped goes on,
and nothing is compiled twice.
"""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pretend_gsplat
import pytest
import torch

import fit3d_lite.splatting.gpu.gsplat_tools as gsplat_tools
from fit3d_lite.splatting.gpu.gsplat_build import Build, build_gsplat
from fit3d_lite.splatting.gpu.gsplat_compile import NEEDED, end_orphans
from fit3d_lite.splatting.gpu.gsplat_found import library_path
from fit3d_lite.splatting.gpu.gsplat_tools import BuildError, architecture, default_jobs, look_for_tools

# Stands in for c++: notes what it is asked to compile, and waits at second.cpp while the file "wait" is there.
COMPILER = """#!/bin/sh
case "$*" in
  *" -c "*) for word; do case "$word" in *.cpp) basename "$word" >> {folder}/compiled;; esac; done;;
esac
case "$*" in *second.cpp*) while [ -e {folder}/wait ]; do sleep 0.05; done;; esac
exec c++ "$@"
"""


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A folder in which there is all that a build asks for: a gsplat, a CUDA toolkit, a compiler. No GPU."""
    pretend_gsplat.forget_real(monkeypatch)
    folder = tmp_path / "machine"
    cuda = pretend_gsplat.package(folder, holds=NEEDED) / "cuda"
    (cuda / "csrc/second.cpp").write_text("int second() { return 2; }\n")
    for module in ("rich", "jaxtyping", "packaging"):
        if importlib.util.find_spec(module) is None:
            (folder / f"{module}.py").touch()
    toolkit = folder / "toolkit"
    (toolkit / "bin").mkdir(parents=True)
    (toolkit / "include").mkdir()
    for header in ("cuda_runtime.h", *gsplat_tools.LIBRARY_HEADERS):
        (toolkit / "include" / header).touch()
    for path, text in {
        toolkit / "bin/nvcc": "#!/bin/sh\necho Cuda compilation tools, release 12.8, V12.8.93\n",
        folder / "compiler": COMPILER.format(folder=folder),
    }.items():
        path.write_text(text)
        path.chmod(0o755)
    monkeypatch.setenv("CUDA_HOME", str(toolkit))
    monkeypatch.setenv("CXX", str(folder / "compiler"))
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.syspath_prepend(folder)
    yield folder
    (folder / "wait").unlink(missing_ok=True)  # a test that failed leaves nobody waiting


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def compiled(machine):
    """Names of the files compiled since the last question."""
    log = machine / "compiled"
    names = sorted(log.read_text().split()) if log.exists() else []
    log.unlink(missing_ok=True)
    return names


@pytest.mark.skipif(shutil.which("ninja") is None, reason="no ninja")
def test_a_build_that_was_killed_and_then_failed_goes_on_and_ends_in_a_library(machine, tmp_path, monkeypatch, capfd):
    pretend_gsplat.need_compiler()
    kept = tmp_path / "drive"
    (machine / "wait").touch()

    # Started: it returns at once, and a second call joins instead of compiling beside it.
    build = build_gsplat(kept, arch="7.5", jobs=2)
    assert "in the background for compute capability 7.5, 2 files at a time" in capfd.readouterr().out
    until(lambda: build.progress() == (2, 4) or not build.running)
    assert build.running, build.log.read_text()
    other = build_gsplat(kept, arch="7.5", jobs=1)
    assert build.running and other.running and not other.done and capfd.readouterr().out == ""
    assert "2 of 4 steps" in repr(other)
    with pytest.raises(TimeoutError, match=r"0.1 s \(2 of 4 steps"):
        other.wait(0.1, progress=False)
    assert os.getsid(build._process.pid) != os.getsid(0)  # a cell's interrupt does not reach it

    # Killed, so that its compiler is left over: nobody waits for ever, and what is compiled stays.
    os.killpg(build._process.pid, signal.SIGKILL)
    until(lambda: not build.running)
    assert "probably killed" in build.error and not build.done
    assert compiled(machine) == ["ext.cpp", "first.cpp", "second.cpp"]

    # A mistake in the source: the compiler's words come up, not what Python makes of them.
    source = machine / "gsplat/cuda/csrc/second.cpp"
    source.write_text("int second() { return two; }\n")
    (machine / "wait").unlink()
    with pytest.raises(BuildError) as failure:
        build_gsplat(kept, arch="7.5", jobs=1, wait=True, progress=False)
    first, second = str(failure.value).splitlines()[:2]
    assert str(build.log) in first and "second.cpp" in second and "error" in second and "two" in second
    assert "ImportError" not in str(failure.value)
    assert compiled(machine) == ["second.cpp"]

    # Mended: only that file is compiled.
    source.write_text("int second() { return 2; }\n")
    capfd.readouterr()
    build = build_gsplat(kept, arch="7.5", jobs=1, wait=True, progress=False)
    assert compiled(machine) == ["second.cpp"]
    assert build.done and not build.running and build.error is None and build.progress() == (4, 4)
    assert not list(build.library.parent.glob("*.partial*"))
    assert "two" not in build.log.read_text()  # each attempt begins a new log

    # Found again, here and by a machine whose cache is empty, without compiling.
    copy = library_path("7.5", kept)
    assert copy.read_bytes() == build.library.read_bytes()
    shutil.rmtree(build.library.parent)
    empty_path(monkeypatch)  # nor does it need a compiler for that
    again = build_gsplat(kept, arch="7.5")
    assert again.done and again._process is None and compiled(machine) == []


def test_progress_counts_what_earlier_attempts_compiled(tmp_path):
    build = Build(tmp_path / "gsplat_cuda.so")
    assert build.progress() == (0, 0)
    (tmp_path / "build").mkdir()
    edges = ["a.cuda.o: cuda_compile a.cu", "b.o: compile b.cpp", "c.o: compile c.cpp", "gsplat_cuda.so: link a.cuda.o"]
    (tmp_path / "build/build.ninja").write_text("rule compile\n" + "".join(f"build {edge}\n" for edge in edges))
    assert build.progress() == (0, 4)
    (tmp_path / "build/.ninja_log").write_text("# ninja log v5\n0\t9\t1\ta.cuda.o\tff\n0\t9\t1\tgone.o\tff\n")
    (tmp_path / "build/a.cuda.o").touch()
    assert build.progress() == (1, 4)
    build.log.write_text("[1/3] c++ b.cpp\n")  # a resumed ninja counts only what is left
    assert build.progress() == (2, 4)
    build.library.touch()
    assert build.progress() == (4, 4)


def test_only_compilers_of_the_dead_build_are_ended(tmp_path):
    sleeper = [sys.executable, "-c", "import time; time.sleep(60)"]
    ours, elsewhere = (
        subprocess.Popen(sleeper, cwd=cwd, start_new_session=True) for cwd in (tmp_path, tmp_path.parent)
    )
    try:
        end_orphans(elsewhere.pid, tmp_path)  # its session, another folder
        end_orphans(os.getsid(0), tmp_path)  # its folder, another session
        time.sleep(0.1)
        assert ours.poll() is None and elsewhere.poll() is None
        end_orphans(ours.pid, tmp_path)
        assert ours.wait(5) == -signal.SIGKILL
    finally:
        for process in (ours, elsewhere):
            process.kill()
            process.wait()


def test_stop_ends_the_process(tmp_path):
    build = Build(tmp_path / "gsplat_cuda.so")
    build._process = subprocess.Popen(["sleep", "60"], start_new_session=True)
    assert build.running
    build.stop()
    assert build._process.poll() is not None and not build.running
    build.stop()  # twice does no harm


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            "[3/30] nvcc -Werror: x\nscale.cu(7): error: expected a ;\nRuntimeError: Error building",
            "scale.cu(7): error: exp",
        ),
        ("c++: fatal error: Killed signal terminated program cc1plus\n", "try jobs=1"),
        ("nvcc fatal   : Unsupported gpu architecture 'compute_60'\n", "compute_60"),
        ("/usr/bin/ld: cannot find -lcudart: No such file\n", "-lcudart"),
        ("ImportError: x.so: undefined symbol: _ZN2at\n", "undefined symbol"),
        ("Warning: No CUDA runtime is found\n[1/30] nvcc a.cu\n", "probably killed"),
    ],
)
def test_the_first_error_of_the_log_is_found(tmp_path, said, expected):
    build = Build(tmp_path / "gsplat_cuda.so")
    assert build.error is None  # nothing was tried
    build.log.write_text(said)
    assert expected in build.error.replace("\n", " ")
    assert not build.error.startswith("[")


LACKS = {
    "no gsplat": (
        "gsplat is not installed: pip install gsplat",
        lambda m, p: p.setattr(importlib.util, "find_spec", without("gsplat")),
    ),
    "unknown gsplat": (
        "knows gsplat 1.5.x and found 1.6.0",
        lambda m, p: (m / "gsplat-1.5.3.dist-info/METADATA").write_text("Name: gsplat\nVersion: 1.6.0\n"),
    ),
    "no packaging": (
        "need packaging, which is not installed: pip install packaging",
        lambda m, p: p.setattr(importlib.util, "find_spec", without("packaging")),
    ),
    "torch for the CPU": ("build without CUDA", lambda m, p: p.setattr(torch.version, "cuda", None)),
    "no device": ("switch on the GPU, or name one by arch", lambda m, p: p.setattr(torch.cuda, "is_available", bool)),
    "no ninja": ("needs ninja, which is not on the PATH: pip install ninja", lambda m, p: empty_path(p)),
    "no C++": ("needs /nowhere/c, which is not on the PATH", lambda m, p: p.setenv("CXX", "/nowhere/c")),
    "no nvcc": ("needs CUDA's compiler nvcc 12.8, and none is in", lambda m, p: (m / "toolkit/bin/nvcc").unlink()),
    "other CUDA": ("is of CUDA 12.8 and torch of CUDA 13.0", lambda m, p: p.setattr(torch.version, "cuda", "13.0")),
    "no headers": (
        "header cusparse.h is neither in",
        lambda m, p: (m / "toolkit/include/cusparse.h").unlink(),
    ),
    "full disk": (
        "needs 200 MB of disk in .*, and 7 MB are free",
        lambda m, p: p.setattr(shutil, "disk_usage", lambda f: shutil._ntuple_diskusage(9 << 20, 2 << 20, 7 << 20)),
    ),
}


def without(name):
    """importlib.util.find_spec where ``name`` is not installed."""
    find_spec = importlib.util.find_spec
    return lambda module: None if module == name else find_spec(module)


def empty_path(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(sys, "executable", "/nowhere/python")


@pytest.mark.parametrize("lack", LACKS)
def test_what_is_missing_is_named_before_any_work(machine, monkeypatch, lack):
    message, remove = LACKS[lack]
    if lack != "no ninja":  # not everybody who tests has it
        which = shutil.which
        monkeypatch.setattr(
            shutil, "which", lambda tool, path=None: tool if tool == "ninja" else which(tool, path=path)
        )
    monkeypatch.setattr(gsplat_tools, "Path", NoToolkit)
    remove(machine, monkeypatch)
    with pytest.raises(BuildError, match=message):
        build_gsplat(arch=None if lack == "no device" else "7.5")
    assert not Path(os.environ["FIT3D_CACHE"]).exists()


class NoToolkit(type(Path())):
    """Paths of a machine that has no CUDA but the one of the test."""

    def is_file(self):
        return not str(self).startswith("/usr/local/cuda") and super().is_file()

    def glob(self, pattern):
        return [] if pattern.startswith("nvidia/") else super().glob(pattern)


def test_arguments_out_of_range_are_refused_with_the_number():
    with pytest.raises(ValueError, match="such as \"7.5\".*got 'sm_75'"):
        architecture("sm_75")
    with pytest.raises(ValueError, match="≥ 1, got 0"):
        look_for_tools(jobs=0)


def test_a_folder_that_cannot_be_written_to_is_refused(machine, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *a: False)
    with pytest.raises(BuildError, match="cannot be written to"):
        gsplat_tools.need_disk(machine / "drive/new")


def test_the_compiler_is_told_the_gpu_the_jobs_and_where_things_lie(machine, monkeypatch):
    (machine / "toolkit/lib").mkdir()
    (machine / "toolkit/include/cusparse.h").unlink()
    elsewhere = machine / "nvidia/cu12/include"
    elsewhere.mkdir(parents=True)
    (elsewhere / "cusparse.h").touch()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *a: (7, 5))
    tools = look_for_tools(jobs=3)
    told = tools.environment
    assert (told["TORCH_CUDA_ARCH_LIST"], told["MAX_JOBS"]) == ("7.5", "3") == (tools.arch, str(tools.jobs))
    assert told["CUDA_HOME"] == str(machine / "toolkit")
    assert str(elsewhere) in told["CPLUS_INCLUDE_PATH"] and str(machine / "toolkit/lib") in told["LIBRARY_PATH"]
    assert str(machine) in told["PYTHONPATH"].split(os.pathsep)


@pytest.mark.parametrize(("cores", "gigabytes", "jobs"), [(2, 11.5, 2), (16, 11.5, 5), (4, 1.0, 1)])
def test_jobs_follow_cores_and_memory(monkeypatch, cores, gigabytes, jobs):
    monkeypatch.setattr(os, "sched_getaffinity", lambda p: set(range(cores)))
    memory = f"MemTotal: 99 kB\nMemAvailable:   {int(gigabytes * 2**20)} kB\n"
    monkeypatch.setattr(Path, "read_text", lambda self: memory)
    assert default_jobs() == jobs
