"""The empty room: floor, walls and ceiling, a block in a corner, windows with curtains, a door, a ceiling lamp."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .builder import rgb, shade
from .light import Window

if TYPE_CHECKING:
    from .plan import Plan


def shell(plan: Plan) -> None:
    dice, kit, style = plan.dice, plan.kit, plan.style
    l, w, h, t = plan.length, plan.width, plan.height, 0.2
    kind = dice.pick(("planks", "planks", "parquet", "tiles"))
    a, b = style.woods[1]
    if kind == "tiles":
        a = rgb(dice.pick(("cfc6b8", "b9b4ab", "c98f6b", "d8d5cd")))
        look = ("tiles", a, shade(a, 0.55), dice.uniform(0.25, 0.5))
    else:
        look = (kind, a, b, dice.uniform(0.1, 0.16) if kind == "planks" else dice.uniform(0.35, 0.55))
    plan.floor_color = a
    kit.box((l / 2, w / 2, -t / 2), (l + 2 * t, w + 2 * t, t), "floor", look, casts=False)
    kit.box(
        (l / 2, w / 2, h + t / 2),
        (l + 2 * t, w + 2 * t, t),
        "ceiling",
        ("plain", style.white, style.white, 1.0),
        casts=False,
    )
    base = ("plain", style.wall, style.wall, 1.0)
    papers = [base] * 4
    roll, wall = dice.uniform(), dice.integer(0, 3)
    pale = shade(style.wall, 0.8)
    if roll < 0.35:
        kind = dice.pick(("stripes", "diamonds", "dots", "zigzag"))
        papers[wall] = (
            kind,
            style.wall,
            tuple(0.6 * p + 0.4 * c for p, c in zip(pale, style.accents[0])),
            dice.uniform(0.16, 0.34),
        )
    elif roll < 0.5:
        brick = rgb(dice.pick(("a8553a", "b7745a", "d8d0c6")))
        papers[wall] = ("brick", brick, rgb("c9c1b4"), 0.075)
    elif roll < 0.8:
        color = style.accents[dice.integer(0, 1)]
        papers[wall] = ("plain", color, color, 1.0)
    for k in range(4):
        run = plan.run(k)
        plan.papers = papers
        with plan.frame(k):
            kit.box((run / 2, -t / 2, h / 2), (run, t, h + 2 * t), "wall", papers[k], casts=False)
            kit.box(
                (run / 2, 0.008, 0.045),
                (run, 0.016, 0.09),
                "wall",
                ("plain", style.white, style.white, 1.0),
                casts=False,
            )


def corner(plan: Plan) -> None:
    """A block in one corner makes the room L-shaped."""
    k, along, deep = plan.dice.integer(0, 3), plan.dice.uniform(0.5, 1.5), plan.dice.uniform(0.4, 0.9)
    with plan.frame(k):
        plan.kit.box((along / 2, deep / 2, plan.height / 2), (along, deep, plan.height + 0.1), "wall", plan.papers[k])
        trim = ("plain", plan.style.white, plan.style.white, 1.0)
        plan.kit.box((along / 2, deep / 2, 0.045), (along + 0.032, deep + 0.032, 0.09), "wall", trim, casts=False)
        x, y, _ = plan.kit.world(along, deep, 0)
        plan.take(plan.kit.x, plan.kit.y, x, y, 0.03)
    left = plan.run((k + 3) % 4)
    plan.spans[k].append((0.0, along + 0.03, 0.0))
    plan.spans[(k + 3) % 4].append((left - deep - 0.03, left, 0.0))


def openings(plan: Plan) -> None:
    dice, kit, style = plan.dice, plan.kit, plan.style
    first = dice.integer(0, 3)
    walls = [first] + ([(first + dice.pick((1, 3))) % 4] if dice.chance(0.55) else [])
    for number, k in enumerate(walls + [(first + 2) % 4, (first + 1) % 4, (first + 3) % 4]):
        if number >= len(walls) and plan.windows:
            break  # the other walls are only asked while there is no window at all
        run = plan.run(k)
        w, h = dice.uniform(1.2, min(2.2, run - 1.6)), dice.uniform(1.15, 1.5)
        z = dice.uniform(0.85, 0.95)
        h = min(h, plan.height - z - 0.25)
        z += h / 2
        places = [dice.uniform(w / 2 + 0.5, run - w / 2 - 0.5) for _ in range(12)]
        places = [x for x in places if all(x + w / 2 + 0.4 < a or x - w / 2 - 0.4 > b for a, b, _ in plan.spans[k])]
        if not places:
            continue
        x = places[0]
        plan.spans[k].append((x - w / 2 - 0.35, x + w / 2 + 0.35, 0.85))
        with plan.frame(k):
            window(plan, x, z, w, h)
    while True:
        k = dice.integer(0, 3)
        run, x = plan.run(k), 0.0
        x = dice.uniform(0.7, run - 0.7)
        if all(x + 0.6 < s[0] or x - 0.6 > s[1] for s in plan.spans[k]):
            break
    plan.spans[k].append((x - 0.55, x + 0.55, 0.0))
    with plan.frame(k):
        color = style.white if dice.chance(0.5) else style.woods[1][0]
        leaf = ("plain", color, color, 1.0) if color is style.white else style.wood(1)
        kit.box((x, 0.015, 1.02), (1.0, 0.03, 2.08), "door", ("plain", style.white, style.white, 1.0))
        kit.box((x, 0.02, 1.0), (0.86, 0.045, 2.0), "door", leaf, casts=False)
        for z, tall in ((0.5, 0.62), (1.4, 0.9)):
            kit.box(
                (x, 0.024, z),
                (0.62, 0.048, tall),
                "door",
                (leaf[0], shade(leaf[1], 0.82), shade(leaf[2], 0.82), 1.0),
                casts=False,
            )
            kit.box((x, 0.026, z), (0.56, 0.05, tall - 0.06), "door", leaf, casts=False)
        kit.ball((x + 0.36, 0.08, 1.0), (0.06, 0.06, 0.06), "door", ("plain", style.metal, style.metal, 1.0))
        world = kit.world(x, 0.0, 1.0), kit.world(x, 0.9, 1.0)
        plan.take(world[0][0], world[0][1], world[1][0], world[1][1], 0.45)
        plan.focus.append(world[0])


def window(plan: Plan, x, z, w, h) -> None:
    dice, kit, style = plan.dice, plan.kit, plan.style
    white = ("plain", style.white, style.white, 1.0)
    blue, green = rgb(dice.pick(("6fa8dc", "8fbce0", "a9c6de"))), rgb(dice.pick(("4d7a3a", "6b8f47", "3f6b45")))
    kit.box(
        (x, 0.005, z),
        (w, 0.02, h),
        "window",
        ("outside", blue, green, dice.uniform(0.5, 1.5)),
        casts=False,
        glow=1.9,
    )
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
        cloth, top, low = (
            style.cloth(),
            min(z + h / 2 + 0.16, plan.height - 0.04),
            dice.pick((0.06, z - h / 2 - 0.1)),
        )
        cloth = (cloth[0], shade(cloth[1], 1.1), cloth[2], cloth[3])
        kit.box((x, 0.1, top), (w + 0.75, 0.025, 0.025), "window", ("plain", style.metal, style.metal, 1.0))
        for side in (-1, 1):
            for i in range(4):
                kit.cone(
                    (x + side * (w / 2 + 0.29 - i * 0.085), 0.1 + 0.012 * (i % 2), (top + low) / 2),
                    (0.1, 0.075, top - low),
                    "window",
                    cloth,
                )
    wx, wy, wz = kit.world(x, 0.0, z)
    plan.windows.append(Window((wx, wy, wz), (-kit.sin, kit.cos), w, h))
    plan.focus.append((wx, wy, wz - 0.3))


def ceiling_lamp(plan: Plan) -> None:
    dice, kit, style = plan.dice, plan.kit, plan.style
    drop = dice.uniform(0.35, 0.7)
    with kit.at(
        plan.length / 2 + dice.uniform(-0.4, 0.4), plan.width / 2 + dice.uniform(-0.3, 0.3), plan.height - drop
    ):
        metal = ("plain", style.metal, style.metal, 1.0)
        kit.cone((0, 0, drop / 2), (0.015, 0.015, drop), "lamp", metal, casts=False)
        color = rgb("fdf0d5") if dice.chance(0.6) else style.accent()
        wide = dice.uniform(0.32, 0.5)
        if dice.chance(0.5):
            kit.ball((0, 0, 0), (wide, wide, wide * 0.8), "lamp", ("plain", color, color, 1.0), casts=False, glow=0.8)
        else:
            kit.cone(
                (0, 0, 0),
                (wide, wide, wide * 0.6),
                "lamp",
                ("fabric", color, shade(color, 0.9), 0.02),
                taper=0.5,
                casts=False,
                glow=0.8,
            )
        kit.lamp(0, 0, -0.05, 1.4)
