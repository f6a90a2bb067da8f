"""What the embedded tiny ViT's features know, beside what would fool us: python -m bench.bench_vit

Rows: raw RGB patches, an untrained tiny ViT, the tiny ViT, and a ViT-S/14 of which the first 8 blocks are kept (a
DINOv2-S fine-tuned by others, read from the large local files; its rows are left out where they are absent).
All rows see the same pictures of 192 × 192 and answer on the same grid of 24 × 24: the ViT-S gets them enlarged to 336.
"""

import statistics
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from bench.report import table, write
from fit3d_lite import Camera, Scene, load_vit, room
from fit3d_lite.correspondence.cosine import cross_view_cosine
from fit3d_lite.probing.ridge import quick_probe

SHARED = Path(__file__).parents[2] / "shared"
CACHE = Path(__file__).parents[1] / "cache" / "bench_vit"
SIZE, GRID, ROOMS, VIEWS, SPLITS = 192, 24, 24, 8, 3
TRAIN, VALIDATION = 12, 4  # rooms; the rest tests
TINY_ROW = "**tiny ViT**"
FIT, SEEN = 48, 60  # office frames 0-47 fit, 48-59 choose the ridge strength, 60-93 test
NEIGHBOURS = 6  # frames of the office that make a scene


def main() -> None:
    rooms = [room(seed, VIEWS, SIZE) for seed in range(ROOMS)]
    office = read_office(SHARED / "data/office") if SHARED.is_dir() else None
    rows = [measure(name, extract, rooms, office) for name, extract in models().items()]
    write("vit", report(rows, office is not None))


def models() -> dict:
    """Name to a function images [V, 3, 192, 192] -> features [V, C, 24, 24]."""
    found = {
        "raw RGB patches": lambda x, cache=None: F.pixel_unshuffle(x, SIZE // GRID),
        "tiny ViT, random initialisation": kept(load_vit("tiny", "random", device="cpu")),
        TINY_ROW: kept(load_vit("tiny", device="cpu")),
    }
    weights = SHARED / "weights/vit_small_patch14_saliency.safetensors"
    if weights.is_file():
        large = kept(load_vit("dinov2_small", weights, device="cpu"), block=7)

        def enlarged(x, **options):
            return large(F.interpolate(x, (GRID * 14,) * 2, mode="bilinear").clamp(0, 1), **options)

        found["ViT-S/14, first 8 blocks"] = enlarged
    return found


def kept(vit, block=-1):
    """Features that are found again when the measurement is repeated with the same weights and pictures."""
    return lambda x, cache=CACHE: vit.extract(x, batch=8, block=block, cache=cache)


def measure(name, extract, rooms, office) -> dict:
    """One row: a list over splits for the probes on rooms, plain numbers for the rest."""
    known = {s.images.data_ptr(): extract(s.images) for s in [*rooms, *([] if office is None else office)]}
    images = torch.cat([s.images for s in rooms])[:24]
    begin = time.monotonic()
    extract(images, cache=None)
    seconds = time.monotonic() - begin

    def again(images):
        return known[images.data_ptr()]

    row = {"name": name, "seconds": seconds, "miou": [], "rmse": []}
    tested = []
    for split in range(SPLITS):
        order = torch.randperm(ROOMS, generator=torch.Generator().manual_seed(split)).tolist()
        parts = order[:TRAIN], order[TRAIN : TRAIN + VALIDATION], order[TRAIN + VALIDATION :]
        score = quick_probe(again, *([rooms[i] for i in part] for part in parts))
        row["miou"].append(score.miou)
        row["rmse"].append(score.rmse)
        tested += parts[2]
    row |= cosines("", [(again(rooms[i].images), rooms[i]) for i in sorted(set(tested))])
    if office is not None:
        fit, seen = FIT // NEIGHBOURS, SEEN // NEIGHBOURS
        row["office rmse"] = quick_probe(again, office[:fit], office[fit:seen], office[seen:]).rmse
        row |= cosines("office ", [(again(s.images), s) for s in office[seen:]])
    print(f"{name}: {row}", flush=True)
    return row


def cosines(prefix, scenes) -> dict:
    out = {}
    for center in (False, True):
        found = [cross_view_cosine(feats, scene, center=center) for feats, scene in scenes]
        for key in ("true", "shuffled", "margin"):
            out[f"{prefix}{'centered ' * center}{key}"] = sum(getattr(c, key) for c in found) / len(found)
    return out


def read_office(folder: Path) -> list[Scene]:
    """The middle square of every frame, as scenes of about six neighbouring frames that overlap."""
    K = torch.from_numpy(np.loadtxt(folder / "K.txt")).float()
    poses = torch.from_numpy(np.loadtxt(folder / "poses.txt")).reshape(-1, 4, 4)
    images, depths, cameras = [], [], []
    for file, pose in zip(sorted((folder / "images").glob("*.jpg")), poses, strict=True):
        photo = torch.from_numpy(np.array(Image.open(file).convert("RGB")))
        images.append(photo.movedim(-1, 0).float() / 255)
        depth = np.array(Image.open(folder / "depth" / f"{file.stem}.png")).astype("float32")
        depths.append(torch.from_numpy(depth) / 1000)
        cameras.append(Camera(K, torch.linalg.inv(pose).float(), photo.shape[1], photo.shape[0]))
    scene = Scene(torch.stack(images), tuple(cameras), torch.stack(depths), None, (), "office")
    scene = scene.cropped((scene.width - scene.height) // 2, 0, scene.height, scene.height).resized(SIZE, SIZE)
    return [scene[a : a + NEIGHBOURS] for a in range(0, len(poses) - 1, NEIGHBOURS)]


def report(rows, with_office) -> str:
    def spread(values):
        return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"

    mean = {r["name"]: statistics.mean(r["miou"]) for r in rows}
    ratios = ", ".join(f"{mean[TINY_ROW] / value:.2f} × {name}" for name, value in mean.items() if name != TINY_ROW)
    columns = ("true", "shuffled", "margin", "centered margin")
    header = ["cosine true", "shuffled", "margin", "margin, mean removed"]
    text = (
        "# What the tiny ViT's features know\n\n"
        f"Frozen features of the last block; one closed-form ridge probe for all (fit3d_lite/probing/ridge.py). Rooms 0 to\n"
        f"{ROOMS - 1}, {VIEWS} views of {SIZE}² each; none was trained on. {SPLITS} random splits into {TRAIN} rooms to fit,\n"
        f"{VALIDATION} to choose the ridge strength and {ROOMS - TRAIN - VALIDATION} to test: mean ± standard deviation over\n"
        "splits. All rows share the splits, so rows can be compared more finely than the spread suggests.\n\n"
        "## Rooms\n\n"
    )
    text += table(
        ["features", "mIoU", "depth RMSE, m", *header, "24 views, s"],
        [
            [r["name"], spread(r["miou"]), spread(r["rmse"]), *(f"{r[c]:.3f}" for c in columns), f"{r['seconds']:.1f}"]
            for r in rows
        ],
    )
    text += f"\n\nmIoU of the tiny ViT: {ratios}.\n"
    if with_office:
        text += (
            "\n## Office capture (real photos)\n\n"
            f"Middle squares of 94 frames. Depth probe fitted on frames 0 to {FIT - 1}, tested on {SEEN} to 93, elsewhere in\n"
            f"the same kitchen. Cosines on frames {SEEN} to 93, among six neighbours each. The tiny ViT was trained on the\n"
            f"photos of frames 0 to {SEEN - 1}, without their depth.\n\n"
        )
        rmse = [f"{r['office rmse']:.3f}" for r in rows]
        text += table(
            ["features", "depth RMSE, m", *header],
            [[r["name"], e, *(f"{r['office ' + c]:.3f}" for c in columns)] for r, e in zip(rows, rmse, strict=True)],
        )
    return text


if __name__ == "__main__":
    main()
