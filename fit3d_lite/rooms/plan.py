"""What is known about one room: its size and style, what stands where, and which places are still free."""

from __future__ import annotations

from typing import NamedTuple

from .builder import Kit, Look, Rng, Style
from .light import Lights, Window
from .shapes import Primitives

TURNS = ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0))  # wall k has its inside along local +y
FLOOR, SILL = 0.0, 0.85  # how tall may be what stands before a door or a corner block, and what stands before a window


class Span(NamedTuple):
    """A stretch of a wall in use, metres from its left corner."""

    start: float
    end: float
    height: float  # nothing taller may stand here; of a piece of furniture its own height


class Plan:
    """Everything about one room that does not depend on the cameras. `build.build` fills it."""

    def __init__(self, seed: int) -> None:
        rng = self.rng = Rng(seed, 11)
        self.seed = seed
        self.length, self.width, self.height = rng.uniform(4.0, 5.8), rng.uniform(3.6, 4.8), rng.uniform(2.45, 2.85)
        self.style, self.kit = Style(rng), Kit(rng)
        self.papers: list[Look] = []  # of the four walls
        self.floor_color: tuple[float, ...] = ()
        self.windows: list[Window] = []
        self.taken: list[tuple[float, float, float, float]] = []  # floor in use: x0, y0, x1, y1
        self.spans: list[list[Span]] = [[], [], [], []]  # of each wall
        self.focus: list[tuple[float, float, float]] = []  # what is worth looking at
        self.pieces: list[tuple[int, int]] = []  # first and last-plus-one primitive of each piece of furniture
        self.lights: Lights | None = None
        self.prims: Primitives | None = None

    def frame(self, wall: int):
        """Frame with its origin in the left corner of a wall, x along it, y into the room."""
        corner = ((0, 0), (self.length, 0), (self.length, self.width), (0, self.width))[wall]
        return self.kit.at(*corner, turn=TURNS[wall])

    def run(self, wall: int) -> float:
        return self.length if wall % 2 == 0 else self.width

    def use_wall(self, wall: int, start: float, end: float, height: float) -> None:
        self.spans[wall].append(Span(start, end, height))

    def beside(self, wall: int, start: float, end: float) -> list[Span]:
        """The stretches in use that reach between start and end."""
        return [span for span in self.spans[wall] if start < span.end and end > span.start]

    def take(self, x0, y0, x1, y1, grow=0.0) -> None:
        self.taken.append((min(x0, x1) - grow, min(y0, y1) - grow, max(x0, x1) + grow, max(y0, y1) + grow))

    def free(self, x0, y0, x1, y1) -> bool:
        x0, y0, x1, y1 = min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)
        if x0 < 0 or y0 < 0 or x1 > self.length or y1 > self.width:
            return False
        return all(x1 <= a or x0 >= c or y1 <= b or y0 >= d for a, b, c, d in self.taken)

    def against_wall(self, w, d, tall, make, *, front=0.45) -> bool:
        """Find a stretch of wall for a piece of w x d x tall with free floor in front, and make it there."""
        for _ in range(40):
            k = self.rng.integer(0, 3)
            run = self.run(k)
            if run < w + 0.1:
                continue
            x = self.rng.uniform(w / 2 + 0.04, run - w / 2 - 0.04)
            if self.rng.chance(0.35):  # into a corner
                x = self.rng.pick((w / 2 + 0.04, run - w / 2 - 0.04))
            beside = self.beside(k, x - w / 2, x + w / 2)
            if any(tall > span.height for span in beside):
                continue
            back = 0.14 if beside else 0.025
            with self.frame(k):
                (ax, ay, _), (bx, by, _) = (self.kit.world(x - w / 2, 0, 0), self.kit.world(x + w / 2, d + back + front, 0))
                if not self.free(ax, ay, bx, by):
                    continue
                bx, by, _ = self.kit.world(x + w / 2, d + back, 0)
                self.take(ax, ay, bx, by, 0.03)
                self.use_wall(k, x - w / 2, x + w / 2, tall)
                self.focus.append(self.kit.world(x, d / 2, min(0.9, tall * 0.55)))
                with self.kit.at(x, back):
                    self._piece(make)
                return True
        return False

    def on_floor(self, w, d, make, *, tries=40) -> bool:
        """Find free floor for a free-standing piece of w x d with a gap around it, and make it there."""
        for _ in range(tries):
            x = self.rng.uniform(0.1 + w / 2, self.length - 0.1 - w / 2)
            y = self.rng.uniform(0.1 + d / 2, self.width - 0.1 - d / 2)
            if self.free(x - w / 2 - 0.05, y - d / 2 - 0.05, x + w / 2 + 0.05, y + d / 2 + 0.05):
                self.take(x - w / 2, y - d / 2, x + w / 2, y + d / 2)
                with self.kit.at(x, y):
                    self._piece(make)
                return True
        return False

    def _piece(self, make) -> None:
        first = len(self.kit.made)
        make()
        self.pieces.append((first, len(self.kit.made)))
