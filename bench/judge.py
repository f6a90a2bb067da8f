"""What the measurements of backbones and of fine-tuning share: rooms to fit a probe on, rooms to be judged on, and the judge.

    judge = Judge(repetition)
    alone = judge(vit.extract)                     # .miou, .rmse, .recall, .margin, .shuffled, .auc
    beside = judge(vit.extract, other.extract)     # the features of both, side by side: .miou, .rmse

Rooms of one repetition are in no other, and none of them is trained on (SEEDS).
"""

from __future__ import annotations

import functools
from pathlib import Path
from types import SimpleNamespace

import torch

import fit3d_lite as f3d
from fit3d_lite.base.whole import replace_when_whole
from fit3d_lite.rooms import CLASSES, SEEDS

ROOMS = Path(__file__).parents[1] / "cache" / "rooms"
PROBE = {"probe_train": 16, "probe_val": 4, "probe_test": 24}  # rooms of a repetition
VIEWS, SIZE = 4, 224
AGREE = 12  # test rooms on which agreement between views is measured
ABOUT = (
    f"Judged by closed-form ridge probes (mIoU; depth RMSE in metres) fitted on {PROBE['probe_train']} rooms and tested on "
    f"{PROBE['probe_test']} others,\n{VIEWS} views of {SIZE}² each, the strength chosen on {PROBE['probe_val']} more; and by "
    f"agreement between the views of {AGREE} test rooms: recall is the\nshare of points whose nearest neighbor in another view "
    "lies within 20 pixels of the true place, margin the cosine at true\nminus at shuffled places. No network was trained on any "
    "of these rooms. All rows of a repetition share rooms and seeds, so\npaired differences tell more than the spreads of the "
    "absolute numbers do."
)


def kept_room(seed: int, views: int, size: int = SIZE) -> f3d.Scene:
    """A room, kept on disk: rendering takes a third of a second a view."""
    path = ROOMS / f"{seed}_{views}_{size}.pt"
    if not path.is_file():
        scene = f3d.room(seed, views, size)
        cameras = [[c.K, c.world_to_camera] for c in scene.cameras]
        kept = {"images": (scene.images * 255).round().byte(), "depths": scene.depths, "labels": scene.labels.byte()}
        with replace_when_whole(path) as partial:
            torch.save(kept | {"cameras": cameras, "name": scene.name}, partial)
        return scene
    kept = torch.load(path, weights_only=True)
    cameras = [f3d.Camera(K, pose, size, size) for K, pose in kept["cameras"]]
    return f3d.Scene(kept["images"].float() / 255, cameras, kept["depths"], kept["labels"].long(), CLASSES, kept["name"])


def once(vit, **options):
    """``vit.extract``, which looks at each photo once for as long as the result is kept: alone and beside share it."""
    known: dict[int, torch.Tensor] = {}

    def extract(images):
        if images.data_ptr() not in known:
            known[images.data_ptr()] = vit.extract(images, batch=8, quiet=True, **options)
        return known[images.data_ptr()]

    return extract


class Judge:
    """Closed-form probes and agreement between views on the rooms of one repetition."""

    def __init__(self, repetition: int):
        self.parts = [
            [kept_room(SEEDS[use].start + repetition * count + i, VIEWS) for i in range(count)]
            for use, count in PROBE.items()
        ]

    def __call__(self, extract, beside=None) -> SimpleNamespace:
        """Numbers of the features alone; with ``beside`` of both, side by side, without agreement."""
        known = {s.images.data_ptr(): extract(s.images) for part in self.parts for s in part}
        if beside is not None:
            known = {s.images.data_ptr(): torch.cat([known[s.images.data_ptr()], beside(s.images)], 1)
                     for part in self.parts for s in part}  # fmt: skip
        score = f3d.quick_probe(lambda images: known[images.data_ptr()], *self.parts)
        found = SimpleNamespace(miou=score.miou, rmse=score.rmse)
        if beside is None:
            scenes = self.parts[2][:AGREE]
            agree = f3d.consistency([known[s.images.data_ptr()] for s in scenes], scenes)
            found.recall, found.margin, found.auc = agree.recall["20 px"], agree.margin, agree.auc
            found.shuffled = agree.cosine_shuffled
        return found


@functools.lru_cache(maxsize=1)  # one repetition's rooms take half a gigabyte
def judge(repetition: int) -> Judge:
    return Judge(repetition)
