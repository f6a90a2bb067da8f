"""What heads read from frozen features on unseen rooms: python -m bench.bench_probe

Rows: raw RGB, an untrained ViT, the tiny ViT, its 3D-aware twins by two recipes, and assemblies of them. Every seed has
its own rooms, its own fine-tuned ViTs and its own first weights of the head, and all rows of a seed share them: rows
are compared seed by seed. Features are kept in cache/bench_probe, so a second run spends its time on heads alone.
"""

import statistics
import time
from pathlib import Path

import torch

from bench.report import table, write
from bench.tuned import tuned_vit
from fit3d_lite import Assembly, RawPixels, classify, load_vit, paired, probe_depth, probe_segmentation, room
from fit3d_lite.labelled import LabelledPhotos
from fit3d_lite.rooms import SEEDS

CACHE = Path(__file__).parents[1] / "cache" / "bench_probe"
# Many rooms with two views each: a head that has seen few rooms learns their furniture by heart.
SIZE, VIEWS = 192, 2
ROOMS = {"probe_train": 60, "probe_val": 10, "probe_test": 24}  # a seed
RUNS = 3
ORIGINAL, LITE, CONCAT, TWICE = "original", "fine-tuned, lite recipe", "concat(original, lite)", "concat(original, original)"
UNTRAINED = "concat(original, untrained)"
METRICS = {"miou": "mIoU", "macc": "mAcc", "rmse": "RMSE, m", "abs_rel": "AbsRel", "delta1": "δ1"}
METHODS = {"knn": "k-NN", "linear": "linear"}
STRUCTURE = ("wall", "floor", "ceiling", "window", "door")  # of every room; what is left is furniture and things


def main() -> None:
    linear, dpt, whole, chance, seconds = {}, {}, {}, {}, {}
    for seed in range(RUNS):
        rooms, features = rooms_of(seed), assemblies(seed)
        seconds = seconds or {name: feature_seconds(made, rooms["probe_train"]) for name, made in features.items()}
        for name, made in features.items():
            linear.setdefault(name, []).append(probed(made, rooms, seed, "linear"))
            print(f"seed {seed}, {name}: {linear[name][-1]}", flush=True)
        for name in (TWICE, CONCAT):
            dpt.setdefault(name, []).append(probed(features[name], rooms, seed, "dpt"))
            print(f"seed {seed}, {name}, DPT: {dpt[name][-1]}", flush=True)
        for task, sets in photo_tasks(seed, rooms).items():
            chance.setdefault(task, []).append(most_frequent(sets[1][1]))
            for name, made in features.items():
                if made.way == "concat":  # a sum of vectors is no photo descriptor that anyone uses
                    for method in METHODS:
                        found = classify(made.vits, *sets, method, k=5, cache=CACHE)
                        whole.setdefault(name, {}).setdefault((task, method), []).append(found.accuracy)
    write("probe", report(linear, dpt, whole, chance, seconds))


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
    return numbers | {"seconds": labels.seconds + depth.seconds}


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


def spread(values) -> str:
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"


def column(rows: list[dict], metric) -> list[float]:
    return [row[metric] for row in rows]


def report(linear, dpt, whole, chance, seconds) -> str:
    train, val, test = ROOMS.values()
    rows = [[name, *cells(found, seconds[name])] for name, found in linear.items()]
    return f"""# What heads read from frozen features, on rooms that none of them has seen

{RUNS} seeds. Each has its own rooms ({train} to train on, {val} to choose the best head of the training, {test} to test;
{VIEWS} views of {SIZE}² each), its own fine-tuned and untrained ViTs, and its own head.
Mean ± standard deviation over seeds; most of that spread is the rooms, which all rows of a seed share, so rows are
compared by their differences, below.
Heads and losses are the paper's, trained by the light settings; seconds on one thread.

## Linear heads

{table(["features", *METRICS.values(), "both heads, s", "features of 100 photos, s"], rows)}

## Differences, seed by seed

{differences(linear)}

## A richer head

{richer(linear, dpt)}

## Is the photo as a whole still recognised?

{whole_photos(whole, chance)}
"""


def cells(found: list[dict], *more: float) -> list[str]:
    times = [statistics.mean(column(found, "seconds")), *more]
    return [*(spread(column(found, metric)) for metric in METRICS), *(f"{t:.0f}" for t in times)]


def differences(linear) -> str:
    """A table of paired differences, and what they say in words."""
    judged = {("miou", "mIoU"): 1, ("rmse", "RMSE"): -1}  # 1: more is better
    pairs = [(ORIGINAL, name) for name in linear if name != ORIGINAL]
    pairs += [(other, CONCAT) for other in (TWICE, UNTRAINED, "concat(original, paper)")]
    pairs += [("fine-tuned, paper recipe", LITE)]
    lines, said = [], {}
    for before, after in pairs:
        line = [after, before]
        for (metric, name), sign in judged.items():
            found = paired(column(linear[before], metric), column(linear[after], metric))
            verdict = "no significant difference" if not found.significant else "better" if sign * found.mean > 0 else "worse"
            line.append(f"{found.mean:+.3f} ± {found.half_width:.3f}" + f" **{verdict}**" * found.significant)
            key = (after, before) if before != ORIGINAL else (name, before)
            said.setdefault(key, {}).setdefault(verdict, []).append(name if before != ORIGINAL else after)
        lines.append(line)
    count = len(judged) * len(pairs)
    words = [
        f"- {subject}, against {other}: " + "; ".join(f"{verdict}: {' · '.join(names)}" for verdict, names in kinds.items()) + "."
        for (subject, other), kinds in said.items()
    ]
    return (
        table(["features", "minus", "mIoU", "RMSE, m"], lines)
        + f"\n\nMean difference ± half the width of its 95 % interval, from a paired t-test over {RUNS} seeds.\n"
        "Better and worse below mean that the interval leaves out 0.\n\n"
        + "\n".join(words)
        + f"\n\nOf {count} comparisons about {0.05 * count:.0f} would come out as significant by chance alone."
    )


def richer(linear, dpt) -> str:
    rows = []
    for name, found in dpt.items():
        rows += [[name, "linear", *cells(linear[name])], [name, "DPT", *cells(found)]]
    gains = [
        f"{said} {paired(*(column(dpt[name], metric) for name in (TWICE, CONCAT)))}"
        for metric, said in (("miou", "mIoU"), ("rmse", "RMSE"))
    ]
    return (
        "DPT reads four blocks and has convolutions, which see neighbours. It is trained for 200 steps of 4 photos, which\n"
        "is short for it: its rows say what half a minute gives, not what it could reach, and they are compared at equal\n"
        "width, since a head that is not trained out gains from copies alone.\n\n"
        + table(["features", "head", *METRICS.values(), "both heads, s"], rows)
        + f"\n\n{CONCAT} minus {TWICE} under DPT: {'; '.join(gains)}."
    )


def whole_photos(whole, chance) -> str:
    keys = [(task, method) for task in chance for method in METHODS]
    rows = [[name, *(spread(found[key]) for key in keys)] for name, found in whole.items()]
    rows.append(["always the most frequent", *(f"{statistics.mean(chance[task]):.3f}" for task, _ in keys)])
    verdicts = [f"{task} ({METHODS[m]}) {paired(whole[ORIGINAL][task, m], whole[LITE][task, m])}" for task, m in keys]
    return (
        "Accuracy from one vector a photo, the CLS token (raw RGB: the mean patch), by k-NN with 5 neighbours and by\n"
        "logistic regression.\n"
        f"*Which room*: {VIEWS} views of each test room ({ROOMS['probe_test']}) are known, {VIEWS} others are asked for.\n"
        "The colours of a room help, as the row of raw RGB shows.\n"
        "*Largest piece*: which class covers most of the photo, walls, floors, ceilings, windows and doors aside, in rooms\n"
        "not seen in training.\n\n"
        + table(["features", *(f"{task}, {METHODS[m]}" for task, m in keys)], rows)
        + f"\n\n{LITE} minus {ORIGINAL}: {'; '.join(verdicts)}."
    )


if __name__ == "__main__":
    main()
