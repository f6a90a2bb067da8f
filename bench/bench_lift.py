"""Lifting features to Gaussians: which way is fastest, and which comes closest to the ViT's own features in views
left out.

    python -m bench.bench_lift              # all tables
    python -m bench.bench_lift --methods    # the methods alone; the other tables stay as they were last measured
    python -m bench.bench_lift --quick      # one room, few decoder steps; writes no file
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.finer import features_finer
from bench.report import ROOT, in_fresh_process, table, write
from fit3d_lite import Gaussians, Scene, captures, load_vit, room
from fit3d_lite.lifting.decoder import regress_decoder, train_decoder
from fit3d_lite.lifting.grid import patch_matrix, stacked
from fit3d_lite.lifting.lifted import MIN_WEIGHT, normalized_weights
from fit3d_lite.lifting.methods import lift, robust_mean, weighted_mean
from fit3d_lite.lifting.solve import least_squares
from fit3d_lite.splatting.gaussians import rotation_matrices

SIZE = 224  # pixels a side of a room's photo
DECODER_STEPS = (100, 300, 900)
METHODS = {
    "mean": dict(method="mean"),
    "mean, robust": dict(method="mean", robust=True),
    "solve (ridge 0.3, 4 steps)": dict(method="solve"),
    "closed (D = 64)": dict(method="closed"),
}


@dataclass
class Case:
    """One scene as one network sees it, with everything that scoring needs once."""

    name: str
    train: Scene
    held: Scene
    cloud: Gaussians
    feats: Tensor  # [V, C, h, w]
    truth: Tensor  # [held-out views, C, h, w]

    def __post_init__(self):
        self.grid = tuple(self.feats.shape[-2:])
        self.views = [
            (patch_matrix(self.cloud, c, *self.grid), rows(f)) for c, f in zip(self.train.cameras, self.feats)
        ]
        self.away = [patch_matrix(self.cloud, c, *self.grid) for c in self.held.cameras]
        weight = sum(torch.zeros(len(self.cloud)).index_add_(0, W.col_indices(), W.values()) for W, _ in self.views)
        self.weight, self.seen = weight, weight >= MIN_WEIGHT

    def score(self, features: Tensor, decoder: Tensor | None = None) -> dict:
        """Held-out score of features [N, C], or [N, D] with a decoder; renders as Lifted.render does."""
        drawn = []
        for W in self.away:
            values = (normalized_weights(W, self.seen)[0] @ features).T.reshape(-1, *self.grid)
            drawn.append(values if decoder is None else F.conv2d(values[None], decoder, padding=1)[0])
        return self.compare(torch.stack(drawn))

    def compare(self, drawn: Tensor) -> dict:  # [held-out views, C, h, w]
        """Cosine, the same for shuffled pairs, L1 and the ratio of standard deviations, where there are Gaussians."""
        mask = torch.cat([normalized_weights(W, self.seen)[1] for W in self.away])
        a, b = (torch.cat([rows(f) for f in maps])[mask] for maps in (drawn, self.truth))
        other = torch.randperm(len(b), generator=torch.Generator().manual_seed(0))
        return {
            "cosine": float(F.cosine_similarity(a, b).mean()),
            "shuffled": float(F.cosine_similarity(a, b[other]).mean()),
            "L1": float((a - b).abs().mean()),
            "std": float(a.std(0).mean() / b.std(0).mean()),
        }


def rows(feats: Tensor) -> Tensor:  # [C, h, w] -> [h*w, C]
    return feats.flatten(1).T.contiguous()


def network(images: Tensor) -> Tensor:  # [V, 3, H, W] -> [V, C, h, w]
    return small().extract(images, batch=4, quiet=True)


@cache
def small():
    return load_vit("small", device="cpu")


def scenes(quick: bool) -> dict[str, tuple[Scene, Scene]]:
    found = {f"room {s}": (room(s, 24, SIZE), room(s, 8, SIZE, split="holdout")) for s in range(1 if quick else 3)}
    frames = slice(20, 36)
    if not quick and captures.find_office(frames) is not None:
        found["office"] = captures.office(frames, (252, 378)).split(4)
    return found


def clock(call):
    """Result, CPU seconds of all threads, wall seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = call()
    return result, time.process_time() - cpu, time.perf_counter() - wall


def mean_feature(case: Case) -> dict:
    constant = case.feats.mean((0, 2, 3))
    return case.compare(constant[:, None, None].expand_as(case.truth[0]).expand_as(case.truth))


def warped(case: Case) -> dict:
    """Each held-out patch takes the feature of the training view that shows most of the picture, at the place where the
    depth map puts it; where that view does not show it, the mean feature. It needs the held-out depth, lifting does
    not."""
    h, w = case.grid
    drawn = case.feats.mean((0, 2, 3))[None, :, None, None].repeat(len(case.truth), 1, h, w)
    size = (h, w)
    for index, view in enumerate(case.held):
        depth = F.interpolate(view.depth[None, None], size=size, mode="nearest-exact")[0, 0]
        points = view.camera.scaled(w, h).unproject(depth)
        best = None
        for other, feats in zip(case.train, case.feats):
            pixels, z = other.camera.project(points)
            where = pixels / torch.tensor([other.camera.width, other.camera.height]) * 2 - 1
            there = F.grid_sample(other.depth[None, None], where[None], mode="nearest", align_corners=False)[0, 0]
            visible = (depth > 0) & (z > 0) & (where.abs() < 1).all(-1) & ((z - there).abs() < 0.05 * z)
            if best is None or int(visible.sum()) > int(best[0].sum()):
                best = visible, F.grid_sample(feats[None], where[None], align_corners=False, padding_mode="border")[0]
        drawn[index] = torch.where(best[0], best[1], drawn[index])
    return case.compare(drawn)


def main_table(cases: list[Case], decoder_steps: int) -> tuple[str, dict]:
    """The table, and for each method its (CPU seconds, cosine) by scene."""
    names = [c.name for c in cases]
    lines, found = [], {}

    def add(label, scored, cost=("", "", "")):
        cosines = [f"{r['cosine']:.3f}" if r else "" for r in scored]
        known = [r for r in scored if r]
        middle = [f"{statistics.mean(r[k] for r in known):.{d}f}" for k, d in (("shuffled", 3), ("L1", 3), ("std", 2))]
        lines.append([label, *cost, *cosines, *middle])

    add("mean feature", [mean_feature(c) for c in cases])
    add("nearest view, warped by depth", [warped(c) for c in cases])
    methods = dict(METHODS)
    decoder = "decoder (D = 64, {} steps)".format(decoder_steps)
    methods[decoder] = dict(method="decoder", steps=decoder_steps, progress=False)
    for label, options in methods.items():
        scored, cpu, wall, stored = [], [], [], []
        for case in cases:
            if label == decoder and case.name not in ("room 0", "office"):
                scored.append(None)  # a minute each
                continue
            made, c, t = clock(lambda: lift(case.cloud, case.train.cameras, case.feats, **options))
            scored.append(case.score(made.features, made.decoder))
            found.setdefault(label.split(" (")[0], {})[case.name] = c, scored[-1]["cosine"]
            cpu.append(c), wall.append(t), stored.append(made.bytes / 1e6)
            print(f"  {label}, {case.name}: {c:.1f} s CPU, {t:.1f} s wall, {scored[-1]}", flush=True)
        add(label, scored, [f"{statistics.mean(v):.1f}" for v in (cpu, wall, stored)])
    head = ["method", "CPU s", "wall s", "stored MB", *(f"{n}: cosine" for n in names), "shuffled", "L1", "std ratio"]
    return table(head, lines), found


def verdict(found: dict) -> str:
    """What was aimed at, beside what main_table found."""

    def gain(better, base):
        gains = [found[better][s][1] - found[base][s][1] for s in found[better] if s in found[base]]
        above = f"{sum(g > 0 for g in gains)} of {len(gains)}"
        return f"`{better}` is above `{base}` in {above} cases, by {min(gains):+.3f} to {max(gains):+.3f} in held-out cosine"

    cost = {m: max(c for c, _ in found[m].values()) for m in ("mean", "closed")}
    faster = [found["decoder"][s][0] / found["mean"][s][0] for s in found["decoder"]]
    lines = [
        f"aim: `mean` under 5 s. Found: at most {cost['mean']:.1f} CPU s; `closed` at most {cost['closed']:.1f}.",
        f"aim: `mean` 100 times faster than `decoder`. Found: {min(faster):.0f} to {max(faster):.0f} times. Not reached: at "
        "the patch grid the decoder's steps are cheap too. The paper takes its loss at pixels, 30,000 times; what one such "
        "step costs stands in the decoder's table below.",
        f"aim: `mean` at least as good as `decoder`. Found: {gain('mean', 'decoder')}. {gain('closed', 'decoder')}.",
        f"aim: `solve` or robust better than `mean` everywhere. Found: {gain('solve', 'mean')}; "
        f"{gain('mean, robust', 'mean')}; {gain('closed', 'mean')}.",
        "`closed` and `decoder` see a 3 × 3 neighbourhood and, through the zero padding, the border of the picture. Part of "
        "their gain is learning what a ViT does at borders, which is no property of the scene.",
    ]
    return "\n".join(f"- {line}" for line in lines)


def solve_table(cases: list[Case]) -> str:
    lines = []
    for ridge in (1.0, 0.3, 0.1, 0.01):
        for steps in (1, 4):
            row = [ridge, steps]
            for case in cases:
                A, targets = stacked([W for W, _ in case.views]), torch.cat([f for _, f in case.views])
                mean, weight = weighted_mean(case.views)
                row.append(
                    f"{case.score(least_squares(A, targets, mean, weight, case.seen, ridge, steps))['cosine']:.4f}"
                )
            lines.append(row)
    return table(["ridge", "steps", *(c.name for c in cases)], lines)


def closed_table(cases: list[Case]) -> str:
    lines = []
    for dim in (64, 128):
        for ridge in (0.002, 0.02, 0.2):
            scored = []
            for case in cases:
                mean, _ = weighted_mean(case.views)
                scored.append(case.score(*regress_decoder(case.views, case.grid, mean, case.seen, dim, ridge)))
            lines.append([dim, ridge, *(f"{s['cosine']:.4f}" for s in scored), f"{scored[0]['std']:.2f}"])
    return table(["D", "ridge", *(c.name for c in cases), f"std ratio, {cases[0].name}"], lines)


def weights_table(cases: list[Case]) -> str:
    """Other weights than those of the view matrix, in the weighted mean."""
    each = {
        "w (the mean)": lambda w, filled, far, facing: w,
        "w²": lambda w, filled, far, facing: w * w,
        "every view counts alike": lambda w, filled, far, facing: w / filled,
        "square root of a view's share": lambda w, filled, far, facing: w / filled.sqrt(),
        "w / distance": lambda w, filled, far, facing: w / far,
        "w · cos(angle to the normal)": lambda w, filled, far, facing: w * facing,
    }
    lines = [[name] for name in [*each, "robust, two rounds"]]
    for case in cases:
        normals = rotation_matrices(case.cloud.quats)[:, :, 2]
        for line, change in zip(lines, each.values(), strict=False):
            views = []
            for camera, (W, feats) in zip(case.train.cameras, case.views):
                who, w = W.col_indices(), W.values()
                ray = case.cloud.means - camera.center
                filled = torch.zeros(len(ray)).index_add_(0, who, w)
                facing = F.cosine_similarity(ray, normals).abs().clamp_min(0.05)
                w = change(w, filled[who], ray.norm(dim=1)[who], facing[who])
                views.append((torch.sparse_csr_tensor(W.crow_indices(), who, w, W.shape), feats))
            line.append(f"{case.score(weighted_mean(views)[0] * case.seen[:, None])['cosine']:.4f}")
        lines[-1].append(f"{case.score(robust_mean(case.views)[0])['cosine']:.4f}")
    return table(["weights", *(c.name for c in cases)], lines)


def broken_table(case: Case) -> str:
    """Some training views show features of other views: wrong poses."""
    lines = []
    for broken in (0, 3, 6):
        maps = [f for _, f in case.views]
        step = len(maps) // max(broken, 1)
        for k in range(broken):
            maps[k * step] = case.views[(k * step + len(maps) // 2) % len(maps)][1].flip(0)
        views = [(W, f) for (W, _), f in zip(case.views, maps)]
        pair = (case.score(m(views)[0])["cosine"] for m in (weighted_mean, robust_mean))
        lines.append([f"{broken} of {len(maps)}", *(f"{c:.4f}" for c in pair)])
    return table(["broken views", "mean", "robust mean"], lines)


def samples_table(case: Case) -> str:
    lines = []
    for samples in (2, 4, None):
        made, cpu, _ = clock(lambda: lift(case.cloud, case.train.cameras, case.feats, samples=samples))
        drawn = torch.stack([made.render(c, *case.grid)[0] for c in case.held.cameras])
        lines.append([samples or "the camera's", f"{cpu:.1f}", f"{case.compare(drawn)['cosine']:.4f}"])
    return table(["pixels a side of a patch", "CPU s", "cosine"], lines)


def decoder_table(case: Case, steps: tuple[int, ...]) -> str:
    """Also the cost of a step at the size of the photo, where the paper takes its loss."""
    lines = []
    for lr, count in [*((1e-2, s) for s in steps), (3e-3, steps[-2]), (3e-2, steps[-2]), ("paper", steps[-2])]:
        options = dict(method="decoder", steps=count, lr=lr, progress=False)
        made, cpu, _ = clock(lambda: lift(case.cloud, case.train.cameras, case.feats, **options))
        s = case.score(made.features, made.decoder)
        lines.append([lr, count, f"{cpu:.0f}", f"{s['cosine']:.4f}", f"{s['L1']:.3f}", f"{s['std']:.2f}"])
        print("  decoder", lines[-1], flush=True)
    size = case.train.height, case.train.width
    view = case.train[0]
    large = F.interpolate(case.feats[:1], size, mode="bilinear", align_corners=False)[0]
    pixels = [(patch_matrix(case.cloud, view.camera, *size), rows(large))]
    _, cpu, _ = clock(lambda: train_decoder(pixels, size, case.seen, 64, 3, "paper", 0, progress=False))
    lines.append(["any", "1, loss at pixels", f"{cpu / 3:.1f}", "", "", ""])
    return table(["learning rate", "steps", "CPU s", "cosine", "L1", "std ratio"], lines)


def finer_table(case: Case, network) -> str:
    fine = features_finer(network, case.train.images, 2)
    lines = []
    for name, feats in (("patch grid", case.feats), ("twice as fine, 4 passes", fine)):
        for label, options in (("mean", {}), ("solve", dict(method="solve"))):
            made = lift(case.cloud, case.train.cameras, feats, **options)
            drawn = torch.stack([made.render(c, *case.grid)[0] for c in case.held.cameras])
            s = case.compare(drawn)
            lines.append([name, label, f"{s['cosine']:.4f}", f"{s['std']:.2f}"])
    return table(["features", "method", "cosine", "std ratio"], lines)


def memory_table() -> str:
    """Peak memory of a fresh process above what it had before lifting; the maps come from a generator."""
    code = """
import torch
from bench.report import peak_mb
from fit3d_lite import Camera, Gaussians
from fit3d_lite.lifting.methods import lift

g, N = torch.Generator().manual_seed(0), 30000
means = torch.nn.functional.normalize(torch.randn(N, 3, generator=g), dim=1)
quats = torch.tensor([1., 0, 0, 0]).repeat(N, 1)
c = Gaussians(means, quats, torch.full((N, 3), .015), torch.full((N,), .9), means.abs())
angles = torch.arange(VIEWS) * 0.26
cams = [Camera.look_at((2.5 * a.cos(), 2.5 * a.sin(), 0.8), (0, 0, 0), width=182, height=182) for a in angles]
maps = (torch.randn(384, 13, 13, generator=g) for _ in cams)
lift(c, cams[:1], torch.randn(1, 16, 13, 13), **SMALL)  # loads what loads at first use
before = peak_mb()
lift(c, cams, maps, **OPTIONS)
print(round(peak_mb() - before))
"""
    lines = []
    methods = {
        "mean": {},
        "mean, robust": {"robust": True},
        "solve": {"method": "solve"},
        "closed": {"method": "closed"},
        "decoder": {"method": "decoder", "steps": 30, "progress": False},
    }
    for label, options in methods.items():
        small = options | ({"dim": 8} if label == "closed" else {})
        here = code.replace("OPTIONS", repr(options)).replace("SMALL", repr(small))
        found = [in_fresh_process(here.replace("VIEWS", str(v))) for v in (6, 12, 24)]
        lines.append([label, *found])
    return table(["MB above the start", "6 views", "12 views", "24 views"], lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one room, few decoder steps; writes no file")
    parser.add_argument("--methods", action="store_true", help="the methods alone; other tables stay as they were")
    asked = parser.parse_args()
    begin = time.perf_counter()
    places = scenes(asked.quick)
    clouds = {name: Gaussians.from_depth(train) for name, (train, _) in places.items()}
    print(f"  scenes after {time.perf_counter() - begin:.0f} s", flush=True)
    parts = [HEAD.format(", ".join(f"{n}: {len(c):,}" for n, c in clouds.items()))]
    steps = (20, 50, 100) if asked.quick else DECODER_STEPS
    cases = [Case(n, a, b, clouds[n], network(a.images), network(b.images)) for n, (a, b) in places.items()]
    text, found = main_table(cases, steps[-1])
    parts += ["## The methods", text, "## What was aimed at", verdict(found)]
    print(parts[2], f"\n  after {time.perf_counter() - begin:.0f} s", flush=True)
    if asked.methods:
        kept = (ROOT / "bench" / "results" / "lift.md").read_text().partition("## Choosing ridge and steps")
        rest = "".join(kept[1:]).rpartition("\n\nMade by")[0]
        write("lift", "\n\n".join([*parts, rest]), "python -m bench.bench_lift --methods")
        return
    few = [c for c in cases if c.name in ("room 0", "room 1", "office")]
    rest = {
        "Choosing ridge and steps of `solve` (held-out cosine)": lambda: solve_table(
            [c for c in few if c.name != "room 1"]
        ),
        "Choosing D and ridge of `closed` (held-out cosine)": lambda: closed_table(few),
        "Other weights for the mean (held-out cosine)": lambda: weights_table([c for c in few if c.name != "room 1"]),
        "Wrong poses, room 0: some views get the features of another, upside down": lambda: broken_table(cases[0]),
        "Pixels per patch, room 0, `mean`": lambda: samples_table(cases[0]),
        "The decoder by steps and learning rate, room 0": lambda: decoder_table(cases[0], steps),
        "Features finer than the patch grid, room 0": lambda: finer_table(cases[0], network),
        "Peak memory, C = 384, N = 30,000, maps from a generator": memory_table,
    }
    for title, make in rest.items():
        parts += [f"## {title}", make()]
        print(parts[-1], f"\n  {title}, after {time.perf_counter() - begin:.0f} s", flush=True)
    text = "\n\n".join(parts)
    print(text) if asked.quick else write("lift", text)


HEAD = """# Lifting features to Gaussians

The small ViT: 384 channels, 16 × 16 patches of a room. Rooms: 24 training views and 8 held-out cameras of 224². Office:
16 frames of the capture at 252×378, every fourth held out. Gaussians from depth ({}), not fitted to photos. Scores
compare the render of a **held-out** camera with the ViT's own features of the photo there, where the opacity is at least
0.5. *Shuffled*: cosine of wrong pairs, which should be low. *Std ratio*: spread of the rendered features over that of the
ViT's; far below 1 is collapse. Those two and L1 are means over the scenes. Times include making all patch matrices; CPU
seconds add up all threads. The decoder is scored on room 0 and the office only. Options were chosen on these scenes.
"""


if __name__ == "__main__":
    main()
