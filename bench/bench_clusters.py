"""Are the groups of 3D-aware features cleaner? k-means groups against labels, on rooms nothing was trained on.

    make bench ONLY=clusters

Every row sees the same photos and the same seeds of k-means. A number is the mean over rooms ± the standard deviation
over rooms; a room's number is the mean over seeds of k-means and, where a model was trained or drawn, over its seeds.
"""

from __future__ import annotations

import itertools
import math
import statistics
import time

import torch
import torch.nn.functional as F
from scipy.stats import ttest_rel
from torch import Tensor

import fit3d_lite as f3d
from fit3d_lite import viz
from fit3d_lite.rooms import SEEDS

from .report import table, write
from .tuned import tuned_vit

ROOMS, VIEWS, SIZE, GROUPS = SEEDS["probe_test"][:12], 6, 192, 20
MODEL_SEEDS, KMEANS_SEEDS, COUNTS = range(3), range(3), (5, 10, 20, 40)
SCORES = ("NMI", "AMI", "ARI", "purity")
ORIGINAL, LITE = "original", "fine-tuned, lite recipe"
BLUR, COLOR = "original, blurred 3 × 3 (control)", "raw color (control)"
FOOLS = {"blurred in 2D": "lite, towards its own features blurred in 2D (control)",
         "shuffled poses": "lite, lifted with shuffled poses (control)"}  # fmt: skip


def blurred(feats: Tensor) -> Tensor:
    """Each patch the mean of itself and its neighbours: smoothness without any learning."""
    return F.avg_pool2d(feats, 3, 1, 1, count_include_pad=False)


def beside(a: Tensor, b: Tensor) -> Tensor:
    """Both features of a patch in one vector, each of length 1 so that neither outweighs the other."""
    return torch.cat([F.normalize(a, dim=1), F.normalize(b, dim=1)], 1)


def all_features(scenes: list) -> dict[str, list[list[Tensor]]]:
    """By row: for each seed of the model, the features of every room."""

    def of(vit):
        return [vit.extract(scene.images, batch=8) for scene in scenes]

    found = {ORIGINAL: [of(f3d.load_vit("tiny", device="cpu"))]}
    for recipe in ("paper", "lite"):
        found[f"fine-tuned, {recipe} recipe"] = [of(tuned_vit(recipe, seed)) for seed in MODEL_SEEDS]
    for control, name in FOOLS.items():
        found[name] = [of(tuned_vit("lite", seed, control=control)) for seed in MODEL_SEEDS]
    found["original and lite side by side"] = [[*map(beside, found[ORIGINAL][0], rooms)] for rooms in found[LITE]]
    found[BLUR] = [[blurred(feats) for feats in found[ORIGINAL][0]]]
    found["untrained (control)"] = [of(f3d.load_vit("tiny", "random", device="cpu", seed=s)) for s in MODEL_SEEDS]
    h, w = found[ORIGINAL][0][0].shape[2:]
    controls = [viz.control_features(scene.images, h, w) for scene in scenes]
    found[COLOR] = [[c["color"] for c in controls]]
    found["position (control)"] = [[c["position"] for c in controls]]
    return found


def groups(name: str, feats: Tensor, count: int, seed: int) -> Tensor:
    plain = name.startswith(("raw", "position"))  # few numbers whose length means something
    return viz.kmeans(feats, count, cosine=not plain, seed=seed)


def scores(
    name: str, models: list[list[Tensor]], labels: list[Tensor], count: int, seeds=KMEANS_SEEDS
) -> dict[str, Tensor]:
    """By score: [models, rooms] numbers, each a mean over the seeds of k-means."""
    out = {score: torch.zeros(len(models), len(labels), dtype=torch.float64) for score in SCORES}
    for (m, rooms), (r, truth) in itertools.product(enumerate(models), enumerate(labels)):
        runs = viz.cluster_scores([groups(name, rooms[r], count, seed) for seed in seeds], truth)
        for score in SCORES:
            out[score][m, r] = runs.mean(score)
    return out


def spread(values) -> str:
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"


def inside(labels: Tensor) -> Tensor:
    """[V, h, w] bool: patches whose eight neighbours all show the same class; never at the border."""
    x = labels.float()[:, None]
    same = (F.max_pool2d(x, 3, 1, 1) == x) & (-F.max_pool2d(-x, 3, 1, 1) == x)
    same[..., [0, -1], :] = False
    same[..., :, [0, -1]] = False
    return same[:, 0]


def main() -> None:
    begin = time.perf_counter()
    scenes = [f3d.room(seed, VIEWS, SIZE) for seed in ROOMS]
    features = all_features(scenes)
    h, w = features[ORIGINAL][0][0].shape[2:]
    labels = [scene.resized(w, h).labels for scene in scenes]
    found = {}
    for name, models in features.items():
        found[name] = scores(name, models, labels, GROUPS)
        print(name, {score: round(values.mean().item(), 3) for score, values in found[name].items()}, flush=True)
    lot = [[groups_by_lot(truth, seed) for seed in KMEANS_SEEDS] for truth in labels]
    chance = {s: [viz.cluster_scores(runs, t).mean(s) for runs, t in zip(lot, labels, strict=True)] for s in SCORES}

    write("clusters", "\n\n".join([
        "# Are the groups of 3D-aware features cleaner?",
        f"Tiny ViT, last block; rooms {ROOMS[0]} to {ROOMS[-1]}, {VIEWS} views of {SIZE}² each, none of them trained on. "
        f"k-means with {GROUPS} groups (the number in the demo of FiT3D's authors) over all patches of a room, directions "
        f"of features, {len(KMEANS_SEEDS)} seeds, against the {len(scenes[0].classes)} classes. Mean ± standard deviation "
        f"over the {len(ROOMS)} rooms. Fine-tuned and untrained rows are means over {len(MODEL_SEEDS)} seeds of the model.",
        main_table(found, chance),
        verdict(found),
        "## How many groups?",
        "Mean over the rooms, one seed. Purity and NMI rise with the number of groups, also for groups by lot; AMI does not.",
        counts_table(features, labels),
        "## Noise and the pattern of the place",
        "**Place**: part of the variation over all photos that the place in the picture explains (`viz.position_share`). "
        "**Grain**: one minus the cosine between a patch and the mean of its neighbours (`viz.local_noise`), where all nine "
        "show one class. **Long tokens**: patches before the last LayerNorm whose length lies more than 6 robust standard "
        "deviations above the median.",
        noise_table(features, labels, scenes),
        f"{time.perf_counter() - begin:.0f} s in all.",
    ]))  # fmt: skip


def main_table(found: dict, chance: dict) -> str:
    body = []
    base = found[ORIGINAL]["AMI"].mean(0)
    for name, values in found.items():
        row = [f"**{name}**" if name.startswith("fine") else name, *(spread(values[s].mean(0).tolist()) for s in SCORES)]
        ahead, seeds = values["AMI"].mean(0) - base, values["AMI"].mean(1)
        error = ahead.std().item() / len(ahead) ** 0.5
        wins = f"{int((ahead > 0).sum())} of {len(ahead)}"
        row += ["", ""] if name == ORIGINAL else [f"{ahead.mean():+.3f} ± {error:.3f}", wins]
        body.append([*row, f"{seeds.std().item():.3f}" if len(seeds) > 1 else ""])
    body.append(["drawn by lot (chance)", *(spread(chance[s]) for s in SCORES), "", "", ""])
    head = ["features", *SCORES, "AMI against original, ± standard error", "rooms ahead", "AMI, spread over model seeds"]
    return table(head, body)


def verdict(found: dict) -> str:
    """What paired t-tests over rooms say about AMI, with Bonferroni's correction for the number of comparisons."""
    rooms = {name: values["AMI"].mean(0) for name, values in found.items()}
    limit = 0.05 / (len(rooms) - 1)
    said = {"above": [], "below": [], "not significantly different from": []}
    for name, values in rooms.items():
        if name == ORIGINAL:
            continue
        difference, p = (values - rooms[ORIGINAL]).mean().item(), ttest_rel(values, rooms[ORIGINAL]).pvalue
        how = "not significantly different from" if math.isnan(p) or p > limit else "above" if difference > 0 else "below"
        said[how].append(f"{name} ({difference:+.3f}, p = {p:.1g})")
    parts = [f"{'significantly ' * (how in ('above', 'below'))}{how} the original: {'; '.join(names)}"
             for how, names in said.items() if names]  # fmt: skip
    fooled = []
    for name in (BLUR, *FOOLS.values()):
        difference, p = (rooms[LITE] - rooms[name]).mean().item(), ttest_rel(rooms[LITE], rooms[name]).pvalue
        how = "no more than" if math.isnan(p) or p > 0.05 or difference <= 0 else "more than"
        fooled.append(f"{how} \"{name.removesuffix(' (control)')}\" ({difference:+.3f}, p = {p:.1g})")
    return (
        f"By paired t-tests on AMI over {len(rooms[ORIGINAL])} rooms, at 5 % divided by {len(rooms) - 1} comparisons: "
        + ". ".join(part[0].upper() + part[1:] for part in parts)
        + f". What fine-tuning (lite) gains is {'; '.join(fooled)}."
    )  # fmt: skip


def groups_by_lot(truth: Tensor, seed: int, count: int = GROUPS) -> Tensor:
    return torch.randint(0, count, truth.shape, generator=torch.Generator().manual_seed(seed))


def counts_table(features: dict, labels: list[Tensor]) -> str:
    names = (ORIGINAL, LITE, BLUR, COLOR)
    body = []
    for name in names:
        each = [scores(name, features[name][:1], labels, count, KMEANS_SEEDS[:1]) for count in COUNTS]
        body.append([name, *(f"{x['AMI'].mean():.3f} / {x['NMI'].mean():.3f} / {x['purity'].mean():.3f}" for x in each)])
    lot = [viz.cluster_scores([groups_by_lot(t, 0, c) for t in labels], labels) for c in COUNTS]
    body.append(["drawn by lot", *(f"{x.mean('AMI'):.3f} / {x.mean('NMI'):.3f} / {x.mean('purity'):.3f}" for x in lot)])
    return table(["AMI / NMI / purity", *(f"{c} groups" for c in COUNTS)], body)


def noise_table(features: dict, labels: list[Tensor], scenes: list) -> str:
    images, within = torch.cat([s.images for s in scenes]), inside(torch.cat(labels))
    before = {
        ORIGINAL: f3d.load_vit("tiny", device="cpu"),
        "fine-tuned, paper recipe": tuned_vit("paper", 0),
        LITE: tuned_vit("lite", 0),
        "untrained (control)": f3d.load_vit("tiny", "random", device="cpu"),
    }
    body = []
    for name in [*before, BLUR, COLOR]:
        feats = torch.cat(features[name][0])
        grain = viz.local_noise(feats)[within].mean()
        norms = viz.token_norms(before[name].extract(images, batch=8, norm=False)) if name in before else None
        long = "" if norms is None else f"{int(viz.outlier_tokens(norms).sum())} of {norms.numel():,}"
        longest = "" if norms is None else f"{norms.max() / norms.median():.2f}"
        body.append([name, f"{100 * viz.position_share(feats):.0f} %", f"{grain:.3f}", long, longest])
    return table(["features", "place", "grain", "long tokens", "longest over median"], body)


if __name__ == "__main__":
    main()
