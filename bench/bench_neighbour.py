"""Lessons beside a program that keeps both cores busy: seconds of each, in the quick profile.

    make bench ONLY=neighbour                        # half an hour: two processes of one thread fine-tune meanwhile
    python -m bench.bench_neighbour --beside 0       # where two such programs run already, as an ablation does; starts none

What a lesson takes alone is what `make course` says. Aim: at most 150 s.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile

from tools.execute import execute

from .report import ROOT, table, write

AIM = 150  # seconds
BUSY = """
import torch, fit3d_lite as f3d
torch.set_num_threads(1)
vit, photos = f3d.load_vit("small", device="cpu"), torch.rand(4, 3, 224, 224)
while True:
    vit(photos).square().mean().backward()
"""


def main(given: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lessons", nargs="*", help="00 05 …; all by default")
    parser.add_argument("--beside", type=int, default=2, help="busy processes to start")
    a = parser.parse_args(given)
    notebooks = sorted(p for p in (ROOT / "notebooks").glob("*.ipynb") if not a.lessons or p.name[:2] in a.lessons)
    if not notebooks:
        raise SystemExit(f"no lesson {', '.join(a.lessons)} in notebooks/")
    body = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"FIT3D_PROFILE": "quick", "FIT3D_CACHE": folder}
        busy = [subprocess.Popen([sys.executable, "-c", BUSY], cwd=ROOT) for _ in range(a.beside)]
        try:
            for path in notebooks:
                before = os.times()
                ran = execute(path, timeout=1800)
                spent = sum(os.times()[2:4]) - sum(before[2:4])  # of ended children, the kernel's among them
                if ran.failed_cell is not None:
                    raise SystemExit(f"{path.name} failed in cell {ran.failed_cell}: {ran.error}")
                met = "" if ran.seconds <= AIM else "over"
                body.append([path.stem, f"{ran.seconds:.0f} s", f"{spent:.0f} s", f"{max(ran.cell_seconds.values()):.0f} s", met])
                report(body, a.beside)  # at once, so that what ends early leaves what it measured
        finally:
            for process in busy:
                process.kill()


def report(body: list[list[str]], beside: int) -> None:
    others = f"{beside} processes of one thread that train a ViT without a pause" if beside else "what was running already"
    missed = sum(bool(row[-1]) for row in body)
    write("neighbour", f"""# Lessons beside a busy neighbour

In the quick profile, one after the other with an empty cache at the start, beside {others}.
{len(body) - missed} of {len(body)} meet the aim of {AIM} s.

""" + table(["lesson", "seconds", "of a processor", "slowest cell", "aim"], body))  # fmt: skip


if __name__ == "__main__":
    main()
