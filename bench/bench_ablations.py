"""The course's study as tables: what was asked and expected, and every gain with its interval, from assets/ablations.csv.

    make bench ONLY=ablations                                  # seconds: the tables, of the points that are measured
    python -m fit3d_lite ablate assets/ablations.toml --known assets/ablations.csv --work runs    # hours: more points
"""

from __future__ import annotations

from statistics import mean, stdev

import torch
import torch.nn.functional as F

import fit3d_lite as f3d
from fit3d_lite.ablations import course_grid, course_table, gains

from .report import table, write

DIMS, ROOMS = (8, 16, 32, 64, 128), range(5, 10)
SHOWN = {  # column: (way, metric)
    "labels, mIoU": ("alone", "miou"), "depth, RMSE m": ("alone", "rmse"), "found again, 20 px": ("alone", "recall_20"),
    "noise": ("alone", "noise"), "same room": ("alone", "room"),
    "masks carried, mIoU": ("alone", "masks"), "groups, AMI": ("alone", "ami"), "motorcycle, 10 px": ("alone", "pair"),
    "captured, 10 px": ("alone", "captured"), "single things": ("alone", "accuracy"), "labels beside": ("beside", "miou"),
    "depth beside": ("beside", "rmse"), "single things beside": ("beside", "accuracy"),
}  # fmt: skip


def said(line) -> str:
    if line.low != line.low:  # one repetition has no interval
        return f"{line.gain:+.3f}"
    return f"{line.gain:+.3f} ({line.low:+.3f} to {line.high:+.3f})"


def section(study, runs) -> str:
    """The gains of one study as Markdown, or nothing where it is not measured."""
    body, lines = [], gains(runs, study.name)
    shown = {title: key for title, key in SHOWN.items() if key in set(zip(lines.way, lines.metric, strict=True))}
    brief, less = study.unchanged, None
    if brief in set(lines.row):
        less = gains(runs, study.name, ["miou", "recall_20"], brief).set_index(["row", "way", "metric"])
    extra = [] if less is None else ["labels, less brief", "found again, less brief"]
    for row in study.points:
        if row == study.against.get(row, row):
            continue  # an original
        here = lines.loc[lines.row == row].set_index(["way", "metric"])
        if here.empty:
            continue
        found = [said(here.loc[key]) if key in here.index else "" for key in shown.values()]
        body.append([row.replace("none", "3D targets"), int(here.pairs.max()), *found])
        for key in ("miou", "recall_20") if less is not None else ():  # of what started from one network and was judged alike
            same = row != brief and study.against[row] == study.against[brief] and (row, "alone", key) in less.index
            body[-1].append(said(less.loc[row, "alone", key]) if same else "")
    if len(body) < 2:
        return ""  # nothing of it but what other studies share
    return f"## {study.question}\n\nExpected: {study.expected}\n\n" + table(["", "repetitions", *shown, *extra], body)


def numbers_a_gaussian() -> str:
    """Lesson 09's section 6 for five rooms: cosine between renders and the ViT's own features of photos that were held out."""
    vit, found = f3d.load_vit("small", device="cpu"), {dim: [] for dim in (*DIMS, "all")}
    for seed in ROOMS:
        seen, held = f3d.room(seed, 16, 224).split(4)
        truth, feats = (vit.extract(part.images, quiet=True) for part in (held, seen))
        cloud = f3d.Gaussians.from_depth(seen)
        for dim, cosines in found.items():
            field = f3d.lift(cloud, seen.cameras, feats, **({} if dim == "all" else {"method": "closed", "dim": dim}))
            maps = [field.render(camera, *truth.shape[-2:]) for camera in held.cameras]
            parts = [F.cosine_similarity(f, t, dim=0)[mask] for (f, mask), t in zip(maps, truth, strict=True)]
            cosines.append((torch.cat(parts).mean().item(), field.bytes / 2**20))
    body = []
    for dim, pairs in found.items():
        cosines, sizes = zip(*pairs, strict=True)
        off = [a - b for a, (b, _) in zip(cosines, found["all"], strict=True)]
        less = f"{min(off):+.3f} to {max(off):+.3f}"
        body.append([dim, f"{mean(cosines):.3f} ± {stdev(cosines):.3f}", less, f"{mean(sizes):.1f}"])
    head = ["numbers, D", "cosine, held out", "less that of all, by room", "MB"]
    return f"## How many numbers a Gaussian?\n\n`closed`, rooms {ROOMS[0]} to {ROOMS[-1]}.\n\n" + table(head, body)


def main() -> None:
    runs = course_table()
    plain = runs[(runs.row == "original") & (runs.study == "rooms") & (runs.way == "alone")]
    hours = runs.drop_duplicates([c for c in runs if c not in ("study", "row", "against")]).query("way == 'beside'")
    hours = hours.groupby("device").seconds.sum() / 3600
    where = {"cpu": "one CPU core", "cuda:0": "a fifteenth of an H100"}
    spent = ", ".join(f"{h:.1f} hours on {where.get(device, device)}" for device, h in hours.items())
    sections = [section(study, runs) for study in course_grid() if study.name in set(runs.study)]
    write("ablations", f"""# When does 3D-aware fine-tuning help?

The small ViT. Of each study one thing varies; a repetition has rooms of its own to learn from, 20 to fit the ridge probe and
choose its strength, 24 to be judged on (12 for agreement, 8 for groups), 4 views of 224² each. Numbers are gains over the same
network before fine-tuning, judged the same way: mean paired difference with its 95 % interval (Student's t over the
repetitions). For RMSE less is better. "Less brief" is the same difference to the recipe as it is, in the same repetitions.
"Beside" is read from the features of both side by side, against the original twice. A number without an interval was measured
once, or is one network's on the same photos. The original itself: mIoU
{plain.miou.mean():.3f}, RMSE {plain.rmse.mean():.3f} m, found again {plain.recall_20.mean():.3f}, masks
{plain.masks.mean():.3f}, AMI {plain.ami.mean():.3f}, motorcycle {plain['pair'].mean():.3f}.

Points are judged where they were trained, and the originals on a CPU; rooms are the same bits on
both. In all {spent}.

""" + "\n\n".join([*filter(None, sections), numbers_a_gaussian()]))  # fmt: skip


if __name__ == "__main__":
    main()
