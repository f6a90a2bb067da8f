"""One room without cameras: walls, openings, furniture in free places, lights."""

from __future__ import annotations

import math

from . import furniture as f
from . import things as small
from .builder import Dice, Kit, Style, rgb
from .light import Lights, Window
from .shapes import Primitives
from .walls import ceiling_lamp, corner, openings, shell

TURNS = ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0))  # wall k has its inside along local +y


class Plan:
    """Everything about one room that does not depend on the cameras: primitives, lights, free floor, points of interest."""

    def __init__(self, seed: int) -> None:
        dice = self.dice = Dice(seed, 11)
        self.seed = seed
        self.length, self.width, self.height = dice.uniform(4.0, 5.8), dice.uniform(3.6, 4.8), dice.uniform(2.45, 2.85)
        self.style, self.kit = Style(dice), Kit(dice)
        self.taken: list[tuple[float, float, float, float]] = []  # floor in use: x0, y0, x1, y1
        self.spans: list[list[tuple[float, float, float]]] = [[], [], [], []]  # along wall k: from, to, height in use
        self.focus: list[tuple[float, float, float]] = []
        self.windows: list[Window] = []
        self.pieces: list[tuple[int, int]] = []  # first and last-plus-one primitive of each piece of furniture
        shell(self)
        if dice.chance(0.4):
            corner(self)
        openings(self)
        self._furnish()
        self._hang()
        ceiling_lamp(self)
        sun = (dice.uniform(-1, 1), dice.uniform(-1, 1), dice.uniform(0.45, 0.9))
        if self.windows and dice.chance(0.85):  # the sun stands in front of a window, not behind the house
            nx, ny = self.windows[0].normal
            slant = dice.uniform(-0.7, 0.7)
            sun = (-nx - ny * slant, -ny + nx * slant, dice.uniform(0.45, 0.9))
        norm = math.sqrt(sum(c * c for c in sun))
        floor = self.floor_color
        lamps = self.kit.lamps[:4]
        self.lights = Lights(
            (self.length, self.width, self.height), self.windows, tuple(c / norm for c in sun),
            dice.uniform(2.0, 3.5) if dice.chance(0.8) else 0.0, dice.uniform(1.1, 1.6), lamps,
            tuple(0.45 + 0.8 * c for c in floor),
        )  # fmt: skip
        self.prims: Primitives = self.kit.primitives()

    def frame(self, wall: int):
        """Frame with its origin in the left corner of a wall, x along it, y into the room."""
        corner = ((0, 0), (self.length, 0), (self.length, self.width), (0, self.width))[wall]
        return self.kit.at(*corner, turn=TURNS[wall])

    def run(self, wall: int) -> float:
        return self.length if wall % 2 == 0 else self.width

    def take(self, x0, y0, x1, y1, grow=0.0) -> None:
        self.taken.append((min(x0, x1) - grow, min(y0, y1) - grow, max(x0, x1) + grow, max(y0, y1) + grow))

    def _free(self, x0, y0, x1, y1) -> bool:
        if x0 < 0 or y0 < 0 or x1 > self.length or y1 > self.width:
            return False
        return all(x1 <= a or x0 >= c or y1 <= b or y0 >= d for a, b, c, d in self.taken)

    def _against_wall(self, w, d, tall, build, *, front=0.45, tries=40, spare=0.04) -> bool:
        """Find a wall stretch for a piece of w x d x tall with free floor in front, and build it there."""
        for _ in range(tries):
            k = self.dice.integer(0, 3)
            run = self.run(k)
            if run < w + 0.1:
                continue
            x = self.dice.uniform(w / 2 + spare, run - w / 2 - spare)
            if self.dice.chance(0.35):  # into a corner
                x = self.dice.pick((w / 2 + spare, run - w / 2 - spare))
            if any(x - w / 2 < b and x + w / 2 > a and tall > limit for a, b, limit in self.spans[k]):
                continue
            with self.frame(k):
                back = 0.14 if any(x - w / 2 < b and x + w / 2 > a for a, b, _ in self.spans[k]) else 0.025
                (ax, ay, _), (bx, by, _) = (
                    self.kit.world(x - w / 2, 0, 0),
                    self.kit.world(x + w / 2, d + back + front, 0),
                )
                if not self._free(min(ax, bx), min(ay, by), max(ax, bx), max(ay, by)):
                    continue
                cx, cy, _ = self.kit.world(x + w / 2, d + back, 0)
                self.take(ax, ay, cx, cy, 0.03)
                self.spans[k].append((x - w / 2, x + w / 2, tall))
                self.focus.append(self.kit.world(x, d / 2, min(0.9, tall * 0.55)))
                with self.kit.at(x, back):
                    self._build(build)
                return True
        return False

    def _on_floor(self, w, d, build, *, near=None, tries=40, gap=0.05) -> bool:
        """Put a free-standing piece of w x d somewhere free, its centre near a place if one is given."""
        for _ in range(tries):
            if near is None:
                x, y = (
                    self.dice.uniform(0.1 + w / 2, self.length - 0.1 - w / 2),
                    self.dice.uniform(0.1 + d / 2, self.width - 0.1 - d / 2),
                )
            else:
                x, y = near[0] + self.dice.uniform(-0.25, 0.25), near[1] + self.dice.uniform(-0.25, 0.25)
            if self._free(x - w / 2 - gap, y - d / 2 - gap, x + w / 2 + gap, y + d / 2 + gap):
                self.take(x - w / 2, y - d / 2, x + w / 2, y + d / 2)
                with self.kit.at(x, y):
                    self._build(build)
                return True
        return False

    def _build(self, build) -> None:
        first = len(self.kit.rows)
        build()
        self.pieces.append((first, len(self.kit.rows)))

    def _furnish(self) -> None:
        dice, kit, style = self.dice, self.kit, self.style
        has_bed = dice.chance(0.62)
        has_sofa = dice.chance(0.75) or not has_bed
        if has_bed:
            w = dice.pick((0.95, 1.4, 1.6))
            self._against_wall(w + 0.06, 2.08, 0.8, lambda: f.bed(kit, style, w))
        if has_sofa:
            w = dice.uniform(1.6, 2.3)
            self._against_wall(w, 0.92, 0.8, lambda: f.sofa(kit, style, w), front=0.6)
        w = dice.uniform(0.8, 1.5)
        self._against_wall(w, 0.32, 1.95, lambda: f.bookcase(kit, style, w, h=dice.uniform(1.7, 2.1)))
        self._dining()
        if dice.chance(0.75):
            self._desk()

        w = dice.uniform(0.8, 1.6)

        def sideboard(w=w):
            top = f.cabinet(kit, style, w, 0.42, dice.uniform(0.68, 0.9))
            small.on_top(kit, style, -w / 2 + 0.1, w / 2 - 0.1, 0.2, top, lamp=dice.chance(0.5), n=3)

        self._against_wall(w, 0.46, 0.84, sideboard)
        if dice.chance(0.5):
            self._against_wall(0.8, 0.32, 1.9, lambda: f.bookcase(kit, style, 0.8, h=dice.uniform(1.0, 1.8)))
        if dice.chance(0.8):
            self._on_floor(0.45, 0.45, lambda: small.floor_lamp(kit, style), near=None)
        for _ in range(dice.integer(1, 3)):
            h = dice.uniform(0.7, 1.6)
            wide = 0.4 * h + 0.3

            def pot(h=h, wide=wide):
                with kit.at(0, wide / 2):
                    small.plant(kit, style, h)

            self._against_wall(wide, wide, 0.8, pot, front=0.0)

    def _dining(self) -> None:
        dice, kit, style = self.dice, self.kit, self.style
        low = dice.chance(0.35)
        w, d, h = (
            (dice.uniform(0.8, 1.1), dice.uniform(0.55, 0.7), 0.42)
            if low
            else (dice.uniform(0.9, 1.4), dice.uniform(0.75, 0.9), 0.74)
        )
        place = {}

        def build():
            f.table(kit, style, w, d, h, low=low)
            small.on_top(kit, style, -w / 2 + 0.1, w / 2 - 0.1, 0.0, h, n=3)
            place["at"] = kit.world(0, 0, 0)
            for side in (-1, 1):
                if low:
                    continue
                for x in (-w / 4, w / 4) if w > 1.15 else (0.0,):
                    if dice.chance(0.8):
                        c, s = f.turned(dice, 0.35)
                        with kit.at(x + dice.uniform(-0.04, 0.04), side * (d / 2 + 0.14), 0, (c * -side, s)):
                            f.chair(kit, style)

        around = 0.0 if low else 0.85
        if not self._on_floor(w, d + around, build, tries=120):
            return
        x, y, _ = place["at"]
        self.focus.append((x, y, 0.6))
        if dice.chance(0.8):
            rw, rd = (
                min(w + dice.uniform(0.9, 1.4), 2 * min(x, self.length - x) - 0.2),
                min(d + dice.uniform(0.9, 1.5), 2 * min(y, self.width - y) - 0.2),
            )
            look = ("rug", style.accent(), rgb(dice.pick(("efe3cc", "e3d2b4", "2b2d38"))), dice.uniform(0.12, 0.25))
            kit.box((x, y, 0.006), (rw, rd, 0.012), "rug", look, casts=False)

    def _desk(self) -> None:
        dice, kit, style = self.dice, self.kit, self.style
        w = dice.uniform(1.0, 1.4)

        def build():
            with kit.at(0, 0.32):
                f.table(kit, style, w, 0.6, 0.74)
            small.on_top(kit, style, -w / 2 + 0.1, w / 2 - 0.1, 0.2, 0.74, lamp=True, n=2)
            with kit.at(dice.uniform(-0.1, 0.1), 0.82, 0, (-1.0, 0.0)):
                f.chair(kit, style)

        self._against_wall(w, 1.1, 0.84, build)

    def _hang(self) -> None:
        dice, kit = self.dice, self.kit
        for k in range(4):
            run = self.run(k)
            for _ in range(6):
                w, h = dice.uniform(0.45, 1.0), dice.uniform(0.45, 0.85)
                x, z = dice.uniform(w / 2 + 0.15, run - w / 2 - 0.15), dice.uniform(1.55, 1.7)
                blocked = any(x - w / 2 - 0.08 < b and x + w / 2 + 0.08 > a and limit in (0.0, 0.85) or
                              x - w / 2 < b and x + w / 2 > a and limit > 1.0 for a, b, limit in self.spans[k])  # fmt: skip
                if not blocked:
                    self.spans[k].append((x - w / 2, x + w / 2, 3.0))
                    with self.frame(k):
                        small.picture(kit, self.style, x, z, w, h)
