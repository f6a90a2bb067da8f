"""The tools furniture is built with: dice that fall the same everywhere, a frame to build in, colours that go together."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import torch

from .patterns import ID
from .shapes import BALL, BOX, CONE, Primitives

CLASSES = (
    "wall", "floor", "ceiling", "window", "door", "bed", "sofa", "chair", "table", "shelf", "books", "lamp", "plant",
    "picture", "rug", "vessel",
)  # fmt: skip


class Dice:
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


class Kit:
    """Collects primitives while furniture functions call `box`, `ball`, `cone` in their own frame."""

    def __init__(self, dice: Dice) -> None:
        self.dice, self.rows, self.lamps = dice, [], []
        self.x, self.y, self.z, self.cos, self.sin = 0.0, 0.0, 0.0, 1.0, 0.0

    @contextmanager
    def at(self, x: float, y: float, z: float = 0.0, turn: tuple[float, float] = (1.0, 0.0)):
        """Work in a frame at (x, y, z) of the present one, turned by the angle with cosine and sine `turn`."""
        saved = self.x, self.y, self.z, self.cos, self.sin
        self.x, self.y, self.z = self.world(x, y, z)
        self.cos, self.sin = self.cos * turn[0] - self.sin * turn[1], self.sin * turn[0] + self.cos * turn[1]
        yield
        self.x, self.y, self.z, self.cos, self.sin = saved

    def world(self, x: float, y: float, z: float) -> tuple[float, float, float]:
        return self.x + x * self.cos - y * self.sin, self.y + x * self.sin + y * self.cos, self.z + z

    def lamp(self, x: float, y: float, z: float, power: float) -> None:
        """A warm point light."""
        self.lamps.append((*self.world(x, y, z), power))

    def add(self, kind, center, size, label, look, *, turn=(1.0, 0.0), taper=1.0, casts=True, glow=0.0) -> None:
        texture, color_a, color_b, scale = look
        cos, sin = self.cos * turn[0] - self.sin * turn[1], self.sin * turn[0] + self.cos * turn[1]
        self.rows.append((
            kind, self.world(*center), [max(s, 1e-3) / 2 for s in size], (cos, sin), taper, casts, CLASSES.index(label),
            ID[texture], color_a, color_b, scale, (self.dice.uniform(0, 8), self.dice.uniform(0, 8)), glow,
        ))  # fmt: skip

    def box(self, center, size, label, look, **more) -> None:
        self.add(BOX, center, size, label, look, **more)

    def ball(self, center, size, label, look, **more) -> None:
        self.add(BALL, center, size, label, look, **more)

    def cone(self, center, size, label, look, **more) -> None:
        self.add(CONE, center, size, label, look, **more)

    def primitives(self) -> Primitives:
        kind, center, half, yaw, taper, casts, label, texture, a, b, scale, offset, glow = zip(*self.rows)
        real = [torch.tensor(column, dtype=torch.float32) for column in (center, half, yaw, taper)]
        paint = [torch.tensor(column, dtype=torch.float32) for column in (a, b, scale, offset, glow)]
        return Primitives(
            torch.tensor(kind), *real, torch.tensor(casts), torch.tensor(label), torch.tensor(texture), *paint
        )


def turned(dice: Dice, most: float = 0.3) -> tuple[float, float]:
    """Cosine and sine of a small angle from its half tangent: no library's rounding of cos and sin enters."""
    t = dice.uniform(-most, most) / 2
    return (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)


class Style:
    """The colours and materials one room shares."""

    PALETTES = (  # wall, accent 1, accent 2, accent 3
        ("e9e4d8", "b5533c", "3f6c73", "d9a441"), ("dfe6e3", "2f5d62", "c97b5a", "e6c79c"),
        ("f0e6d6", "7a8b5c", "b9683f", "d8b26e"), ("d6dde6", "34507a", "c2a35d", "a34a4a"),
        ("eadfe0", "8a4f6d", "4f7a77", "d7b98e"), ("e3ead8", "4d7a4a", "d08b4c", "7f5b8c"),
        ("f2efe8", "22313f", "c0392b", "e0a62b"), ("d9cfc1", "5b4636", "6f8f86", "cc8e6e"),
        ("cfdad6", "26524d", "e09f7d", "efd9b4"), ("f1e3cf", "20639b", "ed553b", "f6d55c"),
    )  # fmt: skip
    WOODS = (("c79a63", "a87743"), ("8a5a34", "643c20"), ("dcc196", "c4a06e"), ("b4814e", "8c5a30"), ("5c4230", "402b1d"),
             ("ece7dd", "dcd5c7"))  # fmt: skip

    def __init__(self, dice: Dice) -> None:
        wall, *accents = (rgb(c) for c in dice.pick(self.PALETTES))
        self.wall, self.accents, self.dice = shade(wall, dice.uniform(0.8, 1.05)), accents, dice
        self.woods = [tuple(rgb(c) for c in dice.pick(self.WOODS)) for _ in range(2)]
        self.white = rgb("eeebe4")
        self.metal = rgb(dice.pick(("3a3a3c", "8c8a86", "b08d57", "1f2224")))

    def wood(self, which: int = 0):
        return ("wood", *self.woods[which], 0.22)

    def accent(self):
        return shade(self.dice.pick(self.accents), self.dice.uniform(0.75, 1.25))

    def cloth(self, base=None):
        """A textile: mostly plain weave, else a pattern of the accent and a pale colour."""
        dice = self.dice
        base = base or self.accent()
        pale = rgb(dice.pick(("f2ead9", "e6dccb", "d9d4cb", "f5f2ec")))
        if dice.chance(0.4):
            return ("fabric", base, shade(base, 0.7), 0.012)
        kind = dice.pick(("stripes", "checks", "dots", "zigzag", "diamonds"))
        return (kind, base, pale, dice.uniform(0.05, 0.14))

    def plain_cloth(self):
        base = self.accent() if self.dice.chance(0.6) else rgb(self.dice.pick(("8d8a85", "c9bfae", "6b6f76", "a89f91")))
        return ("fabric", base, shade(base, 0.72), 0.014)
