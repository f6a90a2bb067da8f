"""Does 3D-aware fine-tuning help, and is it the 3D? Evidence, the search for the recipe, speed and memory.

    make bench ONLY=finetune            # all; hours on one core the first time, everything trained and judged is kept
    python -m bench.bench_finetune evidence search speed      # some of the parts, the others as they were last measured
    python -m bench.bench_finetune evidence --repetitions 2   # fewer: the table says how many
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from types import SimpleNamespace

import torch

import fit3d_lite as f3d
from fit3d_lite.base.whole import replace_when_whole
from fit3d_lite.probing.seeds import Runs, paired

from .judge import ABOUT, AGREE, PROBE, judge, once
from .report import cell, in_fresh_process, table, write
from .tuned import CACHE, GAUSSIANS, ROOMS, SIZE, VIEWS, original, tuned_vit

REPETITIONS = 5

# Row of a table: arguments of tuned_vit; None for the original, "random" for the untrained one.
EVIDENCE = {
    "original": None,
    "untrained": "random",
    "**brief**": {},
    "  control: wrong poses": {"control": "shuffled poses"},
    "  control: own features": {"control": "own features"},
    "  control: blurred in 2D": {"control": "blurred in 2D"},
    "  control: depth term alone": {"l1": 0.0},
}
SEARCH = {
    "original": None,
    "**brief**": {},
    "the paper's recipe": {"recipe": "paper"},
    "learning rate 3e-4": {"lr": 3e-4},
    "two epochs": {"epochs": 2},
    "without the depth term": {"geometry": 0.0},
    "without restoring the spread": {"restore_spread": False},
    "LoRA, rank 8, learning rate 1e-3": {"train": "lora", "lr": 1e-3},
}
CONTROLS = [row for row in EVIDENCE if "control" in row]
WAYS = ("alone", "beside")  # the fine-tuned features, and both side by side
NAMED = {"miou": "mIoU", "rmse": "RMSE", "recall": "recall", "margin": "margin"}


def judged(row: str, options, repetition: int, ways=WAYS) -> tuple[SimpleNamespace, ...]:
    """One repetition of a row, alone and beside the original; kept in the cache by the weights that were judged."""
    if options == "random":
        vit = f3d.load_vit("small", "random", device="cpu")
    else:
        vit = original() if options is None else tuned_vit(seed=repetition, **options)
    found, base = [], once(original(), cache=CACHE / "features")  # the original's are read again for every row
    extract = base if options is None else once(vit)
    for way in ways:
        key = CACHE / "judged" / f"{vit.fingerprint()}_{way}_{repetition}_{sum(PROBE.values())}_{AGREE}.json"
        if not key.is_file():
            result = judge(repetition)(extract, base if way == "beside" else None)
            with replace_when_whole(key) as partial:
                partial.write_text(json.dumps(vars(result)))
        found.append(SimpleNamespace(**json.loads(key.read_text())))
    print(repetition, row, [round(x.miou, 4) for x in found], flush=True)
    return tuple(found)


def measured(rows: dict, repetitions: int, ways=WAYS) -> dict[str, dict[str, Runs]]:
    """All repetitions of all rows: first one of each, so that there is something to see early."""
    found = {row: [] for row in rows}
    for repetition in range(repetitions):
        for row, options in rows.items():
            found[row].append(judged(row, options, repetition, ways))
    return {row: dict(zip(ways, map(Runs, zip(*results)), strict=True)) for row, results in found.items()}


def gain(runs: Runs, base: Runs, metric: str) -> str:
    """Mean difference to the base over repetitions, with its spread: rooms and seeds are shared, so it is paired."""
    off = [a - b for a, b in zip(runs.values(metric), base.values(metric), strict=True)]
    return f"{statistics.mean(off):+.3f} ± {statistics.stdev(off):.3f}"


def evidence(repetitions: int) -> str:
    found = measured(EVIDENCE, repetitions)
    base = found["original"]
    body = []
    for row, ways in found.items():
        label = "original; beside: itself (control)" if row == "original" else row
        alone = [cell(ways["alone"], metric) for metric in (*NAMED, "shuffled")]
        beside = [cell(ways["beside"], metric) for metric in ("miou", "rmse")]
        body.append([label, *alone, *beside])
    header = ["", "mIoU", "RMSE, m", "recall", "margin", "cosine, shuffled", "mIoU beside the original", "RMSE beside"]
    brief = found["**brief**"]
    said = [f"\n\nPaired over repetitions (two-sided t, {repetitions} pairs); for RMSE less is better:\n"]
    for what, runs, other in (
        ("brief alone − original", brief["alone"], base["alone"]),
        ("brief beside − original twice", brief["beside"], base["beside"]),
        *((f"{row.split(': ')[1]} beside − original twice", found[row]["beside"], base["beside"]) for row in CONTROLS),
        *((f"brief alone − {row.split(': ')[1]}", brief["alone"], found[row]["alone"]) for row in CONTROLS),
    ):
        for metric in NAMED if hasattr(runs[0], "recall") else ("miou", "rmse"):
            pairs = list(zip(runs.values(metric), other.values(metric), strict=True))
            better = sum((a < b) if metric == "rmse" else (a > b) for a, b in pairs)
            said.append(f"- {what}, {NAMED[metric]}: {paired(other, runs, metric)}; better in {better} of {len(pairs)}")
    return table(header, body) + "\n".join(said)


def search(repetitions: int) -> str:
    found = {row: ways["alone"] for row, ways in measured(SEARCH, repetitions, ("alone",)).items()}
    base, metrics = found["original"], ("miou", "rmse", "recall", "shuffled")
    body = [
        [row, *(cell(runs, metric) for metric in metrics), *(gain(runs, base, metric) for metric in metrics[:3])]
        for row, runs in found.items()
    ]
    header = ["recipe", "mIoU", "RMSE, m", "recall", "cosine, shuffled"]
    return table([*header, "mIoU − original", "RMSE − original", "recall − original"], body)


TIMED = """
import json, torch
import fit3d_lite as f3d
from bench.report import peak_mb
vit = f3d.load_vit("small", device="cpu")
scenes = [f3d.room(1000 + i, 6, {size}, shadows=False) for i in range(2)]
lifted = []
for scene in scenes:
    feats = torch.cat([vit.extract(x[None], batch=1) for x in scene.images])
    lifted.append(f3d.lift(f3d.Gaussians.from_depth(scene, count={gaussians}), scene.cameras, feats))
start = peak_mb()
tuned = f3d.finetune(vit, scenes, lifted, "paper", progress=False, watch=99, epochs=2, **{options})
times = tuned.history.column("seconds")[1][4:]
print(json.dumps([len(times) / sum(times), peak_mb(), start]))
"""


def speed() -> str:
    """Steps a second and peak memory of each way to train, each in a process of its own."""
    body = []
    for size in (SIZE, 392):
        for what, options in (("full", {}), ("LoRA, rank 8", {"train": "lora"}), ("adapter", {"train": "adapter"})):
            code = TIMED.format(size=size, gaussians=GAUSSIANS, options=options)
            rate, peak, start = json.loads(in_fresh_process(code).splitlines()[-1])
            body.append([f"{size}²", what, f"{rate:.2f}", f"{peak:.0f}", f"{peak - start:.0f}"])
    header = ["photos", "trained", "steps a second (2 images each)", "peak memory, MB", "above the start, MB"]
    return table(header, body) + THREADS


def quick() -> str:
    """What lesson 03 and `python -m fit3d_lite finetune --rooms 6` take, part by part."""
    times, begin = {}, time.perf_counter()

    def lap(name):
        nonlocal begin
        times[name], begin = time.perf_counter() - begin, time.perf_counter()

    vit = f3d.load_vit("small", device="cpu")
    scenes = [f3d.room(seed, VIEWS, SIZE) for seed in range(1000, 1000 + ROOMS)]
    lap("rooms")
    feats = [vit.extract(s.images) for s in scenes]
    lap("features")
    lifted = [f3d.lift(f3d.Gaussians.from_depth(s, count=GAUSSIANS), s.cameras, f) for s, f in zip(scenes, feats)]
    lap("lifting")
    for recipe in ("paper", "lite"):
        f3d.finetune(vit, scenes, lifted, recipe, progress=False)
        lap(f"fine-tuning, {recipe}")
    return table(["part", "s"], [[name, f"{t:.1f}"] for name, t in times.items()]) + THREADS


# The parts of this table may be measured on different days, so each that tells a time tells this too.
THREADS = f"\n\nCPU threads: {torch.get_num_threads()}."


def main() -> None:
    titles = {
        evidence: "Evidence",
        search: "What each part of `brief` does, alone",
        speed: "Speed and memory",
        quick: "The quick profile, part by part",
    }
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", choices=[[], *(part.__name__ for part in titles)])
    parser.add_argument("--repetitions", type=int, default=REPETITIONS, help="at least 2, for a spread")
    given = parser.parse_args()
    kept = CACHE / "finetune.json"
    known = json.loads(kept.read_text()) if kept.is_file() else {}
    for part in titles:
        if not given.parts or part.__name__ in given.parts:
            known[part.__name__] = part(given.repetitions) if part in (evidence, search) else part()
            if part in (evidence, search):
                known[part.__name__] += f"\n\n{given.repetitions} repetitions, each with rooms of its own."
            with replace_when_whole(kept) as partial:
                partial.write_text(json.dumps(known))
    about = (
        f"# 3D-aware fine-tuning, measured\n\nThe small ViT, {ROOMS} rooms × {VIEWS} views of {SIZE}² to fine-tune on by the "
        "recipe `brief` (`lite` with three epochs in the place of six), `mean` lifting.\n"
        f"{ABOUT}\nMean ± standard deviation over repetitions."
    )
    sections = [f"## {title}\n\n{known[part.__name__]}" for part, title in titles.items() if part.__name__ in known]
    write("finetune", "\n\n".join([about, *sections]))


if __name__ == "__main__":
    main()
