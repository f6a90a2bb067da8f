"""What every reader of photos needs: which are meant, how large they become, and the pixels of a file. frames.py makes a
Scene of them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..base.inputs import existing_file, positions, read_text

PHOTOS = (".png", ".jpg", ".jpeg", ".webp")


def counting_order(name: str) -> list:
    """Sort key that takes digits as numbers, as a capture counts: 2 before 10, with or without zeros in front."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def choose(frames, count: int) -> list[int]:
    """The positions that ``frames`` means among ``count`` photos: None for all; a slice, a range or a list, where
    negative ones count back, or a mask of bools; or an int n for n evenly spaced. Raises ValueError for what chooses nothing."""
    if frames is None:
        return list(range(count))
    if isinstance(frames, (int, np.integer)) and not isinstance(frames, bool):
        if not 1 <= frames <= count:
            raise ValueError(f"frames={frames} asks for {frames} evenly spaced photos; there are {count}.")
        return [round(i * (count - 1) / max(1, frames - 1)) for i in range(frames)]
    chosen = positions(frames, count)
    if not chosen:
        raise ValueError(f"frames={frames} chooses none of the {count} photos.")
    return chosen


def check_on_missing(on_missing: str) -> None:
    """Raise ValueError unless it is one of the two words that every reader takes."""
    if on_missing not in ("skip", "raise"):
        raise ValueError(f'on_missing is "skip" or "raise", not {on_missing!r}.')


def size_of(path: Path, what: str = "a photo") -> tuple[int, int, int]:
    """Width, height and EXIF orientation (1 = upright, 5 to 8 lie on their side) of a picture file as stored."""
    from PIL import Image  # late: those who read no file need not load it

    path = existing_file(path, "picture")
    try:
        with Image.open(path) as image:
            exif = image.getexif().get(0x0112, 1)
            return *image.size, exif if exif in range(1, 9) else 1
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be read as {what}: {error}") from None


def upright_size(path: Path, what: str = "a photo") -> tuple[int, int]:
    """Width and height of a picture file when it is turned as its EXIF note says."""
    width, height, exif = size_of(path, what)
    return (height, width) if exif > 4 else (width, height)


def read_pixels(path: Path, what: str, mode: str | None = None, upright: bool = True) -> tuple[np.ndarray, str]:
    """The pixels of a picture file, upright as its EXIF note says or as stored, and its Pillow mode, converted first
    where ``mode`` is given. Raises ValueError where the file cannot be read as ``what``."""
    from PIL import Image, ImageOps

    path = existing_file(path, "picture")
    try:
        with Image.open(path) as image:
            picture = ImageOps.exif_transpose(image) if upright else image
            pixels, kept = np.array(picture.convert(mode) if mode else picture), image.mode
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be read as {what}: {error}") from None
    if mode == "RGB" and kept[0] in "IF":  # Pillow would clip these, not scale them
        raise ValueError(f"{path} has more than 8 bits a color (mode {kept}); save it with 8 bits first.")
    return pixels, kept


def read_photo(path: Path) -> Tensor:  # [3, H, W] in 0..1
    """A picture file as RGB. Raises ValueError for what cannot be read as one, and for more than 8 bits a color."""
    pixels = read_pixels(path, "a photo", "RGB")[0]
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255


def read_depth(path: Path) -> Tensor:  # [H, W] in the file's units
    """A 16-bit grey picture as numbers; 65535, which sensors write for "no reading", becomes 0. Raises ValueError for
    other pictures."""
    pixels, mode = read_pixels(path, "a depth map")
    if not mode.startswith("I"):  # Pillow's name of 16-bit grey is I;16, of older versions I
        kind = "8-bit" if pixels.dtype == np.uint8 else str(pixels.dtype)
        raise ValueError(f"{path} is {kind} (mode {mode}); a depth map is a 16-bit grey PNG.")
    return torch.from_numpy(np.where(pixels == 65535, 0, pixels).astype(np.float32))


def read_K(path: Path) -> np.ndarray:  # [3, 3] float64
    """The 3×3 matrix in a text file, one row a line; of a 3×4 or 4×4, as ScanNet writes it, the part that counts."""
    try:
        K = [[float(word) for word in words] for _, words in number_lines(path)]
    except ValueError as error:
        raise ValueError(f"{path}: {error}; it must hold a 3×3 matrix of numbers.") from None
    shape = [len(row) for row in K]
    if shape in ([4] * 3, [4] * 4) and not any(row[3] for row in K[:3]) and K[3:] in ([], [[0, 0, 0, 1]]):
        return np.array(K)[:3, :3]
    if shape != [3, 3, 3]:
        raise ValueError(f"{path} must hold a 3×3 matrix, one row a line, got {len(K)} rows of {shape}.")
    return np.array(K)


def number_lines(path: Path) -> list[tuple[int, list[str]]]:
    """Number and words of each line, split at blanks or commas; empty lines and those that start with # are left out."""
    lines = read_text(path, "text file").replace(",", " ").splitlines()
    words = [(number, line.split()) for number, line in enumerate(lines, 1)]
    return [(number, row) for number, row in words if row and row[0][0] != "#"]


def float_rows(path: Path, wanted: str = "") -> list[tuple[int, list[float]]]:
    """Number and numbers of each line, as :func:`number_lines`. Raises ValueError that names the line, and says what is
    ``wanted`` in it, where a word is no number."""
    rows = []
    for number, words in number_lines(path):
        try:
            rows.append((number, [float(word) for word in words]))
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}{wanted}.") from None
    return rows
