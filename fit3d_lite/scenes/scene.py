"""Views and scenes: photos of one place with their cameras. What every other file takes in, and where bad input is
refused.

Conventions (OpenCV axes, world-to-camera poses, pixel centers at +0.5, metres) stand in camera.py. Cameras are a few
numbers and stay on the CPU; images may live on a GPU.
"""

from __future__ import annotations

import copy
import operator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..base.inputs import as_tensor, check_whole, positions, target_size
from .camera import Camera, cameras_of
from .points import Report, ScenePoints
from .poses import explain_pose
from .space import viewing_distance

NEAR_SHARE = 1 / 15  # of the distance at which a scene without metres is seen: 20 cm, where that is 3 m
IGNORE = 255  # the label of a pixel that belongs to no class


@dataclass(frozen=True, eq=False)
class View:
    """One photo of a scene with all that is known about it."""

    image: Tensor  # [3, H, W] in 0..1
    camera: Camera
    depth: Tensor | None  # [H, W] metres, 0 = unknown
    label: Tensor | None  # [H, W] int64
    mask: Tensor | None = None  # [H, W] bool


@dataclass(frozen=True, eq=False)
class Scene:
    """V photos of one place with their cameras; depths and labels where they are known.

    ``masks`` mark the pixels that count, as anonymised ones do not. ``points`` are those of structure from motion;
    ``report`` says what a reader found. Checked when made: see :meth:`check` for what is refused. ``scene[3]`` is a
    View, ``scene[::4]`` and ``scene[[0, 5]]`` are Scenes, ``for view in scene`` works.
    """

    images: Tensor  # [V, 3, H, W] in 0..1
    cameras: tuple[Camera, ...]
    depths: Tensor | None = None  # [V, H, W] metres, 0 = unknown
    labels: Tensor | None = None  # [V, H, W] int64, IGNORE = 255
    classes: tuple[str, ...] = ()
    name: str = "scene"
    masks: Tensor | None = None  # [V, H, W] bool, False = left out of every loss; None where all count
    points: ScenePoints | None = None
    report: Report | None = None
    rendered: bool = False  # the depths are those of Gaussians fitted to the photos, not a sensor's

    def __post_init__(self) -> None:
        object.__setattr__(self, "cameras", cameras_of(self.cameras))
        object.__setattr__(self, "classes", tuple(self.classes))
        for name in ("images", "depths", "labels", "masks"):
            if (value := getattr(self, name)) is not None or name == "images":
                value = as_tensor(value, f"Scene.{name}")
                if name == "masks" and value.dtype != torch.bool:
                    raise ValueError(f"Scene.masks must be bool, True where a pixel counts, got {value.dtype}.")
                whole = name == "labels" and not value.is_floating_point()  # of any width, bool too
                object.__setattr__(self, name, value.long() if whole else value)
        self.check()
        if not self.metric:  # 20 cm mean nothing here
            near = NEAR_SHARE * viewing_distance(self)
            object.__setattr__(self, "cameras", tuple(replace(camera, near=near) for camera in self.cameras))

    def check(self) -> None:
        """Raise ValueError, in one sentence with the numbers, for: no views; shapes that disagree; NaN; images outside
        0..1; negative depths or millimetres; labels outside the classes; a camera that is not a pinhole with a rigid
        pose; poses that contradict the depths while their inverse, transpose or an axis flip agrees with them."""
        self._check_shapes()
        images, depths, labels = self.images, self.depths, self.labels
        check_photos(images)
        if depths is not None:
            check_depths(depths, self.metric)
        if labels is not None:
            check_labels(labels, self.classes)
        for index, camera in enumerate(self.cameras):
            try:
                camera.check()
            except ValueError as error:
                hint = explain_pose(self.cameras, depths) if depths is not None else ""
                raise ValueError(f"Camera {index}: {error}{' ' + hint if hint else ''}") from None
        hint = explain_pose(self.cameras, depths) if depths is not None else ""
        if hint:
            raise ValueError(f"The poses contradict the depths. {hint}")

    def _check_shapes(self) -> None:
        """The part of :meth:`check` that looks at no pixel."""
        images, depths, labels = self.images, self.depths, self.labels
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"Scene.images must be [V, 3, H, W], got {list(images.shape)}.")
        count, _, height, width = images.shape
        if min(count, height, width) == 0 or not self.cameras:
            raise ValueError(f"The scene is empty: images {list(images.shape)}, {len(self.cameras)} cameras.")
        if len(self.cameras) != count:
            raise ValueError(f"{count} images but {len(self.cameras)} cameras: each photo needs its own.")
        for what, maps in (("depths", depths), ("labels", labels), ("masks", self.masks)):
            if maps is not None and tuple(maps.shape) != (count, height, width):
                size = f"{list(maps.shape)} but the images are {count} of {height}×{width} (H×W)"
                raise ValueError(f"Scene.{what} is {size}: bring both to one size first.")
        for index, camera in enumerate(self.cameras):
            if (camera.height, camera.width) != (height, width):
                size = f"{camera.height}×{camera.width} but its image is {height}×{width} (H×W)"
                raise ValueError(f"Camera {index} is {size}: use camera.scaled({width}, {height}).")

    def _with(self, **changes) -> Scene:
        """This scene with other tensors or cameras made from its own. Pixels are not looked at again: they were when
        the scene was made, and on a GPU each look makes the CPU wait and brings the depths back."""
        scene = copy.copy(self)
        for name, value in changes.items():
            object.__setattr__(scene, name, value)
        scene._check_shapes()
        return scene

    @property
    def metric(self) -> bool:
        """False where the unit of length is unknown, as after structure from motion without a known distance."""
        return self.report is None or self.report.units == "metres"

    @property
    def height(self) -> int:
        return self.images.shape[2]

    @property
    def width(self) -> int:
        return self.images.shape[3]

    def __len__(self) -> int:
        return self.images.shape[0]

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index):
        try:
            index = operator.index(None if isinstance(index, bool) else index)  # int, numpy integer, tensor with one number
        except TypeError:
            return self._select(index)
        if not -len(self) <= index < len(self):
            raise IndexError(f"View {index} of a scene with {len(self)} views.")
        depth, label, mask = (None if m is None else m[index] for m in (self.depths, self.labels, self.masks))
        return View(self.images[index], self.cameras[index], depth, label, mask)

    def _select(self, index) -> Scene:
        chosen = positions(index, len(self))
        return self._with(
            **self._maps(lambda maps: maps[chosen]),
            images=self.images[chosen],
            cameras=tuple(self.cameras[i] for i in chosen),
            points=self.points and self.points.of_views(chosen, len(self)),
            report=self.report and replace(self.report, used=tuple(self.report.used[i] for i in chosen)),
        )

    def _maps(self, change) -> dict:
        """Depths, labels and masks, where they are known, after ``change``."""
        maps = {name: getattr(self, name) for name in ("depths", "labels", "masks")}
        return {name: change(values) for name, values in maps.items() if values is not None}

    def split(self, every: int = 4, offset: int = 2) -> tuple[Scene, Scene]:
        """(training views, held-out views): one view in ``every`` is held out, starting at ``offset``."""
        check_whole(1, every=every)
        held = [i for i in range(len(self)) if i % every == offset % every]
        if not held or len(held) == len(self):
            raise ValueError(f"Holding out one view in {every} of {len(self)} leaves one side empty.")
        return self[[i for i in range(len(self)) if i not in held]], self[held]

    def resized(self, width: int, height: int) -> Scene:
        """The same scene with photos of another size."""
        height, width = target_size((height, width), height, width)
        return self._with(
            **self._maps(lambda maps: resize_maps(maps, height, width)),
            images=resize_photos(self.images, height, width),
            cameras=tuple(camera.scaled(width, height) for camera in self.cameras),
        )

    def cropped(self, left: int, top: int, width: int, height: int) -> Scene:
        """The same window cut out of every view."""
        cameras = tuple(c.cropped(left, top, width, height) for c in self.cameras)
        window = (..., slice(top, top + height), slice(left, left + width))
        return self._with(**self._maps(lambda maps: maps[window]), images=self.images[window], cameras=cameras)

    def to(self, device) -> Scene:
        """Images, depths, labels and masks on ``device``; cameras and points stay where they are."""
        return self._with(**self._maps(lambda maps: maps.to(device)), images=self.images.to(device))

    def __repr__(self) -> str:
        known = [n for n in ("depths", "labels", "masks", "points") if getattr(self, n) is not None]
        known = ["rendered depths" if n == "depths" and self.rendered else n for n in known]
        extra = f", with {' and '.join(known)}" if known else ""
        return f"Scene({self.name!r}: {len(self)} views of {self.height}×{self.width}{extra})"


def resize_photos(images: Tensor, height: int, width: int) -> Tensor:  # [V, 3, H, W] -> [V, 3, height, width]
    """Photos of another size: averaged where they shrink."""
    small = F.interpolate(images, (height, width), mode="bilinear", antialias=True, align_corners=False)
    return small.clamp(0, 1)


def resize_maps(maps: Tensor, height: int, width: int) -> Tensor:  # [V, H, W] -> [V, height, width]
    """Depths or labels of another size take the nearest pixel: a mean across an edge would invent a surface, or a
    class, that is not there."""
    return F.interpolate(maps[:, None].double(), (height, width), mode="nearest-exact")[:, 0].to(maps.dtype)


def check_photos(images: Tensor) -> None:  # [..., 3, H, W]
    """Raise ValueError, with the numbers, unless these are float pictures in 0..1."""
    if not images.is_floating_point():
        raise ValueError(f"Images must be float in 0..1, got {images.dtype}: divide by 255.")
    if not torch.isfinite(images).all():
        raise ValueError(f"{int((~torch.isfinite(images)).sum())} image values are NaN or infinite.")
    low, high = float(images.min()), float(images.max())
    if low < 0 or high > 1:
        remedy = "divide by 255" if low >= 0 and high > 2 else "undo the normalisation or clamp"
        raise ValueError(f"Images must lie in 0..1, got {low:.3g}..{high:.3g}: {remedy}.")


def check_depths(depths: Tensor, metric: bool = True) -> None:  # [..., H, W] metres
    """Raise ValueError, with the numbers, for NaN, depths below 0, or, of ``metric`` ones, what looks like millimetres."""
    if not torch.isfinite(depths).all():
        raise ValueError(f"{int((~torch.isfinite(depths)).sum())} depths are NaN or infinite: write 0 where depth is unknown.")
    if float(depths.min()) < 0:
        raise ValueError(f"Depths must be ≥ 0 metres (0 = unknown), got {float(depths.min()):.3g}.")
    known = depths[depths > 0]
    if metric and len(known) and float(known.median()) > 100:
        median = float(known.median())
        raise ValueError(
            f"The median depth is {median:.0f}, so these are not metres: centimetres / 100 would give {median / 100:.3g} m, "
            f"millimetres / 1000 {median / 1000:.3g} m; divide by the one that fits the scene."
        )


def check_labels(labels: Tensor, classes: tuple[str, ...]) -> None:  # [..., H, W]
    """Raise ValueError, with the numbers, for labels that are no integers or lie outside the classes."""
    if labels.is_floating_point():
        raise ValueError(f"Labels must be integers, got {labels.dtype}.")
    known = labels[labels != IGNORE]
    if len(known) and (int(known.min()) < 0 or int(known.max()) >= (len(classes) or IGNORE)):
        raise ValueError(
            f"Labels run from {int(known.min())} to {int(known.max())} but there are {len(classes) or 'up to 255'} classes; "
            f"use {IGNORE} for pixels of no class."
        )
