"""Are the groups of 3D-aware features cleaner? k-means groups against labels, on rooms nothing was trained on.

    make bench ONLY=clusters

Every row sees the same photos and the same seeds of k-means. A number is the mean over rooms ± the standard deviation
over rooms; a room's number is the mean over seeds of k-means.
"""

from __future__ import annotations

import time

import torch
import torch.nn.functional as F
from torch import Tensor

import fit3d_lite as f3d
from fit3d_lite import viz
from fit3d_lite.rooms import SEEDS
from fit3d_lite.viz.scores import SCORES, ClusterScores

from .report import table, write
from .tuned import shipped

ROOMS, VIEWS, SIZE, GROUPS, KMEANS_SEEDS = SEEDS["probe_test"][:8], 6, 224, 20, range(2)
COUNTS = (5, 20, 80)
BLUR, COLOR, POSITION = "original, blurred 3 × 3 (control)", "mean color (control)", "position (control)"


def blurred(feats: Tensor) -> Tensor:
    """Each patch the mean of itself and its neighbors: smoothness without any learning."""
    return F.avg_pool2d(feats, 3, 1, 1, count_include_pad=False)


def beside(a: Tensor, b: Tensor) -> Tensor:
    """Both features of a patch in one vector, each of length 1 so that neither outweighs the other."""
    return torch.cat([F.normalize(a, dim=1), F.normalize(b, dim=1)], 1)


def inside(labels: Tensor) -> Tensor:
    """[V, h, w] bool: patches whose eight neighbors all show the same class; never at the border."""
    x = labels.float()[:, None]
    same = (F.max_pool2d(x, 3, 1, 1) == x) & (-F.max_pool2d(-x, 3, 1, 1) == x)
    same[..., [0, -1], :] = False
    same[..., :, [0, -1]] = False
    return same[:, 0]


def scored(name: str, feats: Tensor, labels: Tensor, count: int = GROUPS) -> ClusterScores:
    cosine = name not in (COLOR, POSITION)  # few numbers whose length means something
    runs = [viz.kmeans(feats, count, cosine=cosine, n_init=1, seed=seed) for seed in KMEANS_SEEDS]
    return viz.cluster_scores(runs, labels)


def by_chance(labels: Tensor, count: int = GROUPS) -> ClusterScores:
    rng = torch.Generator().manual_seed(0)
    return viz.cluster_scores([torch.randint(0, count, labels.shape, generator=rng) for _ in KMEANS_SEEDS], labels)


def main() -> None:
    begin = time.perf_counter()
    vits = shipped()
    raw: dict[str, list[Tensor]] = {name: [] for name in vits}
    feats: dict[str, list[Tensor]] = {}
    labels = []
    for seed in ROOMS:
        scene = f3d.room(seed, VIEWS, SIZE)
        here = {}
        for name, vit in vits.items():
            raw[name].append(vit.extract(scene.images, norm=False, quiet=True))
            with torch.no_grad():  # the last norm by itself: one look at the photos gives both
                here[name] = vit.model.norm(raw[name][-1].movedim(1, -1)).movedim(-1, 1)
        h, w = here["original"].shape[2:]
        controls = viz.control_features(scene.images, h, w)
        here["original and 3D-aware"] = beside(here["original"], here["3D-aware"])
        here |= {BLUR: blurred(here["original"]), COLOR: controls["color"], POSITION: controls["position"]}
        for name, value in here.items():
            feats.setdefault(name, []).append(value)
        labels.append(scene.resized(w, h).labels)
    found = {name: [scored(name, f, t) for f, t in zip(rooms, labels, strict=True)] for name, rooms in feats.items()}
    found["drawn by chance"] = [by_chance(t) for t in labels]
    write("clusters", f"""# Are the groups of 3D-aware features cleaner?

Small ViT, last block; rooms {ROOMS[0]} to {ROOMS[-1]}, {VIEWS} views of {SIZE}² each, none of them trained on. k-means with
{GROUPS} groups (the number in the demo of FiT3D's authors) over all patches of a room, directions of features,
{len(KMEANS_SEEDS)} seeds, against the classes. Mean ± standard deviation over the {len(ROOMS)} rooms. One 3D-aware network, the
shipped one: the spread is over rooms, not over trainings.

{main_table(found)}

{verdict(found)}

## How many groups?

Mean over the rooms. Purity and NMI rise with the number of groups, also for groups by chance; AMI does not.

{counts_table(feats, labels)}

## Noise and the pattern of the place

**Place**: part of the variation over all photos that the place in the picture explains (`viz.position_share`). **Grain**: one
minus the cosine between a patch and the mean of its neighbors (`viz.local_noise`), where all nine show one class. **Long
tokens**: patches before the last LayerNorm whose length lies more than 6 robust standard deviations above the median.

{noise_table(feats, raw, labels)}

{time.perf_counter() - begin:.0f} s in all.""")  # fmt: skip


def main_table(found: dict) -> str:
    body, base = [], found["original"]
    for name, rooms in found.items():
        row = [name, *(_spread([r.mean(score) for r in rooms]) for score in SCORES)]
        ahead = [r.mean() - b.mean() for r, b in zip(rooms, base, strict=True)]
        gained = [f"{sum(ahead) / len(ahead):+.3f}", f"{sum(a > 0 for a in ahead)} of {len(ahead)}"]
        body.append(row + (["", ""] if rooms is base else gained))
    return table(["features", *SCORES, "AMI against original", "rooms ahead"], body)


def verdict(found: dict) -> str:
    """The 3D-aware network's AMI, room by room, against the original and against what would explain its gain away."""
    said = []
    for other in ("original", BLUR, *(n for n in found if n.startswith("wrong"))):
        pair = f3d.paired([r.mean() for r in found[other]], [r.mean() for r in found["3D-aware"]])
        said.append(f"- 3D-aware − {other}, AMI: {pair}")
    return "Paired over rooms (two-sided t):\n\n" + "\n".join(said)


def counts_table(feats: dict, labels: list[Tensor]) -> str:
    def cells(scores):
        return " / ".join(f"{sum(r.mean(s) for r in scores) / len(scores):.3f}" for s in ("AMI", "NMI", "purity"))

    body = []
    for name in ("original", "3D-aware", COLOR):
        body.append([name, *(cells([scored(name, f, t, c) for f, t in zip(feats[name], labels, strict=True)]) for c in COUNTS)])
    body.append(["drawn by chance", *(cells([by_chance(t, c) for t in labels]) for c in COUNTS)])
    return table(["AMI / NMI / purity", *(f"{c} groups" for c in COUNTS)], body)


def noise_table(feats: dict, raw: dict, labels: list[Tensor]) -> str:
    within, body = inside(torch.cat(labels)), []
    for name in [*raw, BLUR, COLOR]:
        pooled, long = torch.cat(feats[name]), ["", ""]
        if name in raw:
            norms = viz.token_norms(torch.cat(raw[name]))
            long = [f"{int(viz.outlier_tokens(norms).sum())} of {norms.numel():,}", f"{norms.max() / norms.median():.2f}"]
        grain = viz.local_noise(pooled)[within].mean()
        place = [f"{viz.position_share(pooled):.3f}", _spread([viz.position_share(f) for f in feats[name]])]
        body.append([name, *place, f"{grain:.3f}", *long])
    return table(["features", "place, all photos", "place, in a room", "grain", "long tokens", "longest over median"], body)


def _spread(values: list[float]) -> str:
    x = torch.tensor(values, dtype=torch.float64)
    return f"{x.mean():.3f} ± {x.std():.3f}"


if __name__ == "__main__":
    main()
