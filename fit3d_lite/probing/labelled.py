"""Photos with labels or depths, from whatever holds them: what a probe trains on, read one by one and checked before.

A data set is a list of Scenes (or one Scene, or other things with ``.images [V, 3, H, W]`` and ``.labels`` or
``.depths``), or anything with a length whose items are Views, other objects with ``.image`` and ``.label`` or
``.depth``, or pairs (image, label) or (image, depth). Items are read when they are needed, so a data set of thousands
of photos on disk never lies in memory as a whole.
"""

from __future__ import annotations

import torch
from torch import Tensor
from tqdm import tqdm

from ..backbones.features import digest_of
from ..base.inputs import as_tensor
from ..scenes.scene import IGNORE, check_depths, check_labels, check_photos

__all__ = ["LabelledPhotos"]

FIELD = {"segmentation": "label", "depth": "depth"}


class LabelledPhotos:
    """One data set seen as numbered photos, each with a label map or a depth map, all of it checked.

    Probes make it of the data sets they are given. Of a large set on disk make it once and give it to every probe, so
    that it is read and checked once.

    Attributes:
        classes: names of the classes; empty for depth.
        height, width: of all photos.
        digests: one hash a photo, by which equal photos are found.
        rendered: whether depths of some scene were rendered from Gaussians rather than measured.

    Raises ValueError, in one sentence that names the photo, for: an empty data set; photos of several sizes; a map of
    another size than its photo; images outside 0..1; no class names; labels outside the classes; depths that look like
    millimetres; no labelled pixel, or none whose depth is in the span, in the whole data set.
    """

    def __init__(
        self,
        data,
        task: str,  # "segmentation" or "depth"
        what: str = "data set",  # for messages: "training set"
        span: tuple[float, float] | None = None,  # metres: depths outside do not count
        memory: float = 2e9,  # bytes of maps kept in memory; above it they are read again each time
    ):
        self.task, self.what, self.span = task, what, span
        self._data, self._index = _numbered(data, what)
        holders = (data[holder] for holder in dict.fromkeys(h for h, view in self._index if view is not None))
        self.rendered = any(getattr(holder, "rendered", False) for holder in holders)
        self.classes = tuple(_classes(data, what)) if task == "segmentation" else ()
        self._maps: Tensor | None = None
        self._read_all(memory)

    def __len__(self) -> int:
        return len(self._index)

    def image(self, i: int) -> Tensor:  # [3, H, W]
        return self._item(i)[0]

    def images(self, indices) -> Tensor:  # [B, 3, H, W]
        return torch.stack([self.image(int(i)) for i in indices])

    def maps(self, indices) -> Tensor:  # [B, H, W]; labels int64 with IGNORE, or depths in metres with 0 = does not count
        if self._maps is not None:
            found = self._maps[torch.as_tensor(indices)]
        else:
            found = torch.stack([self._kept(self._item(int(i))[1]) for i in indices])
        return found.long() if self.task == "segmentation" else found

    def _item(self, i: int) -> tuple[Tensor, Tensor]:
        holder, at = self._index[i]
        field = FIELD[self.task]
        if at is not None:  # view `at` of a scene
            scene = self._data[holder]
            image, maps = scene.images[at], getattr(scene, f"{field}s", None)
            target = None if maps is None else maps[at]
        else:
            item = self._data[holder]
            image, target = (item.image, getattr(item, field, None)) if hasattr(item, "image") else item
        image = as_tensor(image, "an image")
        if target is None:
            raise ValueError(f"Photo {i} of the {self.what} has no {field}, which {self.task} is learned from.")
        return image, as_tensor(target, f"a {field}")

    def _kept(self, target: Tensor) -> Tensor:
        """The map as it is kept: small integers, or depths with 0 wherever they do not count."""
        if self.task == "segmentation":
            return target.to(torch.uint8)
        low, high = self.span
        target = target.float()
        return target.where((target > low) & (target <= high), 0.0)

    def _read_all(self, memory: float) -> None:
        """One pass over everything: each photo is checked, its hash taken, its map kept while maps fit the memory."""
        self.digests, known = [], 0
        bar = tqdm(range(len(self)), desc=f"reading the {self.what}", unit="photo", delay=5.0)
        for i in bar:
            image, target = self._item(i)
            try:
                self._check(image, target, i)
            except ValueError as error:
                raise ValueError(f"Photo {i} of the {self.what}: {error}") from None
            small = self._kept(target)
            known += int((small != (IGNORE if self.task == "segmentation" else 0)).sum())
            self.digests.append(digest_of(image))
            if i == 0 and small.numel() * small.element_size() * len(self) <= memory:
                self._maps = small.new_empty(len(self), *small.shape)
            if self._maps is not None:
                self._maps[i] = small
        if not known:
            without = "labelled pixel" if self.task == "segmentation" else "depth between {} and {} m".format(*self.span)
            raise ValueError(f"The {self.what} of {len(self)} photos has no {without}, so there is nothing to learn.")

    def _check(self, image: Tensor, target: Tensor, i: int) -> None:
        if image.ndim != 3 or image.shape[0] != 3:
            raise ValueError(f"an image must be [3, H, W], got {list(image.shape)}.")
        size = tuple(image.shape[1:])
        if i == 0:
            self.height, self.width = size
        if size != (self.height, self.width):
            raise ValueError(
                f"it is {size[0]}×{size[1]} pixels and photo 0 is {self.height}×{self.width} (H×W): bring all photos "
                "of a data set to one size."
            )
        if tuple(target.shape) != size:
            raise ValueError(
                f"its {FIELD[self.task]} map is {list(target.shape)} and the image {size[0]}×{size[1]} (H×W)."
            )
        check_photos(image)
        if self.task == "segmentation":
            check_labels(target, self.classes)
        else:
            check_depths(target)


def _numbered(data, what: str) -> tuple[object, list[tuple[int, int | None]]]:
    """Where photo i lies: (which item, which view of it); the view is None when an item is one photo."""
    if not hasattr(data, "__len__") or not hasattr(data, "__getitem__"):
        raise ValueError(f"The {what} must have a length and items, like a list of Scenes; got {type(data).__name__}.")
    if not len(data):
        raise ValueError(f"The {what} is empty.")
    if not hasattr(data[0], "images"):
        return data, [(i, None) for i in range(len(data))]
    return data, [(i, v) for i in range(len(data)) for v in range(len(data[i].images))]


def _classes(data, what: str) -> tuple[str, ...]:
    holders = [data] if hasattr(data, "classes") else [data[i] for i in range(len(data)) if hasattr(data[0], "images")]
    named = {tuple(getattr(holder, "classes", ())) for holder in holders}
    if len(named) > 1:
        raise ValueError(f"The scenes of the {what} name different classes: {' against '.join(map(str, named))}.")
    names = named.pop() if named else ()
    if not names:
        raise ValueError(f"The {what} names no classes: give it an attribute `classes`, a tuple of names.")
    if len(names) > IGNORE:
        raise ValueError(f"{len(names)} classes are too many: label {IGNORE} means no class, so there can be {IGNORE}.")
    return names
