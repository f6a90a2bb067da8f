"""The command line of ablations: ``python -m fit3d_lite ablate grid.toml --work runs`` (sweep.py says what a grid is)."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from ..base.inputs import check_whole, existing_file, shard_of
from ..base.whole import check_writable
from . import sweep
from .sweep import points_of, read_grid, run_points, share_of, table_of, take_known
from .sweep_figures import write_results


def main(given: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m fit3d_lite ablate", description=sweep.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("grid", type=Path, help="the TOML file")
    parser.add_argument("--work", type=Path, required=True, help="folder in which every point is kept")
    parser.add_argument("--out", type=Path, help="folder for table.csv, gains.csv and a figure of each study")
    parser.add_argument("--only", nargs="+", help="names of some studies")
    parser.add_argument("--repetitions", type=int, help="fewer or more than the file says")
    parser.add_argument("--device", help="cpu, cuda …; by default the GPU where there is one")
    parser.add_argument("--known", type=Path, help="a table.csv whose points are taken as measured")
    parser.add_argument("--collect", action="store_true", help="measure nothing; --out of what is there")
    many = parser.add_mutually_exclusive_group()
    many.add_argument("--processes", type=int, default=1, help="so many at once here, each of one thread")
    many.add_argument("--shard", default="1/1", metavar="I/N", help="measure the I-th of N parts")
    a = parser.parse_args(given)
    studies, repetitions = read_grid(a.grid)
    if a.only and (unknown := sorted(set(a.only) - {s.name for s in studies})):
        raise ValueError(f"no study {', '.join(unknown)}; there are {', '.join(s.name for s in studies)}.")
    studies = [s for s in studies if not a.only or s.name in a.only]
    repetitions = repetitions if a.repetitions is None else a.repetitions
    check_whole(1, processes=a.processes)
    if a.collect and a.out is None:
        raise ValueError("--collect needs --out, the folder to write to.")
    wanted = points_of(studies, repetitions)
    if a.out is not None:
        check_writable(a.out / "table.csv")  # now, and not after hours
    if a.known is not None:
        import pandas as pd

        print(f"{take_known(pd.read_csv(existing_file(a.known, 'table')), a.work)} points taken from {a.known}", flush=True)
    if a.processes > 1 and not a.collect:
        _side_by_side(a)
    elif not a.collect:
        part, parts = shard_of(a.shard)
        run_points(share_of(wanted, part - 1, parts), a.work, a.device)
    if a.out is not None:
        write_results(studies, table_of(studies, repetitions, a.work), a.out)
    return 0


def _side_by_side(a: argparse.Namespace) -> None:
    """The same command once for each process. RuntimeError when one of them failed; what is measured is kept."""
    command = [sys.executable, "-m", "fit3d_lite", "ablate", str(a.grid), "--work", str(a.work)]
    command += ["--only", *a.only] if a.only else []
    command += ["--repetitions", str(a.repetitions)] if a.repetitions else []
    command += ["--device", a.device] if a.device else []
    shards = [[*command, "--shard", f"{i + 1}/{a.processes}"] for i in range(a.processes)]
    running = [subprocess.Popen(shard, env=os.environ | {"OMP_NUM_THREADS": "1"}) for shard in shards]
    try:
        failed = sum(process.wait() != 0 for process in running)
    finally:
        for process in running:
            process.terminate()
    if failed:
        raise RuntimeError(f"{failed} of {a.processes} processes failed; the points of the others are in {a.work}.")
