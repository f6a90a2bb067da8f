"""Compiling gsplat in the background, with a gsplat of two C++ files: what is missing is said, what is stopped goes on,
and nothing is compiled twice.
"""

import importlib.util
import os
import re
import shutil
import signal
import sys
import time
from pathlib import Path

import pretend_gsplat
import pytest
import torch

from fit3d_lite.__main__ import main
from fit3d_lite.splatting.gpu import gsplat_build
from fit3d_lite.splatting.gpu.gsplat_build import (
    Build,
    BuildError,
    architecture,
    build_gsplat,
    default_jobs,
    environment,
)

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
    cuda = pretend_gsplat.package(folder) / "cuda"
    (cuda / "csrc/second.cpp").write_text("int second() { return 2; }\n")
    if importlib.util.find_spec("packaging") is None:
        (folder / "packaging.py").touch()
    toolkit = folder / "toolkit"
    (toolkit / "bin").mkdir(parents=True)
    (toolkit / "include").mkdir()
    (toolkit / "include/cuda_runtime.h").touch()
    for path, text in {toolkit / "bin/nvcc": "#!/bin/sh\n", folder / "compiler": COMPILER.format(folder=folder)}.items():
        path.write_text(text)
        path.chmod(0o755)
    monkeypatch.setenv("CUDA_HOME", str(toolkit))
    monkeypatch.setattr(gsplat_build, "TOOLKIT", "/nowhere")
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
def test_a_build_that_was_stopped_and_then_failed_goes_on_and_ends_in_a_library(machine, monkeypatch, capfd):
    pretend_gsplat.need_compiler()
    (machine / "wait").touch()

    # Started: it returns at once, and a second call, which knows nothing of the first, joins it.
    build = build_gsplat(arch="7.5", jobs=2)
    assert "in the background for compute capability 7.5, 2 at a time" in capfd.readouterr().out
    until(lambda: build.progress() == (2, 4) or not build.running)
    assert build.running, build.log.read_text()
    other = build_gsplat(arch="7.5", jobs=1)
    assert other.running and not other.done and other._process is None and capfd.readouterr().out == ""
    assert "2 of 4 steps" in repr(other)
    assert os.getsid(build._process.pid) != os.getsid(0)  # a cell's interrupt does not reach it

    # Stopped: nobody waits for ever, and what is compiled stays.
    build.stop()
    build.stop()  # twice does no harm
    until(lambda: not other.running)
    assert "probably killed" in build.error and not build.done
    assert compiled(machine) == ["ext.cpp", "first.cpp", "second.cpp"]

    # A mistake in the source: the compiler's words come up, not what Python makes of them.
    source = machine / "gsplat/cuda/csrc/second.cpp"
    source.write_text("int second() { return two; }\n")
    (machine / "wait").unlink()
    (build.library.parent / "build/lock").touch()  # torch up to 2.11 would wait for it
    with pytest.raises(BuildError) as failure:
        build_gsplat(arch="7.5", jobs=1, wait=True)
    first, second = str(failure.value).splitlines()[:2]
    assert str(build.log) in first and "second.cpp" in second and "error" in second and "two" in second
    assert "ImportError" not in str(failure.value)
    assert compiled(machine) == ["second.cpp"]

    # Mended: only that file is compiled. This time from the command line.
    source.write_text("int second() { return 2; }\n")
    capfd.readouterr()
    assert main(["build-gsplat", "--arch", "7.5", "--jobs", "1"]) == 0
    assert compiled(machine) == ["second.cpp"]
    assert f"gsplat is compiled: {build.library}" in capfd.readouterr().out
    assert build.done and not build.running
    assert "two" not in build.log.read_text()  # each attempt begins a new log

    # Found again, without a compiler.
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    again = build_gsplat(arch="7.5", wait=True)
    assert again.done and again._process is None and compiled(machine) == []


@pytest.mark.skipif(shutil.which("ninja") is None, reason="no ninja")
def test_a_killed_build_is_over(machine):
    """By SIGKILL, as when memory runs out: nobody could clean up."""
    pretend_gsplat.need_compiler()
    (machine / "wait").touch()
    build = build_gsplat(arch="7.5", jobs=2)
    until(lambda: build.progress()[0] == 2 or not build.running)
    os.killpg(build._process.pid, signal.SIGKILL)
    until(lambda: not build.running)
    assert "probably killed" in repr(build) and not build.done
    (machine / "wait").unlink()
    assert build_gsplat(arch="7.5", jobs=2, wait=True).done


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
        "packaging is not installed: pip install",
        lambda m, p: p.setattr(importlib.util, "find_spec", without("packaging")),
    ),
    "torch for the CPU": ("build without CUDA", lambda m, p: p.setattr(torch.version, "cuda", None)),
    "no device": ("switch on the GPU, or name one by arch", lambda m, p: p.setattr(torch.cuda, "is_available", bool)),
    "no ninja": ("needs ninja, which is not on the PATH: pip install ninja", lambda m, p: p.setattr(shutil, "which", no_tool)),
    "no nvcc": ("needs CUDA's compiler nvcc 12.8, and none is in", lambda m, p: (m / "toolkit/bin/nvcc").unlink()),
    "another system": ("works on Linux only", lambda m, p: p.setattr(sys, "platform", "win32")),
}


def without(name):
    """importlib.util.find_spec where ``name`` is not installed."""
    find_spec = importlib.util.find_spec
    return lambda module: None if module == name else find_spec(module)


def no_tool(name, path=None):
    return None


@pytest.mark.parametrize("lack", LACKS)
def test_what_is_missing_is_named_before_any_work(machine, monkeypatch, lack, capsys):
    message, remove = LACKS[lack]
    monkeypatch.setattr(shutil, "which", lambda tool, path=None: tool)  # not everybody who tests has ninja
    remove(machine, monkeypatch)
    with pytest.raises(BuildError, match=message):
        build_gsplat(arch=None if lack == "no device" else "7.5")
    assert main(["build-gsplat"] + ["--arch", "7.5"] * (lack != "no device")) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not Path(os.environ["FIT3D_CACHE"]).exists()


def test_arguments_out_of_range_are_refused_with_the_number():
    with pytest.raises(ValueError, match="such as \"7.5\".*got 'sm_75'"):
        architecture("sm_75")
    with pytest.raises(ValueError, match="≥ 1, got 0"):
        build_gsplat(jobs=0)


def test_the_compiler_is_told_the_gpu_the_jobs_and_where_things_lie(machine, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *a: (7, 5))
    monkeypatch.setattr(shutil, "which", lambda tool, path=None: tool)
    told = environment(architecture(None), 3)
    assert (told["TORCH_CUDA_ARCH_LIST"], told["MAX_JOBS"]) == ("7.5", "3")
    assert told["CUDA_HOME"] == str(machine / "toolkit")
    assert str(machine) in told["PYTHONPATH"].split(os.pathsep)


@pytest.mark.parametrize(("cores", "gigabytes", "jobs"), [(2, 11.5, 2), (16, 11.5, 5), (4, 1.0, 1)])
def test_jobs_follow_cores_and_memory(monkeypatch, cores, gigabytes, jobs):
    monkeypatch.setattr(os, "sched_getaffinity", lambda p: set(range(cores)))
    memory = f"MemTotal: 99 kB\nMemAvailable:   {int(gigabytes * 2**20)} kB\n"
    monkeypatch.setattr(Path, "read_text", lambda self: memory)
    assert default_jobs() == jobs
