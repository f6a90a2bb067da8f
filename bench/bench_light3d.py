"""Appendix A1: what points at hand add to a 2D network, to a frozen ViT, and to one that has learned from 3D in training.

    make bench ONLY=light3d

Seeds share nothing but the ViTs: each has rooms, first weights and an order of its own. What a seed measured is kept in
cache/light3d, row by row, so a stopped run goes on where it was; delete the folder to measure again.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch

import fit3d_lite as f3d
from fit3d_lite.base.whole import replace_when_whole
from fit3d_lite.light3d import other_places, samples_of, train_segmenter
from fit3d_lite.rooms import CLASSES, SEEDS

from .judge import PROBE, kept_room
from .judge import VIEWS as JUDGED
from .report import table, write

SEEDS_RUN, TRAIN, TEST, VIEWS, SIZE, POINTS, STEPS = 5, 16, 8, 2, 56, 300, 200
KEPT = Path(__file__).parents[1] / "cache" / "light3d"
BASES = ("RGB alone", "ViT", "3D-aware ViT")
WAYS = {  # what pixels get of the points -> the bases that it is measured beside
    "none": BASES, "points": BASES, "handmade": BASES,
    "another room's points": ("RGB alone", "3D-aware ViT"), "random": BASES, "shuffled": ("RGB alone",),
}  # fmt: skip
SAID = {
    "none": "", "points": "+ points", "handmade": "+ handmade geometry", "random": "+ random numbers",
    "another room's points": "+ another room's points", "shuffled": "+ shuffled points",
}  # fmt: skip


def inputs(seed: int, part: str, count: int) -> dict[str, list]:
    """Samples of a seed's rooms: photos, and the same views with features of each ViT."""
    first = SEEDS[part].start + seed * PROBE[part]  # the judge's rooms: what another measurement drew is not drawn again
    rooms = [kept_room(first + i, JUDGED)[:VIEWS] for i in range(count)]
    photos = [sample for room in rooms for sample in samples_of(room, (SIZE, SIZE), POINTS)]
    found = {"RGB alone": photos}
    for name, vit in vits().items():
        feats = torch.cat([vit.extract(room.images, quiet=True) for room in rooms])
        found[name] = [replace(sample, input=one) for sample, one in zip(photos, feats, strict=True)]
    return found


@cache
def vits() -> dict:
    return {"ViT": f3d.load_vit("small", device="cpu"), "3D-aware ViT": f3d.load_vit("small", "fit3d", device="cpu")}


@cache
def data(seed: int) -> tuple[dict[str, list], dict[str, list]]:
    return inputs(seed, "probe_train", TRAIN), inputs(seed, "probe_test", TEST)


def kept(seed: int, base: str, way: str) -> Path:
    return KEPT / (f"{seed}_{STEPS}_{SIZE}_{base} {SAID[way]}".strip().replace(" ", "_") + ".json")


def measured(seed: int, base: str, way: str) -> dict[str, float]:
    """Mean IoU in percent, processor seconds of the training, and trained numbers, of one row; kept once measured."""
    path = kept(seed, base, way)
    if not path.is_file():
        parts, real = [part[base] for part in data(seed)], way
        if way == "another room's points":
            parts, real = [other_places(part, VIEWS) for part in parts], "points"
        got = train_segmenter(*parts, len(CLASSES), real, STEPS, seed=seed, on_step=lambda step: None)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replace_when_whole(path) as partial:
            partial.write_text(json.dumps({"miou": 100 * got.miou, "seconds": got.seconds, "parameters": got.parameters}))
        print(seed, base, SAID[way], f"{100 * got.miou:.1f} %, {got.seconds:.0f} s", flush=True)
    return json.loads(path.read_text())


def text(found: dict[str, list[dict]]) -> str:
    """The table, and what it does and does not confirm; ``found`` has each row's seeds."""
    miou = {row: [one["miou"] for one in seeds] for row, seeds in found.items()}

    def difference(one: str, other: str) -> str:
        common = min(len(miou[one]), len(miou[other]))
        if one == other or common < 2:
            return ""
        d = f3d.paired(miou[other][:common], miou[one][:common])
        return f"{d.mean:+.1f} ({d.mean - d.half_width:+.1f} to {d.mean + d.half_width:+.1f})" + (" *" if d.significant else "")

    body = []
    for row, seeds in found.items():
        values = torch.tensor(miou[row])
        spread = f"{values.mean():.1f} ± {values.std():.1f}" if len(seeds) > 1 else f"{values.mean():.1f}"
        cost = sum(one["seconds"] for one in seeds) / len(seeds)
        body.append([row, len(seeds), ", ".join(f"{v:.1f}" for v in miou[row]), spread, difference(row, row.split(" + ")[0]),
                     f"{cost:.0f}", f"{seeds[0]['parameters']:,}"])  # fmt: skip
    head = ["mean IoU, %", "seeds", "each", "mean ± deviation", "minus the row without points", "seconds", "trained numbers"]
    pairs = [("3D-aware ViT", "ViT"), ("3D-aware ViT", "ViT + points"), ("3D-aware ViT + points", "ViT + points"),
             ("RGB alone + points", "RGB alone + another room's points"),
             ("RGB alone + points", "RGB alone + handmade geometry"),
             ("3D-aware ViT + points", "3D-aware ViT + another room's points"), ("ViT + points", "ViT + random numbers"),
             ("3D-aware ViT + points", "3D-aware ViT + random numbers"), ("ViT + points", "ViT + handmade geometry")]  # fmt: skip
    told = [[one, other, difference(one, other)] for one, other in pairs if one in miou and other in miou]
    rows = [f"{base} {SAID[way]}".strip() for way, bases in WAYS.items() for base in bases]
    short = [f"{row} ({len(found.get(row, []))})" for row in rows if len(found.get(row, [])) < SEEDS_RUN]
    unfinished = f" **Unfinished**, with fewer than {SEEDS_RUN} seeds: {', '.join(short)}." if short else ""
    return (
        f"# Points at hand, and 3D in training\n\nLabels of {len(CLASSES)} classes in drawn rooms: {TRAIN} rooms × {VIEWS} views "
        f"to learn from, {TEST} × {VIEWS} others to test, for each seed rooms, first weights and order of its own. RGB: a U-Net "
        f"from scratch, {SIZE}² pixels. ViT: frozen features of photos of 224², a linear head; judged on labels of {SIZE}² too. "
        f"At most {POINTS} points a room, PointNet as wide as the paper's; {STEPS} steps of 2 views for every row. Seconds are "
        "those of one core for the training, beside other programs. In brackets the 95 % interval of the paired difference; * "
        f"where it leaves 0 out.{unfinished}\n\n{table(head, body)}\n\n"
        f"{table(['row', 'minus', 'points of mean IoU'], told)}\n\n"
        f"So few steps are the start of a training: rows from scratch are still rising, and {STEPS} steps cannot say what points "
        "give to a network that was trained to its end. The paper (arXiv 2212.08334) starts from ImageNet, takes ScanNet and 50 "
        "epochs; its numbers stand in its section of results and were not measured again."
    )


def main() -> None:
    rows = [(way, base) for way, bases in WAYS.items() for base in bases]
    slow = {("random", BASES[0]), *(row for row in rows if row[0] in ("another room's points", "shuffled"))}
    later = [row for row in rows if row in slow]
    order = [(way, seed, base) for part in ([r for r in rows if r not in later], later) for seed in range(SEEDS_RUN)
             for way, base in part]  # fmt: skip
    for way, seed, base in order:
        measured(seed, base, way)
    report()


def report() -> None:
    """Write the table, and for the lesson the same numbers as assets/light3d.json, of what is measured so far."""
    found = {}
    for base in BASES:
        for way in (way for way, bases in WAYS.items() if base in bases):
            seeds = [seed for seed in range(SEEDS_RUN) if kept(seed, base, way).is_file()]
            if seeds:
                found[f"{base} {SAID[way]}".strip()] = [json.loads(kept(seed, base, way).read_text()) for seed in seeds]
    title = f"{TRAIN} rooms to learn from, {TEST} to test, {STEPS} steps"
    rows = {row: [round(one["miou"], 2) for one in seeds] for row, seeds in found.items()}
    write_json = Path(__file__).parents[1] / "assets" / "light3d.json"
    write_json.write_text(json.dumps({"title": title, "miou": rows}, indent=1) + "\n")
    write("light3d", text(found))


if __name__ == "__main__":
    main()
