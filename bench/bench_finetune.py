"""Does 3D-aware fine-tuning help, and is it the 3D? Evidence, the search for the lite recipe, speed and memory.

    make bench ONLY=finetune            # all; about an hour on one core the first time, everything trained is kept
    python -m bench.bench_finetune evidence search tiny       # some of the parts, the others as they were last measured
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path

import torch

import fit3d_lite as f3d
from fit3d_lite.base.whole import replace_when_whole
from fit3d_lite.probing.seeds import Runs, paired
from fit3d_lite.rooms import SEEDS

from .report import cell, in_fresh_process, table, write
from .tuned import CACHE, ROOMS, VIEWS, original, tuned_vit

SHARED = Path(__file__).parents[2] / "shared"
REPETITIONS = 3
PROBE = {"probe_train": 12, "probe_val": 4, "probe_test": 12}  # rooms of a repetition, none shared with another one
PROBE_VIEWS, SIZE = 6, 192
AGREE = 4  # test rooms on which agreement between views is measured

# Row of the evidence: arguments of tuned_vit, or None for the original.
EVIDENCE = {
    "original": None,
    "paper": {"recipe": "paper"},
    "paper, learning rate 1e-4": {"recipe": "paper", "lr": 1e-4},
    "  control: shuffled poses": {"recipe": "paper", "lr": 1e-4, "control": "shuffled poses"},
    "  control: blurred in 2D": {"recipe": "paper", "lr": 1e-4, "control": "blurred in 2D"},
    "  control: own features": {"recipe": "paper", "lr": 1e-4, "control": "own features"},
    "**lite**": {"recipe": "lite"},
    "  control: shuffled poses, lite": {"recipe": "lite", "control": "shuffled poses"},
    "  control: blurred in 2D, lite": {"recipe": "lite", "control": "blurred in 2D"},
    "  control: depth alone, no features": {"recipe": "lite", "l1": 0.0},
}
# What was tried: changes of the lite recipe, one at a time, on six rooms a repetition.
SEARCH_ROOMS = 6
SEARCH = {
    "without geometry": {"geometry": 0.0},
    "without restoring the spread": {"restore_spread": False},
    "keep 0.3: stay near the original's features": {"keep": 0.3},
    "blend 0.3: mix the original's weights in": {"blend": 0.3},
    "one epoch instead of three": {"epochs": 1},
    "LoRA, rank 8, learning rate 3e-3": {"train": "lora", "lr": 3e-3},
    "adapter, learning rate 3e-3": {"train": "adapter", "lr": 3e-3},
}


NAMED = {"miou": "mIoU", "rmse": "RMSE", "recall": "recall"}


class Measured:
    """One repetition of one row; the names are those of runs.py."""

    def __init__(self, name: str, **numbers: float):
        self.name = name
        vars(self).update(numbers)


def rooms(use: str, repetition: int) -> list[f3d.Scene]:
    count = PROBE[use]
    first = SEEDS[use].start + repetition * count
    return [f3d.room(seed, PROBE_VIEWS, SIZE) for seed in range(first, first + count)]


class Judge:
    """Closed-form probes and agreement between views on the rooms of one repetition."""

    def __init__(self, repetition: int):
        self.repetition = repetition
        self.parts = [rooms(use, repetition) for use in PROBE]

    def __call__(self, name: str, vit, beside=None) -> Measured:
        """Alone; with ``beside`` the features of both, side by side."""

        def extract(images):
            found = [v.extract(images, batch=8, cache=CACHE / "features") for v in (vit, beside) if v is not None]
            return torch.cat(found, 1)

        score = f3d.quick_probe(extract, *self.parts)
        numbers = {"miou": score.miou, "rmse": score.rmse}
        if beside is None:
            agree = f3d.consistency(extract, self.parts[2][:AGREE])
            numbers |= {"recall": agree.recall["20 px"], "margin": agree.margin, "auc": agree.auc}
        return Measured(name, **numbers)


def measured(row: str, options: dict | None, judges: list, concat: bool) -> dict[str, Runs]:
    """All repetitions of a row, alone and beside the original; kept in the cache by what made it."""
    runs: dict[str, list] = {"alone": []} | ({"concat": []} if concat else {})
    for repetition in range(REPETITIONS):
        vit = original() if options is None else tuned_vit(seed=repetition, **options)
        for way, results in runs.items():
            key = CACHE / "judged" / f"{vit.fingerprint()}_{way}_{repetition}_{PROBE_VIEWS}_{sum(PROBE.values())}.json"
            if not key.is_file():
                judges[repetition] = judges[repetition] or Judge(repetition)
                found = judges[repetition](row, vit, original() if way == "concat" else None)
                with replace_when_whole(key) as partial:
                    partial.write_text(json.dumps({k: v for k, v in vars(found).items() if k != "name"}))
            results.append(Measured(row, **json.loads(key.read_text())))
    print(row, {way: [round(r.miou, 4) for r in results] for way, results in runs.items()}, flush=True)
    return {way: Runs(results) for way, results in runs.items()}


def gain(runs: Runs, base: Runs, metric: str) -> str:
    """Mean difference to the base over repetitions, with its spread: rooms and seeds are shared, so it is paired."""
    off = [a - b for a, b in zip(runs.values(metric), base.values(metric), strict=True)]
    return f"{statistics.mean(off):+.4f} ± {statistics.stdev(off):.4f}"


def evidence(judges: list) -> str:
    found = {row: measured(row, options, judges, concat=True) for row, options in EVIDENCE.items()}
    base = found["original"]["alone"]
    body = []
    for row, ways in found.items():
        alone, both = ways["alone"], ways["concat"]
        label = "original; beside: duplicated (control)" if row == "original" else row
        body.append([label, cell(alone, "miou"), cell(alone, "rmse"), cell(alone, "recall"), cell(alone, "margin"),
                     gain(alone, base, "miou"), gain(alone, base, "rmse"), cell(both, "miou"), cell(both, "rmse")])  # fmt: skip
    header = ["fine-tuned", "mIoU alone", "RMSE alone, m", "recall, 20 px", "cosine margin", "mIoU − original",
              "RMSE − original", "mIoU beside the original", "RMSE beside the original"]  # fmt: skip
    lite = found["**lite**"]
    said = ["\n\nPaired over repetitions (two-sided t, 3 pairs):\n"]
    for what, runs, other in (
        ("lite alone against the original", lite["alone"], base),
        ("lite beside the original against the original twice", lite["concat"], found["original"]["concat"]),
        ("paper beside the original against the original twice", found["paper"]["concat"], found["original"]["concat"]),
        ("lite alone against its shuffled poses", lite["alone"], found["  control: shuffled poses, lite"]["alone"]),
        ("lite alone against its 2D blur", lite["alone"], found["  control: blurred in 2D, lite"]["alone"]),
        ("lite alone against depth alone", lite["alone"], found["  control: depth alone, no features"]["alone"]),
    ):
        for metric in ("miou", "rmse") + (("recall",) if runs is lite["alone"] else ()):
            pairs = list(zip(runs.values(metric), other.values(metric), strict=True))
            better = sum((a < b) if metric == "rmse" else (a > b) for a, b in pairs)
            said.append(f"- {what}, {NAMED[metric]}: {paired(other, runs, metric)}; better in {better} of {len(pairs)}")
    return table(header, body) + "\n".join(said)


def search(judges: list) -> str:
    base = measured("original", None, judges, concat=False)["alone"]
    body = []
    for row, options in {"original": None, "**lite**": {}, **SEARCH}.items():
        options = options if options is None else {"rooms": SEARCH_ROOMS, **options}
        runs = measured(row, options, judges, concat=False)["alone"]
        body.append([row, cell(runs, "miou"), cell(runs, "rmse"), cell(runs, "recall"), gain(runs, base, "miou"),
                     gain(runs, base, "rmse"), gain(runs, base, "recall")])  # fmt: skip
    return table(["recipe", "mIoU", "RMSE, m", "recall, 20 px", "mIoU − original", "RMSE − original", "recall − original"], body)


TIMED = """
import json, time, torch
import fit3d_lite as f3d
from bench.report import peak_mb
vit = f3d.load_vit({name!r}, {weights!r}, device="cpu")
scenes = [f3d.room(1000 + i, 4, {size}, shadows=False) for i in range(2)]
lifted = []
for scene in scenes:
    feats = torch.cat([vit.extract(x[None], batch=1) for x in scene.images])
    lifted.append(f3d.lift(f3d.Gaussians.from_depth(scene, count={gaussians}), scene.cameras, feats))
start = peak_mb()
tuned = f3d.finetune(vit, scenes, lifted, "paper", progress=False, watch=99, epochs={epochs}, **{options})
times = tuned.history.column("seconds")[1][{skip}:]
print(json.dumps([len(times) / sum(times), peak_mb(), start]))
"""


TINY = {"name": "tiny", "weights": "original", "size": 192, "gaussians": 12_000, "epochs": 3}
VIT_S = {"name": "dinov2_small", "weights": "random", "size": 392, "gaussians": 36_000, "epochs": 2}


def speed(vit: dict) -> str:
    """Steps a second and peak memory of each way to train, each in a process of its own."""
    body = []
    for what, options in (
        ("full", {}), ("full, target rendered in each step", {"targets": "render"}), ("LoRA, rank 8", {"train": "lora"}),
        ("adapter", {"train": "adapter"}),
    ):  # fmt: skip
        code = TIMED.format(**vit, options=options, skip=4)
        rate, peak, start = json.loads(in_fresh_process(code).splitlines()[-1])
        body.append([what, f"{rate:.2f}", f"{peak:.0f}", f"{peak - start:.0f}"])
        print(body[-1], flush=True)
    return table(["trained", "steps a second (2 images each)", "peak memory, MB", "above the start, MB"], body) + THREADS


def quick() -> str:
    """What lesson 03 and `python -m fit3d_lite finetune --rooms 6` take, part by part."""
    times, begin = {}, time.perf_counter()

    def lap(name):
        nonlocal begin
        times[name], begin = time.perf_counter() - begin, time.perf_counter()

    vit = f3d.load_vit("tiny", device="cpu")
    scenes = [f3d.room(seed, VIEWS, SIZE) for seed in range(1000, 1006)]
    lap("rooms")
    feats = [vit.extract(s.images) for s in scenes]
    lap("features")
    lifted = [f3d.lift(f3d.Gaussians.from_depth(s, count=12_000), s.cameras, f) for s, f in zip(scenes, feats)]
    lap("lifting")
    for recipe in ("paper", "lite"):
        f3d.finetune(vit, scenes, lifted, recipe, progress=False)
        lap(f"fine-tuning, {recipe}")
    return table(["part", "s"], [[name, f"{t:.1f}"] for name, t in times.items()]) + THREADS


# The parts of this table may be measured on different days, so each that tells a time tells this too.
THREADS = f"\n\nCPU threads: {torch.get_num_threads()}."

ABOUT = f"""# 3D-aware fine-tuning, measured

Tiny ViT, {ROOMS} rooms × {VIEWS} views of {SIZE}² to fine-tune on (other rooms in each repetition), `mean` lifting.
Judged on rooms of which none was fine-tuned or pretrained on: closed-form ridge probes (12 rooms to fit, 4 to choose the
strength, 12 to test, {PROBE_VIEWS} views each, other rooms in each repetition), and agreement between views (recall: the
nearest neighbour of a patch in another view lies within 20 pixels of the true place; cosine at true minus cosine at
shuffled places). {REPETITIONS} repetitions: mean ± standard deviation. All rows of a repetition share rooms and seeds, so
the columns of differences, which are paired, tell more than the spreads of the absolute numbers do."""


def main(asked: list[str]) -> None:
    kept = CACHE / "sections.json"
    parts = json.loads(kept.read_text()) if kept.is_file() else {}
    judges: list = [None] * REPETITIONS
    ways = {"evidence": lambda: evidence(judges), "search": lambda: search(judges)}
    ways |= {"tiny": lambda: speed(TINY), "vit_s": lambda: speed(VIT_S), "quick": quick}
    for name in asked or list(ways):
        parts[name] = ways[name]()
        with replace_when_whole(kept) as partial:
            partial.write_text(json.dumps(parts))
    titles = {
        "evidence": "Evidence",
        "search": f"What each part of `lite` does, alone, on {SEARCH_ROOMS} rooms",
        "tiny": "Speed and memory, tiny ViT at 192²",
        "vit_s": "Speed and memory, ViT-S at 392²",
        "quick": "The quick profile, six rooms × 16 views (aim: fine-tuning under 60 s on two cores)",
    }
    write("finetune", "\n\n".join([ABOUT, *(f"## {titles[n]}\n\n{parts[n]}" for n in titles if n in parts)]))


if __name__ == "__main__":
    main(sys.argv[1:])
