"""The numbers of notebook 00's result card, room by room: where its expected ranges come from.

    make bench ONLY=demo
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

import fit3d_lite as f3d
from fit3d_lite import viz

from .report import table, write

ROOMS, VIEWS, SIZE, CLUSTERS = range(8), 6, 192, 10


def drift(colors: Tensor, labels: Tensor) -> float:
    """Mean distance between the colors that one class has in two views, over all pairs of views."""
    found = []
    for a in range(len(labels)):
        for b in range(a):
            both = [m for m in labels[a].unique() if min((labels[v] == m).sum() for v in (a, b)) >= 8]
            mean = {v: torch.stack([colors[v][labels[v] == m].mean(0) for m in both]) for v in (a, b)}
            found.append((mean[a] - mean[b]).norm(dim=1).mean().item())
    return sum(found) / len(found)


def found_again(feats: Tensor, labels: Tensor) -> float:
    """Part of the patches whose most similar patch of another view shows the same class, over all pairs of views."""
    unit, kinds, found = F.normalize(feats, dim=1).flatten(2), labels.flatten(1), []
    for a in range(len(labels)):
        for b in range(len(labels)):
            if a != b:
                found.append((kinds[a] == kinds[b][(unit[a].T @ unit[b]).argmax(1)]).float().mean().item())
    return sum(found) / len(found)


def spread(feats: Tensor) -> float:
    return (feats - feats.mean((0, 2, 3), keepdim=True)).square().mean().item()


def kept_among_strangers(vit, images: Tensor, feats: Tensor) -> float:
    """Mean cosine (mean feature taken off) between a patch's feature and the one it has in a shuffled photo."""
    h, w = feats.shape[2:]
    p, order = images.shape[-1] // w, torch.randperm(h * w, generator=torch.Generator().manual_seed(0))
    cut = F.unfold(images[:1], p, stride=p)[:, :, order]
    back = vit.extract(F.fold(cut, images.shape[-2:], p, stride=p))[0].flatten(1)[:, order.argsort()]
    mean = feats.mean((0, 2, 3))[:, None]
    return F.cosine_similarity(feats[0].flatten(1) - mean, back - mean, dim=0).mean().item()


def measure(models: dict, room: int) -> dict[str, float]:
    from sklearn.metrics import adjusted_mutual_info_score

    scene = f3d.room(room, VIEWS, SIZE)
    seen = {name: model.extract(scene.images) for name, model in models.items()}
    feats = seen["original"]
    views, _, h, w = feats.shape
    labels = scene.resized(w, h).labels
    place = torch.stack(torch.meshgrid(torch.arange(h) / h, torch.arange(w) / w, indexing="ij"))
    color = F.adaptive_avg_pool2d(scene.images, (h, w))
    groups = viz.kmeans(seen, CLUSTERS)
    groups["color"] = viz.kmeans(color, CLUSTERS, cosine=False)
    groups["place"] = viz.kmeans(place.expand(views, 2, h, w), CLUSTERS, cosine=False)
    out = {
        "3 directions, %": 100 * viz.pca_basis(feats).explained,
        "drift, a PCA each": drift(viz.pca_colors(feats, per_image=True), labels),
        "drift, one PCA": drift(viz.pca_colors(feats), labels),
    }
    out |= {f"AMI, {k}": adjusted_mutual_info_score(labels.flatten(), g.flatten()) for k, g in groups.items()}
    seen["color"] = color - color.mean((0, 2, 3), keepdim=True)
    out |= {f"found again, {k}, %": 100 * found_again(f, labels) for k, f in seen.items()}
    grey = models["original"].extract(torch.full_like(scene.images[:1], 0.5))
    out["grey, %"] = 100 * spread(grey) / spread(feats)
    out["kept among strangers"] = kept_among_strangers(models["original"], scene.images, feats)
    return out


def main() -> None:
    models = {"original": f3d.load_vit("tiny", device="cpu")}
    try:
        models["3D-aware"] = f3d.load_vit("tiny", "fit3d", device="cpu")
    except FileNotFoundError:
        print("no 3D-aware weights of the tiny ViT yet: measured without them")
    models["untrained"] = f3d.load_vit("tiny", "random", device="cpu")
    rows = [measure(models, room) for room in ROOMS]
    body = [[name, *(f"{row[name]:.3g}" for row in rows)] for name in rows[0]]
    for line, name in zip(body, rows[0], strict=True):
        values = [row[name] for row in rows]
        line += [f"{min(values):.3g}", f"{max(values):.3g}"]
    header = ["", *(f"room {room}" for room in ROOMS), "lowest", "highest"]
    about = (
        f"# What notebook 00 measures, room by room\n\nTiny ViT, {VIEWS} views of {SIZE}², {CLUSTERS} groups. AMI: adjusted "
        "mutual information of k-means groups with the objects. Found again: patches whose most similar patch of another view "
        "shows the same kind of thing.\n\n"
    )
    write("demo", about + table(header, body))


if __name__ == "__main__":
    main()
