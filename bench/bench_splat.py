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
from fit3d_lite import Camera, Gaussians, captures, fit, photo_psnr, render, room, view_matrix

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
    slow = seconds(lambda: dense_step(cloud(1000), camera(128)), repeat=2)
    return (
        f"Forward and backward at 128²: sparse, 10,000 Gaussians {fast:.3f} s; dense, 1,000 Gaussians {slow:.2f} s, "
        f"so {10 * slow:.1f} s for 10,000: **{10 * slow / fast:.0f} times faster** (aim: 100)."
    )


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
        begin = time.perf_counter()
        fitted = fit(start, train, steps, progress=False)
        took = time.perf_counter() - begin
        before, after = (statistics.mean(photo_psnr(c, held)) for c in (start, fitted))
        seen = statistics.mean(photo_psnr(fitted, train))
        numbers = [f"{v:.1f}" for v in (before, after, after - before, seen)]
        rows.append([name, f"{len(start):,} → {len(fitted):,}", steps, f"{took:.0f}", *numbers])
    header = ["scene", "Gaussians", "steps", "s", "held-out PSNR before, dB", "after", "gain", "training views after"]
    return table(header, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--skip-fit", action="store_true", help="leave out the fits, which take two minutes")
    args = parser.parse_args()
    parts = [
        "# The view matrix, measured",
        "## Against the dense float64 reference (relative error in norm; aim: 1e-5)",
        exactness(),
        "## Speed",
        speed(),
        "## Growth: time follows the number of pairs (a pair costs more once the lists outgrow the processor's cache)",
        growth(),
        "## Memory and import",
        memory(),
        importing(),
    ]
    if not args.skip_fit:
        parts += ["## Fitting to photos", fitting()]
    write("splat", "\n\n".join(parts))


if __name__ == "__main__":
    main()
