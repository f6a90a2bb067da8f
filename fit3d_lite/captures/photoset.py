"""Sets of labelled photos too large to hold: behind ``len`` and ``[i]``, read when asked for.

    data = captures.nyu(split="test")
    image, depth, label, camera = data[3]      # also data[3].image, data[3].depth, …
    half = data[::2]                           # as lazy as the whole

A reader of one data set (nyu.py, folders.py) fills in ``_read`` and says which classes there are.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..scenes.camera import Camera
from ..scenes.scene import IGNORE, resize_maps, resize_photos
from .reading import choose

__all__ = ["Photo", "PhotoSet", "padded", "resized"]


class Photo(NamedTuple):
    """One photo and what is known about it; the names are those of ``View``."""

    image: Tensor  # [3, H, W] in 0..1
    depth: Tensor | None  # [H, W] metres, 0 = unknown
    label: Tensor | None  # [H, W] int64, IGNORE = 255
    camera: Camera | None


class PhotoSet(Sequence):
    """A lazy data set. ``data[i]`` reads one Photo; ``data[::4]`` and ``data[[0, 5]]`` are data sets again.

    Attributes:
        classes: the names of the M classes that labels number.
        name: of the data set and its part, for messages and tables.
        rows: what ``_read`` is called with, one for each photo.
    """

    def __init__(self, rows: Sequence, classes: tuple[str, ...], name: str):
        self.rows, self.classes, self.name = list(rows), tuple(classes), name

    def _read(self, row) -> Photo:
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index):
        try:
            index = operator.index(index)
        except TypeError:
            part = copy.copy(self)
            part.rows = [self.rows[i] for i in choose(index, len(self))]
            return part
        if not -len(self) <= index < len(self):
            raise IndexError(f"Photo {index} of {self.name}, which has {len(self)}.")
        return self._read(self.rows[index])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}: {len(self)} photos, {len(self.classes)} classes)"


def resized(photo: Photo, height: int, width: int) -> Photo:
    """The same photo at another size; its camera follows."""
    depth, label = (None if m is None else resize_maps(m[None], height, width)[0] for m in (photo.depth, photo.label))
    camera = None if photo.camera is None else photo.camera.scaled(width, height)
    return Photo(resize_photos(photo.image[None], height, width)[0], depth, label, camera)


def padded(photo: Photo, side: int) -> Photo:
    """The whole photo in the middle of a square: its longer side becomes ``side``, the rest is grey and has no label.

    Only for photos without depth and camera, as pictures from the web are.
    """
    height, width = photo.image.shape[1:]
    scale = side / max(height, width)
    small = resized(photo, max(1, round(height * scale)), max(1, round(width * scale)))
    h, w = small.image.shape[1:]
    rows, columns = slice((side - h) // 2, (side - h) // 2 + h), slice((side - w) // 2, (side - w) // 2 + w)
    image, label = torch.full((3, side, side), 0.5), torch.full((side, side), IGNORE)
    image[:, rows, columns], label[rows, columns] = small.image, small.label
    return Photo(image, None, label, None)
