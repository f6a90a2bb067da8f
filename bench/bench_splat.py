"""The view matrix: how exact, how fast, how it grows, how much memory, and what fitting to photos gains.

python -m bench.bench_splat [--skip-fit]
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time

import torch

from bench.report import ROOT, in_fresh_process, seconds, table, write
from fit3d_lite import (
    Camera,
    Gaussians,
    captures,
    fit,
    lift,
    photo_psnr,
    render,
    room,
    set_backend,
    view_matrix,
)

sys.path.insert(0, str(ROOT / "tests" / "standins"))
from dense import dense_view_matrix  # noqa: E402

EYE = (0.3, -3.0, 0.4)


def cloud(count: int, size=(0.01, 0.05), seed=0) -> Gaussians:
    """Overlapping Gaussians of all shapes in a 3 m cube; some are needles, some stand before or behind the camera."""
    g = torch.Generator().manual_seed(seed)
    means = 3 * torch.rand(count, 3, generator=g) - 1.5
    means[: count // 20] = torch.tensor(EYE) + 0.3 * torch.randn(count // 20, 3, generator=g)
    scales = torch.empty(count, 3).uniform_(math.log(size[0]), math.log(size[1]), generator=g).exp()
    scales[::7] *= torch.tensor([8.0, 0.1, 0.1])
    quats, opacities = torch.randn(count, 4, generator=g), torch.rand(count, generator=g)
    return Gaussians(means, quats, scales, opacities, torch.rand(count, 3, generator=g))


def camera(size: int) -> Camera:
    return Camera.look_at(EYE, (0, 0, 0), fov_x=60, width=size, height=size)


def leaves(c: Gaussians, dtype=torch.float32) -> list:
    return [v.to(dtype).clone().requires_grad_() for v in (c.means, c.quats, c.scales, c.opacities, c.colors)]


def relative(a, b) -> float:
    return float((a.detach().double() - b.detach()).norm() / b.detach().norm())


def exactness() -> str:
    kinds = {
        "2,000 overlapping, 64²": (cloud(2000, (0.05, 0.3)), camera(64)),
        "1,000 needles, 64²": (cloud(1000, (0.005, 0.5), 1), camera(64)),
        "800 nearly opaque, 64²": (cloud(800, (0.3, 0.6), 2), camera(64)),
        "500 dots under a pixel, 64²": (cloud(500, (0.0005, 0.005), 3), camera(64)),
    }
    rows = []
    for name, (c, cam) in kinds.items():
        mine, plain = leaves(c), leaves(c, torch.float64)
        image, _ = render(Gaussians(*mine), cam)
        expected = (dense_view_matrix(*plain[:4], cam) @ plain[4]).reshape(image.shape)
        direction = torch.randn(image.shape, generator=torch.Generator().manual_seed(5))
        (image * direction).sum().backward()
        (expected * direction).sum().backward()
        errors = [relative(image, expected)] + [relative(a.grad, b.grad) for a, b in zip(mine, plain, strict=True)]
        rows.append([name, *(f"{e:.1e}" for e in errors)])
    return table(["cloud", "image", "∂means", "∂quats", "∂scales", "∂opacities", "∂colors"], rows)


def speed() -> str:
    def step(c, cam):
        values = leaves(c)
        render(Gaussians(*values), cam)[0].square().sum().backward()

    def dense_step(c, cam):
        values = leaves(c)
        (dense_view_matrix(*values[:4], cam) @ values[4]).square().sum().backward()

    fast = seconds(lambda: step(cloud(10_000), camera(128)))
    slow = seconds(lambda: dense_step(cloud(1000), camera(128)), repeat=1)
    return (
        f"Forward and backward at 128²: sparse, 10,000 Gaussians {fast:.3f} s; dense, 1,000 Gaussians {slow:.2f} s, "
        f"so {10 * slow:.1f} s for 10,000: **{10 * slow / fast:.0f} times faster** (aim: 100)."
    )


def backends() -> str:
    """numba against torch: forward and backward, the two taken in turns, so that a busy machine slows both."""

    def step(c, cam, way):
        values = leaves(c)
        begin = time.perf_counter(), time.process_time()
        render(Gaussians(*values), cam, backend=way)[0].square().sum().backward()
        return time.perf_counter() - begin[0], time.process_time() - begin[1]

    rows, before = [], torch.get_num_threads()
    for count in (10_000, 30_000, 100_000):
        for size in (160, 384, 512):
            c, cam = cloud(count, tuple(s * (10_000 / count) ** 0.5 for s in (0.01, 0.05))), camera(size)
            row = [f"{count:,}", f"{size}²"]
            for threads in (1, 2):
                torch.set_num_threads(threads)
                taken = {"numba": [], "torch": []}
                for _ in range(2):
                    for way, runs in taken.items():
                        runs.append(step(c, cam, way))
                (wall, work), (slow, slow_work) = ([min(x) for x in zip(*runs, strict=True)] for runs in taken.values())
                row += [f"{wall:.3f}", f"{slow:.2f}", f"{slow / wall:.1f}"]
                row += [f"{slow_work / work:.1f}"] if threads == 1 else []
            rows.append(row)
    torch.set_num_threads(before)
    header = ["Gaussians", "picture", "1 thread: numba, s", "torch, s", "times faster", "in processor time"]
    return table([*header, "2 threads: numba, s", "torch, s", "times faster"], rows)


def lifting() -> str:
    """24 views of 518² to a grid of 37² patches, as DINOv2 has them."""
    scene = room(0, 24, 518)
    c = Gaussians.from_depth(scene, count=30_000)
    feats, taken = torch.randn(24, 384, 37, 37), {}
    for way in ("numba", "torch"):
        set_backend(way)
        begin = time.perf_counter(), time.process_time()
        lift(c, scene.cameras, feats)
        spent = time.perf_counter() - begin[0], time.process_time() - begin[1]
        taken[way] = spent
    set_backend("auto")
    (fast, fast_work), (slow, slow_work) = taken["numba"], taken["torch"]
    return (
        f"Lifting 24 views of 518² by the mean (384 channels, 37² patches, {len(c):,} Gaussians): numba {fast:.1f} s, torch "
        f"{slow:.1f} s, {slow / fast:.1f} times faster ({slow_work / fast_work:.1f} in processor time)."
    )


COMPILING = """
import os, tempfile, time
os.environ["NUMBA_CACHE_DIR"] = tempfile.mkdtemp()
import torch, fit3d_lite
begin, work = time.perf_counter(), time.process_time()
fit3d_lite.backend.module("numba").kernels()
print(time.process_time() - work, time.perf_counter() - begin)
"""


def compiling() -> str:
    work, wall = map(float, in_fresh_process(COMPILING).split())
    return f"numba compiles its loops, once, in {work:.1f} s of one processor ({wall:.1f} s on the clock; aim: 6)."


def growth() -> str:
    rows = []
    for count in (1000, 10_000, 100_000):
        for size in (128, 256, 512):
            # Gaussians shrink as their number grows, as they do in a scene: about as many overlap in every pixel.
            c, cam = cloud(count, tuple(s * (10_000 / count) ** 0.5 for s in (0.01, 0.05))), camera(size)
            pairs = view_matrix(c, cam)._nnz()
            took = seconds(lambda c=c, cam=cam: view_matrix(c, cam), repeat=3)
            rows.append([f"{count:,}", f"{size}²", f"{pairs:,}", f"{took:.3f}", f"{1e9 * took / pairs:.0f}"])
    return table(["Gaussians", "picture", "pairs", "view_matrix, s", "ns a pair"], rows)


MEMORY = """
import torch, sys
from bench.report import peak_mb
from bench.bench_splat import cloud, camera, leaves
from fit3d_lite import Gaussians, render, view_matrix
backward = {backward}
c, cam = cloud(30_000, (0.01, 0.04)), camera(384)
view_matrix(c[:100], cam); small = leaves(c[:100]); render(Gaussians(*small), cam)[0].sum().backward()
before = peak_mb()
if backward:
    values = leaves(c); render(Gaussians(*values), cam)[0].square().sum().backward()
else:
    view_matrix(c, cam)
after = peak_mb()
print((after - before) / (view_matrix(c, cam)._nnz() / 1e6))
"""


def memory() -> str:
    forward, both = (float(in_fresh_process(MEMORY.format(backward=b))) for b in (False, True))
    return (
        f"Peak memory per million pairs: {forward:.0f} MB for `view_matrix`, {both:.0f} MB for `render` forward and backward "
        "(resident memory of a fresh process above what it held before)."
    )


def importing() -> str:
    code = "import time, torch; t = time.perf_counter(); import fit3d_lite; print(time.perf_counter() - t)"
    return f"`import fit3d_lite` after torch: {float(in_fresh_process(code)):.2f} s (aim: under 2)."


def fitting() -> str:
    rows = []
    scenes = {"room 0, 24 views of 160²": (room(0, 24, 160), room(0, 8, 160, split="holdout"), 15_000, 200)}
    if captures.find_office():
        train, held = captures.office(frames=range(20, 32), size=(180, 270)).split(4)
        scenes["office, 12 frames of 180×270, every fourth held out"] = (train, held, 20_000, 200)
    for name, (train, held, count, steps) in scenes.items():
        start = Gaussians.from_depth(train, count=count)
        begin, work = time.perf_counter(), time.process_time()
        fitted = fit(start, train, steps, progress=False)
        took, work = time.perf_counter() - begin, time.process_time() - work
        before, after = (statistics.mean(photo_psnr(c, held)) for c in (start, fitted))
        seen = statistics.mean(photo_psnr(fitted, train))
        numbers = [f"{v:.1f}" for v in (before, after, after - before, seen)]
        rows.append([name, f"{len(start):,} → {len(fitted):,}", steps, f"{took:.0f}", f"{work:.0f}", *numbers])
    header = ["scene", "Gaussians", "steps", "s", "processor s", "held-out PSNR before, dB", "after", "gain"]
    header += ["training views after"]
    return table(header, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--skip-fit", action="store_true", help="leave out the fits, which take two minutes")
    args = parser.parse_args()
    tasks = {
        "## Against the dense float64 reference (relative error in norm; aim: 1e-5)": [exactness],
        "## numba against torch, forward and backward (the less of two, taken in turns: busy neighbours slow both)": [
            backends, compiling, lifting,
        ],
        "## Fitting to photos": [] if args.skip_fit else [fitting],
        "## Speed": [speed],
        "## Growth: time follows the number of pairs": [growth],
        "## Memory and import": [memory, importing],
    }  # fmt: skip
    parts = ["# The view matrix, measured"]
    for title, measurements in tasks.items():
        parts += [title] if measurements else []
        for measure in measurements:
            parts.append(measure())
            write("splat", "\n\n".join(parts))  # at once: it takes a quarter of an hour, and may be interrupted


if __name__ == "__main__":
    main()
