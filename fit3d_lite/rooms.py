"""Procedural rooms: the embedded data set of the course. A seed gives a furnished room, its photos, depths and labels.

`room(seed)` needs no file and no network. The room depends on the seed alone; a camera depends on the seed, the split
and its number, so the first 8 of 24 views are the 8 views one gets when asking for 8.
"""
from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from . import furniture as f
from .camera import Camera
from .furniture import CLASSES, Dice, Kit, Style, rgb, shade
from .lighting import Lights, Window, shoot
from .raycast import Primitives, nearest
from .scene import Scene

__all__ = ["CLASSES", "room"]

SPLITS = ("train", "holdout")
GOOD = 4.599  # the best score of a camera, 4 * 0.45 + 1.2 + 1.6, less a rounding
RAYS_AT_ONCE = 110_000  # per thread; bounds the memory
TURNS = ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0))  # wall k has its inside along local +y


def room(
    seed: int = 0,
    views: int = 24,
    size: int | tuple[int, int] = 224,
    split: str = "train",
    device: str | torch.device | None = None,
    shadows: bool = True,
) -> Scene:
    """A furnished room seen from `views` places.

    Args:
        seed: which room; a non-negative integer.
        views: number of photos.
        size: pixels, one number for squares or (height, width).
        split: "train", or "holdout" for other cameras in the same room.
        device: where to trace the rays; the result stays there. The bits do not depend on it.
        shadows: False skips shadow rays and is about twice as fast.

    Returns a Scene: images [V, 3, H, W] in multiples of 1/255, depths [V, H, W] in metres (z-depth, multiples of
    0.1 mm), labels [V, H, W] numbering `CLASSES`. Raises ValueError for a negative seed, views < 1, a side under
    8 pixels or an unknown split.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if seed < 0 or views < 1:
        raise ValueError(f"A room needs a seed of at least 0 and at least 1 view, got seed={seed} and views={views}.")
    if min(height, width) < 8:
        raise ValueError(f"A photo needs at least 8 pixels a side, got {height} x {width}.")
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}.")
    device = torch.device(device or "cpu")
    threads = torch.get_num_threads()
    # A ray takes hundreds of small operations: whole views side by side beat threads inside each operation.
    torch.set_num_threads(1)
    try:
        plan = Plan(seed)
        cameras, eyes = plan.cameras(split, views, height, width)
        prims, eyes = plan.prims.to(device), eyes.to(device)
        workers = threads if device.type == "cpu" else 1
        step = max(1, min(RAYS_AT_ONCE // (height * width), -(-views // workers)))

        def part(start: int) -> tuple[Tensor, ...]:
            directions = torch.stack([camera.rays(device)[1] for camera in cameras[start : start + step]])
            return shoot(prims, plan.lights, eyes[start : start + step], directions, shadows)

        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            parts = list(pool.map(part, range(0, views, step)))
    finally:
        torch.set_num_threads(threads)
    photos, depths, labels = (torch.cat(maps) for maps in zip(*parts))
    photos = torch.floor(photos * 255.0 + 0.5) * (1.0 / 255.0)
    depths = torch.floor(depths * 1e4 + 0.5) * 1e-4
    return Scene(photos.permute(0, 3, 1, 2).contiguous(), cameras, depths, labels, CLASSES, f"room {seed} ({split})")


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
        self._shell()
        if dice.chance(0.4):
            self._corner()
        self._openings()
        self._furnish()
        self._hang()
        self._ceiling_lamp()
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

    def _frame(self, wall: int):
        """Frame with its origin in the left corner of a wall, x along it, y into the room."""
        corner = ((0, 0), (self.length, 0), (self.length, self.width), (0, self.width))[wall]
        return self.kit.at(*corner, turn=TURNS[wall])

    def _run(self, wall: int) -> float:
        return self.length if wall % 2 == 0 else self.width

    def _shell(self) -> None:
        dice, kit, style = self.dice, self.kit, self.style
        l, w, h, t = self.length, self.width, self.height, 0.2
        kind = dice.pick(("planks", "planks", "parquet", "tiles"))
        a, b = style.woods[1]
        if kind == "tiles":
            a = rgb(dice.pick(("cfc6b8", "b9b4ab", "c98f6b", "d8d5cd")))
            look = ("tiles", a, shade(a, 0.55), dice.uniform(0.25, 0.5))
        else:
            look = (kind, a, b, dice.uniform(0.1, 0.16) if kind == "planks" else dice.uniform(0.35, 0.55))
        self.floor_color = a
        kit.box((l / 2, w / 2, -t / 2), (l + 2 * t, w + 2 * t, t), "floor", look, casts=False, gloss=0.15)
        kit.box((l / 2, w / 2, h + t / 2), (l + 2 * t, w + 2 * t, t), "ceiling", ("plain", style.white, style.white, 1.0), casts=False)
        base = ("plain", style.wall, style.wall, 1.0)
        papers = [base] * 4
        roll, wall = dice.uniform(), dice.integer(0, 3)
        pale = shade(style.wall, 0.8)
        if roll < 0.35:
            kind = dice.pick(("stripes", "diamonds", "dots", "zigzag"))
            papers[wall] = (kind, style.wall, tuple(0.6 * p + 0.4 * c for p, c in zip(pale, style.accents[0])), dice.uniform(0.16, 0.34))
        elif roll < 0.5:
            brick = rgb(dice.pick(("a8553a", "b7745a", "d8d0c6")))
            papers[wall] = ("brick", brick, rgb("c9c1b4"), 0.075)
        elif roll < 0.8:
            color = style.accents[dice.integer(0, 1)]
            papers[wall] = ("plain", color, color, 1.0)
        for k in range(4):
            run = self._run(k)
            self.papers = papers
            with self._frame(k):
                kit.box((run / 2, -t / 2, h / 2), (run, t, h + 2 * t), "wall", papers[k], casts=False)
                kit.box((run / 2, 0.008, 0.045), (run, 0.016, 0.09), "wall", ("plain", style.white, style.white, 1.0), casts=False)

    def _corner(self) -> None:
        """A block in one corner makes the room L-shaped."""
        k, along, deep = self.dice.integer(0, 3), self.dice.uniform(0.5, 1.5), self.dice.uniform(0.4, 0.9)
        with self._frame(k):
            self.kit.box((along / 2, deep / 2, self.height / 2), (along, deep, self.height + 0.1), "wall", self.papers[k])
            trim = ("plain", self.style.white, self.style.white, 1.0)
            self.kit.box((along / 2, deep / 2, 0.045), (along + 0.032, deep + 0.032, 0.09), "wall", trim, casts=False)
            x, y, _ = self.kit.world(along, deep, 0)
            self._take(self.kit.x, self.kit.y, x, y, 0.03)
        left = self._run((k + 3) % 4)
        self.spans[k].append((0.0, along + 0.03, 0.0))
        self.spans[(k + 3) % 4].append((left - deep - 0.03, left, 0.0))

    def _openings(self) -> None:
        dice, kit, style = self.dice, self.kit, self.style
        first = dice.integer(0, 3)
        for k in [first] + ([(first + dice.pick((1, 3))) % 4] if dice.chance(0.55) else []):
            run = self._run(k)
            w, h = dice.uniform(1.2, min(2.2, run - 1.6)), dice.uniform(1.15, 1.5)
            z = dice.uniform(0.85, 0.95)
            h = min(h, self.height - z - 0.25)
            z += h / 2
            places = [dice.uniform(w / 2 + 0.5, run - w / 2 - 0.5) for _ in range(12)]
            places = [x for x in places if all(x + w / 2 + 0.4 < a or x - w / 2 - 0.4 > b for a, b, _ in self.spans[k])]
            if not places:
                continue
            x = places[0]
            self.spans[k].append((x - w / 2 - 0.35, x + w / 2 + 0.35, 0.85))
            with self._frame(k):
                self._window(x, z, w, h)
        while True:
            k = dice.integer(0, 3)
            run, x = self._run(k), 0.0
            x = dice.uniform(0.7, run - 0.7)
            if all(x + 0.6 < s[0] or x - 0.6 > s[1] for s in self.spans[k]):
                break
        self.spans[k].append((x - 0.55, x + 0.55, 0.0))
        with self._frame(k):
            color = style.white if dice.chance(0.5) else style.woods[1][0]
            leaf = ("plain", color, color, 1.0) if color is style.white else style.wood(1)
            kit.box((x, 0.015, 1.02), (1.0, 0.03, 2.08), "door", ("plain", style.white, style.white, 1.0))
            kit.box((x, 0.02, 1.0), (0.86, 0.045, 2.0), "door", leaf, casts=False)
            for z, tall in ((0.5, 0.62), (1.4, 0.9)):
                kit.box((x, 0.024, z), (0.62, 0.048, tall), "door", (leaf[0], shade(leaf[1], 0.82), shade(leaf[2], 0.82), 1.0), casts=False)
                kit.box((x, 0.026, z), (0.56, 0.05, tall - 0.06), "door", leaf, casts=False)
            kit.ball((x + 0.36, 0.08, 1.0), (0.06, 0.06, 0.06), "door", ("plain", style.metal, style.metal, 1.0), gloss=0.6)
            world = kit.world(x, 0.0, 1.0), kit.world(x, 0.9, 1.0)
            self._take(world[0][0], world[0][1], world[1][0], world[1][1], 0.45)
            self.focus.append(world[0])

    def _take(self, x0, y0, x1, y1, grow=0.0) -> None:
        self.taken.append((min(x0, x1) - grow, min(y0, y1) - grow, max(x0, x1) + grow, max(y0, y1) + grow))

    def _window(self, x, z, w, h) -> None:
        dice, kit, style = self.dice, self.kit, self.style
        white = ("plain", style.white, style.white, 1.0)
        blue, green = rgb(dice.pick(("6fa8dc", "8fbce0", "a9c6de"))), rgb(dice.pick(("4d7a3a", "6b8f47", "3f6b45")))
        kit.box((x, 0.005, z), (w, 0.02, h), "window", ("outside", blue, green, dice.uniform(0.5, 1.5)), casts=False, glow=1.9)
        for dx in (-w / 2, w / 2):
            kit.box((x + dx, 0.03, z), (0.07, 0.06, h + 0.07), "window", white)
        for dz in (-h / 2, h / 2):
            kit.box((x, 0.03, z + dz), (w + 0.07, 0.06, 0.07), "window", white)
        for i in range(1, n := 2 if w < 1.7 else 3):
            kit.box((x - w / 2 + i * w / n, 0.025, z), (0.04, 0.045, h), "window", white)
        if dice.chance(0.4):
            kit.box((x, 0.025, z + h * 0.17), (w, 0.04, 0.03), "window", white)
        kit.box((x, 0.09, z - h / 2 - 0.05), (w + 0.2, 0.18, 0.035), "window", white)
        if dice.chance(0.75):
            cloth, top, low = style.cloth(), min(z + h / 2 + 0.16, self.height - 0.04), dice.pick((0.06, z - h / 2 - 0.1))
            cloth = (cloth[0], shade(cloth[1], 1.1), cloth[2], cloth[3])
            kit.box((x, 0.1, top), (w + 0.75, 0.025, 0.025), "window", ("plain", style.metal, style.metal, 1.0))
            for side in (-1, 1):
                for i in range(4):
                    kit.cone((x + side * (w / 2 + 0.29 - i * 0.085), 0.1 + 0.012 * (i % 2), (top + low) / 2), (0.1, 0.075, top - low), "window", cloth)
        wx, wy, wz = kit.world(x, 0.0, z)
        self.windows.append(Window((wx, wy, wz), (-kit.sin, kit.cos), w, h))
        self.focus.append((wx, wy, wz - 0.3))

    def _free(self, x0, y0, x1, y1) -> bool:
        if x0 < 0 or y0 < 0 or x1 > self.length or y1 > self.width:
            return False
        return all(x1 <= a or x0 >= c or y1 <= b or y0 >= d for a, b, c, d in self.taken)

    def _against_wall(self, w, d, tall, build, *, front=0.45, tries=40, spare=0.04) -> bool:
        """Find a wall stretch for a piece of w x d x tall with free floor in front, and build it there."""
        for _ in range(tries):
            k = self.dice.integer(0, 3)
            run = self._run(k)
            if run < w + 0.1:
                continue
            x = self.dice.uniform(w / 2 + spare, run - w / 2 - spare)
            if self.dice.chance(0.35):  # into a corner
                x = self.dice.pick((w / 2 + spare, run - w / 2 - spare))
            if any(x - w / 2 < b and x + w / 2 > a and tall > limit for a, b, limit in self.spans[k]):
                continue
            with self._frame(k):
                back = 0.14 if any(x - w / 2 < b and x + w / 2 > a for a, b, _ in self.spans[k]) else 0.025
                (ax, ay, _), (bx, by, _) = self.kit.world(x - w / 2, 0, 0), self.kit.world(x + w / 2, d + back + front, 0)
                if not self._free(min(ax, bx), min(ay, by), max(ax, bx), max(ay, by)):
                    continue
                cx, cy, _ = self.kit.world(x + w / 2, d + back, 0)
                self._take(ax, ay, cx, cy, 0.03)
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
                x, y = self.dice.uniform(0.1 + w / 2, self.length - 0.1 - w / 2), self.dice.uniform(0.1 + d / 2, self.width - 0.1 - d / 2)
            else:
                x, y = near[0] + self.dice.uniform(-0.25, 0.25), near[1] + self.dice.uniform(-0.25, 0.25)
            if self._free(x - w / 2 - gap, y - d / 2 - gap, x + w / 2 + gap, y + d / 2 + gap):
                self._take(x - w / 2, y - d / 2, x + w / 2, y + d / 2)
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
            f.on_top(kit, style, -w / 2 + 0.1, w / 2 - 0.1, 0.2, top, lamp=dice.chance(0.5), n=3)

        self._against_wall(w, 0.46, 0.84, sideboard)
        if dice.chance(0.5):
            self._against_wall(0.8, 0.32, 1.9, lambda: f.bookcase(kit, style, 0.8, h=dice.uniform(1.0, 1.8)))
        if dice.chance(0.8):
            self._on_floor(0.45, 0.45, lambda: f.floor_lamp(kit, style), near=None)
        for _ in range(dice.integer(1, 3)):
            h = dice.uniform(0.7, 1.6)
            wide = 0.4 * h + 0.3

            def pot(h=h, wide=wide):
                with kit.at(0, wide / 2):
                    f.plant(kit, style, h)

            self._against_wall(wide, wide, 0.8, pot, front=0.0)

    def _dining(self) -> None:
        dice, kit, style = self.dice, self.kit, self.style
        low = dice.chance(0.35)
        w, d, h = (dice.uniform(0.8, 1.1), dice.uniform(0.55, 0.7), 0.42) if low else (dice.uniform(0.9, 1.4), dice.uniform(0.75, 0.9), 0.74)
        place = {}

        def build():
            f.table(kit, style, w, d, h, low=low)
            f.on_top(kit, style, -w / 2 + 0.1, w / 2 - 0.1, 0.0, h, n=3)
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
            rw, rd = min(w + dice.uniform(0.9, 1.4), 2 * min(x, self.length - x) - 0.2), min(d + dice.uniform(0.9, 1.5), 2 * min(y, self.width - y) - 0.2)
            look = ("rug", style.accent(), rgb(dice.pick(("efe3cc", "e3d2b4", "2b2d38"))), dice.uniform(0.12, 0.25))
            kit.box((x, y, 0.006), (rw, rd, 0.012), "rug", look, casts=False)

    def _desk(self) -> None:
        dice, kit, style = self.dice, self.kit, self.style
        w = dice.uniform(1.0, 1.4)

        def build():
            with kit.at(0, 0.32):
                f.table(kit, style, w, 0.6, 0.74)
            f.on_top(kit, style, -w / 2 + 0.1, w / 2 - 0.1, 0.2, 0.74, lamp=True, n=2)
            with kit.at(dice.uniform(-0.1, 0.1), 0.82, 0, (-1.0, 0.0)):
                f.chair(kit, style)

        self._against_wall(w, 1.1, 0.84, build)

    def _hang(self) -> None:
        dice, kit = self.dice, self.kit
        for k in range(4):
            run = self._run(k)
            for _ in range(6):
                w, h = dice.uniform(0.45, 1.0), dice.uniform(0.45, 0.85)
                x, z = dice.uniform(w / 2 + 0.15, run - w / 2 - 0.15), dice.uniform(1.55, 1.7)
                blocked = any(x - w / 2 - 0.08 < b and x + w / 2 + 0.08 > a and limit in (0.0, 0.85) or
                              x - w / 2 < b and x + w / 2 > a and limit > 1.0 for a, b, limit in self.spans[k])  # fmt: skip
                if not blocked:
                    self.spans[k].append((x - w / 2, x + w / 2, 3.0))
                    with self._frame(k):
                        f.picture(kit, self.style, x, z, w, h)

    def _ceiling_lamp(self) -> None:
        dice, kit, style = self.dice, self.kit, self.style
        drop = dice.uniform(0.35, 0.7)
        with kit.at(self.length / 2 + dice.uniform(-0.4, 0.4), self.width / 2 + dice.uniform(-0.3, 0.3), self.height - drop):
            metal = ("plain", style.metal, style.metal, 1.0)
            kit.cone((0, 0, drop / 2), (0.015, 0.015, drop), "lamp", metal, casts=False)
            color = rgb("fdf0d5") if dice.chance(0.6) else style.accent()
            wide = dice.uniform(0.32, 0.5)
            if dice.chance(0.5):
                kit.ball((0, 0, 0), (wide, wide, wide * 0.8), "lamp", ("plain", color, color, 1.0), casts=False, glow=0.8)
            else:
                kit.cone((0, 0, 0), (wide, wide, wide * 0.6), "lamp", ("fabric", color, shade(color, 0.9), 0.02), taper=0.5, casts=False, glow=0.8)
            kit.lamp(0, 0, -0.05, 1.4)

    def cameras(self, split: str, views: int, height: int, width: int) -> tuple[list[Camera], Tensor]:
        """Cameras and their eyes [V, 3]: people standing on free floor, looking at furniture."""
        dice = [Dice(self.seed, 23 + SPLITS.index(split), i) for i in range(views)]
        best: list[tuple[float, tuple]] = [(-1.0, ())] * views
        waiting = list(range(views))
        for _ in range(6):  # two tries a round; a camera that has found a good place is not asked again
            tries = [(i, self._look(dice[i])) for i in waiting for _ in range(2)]
            for (i, pose), score in zip(tries, self._judge([pose for _, pose in tries])):
                if score > best[i][0] and best[i][0] < GOOD:
                    best[i] = score, pose
            waiting = [i for i in waiting if best[i][0] < GOOD]
            if not waiting:
                break
        poses = [pose for _, pose in best]
        cameras = [Camera.look_at(eye, target, fov_x=fov, width=width, height=height) for eye, target, fov in poses]
        return cameras, torch.tensor([eye for eye, _, _ in poses], dtype=torch.float32)

    def _judge(self, poses: list[tuple]) -> list[float]:
        """How well cameras see, from 8 x 8 rays each: nothing close, a free centre, some depth. At most GOOD."""
        probes = [Camera.look_at(eye, target, fov_x=fov, width=8, height=8) for eye, target, fov in poses]
        # Four tiles of 4 x 4 rays a view: smaller tiles meet fewer primitives.
        rays = torch.stack([p.rays()[1] for p in probes]).reshape(-1, 2, 4, 2, 4, 3).transpose(2, 3).reshape(-1, 16, 3)
        eye = torch.tensor([eye for eye, _, _ in poses], dtype=torch.float32).repeat_interleave(4, 0)
        depth = nearest(self.prims, eye, rays)[0].reshape(len(poses), 4, 16)
        center = torch.stack([depth[:, 0, 15], depth[:, 1, 12], depth[:, 2, 3], depth[:, 3, 0]], -1).amin(-1)
        depth = depth.flatten(1)
        middle, least = depth.sort(-1).values[:, 31], depth.amin(-1)
        return (least.clamp(max=0.45) * 4.0 + center.clamp(max=1.2) + middle.clamp(max=1.6)).tolist()

    def _look(self, dice: Dice) -> tuple[tuple, tuple, float]:
        """Eye, target and field of view: from free floor towards a piece of furniture."""
        eye = tuple(float(np.float32(c)) for c in self._stand(dice))
        x, y, z = dice.pick(self.focus)
        mix = dice.uniform(0.0, 0.35)  # between the thing and the middle of the room
        x, y = x + mix * (self.length / 2 - x), y + mix * (self.width / 2 - y)
        return eye, (x, y, z + dice.uniform(-0.25, 0.35)), dice.uniform(65.0, 75.0)

    def _stand(self, dice: Dice) -> tuple[float, float, float]:
        best, most = None, -1.0
        for _ in range(60):
            x, y = dice.uniform(0.45, self.length - 0.45), dice.uniform(0.45, self.width - 0.45)
            gap = min(max(a - x, x - c, b - y, y - d) for a, b, c, d in self.taken)
            if gap > most:
                best, most = (x, y), gap
            if gap > 0.3:
                break
        return best[0], best[1], dice.uniform(0.95, 1.85)
