"""A seed becomes a room: first the empty one, then furniture in free places with things on it, pictures, and the lights.

Every choice comes from one stream of random numbers, so the order of the lines below is part of the data set.
"""

from __future__ import annotations

import math

from . import furniture, things, walls
from .builder import Look, random_turn, rgb
from .light import Lights
from .plan import FLOOR, SILL, Plan


def build(seed: int) -> Plan:
    """The room of a seed, complete."""
    plan = Plan(seed)
    walls.shell(plan)
    if plan.rng.chance(0.4):
        walls.corner(plan)
    walls.openings(plan)
    furnish(plan)
    hang_pictures(plan)
    walls.ceiling_lamp(plan)
    plan.lights = lights(plan)
    plan.prims = plan.kit.primitives()
    return plan


def furnish(plan: Plan) -> None:
    rng, kit, style = plan.rng, plan.kit, plan.style
    has_bed = rng.chance(0.62)
    has_sofa = rng.chance(0.75) or not has_bed
    if has_bed:
        w = rng.pick((0.95, 1.4, 1.6))
        plan.against_wall(w + 0.06, 2.08, 0.8, lambda: furniture.bed(kit, style, w))
    if has_sofa:
        w = rng.uniform(1.6, 2.3)
        plan.against_wall(w, 0.92, 0.8, lambda: furniture.sofa(kit, style, w), front=0.6)
    w = rng.uniform(0.8, 1.5)
    plan.against_wall(w, 0.32, 1.95, lambda: furniture.bookcase(kit, style, w, h=rng.uniform(1.7, 2.1)))
    dining(plan)
    if rng.chance(0.75):
        desk(plan)
    sideboard(plan)
    if rng.chance(0.5):
        plan.against_wall(0.8, 0.32, 1.9, lambda: furniture.bookcase(kit, style, 0.8, h=rng.uniform(1.0, 1.8)))
    if rng.chance(0.8):
        plan.on_floor(0.45, 0.45, lambda: things.floor_lamp(kit, style))
    for _ in range(rng.integer(1, 3)):
        pot(plan)


def dining(plan: Plan) -> None:
    """A table to sit at with chairs around it, or a low one; mostly on a rug."""
    rng, kit, style = plan.rng, plan.kit, plan.style
    low = rng.chance(0.35)
    if low:
        w, d, h = rng.uniform(0.8, 1.1), rng.uniform(0.55, 0.7), 0.42
    else:
        w, d, h = rng.uniform(0.9, 1.4), rng.uniform(0.75, 0.9), 0.74
    place = {}

    def make():
        furniture.table(kit, style, w, d, h, low=low)
        things.on_top(kit, style, -w / 2 + 0.1, w / 2 - 0.1, 0.0, h, n=3)
        place["at"] = kit.world(0, 0, 0)
        for side in () if low else (-1, 1):
            for x in (-w / 4, w / 4) if w > 1.15 else (0.0,):
                if rng.chance(0.8):
                    cos, sin = random_turn(rng, 0.35)
                    with kit.at(x + rng.uniform(-0.04, 0.04), side * (d / 2 + 0.14), 0, (cos * -side, sin)):
                        furniture.chair(kit, style)

    around = 0.0 if low else 0.85
    if not plan.on_floor(w, d + around, make, tries=120):
        return
    x, y, _ = place["at"]
    plan.focus.append((x, y, 0.6))
    if rng.chance(0.8):
        rug_w = min(w + rng.uniform(0.9, 1.4), 2 * min(x, plan.length - x) - 0.2)
        rug_d = min(d + rng.uniform(0.9, 1.5), 2 * min(y, plan.width - y) - 0.2)
        look = Look("rug", style.accent(), rgb(rng.pick(("efe3cc", "e3d2b4", "2b2d38"))), rng.uniform(0.12, 0.25))
        kit.box((x, y, 0.006), (rug_w, rug_d, 0.012), "rug", look, casts=False)


def desk(plan: Plan) -> None:
    rng, kit, style = plan.rng, plan.kit, plan.style
    w = rng.uniform(1.0, 1.4)

    def make():
        with kit.at(0, 0.32):
            furniture.table(kit, style, w, 0.6, 0.74)
        things.on_top(kit, style, -w / 2 + 0.1, w / 2 - 0.1, 0.2, 0.74, lamp=True, n=2)
        with kit.at(rng.uniform(-0.1, 0.1), 0.82, 0, (-1.0, 0.0)):
            furniture.chair(kit, style)

    plan.against_wall(w, 1.1, 0.84, make)


def sideboard(plan: Plan) -> None:
    rng, kit, style = plan.rng, plan.kit, plan.style
    w = rng.uniform(0.8, 1.6)

    def make():
        top = furniture.cabinet(kit, style, w, 0.42, rng.uniform(0.68, 0.9))
        things.on_top(kit, style, -w / 2 + 0.1, w / 2 - 0.1, 0.2, top, lamp=rng.chance(0.5), n=3)

    plan.against_wall(w, 0.46, 0.84, make)


def pot(plan: Plan) -> None:
    kit, height = plan.kit, plan.rng.uniform(0.7, 1.6)
    wide = 0.4 * height + 0.3

    def make():
        with kit.at(0, wide / 2):
            things.plant(kit, plan.style, height)

    plan.against_wall(wide, wide, 0.8, make, front=0.0)


def hang_pictures(plan: Plan) -> None:
    """Up to six a wall: beside doors and windows, and over what is not tall."""
    rng = plan.rng
    for k in range(4):
        run = plan.run(k)
        for _ in range(6):
            w, h = rng.uniform(0.45, 1.0), rng.uniform(0.45, 0.85)
            x, z = rng.uniform(w / 2 + 0.15, run - w / 2 - 0.15), rng.uniform(1.55, 1.7)
            openings = [s for s in plan.beside(k, x - w / 2 - 0.08, x + w / 2 + 0.08) if s.height in (FLOOR, SILL)]
            tall = [s for s in plan.beside(k, x - w / 2, x + w / 2) if s.height > 1.0]
            if not openings and not tall:
                plan.use_wall(k, x - w / 2, x + w / 2, 3.0)
                with plan.frame(k):
                    things.picture(plan.kit, plan.style, x, z, w, h)


def lights(plan: Plan) -> Lights:
    """Sky and sun through the windows, the lamps, and what the floor gives back."""
    rng = plan.rng
    sun = (rng.uniform(-1, 1), rng.uniform(-1, 1), rng.uniform(0.45, 0.9))
    if plan.windows and rng.chance(0.85):  # the sun stands in front of a window, not behind the house
        nx, ny = plan.windows[0].normal
        slant = rng.uniform(-0.7, 0.7)
        sun = (-nx - ny * slant, -ny + nx * slant, rng.uniform(0.45, 0.9))
    norm = math.sqrt(sum(c * c for c in sun))
    return Lights(
        size=(plan.length, plan.width, plan.height),
        windows=plan.windows,
        sun=tuple(c / norm for c in sun),
        sun_power=rng.uniform(2.0, 3.5) if rng.chance(0.8) else 0.0,
        sky_power=rng.uniform(1.1, 1.6),
        lamps=plan.kit.lamps[:4],
        bounce=tuple(0.45 + 0.8 * c for c in plan.floor_color),
    )
