"""What heads read from frozen features on unseen rooms: python -m bench.bench_probe

Rows: raw RGB, an untrained ViT, the tiny ViT, its 3D-aware twins by two recipes, and assemblies of them. Every seed has
its own rooms, its own fine-tuned ViTs and its own first weights of the head, and all rows of a seed share them: rows
are compared seed by seed. Features are kept in cache/bench_probe, so a second run spends its time on heads alone.
"""

import time
from pathlib import Path

import torch

from bench.probe_tables import CONCAT, LITE, METHODS, METRICS, ORIGINAL, TWICE, UNTRAINED, Plan, report
from bench.report import write
from bench.tuned import tuned_vit
from fit3d_lite import Assembly, RawPixels, load_vit, probe_depth, probe_segmentation, room
from fit3d_lite.probing import LabelledPhotos, classify
from fit3d_lite.rooms import SEEDS

CACHE = Path(__file__).parents[1] / "cache" / "bench_probe"
# Many rooms with two views each: a head that has seen few rooms learns their furniture by heart.
SIZE, VIEWS = 192, 2
ROOMS = {"probe_train": 60, "probe_val": 10, "probe_test": 24}  # a seed
RUNS = 3
STRUCTURE = ("wall", "floor", "ceiling", "window", "door")  # of every room; what is left is furniture and things


def main() -> None:
    linear, dpt, whole, chance, seconds = {}, {}, {}, {}, {}
    for seed in range(RUNS):
        rooms, features = rooms_of(seed), assemblies(seed)
        seconds = seconds or {name: feature_seconds(made, rooms["probe_train"]) for name, made in features.items()}
        for name, made in features.items():
            linear.setdefault(name, []).append(probed(made, rooms, seed, "linear"))
            told(seed, name, linear[name][-1])
        for name in (TWICE, CONCAT):
            dpt.setdefault(name, []).append(probed(features[name], rooms, seed, "dpt"))
            told(seed, f"{name}, DPT", dpt[name][-1])
        for task, sets in photo_tasks(seed, rooms).items():
            chance.setdefault(task, []).append(most_frequent(sets[1][1]))
            for name, made in features.items():
                if made.way == "concat":  # a sum of vectors is no photo descriptor that anyone uses
                    for method in METHODS:
                        found = classify(made.vits, *sets, method, k=5, cache=CACHE)
                        whole.setdefault(name, {}).setdefault((task, method), []).append(found.accuracy)
    write("probe", report(Plan(RUNS, VIEWS, SIZE, *ROOMS.values()), linear, dpt, whole, chance, seconds))


def told(seed: int, name: str, numbers: dict) -> None:
    print(f"seed {seed}, {name}: {', '.join(f'{numbers[m]:.3f}' for m in METRICS)}", flush=True)


def rooms_of(seed: int) -> dict:
    """The rooms of one seed; no two seeds share a room."""
    return {
        part: [room(SEEDS[part][seed * count + i], VIEWS, SIZE) for i in range(count)] for part, count in ROOMS.items()
    }


def assemblies(seed: int) -> dict:
    vit, untrained = load_vit("tiny", device="cpu"), load_vit("tiny", "random", device="cpu", seed=seed)
    paper, lite = (tuned_vit(recipe, seed) for recipe in ("paper", "lite"))
    return {
        "raw RGB": Assembly(RawPixels(vit.patch_size)),
        "untrained ViT": Assembly(untrained),
        ORIGINAL: Assembly(vit),
        "fine-tuned, paper recipe": Assembly(paper),
        LITE: Assembly(lite),
        "add(original, lite)": Assembly([vit, lite], "add"),
        "fusion(original, lite)": Assembly([vit, lite], "fusion"),
        CONCAT: Assembly([vit, lite]),
        "concat(original, paper)": Assembly([vit, paper]),
        TWICE: Assembly([vit, vit]),
        UNTRAINED: Assembly([vit, untrained]),
    }


def feature_seconds(assembly: Assembly, scenes) -> float:
    """Seconds for the features of 100 photos, from 24 and without the cache."""
    images = torch.cat([scene.images for scene in scenes])[:24]
    begin = time.perf_counter()
    for vit in assembly.distinct.values():
        vit.extract(images, norm=False, cls=True)
    return (time.perf_counter() - begin) * 100 / len(images)


def probed(assembly: Assembly, rooms: dict, seed: int, head: str) -> dict:
    """The numbers of both probes."""
    sets = rooms["probe_train"], rooms["probe_test"], rooms["probe_val"]
    options = dict(head=head, seed=seed, cache=CACHE, checks=3)
    labels, depth = (probe(assembly, *sets, **options) for probe in (probe_segmentation, probe_depth))
    numbers = {metric: getattr(labels if metric in ("miou", "macc") else depth, metric) for metric in METRICS}
    by_photo = {"miou": labels.score.miou_by_photo, "rmse": depth.score.by_photo[:, depth.score.columns.index("rmse")]}
    by_room = {f"{metric} by room": values.view(-1, VIEWS).nanmean(1).tolist() for metric, values in by_photo.items()}
    return numbers | by_room | {"seconds": labels.seconds + depth.seconds}


def photo_tasks(seed: int, rooms: dict) -> dict:
    """Two questions about whole photos: name to (training photos and classes, test photos and classes)."""
    known, count = rooms["probe_test"], ROOMS["probe_test"]
    asked = [room(SEEDS["probe_test"][seed * count + i], VIEWS, SIZE, "holdout") for i in range(count)]
    which = tuple(photos_of(scenes, range(count)) for scenes in (known, asked))
    seen, unseen = furniture_of(rooms["probe_train"]), furniture_of(rooms["probe_test"])
    named = torch.isin(unseen[1], seen[1])  # a piece that no training photo shows cannot be named
    return {"which room": which, "largest piece": (seen, (unseen[0][named], unseen[1][named]))}


def photos_of(scenes, numbers):
    classes = [number for scene, number in zip(scenes, numbers, strict=True) for _ in range(len(scene))]
    return torch.cat([scene.images for scene in scenes]), torch.tensor(classes)


def furniture_of(scenes):
    """Every photo with the class, structure aside, that covers most of its pixels."""
    photos = LabelledPhotos(scenes, "segmentation")
    labels = photos.maps(range(len(photos)))
    counts = torch.stack([labels[i].flatten().bincount(minlength=256)[: len(photos.classes)] for i in range(len(photos))])
    counts[:, [photos.classes.index(name) for name in STRUCTURE]] = -1
    return photos.images(range(len(photos))), counts.argmax(1)


def most_frequent(classes) -> float:
    return classes.bincount().max().item() / len(classes)


if __name__ == "__main__":
    main()
