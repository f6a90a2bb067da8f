"""The shipped 3D-aware small ViT and its control against their original: alone, and beside it, on rooms of their own.

    make bench ONLY=small_fit3d                # five repetitions; a quarter of an hour on one core
    python -m bench.bench_small_fit3d --other other.safetensors    # and one of the recipe brief (tools/small_fit3d.py)
"""

from __future__ import annotations

import argparse
from pathlib import Path

import fit3d_lite as f3d
from fit3d_lite.backbones.checkpoints import read_weights
from fit3d_lite.base.machine import asset
from fit3d_lite.probing.seeds import Runs, paired

from .judge import ABOUT, judge, once
from .report import cell, table, write

REPETITIONS = 5
METRICS = {"miou": "mIoU", "rmse": "RMSE, m", "recall": "recall, 20 px", "margin": "cosine margin"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--other", type=Path, help="weights to compare the 3D-aware ViT with, of the recipe brief")
    other = parser.parse_args().other
    kinds = ("original", "fit3d", "wrong_poses", "random")
    original, tuned, wrong, untrained = (f3d.load_vit("small", weights, device="cpu") for weights in kinds)
    ways = {
        "original": (original, None), "3D-aware": (tuned, None), "wrong poses": (wrong, None), "untrained": (untrained, None),
        "original twice": (original, original), "original and 3D-aware": (original, tuned),
        "original and wrong poses": (original, wrong), "original and untrained": (original, untrained),
    }  # fmt: skip
    if other:
        ways["3D-aware, brief"] = (f3d.load_vit("small", other, device="cpu"), None)
    found: dict[str, list] = {name: [] for name in ways}
    for repetition in range(REPETITIONS):
        features = {id(vit): once(vit) for vit, _ in ways.values()}
        for name, (vit, beside) in ways.items():
            result = judge(repetition)(features[id(vit)], beside and features[id(beside)])
            found[name].append(result)
            print(repetition, name, result, flush=True)
    runs = {name: Runs(results) for name, results in found.items()}
    body = [
        [name, *(cell(r, m) if hasattr(r[0], m) else "" for m in METRICS)]
        for name, r in runs.items()
    ]
    said = []
    for a, b in (
        ("original", "3D-aware"), ("original", "wrong poses"), ("original twice", "original and 3D-aware"),
        ("original twice", "original and wrong poses"), ("original twice", "original and untrained"),
        ("original and wrong poses", "original and 3D-aware"), *([("3D-aware, brief", "3D-aware")] if other else []),
    ):  # fmt: skip
        for metric in METRICS if hasattr(found[b][0], "recall") else ("miou", "rmse"):
            said.append(f"- {b} − {a}, {METRICS[metric]}: {paired(runs[a], runs[b], metric)}")
    rooms = read_weights(asset("vit_small_fit3d.safetensors"))[1]["rooms"]
    said = "\n".join(said)
    brief = '\n"Brief" is the same training with three epochs in the place of six; its rows come by `--other`.' if other else ""
    write(
        "small_fit3d",
        f"""# The shipped 3D-aware small ViT

`load_vit("small", "fit3d")`, fine-tuned on {rooms} rooms by `python -m tools.small_fit3d`, against `load_vit("small")`; beside
it the controls: the same training with wrong poses (`"wrong_poses"`), and random weights (`"random"`).
{ABOUT}
{REPETITIONS} repetitions of rooms to be judged on, one network: mean ± standard deviation.{brief}

{table(["features", *METRICS.values()], body)}

Paired over repetitions (two-sided t); for RMSE less is better:

{said}

The spread is over rooms, not over trainings; five trainings, and the controls blurred targets, own features and depth term
alone, are what bench_finetune.py measures.""",
    )


if __name__ == "__main__":
    main()
