"""The paper's probes on NYUv2 with the published checkpoint, at a scale that one GPU bears: python -m bench.nyu

    python -m bench.nyu                                    # downloads 3 GB and the checkpoints, DINOv2-S, 4,000 steps
    python -m bench.nyu --file nyu_depth_v2_labeled.mat --backbone dinov2_base --steps 8000 --seeds 3

It is not one of bench/bench_*.py, which `make bench` runs, because of what it downloads. Writes bench/results/nyu.md.

What is as in the paper (arXiv 2407.20229, section 4 and appendix): the official split, 13 classes, whole frames, frozen
features of the original and of original and fine-tuned beside each other, the heads, losses, optimizers, learning
rates and schedules, mirrored photos, Eigen's crop and 0.001 to 10 m for depth, tests averaged with the mirrored photo for
depth. What is not: features are extracted once, so there is no random scale, crop or color, and tests look at whole
photos instead of sliding windows; 4,000 steps of 16 photos instead of 40,000 (labels) and 38,400 (depth); and depth
learns from the 795 labelled photos, where depth papers learn from some 24,000 frames of the raw recordings. The last is
much: expect an RMSE above the paper's, and compare rows with each other.
"""

import argparse
import statistics
import sys
from pathlib import Path

from bench.report import table, write
from fit3d_lite import Assembly, LabelledPhotos, captures, load_vit, probe_depth, probe_segmentation
from fit3d_lite.base.machine import cache_folder
from fit3d_lite.probing import over_seeds
from fit3d_lite.probing.depth import SPANS

PAPER = {  # DINOv2-S: mIoU and RMSE by row of the paper's tables
    "original": ("65.55", "0.4423"),
    "concat(original, fine-tuned)": ("67.50", "0.4198"),
    "add(original, fine-tuned)": ("66.00", ""),
    "fusion(original, fine-tuned)": ("66.39", ""),
}
LABEL_SIZE = (504, 672)  # whole patches of 14 pixels, near the 512 of the paper's shorter side


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="bench.nyu", description=__doc__.splitlines()[0])
    parser.add_argument("--file", type=Path, help="nyu_depth_v2_labeled.mat; by default it is downloaded")
    parser.add_argument("--backbone", default="dinov2_small")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--every", type=int, default=1, help="take one photo in so many, for a trial")
    asked = parser.parse_args(arguments)
    rows = features_of(asked.backbone)
    options = dict(training="paper", steps=asked.steps, batch=asked.batch, cache=cache_folder() / "probe")
    sets = photos(asked, "segmentation", size=LABEL_SIZE)
    labels = probed(probe_segmentation, rows, sets, asked.seeds, options)
    sets = photos(asked, "depth", depth="measured")
    depths = probed(probe_depth, rows, sets, asked.seeds, options | {"span": "nyu", "flip_test": True})
    command = " ".join(["python -m bench.nyu", *(sys.argv[1:] if arguments is None else arguments)])
    write("nyu", report(asked, labels, depths), command)


def features_of(backbone: str) -> dict[str, Assembly]:
    vit, tuned = load_vit(backbone), load_vit(backbone, "fit3d")
    return {
        "original": Assembly(vit),
        "fine-tuned": Assembly(tuned),
        "add(original, fine-tuned)": Assembly([vit, tuned], "add"),
        "fusion(original, fine-tuned)": Assembly([vit, tuned], "fusion"),
        "concat(original, fine-tuned)": Assembly([vit, tuned]),
        "concat(original, original)": Assembly([vit, vit]),
    }


def photos(asked, task: str, **how) -> list[LabelledPhotos]:
    """Training and test photos, whole frames; read and checked once for all rows."""
    sets = [captures.nyu(asked.file, split, crop=None, **how)[:: asked.every] for split in ("train", "test")]
    span = (SPANS["nyu"].low, SPANS["nyu"].high) if task == "depth" else None
    return [LabelledPhotos(data, task, data.name, span) for data in sets]


def probed(probe, rows, sets, seeds: int, options: dict) -> dict:
    found = {}
    for name, features in rows.items():
        found[name] = over_seeds(lambda seed: probe(features, *sets, seed=seed, name=name, **options), seeds)
        print(found[name], flush=True)
    return found


def report(asked, labels, depths) -> str:
    def cell(runs, metric, factor=1.0):
        mean, spread = factor * runs.mean(metric), factor * runs.spread(metric)
        digits = 2 if factor > 1 else 4
        return f"{mean:.{digits}f}" + (f" ± {spread:.{digits}f}" if len(runs) > 1 else "")

    lines = []
    for name in labels:
        paper = PAPER.get(name, ("", "")) if asked.backbone == "dinov2_small" else ("", "")
        seconds = statistics.mean(labels[name].values("seconds") + depths[name].values("seconds"))
        lines.append([
            name, cell(labels[name], "miou", 100), paper[0], cell(labels[name], "macc", 100), cell(labels[name], "aacc", 100),
            cell(depths[name], "rmse"), paper[1], cell(depths[name], "abs_rel"), cell(depths[name], "delta1"), f"{seconds:.0f}",
        ])  # fmt: skip
    header = ["features", "mIoU, %", "paper", "mAcc, %", "aAcc, %", "RMSE, m", "paper", "AbsRel", "δ1", "a head, s"]
    part = "" if asked.every == 1 else f" Only one photo in {asked.every} was taken."
    return (
        f"# NYUv2: {asked.backbone}, linear heads of {asked.steps} steps of {asked.batch} photos, {asked.seeds} seed(s)\n\n"
        f"Protocol, and how it differs from the paper's: bench/nyu.py.{part}\n\n{table(header, lines)}"
    )


if __name__ == "__main__":
    main()
