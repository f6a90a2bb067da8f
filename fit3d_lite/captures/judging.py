"""Do poses, K and depths of a capture belong together? Asked of the capture's own neighbours, before frames are chosen.

Chosen frames may lie so far apart that right poses agree on 2 % of the depths, and then nothing can be told. Photos
taken one after the other overlap. In a real office right poses agree there on 53 %, OpenGL axes on 21, inverse poses on
9, translations three times too large on 19, five times too small on 38, a K of photos of twice or half the size on 9
and 25, one with cx and cy exchanged on 32, poses of the photo before or after on 23 and 13, in reverse order on 5.
"""

from __future__ import annotations

import warnings
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..scenes.poses import agreement, conventions, explain_rigid, same_places
from .reading import read_depth, read_photo

PAIRS = 12  # spread over the capture: 24 depth maps, read in a quarter of a second
SCALES = (1e-3, 0.01, 0.1, 0.2, 1 / 3, 0.5, 2, 3, 5, 10, 100, 1e3)
FEW = 4  # pairs; fewer agree better by chance with one hypothesis or another
FLIPS = {"mirrored left to right": (-1,), "mirrored top to bottom": (-2,), "turned upside down": (-2, -1)}
LIKER = 0.3  # in correlation; in a real office photos as they are have 0.95 (of every fourth photo 0.83), turned ones 0.2
HARDLY = 0.08  # below this under every hypothesis, neighbours share too little to tell


def judge_geometry(
    folder: Path, photos: list[Path], files: list[Path], poses: np.ndarray, K: np.ndarray, depth_scale: float
) -> None:
    """Raise ValueError where another convention, unit or K fits the depths of neighbouring photos clearly better than
    what is given: 1.5 times the agreement and 15 percentage points more, 30 where there are few pairs. Warn where one
    fits better by 1.2 times and 8 points, and where nothing can be told. Raise it too where the photos are mirrored or
    turned against their depth maps.

    poses [V, 4, 4] are camera-to-world, K [3, 3] in pixels, the V depth files in ``depth_scale`` units to the metre.
    Frames with a lost pose or a damaged depth map are passed over: they are refused where they are used.
    """
    sound = _sound(poses)
    pairs, depths = _neighbours(files, sound)
    K = torch.from_numpy(K)
    if not pairs or not torch.isfinite(K).all() or min(K[0, 0], K[1, 1], torch.linalg.det(K)) <= 0:
        return  # the Camera says so
    depths = depths / depth_scale
    every = torch.linalg.inv(torch.from_numpy(np.where(sound[:, None, None], poses, np.eye(4))))
    used = np.unique(pairs)
    motions = every[used]
    places = [tuple(pair) for pair in np.searchsorted(used, pairs).tolist()]
    height, width = depths.shape[1:]

    def score(motions: Tensor, K: Tensor, depths: Tensor = depths) -> float:
        return agreement(motions, K.expand(len(motions), 3, 3), depths, places)

    given = score(motions, K)
    scores = {name: score(other, K) for name, other in conventions(motions).items()}
    for step, which in ((1, "before"), (-1, "after")):  # the one frame at an end that gets a foreign pose hardly counts
        name = f"photos with the poses of the photo {which} (shift the lines of poses.txt by one)"
        scores[name] = score(every.roll(-step, 0)[used], K)
    scores["poses in reverse order (turn the lines of poses.txt around)"] = score(every.flip(0)[used], K)
    for scale in SCALES:
        scaled = motions.clone()
        scaled[:, :3, 3] *= scale  # as depths / scale would do
        name = f"translations in another unit than the depths (multiply them, or depth_scale, by about {scale:.3g})"
        scores[name] = score(scaled, K)
    for x, y in ((2, 2), (0.5, 0.5), (width, height)):
        name = f"a K of photos of another size (multiply its first row by {x:g}, its second by {y:g})"
        scores[name] = score(motions, torch.tensor([[x], [y], [1.0]], dtype=K.dtype) * K)
    for how, dims in FLIPS.items():
        scores[f"photos and depth maps {how} (turn the files back)"] = score(motions, K, depths.flip(dims))
    exchanged = K.clone()
    exchanged[:2, 2] = K[:2, 2].flip(0)
    scores["a K with cx and cy exchanged"] = score(motions, exchanged)
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
    if photos and given >= HARDLY:
        _refuse_flipped(folder, [photos[i] for i in used], motions, K, depths, places[:: max(1, len(places) // FEW)])


def _refuse_flipped(folder: Path, photos: list[Path], motions: Tensor, K: Tensor, depths: Tensor, places: list) -> None:
    """Raise ValueError where photos lie over their depth maps the wrong way round: points that depths and poses find in two
    photos are then of like brightness only once the photos are turned back."""
    height, width = depths.shape[1:]
    likeness = {how: [] for how in ("", *FLIPS)}
    try:
        grey = {n: read_photo(photos[n]).mean(0) for n in {n for pair in places for n in pair}}
    except (ValueError, OSError):  # refused where it is used
        return
    for pair in places:
        *found, _ = same_places(motions, K.expand(len(motions), 3, 3), depths, *pair)
        if len(found[0]) < 20:
            continue
        for how, dims in {"": (), **FLIPS}.items():
            seen = []
            for n, (rows, columns) in zip(pair, (at.unbind(1) for at in found), strict=True):
                photo = grey[n].flip(dims)
                seen.append(photo[rows * photo.shape[0] // height, columns * photo.shape[1] // width])
            likeness[how].append(torch.corrcoef(torch.stack(seen))[0, 1].nan_to_num())
    if not likeness[""]:
        return
    means = {how: float(torch.stack(values).mean()) for how, values in likeness.items()}
    best = max(means, key=means.get)
    if means[best] >= max(0.5, means[""] + LIKER):
        raise ValueError(
            f"{folder}: the photos are {best} against their depth maps: turned back, the brightness of points that two photos "
            f"show correlates by {means[best]:.2f}, as given by {means['']:.2f}."
        )


def find_lost_frames(
    files: list[Path], poses: np.ndarray, K: np.ndarray, depth_scale: float, chosen: list[int]
) -> dict[int, str]:
    """Those of the ``chosen`` frames, with a few words on why, whose depths fit their neighbours' twice as well, and on
    20 % of them more, where the pose is replaced by one midway between the neighbours'. Arguments as
    :func:`judge_geometry` has them.

    That happens to a frame the tracker lost. Not all are found: where the neighbours share less than 15 % of their
    depths, nothing can be said of the frame between.
    """
    sound, K = _sound(poses), torch.from_numpy(K).expand(3, 3, 3)

    @lru_cache(maxsize=4)
    def depth(i: int) -> Tensor:
        return read_depth(files[i])[::2, ::2] / depth_scale  # a quarter of the pixels is plenty

    K = torch.tensor([[0.5], [0.5], [1.0]], dtype=K.dtype) * K
    pairs = [(0, 1), (1, 0), (1, 2), (2, 1)]
    lost = {}
    for i in sorted(set(chosen)):
        if not 0 < i < len(poses) - 1 or not sound[i - 1 : i + 2].all():
            continue
        try:
            depths = torch.stack([depth(i - 1), depth(i), depth(i + 1)])
        except (ValueError, RuntimeError):  # damaged, or of another size: refused where it is used
            continue
        there = torch.from_numpy(poses[i - 1 : i + 2].copy())
        given = agreement(torch.linalg.inv(there), K, depths, pairs)
        if given > 0.5 or agreement(torch.linalg.inv(there), K, depths, [(0, 2), (2, 0)]) < 0.15:
            continue  # nothing fits twice as well, or its neighbours share too little for "midway" to mean something
        U, _, Vt = torch.linalg.svd(there[0, :3, :3] + there[2, :3, :3])
        there[1, :3, :3], there[1, :3, 3] = U @ Vt, (there[0, :3, 3] + there[2, :3, 3]) / 2
        midway = agreement(torch.linalg.inv(there), K, depths, pairs)
        if midway >= max(2 * given, given + 0.2):
            lost[i] = f"pose {i + 1}: {given:.0%} agree, {midway:.0%} midway between its neighbours"
    return lost


def _sound(poses: np.ndarray) -> np.ndarray:  # [V, 4, 4] -> [V] bool
    """Which poses are rigid motions."""
    return np.array([bool(np.isfinite(pose).all()) and not explain_rigid(torch.from_numpy(pose)) for pose in poses])


def _neighbours(files: list[Path], sound: np.ndarray) -> tuple[list[tuple[int, int]], Tensor | None]:
    """Up to PAIRS pairs of photos that follow each other, spread over the capture, and the depth maps of their photos
    in order [N, H, W], in the files' units."""
    pairs = [(i, i + 1) for i in range(len(sound) - 1) if sound[i] and sound[i + 1]]
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
