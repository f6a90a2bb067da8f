"""Procedural rooms, the embedded data set: a seed gives a furnished room, its photos, depths and labels, the same bits on
every machine.

Read make.py first. How a room is put together: builder.py (the tools), plan.py (what is known about one), walls.py,
furniture.py, things.py, build.py (all of it in order). How it is seen: shapes.py, raycast.py (its loops: numba_rays.py),
patterns.py, light.py, photo.py.

Letters: N primitives, T tiles of R rays, P points or pairs, V views, H W pixels.
"""

from .make import CLASSES, SEEDS, room

__all__ = ["CLASSES", "SEEDS", "room"]
