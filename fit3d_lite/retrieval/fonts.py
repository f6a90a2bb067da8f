"""Typefaces, and characters and words drawn in them.

Every picture stands in the *frame* of its line, so that height and place are kept: without them c is C, and a comma is an
apostrophe. With capitals A pixels high the frame is 1.6 A high, and the line runs 1.2 A below its top.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

FRAME, BASELINE = 1.6, 1.2
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
CHARACTERS = LETTERS + "0123456789.,;:!?'()-&"


class Face(NamedTuple):
    """A typeface: a file of matplotlib's or a whole path, and what is drawn in the place of a letter."""

    file: str
    letters: dict[int, int] = {}

    @property
    def name(self) -> str:
        return Path(self.file).stem + (" Fraktur" if self.letters else "")


def _fraktur(first: int, **elsewhere: int) -> dict[int, int]:
    """Unicode has the letters of old German print, for mathematicians; some stand elsewhere."""
    return {ord(letter): elsewhere.get(letter, first + i) for i, letter in enumerate(LETTERS)}


_SANS, _SLANTED = ("Sans", "Sans-Bold", "SansMono", "SansMono-Bold", "Serif", "Serif-Bold"), ("Sans-Oblique", "Serif-Italic")
FACES = {  # all come with matplotlib: every machine learns and reads the same
    "training": [Face(f"DejaVu{kind}.ttf") for kind in (*_SANS, *_SLANTED, "Sans-BoldOblique", "SansMono-Oblique")]
    + [Face(f"cm{kind}10.ttf") for kind in ("r", "b", "ti", "tt")],
    "held out": [Face(f"{file}.ttf") for file in ("STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "cmss10")],
    "Fraktur": [
        Face("STIXGeneral.ttf", _fraktur(0x1D504, C=0x212D, H=0x210C, I=0x2111, R=0x211C, Z=0x2128)),
        Face("STIXGeneralBol.ttf", _fraktur(0x1D56C)),
    ],
}


@lru_cache(maxsize=256)
def _font(file: str, capital: float):
    import matplotlib
    from PIL import ImageFont

    path = Path(matplotlib.get_data_path(), "fonts", "ttf", file)  # a whole path takes the place of all this
    if not path.is_file():
        raise OSError(f"there is no font {path}; FACES names some that come with matplotlib, others need their whole path.")
    _, top, _, bottom = ImageFont.truetype(path, 200).getbbox("H", anchor="ls")
    return ImageFont.truetype(path, 200 * capital / (bottom - top))


def draw(text: str, face: Face, capital: float = 30.0) -> tuple[np.ndarray, np.ndarray]:
    """A line of text with capitals so many pixels high: ink ``[H, W]`` in 0..1, a frame high, and ``[N, 4]``, the left, top,
    right and bottom of each character but spaces. Letters stand one by one, without kerning. OSError for an unknown font."""
    from PIL import Image, ImageDraw

    font, shown = _font(face.file, capital), text.translate(face.letters)
    margin, line = round(capital), round(BASELINE * capital)
    size = (round(font.getlength(shown)) + 2 * margin, round(FRAME * capital))
    ink, boxes = np.zeros(size[::-1], np.float32), []
    for i, letter in enumerate(shown):
        if not letter.isspace():
            alone, left = Image.new("L", size), margin + font.getlength(shown[:i])
            ImageDraw.Draw(alone).text((left, line), letter, fill=255, font=font, anchor="ls")
            ink = np.maximum(ink, np.asarray(alone, np.float32) / 255)
            boxes.append(alone.getbbox() or (round(left), line, round(left) + 1, line + 1))
    return ink, np.array(boxes, int).reshape(-1, 4)


def framed(ink: np.ndarray, height: int = 32, wide: int = 1) -> np.ndarray:
    """Ink that is a frame high, in the middle of ``[height, wide * height]``; squeezed where it is too wide."""
    from PIL import Image

    width = max(1, min(round(ink.shape[1] * height / len(ink)), wide * height))
    picture, begin = np.zeros((height, wide * height), np.float32), (wide * height - width) // 2
    small = Image.fromarray(np.ascontiguousarray(ink)).resize((width, height), Image.Resampling.BILINEAR)
    picture[:, begin : begin + width] = np.asarray(small)
    return picture


def pictures(labels, faces: list[Face], wide: int = 1) -> np.ndarray:
    """A clean picture of each label (a character, a word) in each face: ink ``[faces, labels, 32, wide * 32]``."""
    drawn = np.empty((len(faces), len(labels), 32, wide * 32), np.float32)
    for f, face in enumerate(faces):
        for i, label in enumerate(labels):
            ink, boxes = draw(label, face, 32 / FRAME)
            drawn[f, i] = framed(ink[:, boxes[:, 0].min() : boxes[:, 2].max()], wide=wide)
    return drawn
