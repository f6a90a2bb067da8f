"""Do two views agree, and does 3D-aware fine-tuning make them? python -m bench.bench_consistency

Rooms that nothing was trained on, and the office capture (left out where it is not on this machine). Rows beside the
ViTs: what lifting alone gives, features that would fool a careless measure, and the most that the patch grid allows.
"""

from __future__ import annotations

import statistics
from dataclasses import replace
from pathlib import Path

import torch

import fit3d_lite as f3d
from fit3d_lite.correspondence.consistency import THRESHOLDS
from fit3d_lite.correspondence.correspond import TOLERANCE
from fit3d_lite.rooms import SEEDS

from .consistency_rows import COLLAPSE, SHRINK, TUNING, Maker, rows
from .consistency_tables import angle_table, exposure_table, main_table, room_table, trap, verdicts
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
    "mean color of the patch",
)
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


def exposed(scenes) -> list[f3d.Scene]:
    """The same scenes with each photo dimmed by its own factor between 1 and 1/2, as an automatic exposure would."""
    dice = torch.Generator().manual_seed(0)
    return [replace(s, images=s.images * (0.5 + 0.5 * torch.rand(len(s), 1, 1, 1, generator=dice))) for s in scenes]


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
(fit3d_lite/correspondence; protocol after Probe3D). Pairs of views share at least 10 % of what they see, 100 points a
pair, hidden points left out; places looked at are every fourth pixel. Recall is the share found within so many pixels
of the photo, or within so many centimetres; means over scenes. Tiny ViT, patch 8. ± is the standard deviation over
{len(TUNING)} seeds of fine-tuning (of initialisation for the untrained ViT, of the order of pairs for the collapsed one).

- **lifted**: the original's features, lifted into the Gaussians of the depth maps (mean) and rendered into each view; from
  all views, the view itself among them; or for even views from the odd ones and the other way round, so that no view shows
  a feature of its own.
- **Probe3D**: recall within 10 pixels *of the quarter resolution* among the matches that pass the ratio test best, their
  own convention (probe3d.py): not to be compared with the other columns.
- **masks mIoU**: labels of one view carried to another by 5 nearest patches (masks.py), on pixels both see.
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
extracted. On clean renders plain color finds points very well; an automatic exposure ends that.

{exposure_table(rooms, dimmed)}

### From room to room

{room_table(rooms, dimmed)}
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

Features of each block after the model's last norm, all scenes together. The ViT-S is a DINOv2-S that others fine-tuned
for saliency (not to be quoted as DINOv2's): its last blocks have collapsed towards that one question.

{blocks[0]}

{blocks[1]}
"""
    )


if __name__ == "__main__":
    main()
