"""Every picture that README, notebooks and docs show, made by the package itself.

    python -m tools.figures              # all of them: some minutes on a CPU; the same as `make figures`
    python -m tools.figures hero room    # these

Each writes assets/<name>.jpg, or .webp where it moves, from what the repository and its dependencies contain: no download, no
file of one's own.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

import fit3d_lite as f3d
from fit3d_lite.retrieval import CHARACTERS, FACES, Index, Reader, lines, localize, pictures, train_encoder
from fit3d_lite.viz.palette import MAPS, color_depth, color_labels, palette
from fit3d_lite.viz.paths import between

from .bootstrap import ROOT

GAP = 6  # white pixels between panels
RIDE = 16  # steps of the moving picture, one way


def strip(panels: list[Tensor]) -> Tensor:  # each [H, W, 3] in 0..1 -> [H, all, 3]
    """Panels of one height side by side."""
    gap = torch.ones(panels[0].shape[0], GAP, 3)
    return torch.cat([part for panel in panels for part in (panel.cpu().clamp(0, 1), gap)][:-1], 1)


def stack(rows: list[Tensor]) -> Tensor:
    """Strips of one width, one under the other."""
    return strip([row.transpose(0, 1) for row in rows]).transpose(0, 1)


def enlarged(panel: Tensor, height: int, width: int, mode: str = "nearest") -> Tensor:  # [h, w, 3] -> [height, width, 3]
    """Nearest keeps patches square; "bilinear" is for photos."""
    smooth = {"antialias": True} if mode == "bilinear" else {}
    return F.interpolate(panel.permute(2, 0, 1)[None], (height, width), mode=mode, **smooth)[0].permute(1, 2, 0)


def drawn(figure, dpi: int = 110) -> Tensor:  # a matplotlib figure -> [H, W, 3]
    figure.savefig(buffer := io.BytesIO(), dpi=dpi)
    return torch.tensor(np.asarray(Image.open(buffer).convert("RGB"))) / 255


def stereo() -> tuple[f3d.Scene, f3d.Scene]:
    """The real stereo pair at 368×248 pixels: the left photo with its depth, and the right photo."""
    pair = f3d.captures.stereo(size=(248, 368))
    return pair[0:1], pair[1:2]


def hero_01() -> Tensor:
    """A photo, the picture of its Gaussians from 19 cm further right, and the photo taken there, which they never saw."""
    left, right = stereo()
    cloud = f3d.Gaussians.from_depth(left, count=200_000)  # the least spacing: about one a pixel
    there = f3d.render(cloud, right.cameras[0], background=torch.ones(3))[0]
    return strip([left.images[0].permute(1, 2, 0), there, right.images[0].permute(1, 2, 0)])


def looked_at(size: int, networks: dict[str, str]) -> tuple[list[Tensor], dict[str, list[Tensor]]]:
    """Two photos of a room and two of the motorcycle, and what each network sees of them as colors of one basis.

    Chosen by a rule (bench/bench_demo.py): the middle one of twelve rooms that no network was trained on, by what is found
    again; of its six views the two that show most in common.
    """
    scene = f3d.room(10, 6, size)[[4, 5]]
    images = [scene.images, f3d.captures.stereo(size=(size, 3 * size // 2)).images]
    seen = {}
    for name, weights in networks.items():
        vit = f3d.load_vit("small", weights, device="cpu")
        seen[name] = [vit.extract(some, quiet=True) for some in images]
    return images, f3d.viz.pca_colors(seen)


def hero() -> Tensor:
    """A room that no network was trained on, and a real photo; what a ViT sees of them; what it sees after 3D-aware
    fine-tuning."""
    images, colors = looked_at(448, {"original": "original", "3D-aware": "fit3d"})
    rows = []
    for at, height in ((0, 320), (1, 214)):
        photo = enlarged(images[at][0].permute(1, 2, 0), height, 320, "bilinear")
        rows.append(strip([photo, *(enlarged(c[at][0], height, 320) for c in colors.values())]))
    return stack(rows)


def room() -> Tensor:
    """Procedural rooms of eight seeds; in the last row two photos, a depth map and a label map of one of them."""
    shown = {16: 0, 15: 1, 17: 1, 18: 2, 19: 3, 7: 0, 10: 7, 12: 2}  # seed: view
    photos = [f3d.room(seed, view + 1, 192)[view].image.permute(1, 2, 0) for seed, view in shown.items()]
    one = f3d.room(16, 6, 192)[[1, 5]]
    maps = color_depth(one.depths[1:])[0], color_labels(one.labels[1:])[0]
    rows = photos[:4], photos[4:], [*one.images.permute(0, 2, 3, 1), *maps]
    return stack([strip(row) for row in rows])


def hero_00() -> Tensor:
    """The room and the motorcycle; beside each its patch features as colors: large by the original ViT and the 3D-aware
    one, small by the controls, one fine-tuned with wrong poses and an untrained one."""
    from matplotlib.figure import Figure

    networks = {"original": "original", "3D-aware": "fit3d", "wrong poses": "wrong_poses", "untrained": "random"}
    images, colors = looked_at(448, networks)
    figure = Figure(figsize=(9.2, 4.5), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01)
    names = ["photo", *networks]
    places = [[f"{name}, {at}" for name in (*names[:3], small)] for at in (0, 1) for small in names[3:]]
    axes = figure.subplot_mosaic(places, width_ratios=[2, 2, 2, 1], height_ratios=[3, 3, 2, 2])
    for (name, at), axis in ((key.split(", "), axis) for key, axis in axes.items()):
        at = int(at)
        axis.imshow(images[at][0].permute(1, 2, 0) if name == "photo" else colors[name][at][0], interpolation="nearest")
        axis.set_title(name if at == 0 or name in names[3:] else "", fontsize=8 if name in names[3:] else 10)
        axis.axis("off")
    return drawn(figure)


def hero_02() -> Tensor:
    """A held-out view of a room: the photo, the small ViT's features of it, and the features rendered from Gaussians."""
    room, held = f3d.room(0, 16, 336), f3d.room(0, 1, 336, split="holdout")
    vit = f3d.load_vit("small")
    feats, own = vit.extract(room.images), vit.extract(held.images)
    cloud = f3d.fit(f3d.Gaussians.from_depth(room), room, 100)
    rendered, mask = f3d.lift(cloud, room.cameras, feats).render(held.cameras[0], 48, 48)
    basis = f3d.viz.pca_basis(torch.cat([feats, own]))
    lifted = torch.where(mask[..., None], basis.colors(rendered[None])[0], 0.5)
    panels = basis.colors(own)[0], lifted
    photo = enlarged(held.images[0].permute(1, 2, 0), 288, 288, "bilinear")
    return strip([photo, *(enlarged(panel, 288, 288) for panel in panels)])


def hero_03() -> Tensor:
    """Two photos of a room that no step has seen: features before and after fine-tuning, and where they moved."""
    room, pair = f3d.room(0, 8, 336), [1, 4]
    before, after = (f3d.load_vit("small", w, device="cpu").extract(room.images) for w in ("original", "fit3d"))
    colors = f3d.viz.pca_colors({"before": before, "after": after})
    moved = 1 - F.cosine_similarity(before, after, dim=1)
    maps = {k: v[pair] for k, v in ({**colors, "moved, 1 − cosine": moved}).items()}
    return drawn(f3d.viz.compare(room.images[pair], maps, width=9.2))


def hero_06() -> Tensor:
    """A room without its ceiling, wearing its photos, the 3D-aware features as colors, and groups of these features."""
    room, viz = f3d.room(3, 16, 336), f3d.viz
    feats = f3d.load_vit("small", "fit3d").extract(room.images)
    groups = viz.match_clusters(viz.kmeans(feats, 14), room.resized(*feats.shape[:-3:-1]).labels)
    votes = F.one_hot(groups).float()  # a group has no number between two, so lift votes
    maps = torch.cat([viz.pca_colors(feats), votes], -1).movedim(-1, 1)
    cloud = f3d.Gaussians.from_depth(room, count=60_000)
    lifted = f3d.lift(cloud, room.cameras, maps)
    keep = lifted.seen & viz.under_roof(cloud.means, 0.8)
    cloud, found = cloud[keep], lifted.features[keep]
    paints = cloud.colors, found[:, :3].clamp(0, 1), palette(votes.shape[-1])[found[:, 3:].argmax(1)]
    camera = viz.orbit(cloud.means, 1, elevation=42, distance=0.68, start=35, size=(300, 326))[0]
    near, white = 0.85 * (camera.center - cloud.means.mean(0)).norm(), torch.ones(3)
    return strip([f3d.render(cloud, camera, values, background=white, near=near)[0] for values in paints])


def hero_07() -> Tensor:
    """A point of one photo, and how similar each patch of another photo is to it, by the original and the 3D-aware ViT."""
    from fit3d_lite.correspondence import show_match

    room = f3d.room(3, 8, 336)
    models = {"original": f3d.load_vit("small"), "3D-aware": f3d.load_vit("small", "fit3d")}
    return drawn(show_match(room, 2, 6, {name: vit.extract(room.images) for name, vit in models.items()}, (15, 11)))


def probed(probe, **options):
    """Linear probes of the original and the 3D-aware ViT, trained as in lessons 04 and 05, and their test photos."""
    seeds = f3d.rooms.SEEDS
    train, test = ([f3d.room(seed, 2, 224) for seed in seeds[f"probe_{part}"][:n]] for part, n in (("train", 24), ("test", 12)))
    vits = {"original": f3d.load_vit("small"), "3D-aware": f3d.load_vit("small", "fit3d")}
    results = {f"read from the {name}": probe(vit, train, test, batch=8, **options) for name, vit in vits.items()}
    return results, [view for room in test for view in room]


def hero_04() -> Tensor:
    """Photos of rooms that no head has seen: true labels, and those that one matrix reads from two networks' features."""
    results, views = probed(f3d.probe_segmentation, steps=200, rate=1e-2)
    images, truth = (torch.stack([getattr(views[i], what) for i in (3, 20)]) for what in ("image", "label"))
    read = {name: result.predict(images) for name, result in results.items()}
    return drawn(f3d.viz.show_labels(images, {"truth": truth} | read, f3d.rooms.CLASSES, width=9.2), dpi=100)


def hero_05() -> Tensor:
    """A photo, its true depth and the depths read from two networks' features; below, all three seen from the side."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    results, views = probed(f3d.probe_depth, steps=150, rate=3e-3)
    view = views[7]
    depths = {"truth": view.depth} | {name: result.predict(view.image[None])[0] for name, result in results.items()}
    swing = torch.eye(4)  # 24 degrees around a point ahead of the camera
    angle, ahead = torch.tensor(-0.42), torch.tensor([0.0, 0.0, view.depth.median()])
    swing[[0, 2], [0, 2]], swing[0, 2], swing[2, 0] = angle.cos(), angle.sin(), -angle.sin()
    swing[:3, 3] = ahead - swing[:3, :3] @ ahead
    aside = replace(view.camera, world_to_camera=swing @ view.camera.world_to_camera).scaled(240, 240)
    near, far = torch.quantile(view.depth, torch.tensor([0.01, 0.99])).tolist()
    figure = Figure(figsize=(9.2, 4.75), layout="constrained")
    axes = figure.subplots(2, 4)
    axes[0, 0].imshow(view.image.permute(1, 2, 0)), axes[0, 0].set_title("photo")
    for (name, depth), above, below in zip(depths.items(), axes[0, 1:], axes[1, 1:], strict=True):
        above.imshow(color_depth(depth, near, far)), above.set_title(name)
        cloud = f3d.Gaussians.from_depth(f3d.Scene(view.image[None], [view.camera], depth[None]), count=20_000)
        below.imshow(f3d.render(cloud, aside, background=torch.ones(3))[0].clamp(0, 1))
    for ax in axes.flat:
        ax.set_axis_off()
    scale = ScalarMappable(Normalize(near, far), MAPS["depth"])
    figure.colorbar(scale, cax=axes[1, 0].inset_axes([0.05, 0.75, 0.9, 0.07]), orientation="horizontal", label="metres")
    axes[1, 0].text(0.95, 0.3, "seen from the side:", ha="right", fontsize="large")
    return drawn(figure, dpi=100)


def traced(seed: int, cameras: list[f3d.Camera]) -> f3d.Scene:
    """Photos of room ``seed`` from cameras of one's own."""
    from fit3d_lite.rooms.build import build
    from fit3d_lite.rooms.photo import shoot

    plan, photos = build(seed), []
    for camera in cameras:
        photos.append(shoot(plan.prims, plan.lights, camera.center[None], camera.rays()[1][None], True)[0])
    return f3d.Scene(torch.cat(photos).permute(0, 3, 1, 2).clamp(0, 1), tuple(cameras), name=f"room {seed}")


def ride() -> Iterator[Tensor]:
    """Frames of a ride through a room that no network was trained on: the photo, its patch features as colors by the small
    ViT from this photo alone, and the features of all of the room's photos, rendered from the Gaussians for this camera."""
    room, vit, side = f3d.room(10, 16, 280), f3d.load_vit("small", device="cpu"), 260
    feats = vit.extract(room.images, quiet=True)
    cloud = f3d.Gaussians.from_depth(room, count=40_000)
    lifted = f3d.lift(cloud, room.cameras, feats)
    basis = f3d.viz.pca_basis(feats)
    frames = []
    for camera in between([room.cameras[i] for i in (4, 5)], RIDE):
        photo = traced(10, [camera]).images
        alone = basis.colors(vit.extract(photo, quiet=True))[0]
        rendered, mask = lifted.render(camera, side // 3, side // 3)
        in_3d = torch.where(mask[..., None], basis.colors(rendered[None])[0], 0.5)
        photo = enlarged(photo[0].permute(1, 2, 0), side, side, "bilinear")
        frames.append(strip([photo, *(enlarged(panel, side, side) for panel in (alone, in_3d))]))
    return iter([*frames, *frames[-2:0:-1]])  # there and back, so that it repeats without a jump


def hero_08() -> Tensor:
    """A room as points with the cameras that saw it; a photo that was held out, what Gaussians show there after a fit to the
    others, the ViT's features of that photo, and those rendered from the Gaussians."""
    train, held = f3d.room(4, 12, 336).split(4)
    cloud = f3d.fit(f3d.Gaussians.from_depth(train), train, 30)
    cones = torch.cat([pyramid(camera, 0.3) for camera in train.cameras])
    keep = f3d.viz.under_roof(cloud.means, 0.8)
    points = torch.cat([cloud.means[keep], cones])
    colors = torch.cat([cloud.colors[keep].clamp(0, 1), torch.tensor([0.84, 0.37, 0.0]).expand(len(cones), 3)])
    above = f3d.viz.point_view(points, colors, pitch=55, zoom=1.15).still[:, 130:590]
    vit = f3d.load_vit("small")
    feats, own = vit.extract(train.images), vit.extract(held.images[:1])
    rendered, mask = f3d.lift(cloud, train.cameras, feats).render(held.cameras[0], 24, 24)
    basis = f3d.viz.pca_basis(torch.cat([own, rendered[None]]))
    lifted = torch.where(mask[..., None], basis.colors(rendered[None])[0], 0.5)
    photos = held.images[0].permute(1, 2, 0), f3d.render(cloud, held.cameras[0])[0]
    tops = [enlarged(photo, 200, 200, "bilinear") for photo in photos]
    panels = stack([strip(tops), strip([enlarged(panel, 200, 200) for panel in (basis.colors(own)[0], lifted)])])
    return strip([enlarged(above, panels.shape[0], panels.shape[0], "bilinear"), panels])


def hero_09() -> Tensor:
    """Gains over the original against the number of rooms, in labels, depth and points found again: 3D targets rise, wrong
    poses fall, a blur in 2D helps depth alone."""
    from fit3d_lite.ablations import course_table, gain_chart

    return drawn(gain_chart(course_table(), "rooms", x="rooms"))


def hero_10() -> Tensor:
    """A photo of a room that no network was trained on, and what networks see of it as colors of one basis: the small one at
    three of its blocks, original and 3D-aware, and two controls, one untrained with patches of 16 pixels, one of wrong poses."""
    from matplotlib.figure import Figure

    image, blocks, seen = f3d.room(10, 5, 448).images[4:], (4, 6, 8), {}
    for name, weights in {"original": "original", "3D-aware": "fit3d"}.items():
        found = f3d.load_vit("small", weights, device="cpu").extract(image, block=[b - 1 for b in blocks], quiet=True)
        seen |= {f"{name}, block {b}": feats for b, feats in zip(blocks, found, strict=True)}
    untrained = f3d.load_vit("vit_tiny_patch16_224", "random", device="cpu")
    seen["untrained ViT-Ti"] = untrained.extract(F.interpolate(image, (512, 512), mode="bilinear").clamp(0, 1), quiet=True)
    seen["wrong poses"] = f3d.load_vit("small", "wrong_poses", device="cpu").extract(image, quiet=True)
    colors = f3d.viz.pca_colors(seen)
    figure = Figure(figsize=(9.6, 3.9), layout="constrained")
    names = [*list(seen)[:3], "untrained ViT-Ti", *list(seen)[3:6], "wrong poses"]
    axes = figure.subplot_mosaic([["photo", *names[:4]], ["photo", *names[4:]]])
    for name, axis in axes.items():
        axis.imshow(image[0].permute(1, 2, 0) if name == "photo" else colors[name][0], interpolation="nearest")
        axis.set_title(name, fontsize=9)
        axis.axis("off")
    return drawn(figure)


def hero_A2() -> Tensor:
    """Characters in typefaces of training, held-out ones and Fraktur; lines as components take them apart, and how a reader
    by retrieval reads them, with one example a character and one of Fraktur."""
    import matplotlib.pyplot as plt

    clean = pictures(CHARACTERS, FACES["training"])
    encoder = train_encoder(clean)
    new = pictures(CHARACTERS, FACES["Fraktur"])
    reader = Reader(encoder, Index(encoder.embed(np.concatenate([clean[0], new[0]])), CHARACTERS * 2))
    shown = [CHARACTERS.index(c) for c in "aegkstKRSQ01"]
    rows = np.concatenate([clean[[0, 9, 10, 12, 13]], pictures(CHARACTERS, FACES["held out"][:2]), new])[:, shown]
    plain, held, odd = FACES["training"][0], FACES["held out"], FACES["Fraktur"][1]
    kinds = (held[0], "clean"), (held[3], "blur"), (plain, "old print"), (odd, "noise")
    figure, axes = plt.subplots(len(kinds), 1, figsize=(5.4, 3.6))
    for axis, (face, how) in zip(axes, kinds, strict=True):
        line = localize(lines(face, how, 1, seed=11)[0][0])
        axis.imshow(1 - line.ink, cmap="gray", vmin=0, vmax=1)
        for x0, y0, x1, y1 in line.boxes:
            axis.add_patch(plt.Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, fill=False, color="#0072B2", lw=0.9))
        axis.set_title("→ " + reader.read([line])[0], fontsize=10, loc="left", color="#D55E00")
        axis.axis("off")
    figure.tight_layout()
    right = drawn(figure)
    left = torch.tensor(1 - rows.transpose(0, 2, 1, 3).reshape(32 * len(rows), -1))[..., None].expand(-1, -1, 3)
    return strip([enlarged(left, right.shape[0], round(left.shape[1] * right.shape[0] / left.shape[0]), "bilinear"), right])


def pyramid(camera, length: float) -> Tensor:  # [P, 3]
    """Points along the edges of a camera's field of view, as far as ``length``."""
    corners = camera.unproject(torch.full((camera.height, camera.width), length))[[0, 0, -1, -1], [0, -1, -1, 0]]
    lines = [(camera.center, corner) for corner in corners] + [(corners[i], corners[i - 1]) for i in range(4)]
    return torch.cat([a + torch.linspace(0, 1, 16)[:, None] * (b - a) for a, b in lines])


def hero_A1() -> Tensor:
    """A photo of a room; the points before its camera by their distance, hidden ones as rings; height and planarity, carried to
    the pixels by the view matrix."""
    from matplotlib.figure import Figure

    from fit3d_lite.light3d import samples_of

    room = f3d.room(2, 4, 224)
    views = [sample.view for sample in samples_of(room, (112, 112), 1500)]
    weights = [(view.W.t() @ torch.ones(112 * 112, 1))[:, 0] for view in views]
    at = max(range(len(views)), key=lambda i: (weights[i] < 0.25).float().mean())  # the view that hides the most
    view, seen = views[at], weights[at] >= 0.25
    uv = (view.points @ room.resized(112, 112).cameras[at].K.T)[:, :2] / view.points[:, 2:]
    height, planarity = view.carry(view.handmade[:, [0, 4]])
    figure = Figure(figsize=(9.2, 2.6), layout="constrained")
    axes = figure.subplots(1, 4)
    axes[0].imshow(room.images[at].movedim(0, -1)), axes[0].set_title("photo")
    axes[1].scatter(*uv[seen].T, c=view.points[seen, 2], s=7, cmap=MAPS["depth"])
    axes[1].scatter(*uv[~seen].T, s=7, facecolors="none", edgecolors="C3", linewidths=0.6)
    axes[1].set(title="points; hidden: rings", xlim=(0, 112), ylim=(112, 0), aspect="equal")
    axes[2].imshow(height, cmap=MAPS["similarity"]), axes[2].set_title("W @ height")
    axes[3].imshow(planarity, cmap=MAPS["similarity"]), axes[3].set_title("W @ planarity")
    for ax in axes:
        ax.set(xticks=[], yticks=[])
    return drawn(figure, dpi=100)


FIGURES = {"hero": hero, "ride": ride, "room": room}
FIGURES |= {name: made for name, made in sorted(globals().items()) if name.startswith("hero_")}


def pixels(panel: Tensor) -> Image.Image:  # [H, W, 3] in 0..1
    return Image.fromarray((panel * 255).round().byte().numpy())


def main(names: list[str]) -> int:
    names = [n for listed in names for n in listed.split(",") if n]
    unknown = [n for n in names if n not in FIGURES]
    if unknown:
        print(f"figures: no {', '.join(unknown)}; there are {', '.join(FIGURES)}")
        return 2
    for name in names or FIGURES:
        path = ROOT / "assets" / f"{name}.jpg"
        made = FIGURES[name]()
        if isinstance(made, Iterator):  # frames: a moving picture
            path, (first, *others) = path.with_suffix(".webp"), map(pixels, made)
            first.save(path, save_all=True, append_images=others, duration=90, loop=0, quality=62, method=6)
        else:
            pixels(made).save(path, quality=88)
        print(f"figures: {path.relative_to(ROOT)}, {path.stat().st_size / 1000:.0f} kB", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
