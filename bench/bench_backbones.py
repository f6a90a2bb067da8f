"""Does the effect of 3D-aware fine-tuning hold for another network? On equal ground: python -m bench.bench_backbones

    make bench ONLY=backbones      # five repetitions, four minutes of one core each; a finished one stays in cache/backbones

Each network sees the same rooms on the same grid of patches, whatever its patch size, and every channel is evened by the
same photos. The training is lesson 10's, of seconds: what it gains is small beside the shipped network's 48 rooms.
"""

from __future__ import annotations

import copy
import functools
import json
import time

import torch
import torch.nn.functional as F

import fit3d_lite as f3d
from fit3d_lite import viz
from fit3d_lite.backbones import ViT
from fit3d_lite.backbones.shorten import first_blocks, standardise
from fit3d_lite.base.whole import replace_when_whole
from fit3d_lite.finetuning import ShuffledPoses
from fit3d_lite.probing.seeds import paired
from fit3d_lite.rooms import SEEDS

from .judge import kept_room
from .report import ROOT, table, write

KEPT = ROOT / "cache" / "backbones"
REPETITIONS, GRID, SIZE = 5, 10, 140
TRAIN, COUNT = (3, 6), 4_000  # rooms and photos of each, Gaussians of a room: as in lesson 10
JUDGED = {"probe_train": (10, 3), "probe_val": (3, 3), "probe_test": (12, 4)}
SHORT = {"epochs": 2, "batch": 2, "warmup": 3}
NARROW = 32  # channels
LARGER, FIRST = ("small, first 6 blocks", "small, first 8 blocks", "small, random weights"), 3  # in the first repetitions alone
METRICS = ("mIoU", "RMSE, m", "recall, 10 px", "AMI")
TOGETHER = "Here mIoU and RMSE are over the pixels of all test rooms together; above they are means of rooms."
PAIRS = (("3D-aware", "original"), ("wrong poses", "original"), ("3D-aware", "wrong poses"))


def sized(vit, images: torch.Tensor, side: int) -> torch.Tensor:
    h = side * vit.patch_size
    size = h, h * images.shape[-1] // images.shape[-2]
    return F.interpolate(images, size, mode="bilinear", antialias=True).clamp(0, 1)


def reader(vit, reference: torch.Tensor, side: int = GRID):
    """Photos to features of side × side patches, each channel of mean 0 and deviation 1 on ``reference``."""

    def raw(images):
        return vit.extract(sized(vit, images, side), quiet=True)

    std, mean = torch.std_mean(raw(reference), (0, 2, 3), keepdim=True)
    return functools.cache(lambda images: (raw(images) - mean) / std.clamp_min(1e-6))


def evened(vit, reference: torch.Tensor, side: int = GRID) -> ViT:
    """The same, inside the last norm, so that the recipe's weights mean what they mean for ``small``."""
    vit = copy.deepcopy(vit)
    standardise(vit, sized(vit, reference, side))
    return vit


def tuned(vit, rooms, clouds, seed: int) -> dict[str, ViT]:
    side = GRID * vit.patch_size
    scenes = [room.resized(side, side) for room in rooms]
    lifted = [f3d.lift(c, s.cameras, vit.extract(s.images, quiet=True)) for c, s in zip(clouds, scenes, strict=True)]
    wrong = ShuffledPoses(scenes, lifted, vit.channels, (GRID, GRID))
    run = functools.partial(f3d.finetune, vit, scenes, recipe="lite", seed=seed, progress=False, watch=99, **SHORT)
    return {"3D-aware": run(lifted=lifted), "wrong poses": run(lifted=wrong)}


def judged(read, parts) -> list[float]:
    """mIoU, RMSE, recall and AMI, means over the test rooms."""
    probe = f3d.quick_probe(read, *parts)
    rows = []
    for scene, score in zip(parts[2], probe.scenes, strict=True):
        seen = read(scene.images)
        groups = viz.cluster_scores(viz.kmeans(seen, 12, n_init=1), scene.resized(*seen.shape[:1:-1]).labels)
        # recall in pixels of 140, as the lesson's photos have them
        rows.append([score.miou, score.rmse, f3d.consistency(seen, scene).recall["10 px"], groups.mean()])
    return torch.tensor(rows).mean(0).tolist()


def narrow(read, reference: torch.Tensor):
    rows = read(reference).movedim(1, -1).flatten(0, -2)
    axes = torch.linalg.svd(rows, full_matrices=False)[2][:NARROW].T
    return functools.cache(lambda images: torch.einsum("vchw,cd->vdhw", read(images), axes))


def together(*readers):
    return lambda images: torch.cat([read(images) for read in readers], 1)


def repetition(number: int) -> dict:
    rooms = [f3d.room(SEEDS["finetune"].start + TRAIN[0] * number + i, TRAIN[1], SIZE) for i in range(TRAIN[0])]
    clouds = [f3d.Gaussians.from_depth(room, count=COUNT) for room in rooms]
    reference = torch.cat([room.images[:2] for room in rooms])
    parts = []
    for use, (count, views) in JUDGED.items():
        first = SEEDS[use].start + count * number
        parts.append([kept_room(first + i, 4)[list(range(views))].resized(SIZE, SIZE) for i in range(count)])
    pair = f3d.captures.stereo(size=(SIZE, SIZE * 3 // 2))
    small = {w: f3d.load_vit("small", w, device="cpu") for w in ("original", "fit3d", "wrong_poses")}
    networks = {"small, shipped": dict(zip(("original", "3D-aware", "wrong poses"), small.values(), strict=True))}
    made = {f"small, first {b} blocks": first_blocks(small["original"], b) for b in (4, 6, 8)}
    made["small, random weights"] = f3d.load_vit("small", "random", device="cpu", seed=number)
    made["ViT-Ti/16, random weights"] = f3d.load_vit("vit_tiny_patch16_224", "random", device="cpu", seed=number)
    if number >= FIRST:
        made = {name: vit for name, vit in made.items() if name not in LARGER}
    found = {"scores": {}, "narrow": {}, "motorcycle": {}}
    for name, vit in made.items():
        begin = time.process_time()
        networks[name] = {"original": evened(vit, reference)}
        networks[name] |= tuned(networks[name]["original"], rooms, clouds, number)
        print(f"repetition {number}: {name} tuned twice in {time.process_time() - begin:.0f} s", flush=True)
    networks["small, first 4 blocks"]["shipped"] = first_blocks(small["fit3d"], 4)
    for name, versions in networks.items():
        read = {version: reader(vit, reference) for version, vit in versions.items()}
        found["scores"][name] = {version: judged(some, parts) for version, some in read.items()}
        found["narrow"][name] = {v: f3d.quick_probe(narrow(read[v], reference), *parts).miou for v in ("original", "3D-aware")}
        found["motorcycle"][name] = {v: f3d.consistency(some(pair.images), pair).recall["5 px"] for v, some in read.items()}
        if name == "small, shipped":
            found["coarse"] = judged(reader(versions["original"], reference, GRID // 2), parts)
            beside = {v: f3d.quick_probe(together(read["original"], read[v]), *parts) for v in read}
            found["beside"] = {v: [score.miou, score.rmse] for v, score in beside.items()}
        print(number, name, found["scores"][name], flush=True)
    return found


def kept(name: str, make) -> dict:
    path = KEPT / f"{name}.json"
    if not path.is_file():
        found = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        with replace_when_whole(path) as partial:
            partial.write_text(json.dumps(found))
    return json.loads(path.read_text())


def spread(values) -> str:
    values = torch.tensor(values)
    return f"{values.mean():.3f} ± {values.std():.3f}"


def main() -> None:
    runs = [kept(f"study_{number}", functools.partial(repetition, number)) for number in range(REPETITIONS)]
    write("backbones", report(runs))


def report(runs: list[dict]) -> str:
    def of(what, name, version):
        """In each repetition that has this network."""
        return [run[what][name][version] for run in runs if name in run[what]]

    networks = {name: list(versions) for name, versions in runs[0]["scores"].items()}
    body, said, width, beside = [], [], [], []
    for name, versions in networks.items():
        for v in versions:
            columns = list(zip(*of("scores", name, v), strict=True))
            body.append([name, v, len(columns[0]), *map(spread, columns), spread(of("motorcycle", name, v))])
        for after, before in PAIRS:
            both = zip(zip(*of("scores", name, before), strict=True), zip(*of("scores", name, after), strict=True), strict=True)
            said.append([name, f"{after} − {before}", *(str(paired(*pair)) for pair in both)])
        few = of("narrow", name, "original"), of("narrow", name, "3D-aware")
        width.append([name, *map(spread, few), paired(*few)])
    whole, coarse = [x[0] for x in of("scores", "small, shipped", "original")], [run["coarse"][0] for run in runs]
    for v in runs[0]["beside"]:
        beside.append([f"original beside {v}", *(spread([run["beside"][v][at] for run in runs]) for at in (0, 1))])
    more = [[run["beside"][v][0] for run in runs] for v in ("wrong poses", "3D-aware")]
    return "\n\n".join([
        f"# Does the effect hold for another network?\n\n{ABOUT}",
        table(["network", "version", "repetitions", *METRICS, "motorcycle, recall 5 px"], body),
        "## Paired over repetitions\n\nTwo-sided t; for RMSE less is better. "
        f"{4 * len(said)} comparisons: one in twenty may be luck.",
        table(["network", "difference", *METRICS], said),
        f"## Equal width: mIoU at {NARROW} channels\n\nThe {NARROW} directions that vary most on six training photos. {TOGETHER}",
        table(["network", "original", "3D-aware", "difference"], width),
        f"## Beside the original\n\nThe shipped small network; the original beside itself is the original twice. {TOGETHER}",
        table(["features", "mIoU", "RMSE, m"], beside),
        f"With right rather than wrong poses beside it, mIoU: {paired(*more)}.",
        "## The grid alone\n\nThe original small network, mIoU by patches a side: "
        f"{GRID // 2} {spread(coarse)}, {GRID} {spread(whole)}; {paired(coarse, whole)}.",
    ])  # fmt: skip


ABOUT = f"""\
Every network gets {GRID} × {GRID} patches of the same photos ({SIZE} pixels a side, enlarged for patches of 16), and every
channel is brought to mean 0 and deviation 1 on six training photos. Fine-tuned here, on 3 rooms of 6 photos by `lite` with
2 epochs in steps of 2 photos: the first 4, 6 and 8 (all) blocks of the small ViT; the same architecture with random
weights; timm's ViT-Ti with patches of 16, 192 channels, random weights. Beside each the control: the same steps with wrong
poses. "Shipped" are the networks that come with the course, trained on 48 rooms with 16 × 16 patches. Judged by ridge
probes fitted on 10 rooms, strength chosen on 3, tested on 12; by recall between 4 views of each test room, and by 12
k-means groups against labels: means of what is measured in each test room.
{REPETITIONS} repetitions, each with rooms of its own to train on and to be judged on, and random weights of its own: mean ±
standard deviation. Three networks that take longer are in the first {FIRST} alone."""

if __name__ == "__main__":
    main()
