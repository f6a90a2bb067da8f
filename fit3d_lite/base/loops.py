"""How numba is asked to compile loops, and the types of their arguments. To be imported late: numba takes half a second.

Constants come as arguments or stand in the same file, and a compiled function calls only functions of its own file:
machine code that is kept would not notice that another file has changed.
"""

import importlib
import sys
import time
from types import ModuleType

import numba
from numba import boolean, float32, float64, int64, void
from numba.types import UniTuple

OPTIONS = {"nogil": True, "error_model": "numpy"}


def compiled(*signature):
    """Machine code that lets other threads run: made when its file is imported, and kept for the next start, unless
    there is no folder to keep it in."""

    def compile(function):
        try:
            return numba.njit(void(*signature), cache=True, **OPTIONS)(function)
        except (RuntimeError, OSError):  # numba finds no folder that it may write, or a full disk
            return numba.njit(void(*signature), **OPTIONS)(function)

    return compile


def load(what: str, package: str, *names: str) -> tuple[ModuleType, ...]:
    """The files of a room that hold the ``what`` loops. The first start ever compiles them, which takes seconds, and says so."""
    begin = time.perf_counter()
    modules = tuple(importlib.import_module(f".{name}", package) for name in names)
    stats = [*vars(modules[-1]).values()][-1].stats  # of the last function of the last file
    if sum(stats.cache_misses.values()) or not stats.cache_path:
        kept = f"kept in {stats.cache_path}" if stats.cache_path else "no folder to keep them in can be written"
        took = time.perf_counter() - begin
        print(f"fit3d_lite: numba compiled the {what} loops in {took:.1f} s ({kept})", file=sys.stderr)
    return modules


# A function that only compiled ones call: Python needs no way in, which halves what compiling it takes.
inner = numba.njit(no_cpython_wrapper=True, no_cfunc_wrapper=True, **OPTIONS)

# Single numbers, arrays by their dimensions, and tuples of constants.
NUMBER, COUNT, YES = float64, int64, boolean
PLACES, PLACES2, YES1, YES2 = int64[::1], int64[:, ::1], boolean[::1], boolean[:, ::1]
SINGLE1, SINGLE2, SINGLE3 = float32[::1], float32[:, ::1], float32[:, :, ::1]
DOUBLE2, DOUBLE3 = float64[:, ::1], float64[:, :, ::1]
VIEW, LENS, LIMITS = UniTuple(UniTuple(float64, 3), 5), UniTuple(float64, 9), UniTuple(float64, 3)
