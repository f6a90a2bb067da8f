"""NYU Depth v2, the labelled part: 1,449 photos of 464 indoor scenes with depth and labels, in one file of 3 GB.

    train, test = captures.nyu(split="train"), captures.nyu(split="test")     # 795 and 654 photos, read when asked for

Silberman, Hoiem, Kohli, Fergus, "Indoor segmentation and support inference from RGBD images", ECCV 2012. The file is
MATLAB's (v7.3, which is HDF5). MATLAB stores columns first, so h5py shows every array with its axes reversed: an image
of 480 rows and 640 columns is [3, 640, 480] there. What the file does not say stands in ``assets/nyuv2.json`` with its
sources: the official split, the 40 and the 13 classes, the camera.
"""

from __future__ import annotations

import json
import os
from functools import cache as remember
from pathlib import Path

import numpy as np
import torch

from ..base.download import DownloadError, fetch
from ..base.inputs import existing_file, target_size
from ..base.machine import asset, cache_folder
from ..scenes.camera import Camera
from ..scenes.scene import IGNORE
from .photoset import Photo, PhotoSet, resized

__all__ = ["BORDER", "Nyu", "nyu"]

FILE = "nyu_depth_v2_labeled.mat"
HEIGHT, WIDTH, RAW_LABELS = 480, 640, 894
# Rows and columns inside the white border that undistorting the photos left. Depth papers count exactly these pixels
# (the "Eigen crop"), so metrics over photos cropped like this need no mask.
BORDER = (slice(45, 471), slice(41, 601))
DEPTHS = {"filled": "depths", "measured": "rawDepths"}


def nyu(path=None, split: str = "train", classes: int = 13, size=None, crop=BORDER, depth: str = "filled", cache=None):
    """The labelled photos of NYU Depth v2, read one by one when asked for.

    Args:
        path: the .mat file, or the folder that holds it. None takes it from the cache folder, and downloads it there
            first if need be: 2,972,037,809 bytes from one of two addresses, resumed after a stop, checked by SHA-256.
        split: "train" (795 photos), "test" (654), the official split, or "all".
        classes: 13 (the paper's segmentation probe) or 40; raw label 0, "unlabelled", becomes 255.
        size: (height, width), or an int for the shorter side; None keeps it. Photos are averaged, depths and labels take
            the nearest pixel, the camera follows.
        crop: (rows, columns) as slices of the 480×640 frame; ``BORDER`` (45:471, 41:601) cuts off the white border and
            is the crop on which depth is judged. None keeps the whole frame.
        depth: "filled" (holes painted in by the data set's authors) or "measured" (0 where the Kinect measured nothing;
            what depth papers test on).
        cache: the cache folder; FIT3D_CACHE or the default when not given.

    Returns a ``PhotoSet``: ``[i]`` is (image [3, H, W] in 0..1, depth [H, W] metres, label [H, W] int64, camera). The
    camera stands at the origin. A file that holds only the first frames is read with their part of the split.

    Raises:
        FileNotFoundError: nothing at ``path``. DownloadError: as ``fetch``.
        ValueError: an unknown split, number of classes or kind of depth; a crop outside the frame; a file that is not
            this data set, cut off, or of another version.
    """
    if split not in ("train", "test", "all"):
        raise ValueError(f'split must be "train", "test" or "all", not {split!r}')
    if classes not in (13, 40):
        raise ValueError(f"NYUv2 is used with 13 or with 40 classes, not with {classes}")
    if depth not in DEPTHS:
        raise ValueError(f'depth must be "filled" or "measured", not {depth!r}')
    return Nyu(_find(path, cache), split, classes, size, crop, DEPTHS[depth])


class Nyu(PhotoSet):
    """The frames of one split; see :func:`nyu`. May be copied to worker processes: each opens the file for itself."""

    def __init__(self, file: Path, split: str, classes: int, size, crop, depth_key: str):
        self.file, self.depth_key, self._opened = file, depth_key, (None, None)
        count, height, width = self._check()
        test = set(_numbers(facts()["test"]))
        rows = [i for i in range(count) if split == "all" or (i in test) == (split == "test")]
        super().__init__(rows, class_names(classes), f"NYUv2 {split}")
        if not rows:
            raise ValueError(f"{file} holds {count} frames, and none of them belongs to the {split} split")
        self.table = torch.from_numpy(class_table(classes))
        self.crop = crop or (slice(0, height), slice(0, width))
        spans = [range(*part.indices(extent)) for part, extent in zip(self.crop, (height, width))]
        wrong = [s for s, e in zip(self.crop, (height, width)) if s.step not in (None, 1) or (s.stop or e) > e]
        if wrong or not all(spans):
            raise ValueError(f"the crop {self.crop} does not lie inside frames of {height}×{width} (H×W); None takes all")
        self.size = target_size(size, *map(len, spans))
        place = facts()["camera"]
        # MATLAB's first pixel center is at 1, ours at 0.5.
        K = [[place["fx"], 0, place["cx"] - 0.5], [0, place["fy"], place["cy"] - 0.5], [0, 0, 1]]
        camera = Camera(torch.tensor(K), torch.eye(4), WIDTH, HEIGHT).scaled(width, height)
        self.camera = camera.cropped(spans[1][0], spans[0][0], len(spans[1]), len(spans[0]))

    def _read(self, row: int) -> Photo:
        rows, columns = self.crop
        stored = self._open()
        try:  # the axes are reversed: columns before rows
            image = stored["images"][row, :, columns, rows]
            depth, label = (stored[key][row, columns, rows] for key in (self.depth_key, "labels"))
        except OSError as error:
            raise ValueError(f"frame {row} of {self.file} cannot be read ({error}): the file is damaged") from None
        if label.max() > RAW_LABELS:
            raise ValueError(f"frame {row} of {self.file} has the label {label.max()}; NYUv2 has {RAW_LABELS}")
        image = torch.from_numpy(image).transpose(1, 2).float() / 255
        depth = torch.from_numpy(depth.astype(np.float32)).T.contiguous()
        label = self.table[torch.from_numpy(label.astype(np.int64)).T]
        photo = Photo(image.contiguous(), depth, label, self.camera)
        return photo if tuple(label.shape) == self.size else resized(photo, *self.size)

    def _open(self):
        import h5py

        pid, stored = self._opened
        if pid != os.getpid():  # an HDF5 file may not be shared between processes
            try:
                stored = h5py.File(self.file, "r")
            except OSError as error:
                raise ValueError(f"{self.file} is not the labelled NYUv2 file, or is cut off ({error})") from None
            self._opened = os.getpid(), stored
        return stored

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_opened": (None, None)}

    def _check(self) -> tuple[int, int, int]:
        """(frames, height, width), after seeing that the file is what it should be."""
        stored = self._open()
        missing = [key for key in ("images", self.depth_key, "labels") if key not in stored]
        if missing:
            raise ValueError(f"{self.file} has no {missing[0]!r}; it holds {', '.join(list(stored)[:8]) or 'nothing'}")
        shape, most = stored["images"].shape, facts()["frames"]
        if len(shape) != 4 or shape[1] != 3 or shape[2] < shape[3] or shape[0] > most:
            raise ValueError(
                f"images of {self.file} are {list(shape)}; MATLAB's file has [{most}, 3, {WIDTH}, {HEIGHT}] when read "
                f"with h5py"
            )
        for key in (self.depth_key, "labels"):
            if stored[key].shape != (shape[0], *shape[2:]):
                raise ValueError(f"{key} of {self.file} are {list(stored[key].shape)} beside images {list(shape)}")
        if "names" in stored:
            for name, number in facts()["classes_40"].items():
                if isinstance(number, int) and (found := _text(stored, number)) != name:
                    raise ValueError(f"raw label {number} of {self.file} is {found!r} and should be {name!r}")
        return shape[0], shape[3], shape[2]


@remember
def facts() -> dict:
    """What ``assets/nyuv2.json`` says: file, sources, split, classes, camera."""
    return json.loads(asset("nyuv2.json").read_text())


def class_names(classes: int) -> tuple[str, ...]:
    """The names of the 13 or 40 classes, in the order in which labels number them."""
    return tuple(facts()[f"classes_{classes}"])


def class_table(classes: int) -> np.ndarray:  # [895] int64
    """Raw label (0 to 894) to class: first to one of 40, then to one of 13; 0 means unlabelled and becomes 255."""
    forty = list(facts()["classes_40"].items())
    table = np.full(RAW_LABELS + 1, len(forty) - 1)  # the last class, otherprop, takes all that is not listed
    for index, (_, numbers) in enumerate(forty[:-1]):
        table[_numbers(str(numbers))] = index
    if classes == 13:
        coarse = {name: i for i, names in enumerate(facts()["classes_13"].values()) for name in names}
        table = np.array([coarse[name] for name, _ in forty])[table]
    table[0] = IGNORE
    return table


def _numbers(text: str) -> list[int]:
    """The numbers of "3-5 9": 3, 4, 5, 9."""
    ends = [[int(end) for end in part.split("-")] for part in text.split()]
    return [number for span in ends for number in range(span[0], span[-1] + 1)]


def _text(stored, number: int) -> str:
    """The name of a raw label: MATLAB's cell of texts is an array of references to arrays of character codes."""
    return "".join(map(chr, np.asarray(stored[stored["names"][0, number - 1]]).ravel()))


def _find(path, cache) -> Path:
    if path is None:
        file, failures = facts()["file"], []
        for url in file["urls"]:
            try:
                return fetch(url, cache_folder(cache) / FILE, sha256=file["sha256"], size=file["size"])
            except DownloadError as error:
                failures.append(str(error))
        raise DownloadError(f"NYUv2 came from none of {len(failures)} addresses. {' '.join(dict.fromkeys(failures))}")
    path = Path(path).expanduser()
    path = path / FILE if path.is_dir() else path
    return existing_file(path, "NYUv2 file (without a path, 3 GB are downloaded)")
