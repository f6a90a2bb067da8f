"""The features whose consistency is measured: ViTs, lifted features, features that fool, and the most there can be."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

import fit3d_lite as f3d
from fit3d_lite.correspondence.match import features_at
from fit3d_lite.rooms import SEEDS

from .tuned import shipped

COLLAPSE = {"steps": 15, "lr": 3e-3, "rooms": SEEDS["finetune"][:1], "size": 224}
SHRINK = 0.05

Maker = Callable[[f3d.Scene, Tensor], Tensor]  # a scene and the original's features of it -> features [V, C, h, w]


def rows() -> dict[str, Maker]:
    """Name of a row to the way of making its features."""
    vits = shipped()
    tuned = remembered(of_vit(vits["3D-aware"]))
    made = {name: of_vit(vit) for name, vit in vits.items() if name not in ("original", "3D-aware")}
    return {
        "original": lambda scene, feats: feats,
        "3D-aware": tuned,
        "original and 3D-aware": lambda scene, feats: torch.cat([F.normalize(x, dim=1) for x in (feats, tuned(scene, feats))], 1),
        **made,
        "lifted from the other half of the views": lambda scene, feats: lifted(scene, feats, other_half=True),
        "lifted from all views": lambda scene, feats: lifted(scene, feats, other_half=False),
        "mean color of the patch": lambda scene, feats: color(scene.images, *feats.shape[2:]),
        "place in the picture": lambda scene, feats: place(feats),
        "original, shrunk to its mean": lambda scene, feats: shrunk(feats),
        "ViT trained to raise the raw cosine": of_vit(collapsed_vit()),
        "place in the room": lambda scene, feats: position(scene, *feats.shape[2:]),
    }


def of_vit(vit) -> Maker:
    return lambda scene, feats: vit.extract(scene.images, quiet=True)


def remembered(make: Maker) -> Maker:
    """Two rows show the 3D-aware features; scenes live as long as the measurement."""
    known = {}

    def again(scene, feats):
        if id(scene) not in known:
            known[id(scene)] = make(scene, feats)
        return known[id(scene)]

    return again


def lifted(scene, feats, other_half: bool) -> Tensor:
    """Features lifted into the scene's Gaussians by the mean and rendered into each view; from all of the views, or for
    even views from the odd ones alone and the other way round, so that no view shows its own features."""
    cloud, h, w = f3d.Gaussians.from_depth(scene), *feats.shape[2:]
    out = torch.empty_like(feats)
    halves = [range(i, len(scene), 2) for i in (0, 1)]
    for seen, shown in (halves, halves[::-1]) if other_half else [[range(len(scene))] * 2]:
        field = f3d.lift(cloud, [scene.cameras[v] for v in seen], feats[list(seen)])
        for v in shown:
            out[v] = field.render(scene.cameras[v], h, w)[0]
    return out


def color(images, h, w) -> Tensor:
    """Mean color, and a constant so that dark and bright grey differ in direction."""
    mean = F.adaptive_avg_pool2d(images, (h, w)) - 0.5
    return torch.cat([mean, torch.full_like(mean[:, :1], 0.3)], 1)


def place(feats) -> Tensor:
    rows, cols = (torch.linspace(-1, 1, n) for n in feats.shape[2:])
    grid = torch.stack(torch.meshgrid(rows, cols, indexing="ij"))
    return on_sphere(grid[None].expand(len(feats), -1, -1, -1))


def position(scene, h, w) -> Tensor:
    """Mean world position of the patch, in units of 2 m: what no feature map of h × w can better."""
    points = torch.stack([c.unproject(d) for c, d in zip(scene.cameras, scene.depths, strict=True)]).movedim(-1, 1)
    known = (scene.depths > 0)[:, None].float()
    mean = F.adaptive_avg_pool2d(points * known, (h, w)) / F.adaptive_avg_pool2d(known, (h, w)).clamp_min(1e-6)
    return on_sphere((mean - mean.mean((0, 2, 3), keepdim=True)) / 2)


def on_sphere(x) -> Tensor:  # [V, D, h, w] -> [V, D + 1, h, w]
    """Stereographic: near places have near directions."""
    square = (x**2).sum(1, keepdim=True)
    return torch.cat([2 * x, square - 1], 1) / (square + 1)


def shrunk(feats) -> Tensor:
    mean = feats.mean((0, 2, 3), keepdim=True)
    return mean + SHRINK * (feats - mean)


def collapsed_vit():
    """The original, trained for nothing but a high cosine at true correspondences, with far too high a learning rate."""
    vit = copy.deepcopy(f3d.load_vit("small", device="cpu"))
    scenes = [f3d.room(i, 6, COLLAPSE["size"]) for i in COLLAPSE["rooms"]]
    pairs = [(scene, pair) for scene in scenes for pair in f3d.view_pairs(scene)]
    rng, optimizer = torch.Generator().manual_seed(0), torch.optim.Adam(vit.parameters(), COLLAPSE["lr"])
    for _ in range(COLLAPSE["steps"]):
        scene, pair = pairs[torch.randint(len(pairs), (), generator=rng)]
        feats = vit(scene.images[[pair.a, pair.b]])
        a, b = (
            features_at(f, uv, scene.images.shape[-2:]) for f, uv in zip(feats, (pair.uv_a, pair.uv_b), strict=True)
        )
        optimizer.zero_grad()
        (1 - (a * b).sum(1).mean()).backward()
        optimizer.step()
    return vit
