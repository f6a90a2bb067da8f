"""The numbers of the result cards of lessons 04 and 05, over draws of rooms: where their expected ranges come from.

    make bench ONLY=probe_lessons

Draw 0 is what the lessons show. Sizes and settings are those of their quick profile; more rooms, judged by
a probe in closed form, are in bench_small_fit3d.py.
"""

from __future__ import annotations

import tempfile

import torch
import torch.nn.functional as F

import fit3d_lite as f3d
from fit3d_lite.rooms import CLASSES, SEEDS

from .report import table, write

DRAWS, TRAIN, TEST, SIZE = 3, 24, 12, 168
LABELS = dict(training="light", steps=200, rate=1e-2, batch=8)
EARLY = LABELS | dict(steps=60, rate=3e-3)
DEPTHS = dict(training="light", steps=150, rate=3e-3, batch=4)


class ShuffledLabels:
    """Photo i with the labels of another photo."""

    classes = CLASSES

    def __init__(self, views):
        self.views = views
        self.order = torch.randperm(len(views), generator=torch.Generator().manual_seed(0)).tolist()

    def __len__(self) -> int:
        return len(self.views)

    def __getitem__(self, i: int):
        return self.views[i].image, self.views[self.order[i]].label


def rooms(part: str, draw: int, count: int) -> list[f3d.Scene]:
    return [f3d.room(SEEDS[part][draw * count + i], 2, SIZE) for i in range(count)]


def photo_rmse(depths, views) -> float:
    return torch.stack([(d - view.depth).square().mean().sqrt() for d, view in zip(depths, views, strict=True)]).mean().item()


def one_number(vit, train, test) -> float:
    """RMSE of ridge regression from a patch's features to its mean depth, as in lesson 05's exercise."""

    def patches(views):
        maps = vit.extract(torch.stack([view.image for view in views]), norm=False)
        depth = F.adaptive_avg_pool2d(torch.stack([view.depth for view in views])[:, None], maps.shape[2:])
        return F.pad(maps.movedim(1, -1).flatten(0, 2).double(), (0, 1), value=1.0), depth.flatten().double()

    (X, d), (X_test, _) = patches(train), patches(test)
    w = torch.linalg.solve(X.T @ X + 0.01 * len(X) * torch.diag(X.var(0)), X.T @ d)
    said = (X_test @ w).float().view(len(test), 1, *vit.grid(SIZE, SIZE))
    return photo_rmse(F.interpolate(said, (SIZE, SIZE), mode="bilinear")[:, 0].clamp(0.1, 10), test)


def measure(draw: int, vit, tuned, wrong, untrained) -> tuple[dict, dict]:
    train, test = rooms("probe_train", draw, TRAIN), rooms("probe_test", draw, TEST)
    learned, asked = ([view for room in part for view in room] for part in (train, test))
    raw = f3d.RawPixels(vit.patch_size)
    plain = {"original": vit, "3D-aware": tuned, "both": [vit, tuned], "twice": [vit, vit]}
    ways = {"add": f3d.Assembly([vit, tuned], "add"), "fusion": f3d.Assembly([vit, tuned], "fusion")}
    controls = {
        "wrong poses": wrong, "both, wrong poses": [vit, wrong], "both, untrained": [vit, untrained],
        "untrained": untrained, "raw RGB": raw,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as cache:

        def miou(features, photos=train, **changes):
            return 100 * f3d.probe_segmentation(features, photos, test, cache=cache, **LABELS | changes).miou

        def depth(features, **changes):
            return f3d.probe_depth(features, train, test, cache=cache, **DEPTHS | changes)

        labels = {name: miou(features) for name, features in (plain | ways | controls).items()}
        labels["shuffled labels"] = miou(vit, ShuffledLabels(learned))
        labels["original, seed 1"] = miou(vit, seed=1)
        labels |= {f"{name}, stopped early": miou(plain[name], **EARLY) for name in ("original", "twice", "both")}
        depths = {name: depth(features).rmse for name, features in (plain | controls).items()}
        depths |= {f"original, {bins} bins": depth(vit, bins=bins).rmse for bins in (8, 32)}
        depths["δ1 of the original"] = depth(vit).delta1
    middle = torch.cat([view.depth.flatten() for view in learned]).median()
    depths["one constant"] = photo_rmse([middle] * len(asked), asked)
    depths["one number a patch, closed form"] = one_number(vit, learned, asked)
    for kept in (labels, depths):
        for one, other in (
            ("3D-aware", "original"), ("both", "original"), ("both", "twice"), ("both", "both, wrong poses"),
            ("twice", "original"), ("both, wrong poses", "twice"), ("both, untrained", "twice"), ("wrong poses", "original"),
        ):  # fmt: skip
            kept[f"{one} − {other}"] = kept[one] - kept[other]
    for one in ("twice", "both"):
        labels[f"{one} − original, stopped early"] = labels[f"{one}, stopped early"] - labels["original, stopped early"]
    return labels, depths


def rows(found: list[dict], digits: int) -> list[list[str]]:
    body = []
    for name in found[0]:
        values = torch.tensor([one[name] for one in found])
        spread = f"{values.mean():.{digits}f} ± {values.std():.{digits}f}"
        body.append([name, *(f"{v:.{digits}f}" for v in values), spread])
    return body


def main() -> None:
    vits = [f3d.load_vit("small", weights, device="cpu") for weights in ("original", "fit3d", "wrong_poses", "random")]
    labels, depths = zip(*(measure(draw, *vits) for draw in range(DRAWS)), strict=True)
    header = [*(f"draw {draw}" for draw in range(DRAWS)), "mean ± deviation"]
    about = (
        f"# What lessons 04 and 05 measure, over {DRAWS} draws of rooms\n\nThe small ViT at {SIZE}², {TRAIN} rooms × 2 photos to "
        f"learn from, {TEST} × 2 to test, no room twice. The 3D-aware ViT and that of wrong poses come with the course.\n\n"
    )
    text = about + table(["mean IoU, %", *header], rows(list(labels), 2))
    write("probe_lessons", text + "\n\n" + table(["RMSE, m", *header], rows(list(depths), 3)))


if __name__ == "__main__":
    main()
