"""RGB-D captures in the plain layout: a folder of photos, a folder of depth maps, poses and one K.

A capture's folder holds:

    images/NAME.png or .jpg   photos, all of one size, turned upright as their EXIF notes say
    depth/NAME.png            uint16, ``depth_scale`` units to the metre, 0 = not measured; the size of the photos
    poses.txt                 one camera-to-world 4×4 a line, row by row, OpenCV axes, in the order of the photos' names
    K.txt                     3×3, pixels of the photos
"""

from __future__ import annotations

from math import inf
from numbers import Real
from pathlib import Path

import numpy as np

from ..base.inputs import existing_folder
from ..scenes.lens import Lens
from ..scenes.scene import Scene
from .frames import Frame, assemble, inverse_pose
from .judging import judge_geometry, name_lost_frames
from .reading import PHOTOS, choose, counting_order, number_lines, read_K, size_of

__all__ = ["rgbd"]

def rgbd(folder, frames=None, size=None, depth_scale: float = 1000.0, name: str | None = None) -> Scene:
    """A capture in the layout above as a Scene.

    Args:
        folder: holds images/, depth/, poses.txt and K.txt.
        frames: which photos, in the order of their names. None for all; a slice, a range or a list of positions; or an
            int n for n photos evenly spaced from the first to the last.
        size: (height, width) in pixels, or an int for the shorter side with the proportions kept. None keeps the size.
            Photos are averaged, depths take the nearest pixel, K follows.
        depth_scale: units of the depth files in one metre; 1000 for millimetres, 5000 for TUM.
        name: the Scene's name; the folder's when not given.

    Returns a Scene: images [V, 3, H, W] in 0..1, depths [V, H, W] metres with 0 = unknown, cameras world-to-camera.
    Rotations printed with few decimals are replaced by the nearest exact rotation when R Rᵀ is within 2e-3 of the
    identity (four decimals leave a few 1e-4).

    Raises:
        FileNotFoundError: the folder, or one of its four parts, is missing.
        ValueError: photos, depths and poses do not pair up; a depth map is not 16-bit or not the size of its photo; K
            is not 3×3; a pose is not rigid; frames outside the capture; another convention, unit or K fits
            the depths of neighbouring photos clearly better (warned of where it is less clear); or what Scene refuses.
    """
    if not (isinstance(depth_scale, Real) and 0 < depth_scale < inf):
        raise ValueError(f"depth_scale is the number of depth units in one metre and must be > 0, got {depth_scale!r}.")
    folder = existing_folder(folder)
    stems, poses, K = read_layout(folder)
    positions = choose(frames, len(stems))
    maps = [folder / "depth" / f"{stem}.png" for stem in stems]
    judge_geometry(folder, maps, poses, K, depth_scale)
    name_lost_frames(folder, maps, poses, K, depth_scale, positions)
    files = [(photo_of(folder, stems[i]), maps[i]) for i in positions]
    lines = [i + 1 for i in positions]
    listed = frames_of(folder, files, poses[positions], lines, K)
    source, name = f"{folder}, poses.txt read as camera-to-world and inverted for the cameras", name or folder.resolve().name
    return assemble(listed, source=source, name=name, size=size, depth_scale=depth_scale)


def read_layout(folder: Path) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Names of the frames, camera-to-world poses [V, 4, 4] and K [3, 3]; refused when they do not pair up."""
    for part in ("images", "depth", "poses.txt", "K.txt"):
        if not (folder / part).exists():
            raise FileNotFoundError(f"{folder} has no {part}: a capture needs images/, depth/, poses.txt and K.txt.")
    photos = [p.name for p in (folder / "images").iterdir() if p.suffix.lower() in PHOTOS and p.name[0] != "."]
    maps = [p.name for p in (folder / "depth").iterdir() if p.suffix.lower() == ".png" and p.name[0] != "."]
    photos.sort(key=counting_order)  # poses.txt is in the order of the capture
    maps.sort(key=counting_order)
    if not photos:
        raise ValueError(f"{folder / 'images'} has no photos ({', '.join(PHOTOS)}).")
    stems, depth_stems = [Path(p).stem for p in photos], [Path(p).stem for p in maps]
    if len(set(stems)) < len(stems):
        twice = next(stem for stem in stems if stems.count(stem) > 1)
        raise ValueError(f"{folder / 'images'} has two photos named {twice}: keep one of them.")
    poses = read_poses(folder / "poses.txt")
    counts = f"{folder} has {len(stems)} photos, {len(maps)} depth maps and {len(poses)} poses"
    if stems != depth_stems:
        lonely = min(set(stems) ^ set(depth_stems))
        side = f"photo {lonely} has no depth map" if lonely in stems else f"depth map {lonely} has no photo"
        raise ValueError(f"{counts}: {side} of the same name.")
    if len(poses) < len(stems):
        raise ValueError(f"{counts}: photo {photos[len(poses)]} is the first without a line in poses.txt.")
    if len(poses) > len(stems):
        raise ValueError(f"{counts}: line {len(stems) + 1} of poses.txt is the first without a photo.")
    return stems, poses, read_K(folder / "K.txt")


def read_poses(path: Path) -> np.ndarray:  # [V, 4, 4] float64
    """The matrices of a file with the 16 numbers of a 4×4 or the 12 of a 3×4 in a line."""
    rows = []
    for number, words in number_lines(path):
        try:
            row = [float(word) for word in words]
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}; a line holds the 16 numbers of a 4×4 matrix.") from None
        if len(row) not in (12, 16):
            raise ValueError(f"{path}, line {number} has {len(row)} numbers; a line holds the 16 of a 4×4 matrix.")
        rows.append(row + [0.0, 0.0, 0.0, 1.0][: 16 - len(row)])
    return np.array(rows, dtype=np.float64).reshape(-1, 4, 4)


def photo_of(folder: Path, stem: str) -> Path | None:
    """The photo of that name, whatever its ending."""
    return next((path for end in PHOTOS for path in _endings(folder / "images" / stem, end) if path.is_file()), None)


def _endings(path: Path, end: str) -> tuple[Path, Path]:
    return path.with_name(path.name + end), path.with_name(path.name + end.upper())


def frames_of(
    folder: Path,
    files: list[tuple[Path, Path]],  # V of (photo, depth map)
    poses: np.ndarray,  # [V, 4, 4] camera-to-world
    lines: list[int],  # V, of poses.txt, for messages
    K: np.ndarray,  # [3, 3]
) -> list[Frame]:
    """The frames of these files. Poses are checked first, as that is quick and reading photos is not."""
    motions = [inverse_pose(pose, f"{folder / 'poses.txt'}, matrix {line}") for pose, line in zip(poses, lines)]
    (height, width), first = _shape(files[0][0]), files[0][0]
    for photo, depth in files:
        if _shape(photo) != (height, width):
            raise ValueError(f"{photo} is {_said(photo)} (H×W) but the first photo is {_said(first)}.")
        if _shape(depth, "a depth map") != (height, width):
            raise ValueError(f"{depth} is {_said(depth)} (H×W) but its photo is {_said(photo)}: bring both to one size.")
    x, y = K[:2, 2].tolist()
    if not (1 <= x <= width - 1 and 1 <= y <= height - 1):
        raise ValueError(
            f"{folder / 'K.txt'} puts the principal point at ({x:.4g}, {y:.4g}), which is not inside photos of "
            f"{width}×{height} pixels (W×H): K must be in pixels of these photos, not of a larger size or in 0..1."
        )
    lens = Lens(K, width, height)
    return [
        Frame(photo.stem, photo, lens, motion, depth, where=str(folder / "K.txt"))
        for (photo, depth), motion in zip(files, motions)
    ]


def _shape(path: Path, what: str = "a photo") -> tuple[int, int]:  # rows, columns, upright
    width, height, exif = size_of(path, what)
    return (width, height) if exif > 4 else (height, width)


def _said(path: Path) -> str:
    return "{}×{}".format(*_shape(path))
