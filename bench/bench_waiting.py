"""How waiting threads should wait: torch's two threads on two cores, alone and beside a program that keeps both cores busy.

    make bench ONLY=waiting      # about five minutes

libgomp reads its variables when torch is loaded, so each row is a fresh process. Rows take turns, and each number is the
median of its turns. Beside busy programs there is one turn only, since there spinning takes minutes.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys

from .report import ROOT, table, write

WAYS = {
    "nothing set": {},
    "OMP_WAIT_POLICY=passive": {"OMP_WAIT_POLICY": "passive"},
    "**GOMP_SPINCOUNT=1000**": {"GOMP_SPINCOUNT": "1000"},
    "GOMP_SPINCOUNT=20000": {"GOMP_SPINCOUNT": "20000"},
}
PLACES = {"Alone": (0, 3), "Beside two busy processes": (2, 1)}  # how many of them, and turns
WORK = """
import json, time, torch
torch.set_num_threads(2)
import fit3d_lite as f3d
vit, photo = f3d.load_vit("small", device="cpu"), torch.rand(2, 3, 224, 224)
room = f3d.room(0, 2, 96)
cloud, square = f3d.Gaussians.from_depth(room, count=5000), torch.rand(300, 300)
def learn():
    for _ in range(4):
        vit(photo).square().mean().backward()
def tiny():
    for _ in range(300):
        (square @ square).softmax(1)
def draw():
    for _ in range(10):
        f3d.view_matrix(cloud, room.cameras[0])
times = []
for work in (learn, tiny, draw):
    work()
    begin = time.perf_counter(); work(); times.append(time.perf_counter() - begin)
print(json.dumps(times))
"""
BUSY = "while True: pass"


def turn(setting: dict) -> list[float]:
    clean = setting | {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS")}
    code = WORK if setting else "import torch\n" + WORK  # loaded before the package, torch finds nothing set
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=clean, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parts = []
    for title, (neighbors, turns) in PLACES.items():
        others = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(neighbors)]
        try:
            found = {way: [] for way in WAYS}
            for _ in range(turns):
                for way, setting in WAYS.items():
                    found[way].append(turn(setting))
        finally:
            for other in others:
                other.kill()
        print(title, found, flush=True)
        medians = {way: [statistics.median(t) for t in zip(*times, strict=True)] for way, times in found.items()}
        base = medians["nothing set"]
        body = [
            [way, *(f"{t:.2f} s ({t / b:.2f} ×)" for t, b in zip(times, base, strict=True))] for way, times in medians.items()
        ]
        header = ["", "4 steps of the small ViT", "300 small products", "10 view matrices"]
        parts.append(f"## {title}\n\n" + table(header, body))
    about = (
        "# Waiting threads\n\nTwo threads on two cores; median of three turns alone, one turn beside; in brackets against "
        "nothing set.\nThe package sets GOMP_SPINCOUNT=1000 where the reader set neither variable: a thread that waits looks a "
        "thousand times\nwhether it may go on, then sleeps."
    )
    write("waiting", "\n\n".join([about, *parts]))


if __name__ == "__main__":
    main()
