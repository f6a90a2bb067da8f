"""The empty room: floor, walls and ceiling, a block in a corner, windows with curtains, a door, a ceiling lamp."""

from __future__ import annotations

from .builder import Look, plain, rgb, shade
from .light import Window
from .plan import FLOOR, SILL, Plan


def shell(plan: Plan) -> None:
    """Floor, ceiling, four walls in paint, paper or brick, and the skirting along them."""
    rng, kit, style = plan.rng, plan.kit, plan.style
    l, w, h, t = plan.length, plan.width, plan.height, 0.2
    pattern = rng.pick(("planks", "planks", "parquet", "tiles"))
    a, b = style.woods[1]
    if pattern == "tiles":
        a = rgb(rng.pick(("cfc6b8", "b9b4ab", "c98f6b", "d8d5cd")))
        look = Look("tiles", a, shade(a, 0.55), rng.uniform(0.25, 0.5))
    else:
        look = Look(pattern, a, b, rng.uniform(0.1, 0.16) if pattern == "planks" else rng.uniform(0.35, 0.55))
    plan.floor_color = a
    outside = (l + 2 * t, w + 2 * t, t)
    kit.box((l / 2, w / 2, -t / 2), outside, "floor", look, casts=False)
    kit.box((l / 2, w / 2, h + t / 2), outside, "ceiling", plain(style.white), casts=False)
    plan.papers = [plain(style.wall)] * 4
    roll, wall = rng.uniform(), rng.integer(0, 3)
    if roll < 0.35:
        pattern = rng.pick(("stripes", "diamonds", "dots", "zigzag"))
        tint = tuple(0.6 * p + 0.4 * c for p, c in zip(shade(style.wall, 0.8), style.accents[0]))
        plan.papers[wall] = Look(pattern, style.wall, tint, rng.uniform(0.16, 0.34))
    elif roll < 0.5:
        plan.papers[wall] = Look("brick", rgb(rng.pick(("a8553a", "b7745a", "d8d0c6"))), rgb("c9c1b4"), 0.075)
    elif roll < 0.8:
        plan.papers[wall] = plain(style.accents[rng.integer(0, 1)])
    for k in range(4):
        run = plan.run(k)
        with plan.frame(k):
            kit.box((run / 2, -t / 2, h / 2), (run, t, h + 2 * t), "wall", plan.papers[k], casts=False)
            kit.box((run / 2, 0.008, 0.045), (run, 0.016, 0.09), "wall", plain(style.white), casts=False)


def corner(plan: Plan) -> None:
    """A block in one corner makes the room L-shaped."""
    k, along, deep = plan.rng.integer(0, 3), plan.rng.uniform(0.5, 1.5), plan.rng.uniform(0.4, 0.9)
    with plan.frame(k):
        plan.kit.box((along / 2, deep / 2, plan.height / 2), (along, deep, plan.height + 0.1), "wall", plan.papers[k])
        trim = plain(plan.style.white)
        plan.kit.box((along / 2, deep / 2, 0.045), (along + 0.032, deep + 0.032, 0.09), "wall", trim, casts=False)
        x, y, _ = plan.kit.world(along, deep, 0)
        plan.take(plan.kit.x, plan.kit.y, x, y, 0.03)
    left = plan.run((k + 3) % 4)
    plan.use_wall(k, 0.0, along + 0.03, FLOOR)
    plan.use_wall((k + 3) % 4, left - deep - 0.03, left, FLOOR)


def openings(plan: Plan) -> None:
    """One or two windows, and a door."""
    rng = plan.rng
    first = rng.integer(0, 3)
    chosen = [first] + ([(first + rng.pick((1, 3))) % 4] if rng.chance(0.55) else [])
    for number, k in enumerate(chosen + [(first + 2) % 4, (first + 1) % 4, (first + 3) % 4]):
        if number >= len(chosen) and plan.windows:
            break  # the other walls are only asked while there is no window at all
        run = plan.run(k)
        w, h = rng.uniform(1.2, min(2.2, run - 1.6)), rng.uniform(1.15, 1.5)
        z = rng.uniform(0.85, 0.95)
        h = min(h, plan.height - z - 0.25)
        z += h / 2
        places = [rng.uniform(w / 2 + 0.5, run - w / 2 - 0.5) for _ in range(12)]
        places = [x for x in places if not plan.beside(k, x - w / 2 - 0.4, x + w / 2 + 0.4)]
        if not places:
            continue
        x = places[0]
        plan.use_wall(k, x - w / 2 - 0.35, x + w / 2 + 0.35, SILL)
        with plan.frame(k):
            window(plan, x, z, w, h)
    while True:
        k = rng.integer(0, 3)
        x = rng.uniform(0.7, plan.run(k) - 0.7)
        if not plan.beside(k, x - 0.6, x + 0.6):
            break
    plan.use_wall(k, x - 0.55, x + 0.55, FLOOR)
    with plan.frame(k):
        door(plan, x)


def door(plan: Plan, x) -> None:
    """A leaf with two panels in a white frame; the floor before it stays free."""
    kit, style = plan.kit, plan.style
    leaf = plain(style.white) if plan.rng.chance(0.5) else style.wood(1)
    panel = Look(leaf.pattern, shade(leaf.a, 0.82), shade(leaf.b, 0.82), 1.0)
    kit.box((x, 0.015, 1.02), (1.0, 0.03, 2.08), "door", plain(style.white))
    kit.box((x, 0.02, 1.0), (0.86, 0.045, 2.0), "door", leaf, casts=False)
    for z, tall in ((0.5, 0.62), (1.4, 0.9)):
        kit.box((x, 0.024, z), (0.62, 0.048, tall), "door", panel, casts=False)
        kit.box((x, 0.026, z), (0.56, 0.05, tall - 0.06), "door", leaf, casts=False)
    kit.ball((x + 0.36, 0.08, 1.0), (0.06, 0.06, 0.06), "door", plain(style.metal))
    (x0, y0, z0), (x1, y1, _) = kit.world(x, 0.0, 1.0), kit.world(x, 0.9, 1.0)
    plan.take(x0, y0, x1, y1, 0.45)
    plan.focus.append((x0, y0, z0))


def window(plan: Plan, x, z, w, h) -> None:
    """A pane with what is outside painted on it, in a frame with bars, a sill and mostly curtains."""
    rng, kit, style = plan.rng, plan.kit, plan.style
    white = plain(style.white)
    blue, green = rgb(rng.pick(("6fa8dc", "8fbce0", "a9c6de"))), rgb(rng.pick(("4d7a3a", "6b8f47", "3f6b45")))
    outside = Look("outside", blue, green, rng.uniform(0.5, 1.5))
    kit.box((x, 0.005, z), (w, 0.02, h), "window", outside, casts=False, glow=1.9)
    for dx in (-w / 2, w / 2):
        kit.box((x + dx, 0.03, z), (0.07, 0.06, h + 0.07), "window", white)
    for dz in (-h / 2, h / 2):
        kit.box((x, 0.03, z + dz), (w + 0.07, 0.06, 0.07), "window", white)
    for i in range(1, n := 2 if w < 1.7 else 3):
        kit.box((x - w / 2 + i * w / n, 0.025, z), (0.04, 0.045, h), "window", white)
    if rng.chance(0.4):
        kit.box((x, 0.025, z + h * 0.17), (w, 0.04, 0.03), "window", white)
    kit.box((x, 0.09, z - h / 2 - 0.05), (w + 0.2, 0.18, 0.035), "window", white)
    if rng.chance(0.75):
        cloth = style.cloth()
        cloth = cloth._replace(a=shade(cloth.a, 1.1))
        top, low = min(z + h / 2 + 0.16, plan.height - 0.04), rng.pick((0.06, z - h / 2 - 0.1))
        kit.box((x, 0.1, top), (w + 0.75, 0.025, 0.025), "window", plain(style.metal))
        for side in (-1, 1):
            for i in range(4):  # folds
                center = (x + side * (w / 2 + 0.29 - i * 0.085), 0.1 + 0.012 * (i % 2), (top + low) / 2)
                kit.cone(center, (0.1, 0.075, top - low), "window", cloth)
    wx, wy, wz = kit.world(x, 0.0, z)
    plan.windows.append(Window((wx, wy, wz), (-kit.sin, kit.cos), w, h))
    plan.focus.append((wx, wy, wz - 0.3))


def ceiling_lamp(plan: Plan) -> None:
    rng, kit, style = plan.rng, plan.kit, plan.style
    drop = rng.uniform(0.35, 0.7)
    x, y = plan.length / 2 + rng.uniform(-0.4, 0.4), plan.width / 2 + rng.uniform(-0.3, 0.3)
    with kit.at(x, y, plan.height - drop):
        kit.cone((0, 0, drop / 2), (0.015, 0.015, drop), "lamp", plain(style.metal), casts=False)
        color = rgb("fdf0d5") if rng.chance(0.6) else style.accent()
        wide = rng.uniform(0.32, 0.5)
        if rng.chance(0.5):
            kit.ball((0, 0, 0), (wide, wide, wide * 0.8), "lamp", plain(color), casts=False, glow=0.8)
        else:
            cloth = Look("fabric", color, shade(color, 0.9), 0.02)
            kit.cone((0, 0, 0), (wide, wide, wide * 0.6), "lamp", cloth, taper=0.5, casts=False, glow=0.8)
        kit.lamp(0, 0, -0.05, 1.4)
