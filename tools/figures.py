"""The pictures at the top of notebooks and README, made by the package itself.

    python -m tools.figures hero_01      # needs the office capture: downloaded, or FIT3D_OFFICE=/its/folder

Each writes assets/<name>.jpg.
"""

from __future__ import annotations

import io
import sys
from dataclasses import replace

import torch
from PIL import Image

import fit3d_lite as f3d
from fit3d_lite.viz.palette import color_map, color_mistakes, palette

from .bootstrap import ROOT

GAP = 6  # white pixels between panels


def strip(panels: list[torch.Tensor]) -> Image.Image:  # each [H, W, 3] in 0..1
    """Panels of one height side by side."""
    gap = torch.ones(panels[0].shape[0], GAP, 3)
    parts = [part for panel in panels for part in (panel.cpu().clamp(0, 1), gap)][:-1]
    return Image.fromarray((torch.cat(parts, 1) * 255).round().byte().numpy())


def hero_00() -> Image.Image:
    """Two photos of one room; beside each the patch features as colours, as clusters, as similarity to one patch."""
    room, pair = f3d.room(3, 6, 192), [1, 2]
    feats = f3d.load_vit("tiny").extract(room.images)
    groups = f3d.viz.match_clusters(f3d.viz.kmeans(feats, 10), room.resized(*feats.shape[:-3:-1]).labels)
    maps = {
        "PCA": f3d.viz.pca_colors(feats)[pair],
        "clusters": groups[pair],
        "like the marked patch": color_map(f3d.viz.similarity(feats[pair], 0, 14, 12)),
    }
    figure = f3d.viz.compare(room.images[pair], maps, marks=[(0, 14, 12)], width=9.2)
    figure.savefig(buffer := io.BytesIO(), dpi=110)
    return Image.open(buffer).convert("RGB")


def hero_01() -> Image.Image:
    """A held-out office photo: rendered from depth alone, rendered after fitting, and the photo."""
    seen, unseen = f3d.captures.office(frames=slice(20, 32), size=(240, 360)).split(4)
    start = f3d.Gaussians.from_depth(seen, count=30_000)
    fitted = f3d.fit(start, seen, 400)
    view = unseen[0]
    return strip([f3d.render(c, view.camera)[0] for c in (start, fitted)] + [view.image.permute(1, 2, 0)])


def hero_02() -> Image.Image:
    """A held-out view of a room: the photo, the tiny ViT's features of it, and the features rendered from Gaussians."""
    room, held = f3d.room(0, 16, 192), f3d.room(0, 1, 192, split="holdout")
    vit = f3d.load_vit("tiny")
    feats, own = vit.extract(room.images), vit.extract(held.images)
    cloud = f3d.fit(f3d.Gaussians.from_depth(room), room, 100)
    rendered, mask = f3d.lift(cloud, room.cameras, feats).render(held.cameras[0], 48, 48)
    basis = f3d.viz.pca_basis(torch.cat([feats, own]))
    lifted = torch.where(mask[..., None], basis.colors(rendered[None])[0], 0.5)
    panels = [basis.colors(own)[0], lifted]
    panels = [p.repeat_interleave(288 // len(p), 0).repeat_interleave(288 // len(p), 1) for p in panels]
    photo = torch.nn.functional.interpolate(held.images, (288, 288), mode="bilinear", antialias=True)[0]
    return strip([photo.permute(1, 2, 0), *panels])


def hero_03() -> Image.Image:
    """Two photos of a room that no step has seen: features before and after fine-tuning, and where they moved."""
    room, pair = f3d.room(0, 8, 192), [1, 4]
    before, after = (f3d.load_vit("tiny", w, device="cpu").extract(room.images) for w in ("original", "fit3d"))
    colors = f3d.viz.pca_colors({"before": before, "after": after})
    moved = 1 - torch.nn.functional.cosine_similarity(before, after, dim=1)
    maps = {k: v[pair] for k, v in ({**colors, "moved, 1 − cosine": moved}).items()}
    figure = f3d.viz.compare(room.images[pair], maps, width=9.2)
    figure.savefig(buffer := io.BytesIO(), dpi=110)
    return Image.open(buffer).convert("RGB")


def hero_06() -> Image.Image:
    """A room without its ceiling, wearing its photos, the 3D-aware features as colours, and groups of these features."""
    room, viz = f3d.room(3, 24, 192), f3d.viz
    feats = f3d.load_vit("tiny", "fit3d").extract(room.images)
    groups = viz.match_clusters(viz.kmeans(feats, 14), room.resized(*feats.shape[:-3:-1]).labels)
    votes = torch.nn.functional.one_hot(groups).float()  # a group has no number between two, so lift votes
    maps = torch.cat([viz.pca_colors(feats), votes], -1).movedim(-1, 1)
    cloud = f3d.Gaussians.from_depth(room, count=60_000)
    lifted = f3d.lift(cloud, room.cameras, maps)
    keep = lifted.seen & viz.under_roof(cloud.means, 0.8)
    cloud, found = cloud[keep], lifted.features[keep]
    paints = cloud.colors, found[:, :3].clamp(0, 1), palette(votes.shape[-1])[found[:, 3:].argmax(1)]
    camera = viz.orbit(cloud.means, 1, elevation=42, distance=0.68, start=35, size=(300, 326))[0]
    near, white = 0.85 * (camera.center - cloud.means.mean(0)).norm(), torch.ones(3)
    return strip([f3d.render(cloud, camera, values, background=white, near=near)[0] for values in paints])


def hero_07() -> Image.Image:
    """A point of one photo, and how similar each patch of another photo is to it, by the original and the 3D-aware ViT."""
    from fit3d_lite.correspondence.click import show_match

    room = f3d.room(3, 12, 192)
    models = {"original": f3d.load_vit("tiny"), "3D-aware": f3d.load_vit("tiny", "fit3d")}
    figure = show_match(room, 2, 6, {name: vit.extract(room.images) for name, vit in models.items()}, (15, 11))
    figure.savefig(buffer := io.BytesIO(), dpi=110)
    return Image.open(buffer).convert("RGB")


def probed(probe, **options):
    """A linear probe of the tiny ViT beside its fine-tuned twin, trained on the probing rooms, and three test photos."""
    seeds = f3d.rooms.SEEDS
    train = [f3d.room(seed, 4, 192) for seed in seeds["probe_train"][:24]]
    test = [f3d.room(seed, 2, 192) for seed in seeds["probe_test"][:12]]
    result = probe([f3d.load_vit("tiny"), f3d.load_vit("tiny", "fit3d")], train, test, **options)
    return result, [view for room in test for view in room]


def hero_04() -> Image.Image:
    """Photos of rooms that the head has never seen: true labels, labels read from frozen features, mistakes."""
    result, views = probed(f3d.probe_segmentation, steps=300)
    images, truth = (torch.stack([getattr(views[i], what) for i in (3, 20)]) for what in ("image", "label"))
    read = result.predict(images)
    maps = {"truth": truth, "read by one matrix": read, "mistakes": color_mistakes(read, truth)}
    figure = f3d.viz.compare(images, maps, width=9.2)
    figure.savefig(buffer := io.BytesIO(), dpi=100)
    return Image.open(buffer).convert("RGB")


def hero_05() -> Image.Image:
    """A photo, its true depth, the depth read from frozen features, and both depths seen from the side."""
    result, views = probed(f3d.probe_depth, steps=100)
    view = views[7]
    read = result.predict(view.image[None])[0]
    swing = torch.eye(4)  # 24 degrees around a point ahead of the camera
    angle, ahead = torch.tensor(-0.42), torch.tensor([0.0, 0.0, view.depth.median()])
    swing[[0, 2], [0, 2]], swing[0, 2], swing[2, 0] = angle.cos(), angle.sin(), -angle.sin()
    swing[:3, 3] = ahead - swing[:3, :3] @ ahead
    aside = replace(view.camera, world_to_camera=swing @ view.camera.world_to_camera).scaled(240, 240)
    depths = torch.stack([view.depth, read])
    panels = [view.image.permute(1, 2, 0), *f3d.viz.color_depth(depths)]
    panels = [torch.nn.functional.interpolate(p.permute(2, 0, 1)[None], (240, 240), mode="bilinear")[0] for p in panels]
    panels = [p.permute(1, 2, 0) for p in panels]
    for depth in depths:
        cloud = f3d.Gaussians.from_depth(f3d.Scene(view.image[None], [view.camera], depth[None]), count=20_000)
        panels.append(f3d.render(cloud, aside, background=torch.ones(3))[0])
    return strip(panels)


FIGURES = {
    "hero_00": hero_00, "hero_01": hero_01, "hero_02": hero_02, "hero_03": hero_03, "hero_04": hero_04, "hero_05":
    hero_05, "hero_06": hero_06, "hero_07": hero_07,
}  # fmt: skip


def main(names: list[str]) -> int:
    unknown = [n for n in names if n not in FIGURES]
    if unknown or not names:
        print(f"figures: name some of {', '.join(FIGURES)}; got {', '.join(names) or 'none'}")
        return 2
    for name in names:
        path = ROOT / "assets" / f"{name}.jpg"
        FIGURES[name]().save(path, quality=88)
        print(f"figures: {path.relative_to(ROOT)}, {path.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
