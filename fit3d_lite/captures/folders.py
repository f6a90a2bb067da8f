"""Two data sets far from furnished rooms, in the folders they are published in: ADE20k and PASCAL VOC 2012.

    data = captures.ade20k("ADEChallengeData2016", split="validation", side=512)     # 150 classes
    data = captures.voc("VOCdevkit/VOC2012", split="val", side=512)                   # 20 classes and background

The paper asks with them whether features that learned from rooms got worse elsewhere. Zhou et al., "Scene parsing
through ADE20K dataset", CVPR 2017; Everingham et al., "The PASCAL visual object classes challenge", IJCV 2010.
"""

from __future__ import annotations

import hashlib
import shutil
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..base.download import DownloadError, fetch
from ..base.inputs import read_text
from ..base.machine import cache_folder
from ..base.resume import alone
from ..scenes.scene import IGNORE
from .photoset import Photo, PhotoSet, padded
from .reading import read_photo, read_pixels

__all__ = ["SegmentationFolder", "ade20k", "voc"]

VOC_CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
ADE_CLASSES = 150


@dataclass(frozen=True)
class Archive:
    """A published archive; ``folder`` is the data set's root inside it."""

    url: str
    folder: str
    megabytes: int
    size: int | None = None
    sha256: str | None = None
    md5: str | None = None


# ADE's publishers and users name an MD5 only; for VOC a SHA-256 is known.
ADE = Archive(
    "http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip", "ADEChallengeData2016", 920,
    md5="7328b3957e407ddae1d3cbf487f149ef",
)  # fmt: skip
VOC = Archive(
    "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar", "VOCdevkit/VOC2012", 1907,
    size=1_999_639_040, sha256="e14f763270cf193d0b5f74b169f44157a4b0c6efa708f4dd0ff78ee691763bcb",
)  # fmt: skip


def ade20k(folder=None, split: str = "validation", side: int | None = None, cache=None) -> SegmentationFolder:
    """ADE20k as in the scene parsing benchmark: 20,210 training and 2,000 validation photos, 150 classes.

    Args:
        folder: holds images/training, images/validation, annotations/… and objectInfo150.txt. None takes it from the
            cache folder, and downloads and unpacks it there first if need be (0.9 GB, resumed, checked by MD5).
        split: "training" or "validation".
        side: fit every photo into a square of this many pixels, the rest grey and unlabelled, so that photos of all
            shapes can go through a network together; None keeps their sizes.
        cache: the cache folder; FIT3D_CACHE or the default when not given.

    Returns a ``PhotoSet``: ``[i]`` is (image [3, H, W] in 0..1, None, label [H, W] int64, None). The file's 0, "other",
    becomes 255; its 1 to 150 become 0 to 149.

    Raises:
        FileNotFoundError: the folder or a part of it is missing. DownloadError: as ``fetch``.
        ValueError: an unknown split, photos and annotations that do not pair up, annotations in colors or with numbers
            that are no class.
    """
    _check(split, ("training", "validation"), side)
    folder = _folder(folder, ADE, cache)
    photos, maps = (_files(folder / part / split, end) for part, end in (("images", ".jpg"), ("annotations", ".png")))
    if lonely := sorted(photos.keys() ^ maps.keys()):
        kind = "annotation" if lonely[0] in photos else "photo"
        raise ValueError(f"{folder}: {len(photos)} photos, {len(maps)} annotations; {lonely[0]} has no {kind}")
    rows = [(photos[stem], maps[stem]) for stem in sorted(photos)]
    table = np.concatenate([[IGNORE], np.arange(ADE_CLASSES)])
    return SegmentationFolder(rows, _ade_names(folder), f"ADE20k {split}", table, side)


def voc(folder=None, split: str = "val", side: int | None = None, cache=None) -> SegmentationFolder:
    """PASCAL VOC 2012, segmentation: 1,464 training and 1,449 validation photos, 20 classes and background.

    Args:
        folder: holds JPEGImages, SegmentationClass and ImageSets/Segmentation. None takes it from the cache folder, and
            downloads and unpacks it there first if need be (2.0 GB, resumed, checked by SHA-256).
        split: "train", "val" or "trainval".
        side, cache: as :func:`ade20k`.

    Returns a ``PhotoSet`` as :func:`ade20k`; 0 is background, the 255 around objects stays 255.

    Raises as :func:`ade20k`.
    """
    _check(split, ("train", "val", "trainval"), side)
    folder = _folder(folder, VOC, cache)
    listed = folder / "ImageSets" / "Segmentation" / f"{split}.txt"
    stems = read_text(listed, f"list of the {split} split").split()
    if strange := [stem for stem in stems if Path(stem).name != stem or "\\" in stem]:
        raise ValueError(f"{listed} lists {strange[0]!r}, which is no plain name and could lie outside {folder}.")
    rows = [(folder / "JPEGImages" / f"{s}.jpg", folder / "SegmentationClass" / f"{s}.png") for s in stems]
    if missing := [path for row in rows for path in row if not path.is_file()]:
        raise FileNotFoundError(f"{listed} lists {len(stems)} photos, but {missing[0]} is missing.")
    table = np.r_[: len(VOC_CLASSES), [-1] * (IGNORE - len(VOC_CLASSES)), IGNORE]  # 255: around objects
    return SegmentationFolder(rows, VOC_CLASSES, f"VOC 2012 {split}", table, side)


class SegmentationFolder(PhotoSet):
    """Photos and annotations as files; ``table`` says which class a number of an annotation is."""

    def __init__(self, rows, classes, name, table: np.ndarray, side: int | None):
        super().__init__(rows, classes, name)
        if not rows:
            raise ValueError(f"{name} has no photos")
        self.table, self.side = np.concatenate([table, np.full(256 - len(table), -1)]), side

    def _read(self, row: tuple[Path, Path]) -> Photo:
        file, annotation = row
        image = read_photo(file)
        numbers, mode = read_pixels(annotation, "an annotation")
        if mode not in ("L", "P"):
            raise ValueError(f"{annotation} has mode {mode}; an annotation is one number a pixel (L, or P with a palette)")
        if numbers.shape != image.shape[1:]:
            size, other = ("×".join(map(str, shape)) for shape in (numbers.shape, image.shape[1:]))
            raise ValueError(f"{annotation} is {size} but its photo is {other} (H×W)")
        label = self.table[numbers]
        if label.min() < 0:
            held = numbers[label < 0].max()
            shifted = " Were these labels shifted already? The published ones are 0 to 150." if held == IGNORE else ""
            raise ValueError(f"{annotation} has the number {held}, which is none of the {self.name} classes.{shifted}")
        photo = Photo(image, None, torch.from_numpy(label), None)
        return photo if self.side is None else padded(photo, self.side)


def _check(split: str, splits: tuple[str, ...], side) -> None:
    if split not in splits:
        raise ValueError(f"split must be one of {', '.join(splits)}, not {split!r}")
    if side is not None and not (isinstance(side, int) and side > 0):
        raise ValueError(f"side is a number of pixels from 1 up, or None, not {side!r}")


def _ade_names(folder: Path) -> tuple[str, ...]:
    """The first name of every class in the table that comes with the photos; numbers where that is missing."""
    file = folder / "objectInfo150.txt"
    if not file.exists():
        return tuple(f"class {i + 1}" for i in range(ADE_CLASSES))
    lines = [line.split("\t") for line in read_text(file, "list of classes").splitlines()[1:] if line.strip()]
    if len(lines) != ADE_CLASSES:
        raise ValueError(f"{file} names {len(lines)} classes; the benchmark has {ADE_CLASSES}")
    return tuple(line[-1].split(",")[0].strip() for line in lines)


def _files(folder: Path, end: str) -> dict[str, Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}.")
    return {path.stem: path for path in folder.iterdir() if path.suffix.lower() == end and path.name[0] != "."}


def _folder(folder, archive: Archive, cache) -> Path:
    if folder is None:
        return _unpacked(archive, cache_folder(cache))
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}; without one, {archive.megabytes} MB are downloaded.")
    inside = folder / archive.folder
    return inside if inside.is_dir() else folder


def _unpacked(archive: Archive, cache: Path) -> Path:
    """The unpacked archive in the cache folder; made there when missing, and then whole."""
    target = cache / archive.folder
    if target.is_dir():
        return target
    cache.mkdir(parents=True, exist_ok=True)
    with alone(cache / f".{target.name}.lock"):  # two processes would unpack into each other's files
        return target if target.is_dir() else _unpack(archive, cache, target)


def _unpack(archive: Archive, cache: Path, target: Path) -> Path:
    file = fetch(archive.url, cache / archive.url.rsplit("/", 1)[-1], sha256=archive.sha256, size=archive.size)
    with open(file, "rb") as opened:
        if archive.md5 and hashlib.file_digest(opened, "md5").hexdigest() != archive.md5:
            file.unlink()
            raise DownloadError(f"{archive.url} has another MD5 than {archive.md5} and was deleted: run this again")
    aside = cache / f".{file.stem}.unpacking"
    shutil.rmtree(aside, ignore_errors=True)  # of a run that was stopped
    if file.suffix == ".zip":
        with zipfile.ZipFile(file) as opened:
            opened.extractall(aside)
    else:
        with tarfile.open(file) as opened:
            opened.extractall(aside, filter="data")
    target.parent.mkdir(parents=True, exist_ok=True)
    (aside / archive.folder).rename(target)
    shutil.rmtree(aside)
    file.unlink()
    return target
