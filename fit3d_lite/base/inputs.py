"""What people bring: one look at each room's door, so that nothing behind it has to look again.

Arrays, lists and numbers of other libraries are taken where it is clear what they mean. What is not clear is refused in
one sentence, before any work, as a ValueError.
"""

from __future__ import annotations

import operator
import os
import re
from numbers import Integral
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

SQUARE, OBLONG = 1.25, 1.5  # sides of a patch: a ViT's are square but for the rest of a photo that fills none


def as_tensor(value, what: str) -> Tensor:
    """A tensor as it is, but for one made in inference_mode, which training could not use; a numpy array, or a list of
    numbers or tensors, as a tensor on the CPU. numpy's float64, which nobody chose, becomes float32.
    """
    if isinstance(value, Tensor):
        if value.is_complex():
            raise ValueError(f"{what} must be real numbers, not {value.dtype}.")
        with torch.inference_mode(False):
            return value.clone() if value.is_inference() else value
    try:
        if isinstance(value, list | tuple) and value and isinstance(value[0], Tensor):
            return torch.stack(list(value))
        array = np.asarray(value)
        return torch.from_numpy(np.array(array, dtype=np.float32 if array.dtype == np.float64 else None))
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"{what} must be a tensor or a numpy array, not {type(value).__name__}.") from None


def check_whole(least: int, **numbers) -> None:
    """Raise ValueError for the first that is no whole number from ``least`` up; None passes."""
    for name, value in numbers.items():
        if value is not None and not (isinstance(value, Integral) and not isinstance(value, bool) and value >= least):
            raise ValueError(f"{name} must be a whole number from {least} up, got {value!r}.")


def check_vit(vit) -> None:
    """Raise ValueError for what is neither a ViT nor works like one."""
    if not hasattr(vit, "fingerprint"):
        raise ValueError(f"a ViT is asked for, as load_vit gives it, not {type(vit).__name__}.")


def check_callable(**things) -> None:
    """Raise ValueError for the first that cannot be called; None passes."""
    for name, thing in things.items():
        if thing is not None and not callable(thing):
            raise ValueError(f"{name} is called with what there is to tell, and {type(thing).__name__} cannot be called.")


def positions(index, count: int) -> list[int]:
    """The positions among ``count`` that are meant: by a slice, by whole numbers of which negative ones count back, or by a
    mask of ``count`` bools."""
    if isinstance(index, slice):
        return list(range(count)[index])
    try:
        listed = list(index.tolist() if hasattr(index, "tolist") else index)
        if listed and all(isinstance(i, bool | np.bool_) for i in listed):
            if len(listed) == count:
                return [i for i, chosen in enumerate(listed) if chosen]
            raise ValueError(f"a mask needs one bool for each of the {count} photos, got {len(listed)}.")
        listed = [operator.index(i) for i in listed]
    except TypeError:
        raise ValueError(f"photos are chosen by whole numbers, a slice or a mask of bools, not by {index!r}.") from None
    outside = [i for i in listed if not -count <= i < count]
    if outside:
        raise ValueError(f"position {outside[0]} is outside the {count} photos (0 to {count - 1}).")
    return [i % count for i in listed]


def target_size(size, height: int, width: int) -> tuple[int, int]:  # rows, columns
    """The size asked for: (height, width), the length of the shorter side, or None for the photo's own. Raises
    ValueError for anything else.
    """
    if size is None:
        return height, width
    try:
        if isinstance(size, Integral) and not isinstance(size, bool):
            rows, columns = (round(side * size / min(height, width)) for side in (height, width))
        else:
            rows, columns = (operator.index(side) for side in size)
    except (TypeError, ValueError):
        rows = columns = 0
    if rows < 1 or columns < 1:
        raise ValueError(f"size is (height, width) or the shorter side, whole pixels from 1 up, got {size!r}.")
    return rows, columns


def check_grid(shape, height: int, width: int, what: str) -> None:
    """Raise ValueError where feature maps [C, h, w] of photos of H × W pixels have oblong patches, which would be square
    with the channels last or with rows and columns exchanged."""

    def oblong(h, w):
        ratio = height * w / (h * width)
        return max(ratio, 1 / ratio)

    C, h, w = shape
    if oblong(h, w) < OBLONG:
        return
    for rows, columns, looks, remedy in (
        (C, h, "its channels are last", "movedim(-1, -3)"),
        (w, h, "rows and columns are exchanged", "transpose(-1, -2)"),
    ):
        if oblong(rows, columns) < SQUARE:
            raise ValueError(
                f"{what} [C, h, w] = {list(shape)} does not suit photos of {height}×{width} (H×W): it looks as if {looks}. "
                f"Then give feats.{remedy}."
            )


def feature_maps(feats, views: int, height: int, width: int, what: str) -> Tensor:
    """Features [V, C, h, w] of V photos of H × W pixels. Raises ValueError for another shape, as :func:`check_grid`, and
    where they are not finite."""
    feats = as_tensor(feats, what)
    if feats.ndim != 4 or len(feats) != views or 0 in feats.shape:
        raise ValueError(f"{what} must be [V, C, h, w] with V = {views} views, got {list(feats.shape)}.")
    check_grid(feats.shape[1:], height, width, what)
    if bad := int((~feats.isfinite()).sum()):
        raise ValueError(f"{what}: {bad} of {feats.numel()} values are not finite (NaN or infinite); extract them in float32.")
    return feats


def existing_file(path, what: str) -> Path:
    """The path of a file that is there, with ``~`` opened.

    Raises FileNotFoundError; ValueError for what is no path, and for a folder, a device, or a pipe, which would keep a
    reader waiting for ever.
    """
    if not isinstance(path, str | os.PathLike):
        raise ValueError(f"{what} is named by its path, not by {type(path).__name__}.")
    path = Path(path).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"there is no {what} at {path.absolute()}.")
    if not path.is_file():
        raise ValueError(f"{path} is a folder, a pipe or a device, where a file is expected ({what}).")
    return path


def existing_folder(path) -> Path:
    """The path of a folder that is there, with ``~`` opened. Raises FileNotFoundError, ValueError for what is no path."""
    if not isinstance(path, str | os.PathLike):
        raise ValueError(f"a folder is named by its path, not by {type(path).__name__}.")
    path = Path(path).expanduser()
    if not path.is_dir():
        raise FileNotFoundError(f"There is no folder {path}.")
    return path


def read_text(path, what: str) -> str:
    """A text file in UTF-8, without the mark that Windows puts before it. Raises as :func:`existing_file`, and ValueError
    for other bytes."""
    path = existing_file(path, what)
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text in UTF-8 ({error}).") from None


def check_kind(kind: type, **things) -> None:
    """Raise ValueError for the first that is no ``kind``."""
    for name, thing in things.items():
        if not isinstance(thing, kind):
            raise ValueError(f"{name.replace('_', ' ')} must be a {kind.__name__}, got {type(thing).__name__}.")


def shard_of(text: str) -> tuple[int, int]:
    """"3/8", the third of eight parts, as (3, 8). ValueError for anything else."""
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise ValueError(f"--shard is I/N with I from 1 to N, as 3/8; got {text!r}.")
    return int(found[1]), int(found[2])
