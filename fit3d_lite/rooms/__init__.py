"""Procedural rooms, the embedded data set: a seed gives a furnished room, its photos, depths and labels, the same bits on
every machine.

Read make.py first, then how a room is put together: plan.py (what is known about one), build.py, walls.py, furniture.py,
things.py, all with the tools of builder.py; and how it is seen: raycast.py, patterns.py, light.py.

Letters: N primitives, T tiles of R rays, P pairs of a tile and a primitive, V views, H W pixels.
"""

from .make import CLASSES, SEEDS, room

__all__ = ["CLASSES", "SEEDS", "room"]
