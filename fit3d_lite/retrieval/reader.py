"""Reading as a search: a picture is what its nearest example is. Words first, characters where no word is near enough.

    characters = Index(encoder.embed(examples), labels)
    reader = Reader(encoder, characters)
    characters.add(encoder.embed(new), ["ß"])            # from now on that is read as well
    print(cer(reader.read(photos), texts))
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from .localize import Line, localize

WORD_WIDTH = 4  # the picture of a word is so many frames wide


class Index:
    """Examples, vectors ``[N, C]`` of length 1 with a label each. FAISS searches them where it is installed, else
    scikit-learn; both look at all, and find the same."""

    def __init__(self, vectors: np.ndarray, labels):
        self.vectors, self.labels = np.empty((0, np.shape(vectors)[-1]), np.float32), []
        self.add(vectors, labels)

    def add(self, vectors: np.ndarray, labels) -> None:
        """More examples. ValueError, and none is added, where the numbers of vectors and labels or the widths differ."""
        vectors, width = np.asarray(vectors, np.float32), self.vectors.shape[1]
        if vectors.shape != (len(labels), width):
            raise ValueError(f"{len(labels)} labels need vectors of shape {(len(labels), width)}, got {vectors.shape}.")
        self.vectors, self.labels = np.concatenate([self.vectors, vectors]), [*self.labels, *labels]
        self._search = _searcher(self.vectors)

    def nearest(self, vectors: np.ndarray) -> tuple[list[str], np.ndarray]:
        """The label of the example nearest to each vector ``[M, C]``, and their cosine ``[M]``."""
        cosine, which = self._search(np.asarray(vectors, np.float32))
        return [self.labels[i] for i in which[:, 0]], cosine[:, 0]


def _searcher(vectors: np.ndarray):
    try:
        import faiss
    except ImportError:
        from sklearn.neighbors import NearestNeighbors

        examples = NearestNeighbors(n_neighbors=1, metric="cosine", algorithm="brute").fit(vectors)

        def search(asked):
            distance, which = examples.kneighbors(asked)
            return 1 - distance, which

        return search
    examples = faiss.IndexFlatIP(vectors.shape[1])
    examples.add(vectors)
    return lambda asked: examples.search(np.ascontiguousarray(asked), 1)


class Reader:
    """Reads lines, their characters with ``encoder`` and ``characters``, an Index, or anything with its ``nearest``.

    ``word_encoder`` and ``words`` are the same for whole words, which are believed from the cosine ``near`` on. Without them
    characters are read alone; ValueError for one without the other.
    """

    def __init__(self, encoder, characters, word_encoder=None, words=None, near: float = 0.9):
        if (word_encoder is None) != (words is None):
            raise ValueError("words need both, their encoder and their examples.")
        self.encoder, self.characters = encoder, characters
        self.word_encoder, self.words, self.near = word_encoder, words, near

    def read(self, photos) -> list[str]:
        """The text of each grey photo ``[H, W]`` of one line, or of each Line that localize made of one."""
        lines = [photo if isinstance(photo, Line) else localize(photo) for photo in photos]
        spans = [(line, first, end) for line in lines for first, end in line.words]
        known = self._known(spans)
        alone = [(line, at) for (line, first, end), word in zip(spans, known, strict=True)
                 for at in range(line.core(first, end) if word else first, end)]  # fmt: skip
        found = self._look_up(self.encoder, self.characters, [line.picture(at, at + 1) for line, at in alone])[0]
        letter = {(id(line), at): text for (line, at), text in zip(alone, found, strict=True)}
        word = {(id(line), first): text for (line, first, _), text in zip(spans, known, strict=True)}
        return [
            " ".join(
                word[id(line), first] + "".join(letter.get((id(line), at), "") for at in range(first, end))
                for first, end in line.words
            )
            for line in lines
        ]

    def _known(self, spans) -> list[str]:
        """The word in each span without the stop behind it, "" where no example is near enough."""
        if self.words is None:
            return [""] * len(spans)
        shown = [line.picture(first, line.core(first, end), WORD_WIDTH) for line, first, end in spans]
        words, cosine = self._look_up(self.word_encoder, self.words, shown)
        return [word if c >= self.near else "" for word, c in zip(words, cosine, strict=True)]

    @staticmethod
    def _look_up(encoder, examples, shown: list[np.ndarray]):
        return examples.nearest(encoder.embed(np.stack(shown))) if shown else ([], [])


def cer(read: list[str], texts: list[str]) -> float:
    """Character error rate: the fewest insertions, deletions and substitutions between what was read and what is written, by
    the number of characters written. ValueError where numbers of lines differ or nothing is written."""
    written = sum(map(len, texts))
    if len(read) != len(texts) or not written:
        raise ValueError(f"{len(read)} readings cannot be compared with {len(texts)} lines of {written} characters.")
    return sum(map(edits, read, texts)) / written


def edits(one: str, other: str) -> int:
    """The edit distance of Levenshtein."""
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        corner, row[0] = row[0], i
        for j, wanted in enumerate(other, 1):
            corner, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, corner + (letter != wanted))
    return row[-1]


def tesseract(photos) -> list[str] | None:
    """What Tesseract reads, told that each photo is one line; None where no program of this name is on the path."""
    from PIL import Image

    if shutil.which("tesseract") is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, f"{i}.png") for i in range(len(photos))]
        for photo, path in zip(photos, paths, strict=True):
            Image.fromarray((255 * np.pad(photo, 12, mode="edge")).astype(np.uint8)).save(path)
        Path(folder, "all.txt").write_text("\n".join(map(str, paths)))
        asked = ["tesseract", f"{folder}/all.txt", "-", "--psm", "7", "--dpi", "300"]
        # A line is too little for its threads: they wait for each other, spinning, and it takes three times as long.
        alone = {"OMP_THREAD_LIMIT": "1", **os.environ}
        said = subprocess.run(asked, capture_output=True, text=True, check=True, env=alone).stdout
    return [" ".join(page.split()) for page in said.split("\f")[: len(photos)]]
