"""What makes a room lived in: books, bottles and bowls, plants, lamps, pictures, cushions.

Built like furniture.py's pieces, in the frame a `Kit` is in; most take the place (x, y, z) they stand on.
"""

from __future__ import annotations

from .builder import Look, plain, random_turn, rgb, shade


def cushion(kit, x, y, z, size, style, label) -> None:
    kit.ball((x, y, z + size * 0.42), (size, size * 0.36, size * 0.9), label, style.cloth(), turn=random_turn(kit.rng, 0.5))


def book_row(kit, style, x0, x1, y, z, height, depth) -> None:
    """Spines of many colors from x0 to x1, their front at y + depth."""
    rng, x = kit.rng, x0
    inks = ("23395b", "7b2d26", "e8dcc4", "2e4a3f", "d8973c", "1d1d1f", "c8553d")
    colors = [*style.accents, *map(rgb, inks)]
    while True:
        w = rng.uniform(0.02, 0.06)
        if x + w > x1:
            return
        h = height * rng.uniform(0.68, 0.95)
        base = shade(rng.pick(colors), rng.uniform(0.7, 1.2))
        mark = rgb(rng.pick(("f3e9d2", "d4af37", "f8f8f8", "1c1c1c")))
        deep = depth * rng.uniform(0.8, 1.0)
        look = Look("spine", base, mark, 1.0)
        kit.box((x + w / 2, y + deep / 2, z + h / 2), (w - 0.002, deep, h), "books", look, casts=False)
        x += w


def book_stack(kit, style, x, y, z, n) -> float:
    rng = kit.rng
    for _ in range(n):
        thick = rng.uniform(0.02, 0.045)
        size = (rng.uniform(0.2, 0.28), rng.uniform(0.15, 0.2), thick)
        base = style.accent()
        kit.box((x, y, z + thick / 2), size, "books", plain(base), turn=random_turn(rng, 0.5))
        z += thick
    return z


def vessel(kit, style, x, y, z, size=1.0) -> None:
    """A bottle, cup, bowl, jug or vase about 0.1 to 0.3 m high."""
    rng, color = kit.rng, style.accent()
    if rng.chance(0.3):
        color = style.white
    look = plain(color)
    kind = rng.integer(0, 4)
    if kind == 0:
        r, h = 0.08 * size, 0.2 * size
        kit.cone((x, y, z + h / 2), (r, r, h), "vessel", look)
        kit.cone((x, y, z + h * 1.12), (r, r, h * 0.25), "vessel", look, taper=0.4)
        kit.cone((x, y, z + h * 1.4), (r * 0.4, r * 0.4, h * 0.4), "vessel", look)
    elif kind == 1:
        r = 0.09 * size
        kit.cone((x, y, z + 0.05 * size), (r, r, 0.1 * size), "vessel", look)
        kit.box((x + r * 0.6, y, z + 0.05 * size), (0.035 * size, 0.012, 0.055 * size), "vessel", look)
    elif kind == 2:
        r = 0.24 * size
        kit.cone((x, y, z + 0.01), (r * 0.5, r * 0.5, 0.02), "vessel", look)
        kit.ball((x, y, z + 0.06 * size), (r, r, 0.11 * size), "vessel", look)
        for k in range(3):
            fruit = rgb(rng.pick(("d8432f", "e3a32b", "7da33c", "e2772e")))
            px, py = x + (k - 1) * 0.065 * size, y + (k % 2 - 0.5) * 0.06 * size
            kit.ball((px, py, z + 0.115 * size), (0.075 * size,) * 3, "vessel", plain(fruit))
    else:
        r, h = 0.15 * size, 0.22 * size
        look = Look(rng.pick(("stripes", "zigzag", "plain", "dots")), color, style.white, 0.05)
        kit.ball((x, y, z + h * 0.45), (r, r, h * 0.9), "vessel", look)
        kit.cone((x, y, z + h * 0.95), (r * 0.5, r * 0.5, h * 0.3), "vessel", look)
        if kind == 4:
            flowers(kit, style, x, y, z + h)


def flowers(kit, style, x, y, z) -> None:
    rng, green, petal = kit.rng, rgb("4f7d3a"), style.accent()
    leaf, bloom = Look("leaf", green, shade(green, 0.5), 0.1), Look("leaf", petal, shade(petal, 1.5), 0.1)
    for _ in range(7):
        dx, dy, h = rng.uniform(-0.09, 0.09), rng.uniform(-0.09, 0.09), rng.uniform(0.1, 0.24)
        kit.cone((x + dx * 0.5, y + dy * 0.5, z + h / 2), (0.012, 0.012, h), "plant", leaf)
        kit.ball((x + dx, y + dy, z + h), (0.07, 0.07, 0.05), "plant", bloom)
        place = (x + dx * 1.4, y + dy * 1.4, z + h * 0.5)
        kit.ball(place, (0.09, 0.05, 0.03), "plant", leaf, turn=random_turn(rng, 3))


def plant(kit, style, height) -> None:
    """Pot and leaves; the pot stands on the frame's origin."""
    rng = kit.rng
    pot, r = style.accent() if rng.chance(0.5) else rgb("b4633f"), 0.13 + 0.11 * height
    kit.cone((0, 0, r * 0.55), (r * 0.8, r * 0.8, r * 1.1), "plant", plain(pot))
    kit.cone((0, 0, r * 1.1), (r * 0.95, r * 0.95, r * 0.2), "plant", plain(pot))
    green = rgb(rng.pick(("3d6b35", "56803c", "2f5f47", "6b8f47")))
    look = Look("leaf", green, shade(green, 0.45), 0.2)
    base, spread = r * 1.2, 0.16 * height + 0.06
    if rng.chance(0.5):  # a bush or small tree: leaf clusters around a stem
        bark = Look("wood", rgb("6b4a2f"), rgb("4a3220"), 0.05)
        kit.cone((0, 0, base + height * 0.25), (0.035, 0.035, height * 0.6), "plant", bark)
        for k in range(26):
            t = rng.uniform(0.25, 1.0)
            wide = spread * (1.15 - 0.6 * abs(t - 0.55))
            x, y = rng.uniform(-wide, wide), rng.uniform(-wide, wide)
            if k % 4 == 0:  # a branch from the stem, in two steps
                for u in (0.33, 0.66):
                    z = base + (t - 0.12 * (1 - u)) * (height - base)
                    kit.ball((x * u, y * u, z), (0.3 * abs(x) + 0.025, 0.3 * abs(y) + 0.025, 0.05), "plant", look)
            s = rng.uniform(0.10, 0.20) * (0.55 + 0.45 * height)
            size = (s, s * 0.6, s * rng.uniform(0.25, 0.6))
            kit.ball((x, y, base + t * (height - base)), size, "plant", look, turn=random_turn(rng, 3))
    else:  # upright blades
        for k in range(16):
            x, y = rng.uniform(-r * 0.35, r * 0.35), rng.uniform(-r * 0.35, r * 0.35)
            h = (height - base) * rng.uniform(0.55, 1.0)
            for j in range(3):
                u = (j + 0.5) / 3
                lean = 1.0 + 2.2 * u * u
                place, size = (x * lean, y * lean, base + h * u), (0.075 * (1.1 - 0.5 * u), 0.03, h * 0.46)
                kit.ball(place, size, "plant", look, turn=random_turn(rng, 3))


def floor_lamp(kit, style) -> None:
    """Centered on the frame's origin."""
    rng, metal, h = kit.rng, plain(style.metal), kit.rng.uniform(1.4, 1.7)
    kit.cone((0, 0, 0.015), (0.3, 0.3, 0.03), "lamp", metal)
    kit.cone((0, 0, h / 2), (0.035, 0.035, h), "lamp", metal)
    cream = rgb(rng.pick(("fbe6bd", "f6d9a8", "fdf0d5")))
    _lamp_shade(kit, (0, 0, h), (0.44, 0.44, 0.32), cream, taper=0.65)
    kit.lamp(0, 0, h - 0.05, 1.0)


def _lamp_shade(kit, center, size, color, taper) -> None:
    """A cone of cloth that lets the light through: it glows and casts no shadow."""
    cloth = Look("fabric", color, shade(color, 0.9), 0.02)
    kit.cone(center, size, "lamp", cloth, taper=taper, casts=False, glow=0.9)


def table_lamp(kit, style, x, y, z) -> None:
    rng, body = kit.rng, style.accent()
    h = rng.uniform(0.2, 0.3)
    kit.cone((x, y, z + 0.01), (0.15, 0.15, 0.02), "lamp", plain(body))
    kit.ball((x, y, z + h * 0.45), (0.15, 0.15, h * 0.9), "lamp", plain(body))
    cream = rgb("fbe6bd")
    _lamp_shade(kit, (x, y, z + h + 0.1), (0.3, 0.3, 0.22), cream, taper=0.6)
    kit.lamp(x, y, z + h + 0.08, 0.4)


def on_top(kit, style, x0, x1, y, z, *, lamp=False, n=2) -> None:
    """Things on a table or cabinet, spread over x0..x1 without touching."""
    rng = kit.rng
    slots = max(1, int((x1 - x0) / 0.3))
    order = sorted(range(slots), key=lambda _: rng.uniform())
    for i, slot in enumerate(order[: n + int(lamp)]):
        x = x0 + (slot + 0.5) * (x1 - x0) / slots
        if lamp and i == 0:
            table_lamp(kit, style, x, y, z)
        elif rng.chance(0.3):
            top = book_stack(kit, style, x, y, z, rng.integer(2, 5))
            if rng.chance(0.5):
                vessel(kit, style, x, y, top, 0.8)
        elif rng.chance(0.2):
            with kit.at(x, y, z):
                plant(kit, style, 0.4)
        else:
            vessel(kit, style, x, y, z, rng.uniform(1.0, 1.4))


def picture(kit, style, x, z, w, h) -> None:
    """Hangs on the wall y = 0, its center at (x, z)."""
    rng = kit.rng
    frame = rng.pick((style.wood(0), plain(rgb("1f1f20")), plain(rgb("c9a452")), plain(style.white)))
    kit.box((x, 0.012, z), (w, 0.024, h), "picture", frame)
    kit.box((x, 0.0135, z), (w - 0.05, 0.027, h - 0.05), "picture", plain(style.white), casts=False)
    rim = 0.16 * min(w, h)
    canvas = Look("painting", style.accent(), shade(style.accent(), 1.2), rng.uniform(0.05, 0.25))
    kit.box((x, 0.015, z), (w - 0.05 - rim, 0.03, h - 0.05 - rim), "picture", canvas, casts=False)
