"""Do poses, K and depths of a capture belong together? Asked of the capture's own neighbours, before frames are chosen.

Chosen frames may lie so far apart that right poses agree on 2 % of the depths, and then nothing can be told. Photos
taken one after the other overlap. In a real office right poses agree there on 53 %, OpenGL axes on 21, inverse poses on
9, translations three times too large on 19, five times too small on 38, a K of photos of twice or half the size on 9
and 25.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..scenes.poses import agreement, conventions, explain_rigid
from .reading import read_depth

PAIRS = 12  # spread over the capture: 24 depth maps, read in a quarter of a second
SCALES = (1e-3, 0.01, 0.1, 0.2, 1 / 3, 0.5, 2, 3, 5, 10, 100, 1e3)
FEW = 4  # pairs; fewer agree better by chance with one hypothesis or another
HARDLY = 0.08  # below this under every hypothesis, neighbours share too little to tell


def judge_geometry(folder: Path, files: list[Path], poses: np.ndarray, K: np.ndarray, depth_scale: float) -> None:
    """Raise ValueError where another convention, unit or K fits the depths of neighbouring photos clearly better than
    what is given: 1.5 times the agreement and 15 percentage points more, 30 where there are few pairs. Warn where one
    fits better by 1.2 times and 8 points, and where nothing can be told.

    poses [V, 4, 4] are camera-to-world, K [3, 3] in pixels, the V depth files in ``depth_scale`` units to the metre.
    Frames with a lost pose or a damaged depth map are passed over: they are refused where they are used.
    """
    pairs, depths = _neighbours(files, poses)
    if not pairs:
        return
    depths = depths / depth_scale
    motions = torch.linalg.inv(torch.from_numpy(poses[np.unique(pairs)]))
    places = [tuple(pair) for pair in np.searchsorted(np.unique(pairs), pairs).tolist()]
    height, width = depths.shape[1:]

    def score(motions: Tensor, K: Tensor) -> float:
        return agreement(motions, K.expand(len(motions), 3, 3), depths, places)

    K = torch.from_numpy(K)
    if not torch.isfinite(K).all() or min(K[0, 0], K[1, 1], torch.linalg.det(K)) <= 0:
        return  # the Camera says so
    given = score(motions, K)
    scores = {name: score(other, K) for name, other in conventions(motions).items()}
    for scale in SCALES:
        scaled = motions.clone()
        scaled[:, :3, 3] *= scale  # as depths / scale would do
        name = f"translations in another unit than the depths (multiply them, or depth_scale, by about {scale:.3g})"
        scores[name] = score(scaled, K)
    for x, y in ((2, 2), (0.5, 0.5), (width, height)):
        name = f"a K of photos of another size (multiply its first row by {x:g}, its second by {y:g})"
        scores[name] = score(motions, torch.tensor([[x], [y], [1.0]], dtype=K.dtype) * K)
    best = max(scores, key=scores.get)
    then = f"then {scores[best]:.0%} of the depths agree between neighbouring photos, as given {given:.0%}."
    few = len(pairs) < FEW
    if scores[best] >= max(1.5 * given, given + (0.3 if few else 0.15)):
        raise ValueError(
            f"{folder}, poses.txt read as camera-to-world and inverted for the cameras: the poses or K contradict the "
            f"depths. This looks like {best}: {then}"
        )
    if max(given, scores[best]) < HARDLY:
        warnings.warn(
            f"{folder}: poses and K could not be checked; neighbouring photos share too little, or nothing fits: "
            f"{given:.0%} of their depths agree as given, at most {scores[best]:.0%} in other conventions.",
            stacklevel=3,
        )
    elif not few and scores[best] >= max(1.2 * given, given + 0.08):
        warnings.warn(f"{folder}: the poses or K may be wrong. What fits better is {best}: {then}", stacklevel=3)


def _neighbours(files: list[Path], poses: np.ndarray) -> tuple[list[tuple[int, int]], Tensor | None]:
    """Up to PAIRS pairs of photos that follow each other, spread over the capture, and the depth maps of their photos
    in order [N, H, W], in the files' units."""
    sound = [bool(np.isfinite(pose).all()) and not explain_rigid(torch.from_numpy(pose)) for pose in poses]
    pairs = [(i, i + 1) for i in range(len(poses) - 1) if sound[i] and sound[i + 1]]
    pairs = [pairs[k] for k in np.linspace(0, len(pairs) - 1, min(PAIRS, len(pairs))).round().astype(int)]
    depths = {}
    for i in np.unique(pairs).tolist():
        try:
            depths[i] = read_depth(files[i])
        except ValueError:
            continue
    shape = next((depth.shape for depth in depths.values()), None)
    depths = {i: depth for i, depth in depths.items() if depth.shape == shape}
    pairs = [pair for pair in pairs if depths.keys() >= set(pair)]
    return pairs, torch.stack([depths[i] for i in np.unique(pairs).tolist()]) if pairs else None
