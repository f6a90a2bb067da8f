"""The sparse points that structure from motion leaves beside the cameras, and where a scene came from.

Both travel with a Scene: ``scene.points`` starts Gaussians where there is no depth, ``scene.report`` says which photos
are in it and why others are not.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class ScenePoints:
    """N points in the world, each triangulated from several photos. ``points[mask]`` selects some of them.

    ``track_length`` and ``error`` are None where the file does not say, as for a plain .ply of points.
    """

    xyz: Tensor  # [N, 3] world units
    color: Tensor  # [N, 3] in 0..1
    track_length: Tensor | None = None  # [N] photos that see it, among all that were registered
    error: Tensor | None = None  # [N] mean reprojection error, pixels of the photos it was made from
    seen_by: Tensor | None = None  # [T, 2] int64 rows (point, view) over the views of the scene

    def __post_init__(self) -> None:
        count = len(self.xyz)
        for name, shape in {"xyz": (count, 3), "color": (count, 3), "track_length": (count,), "error": (count,)}.items():
            value = getattr(self, name)
            if value is not None and tuple(value.shape) != shape:
                raise ValueError(f"ScenePoints.{name} must be {list(shape)}, got {list(value.shape)}.")

    def __len__(self) -> int:
        return len(self.xyz)

    def __getitem__(self, index) -> ScenePoints:
        kept = torch.arange(len(self), device=self.xyz.device)[index]
        change = {f.name: getattr(self, f.name)[kept] for f in fields(self)[:4] if getattr(self, f.name) is not None}
        return replace(self, **change, seen_by=_renumbered(self.seen_by, 0, kept, len(self)))

    def sound(self, min_track: int = 3, max_error: float = 2.0) -> ScenePoints:
        """Those that at least ``min_track`` photos see and that lie at most ``max_error`` pixels off: two rays nearly
        always meet somewhere, the third says whether it was a point. Raises ValueError where fewer than two are left."""
        kept = torch.ones(len(self), dtype=torch.bool, device=self.xyz.device)
        if self.track_length is not None:
            kept &= self.track_length >= min_track
        if self.error is not None:
            kept &= self.error <= max_error
        if int(kept.sum()) < 2:
            raise ValueError(
                f"{int(kept.sum())} of {len(self)} sparse points are seen by {min_track} photos or more and at most "
                f"{max_error:g} pixels off: lower min_track or raise max_error."
            )
        return self[kept]

    def of_views(self, chosen: list[int], count: int) -> ScenePoints:
        """The same points, where only these of ``count`` views are left and are numbered anew."""
        return replace(self, seen_by=_renumbered(self.seen_by, 1, torch.as_tensor(chosen), count))

    def in_view(self, view: int) -> Tensor:  # [P] int64
        """Which points a view sees; empty where the file does not say."""
        return torch.empty(0, dtype=torch.int64) if self.seen_by is None else self.seen_by[self.seen_by[:, 1] == view, 0]


def _renumbered(pairs: Tensor | None, column: int, kept: Tensor, count: int) -> Tensor | None:
    if pairs is None:
        return None
    new = torch.full((count,), -1, dtype=torch.int64, device=pairs.device)
    new[kept.to(pairs.device)] = torch.arange(len(kept), device=pairs.device)
    pairs = pairs.clone()
    pairs[:, column] = new[pairs[:, column]]
    return pairs[pairs[:, column] >= 0]


@dataclass(frozen=True)
class Report:
    """What a reader did with the photos it found. ``print(scene.report)`` says it in a few lines."""

    source: str  # what was read, in words
    used: tuple[str, ...]  # V names of photos, in the order of the views
    skipped: dict[str, str]  # name: why it was left out
    unregistered: dict[str, str]  # name: why no camera is known for it
    agreement: str = ""  # how well the views agree, with the number
    units: str = "metres"  # or "unknown": the scene may be of any size
    notes: tuple[str, ...] = ()  # what was done to the photos: undistorted, cropped, turned

    def __str__(self) -> str:
        known = f"{len(self.used)} photos used, {len(self.skipped)} skipped, {len(self.unregistered)} not registered"
        lines = [f"{self.source}: {known}; units: {self.units}", self.agreement, *self.notes]
        for names in (self.skipped, self.unregistered):
            lines += [f"  {name}: {why}" for name, why in list(names.items())[:5]]
            lines += [f"  and {len(names) - 5} more"] if len(names) > 5 else []
        return "\n".join(line for line in lines if line)
