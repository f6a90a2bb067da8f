"""End to end from labels in the picture: photo or features, points, and the loop that trains whatever may learn."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..base.inputs import check_whole
from ..base.machine import usual_torch
from ..probing.metrics import confusion_matrix, mean_iou
from ..probing.train import Step, Training, fit_head
from ..scenes.scene import IGNORE, Scene
from ..splatting.gaussians import Gaussians
from .frustum import Frustum, frustum
from .segment import Segmenter

__all__ = ["EndToEnd", "Sample", "other_places", "samples_of", "train_segmenter"]


@dataclass(frozen=True, eq=False)
class Sample:
    """One view: what the 2D side reads, the points before the camera, and what every pixel is."""

    input: Tensor  # [3, H, W] photo in 0..1, or [C, h, w] features of a ViT
    view: Frustum
    label: Tensor  # [H, W] int64, IGNORE = 255


def samples_of(scene: Scene, size: tuple[int, int], count: int = 400, up: tuple = (0.0, 0.0, 1.0)) -> list[Sample]:
    """The views of a scene with depths and labels at ``size`` (H, W), and at most ``count`` points from all its depths.

    Raises ValueError for a scene without labels, and as :meth:`Gaussians.from_depth` and :func:`frustum`.
    """
    if scene.labels is None:
        raise ValueError(f"{scene!r} has no labels to learn from.")
    small = scene.resized(size[1], size[0])
    cloud = Gaussians.from_depth(small, count=count)
    return [Sample(view.image, frustum(cloud, view.camera, up), view.label) for view in small]


def other_places(samples: Sequence[Sample], step: int) -> list[Sample]:
    """A control: every sample with the points, and the view of them, of the sample ``step`` places further."""
    return [replace(one, view=samples[(i + step) % len(samples)].view) for i, one in enumerate(samples)]


@dataclass(frozen=True, eq=False)
class EndToEnd:
    """A trained segmenter and what it scored."""

    model: Segmenter
    history: list[Step]
    confusion: Tensor  # [M, M] of the test samples: rows truth, columns guess
    seconds: float  # of processor time, for the training

    @property
    def miou(self) -> float:
        return mean_iou(self.confusion)

    @property
    def parameters(self) -> int:
        """How many numbers were trained."""
        return sum(p.numel() for p in self.model.parameters())


@usual_torch()
def train_segmenter(
    train: Sequence[Sample],
    test: Sequence[Sample],
    classes: int,
    way: str = "points",
    steps: int = 200,
    batch: int = 2,
    width: int = 16,
    seed: int = 0,
    on_step: Callable[[Step], None] | None = None,
) -> EndToEnd:
    """Train a :class:`Segmenter` on ``train`` and count its pixels on ``test``.

    Photos go the early way, features of a ViT the late way. Gradients of the labels reach the weights of PointNet through
    ``W``; the ViT is not here, and stays as it is. ``way`` is one of :data:`~fit3d_lite.light3d.WAYS`; ``seed`` is that of
    the first weights and of the order of the samples.

    Raises ValueError for an unknown way, no samples, or samples whose labels and view are not of one size.
    """
    check_whole(1, steps=steps, batch=batch, width=width, classes=classes)
    for what, samples in (("training", train), ("test", test)):
        if not samples:
            raise ValueError(f"There are no {what} samples.")
        for i, one in enumerate(samples):
            if tuple(one.label.shape) != (one.view.height, one.view.width):
                size = f"{list(one.label.shape)}, its view [{one.view.height}, {one.view.width}]"
                raise ValueError(f"Labels of {what} sample {i} are {size}: take the camera of the labels' size.")
    channels = train[0].input.shape[0]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Segmenter(classes, way, None if channels == 3 else channels, width).to(train[0].input.device)
    rng, order = torch.Generator().manual_seed(seed), []

    def loss_of(done: int) -> Tensor:
        while len(order) < batch:
            order.extend(torch.randperm(len(train), generator=rng).tolist())
        some = [train[order.pop(0)] for _ in range(batch)]
        return F.cross_entropy(_scores(model, some), torch.stack([one.label for one in some]), ignore_index=IGNORE)

    begin = time.process_time()
    history = fit_head(model, loss_of, Training(steps, batch, model.rate, 1e-2, 0.1, "cosine"), on_step=on_step)
    seconds = time.process_time() - begin
    with torch.no_grad():
        said = [_scores(model, [one]).argmax(1)[0] for one in test]
    confusion = sum(confusion_matrix(guess, one.label, classes) for guess, one in zip(said, test, strict=True))
    return EndToEnd(model, history, confusion, seconds)


def _scores(model: Segmenter, samples: list[Sample]) -> Tensor:  # [B, M, H, W]
    return model(torch.stack([one.input for one in samples]), [one.view for one in samples])
