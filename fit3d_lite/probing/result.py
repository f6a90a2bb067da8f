"""What a probe found: a row of numbers, the trained head, its history; it predicts on new photos and can be kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from ..backbones.assembly import Assembly, assembled
from ..backbones.features import tokens_of
from ..base import whole
from .labelled import LabelledPhotos
from .metrics import DepthScore, SegmentationScore
from .readout import Readout, readout_of
from .train import Step

__all__ = ["DepthResult", "SegmentationResult", "load_probe"]

AT_ONCE = 8  # photos that are answered together


def a_few_of(count: int) -> list[range]:
    """The numbers 0 to count - 1 in ranges of as many photos as are answered at once."""
    return [range(start, min(start + AT_ONCE, count)) for start in range(0, count, AT_ONCE)]


def measured(readout: Readout, photos: LabelledPhotos, reader: Callable, flip: bool) -> SegmentationScore | DepthScore:
    """The score on a data set; ``reader(numbers)`` gives a function from "mirrored or not" to (levels, cls)."""
    parts = []
    for some in a_few_of(len(photos)):
        answers = readout.answer_twice(reader(some), (photos.height, photos.width), flip)
        parts.append(readout.score(answers, photos.maps(some).to(answers.device)))
    return readout.total(parts)


@dataclass
class Result:
    """What both kinds of result share.

    Attributes:
        name: of the row. seed: of the head and of the order of the photos.
        score: on the test set. history: every Step of the training.
        readout: the trained module: how features are combined, and the head.
        assembly: the ViTs it reads; they are not part of what is saved.
        seconds: to train and test the head. feature_seconds: to extract the features, or to find them again.
    """

    name: str
    seed: int
    score: SegmentationScore | DepthScore
    history: list[Step] = field(repr=False)
    readout: Readout = field(repr=False)
    assembly: Assembly = field(repr=False)
    seconds: float
    feature_seconds: float

    def __str__(self) -> str:
        return f"{self.name:24}  {self.score}  (features {self.feature_seconds:.1f} s, head {self.seconds:.1f} s)"

    __repr__ = __str__

    def __getattr__(self, name: str):
        # miou, rmse, iou, …: the numbers of the score.
        if name.startswith("_") or "score" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self.score, name)

    def measure(self, data, flip: bool = False) -> SegmentationScore | DepthScore:
        """The score on another data set: one from elsewhere, or the training set. Raises ValueError as the probe."""
        span = getattr(self.readout, "span", None)
        photos = data
        if not isinstance(data, LabelledPhotos):
            photos = LabelledPhotos(data, self.readout.task, "data set", span and (span.low, span.high))
        if photos.classes != tuple(self.readout.plan.get("classes", ())):
            raise ValueError(f"The data set has the classes {photos.classes}; {self.name} learned others.")
        return measured(self.readout, photos, lambda some: self._reader(photos.images(some)), flip)

    def save(self, path) -> Path:
        """Keep the trained head, the numbers and the history as one .safetensors file; the ViTs are not in it, only
        their fingerprints. :func:`load_probe` reads it."""
        kept = {"name": self.name, "seed": self.seed, "seconds": self.seconds, "feature_seconds": self.feature_seconds}
        kept |= {"plan": self.readout.plan, "fingerprints": self.assembly.fingerprints}
        kept |= {"history": [asdict(step) for step in self.history]}
        state = {f"readout.{k}": v for k, v in self.readout.state_dict().items()}
        state |= {f"score.{k}": v for k, v in vars(self.score).items() if isinstance(v, Tensor)}
        return whole.save(path, "probe", {"result": kept}, state)

    def _answer(self, images: Tensor, flip: bool) -> Tensor:
        """The readout's answer for a few photos."""
        return self.readout.answer_twice(self._reader(images), tuple(images.shape[-2:]), flip)

    def _reader(self, images: Tensor) -> Callable:
        """A function from "mirrored or not" to what the readout takes of a few photos: (levels, cls)."""
        return lambda mirrored: self._read(images.flip(-1) if mirrored else images)

    def _read(self, images: Tensor):
        tokens = {f: tokens_of(vit, images, self.readout.levels) for f, vit in self.assembly.distinct.items()}
        return assembled(self.assembly, tokens, self.readout.norm)

    def _each(self, images: Tensor, answer) -> Tensor:
        return torch.cat([answer(images[some.start : some.stop]).to(images.device) for some in a_few_of(len(images))])


class SegmentationResult(Result):
    """A segmentation probe: ``miou``, ``macc``, ``aacc``, and by class ``iou`` and ``accuracy``; ``score.table()``."""

    @property
    def classes(self) -> tuple[str, ...]:
        return self.score.classes

    def probabilities(self, images: Tensor, flip: bool = False) -> Tensor:  # [V, 3, H, W] -> [V, M, H, W]
        """How likely each class is at each pixel."""
        return self._each(images, lambda some: self._answer(some, flip))

    def predict(self, images: Tensor, flip: bool = False) -> Tensor:  # [V, 3, H, W] in 0..1 -> labels [V, H, W] int64
        """Labels of new photos; ``flip`` averages with the mirrored photo."""
        return self._each(images, lambda some: self._answer(some, flip).max(1).indices)


class DepthResult(Result):
    """A depth probe: ``rmse``, ``abs_rel``, ``log10``, ``delta1``, ``delta2``, ``delta3``; ``score.by_photo``."""

    @property
    def bins(self) -> Tensor:  # [K] metres
        return self.readout.head.bins

    def predict(self, images: Tensor, flip: bool = False) -> Tensor:  # [V, 3, H, W] in 0..1 -> metres [V, H, W]
        """Depths of new photos; ``flip`` averages with the mirrored photo."""
        return self._each(images, lambda some: self._answer(some, flip))

    @torch.no_grad()
    def distribution(self, images: Tensor) -> Tensor:  # [V, 3, H, W] -> [V, K, 4h, 4w], sums to 1 over the bins
        """How likely each bin is at each cell of the head's grid; pixel (y, x) lies in cell (y·4h // H, x·4w // W).
        Large: give it a few photos."""
        return self._each(images, lambda some: self.readout.distribution(*self._read(some)))


def load_probe(path, features) -> SegmentationResult | DepthResult:
    """What ``save`` kept, on the ViTs that it was trained on.

    Args:
        features: the ViT, the list of ViTs, or the Assembly that the probe was trained with.

    Raises:
        FileNotFoundError. ValueError: a file that is no probe, or ViTs with other weights: a head reads no other
        features than those it has learned on.
    """
    made, tensors = whole.load(path, "probe", "train the probe again")
    kept = made["result"]
    plan = kept["plan"]
    given = features if isinstance(features, Assembly) else Assembly(features, plan["way"])
    assembly = Assembly(given.vits, given.way)  # with fingerprints of this moment
    if list(assembly.fingerprints) != kept["fingerprints"] or assembly.way != plan["way"]:
        raise ValueError(
            f"{path} was trained on {len(kept['fingerprints'])} ViTs ({plan['way']}), and the features given are "
            f"{len(assembly.vits)} ({assembly.way}) with other weights or in another order: a head reads only the "
            "features it has learned on."
        )
    weights = {k.removeprefix("readout."): v for k, v in tensors.items() if k.startswith("readout.")}
    try:
        with torch.device("meta"):  # what the file asks for takes no memory before its weights have been compared
            readout = readout_of(plan)
        readout.load_state_dict(weights, assign=True)
    except (KeyError, TypeError, RuntimeError) as error:
        raise ValueError(f"The weights in {path} do not fit its plan ({str(error)[:200]}): train the probe again.") from None
    readout.to(assembly.device).eval()
    numbers = {k.removeprefix("score."): v for k, v in tensors.items() if k.startswith("score.")}
    if plan["task"] == "depth":
        kind, score = DepthResult, DepthScore(**numbers)
    else:
        kind, score = SegmentationResult, SegmentationScore(classes=tuple(plan["classes"]), **numbers)
    history = [Step(**step) for step in kept["history"]]
    return kind(kept["name"], kept["seed"], score, history, readout, assembly, kept["seconds"], kept["feature_seconds"])
