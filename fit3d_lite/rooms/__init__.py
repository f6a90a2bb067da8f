"""Procedural rooms: the embedded data set."""

from .make import CLASSES, SEEDS, room

__all__ = ["CLASSES", "SEEDS", "room"]
