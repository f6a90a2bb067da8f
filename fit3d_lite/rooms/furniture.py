"""Furniture from boxes, balls and cones.

A piece stands on the floor with its back at y = 0 of its own frame, or around the frame's origin where it says so. x runs
along the wall, y away from it, z up; metres. `Kit.at` puts the frame somewhere in the room.
"""

from __future__ import annotations

from .builder import Look, plain, random_turn, shade
from .things import book_row, book_stack, cushion, vessel


def legs(kit, w, d, h, label, look, *, inset=0.04, thick=0.045, y0=0.0, round_=False) -> None:
    for x in (-w / 2 + inset, w / 2 - inset):
        for y in (y0 + inset, y0 + d - inset):
            (kit.cone if round_ else kit.box)((x, y, h / 2), (thick, thick, h), label, look)


def bed(kit, style, w=1.5, d=2.05) -> None:
    rng = kit.rng
    wood = style.wood(1)
    head = rng.uniform(0.85, 1.15)
    if rng.chance(0.5):
        kit.box((0, 0.04, head / 2), (w + 0.06, 0.08, head), "bed", wood)
    else:
        kit.box((0, 0.05, head / 2 + 0.1), (w + 0.04, 0.1, head - 0.2), "bed", style.plain_cloth())
    kit.box((0, d / 2, 0.2), (w, d, 0.18), "bed", wood)
    legs(kit, w, d, 0.12, "bed", wood, thick=0.07)
    linen = Look("fabric", style.white, shade(style.white, 0.85), 0.01)
    kit.box((0, d / 2 + 0.03, 0.39), (w - 0.06, d - 0.14, 0.2), "bed", linen)
    kit.box((0, d * 0.62, 0.44), (w + 0.05, d * 0.72, 0.16), "bed", style.cloth())
    kit.box((0, d * 0.28, 0.47), (w + 0.055, 0.22, 0.12), "bed", linen)
    if rng.chance(0.6):
        kit.box((0, d * 0.86, 0.45), (w + 0.07, d * 0.2, 0.17), "bed", style.cloth())
    pillows = 2 if w > 1.2 else 1
    for i in range(pillows):
        x = (i - (pillows - 1) / 2) * w * 0.46
        look = Look("fabric", style.white, shade(style.white, 0.8), 0.012)
        wide = w * 0.42 if pillows == 2 else w * 0.6
        kit.ball((x, 0.34, 0.56), (wide, 0.42, 0.2), "bed", look, turn=random_turn(rng, 0.15))
        if rng.chance(0.7):
            cushion(kit, x + rng.uniform(-0.05, 0.05), 0.42, 0.53, 0.36, style, "bed")


def sofa(kit, style, w=2.0, d=0.9) -> None:
    rng, look = kit.rng, style.plain_cloth()
    arm, low = 0.17, 0.13
    legs(kit, w, d, low, "sofa", style.wood(1), round_=True, thick=0.05, inset=0.09)
    kit.box((0, d / 2, low + 0.12), (w, d, 0.24), "sofa", look)
    kit.box((0, 0.11, 0.48), (w - 0.1, 0.2, 0.68), "sofa", look)
    for side in (-1, 1):
        kit.box((side * (w - arm) / 2, d / 2 + 0.02, 0.4), (arm, d - 0.04, 0.42), "sofa", look)
        if rng.chance(0.7):
            kit.ball((side * (w - arm) / 2, d / 2 + 0.02, 0.61), (arm, d - 0.04, 0.1), "sofa", look)
    seats = 3 if w > 2.1 else 2
    each = (w - 2 * arm) / seats
    for i in range(seats):
        x = (i - (seats - 1) / 2) * each
        kit.box((x, d / 2 + 0.1, 0.43), (each - 0.015, d - 0.22, 0.13), "sofa", look)
        kit.ball((x, d / 2 + 0.1, 0.49), (each - 0.03, d - 0.25, 0.08), "sofa", look)
        kit.box((x, 0.27, 0.68), (each - 0.025, 0.16, 0.4), "sofa", look)
    for side in (-1, 1):
        if rng.chance(0.8):
            cushion(kit, side * (w / 2 - arm - 0.24), 0.44, 0.5, rng.uniform(0.36, 0.44), style, "sofa")
    if rng.chance(0.5):
        cushion(kit, rng.uniform(-0.2, 0.2), 0.44, 0.5, 0.38, style, "sofa")


def chair(kit, style) -> None:
    """Its front looks along +y; centered on the frame's origin."""
    rng = kit.rng
    frame = style.wood(0)
    w, d, seat = 0.44, 0.44, 0.46
    legs(kit, w, d, seat, "chair", frame, y0=-d / 2, thick=0.038, inset=0.03, round_=True)
    kit.box((0, 0, seat), (w, d, 0.035), "chair", frame)
    if rng.chance(0.6):
        kit.ball((0, 0.01, seat + 0.025), (w - 0.02, d - 0.02, 0.07), "chair", style.cloth())
    for x in (-w / 2 + 0.03, w / 2 - 0.03):
        kit.box((x, -d / 2 + 0.02, seat + 0.22), (0.036, 0.036, 0.46), "chair", frame)
    if rng.chance(0.5):
        for z in (0.16, 0.29, 0.42):
            kit.box((0, -d / 2 + 0.02, seat + z), (w - 0.03, 0.022, 0.065), "chair", frame)
    else:
        kit.box((0, -d / 2 + 0.02, seat + 0.33), (w - 0.02, 0.03, 0.24), "chair", frame)


def bookcase(kit, style, w=0.9, d=0.32, h=1.9) -> None:
    rng, wood = kit.rng, style.wood(0)
    for x in (-w / 2 + 0.012, w / 2 - 0.012):
        kit.box((x, d / 2, h / 2), (0.024, d, h), "shelf", wood)
    kit.box((0, 0.008, h / 2), (w, 0.016, h), "shelf", Look("wood", shade(wood.a, 0.8), shade(wood.b, 0.8), 0.2))
    boards = max(2, round(h / 0.36))
    step = (h - 0.08) / boards
    for i in range(boards + 1):
        kit.box((0, d / 2, 0.06 + i * step), (w - 0.04, d - 0.01, 0.024), "shelf", wood)
    for i in range(boards):
        z, x = 0.072 + i * step, -w / 2 + 0.035
        if i == 0 and rng.chance(0.5):  # a drawer front below
            kit.box((0, d - 0.005, 0.06 + step / 2), (w - 0.05, 0.02, step - 0.03), "shelf", wood)
            kit.ball((0, d + 0.015, 0.06 + step / 2), (0.03, 0.03, 0.03), "shelf", plain(style.metal))
            continue
        while x < w / 2 - 0.2:
            room = w / 2 - 0.035 - x
            roll = rng.uniform()
            if roll < 0.68:
                span = min(room, rng.uniform(0.2, 0.55))
                book_row(kit, style, x, x + span, 0.03, z, step - 0.04, d - 0.09)
            elif roll < 0.88:
                span = min(room, 0.24)
                vessel(kit, style, x + span / 2, d * 0.55, z, min(1.0, (step - 0.03) / 0.34))
            else:
                span = min(room, 0.26)
                book_stack(kit, style, x + span / 2, d * 0.5, z, rng.integer(2, 4))
            x += span + 0.02


def cabinet(kit, style, w=1.2, d=0.42, h=0.8) -> float:
    """A sideboard or chest of drawers; returns the height of its top."""
    rng, which = kit.rng, kit.rng.integer(0, 1)
    wood = style.wood(which)
    front = wood if rng.chance(0.5) else Look("plain", style.accent(), style.wall, 1.0)
    legs(kit, w, d, 0.12, "shelf", style.wood(which), round_=True, thick=0.04, inset=0.06)
    kit.box((0, d / 2, 0.12 + (h - 0.12) / 2), (w, d, h - 0.12), "shelf", wood)
    columns, rows = (round(w / 0.5), 1) if rng.chance(0.4) else (max(1, round(w / 0.6)), 3)
    cw, rh = w / columns, (h - 0.16) / rows
    for i in range(columns):
        for j in range(rows):
            x, z = -w / 2 + (i + 0.5) * cw, 0.14 + (j + 0.5) * rh
            kit.box((x, d + 0.004, z), (cw - 0.025, 0.02, rh - 0.02), "shelf", front, casts=False)
            handle = (min(0.12, cw * 0.3), 0.018, 0.018)
            kit.box((x, d + 0.025, z + rh * 0.2), handle, "shelf", plain(style.metal), casts=False)
    return h


def table(kit, style, w, d, h, *, low=False) -> None:
    """Centered on the frame's origin."""
    rng, wood = kit.rng, style.wood(0)
    if low and rng.chance(0.4):
        kit.cone((0, 0, h - 0.02), (w, d, 0.04), "table", wood)
        kit.cone((0, 0, h / 2), (0.09, 0.09, h - 0.04), "table", wood)
        kit.cone((0, 0, 0.015), (w * 0.5, d * 0.5, 0.03), "table", wood)
        return
    kit.box((0, 0, h - 0.02), (w, d, 0.04), "table", wood)
    legs(kit, w, d, h - 0.04, "table", wood, y0=-d / 2, inset=0.06, thick=0.055, round_=rng.chance(0.4))
    if rng.chance(0.6):
        kit.box((0, 0, h - 0.075), (w - 0.14, d - 0.14, 0.07), "table", wood)
    elif low:
        kit.box((0, 0, h * 0.35), (w - 0.1, d - 0.1, 0.02), "table", wood)
