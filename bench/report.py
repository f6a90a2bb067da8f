"""What every measurement shares: a clock, the peak memory of a fresh process, and a table file that says how it was
made."""

from __future__ import annotations

import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]


def seconds(call, repeat: int = 5) -> float:
    """Median wall time of ``call()`` after one call to warm up."""
    call()
    times = []
    for _ in range(repeat):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def cell(runs, metric: str) -> str:
    """Mean ± standard deviation of a metric over repetitions (``fit3d_lite.probing.seeds.Runs``), as tables show it."""
    return f"{runs.mean(metric):.3f} ± {runs.spread(metric):.3f}"


def peak_mb() -> float:
    """Largest resident memory of this process so far, in MB (macOS counts bytes). On Linux from /proc: there the
    getrusage value of a new process starts at the size of the process that started it."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def in_fresh_process(code: str) -> str:
    """What ``code`` prints, run in its own interpreter: peak memory can only be read once a process."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout.strip()


def table(header: list[str], rows: list[list]) -> str:
    """A markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(str(c) for c in row) + " |" for row in rows])


def write(topic: str, text: str, command: str = "") -> None:
    """Print ``text`` and keep it as bench/results/<topic>.md, with the machine it was measured on and the command."""
    command = command or f"make bench ONLY={topic}"
    gpu = f"{torch.cuda.get_device_name()}, " if torch.cuda.is_available() else ""
    text = (
        f"{text.rstrip()}\n\nMade by `{command}` on {platform.machine()}, {torch.get_num_threads()} CPU threads, {gpu}"
        f"torch {torch.__version__.split('+')[0]}, Python {platform.python_version()}. "
        "Shared machines are noisy: ratios within one run mean more than seconds.\n"
    )
    print(text)
    (ROOT / "bench" / "results" / f"{topic}.md").write_text(text)
