"""Furniture from boxes, balls and cones. Each piece is built standing on the floor with its back at y = 0 of its own frame.

x runs along the wall, y away from it, z up; metres. `Kit.at` puts the frame somewhere in the room.
"""
from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import torch

from .raycast import BALL, BOX, CONE, Primitives
from .textures import ID

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

    def add(self, kind, center, size, label, look, *, turn=(1.0, 0.0), taper=1.0, casts=True, glow=0.0, gloss=0.0) -> None:
        texture, color_a, color_b, scale = look
        cos, sin = self.cos * turn[0] - self.sin * turn[1], self.sin * turn[0] + self.cos * turn[1]
        self.rows.append((
            kind, self.world(*center), [max(s, 1e-3) / 2 for s in size], (cos, sin), taper, casts, CLASSES.index(label),
            ID[texture], color_a, color_b, scale, (self.dice.uniform(0, 8), self.dice.uniform(0, 8)), glow, gloss,
        ))  # fmt: skip

    def box(self, center, size, label, look, **more) -> None:
        self.add(BOX, center, size, label, look, **more)

    def ball(self, center, size, label, look, **more) -> None:
        self.add(BALL, center, size, label, look, **more)

    def cone(self, center, size, label, look, **more) -> None:
        self.add(CONE, center, size, label, look, **more)

    def primitives(self) -> Primitives:
        kind, center, half, yaw, taper, casts, label, texture, a, b, scale, offset, glow, gloss = zip(*self.rows)
        real = [torch.tensor(column, dtype=torch.float32) for column in (center, half, yaw, taper)]
        paint = [torch.tensor(column, dtype=torch.float32) for column in (a, b, scale, offset, glow, gloss)]
        return Primitives(torch.tensor(kind), *real, torch.tensor(casts), torch.tensor(label), torch.tensor(texture), *paint)


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


def legs(kit, w, d, h, label, look, *, inset=0.04, thick=0.045, y0=0.0, round_=False, taper=1.0) -> None:
    for x in (-w / 2 + inset, w / 2 - inset):
        for y in (y0 + inset, y0 + d - inset):
            (kit.cone if round_ else kit.box)((x, y, h / 2), (thick, thick, h), label, look, taper=taper)


def cushion(kit, x, y, z, size, style, label) -> None:
    kit.ball((x, y, z + size * 0.42), (size, size * 0.36, size * 0.9), label, style.cloth(), turn=turned(kit.dice, 0.5))


def bed(kit, style, w=1.5, d=2.05) -> None:
    dice = kit.dice
    wood = style.wood(1)
    head = dice.uniform(0.85, 1.15)
    if dice.chance(0.5):
        kit.box((0, 0.04, head / 2), (w + 0.06, 0.08, head), "bed", wood)
    else:
        kit.box((0, 0.05, head / 2 + 0.1), (w + 0.04, 0.1, head - 0.2), "bed", style.plain_cloth())
    kit.box((0, d / 2, 0.2), (w, d, 0.18), "bed", wood)
    legs(kit, w, d, 0.12, "bed", wood, thick=0.07)
    kit.box((0, d / 2 + 0.03, 0.39), (w - 0.06, d - 0.14, 0.2), "bed", ("fabric", style.white, shade(style.white, 0.85), 0.01))
    cover = style.cloth()
    kit.box((0, d * 0.62, 0.44), (w + 0.05, d * 0.72, 0.16), "bed", cover)
    kit.box((0, d * 0.28, 0.47), (w + 0.055, 0.22, 0.12), "bed", ("fabric", style.white, shade(style.white, 0.85), 0.01))
    if dice.chance(0.6):
        kit.box((0, d * 0.86, 0.45), (w + 0.07, d * 0.2, 0.17), "bed", style.cloth())
    pillows = 2 if w > 1.2 else 1
    for i in range(pillows):
        x = (i - (pillows - 1) / 2) * w * 0.46
        look = ("fabric", style.white, shade(style.white, 0.8), 0.012)
        kit.ball((x, 0.34, 0.56), (w * 0.42 if pillows == 2 else w * 0.6, 0.42, 0.2), "bed", look, turn=turned(dice, 0.15))
        if dice.chance(0.7):
            cushion(kit, x + dice.uniform(-0.05, 0.05), 0.42, 0.53, 0.36, style, "bed")


def sofa(kit, style, w=2.0, d=0.9) -> None:
    dice, look = kit.dice, style.plain_cloth()
    arm, low = 0.17, 0.13
    legs(kit, w, d, low, "sofa", style.wood(1), round_=True, thick=0.05, inset=0.09)
    kit.box((0, d / 2, low + 0.12), (w, d, 0.24), "sofa", look)
    kit.box((0, 0.11, 0.48), (w - 0.1, 0.2, 0.68), "sofa", look)
    for side in (-1, 1):
        kit.box((side * (w - arm) / 2, d / 2 + 0.02, 0.4), (arm, d - 0.04, 0.42), "sofa", look)
        if dice.chance(0.7):
            kit.ball((side * (w - arm) / 2, d / 2 + 0.02, 0.61), (arm, d - 0.04, 0.1), "sofa", look)
    seats = 3 if w > 2.1 else 2
    each = (w - 2 * arm) / seats
    for i in range(seats):
        x = (i - (seats - 1) / 2) * each
        kit.box((x, d / 2 + 0.1, 0.43), (each - 0.015, d - 0.22, 0.13), "sofa", look)
        kit.ball((x, d / 2 + 0.1, 0.49), (each - 0.03, d - 0.25, 0.08), "sofa", look)
        kit.box((x, 0.27, 0.68), (each - 0.025, 0.16, 0.4), "sofa", look)
    for side in (-1, 1):
        if dice.chance(0.8):
            cushion(kit, side * (w / 2 - arm - 0.24), 0.44, 0.5, dice.uniform(0.36, 0.44), style, "sofa")
    if dice.chance(0.5):
        cushion(kit, dice.uniform(-0.2, 0.2), 0.44, 0.5, 0.38, style, "sofa")


def chair(kit, style, look=None) -> None:
    """Its front looks along +y; centred on the frame's origin."""
    dice = kit.dice
    frame = look or style.wood(0)
    w, d, seat = 0.44, 0.44, 0.46
    legs(kit, w, d, seat, "chair", frame, y0=-d / 2, thick=0.038, inset=0.03, round_=True)
    kit.box((0, 0, seat), (w, d, 0.035), "chair", frame)
    if dice.chance(0.6):
        kit.ball((0, 0.01, seat + 0.025), (w - 0.02, d - 0.02, 0.07), "chair", style.cloth())
    for x in (-w / 2 + 0.03, w / 2 - 0.03):
        kit.box((x, -d / 2 + 0.02, seat + 0.22), (0.036, 0.036, 0.46), "chair", frame)
    if dice.chance(0.5):
        for z in (0.16, 0.29, 0.42):
            kit.box((0, -d / 2 + 0.02, seat + z), (w - 0.03, 0.022, 0.065), "chair", frame)
    else:
        kit.box((0, -d / 2 + 0.02, seat + 0.33), (w - 0.02, 0.03, 0.24), "chair", frame)


def armchair(kit, style) -> None:
    """Centred on the frame's origin, its front along +y."""
    look, w, d = style.plain_cloth(), 0.78, 0.76
    legs(kit, w, d, 0.16, "chair", style.wood(0), y0=-d / 2, round_=True, thick=0.04, inset=0.08)
    kit.box((0, 0, 0.26), (w, d, 0.2), "chair", look)
    kit.box((0, -d / 2 + 0.09, 0.6), (w, 0.18, 0.56), "chair", look)
    for side in (-1, 1):
        kit.box((side * (w / 2 - 0.07), 0.03, 0.46), (0.14, d - 0.06, 0.24), "chair", look)
    kit.ball((0, 0.08, 0.38), (w - 0.28, d - 0.2, 0.18), "chair", look)
    cushion(kit, 0, -d / 2 + 0.26, 0.42, 0.38, style, "chair")


def book_row(kit, style, x0, x1, y, z, height, depth) -> None:
    """Spines of many colours from x0 to x1, their front at y + depth."""
    dice, x = kit.dice, x0
    colors = [*style.accents, rgb("23395b"), rgb("7b2d26"), rgb("e8dcc4"), rgb("2e4a3f"), rgb("d8973c"), rgb("1d1d1f"), rgb("c8553d")]
    while True:
        w = dice.uniform(0.02, 0.06)
        if x + w > x1:
            return
        h = height * dice.uniform(0.68, 0.95)
        base = shade(dice.pick(colors), dice.uniform(0.7, 1.2))
        mark = rgb(dice.pick(("f3e9d2", "d4af37", "f8f8f8", "1c1c1c")))
        deep = depth * dice.uniform(0.8, 1.0)
        kit.box((x + w / 2, y + deep / 2, z + h / 2), (w - 0.002, deep, h), "books", ("spine", base, mark, 1.0), casts=False)
        x += w


def book_stack(kit, style, x, y, z, n) -> float:
    dice = kit.dice
    for _ in range(n):
        thick = dice.uniform(0.02, 0.045)
        size = (dice.uniform(0.2, 0.28), dice.uniform(0.15, 0.2), thick)
        base = style.accent()
        kit.box((x, y, z + thick / 2), size, "books", ("plain", base, base, 1.0), turn=turned(dice, 0.5))
        z += thick
    return z


def vessel(kit, style, x, y, z, size=1.0) -> None:
    """A bottle, cup, bowl, jug or vase about 0.1 to 0.3 m high."""
    dice, color = kit.dice, style.accent()
    if dice.chance(0.3):
        color = style.white
    look = ("plain", color, color, 1.0)
    kind = dice.integer(0, 4)
    if kind == 0:
        r, h = 0.08 * size, 0.2 * size
        kit.cone((x, y, z + h / 2), (r, r, h), "vessel", look, gloss=0.5)
        kit.cone((x, y, z + h * 1.12), (r, r, h * 0.25), "vessel", look, taper=0.4, gloss=0.5)
        kit.cone((x, y, z + h * 1.4), (r * 0.4, r * 0.4, h * 0.4), "vessel", look, gloss=0.5)
    elif kind == 1:
        r = 0.09 * size
        kit.cone((x, y, z + 0.05 * size), (r, r, 0.1 * size), "vessel", look, gloss=0.4)
        kit.box((x + r * 0.6, y, z + 0.05 * size), (0.035 * size, 0.012, 0.055 * size), "vessel", look)
    elif kind == 2:
        r = 0.24 * size
        kit.cone((x, y, z + 0.01), (r * 0.5, r * 0.5, 0.02), "vessel", look, gloss=0.4)
        kit.ball((x, y, z + 0.06 * size), (r, r, 0.11 * size), "vessel", look, gloss=0.4)
        for k in range(3):
            fruit = rgb(dice.pick(("d8432f", "e3a32b", "7da33c", "e2772e")))
            px, py = x + (k - 1) * 0.065 * size, y + (k % 2 - 0.5) * 0.06 * size
            kit.ball((px, py, z + 0.115 * size), (0.075 * size,) * 3, "vessel", ("plain", fruit, fruit, 1.0), gloss=0.4)
    else:
        r, h = 0.15 * size, 0.22 * size
        pattern = (dice.pick(("stripes", "zigzag", "plain", "dots")), color, style.white, 0.05)
        kit.ball((x, y, z + h * 0.45), (r, r, h * 0.9), "vessel", pattern, gloss=0.5)
        kit.cone((x, y, z + h * 0.95), (r * 0.5, r * 0.5, h * 0.3), "vessel", pattern, gloss=0.5)
        if kind == 4:
            flowers(kit, style, x, y, z + h)


def flowers(kit, style, x, y, z) -> None:
    dice, green, petal = kit.dice, rgb("4f7d3a"), style.accent()
    for _ in range(7):
        dx, dy, h = dice.uniform(-0.09, 0.09), dice.uniform(-0.09, 0.09), dice.uniform(0.1, 0.24)
        kit.cone((x + dx * 0.5, y + dy * 0.5, z + h / 2), (0.012, 0.012, h), "plant", ("leaf", green, shade(green, 0.5), 0.1))
        kit.ball((x + dx, y + dy, z + h), (0.07, 0.07, 0.05), "plant", ("leaf", petal, shade(petal, 1.5), 0.1))
        kit.ball((x + dx * 1.4, y + dy * 1.4, z + h * 0.5), (0.09, 0.05, 0.03), "plant", ("leaf", green, shade(green, 0.5), 0.1), turn=turned(dice, 3))


def plant(kit, style, height=1.1, label="plant") -> None:
    """Pot and leaves; the pot stands on the frame's origin."""
    dice = kit.dice
    pot, r = style.accent() if dice.chance(0.5) else rgb("b4633f"), 0.13 + 0.11 * height
    kit.cone((0, 0, r * 0.55), (r * 0.8, r * 0.8, r * 1.1), label, ("plain", pot, pot, 1.0), gloss=0.2)
    kit.cone((0, 0, r * 1.1), (r * 0.95, r * 0.95, r * 0.2), label, ("plain", pot, pot, 1.0), gloss=0.2)
    green = rgb(dice.pick(("3d6b35", "56803c", "2f5f47", "6b8f47")))
    look = ("leaf", green, shade(green, 0.45), 0.2)
    base, spread = r * 1.2, 0.16 * height + 0.06
    if dice.chance(0.5):  # a bush or small tree: leaf clusters around a stem
        kit.cone((0, 0, base + height * 0.25), (0.035, 0.035, height * 0.6), label, ("wood", rgb("6b4a2f"), rgb("4a3220"), 0.05))
        for k in range(26):
            t = dice.uniform(0.25, 1.0)
            wide = spread * (1.15 - 0.6 * abs(t - 0.55))
            x, y = dice.uniform(-wide, wide), dice.uniform(-wide, wide)
            if k % 4 == 0:  # a branch from the stem, in two steps
                for u in (0.33, 0.66):
                    z = base + (t - 0.12 * (1 - u)) * (height - base)
                    kit.ball((x * u, y * u, z), (0.3 * abs(x) + 0.025, 0.3 * abs(y) + 0.025, 0.05), label, look)
            s = dice.uniform(0.10, 0.20) * (0.55 + 0.45 * height)
            kit.ball((x, y, base + t * (height - base)), (s, s * 0.6, s * dice.uniform(0.25, 0.6)), label, look, turn=turned(dice, 3))
    else:  # upright blades
        for k in range(16):
            x, y = dice.uniform(-r * 0.35, r * 0.35), dice.uniform(-r * 0.35, r * 0.35)
            h = (height - base) * dice.uniform(0.55, 1.0)
            for j in range(3):
                u = (j + 0.5) / 3
                lean = 1.0 + 2.2 * u * u
                kit.ball((x * lean, y * lean, base + h * u), (0.075 * (1.1 - 0.5 * u), 0.03, h * 0.46), label, look, turn=turned(dice, 3))


def bookcase(kit, style, w=0.9, d=0.32, h=1.9) -> None:
    dice, wood = kit.dice, style.wood(0)
    for x in (-w / 2 + 0.012, w / 2 - 0.012):
        kit.box((x, d / 2, h / 2), (0.024, d, h), "shelf", wood)
    kit.box((0, 0.008, h / 2), (w, 0.016, h), "shelf", (wood[0], shade(wood[1], 0.8), shade(wood[2], 0.8), 0.2))
    boards = max(2, round(h / 0.36))
    step = (h - 0.08) / boards
    for i in range(boards + 1):
        kit.box((0, d / 2, 0.06 + i * step), (w - 0.04, d - 0.01, 0.024), "shelf", wood)
    for i in range(boards):
        z, x = 0.072 + i * step, -w / 2 + 0.035
        if i == 0 and dice.chance(0.5):  # a drawer front below
            kit.box((0, d - 0.005, 0.06 + step / 2), (w - 0.05, 0.02, step - 0.03), "shelf", wood)
            kit.ball((0, d + 0.015, 0.06 + step / 2), (0.03, 0.03, 0.03), "shelf", ("plain", style.metal, style.metal, 1.0))
            continue
        while x < w / 2 - 0.2:
            room = w / 2 - 0.035 - x
            roll = dice.uniform()
            if roll < 0.68:
                span = min(room, dice.uniform(0.2, 0.55))
                book_row(kit, style, x, x + span, 0.03, z, step - 0.04, d - 0.09)
            elif roll < 0.88:
                span = min(room, 0.24)
                vessel(kit, style, x + span / 2, d * 0.55, z, min(1.0, (step - 0.03) / 0.34))
            else:
                span = min(room, 0.26)
                book_stack(kit, style, x + span / 2, d * 0.5, z, dice.integer(2, 4))
            x += span + 0.02


def cabinet(kit, style, w=1.2, d=0.42, h=0.8) -> float:
    """A sideboard or chest of drawers; returns the height of its top."""
    dice, wood = kit.dice, style.wood(dice_index := kit.dice.integer(0, 1))
    front = wood if dice.chance(0.5) else ("plain", style.accent(), style.wall, 1.0)
    legs(kit, w, d, 0.12, "shelf", style.wood(dice_index), round_=True, thick=0.04, inset=0.06)
    kit.box((0, d / 2, 0.12 + (h - 0.12) / 2), (w, d, h - 0.12), "shelf", wood)
    columns, rows = (round(w / 0.5), 1) if dice.chance(0.4) else (max(1, round(w / 0.6)), 3)
    cw, rh = w / columns, (h - 0.16) / rows
    for i in range(columns):
        for j in range(rows):
            x, z = -w / 2 + (i + 0.5) * cw, 0.14 + (j + 0.5) * rh
            kit.box((x, d + 0.004, z), (cw - 0.025, 0.02, rh - 0.02), "shelf", front, casts=False)
            kit.box((x, d + 0.025, z + rh * 0.2), (min(0.12, cw * 0.3), 0.018, 0.018), "shelf", ("plain", style.metal, style.metal, 1.0), casts=False)
    return h


def table(kit, style, w, d, h, *, low=False) -> None:
    """Centred on the frame's origin."""
    dice, wood = kit.dice, style.wood(0)
    if low and dice.chance(0.4):
        kit.cone((0, 0, h - 0.02), (w, w if w == d else d, 0.04), "table", wood)
        kit.cone((0, 0, h / 2), (0.09, 0.09, h - 0.04), "table", wood)
        kit.cone((0, 0, 0.015), (w * 0.5, d * 0.5, 0.03), "table", wood)
        return
    kit.box((0, 0, h - 0.02), (w, d, 0.04), "table", wood)
    legs(kit, w, d, h - 0.04, "table", wood, y0=-d / 2, inset=0.06, thick=0.055, round_=dice.chance(0.4))
    if dice.chance(0.6):
        kit.box((0, 0, h - 0.075), (w - 0.14, d - 0.14, 0.07), "table", wood)
    elif low:
        kit.box((0, 0, h * 0.35), (w - 0.1, d - 0.1, 0.02), "table", wood)


def floor_lamp(kit, style) -> None:
    """Centred on the frame's origin."""
    dice, metal, h = kit.dice, ("plain", style.metal, style.metal, 1.0), kit.dice.uniform(1.4, 1.7)
    kit.cone((0, 0, 0.015), (0.3, 0.3, 0.03), "lamp", metal, gloss=0.4)
    kit.cone((0, 0, h / 2), (0.035, 0.035, h), "lamp", metal, gloss=0.4)
    cream = rgb(dice.pick(("fbe6bd", "f6d9a8", "fdf0d5")))
    kit.cone((0, 0, h), (0.44, 0.44, 0.32), "lamp", ("fabric", cream, shade(cream, 0.9), 0.02), taper=0.65, casts=False, glow=0.9)
    kit.lamp(0, 0, h - 0.05, 1.0)


def table_lamp(kit, style, x, y, z) -> None:
    dice, body = kit.dice, style.accent()
    h = dice.uniform(0.2, 0.3)
    kit.cone((x, y, z + 0.01), (0.15, 0.15, 0.02), "lamp", ("plain", body, body, 1.0))
    kit.ball((x, y, z + h * 0.45), (0.15, 0.15, h * 0.9), "lamp", ("plain", body, body, 1.0), gloss=0.4)
    cream = rgb("fbe6bd")
    kit.cone((x, y, z + h + 0.1), (0.3, 0.3, 0.22), "lamp", ("fabric", cream, shade(cream, 0.9), 0.02), taper=0.6, casts=False, glow=0.9)
    kit.lamp(x, y, z + h + 0.08, 0.4)


def on_top(kit, style, x0, x1, y, z, *, lamp=False, n=2) -> None:
    """Things on a table or cabinet, spread over x0..x1 without touching."""
    dice = kit.dice
    slots = max(1, int((x1 - x0) / 0.3))
    order = sorted(range(slots), key=lambda _: dice.uniform())
    for i, slot in enumerate(order[: n + int(lamp)]):
        x = x0 + (slot + 0.5) * (x1 - x0) / slots
        if lamp and i == 0:
            table_lamp(kit, style, x, y, z)
        elif dice.chance(0.3):
            top = book_stack(kit, style, x, y, z, dice.integer(2, 5))
            if dice.chance(0.5):
                vessel(kit, style, x, y, top, 0.8)
        elif dice.chance(0.2):
            with kit.at(x, y, z):
                plant(kit, style, 0.4)
        else:
            vessel(kit, style, x, y, z, dice.uniform(1.0, 1.4))


def picture(kit, style, x, z, w, h) -> None:
    """Hangs on the wall y = 0, its centre at (x, z)."""
    dice = kit.dice
    frame = dice.pick((style.wood(0), ("plain", rgb("1f1f20"), rgb("1f1f20"), 1.0), ("plain", rgb("c9a452"), rgb("c9a452"), 1.0), ("plain", style.white, style.white, 1.0)))
    kit.box((x, 0.012, z), (w, 0.024, h), "picture", frame)
    kit.box((x, 0.0135, z), (w - 0.05, 0.027, h - 0.05), "picture", ("plain", style.white, style.white, 1.0), casts=False)
    a, b = style.accent(), shade(style.accent(), 1.2)
    kit.box((x, 0.015, z), (w - 0.05 - 0.16 * min(w, h), 0.03, h - 0.05 - 0.16 * min(w, h)), "picture", ("painting", a, b, dice.uniform(0.05, 0.25)), casts=False)
