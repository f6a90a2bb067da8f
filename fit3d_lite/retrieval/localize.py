"""Where the characters of a line are: connected components of its ink, put into the line's frame.

The paper trains a detector (YOLO) for this. Components need no training, and fail where characters touch or break.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .fonts import BASELINE, FRAME, framed


@dataclass
class Line:
    """A line taken apart, level and cut to its frame.

    Args:
        ink: ``[H, W]`` in 0..1.
        owner: ``[H, W]``, the number of the character that a pixel belongs to, from 1; 0 is paper.
        boxes: ``[N, 4]`` left, top, right, bottom of the characters, from left to right.
        words: of each its first character and the one after its last.
    """

    ink: np.ndarray
    owner: np.ndarray
    boxes: np.ndarray
    words: list[tuple[int, int]]

    def picture(self, first: int, end: int, wide: int = 1) -> np.ndarray:
        """Some characters without their neighbors, for the encoder: ``[32, wide * 32]``."""
        columns = slice(self.boxes[first:end, 0].min(), self.boxes[first:end, 2].max())
        owner = self.owner[:, columns]
        return framed(np.where((owner == 0) | ((owner > first) & (owner <= end)), self.ink[:, columns], 0), wide=wide)

    def core(self, first: int, end: int) -> int:
        """Where a word ends without the point, comma or dash behind it, which its height gives away."""
        return end - (end - first > 1 and self.boxes[end - 1, 3] - self.boxes[end - 1, 1] < 0.25 * len(self.ink))


def localize(photo: np.ndarray) -> Line:
    """Take apart a grey photo ``[H, W]`` of one line, ink dark: level it by the feet of its letters, find characters, words.

    ValueError for what is no such picture, or one without ink.
    """
    from scipy.ndimage import rotate
    from scipy.stats import theilslopes

    ink = _ink(photo)
    owner, boxes = _characters(ink)
    slope = theilslopes(boxes[:, 3], boxes[:, [0, 2]].mean(1))[0] if len(boxes) > 2 else 0.0  # a median: g, p, y do not bend it
    if abs(slope) > 0.004:
        ink = rotate(ink, np.degrees(np.arctan(slope)), order=1)
        owner, boxes = _characters(ink)
    line = np.median(boxes[:, 3])
    capital = max(line - np.quantile(boxes[:, 1], 0.1), 4)
    top, bottom = round(line - BASELINE * capital), round(line + (FRAME - BASELINE) * capital)
    beyond, frame = ((max(-top, 0), max(bottom - len(ink), 0)), (0, 0)), slice(max(top, 0), max(top, 0) + bottom - top)
    gaps = boxes[1:, 0] - np.maximum.accumulate(boxes[:, 2])[:-1]
    ends = [0, *(np.flatnonzero(gaps > _space(gaps, capital)) + 1), len(boxes)]
    words = list(zip(ends[:-1], ends[1:], strict=True))
    return Line(np.pad(ink, beyond)[frame], np.pad(owner, beyond)[frame], boxes - [0, top, 0, top], words)


def _ink(photo: np.ndarray) -> np.ndarray:
    """What is darker than the paper around it, 1 for the darkest there is."""
    from scipy.ndimage import gaussian_filter, percentile_filter, zoom

    photo = np.asarray(photo, np.float32)
    if photo.ndim != 2 or min(photo.shape) < 12 or not np.isfinite(photo).all():
        raise ValueError(f"a line is a grey picture [H, W], at least 12 pixels high and wide, without nan; got {photo.shape}.")
    soft = gaussian_filter(photo, 0.7)
    paper = gaussian_filter(percentile_filter(soft[::3, ::3], 80, size=max(5, len(photo) // 4)), 2)
    dark = 1 - soft / zoom(paper, np.divide(photo.shape, paper.shape), order=1).clip(1e-3)
    return (dark / max(np.percentile(dark, 99.5), 0.1)).clip(0, 1)


def _characters(ink: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Components, joined where one stands above another (a dot and its i): owner and boxes as in Line."""
    from scipy.ndimage import find_objects, label
    from skimage.filters import threshold_otsu

    found, _ = label(ink > max(0.9 * threshold_otsu(ink), 0.1), np.ones((3, 3)))
    area = np.bincount(found.ravel())
    spans = [(x.start, y.start, x.stop, y.stop, i) for i, (y, x) in enumerate(find_objects(found), 1)]
    tall = np.median([y1 - y0 for _, y0, _, y1, _ in spans if y1 - y0 > len(ink) / 8] or [len(ink) / 2])
    joined, owner = [], np.zeros(len(area), int)
    for x0, y0, x1, y1, i in sorted(spans):
        if area[i] < 0.012 * tall**2 or ((y0 == 0 or y1 == len(ink)) and y1 - y0 < 0.6 * tall):
            continue  # a speck, a piece of the line above or below
        for at, box in enumerate(joined[-3:], max(len(joined) - 3, 0)):
            over = min(x1, box[2]) - max(x0, box[0])
            if over > 0.4 * min(x1 - x0, box[2] - box[0]) and (y0 >= box[3] or y1 <= box[1]):
                joined[at] = (min(x0, box[0]), min(y0, box[1]), max(x1, box[2]), max(y1, box[3]))
                owner[i] = at + 1
                break
        else:
            joined.append((x0, y0, x1, y1))
            owner[i] = len(joined)
    if not joined:
        raise ValueError(f"there is no ink on this line of {ink.shape[0]} × {ink.shape[1]} pixels but specks.")
    return owner[found], np.array(joined)


def _space(gaps: np.ndarray, capital: float) -> float:
    """From where on a gap is a space: between the two kinds of gaps, within what type allows."""
    from skimage.filters import threshold_otsu

    return float(np.clip(threshold_otsu(gaps) if len(np.unique(gaps)) > 1 else 0, 0.25 * capital, 0.6 * capital))
