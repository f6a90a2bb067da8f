"""What furniture is built with: random numbers that are the same everywhere, a frame to build in, colors that go together."""

from __future__ import annotations

from collections import namedtuple
from contextlib import contextmanager
from dataclasses import fields
from typing import NamedTuple

import numpy as np
import torch

from .patterns import ID
from .shapes import BALL, BOX, CONE, Primitives

CLASSES = (
    "wall", "floor", "ceiling", "window", "door", "bed", "sofa", "chair", "table", "shelf", "books", "lamp", "plant",
    "picture", "rug", "vessel",
)  # fmt: skip

Primitive = namedtuple("Primitive", [column.name for column in fields(Primitives)])  # one row of the columns
WHOLE = ("kind", "casts", "label", "texture")  # columns of integers and truth values; the others are float32


class Rng:
    """Uniform draws from PCG64's raw 64-bit stream: the same numbers in every version of NumPy."""

    def __init__(self, *key: int) -> None:
        self.bits = np.random.PCG64(np.random.SeedSequence(list(key)))

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        return low + (high - low) * (int(self.bits.random_raw()) >> 11) * 2.0**-53

    def integer(self, low: int, high: int) -> int:
        """An integer in low..high, both included."""
        return low + int(self.uniform() * (high - low + 1))

    def chance(self, p: float) -> bool:
        return self.uniform() < p

    def pick(self, options):
        return options[self.integer(0, len(options) - 1)]


def rgb(code: str) -> tuple[float, ...]:
    """'c8a27a' to linear RGB (a gamma of 2, the same as the photo's tone curve)."""
    return tuple((int(code[i : i + 2], 16) / 255.0) ** 2 for i in (0, 2, 4))


def shade(color, factor: float) -> tuple[float, ...]:
    return tuple(min(1.0, c * factor) for c in color)


class Look(NamedTuple):
    """What a surface looks like: a pattern of patterns.py in two colors of linear RGB, repeated every ``scale`` metres."""

    pattern: str
    a: tuple[float, ...]
    b: tuple[float, ...]
    scale: float


def plain(color: tuple[float, ...]) -> Look:
    return Look("plain", color, color, 1.0)


class Kit:
    """Collects primitives while furniture functions call `box`, `ball`, `cone` in their own frame."""

    def __init__(self, rng: Rng) -> None:
        self.rng, self.made, self.lamps = rng, [], []
        self.x, self.y, self.z, self.cos, self.sin = 0.0, 0.0, 0.0, 1.0, 0.0

    @contextmanager
    def at(self, x: float, y: float, z: float = 0.0, turn: tuple[float, float] = (1.0, 0.0)):
        """Work in a frame at (x, y, z) of the present one, turned by the angle with cosine and sine `turn`."""
        saved = self.x, self.y, self.z, self.cos, self.sin
        self.x, self.y, self.z = self.world(x, y, z)
        self.cos, self.sin = self.turned(turn)
        yield
        self.x, self.y, self.z, self.cos, self.sin = saved

    def world(self, x: float, y: float, z: float) -> tuple[float, float, float]:
        return self.x + x * self.cos - y * self.sin, self.y + x * self.sin + y * self.cos, self.z + z

    def turned(self, turn: tuple[float, float]) -> tuple[float, float]:
        """Cosine and sine of the present frame's angle plus another one."""
        return self.cos * turn[0] - self.sin * turn[1], self.sin * turn[0] + self.cos * turn[1]

    def lamp(self, x: float, y: float, z: float, power: float) -> None:
        """A warm point light."""
        self.lamps.append((*self.world(x, y, z), power))

    def add(self, kind, center, size, label, look, *, turn=(1.0, 0.0), taper=1.0, casts=True, glow=0.0) -> None:
        """A primitive of a class of CLASSES at ``center`` of the present frame, ``size`` metres along its own axes."""
        self.made.append(Primitive(
            kind=kind, center=self.world(*center), half=[max(s, 1e-3) / 2 for s in size], yaw=self.turned(turn),
            taper=taper, casts=casts, label=CLASSES.index(label), texture=ID[look.pattern], color_a=look.a,
            color_b=look.b, scale=look.scale, offset=(self.rng.uniform(0, 8), self.rng.uniform(0, 8)), glow=glow,
        ))  # fmt: skip

    def box(self, center, size, label, look, **more) -> None:
        self.add(BOX, center, size, label, look, **more)

    def ball(self, center, size, label, look, **more) -> None:
        self.add(BALL, center, size, label, look, **more)

    def cone(self, center, size, label, look, **more) -> None:
        self.add(CONE, center, size, label, look, **more)

    def primitives(self) -> Primitives:
        columns = Primitive(*zip(*self.made))._asdict()
        kinds = {name: None if name in WHOLE else torch.float32 for name in columns}
        return Primitives(**{name: torch.tensor(column, dtype=kinds[name]) for name, column in columns.items()})


def random_turn(rng: Rng, most: float = 0.3) -> tuple[float, float]:
    """Cosine and sine of an angle from its half tangent: no library's rounding of cos and sin enters."""
    t = rng.uniform(-most, most) / 2
    return (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)


class Style:
    """The colors and materials one room shares."""

    PALETTES = (  # wall, accent 1, accent 2, accent 3
        ("e9e4d8", "b5533c", "3f6c73", "d9a441"), ("dfe6e3", "2f5d62", "c97b5a", "e6c79c"),
        ("f0e6d6", "7a8b5c", "b9683f", "d8b26e"), ("d6dde6", "34507a", "c2a35d", "a34a4a"),
        ("eadfe0", "8a4f6d", "4f7a77", "d7b98e"), ("e3ead8", "4d7a4a", "d08b4c", "7f5b8c"),
        ("f2efe8", "22313f", "c0392b", "e0a62b"), ("d9cfc1", "5b4636", "6f8f86", "cc8e6e"),
        ("cfdad6", "26524d", "e09f7d", "efd9b4"), ("f1e3cf", "20639b", "ed553b", "f6d55c"),
    )  # fmt: skip
    WOODS = (("c79a63", "a87743"), ("8a5a34", "643c20"), ("dcc196", "c4a06e"), ("b4814e", "8c5a30"), ("5c4230", "402b1d"),
             ("ece7dd", "dcd5c7"))  # fmt: skip

    def __init__(self, rng: Rng) -> None:
        wall, *accents = (rgb(c) for c in rng.pick(self.PALETTES))
        self.wall, self.accents, self.rng = shade(wall, rng.uniform(0.8, 1.05)), accents, rng
        self.woods = [tuple(rgb(c) for c in rng.pick(self.WOODS)) for _ in range(2)]
        self.white = rgb("eeebe4")
        self.metal = rgb(rng.pick(("3a3a3c", "8c8a86", "b08d57", "1f2224")))

    def wood(self, which: int = 0) -> Look:
        return Look("wood", *self.woods[which], 0.22)

    def accent(self) -> tuple[float, ...]:
        return shade(self.rng.pick(self.accents), self.rng.uniform(0.75, 1.25))

    def cloth(self) -> Look:
        """A textile: mostly plain weave, else a pattern of the accent and a pale color."""
        rng = self.rng
        base = self.accent()
        pale = rgb(rng.pick(("f2ead9", "e6dccb", "d9d4cb", "f5f2ec")))
        if rng.chance(0.4):
            return Look("fabric", base, shade(base, 0.7), 0.012)
        pattern = rng.pick(("stripes", "checks", "dots", "zigzag", "diamonds"))
        return Look(pattern, base, pale, rng.uniform(0.05, 0.14))

    def plain_cloth(self) -> Look:
        base = self.accent() if self.rng.chance(0.6) else rgb(self.rng.pick(("8d8a85", "c9bfae", "6b6f76", "a89f91")))
        return Look("fabric", base, shade(base, 0.72), 0.014)
