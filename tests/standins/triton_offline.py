"""Triton kernels compiled for a GPU that is not there, with its bundled compiler and assembler.

The tests themselves run kernels in Triton's interpreter, in which a kernel is no longer a thing that can be compiled.
So one second process without the interpreter serves all tests of a session (starting it, with torch, takes seconds).
"""

from __future__ import annotations

import atexit
import functools
import importlib
import multiprocessing
import os
import re
import shutil
import subprocess
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Compiled:
    """What a kernel became, and what it takes on the GPU."""

    asm: dict[str, str | bytes]  # "ttir", "ttgir", "llir", "ptx" as text, "cubin" as bytes
    registers: int  # per thread
    spilled: int  # bytes per thread written to memory for want of registers
    stack: int  # bytes per thread
    shared: int  # bytes per program


def compile_for(
    fn,  # a @triton.jit function at the top level of a module
    signature: dict[str, str],  # type of every parameter that is not a constant: "*fp32", "i32", "fp32"
    constexprs: dict[str, object],
    capability: tuple[int, int],  # (7, 5) is a T4, (9, 0) an H100
    num_warps: int = 4,
) -> Compiled:
    """Compile one kernel. Raises what Triton raises, with the line that it refuses, as RuntimeError."""
    job = (fn.fn.__module__, fn.fn.__name__, signature, constexprs, 10 * capability[0] + capability[1], num_warps)
    return _worker().submit(_compile, *job).result()


# The kernels of triton_kernels.py that draw, and the types of their parameters that are no floats.
DRAWING = ("blend_forward", "blend_backward", "count_pairs", "write_pairs")
TYPES = {
    "listed": "*i32", "starts": "*i32", "last": "*i32", "counted": "*i32", "rows": "*i64", "columns": "*i64",
    "width": "i32", "height": "i32", "tiles_x": "i32", "first_row": "i32", "channels": "i32",
}  # fmt: skip


def compile_drawing(name: str, capability: tuple[int, int], block: int) -> Compiled:
    """One of DRAWING as triton_draw.py launches it: one warp, all gradients, ``block`` channels at once."""
    from fit3d_lite.splatting.gpu import triton_kernels

    fn = getattr(triton_kernels, name)
    constants = {"BLOCK": block, "GEOMETRY": True, "VALUES": True}
    constants = {k: v for k, v in constants.items() if k in fn.arg_names}
    types = {a: TYPES.get(a, "*fp32") for a in fn.arg_names if a not in constants}
    return compile_for(fn, types, constants, capability, num_warps=1)


@functools.cache
def _worker() -> ProcessPoolExecutor:
    cache = tempfile.mkdtemp(prefix="triton_offline_")  # not the reader's own in ~/.triton
    pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=_settle, initargs=(cache,))
    atexit.register(shutil.rmtree, cache, ignore_errors=True)
    return pool


def _settle(cache: str) -> None:
    os.environ.update(TRITON_INTERPRET="0", TRITON_CACHE_DIR=cache)


def _compile(module: str, name: str, signature: dict, constexprs: dict, arch: int, num_warps: int) -> Compiled:
    import triton
    from triton.backends.compiler import GPUTarget

    fn = getattr(importlib.import_module(module), name)
    types = {name: "constexpr" if name in constexprs else signature[name] for name in fn.arg_names}
    source = triton.compiler.ASTSource(fn, types, constexprs)
    try:
        kernel = triton.compile(source, target=GPUTarget("cuda", arch, 32), options={"num_warps": num_warps})
    except triton.TritonError as error:  # it does not survive the way back to the first process
        raise RuntimeError(str(error)) from None
    asm = {key: kernel.asm[key] for key in ("ttir", "ttgir", "llir", "ptx", "cubin")}
    return Compiled(asm, *_resources(asm["ptx"]), kernel.metadata.shared)


def _resources(ptx: str) -> tuple[int, int, int]:
    """Registers, spilled bytes and stack bytes per thread, as the assembler reports them."""
    import triton

    assembler = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "ptxas"
    target = re.search(r"\.target\s+(sm_\w+)", ptx)[1]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "kernel.ptx"
        source.write_text(ptx)
        command = [assembler, "-v", f"--gpu-name={target}", source, "-o", source.with_suffix(".cubin")]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    stack, spilled = re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores", said).groups()
    return int(re.search(r"Used (\d+) registers", said)[1]), int(spilled), int(stack)
