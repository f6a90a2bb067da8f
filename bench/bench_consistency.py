"""Do two views agree, and does 3D-aware fine-tuning make them? python -m bench.bench_consistency

Rooms that nothing was trained on, and the office capture (left out where it is not on this machine). Rows beside the
ViTs: what lifting alone gives, features that would fool a careless measure, and the most that the patch grid allows.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

import fit3d_lite as f3d
from fit3d_lite.consistency import BINS, THRESHOLDS
from fit3d_lite.correspond import TOLERANCE
from fit3d_lite.propagate import Propagation
from fit3d_lite.rooms import SEEDS

from .consistency_rows import COLLAPSE, SHRINK, TUNING, Maker, rows
from .report import table, write
from .tuned import tuned_vit

ROOMS, VIEWS, SIZE = SEEDS["probe_test"][:6], 12, 192
FRAMES = (slice(60, 72), slice(72, 84), slice(84, 94))  # of the office; the tiny ViT was trained on photos of 0 to 59
NOISY = 0.05  # tolerance of the office's depth
EXPOSED = (
    "original",
    "fine-tuned, paper recipe",
    "fine-tuned, lite recipe",
    "untrained ViT",
    "mean colour of the patch",
)
NUMBERS = {
    "true": "raw cosine",
    "margin": "margin",
    "AUC": "AUC",
    "10 px": "recall within 10 px",
    "soft": "soft-argmax",
}
SALIENCY = Path(__file__).parents[2] / "shared/weights/vit_small_patch14_saliency.safetensors"


def measure(
    makers: list[Maker], scenes, originals, tolerance: float, masks: bool, probe3d: bool = True
) -> list[list[dict]]:
    """Numbers of each seed and scene."""
    found = []
    for make in makers:
        found.append([])
        for scene, original in zip(scenes, originals, strict=True):
            feats = make(scene, original)
            result = f3d.consistency(feats, scene, tolerance=tolerance)
            numbers = {t: result.recall[t] for t in THRESHOLDS} | {"result": result}
            numbers |= {"AUC": result.auc, "true": result.cosine_true, "shuffled": result.cosine_shuffled}
            numbers |= {"margin": result.margin, "soft": result.soft_error}
            if probe3d:
                numbers["Probe3D"] = f3d.probe3d_recall(feats, scene, most=8).recall["10 quarter px"]
            if masks:
                numbers["masks"] = f3d.mask_propagation(feats, scene, most=30)
                numbers["mIoU"] = numbers["masks"].miou
            found[-1].append(numbers)
    return found


def by_scene(found: list[list[dict]], key: str) -> list[float]:
    """Mean over seeds, for each scene."""
    return [statistics.mean(seed[i][key] for seed in found) for i in range(len(found[0]))]


def spread(found: list[list[dict]], of: Callable[[list[dict]], float], digits: int = 3) -> str:
    """``of`` all scenes' numbers: mean ± standard deviation over seeds, where there are several."""
    values = [of(seed) for seed in found]
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


def exposed(scenes) -> list[f3d.Scene]:
    """The same scenes with each photo dimmed by its own factor between 1 and 1/2, as an automatic exposure would."""
    dice = torch.Generator().manual_seed(0)
    return [replace(s, images=s.images * (0.5 + 0.5 * torch.rand(len(s), 1, 1, 1, generator=dice))) for s in scenes]


def exposure_table(rows: dict, dimmed: dict) -> str:
    body = []
    for name, found in dimmed.items():
        same = [[seed[i] for i in range(len(found[0]))] for seed in rows[name]]
        cells = [spread(x, mean_of(key)) for key in ("10 px", "AUC") for x in (same, found)]
        kept = statistics.mean(by_scene(found, "10 px")) / statistics.mean(by_scene(same, "10 px"))
        body.append([name, *cells, f"{kept:.0%}"])
    return table(["features", "10 px", "10 px, exposed", "AUC", "AUC, exposed", "recall kept"], body)


def block_table(scenes, office) -> tuple[str, str]:
    """A row for each block, and the sentence that says which is best."""
    models = {"tiny": f3d.load_vit("tiny", device="cpu"), "tiny, lite recipe": tuned_vit("lite", 0)}
    if office and SALIENCY.is_file():
        models["ViT-S/14 for saliency"] = f3d.load_vit("dinov2_small", SALIENCY, device="cpu")
    body, best = [], []
    for name, vit in models.items():
        found = {"rooms": f3d.consistency_by_block(vit, scenes)} if name.startswith("tiny") else {}
        if office:
            found["office"] = f3d.consistency_by_block(vit, office, tolerance=NOISY)
        for block in range(vit.blocks):
            cells = []
            for where in ("rooms", "office"):
                r = found.get(where, {}).get(block)
                cells += [f"{r.recall['10 px']:.3f}", f"{r.auc:.3f}", f"{r.soft_error:.0f}"] if r else ["", "", ""]
            body.append([f"{name}, block {block + 1} of {vit.blocks}", *cells])
        for where, results in found.items():
            top = max(results, key=lambda b: results[b].recall["10 px"])
            auc = max(results, key=lambda b: results[b].auc)
            best.append(f"{name}, {where}: block {top + 1} by recall, block {auc + 1} by AUC, of {vit.blocks}")
    heads = [f"{where}, {what}" for where in ("rooms", "office") for what in ("10 px", "AUC", "soft-argmax, px")]
    return table(["features", *heads], body), "Best block: " + "; ".join(best) + "."


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
    mine = {n: f for n, f in rows.items() if not n.startswith(("lifted", "place", "mean colour"))}
    said = []
    for key, named in NUMBERS.items():
        score = {name: statistics.mean(by_scene(found, key)) for name, found in mine.items()}
        said.append(f"{named}: {(min if key == 'soft' else max)(score, key=score.get)}")
    return f"The best that a ViT gives from one photo, by {'; by '.join(said)}."


def main() -> None:
    original = f3d.load_vit("tiny", device="cpu")
    scenes = [f3d.room(seed, VIEWS, SIZE) for seed in ROOMS]
    dimmed = exposed(scenes[:4])
    office = []
    if all(f3d.captures.find_office(f) for f in FRAMES):
        office = [f3d.captures.office(f, SIZE) for f in FRAMES]
    feats = {name: [original.extract(s.images) for s in some]
             for name, some in (("rooms", scenes), ("exposed", dimmed), ("office", office))}  # fmt: skip
    found: dict[str, dict] = {"rooms": {}, "exposed": {}, "office": {}}
    for name, makers in rows().items():
        found["rooms"][name] = measure(makers, scenes, feats["rooms"], TOLERANCE, True)
        if name in EXPOSED:
            found["exposed"][name] = measure(makers, dimmed, feats["exposed"], TOLERANCE, False, probe3d=False)
        if office:
            found["office"][name] = measure(makers, office, feats["office"], NOISY, False)
        print(name, found["rooms"][name][0][0]["result"], flush=True)
    missing = statistics.mean((s.depths == 0).float().mean().item() for s in office) if office else 0.0
    write("consistency", report(found, block_table(scenes, office), missing))


def report(found, blocks, missing: float) -> str:
    rooms, dimmed, office = found["rooms"], found["exposed"], found["office"]
    results = {where: [n["result"] for n in f["original"][0]] for where, f in found.items() if f}
    pooled = {where: f3d.Consistency.pooled(r) for where, r in results.items()}

    def chance(where):
        return ", ".join(f"{name} {value:.3f}" for name, value in pooled[where].recall_chance.items())

    def queries(where):
        return ", ".join(f"{name} {n:,}" for name, n in pooled[where].queries_by_angle.items())

    text = f"""# Do two views agree?

A point of one photo is looked for in another by its feature alone, and depth and poses say where it is
(fit3d_lite/consistency.py; protocol after Probe3D). Pairs of views share at least 10 % of what they see, 100 points a
pair, hidden points left out; places looked at are every fourth pixel. Recall is the share found within so many pixels
of the photo, or within so many centimetres; means over scenes. Tiny ViT, patch 8. ± is the standard deviation over
{len(TUNING)} seeds of fine-tuning (of initialisation for the untrained ViT, of the order of pairs for the collapsed one).

- **lifted**: the original's features, lifted into the Gaussians of the depth maps (mean) and rendered into each view; from
  all views, the view itself among them; or for even views from the odd ones and the other way round, so that no view shows
  a feature of its own.
- **Probe3D**: recall within 10 pixels *of the quarter resolution* among the matches that pass the ratio test best, their
  own convention (fit3d_lite/probe3d.py): not to be compared with the other columns.
- **masks mIoU**: labels of one view carried to another by 5 nearest patches (fit3d_lite/propagate.py), on pixels both see.
- **shrunk**: mean + {SHRINK} · (feature - mean), so the same information. **ViT trained to raise the raw cosine**:
  {COLLAPSE["steps"]} steps of Adam at lr {COLLAPSE["lr"]:g} on 1 - cosine at true correspondences and nothing else: collapsed.
- **place in the room**: the mean 3D position of each patch: about the most recall that so coarse a grid allows.

## Rooms {ROOMS[0]} to {ROOMS[-1]}: {VIEWS} views of {SIZE}² each, unseen by every model

{main_table(rooms, True)}

Chance: {chance("rooms")}.

{verdicts(rooms, ["10 px", "5 cm", "AUC", "margin", "mIoU"])}

{trap(rooms)}

### By the angle between the two cameras

All rooms together: every query counts the same, and every pixel of the masks.

{angle_table(rooms, True)}

Queries: {queries("rooms")}.

### When the exposure wanders

The first {len(dimmed["original"][0])} of these rooms, each photo dimmed by its own factor between 1 and 1/2 before features are
extracted. On clean renders plain colour finds points very well; an automatic exposure ends that.

{exposure_table(rooms, dimmed)}
"""
    if office:
        text += f"""
## Office capture: frames {FRAMES[0].start} to {FRAMES[-1].stop - 1} in {len(FRAMES)} parts, {SIZE} × 288

Real photos with noisy depth: tolerance {NOISY:.0%}; {missing:.0%} of the pixels have none and are left out.
The tiny ViT was pretrained on photos of the same kitchen, frames 0 to 59.

{main_table(office, False)}

Chance: {chance("office")}.

{verdicts(office, ["10 px", "5 cm", "AUC", "margin"])}

{trap(office)}

{angle_table(office, False)}

Queries: {queries("office")}.
"""
    return (
        text
        + f"""
## By block

Features of each block after the model's last norm. The ViT-S is a DINOv2-S that others fine-tuned for saliency (not to be
quoted as DINOv2's): its last blocks have collapsed towards that one question.

{blocks[0]}

{blocks[1]}
"""
    )


if __name__ == "__main__":
    main()
