"""Reading as retrieval (appendix A2): error rates with their spread, controls, and where components fail.

    make bench ONLY=retrieval                     # some ten minutes of one core; Tesseract's column where it is installed

A seed draws the network's start, the course of its training and the sentences. Faces of the held-out kind were not trained on.
"""

from __future__ import annotations

import copy
import shutil
import statistics
import subprocess
import sys
import time
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import rotate

from fit3d_lite.retrieval import (
    CHARACTERS,
    FACES,
    SPOILED,
    WORD_WIDTH,
    WORDS,
    Encoder,
    Face,
    Index,
    Line,
    Reader,
    cer,
    draw,
    lines,
    localize,
    page_lines,
    pictures,
    spoil,
    tesseract,
    train_encoder,
    vary,
)
from fit3d_lite.retrieval.lines import sentence
from fit3d_lite.retrieval.localize import _ink

from .report import table, write

SEEDS, LINES, STEPS, WORD_STEPS, NEAR = 3, 6, 150, 60, (0.8, 0.85, 0.9, 0.95)
TRAINING, HELD_OUT, (FRAKTUR, BOLD_FRAKTUR) = FACES["training"], FACES["held out"], FACES["Fraktur"]
VOCABULARY = [*WORDS, *(word.capitalize() for word in WORDS)]
NEW = "0123456789&?"
ALIKE = ("1Il!", "0Oo", "sS", "cC", "vV", "wW", "xX", "zZ", "uU", "pP", "kK", ".,'-")


class Pixels:
    """The control that learned nothing: the picture itself, as a vector of length 1."""

    def embed(self, ink):
        flat = np.asarray(ink).reshape(len(ink), -1)
        return flat / np.linalg.norm(flat, axis=1, keepdims=True).clip(1e-6)


class Head:
    """A linear classifier on an encoder's vectors, in the place of an Index."""

    def __init__(self, vectors, labels):
        from sklearn.linear_model import LogisticRegression

        warnings.filterwarnings("ignore", "The number of unique classes")  # one example a class is the point
        self.fitted = LogisticRegression(C=100, max_iter=500).fit(vectors, labels)

    def nearest(self, vectors):
        sure = self.fitted.predict_proba(vectors)
        return list(self.fitted.classes_[sure.argmax(1)]), sure.max(1)


def system_faces() -> list[Face]:
    """What this machine has besides matplotlib's kinds, upright and of normal weight, with all characters."""
    from matplotlib import font_manager
    from matplotlib.ft2font import FT2Font

    known = ("dejavu", "stix", "cm", "lastresort")
    paths = (path for path in sorted(font_manager.findSystemFonts()) if not Path(path).stem.lower().startswith(known))
    return [Face(path) for path in paths if "Regular" in path and set(map(ord, CHARACTERS)) <= set(FT2Font(path).get_charmap())]


def levelled(face: Face, how: str, seed: int, i: int) -> tuple[np.ndarray, np.ndarray, str]:
    """Line i of ``lines``, turned back by the angle it was turned by: photo, the true boxes in it, text."""
    text = sentence(np.random.default_rng((seed, i)))
    ink, boxes = draw(text, face)
    photo, chance = spoil(ink, how, np.random.default_rng((seed, i, 1))), np.random.default_rng((seed, i, 1))
    if how in ("rotation", "old print"):
        turned = chance.uniform(1, 3) * chance.choice((-1, 1)) if how == "rotation" else chance.uniform(-0.5, 0.5)
        photo = rotate(photo, -turned, order=1, cval=float(np.median(photo)))
        top, left = ((a - b) // 2 for a, b in zip(photo.shape, ink.shape, strict=True))
        photo = photo[top : top + ink.shape[0], left : left + ink.shape[1]]
    return photo, boxes, text


def given(photo: np.ndarray, boxes: np.ndarray, text: str) -> Line:
    """A line whose characters are known: what a perfect detector would hand on."""
    owner = np.zeros(photo.shape, int)
    for i, (left, top, right, bottom) in enumerate(boxes, 1):
        owner[top:bottom, left:right] = i
    ends = np.cumsum([0, *map(len, text.split())])
    return Line(_ink(photo), owner, boxes, list(zip(ends[:-1], ends[1:], strict=True)))


def alone(line: Line, boxes: np.ndarray) -> float:
    """The share of true boxes of which one found box holds 60 % of the columns, and no other true box as much of it."""
    over = np.minimum(line.boxes[:, None, 2], boxes[:, 2]) - np.maximum(line.boxes[:, None, 0], boxes[:, 0])
    held = over / (boxes[:, 2] - boxes[:, 0]) > 0.6
    wide = (line.boxes[:, 2] - line.boxes[:, 0])[:, None] < 1.6 * (boxes[:, 2] - boxes[:, 0]) + 3
    return (held & wide & (held.sum(1, keepdims=True) == 1)).any(0).mean()


def accuracy(encoder, index, labels: str, seed: int) -> float:
    """Of single varied characters in the held-out faces."""
    ink = torch.tensor(pictures(labels, HELD_OUT)).flatten(0, 1).repeat(5, 1, 1)
    found, _ = index.nearest(encoder.embed(vary(ink, torch.Generator().manual_seed(seed))))
    return statistics.mean(a == b for a, b in zip(found, labels * len(HELD_OUT) * 5, strict=True))


class Found:
    """Numbers by (table, row, column), one a seed."""

    def __init__(self):
        self.of = {}

    def add(self, *where_and_value):
        *where, value = where_and_value
        if value is not None:
            self.of.setdefault(tuple(where), []).append(float(value))

    def cell(self, *where) -> str:
        """Mean ± standard deviation over seeds."""
        values = self.of.get(where)
        if not values:
            return ""
        digits = 3 if statistics.mean(values) < 10 else 0
        return f"{statistics.mean(values):.{digits}f} ± {statistics.stdev(values):.{digits}f}"

    def table(self, name: str, first: str) -> str:
        rows, columns = (list(dict.fromkeys(key[i] for key in self.of if key[0] == name)) for i in (1, 2))
        return table([first, *columns], [[row, *(self.cell(name, row, column) for column in columns)] for row in rows])


def readers(encoder, words, clean, clean_words, seed: int) -> dict:
    pixels, vectors = Pixels(), encoder.embed(clean.reshape(-1, 32, 32))
    one, many = Index(vectors[: len(CHARACTERS)], CHARACTERS), CHARACTERS * len(clean)
    torch.manual_seed(seed)
    untrained = Encoder()
    varied = vary(torch.tensor(clean).flatten(0, 1).repeat(5, 1, 1), torch.Generator().manual_seed(seed))
    return {
        "retrieval, 1 example": Reader(encoder, one),
        f"{len(clean)} examples": Reader(encoder, Index(vectors, many)),
        f"linear head, {len(clean)} examples": Reader(encoder, Head(vectors, list(many))),
        f"linear head, {5 * len(clean)} varied": Reader(encoder, Head(encoder.embed(varied), list(many * 5))),
        "words first": Reader(encoder, one, words, Index(words.embed(clean_words[0]), VOCABULARY)),
        "pixels, 1 example (control)": Reader(pixels, Index(pixels.embed(clean[0]), CHARACTERS)),
        f"pixels, {len(clean)} examples (control)": Reader(pixels, Index(pixels.embed(clean.reshape(-1, 32, 32)), many)),
        "untrained, 1 example (control)": Reader(untrained, Index(untrained.embed(clean[0]), CHARACTERS)),
    }


def measure(seed: int, clean, clean_words, found: Found, errors: Counter) -> None:
    begin = time.process_time()
    encoder = train_encoder(clean, STEPS, seed)
    found.add("seconds", "training the encoder of characters", "seconds", time.process_time() - begin)
    begin = time.process_time()
    words = train_encoder(clean_words, WORD_STEPS, seed, encoder=copy.deepcopy(encoder), examples=2, lr=3e-3)
    found.add("seconds", "going on to words", "seconds", time.process_time() - begin)
    by = readers(encoder, words, clean, clean_words, seed)
    one = by["retrieval, 1 example"]

    per_face = {face.name: {how: lines(face, how, LINES, seed) for how in SPOILED} for face in (TRAINING[0], *HELD_OUT)}
    for how in SPOILED:
        photos = sum((per_face[face.name][how][0] for face in HELD_OUT), [])
        texts = sum((per_face[face.name][how][1] for face in HELD_OUT), [])
        apart = [localize(photo) for photo in photos]
        for name, reader in by.items():
            found.add("cer", how, name, cer(reader.read(apart), texts))
        true = [levelled(face, how, seed, i) for face in HELD_OUT for i in range(LINES)]
        found.add("cer", how, "retrieval, true boxes", cer(one.read([given(*line) for line in true]), texts))
        found.add("cer", how, "Tesseract", (said := tesseract(photos)) and cer(said, texts))
        for near in NEAR:
            reader = Reader(encoder, one.characters, words, by["words first"].words, near)
            found.add("near", how, f"from {near}", cer(reader.read(apart), texts))
        found.add("near", how, "characters alone", cer(one.read(apart), texts))
        for face in (TRAINING[0], *HELD_OUT):
            own = [levelled(face, how, seed, i) for i in range(LINES)]
            found.add("alone", how, face.name, statistics.mean(alone(localize(photo), boxes) for photo, boxes, _ in own))
            found.add("faces", how, face.name, cer(one.read(per_face[face.name][how][0]), per_face[face.name][how][1]))
        if how in ("clean", "noise"):
            for count in (1, 2, 4, 8, len(clean)):
                vectors = encoder.embed(clean[:count].reshape(-1, 32, 32))
                for name, kind in (("retrieval", Index), ("linear head", Head)):
                    reader = Reader(encoder, kind(vectors, list(CHARACTERS * count)))
                    found.add("curve", count, f"{name}, {how}", cer(reader.read(apart), texts))

    for face in system_faces():
        for how in ("clean", "noise"):
            photos, texts = lines(face, how, LINES, seed)
            found.add("system", face.name, f"retrieval, 1 example, {how}", cer(one.read(photos), texts))
            found.add("system", face.name, f"Tesseract, {how}", (said := tesseract(photos)) and cer(said, texts))

    old = "".join(c for c in CHARACTERS if c not in NEW)
    keep = [CHARACTERS.index(c) for c in old]
    without = train_encoder(clean[:, keep], STEPS, seed, classes=len(old))
    for name, net in (("never seen in training", without), ("seen in training", encoder)):
        index = Index(net.embed(clean[0][keep]), old)
        found.add("new", name, "the others, before", accuracy(net, index, old, seed))
        index.add(net.embed(pictures(NEW, TRAINING[:1])[0]), NEW)
        found.add("new", name, "the new ones, one example added", accuracy(net, index, NEW, seed))
        found.add("new", name, "the others, after", accuracy(net, index, old, seed))
    head = Head(without.embed(pictures(old + NEW, TRAINING[:1])[0]), list(old + NEW))
    again = accuracy(without, head, NEW, seed)
    found.add("new", "never seen, linear head fitted again", "the new ones, one example added", again)
    pixels = Pixels()
    index = Index(pixels.embed(pictures(old + NEW, TRAINING[:1])[0]), old + NEW)
    found.add("new", "pixels (control)", "the new ones, one example added", accuracy(pixels, index, NEW, seed))

    for how in ("clean", "noise", "old print"):
        photos, texts = lines(BOLD_FRAKTUR, how, LINES, seed)
        apart = [localize(photo) for photo in photos]
        for name, net in (("encoder", encoder), ("pixels (control)", pixels)):
            index = Index(net.embed(clean[0]), CHARACTERS)
            found.add("typeface", how, f"{name}, before", cer(Reader(net, index).read(apart), texts))
            index.add(net.embed(pictures(CHARACTERS, [FRAKTUR])[0]), CHARACTERS)
            found.add("typeface", how, f"{name}, one example added", cer(Reader(net, index).read(apart), texts))
        found.add("typeface", how, "Tesseract (English)", (said := tesseract(photos)) and cer(said, texts))

    photos, texts = page_lines()
    for name, reader in by.items():
        found.add("page", name, "CER", cer(reader.read(photos), texts))
    found.add("page", "Tesseract", "CER", (said := tesseract(photos)) and cer(said, texts))

    photos = sum((lines(face, "clean", LINES, seed + 10)[0] for face in HELD_OUT), [])
    begin = time.process_time()
    apart = [localize(photo) for photo in photos]
    middle = time.process_time()
    read = one.read(apart)
    end = time.process_time()
    count = sum(map(len, read))
    found.add("speed", "components", "characters a second", count / (middle - begin))
    found.add("speed", "encoder and search", "characters a second", count / (end - middle))
    found.add("speed", "both", "characters a second", count / (end - begin))
    if shutil.which("tesseract"):
        begin = time.perf_counter()
        tesseract(photos)
        found.add("speed", "Tesseract (by the clock)", "characters a second", count / (time.perf_counter() - begin))

    labels = CHARACTERS * len(HELD_OUT) * 5
    ink = torch.tensor(pictures(CHARACTERS, HELD_OUT)).flatten(0, 1).repeat(5, 1, 1)
    said, _ = one.characters.nearest(encoder.embed(vary(ink, torch.Generator().manual_seed(seed))))
    wrong = [(a, b) for a, b in zip(labels, said, strict=True) if a != b]
    errors.update(wrong)
    found.add("single", "wrong, of all", "share", len(wrong) / len(labels))
    alike = sum(any(a in group and b in group for group in ALIKE) for a, b in wrong)
    found.add("single", "look-alikes, of the wrong", "share", alike / len(wrong))


def main() -> None:
    found, errors = Found(), Counter()
    begin = time.process_time()
    clean, clean_words = pictures(CHARACTERS, TRAINING), pictures(VOCABULARY, TRAINING, WORD_WIDTH)
    drawn = time.process_time() - begin
    for seed in range(SEEDS):
        measure(seed, clean, clean_words, found, errors)
        print("seed", seed, f"{time.process_time() - begin:.0f} s of processor time", file=sys.stderr, flush=True)
    version = "Tesseract is not installed here."
    if shutil.which("tesseract"):
        said = subprocess.run(["tesseract", "--version"], capture_output=True, text=True).stdout.split("\n")[0]
        version = f"{said}, its English model, told that a picture is one line."
    parts = [
        "# Reading as retrieval",
        f"Appendix A2: mean ± standard deviation over {SEEDS} seeds (network, training, sentences), {STEPS} steps of 256 "
        f"characters in {len(TRAINING)} typefaces; words {WORD_STEPS} steps of 128. One example a class is DejaVu Sans. Lines: "
        f"{LINES} of about 40 characters for each of {len(HELD_OUT)} typefaces that were held out "
        f"({', '.join(face.name for face in HELD_OUT)}). CER is the character error rate. The words first reader knows "
        f"{len(WORDS)} words, and the sentences are made of them but for each sixth. {version} "
        f"Drawing all characters and words: {drawn:.0f} s.",
        "## CER of lines in held-out typefaces", found.table("cer", "lines"),
        "Pixels and untrained are controls: the same search without what was learned. True boxes: the same reader, given each "
        "character's box as it was drawn: what a perfect detector would leave.",
        "## Words first: from which cosine on a word is believed", found.table("near", "lines"),
        "## Characters that a component holds alone", found.table("alone", "lines"),
        "## CER by typeface, retrieval with one example", found.table("faces", "lines"),
        "## Typefaces of this machine, none trained on",
        found.table("system", "typeface") if system_faces() else "None was found.",
        "## CER over examples a class", found.table("curve", "examples"),
        f"## New characters ({NEW}), accuracy of single varied characters in held-out typefaces", found.table("new", "encoder"),
        "## A new typeface: lines in bold Fraktur, examples of the regular one added, nothing trained",
        found.table("typeface", "lines"),
        "## The photo of a page, five lines", found.table("page", "reader"),
        "scikit-image's other picture with writing, `text`, is handwriting on ruled paper: no line of it can be cut out and no "
        "typeface is an example of it, so it was looked at and not measured.",
        "## Single varied characters in held-out typefaces", found.table("single", ""),
        "Most frequent (written, read): " + ", ".join(f"{a} as {b} {n}×" for (a, b), n in errors.most_common(12)) + ".",
        "## One core", found.table("speed", "") + "\n\n" + found.table("seconds", ""),
    ]  # fmt: skip
    write("retrieval", "\n\n".join(parts))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
