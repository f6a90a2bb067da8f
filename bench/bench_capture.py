"""One scene as people bring it: photos to fitted Gaussians with time and held-out quality, and what lesson 08 measures.

    make bench ONLY=capture                          # all parts whose data are at hand
    python -m bench.bench_capture office rooms       # these; the others keep what they measured before

photos: FIT3D_SCENE names a folder of photos or a COLMAP model. office: FIT3D_OFFICE, else it is downloaded. rooms: drawn.
Seconds are CPU seconds of this process, so that a busy machine changes little.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from statistics import mean, stdev

import torch

import fit3d_lite as f3d
from fit3d_lite.finetuning import ShuffledPoses
from fit3d_lite.splatting import photo_ssim

from .report import ROOT, table, write

ROOMS, VIEWS, SIZE, COUNT, STEPS, EPOCHS = range(2, 7), 16, 224, 15_000, 40, 2  # as in lesson 08
SPARSE = 2600  # points, as many as structure from motion leaves of 31 photos


def quality(cloud: f3d.Gaussians, scene: f3d.Scene) -> list[float]:
    """PSNR, PSNR with exposure taken out, SSIM; means over the photos."""
    return [mean(f3d.photo_psnr(cloud, scene)), mean(f3d.photo_psnr(cloud, scene, "affine")), mean(photo_ssim(cloud, scene))]


def row(name: str, start: f3d.Gaussians, train: f3d.Scene, held: f3d.Scene, steps: int, before: float = 0.0, **options) -> list:
    """Fit and judge; ``before`` are seconds that it took to get as far as the start."""
    began = time.process_time()
    cloud = f3d.fit(start, train, steps, progress=False, **options)
    seconds = before + time.process_time() - began
    found = [name, steps, f"{len(start):,}", f"{len(cloud):,}", f"{seconds:.0f}", *(f"{x:.2f}" for x in quality(cloud, held))]
    print(found, flush=True)
    return [*found, f"{mean(f3d.photo_psnr(cloud, train)):.2f}"]


def photos() -> dict:
    """Photos without depth: structure from motion, then Gaussians from its points."""
    folder, began = Path(os.environ["FIT3D_SCENE"]).expanduser(), time.process_time()
    model = any(folder.glob("**/cameras.*"))
    scene = (f3d.captures.colmap if model else f3d.captures.photos)(folder, size=(300, 400))
    before = time.process_time() - began
    train, held = scene.split(8, 4)
    start = f3d.Gaussians.from_points(train)
    rows = [row(f"points{', ' + e if e else ''}", start, train, held, n, before, exposure=e)
            for n, e in ((400, None), (400, "affine"))]  # fmt: skip
    return {"scene": f"{scene}; {len(train)} to learn from, {len(held)} held out, {before:.0f} s to read", "rows": rows}


def office() -> dict:
    """A capture with depth: a start from depth against one from few points, with and without exposure."""
    train, held = f3d.captures.office(None, (180, 270)).split(4)
    began = time.process_time()
    dense = f3d.Gaussians.from_depth(train)
    before = time.process_time() - began
    few = torch.randperm(len(dense), generator=torch.Generator().manual_seed(0))[:SPARSE]
    sparse = f3d.Gaussians.from_points(dense.means[few], dense.colors[few])
    rows = [row(f"depth{', ' + e if e else ''}", dense, train, held, 300, before, exposure=e) for e in (None, "affine")]
    rows.append(row("points, affine", sparse, train, held, 300, before, exposure="affine"))
    return {"scene": f"office: {len(train)} photos of 180×270 to learn from, {len(held)} held out", "rows": rows}


def rooms() -> dict:
    """The numbers of lesson 08's card for rooms of several seeds."""
    pair = f3d.captures.stereo(SIZE)
    start = f3d.Gaussians.from_depth(pair[:1], COUNT)
    motorcycle = mean(f3d.photo_psnr(f3d.fit(start, pair[:1], STEPS, progress=False, exposure="affine"), pair[1:]))
    rows = []
    for seed in ROOMS:
        rows.append({"held-out PSNR, motorcycle": motorcycle} | one_room(seed))
        print(seed, rows[-1], flush=True)
    return {"rows": rows}


def one_room(seed: int) -> dict[str, float]:
    train, held = f3d.room(seed, VIEWS, SIZE).split(4)
    vit = f3d.load_vit("small")
    cloud = f3d.fit(f3d.Gaussians.from_depth(train, COUNT), train, STEPS, progress=False, exposure="affine")
    lifted = f3d.lift(cloud, train.cameras, vit.extract(train.images, quiet=True))
    own, grid = vit.extract(held.images, quiet=True), vit.grid(SIZE, SIZE)
    rendered, mask = map(torch.stack, zip(*(lifted.render(c, *grid) for c in held.cameras), strict=True))
    depths = f3d.with_rendered_depths(held, cloud).depths
    known = (depths > 0) & (held.depths > 0)
    other = f3d.room(seed + 50, 4, SIZE)
    here, elsewhere = recall(vit, held), mean(recall(vit, other))
    found = {
        "held-out PSNR, room": mean(f3d.photo_psnr(cloud, held)),
        "cosine of rendered features": torch.cosine_similarity(own, rendered, dim=1)[mask].mean().item(),
        "rendered depth, median error": 100 * ((depths - held.depths).abs() / held.depths)[known].median().item(),
        "recall, original": mean(here),
    }
    targets = {"recall gained on this scene": [lifted],
               "recall gained from wrong poses (control)": ShuffledPoses([train], [lifted], vit.channels, grid)}  # fmt: skip
    for name, target in targets.items():
        tuned = f3d.finetune(vit, [train], target, "one-scene", epochs=EPOCHS, progress=False)
        found[name] = mean(recall(tuned, held)) - mean(here)
        if target is targets["recall gained on this scene"]:
            found["recall gained in another room"] = mean(recall(tuned, other)) - elsewhere
    return found


def recall(vit, scene: f3d.Scene) -> list[float]:
    """Within 10 px, of each two photos that overlap."""
    found, feats = [], vit.extract(scene.images, quiet=True)
    for a in range(len(scene)):
        for b in range(a):
            try:
                found.append(f3d.consistency(feats[[a, b]], scene[[a, b]], points=200).recall["10 px"])
            except ValueError:  # these two share too little
                pass
    return found


PARTS = {"photos": photos, "office": office, "rooms": rooms}
HEADS = ["start", "steps", "Gaussians", "after", "CPU s", "PSNR", "exposure taken out", "SSIM", "PSNR, training"]


def main(asked: list[str]) -> None:
    kept = ROOT / "build" / "capture.json"
    made = json.loads(kept.read_text()) if kept.is_file() else {}
    for name in asked or [n for n in PARTS if n != "photos" or "FIT3D_SCENE" in os.environ]:
        made[name] = PARTS[name]()
        kept.parent.mkdir(exist_ok=True)
        kept.write_text(json.dumps(made))
    text = ["""# One scene, from photos to Gaussians

Held-out photos unless it says training. PSNR in dB; "exposure taken out": after the 3×4 matrix of colors that brings the render
closest to the photo."""]
    for name in ("photos", "office"):
        if name in made:
            text.append(f"**{made[name]['scene']}**\n\n{table(HEADS, made[name]['rows'])}")
    if "rooms" in made:
        rows = made["rooms"]["rows"]
        values = {name: [row[name] for row in rows] for name in rows[0]}
        body = [[name, *(f"{x:.3g}" for x in [*v, mean(v)]), f"{stdev(v):.2g}"] for name, v in values.items()]
        head = ["", *(f"room {seed}" for seed in ROOMS), "mean", "± over rooms"]
        said = f"{VIEWS} photos of {SIZE}² a room, every fourth held out, {EPOCHS} epochs of `one-scene`"
        text.append(f"**Lesson 08's card**, {said}\n\n{table(head, body)}")
    write("capture", "\n\n".join(text))


if __name__ == "__main__":
    main(sys.argv[1:])
