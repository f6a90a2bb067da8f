"""Probing: what can a small head read from frozen features? Features in, one head trained, exact numbers out.

    result = probe_segmentation(vit, train_rooms, test_rooms)              # print(result): one row
    result = probe_depth(Assembly([vit, tuned], "concat"), train_rooms, test_rooms)
    labels = result.predict(photos)

The ViT is not trained, so whatever a linear head finds was already there: the probe is a translator who knows one word
for each feature and no grammar. Settings follow section 4 of FiT3D (arXiv 2407.20229) and the linear protocol of DINOv2
(arXiv 2304.07193, section 7.4).
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial

import torch

from ..backbones.assembly import Assembly
from ..backbones.features import MEMORY, FeatureStore
from ..base.inputs import check_callable, check_whole
from ..base.machine import usual_torch
from .depth import DepthSpan, span_of
from .dpt import WIDTH
from .labelled import LabelledPhotos
from .readout import LEVELS, readout_of
from .result import DepthResult, SegmentationResult, measured
from .train import Step, Training, fit_head, training_of

__all__ = ["ProbeOptions", "probe_depth", "probe_segmentation"]


@dataclass(frozen=True)
class ProbeOptions:
    """What both probes can be told.

    Args:
        head: "linear" (the paper's; see heads.py) or "dpt" (see dpt.py), whose decoder has ``width`` channels.
        training: "light" (seconds on a CPU), "paper", or a Training.
        seed: of the head's first weights and of the order of the photos; equal seeds give equal results on a CPU.
        name: of the row, by default the names of the ViTs.
        on_step: called with every Step, for a live curve.
        cache: folder where features are kept and found again.
        memory: bytes of features of one data set that stay in memory; larger ones are read from disk.
        flip_test: average the answers for each test photo and its mirror image.
    """

    head: str = "linear"
    width: int = WIDTH
    training: str | Training = "light"
    seed: int = 0
    name: str | None = None
    on_step: Callable[[Step], None] | None = None
    cache: object = None
    memory: float = MEMORY
    flip_test: bool = False

    def __post_init__(self) -> None:
        check_whole(0, seed=self.seed)
        check_whole(1, width=self.width)
        check_callable(on_step=self.on_step)


def probe_segmentation(
    features, train, test, validation=None, options: ProbeOptions | None = None, **changes
) -> SegmentationResult:
    """Train a head to read labels from frozen features, and measure it on photos it has not seen.

    Args:
        features: a ViT, a list of ViTs (concatenated), or an Assembly.
        train, test, validation: lists of Scenes, or data sets of labelled photos as labelled.py describes them, or a
            LabelledPhotos. With a validation set the best head of the training is kept, else the last. The test set
            chooses nothing.
        changes: single ProbeOptions by name, such as ``head="dpt"``, and single fields of the Training, such as
            ``steps=1000`` or ``rate=1e-3``. The warm-up is a share of the steps and moves with them.

    Returns a SegmentationResult, which prints as a row.

    Raises, before anything is trained, ValueError in one sentence for: unknown settings; ViTs that do not go together;
    what LabelledPhotos refuses (an empty set, several sizes, labels outside the classes, no labelled pixel); classes
    that differ between the sets. Warns when photos of the test set are in the training set.
    """
    return _probe("segmentation", features, (train, test, validation), options, changes)


def probe_depth(
    features,
    train,
    test,
    validation=None,
    options: ProbeOptions | None = None,
    *,
    span: str | DepthSpan = "rooms",
    bins: int = 256,
    **changes,
) -> DepthResult:
    """Train a head to read depth from frozen features, and measure it on photos it has not seen.

    Args:
        span: which depths count, and where: "rooms", "nyu" (0.001 to 10 m, tests in Eigen's crop), or a DepthSpan.
        bins: K, the number of depths between the ends of the span.
        The rest as :func:`probe_segmentation`.

    Returns a DepthResult. Raises as :func:`probe_segmentation`, and for depths that look like millimetres, a set
    without a depth in the span, and photos that are not the whole frames that the span's crop is for.
    """
    check_whole(2, bins=bins)
    return _probe("depth", features, (train, test, validation), options, changes, span_of(span), bins)


@usual_torch()
def _probe(task, features, data, options, changes, span=None, bins=0):
    options, training = _settings(task, options, changes)
    # Made anew also from an Assembly: its ViTs may have been trained since, and features are kept by their fingerprints.
    assembly = Assembly(features.vits, features.way) if isinstance(features, Assembly) else Assembly(features)
    sets = _read_sets(task, data, span, options.memory)
    plan = {"task": task, "head": options.head, "way": assembly.way, "widths": assembly.widths, "width": options.width}
    if task == "segmentation":
        plan |= {"classes": sets["train"].classes}
    else:
        plan |= {"span": asdict(span), "bins": bins, "cls_width": assembly.widths[0]}

    begin = time.perf_counter()
    stores = {}
    for part, photos in sets.items():
        mirrored = training.mirror if part == "train" else options.flip_test and part == "test"
        stores[part] = FeatureStore(assembly, photos, LEVELS[options.head], mirrored, options.cache, options.memory)
    extracted = time.perf_counter()

    rng = torch.Generator().manual_seed(options.seed)
    with torch.random.fork_rng(devices=[assembly.device] if assembly.device.type == "cuda" else []):
        torch.manual_seed(options.seed)
        readout = readout_of(plan).to(assembly.device)
    order = _endless(len(sets["train"]), training.batch, rng)

    def loss_of(done: int):
        indices = next(order)
        mirrored = training.mirror and bool(torch.rand((), generator=rng) < 0.5)
        maps = sets["train"].maps(indices).to(assembly.device)
        feats = stores["train"].batch(indices, readout.norm, mirrored)
        return readout.loss(*feats, maps.flip(-1) if mirrored else maps, training, rng, done)

    def score_of(part: str, flip: bool = False):
        return measured(readout, sets[part], lambda some: partial(stores[part].batch, some, readout.norm), flip)

    validate = (lambda: readout.metric(score_of("validation"))) if "validation" in sets else None
    history = fit_head(readout, loss_of, training, validate, readout.larger_is_better, options.on_step)
    score = score_of("test", options.flip_test)
    kind = SegmentationResult if task == "segmentation" else DepthResult
    name = options.name or assembly.name + (" (dpt)" if options.head == "dpt" else "")
    name += " (truth: rendered depths)" if task == "depth" and any(photos.rendered for photos in sets.values()) else ""
    seconds = {"seconds": time.perf_counter() - extracted, "feature_seconds": extracted - begin}
    return kind(name, options.seed, score, history, readout, assembly, **seconds)


def _settings(task: str, options: ProbeOptions | None, changes: dict) -> tuple[ProbeOptions, Training]:
    """The options and the training that they name, with single fields of either replaced."""
    ours, of_training = ProbeOptions.__dataclass_fields__, Training.__dataclass_fields__
    if unknown := sorted(set(changes) - set(ours) - set(of_training)):
        raise ValueError(
            f"A probe has no option {', '.join(unknown)}; it has {', '.join(ours)}, and for the training "
            f"{', '.join(of_training)}."
        )
    options = replace(options or ProbeOptions(), **{k: v for k, v in changes.items() if k in ours})
    if options.head not in LEVELS:
        raise ValueError(f"head must be 'linear' or 'dpt', got {options.head!r}.")
    training = training_of(task, options.head, options.training)
    return options, replace(training, **{k: v for k, v in changes.items() if k in of_training})


def _read_sets(task, data, span, memory) -> dict[str, LabelledPhotos]:
    """Train, test and, where given, validation; everything that can be refused is refused here."""
    limits = None if span is None else (span.low, span.high)
    sets = {}
    for part, what, given in zip(("train", "test", "validation"), ("training", "test", "validation"), data, strict=True):
        if isinstance(given, LabelledPhotos):
            if (given.task, given.span) != (task, limits):
                raise ValueError(f"The {what} set was read for {given.task} in {given.span}, not for {task} in {limits}.")
            sets[part] = given
        elif given is not None:
            sets[part] = LabelledPhotos(given, task, f"{what} set", limits, memory)
    if lacks := [part for part in ("train", "test") if part not in sets]:
        raise ValueError(f"A probe needs training and test photos, and {lacks[0]} is None.")
    first = sets["train"].classes
    for photos in sets.values():
        if photos.classes != first:
            raise ValueError(f"The {photos.what} has the classes {photos.classes} and the training set {first}.")
        if span is not None and photos is not sets["train"]:
            span.check_frame(photos.height, photos.width)
    if both := len(set(sets["train"].digests) & set(sets["test"].digests)):
        warnings.warn(f"{both} photos of the test set are in the training set: the test is no test.", stacklevel=4)
    return sets


def _endless(count: int, batch: int, rng: torch.Generator):
    """Batches of photo numbers without end; every photo comes once before any comes again."""
    waiting = torch.empty(0, dtype=torch.long)
    while True:
        while len(waiting) < min(batch, count):
            waiting = torch.cat([waiting, torch.randperm(count, generator=rng)])
        yield waiting[:batch]
        waiting = waiting[batch:]
