"""The tables of bench_consistency. A row's numbers are ``found[seed][scene][key]``."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable

import fit3d_lite as f3d
from fit3d_lite.correspondence.consistency import BINS, THRESHOLDS
from fit3d_lite.correspondence.masks import Propagation

from .report import table

NUMBERS = {
    "true": "raw cosine",
    "margin": "margin",
    "AUC": "AUC",
    "10 px": "recall within 10 px",
    "soft": "soft-argmax",
}


def by_scene(found: list[list[dict]], key: str) -> list[float]:
    """Mean over seeds, for each scene."""
    return [statistics.mean(seed[i][key] for seed in found) for i in range(len(found[0]))]


def spread(found: list[list[dict]], of: Callable[[list[dict]], float], digits: int = 3) -> str:
    """``of`` all scenes' numbers: mean ± standard deviation over seeds, where there are several."""
    values = [of(seed) for seed in found]
    if any(math.isnan(v) for v in values):  # no pair of views falls into that bin
        return ""
    said = f"{statistics.mean(values):.{digits}f}"
    return said if len(values) == 1 else f"{said} ± {statistics.stdev(values):.{digits}f}"


def mean_of(key: str) -> Callable[[list[dict]], float]:
    return lambda seed: statistics.mean(numbers[key] for numbers in seed)


def main_table(rows: dict, masks: bool) -> str:
    keys = [*THRESHOLDS, "AUC", "true", "shuffled", "margin", "soft", "Probe3D", *(["mIoU"] if masks else [])]
    said = {"true": "cosine true", "soft": "soft-argmax, px", "mIoU": "masks mIoU"}
    body = []
    for name, found in rows.items():
        body.append([name, *(spread(found, mean_of(key), 0 if key == "soft" else 3) for key in keys)])
    return table(["features", *(said.get(key, key) for key in keys)], body)


def angle_table(rows: dict, masks: bool) -> str:
    def recall(bin):
        return lambda seed: f3d.Consistency.pooled([n["result"] for n in seed]).recall_by_angle[bin]["10 px"]

    def miou(bin):
        return lambda seed: Propagation(sum(n["masks"].confusion for n in seed)).miou_by_angle[bin]

    body = []
    for name, found in rows.items():
        cells = [spread(found, recall(bin)) for bin in BINS]
        body.append([name, *cells, *([spread(found, miou(bin)) for bin in BINS] if masks else [])])
    heads = [f"10 px, {bin}" for bin in BINS] + [f"masks mIoU, {bin}" for bin in BINS] * masks
    return table(["features", *heads], body)


def room_table(rows: dict, dimmed: dict) -> str:
    """The spread from room to room, which is what a lesson's expected ranges must allow for."""
    lite, original, body = rows["fine-tuned, lite recipe"], rows["original"], []

    def line(name, values):
        body.append([name, f"{min(values):.3f}", f"{statistics.mean(values):.3f}", f"{max(values):.3f}"])

    for key, said in (("10 px", "recall within 10 px"), ("AUC", "AUC"), ("mIoU", "masks mIoU")):
        before, after = by_scene(original, key), by_scene(lite, key)
        line(f"{said}, original", before)
        line(f"{said}, lite minus original", [b - a for a, b in zip(before, after, strict=True)])
    for name in ("mean color of the patch", "lifted from all views", "lifted from the other half of the views"):
        line(f"recall within 10 px, {name}", by_scene(rows[name], "10 px"))
    for name in ("original", "mean color of the patch"):
        pairs = zip(by_scene(rows[name], "10 px"), by_scene(dimmed[name], "10 px"), strict=False)  # fewer are dimmed
        line(f"recall kept when the exposure wanders, {name}", [b / a for a, b in pairs])
    return table(["", "lowest", "mean", "highest"], body)


def exposure_table(rows: dict, dimmed: dict) -> str:
    body = []
    for name, found in dimmed.items():
        same = [[seed[i] for i in range(len(found[0]))] for seed in rows[name]]
        cells = [spread(x, mean_of(key)) for key in ("10 px", "AUC") for x in (same, found)]
        kept = statistics.mean(by_scene(found, "10 px")) / statistics.mean(by_scene(same, "10 px"))
        body.append([name, *cells, f"{kept:.0%}"])
    return table(["features", "10 px", "10 px, exposed", "AUC", "AUC, exposed", "recall kept"], body)


def verdicts(rows: dict, keys: list[str]) -> str:
    """Differences to the original scene by scene (means over seeds), and a sentence on which are more than chance."""
    body, said = [], []
    for name in ("fine-tuned, paper recipe", "fine-tuned, lite recipe", "original and lite, concatenated"):
        found = {key: f3d.paired(by_scene(rows["original"], key), by_scene(rows[name], key)) for key in keys}
        body.append([f"{name}, minus original"])
        for d in found.values():
            body[-1].append(f"{d.mean:+.3f} ({d.mean - d.half_width:+.3f} to {d.mean + d.half_width:+.3f})")
        for sign, word in ((1, "better"), (-1, "worse")):
            sure = [key for key, d in found.items() if d.significant and d.mean * sign > 0]
            if sure:
                said.append(f"{name}: {word} by {', '.join(sure)}")
        if not any(d.significant for d in found.values()):
            said.append(f"{name}: no difference by any")
    pairs = len(rows["original"][0])
    return (
        f"{table(['difference (95 % interval)', *keys], body)}\n\n"
        f"Paired by scene ({pairs} scenes, means over seeds; Student's t at 5 %). Significant: {'; '.join(said)}. "
        f"{3 * len(keys)} comparisons were made, so one of them may be luck."
    )


def trap(rows: dict) -> str:
    """Which features each number would choose, among those that a ViT gives from one photo."""
    mine = {n: f for n, f in rows.items() if not n.startswith(("lifted", "place", "mean color"))}
    said = []
    for key, named in NUMBERS.items():
        score = {name: statistics.mean(by_scene(found, key)) for name, found in mine.items()}
        said.append(f"{named}: {(min if key == 'soft' else max)(score, key=score.get)}")
    return f"The best that a ViT gives from one photo, by {'; by '.join(said)}."
