"""Do two views agree, and does 3D-aware fine-tuning make them? python -m bench.bench_consistency

Rooms that nothing was trained on, the real motorcycle pair, and the office capture (left out where it is not on this
machine). Rows beside the ViTs: what lifting alone gives, features that would fool a careless measure, and the most that the
patch grid allows.
"""

from __future__ import annotations

import statistics
from dataclasses import replace

import torch

import fit3d_lite as f3d
from fit3d_lite.correspondence.consistency import BINS, THRESHOLDS
from fit3d_lite.correspondence.correspond import TOLERANCE
from fit3d_lite.correspondence.masks import Propagation
from fit3d_lite.rooms import SEEDS

from .consistency_rows import COLLAPSE, SHRINK, Maker, rows
from .report import table, write

ROOMS, VIEWS, SIZE, PAIRS = SEEDS["probe_test"][:5], 8, 224, 30
FRAMES = (slice(60, 70), slice(74, 84))  # of the office
NOISY = 0.05  # tolerance of the office's depth
EXPOSED = ("original", "3D-aware", "wrong poses (control)", "untrained (control)", "mean color of the patch")
FOOLED = {"true": "raw cosine", "margin": "margin", "AUC": "AUC", "10 px": "recall within 10 px"}


def measure(make: Maker, scenes, originals, tolerance: float = TOLERANCE, masks: bool = False) -> list[dict]:
    """Numbers of each scene."""
    found = []
    for scene, original in zip(scenes, originals, strict=True):
        feats = make(scene, original)
        result = f3d.consistency(feats, scene, tolerance=tolerance, most=PAIRS)
        numbers = {t: result.recall[t] for t in THRESHOLDS} | {"result": result}
        numbers |= {"AUC": result.auc, "true": result.cosine_true, "shuffled": result.cosine_shuffled}
        numbers |= {"margin": result.margin, "soft": result.soft_error}
        if masks:
            numbers["masks"] = f3d.mask_propagation(feats, scene, most=12)
            numbers["mIoU"] = numbers["masks"].miou
        found.append(numbers)
    return found


def exposed(scenes) -> list[f3d.Scene]:
    """The same scenes with each photo dimmed by its own factor between 1 and 1/2, as an automatic exposure would."""
    rng = torch.Generator().manual_seed(0)
    return [replace(s, images=s.images * (0.5 + 0.5 * torch.rand(len(s), 1, 1, 1, generator=rng))) for s in scenes]


def main() -> None:
    original = f3d.load_vit("small", device="cpu")
    scenes = {"rooms": [f3d.room(seed, VIEWS, SIZE) for seed in ROOMS], "stereo": [f3d.captures.stereo(SIZE)]}
    scenes["exposed"] = exposed(scenes["rooms"][:3])
    if all(f3d.captures.find_office(f) for f in FRAMES):
        scenes["office"] = [f3d.captures.office(f, SIZE) for f in FRAMES]
    feats = {where: [original.extract(s.images, quiet=True) for s in some] for where, some in scenes.items()}
    found: dict[str, dict] = {where: {} for where in scenes}
    for name, make in rows().items():
        for where, some in scenes.items():
            if where == "exposed" and name not in EXPOSED:
                continue
            if where == "stereo" and name.startswith("lifted"):  # two views are no scene to lift
                continue
            tolerance = NOISY if where == "office" else TOLERANCE
            found[where][name] = measure(make, some, feats[where], tolerance, masks=where == "rooms")
        print(name, found["rooms"][name][0]["result"], flush=True)
    write("consistency", report(found, scenes, block_table(scenes["rooms"][:2])))


def by_scene(found: list[dict], key: str) -> list[float]:
    return [numbers[key] for numbers in found]


def main_table(rows: dict, masks: bool = False) -> str:
    keys = [*THRESHOLDS, "AUC", "true", "shuffled", "margin", "soft", *(["mIoU"] if masks else [])]
    said = {"true": "cosine true", "soft": "soft-argmax, px", "mIoU": "masks mIoU"}
    body = [[name, *(f"{statistics.mean(by_scene(f, k)):.{0 if k == 'soft' else 3}f}" for k in keys)] for name, f in rows.items()]
    return table(["features", *(said.get(key, key) for key in keys)], body)


def angle_table(rows: dict, masks: bool = False) -> str:
    body = []
    for name, found in rows.items():
        recall = f3d.Consistency.pooled([n["result"] for n in found]).recall_by_angle
        body.append([name, *(f"{recall[b]['10 px']:.3f}" for b in BINS)])
        if masks:
            body[-1] += [f"{x:.3f}" for x in Propagation(sum(n["masks"].confusion for n in found)).miou_by_angle.values()]
    return table(["features", *(f"10 px, {b}" for b in BINS), *(f"masks mIoU, {b}" for b in BINS if masks)], body)


def room_table(rows: dict, dimmed: dict) -> str:
    """The spread from room to room, which is what a lesson's expected ranges must allow for."""
    body = []

    def line(name, values):
        body.append([name, f"{min(values):.3f}", f"{statistics.mean(values):.3f}", f"{max(values):.3f}"])

    for key, said in (("10 px", "recall within 10 px"), ("AUC", "AUC"), ("mIoU", "masks mIoU")):
        line(f"{said}, original", by_scene(rows["original"], key))
        for name in rows:
            if name.startswith(("3D-aware", "wrong", "untrained")):
                pairs = zip(by_scene(rows[name], key), by_scene(rows["original"], key), strict=True)
                line(f"{said}, {name} minus original", [a - b for a, b in pairs])
    for name in ("mean color of the patch", "lifted from all views", "lifted from the other half of the views"):
        line(f"recall within 10 px, {name}", by_scene(rows[name], "10 px"))
    for name in ("original", "mean color of the patch"):
        pairs = zip(by_scene(rows[name], "10 px"), by_scene(dimmed[name], "10 px"), strict=False)  # fewer are dimmed
        line(f"recall kept when the exposure wanders, {name}", [b / a for a, b in pairs])
    return table(["", "lowest", "mean", "highest"], body)


def exposure_table(rows: dict, dimmed: dict) -> str:
    body = []
    for name, found in dimmed.items():
        before, after = (statistics.mean(by_scene(x, "10 px")) for x in (rows[name][: len(found)], found))
        body.append([name, f"{before:.3f}", f"{after:.3f}", f"{after / before:.0%}"])
    return table(["features", "10 px", "10 px, exposed", "recall kept"], body)


def verdicts(rows: dict, keys: list[str]) -> str:
    """Differences to the original scene by scene: which are more than chance."""
    body = []
    for name in rows:
        if name.startswith(("3D-aware", "original and", "wrong", "untrained")):
            found = [f3d.paired(by_scene(rows["original"], key), by_scene(rows[name], key)) for key in keys]
            cells = [f"{d.mean:+.3f} ({d.mean - d.half_width:+.3f} to {d.mean + d.half_width:+.3f})" for d in found]
            cells = [f"**{cell}**" if d.significant else cell for cell, d in zip(cells, found, strict=True)]
            body.append([f"{name}, minus original", *cells])
    return (
        f"{table(['difference (95 % interval)', *keys], body)}\n\nPaired by scene ({len(rows['original'])} scenes; Student's t "
        f"at 5 %; bold where 0 is left out). {len(body) * len(keys)} comparisons: one in twenty may be luck."
    )


def trap(rows: dict) -> str:
    """Which features each number would choose, among those that a ViT gives from one photo."""
    mine = {n: f for n, f in rows.items() if not n.startswith(("lifted", "place", "mean color"))}
    best = {said: max(mine, key=lambda n: statistics.mean(by_scene(mine[n], key))) for key, said in FOOLED.items()}
    return f"The best that a ViT gives from one photo, by {'; by '.join(f'{s}: {n}' for s, n in best.items())}."


def block_table(scenes) -> str:
    """A row for each block."""
    found = {}
    for name, weights in (("original", "original"), ("3D-aware", "fit3d")):
        vit = f3d.load_vit("small", weights, device="cpu")
        found[name] = f3d.consistency_by_block(vit, scenes, most=PAIRS // 2)
    body = []
    for block in range(vit.blocks):
        each = [f[block] for f in found.values()]
        body.append([f"block {block + 1}", *(f"{x:.3f}" for r in each for x in (r.recall["10 px"], r.auc))])
    return table(["", *(f"{name}, {what}" for name in found for what in ("10 px", "AUC"))], body)


def report(found: dict, scenes: dict, blocks: str) -> str:
    rooms, office = found["rooms"], found.get("office")
    pooled = {where: f3d.Consistency.pooled([n["result"] for n in f["original"]]) for where, f in found.items()}
    chance = {where: ", ".join(f"{n} {v:.3f}" for n, v in p.recall_chance.items()) for where, p in pooled.items()}
    queries = {where: ", ".join(f"{n} {v:,}" for n, v in p.queries_by_angle.items()) for where, p in pooled.items()}
    text = f"""# Do two views agree?

A point of one photo is looked for in another by its feature alone, and depth and poses say where it is
(fit3d_lite/correspondence; protocol after Probe3D). Pairs of views share at least 10 % of what they see, up to {PAIRS} pairs a
scene and 100 points a pair, hidden points left out; places looked at are every fourth pixel. Recall is the share found within
so many pixels of the photo, or within so many centimetres; means over scenes. Small ViT, patch 14, as it comes with the course.

- **lifted**: the original's features, lifted into the Gaussians of the depth maps (mean) and rendered into each view; from
  all views, the view itself among them; or for even views from the odd ones and the other way round, so that no view shows
  a feature of its own.
- **masks mIoU**: labels of one view carried to another by 5 nearest patches (masks.py), on pixels both see; 12 pairs a room.
- **shrunk**: mean + {SHRINK} · (feature - mean), so the same information. **ViT trained to raise the raw cosine**:
  {COLLAPSE["steps"]} steps of Adam at lr {COLLAPSE["lr"]:g} on 1 - cosine at true correspondences and nothing else: collapsed.
- **place in the room**: the mean 3D position of each patch: about the most recall that so coarse a grid allows.

## Rooms {ROOMS[0]} to {ROOMS[-1]}: {VIEWS} views of {SIZE}² each, unseen by every model

{main_table(rooms, True)}

Chance: {chance["rooms"]}.

{verdicts(rooms, ["10 px", "5 cm", "AUC", "margin", "mIoU"])}

{trap(rooms)}

### By the angle between the two cameras

All rooms together: every query counts the same, and every pixel of the masks.

{angle_table(rooms, True)}

Queries: {queries["rooms"]}.

### When the exposure wanders

The first {len(scenes["exposed"])} of these rooms, each photo dimmed by its own factor between 1 and 1/2 before features are
extracted.

{exposure_table(rooms, found["exposed"])}

### From room to room

{room_table(rooms, found["exposed"])}

## A real pair: the motorcycle, {scenes["stereo"][0].height}×{scenes["stereo"][0].width}, 0.19 m apart, not turned

{main_table(found["stereo"])}

Chance: {chance["stereo"]}; {len(pooled["stereo"])} points, so a recall of 0.80 is known to ± 0.03.
"""
    if office:
        missing = statistics.mean((s.depths == 0).float().mean().item() for s in scenes["office"])
        text += f"""
## Office capture: frames {FRAMES[0].start} to {FRAMES[-1].stop - 1} in {len(FRAMES)} parts

{scenes["office"][0].height}×{scenes["office"][0].width} pixels. Real photos with noisy depth: tolerance {NOISY:.0%};
{missing:.0%} of the pixels have none and are left out.

{main_table(office)}

Chance: {chance["office"]}.

{angle_table(office)}

Queries: {queries["office"]}.
"""
    return f"{text}\n## By block\n\nFeatures of each block after the model's last norm, two rooms.\n\n{blocks}"


if __name__ == "__main__":
    main()
