"""RGB-D captures in the plain layout: a folder of photos, a folder of depth maps, poses and one K.

A capture's folder holds:

    images/NAME.png or .jpg   photos, all of one size, turned upright as their EXIF notes say
    depth/NAME.png            uint16, ``depth_scale`` units to the metre, 0 = not measured; the size of the photos
    poses.txt                 one camera-to-world 4×4 a line, row by row, OpenCV axes, in the order of the photos' names
    K.txt                     3×3, pixels of the photos

or, as 7-Scenes and 3DMatch have it, NAME.color.png, NAME.depth.png and NAME.pose.txt (or poses/NAME.txt in the plain
layout). A K_depth.txt says that depth was taken through another lens at the same place; it is then brought to the photos.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from math import inf
from numbers import Real
from pathlib import Path

import numpy as np

from ..base.inputs import existing_folder
from ..base.machine import usual_torch
from ..scenes.lens import Lens
from ..scenes.scene import Scene
from .frames import Frame, assemble, inverse_pose
from .judging import find_lost_frames, judge_geometry
from .reading import (
    PHOTOS,
    check_on_missing,
    choose,
    counting_order,
    float_rows,
    number_lines,
    read_K,
    upright_size,
)

__all__ = ["rgbd"]

@usual_torch(grad=False)
def rgbd(
    folder, frames=None, size=None, depth_scale: float = 1000.0, name: str | None = None, on_missing: str = "skip"
) -> Scene:
    """A capture in one of the layouts above as a Scene.

    Args:
        folder: of the capture.
        frames: which photos, in the order of their names. None for all; a slice, a range or a list of positions; or an
            int n for n photos evenly spaced from the first to the last.
        size: (height, width) in pixels, or an int for the shorter side with the proportions kept. None keeps the size.
            Photos are averaged, depths take the nearest pixel, K follows.
        depth_scale: units of the depth files in one metre; 1000 for millimetres, 5000 for TUM.
        name: the Scene's name; the folder's when not given.
        on_missing: "skip" leaves lost frames out, warns and reports them: those whose pose is NaN or infinite, and those
            whose neighbours' depths say that the tracker was lost. "raise" refuses them.

    Returns a Scene: images [V, 3, H, W] in 0..1, depths [V, H, W] metres with 0 = unknown, cameras world-to-camera.
    Rotations printed with few decimals are replaced by the nearest exact rotation when R Rᵀ is within 2e-3 of the
    identity (four decimals leave a few 1e-4).

    Raises:
        FileNotFoundError: the folder, or a part of it, is missing.
        ValueError: photos, depths and poses do not pair up; a depth map is not 16-bit or not the size of its photo; K
            is not 3×3; a pose is not rigid; frames outside the capture; another convention, unit or K fits
            the depths of neighbouring photos clearly better (warned of where it is less clear); or what Scene refuses.
    """
    if not (isinstance(depth_scale, Real) and 0 < depth_scale < inf):
        raise ValueError(f"depth_scale is the number of depth units in one metre and must be > 0, got {depth_scale!r}.")
    check_on_missing(on_missing)
    folder = existing_folder(folder)
    known = read_layout(folder)
    positions = choose(frames, len(known.files))
    maps, poses = [depth for _, depth in known.files], known.poses
    K_of_maps = known.K if known.K_depth is None else known.K_depth
    photos = [photo for photo, _ in known.files] if known.K_depth is None else []  # else they lie beside the depths
    judge_geometry(folder, photos, maps, poses, K_of_maps, depth_scale)
    lost = find_lost_frames(maps, poses, K_of_maps, depth_scale, positions)
    lost |= {i: f"{known.where[i]} has NaN or infinite numbers" for i in positions if not np.isfinite(poses[i]).all()}
    if lost:
        said = ", ".join(f"{maps[i].stem} ({why})" for i, why in sorted(lost.items())[:5]) + (" …" if len(lost) > 5 else "")
        many = f"{folder}: the poses of {len(lost)} of {len(set(positions))} frames look lost: {said}"
        if on_missing == "raise":
            raise ValueError(f'{many}. Leave them out by frames= or on_missing="skip".')
        warnings.warn(f"{many}. They are left out.", stacklevel=2)
    left = [i for i in positions if i not in lost]
    if not left:
        raise ValueError(f"{folder}: the poses of all {len(lost)} frames chosen are lost.")
    return assemble(
        frames_of([known.files[i] for i in left], poses[left], [known.where[i] for i in left], known.K, known.K_depth),
        source=f"{folder}, poses read as camera-to-world and inverted for the cameras",
        name=name or folder.resolve().name,
        size=size,
        depth_scale=depth_scale,
        skipped=known.skipped | {maps[i].stem: why for i, why in lost.items()},
    )


@dataclass
class Layout:
    """What a folder lists, not yet read."""

    files: list[tuple[Path, Path]]  # V of (photo, depth map)
    poses: np.ndarray  # [V, 4, 4] camera-to-world
    where: list[str]  # V, where each pose stands
    K: np.ndarray  # [3, 3] of the photos
    K_depth: np.ndarray | None  # [3, 3] of the depth maps, where it is another
    skipped: dict[str, str]


def read_layout(folder: Path) -> Layout:
    """Photos, depth maps, poses and K of a capture; refused when they do not pair up."""
    frames = sorted((p for p in folder.glob("*.color.*") if p.suffix.lower() in PHOTOS), key=lambda p: counting_order(p.name))
    if frames and not (folder / "images").is_dir():
        return _one_pose_a_file(folder, frames)
    poses_there = "poses" if (folder / "poses").is_dir() else "poses.txt"
    for part in ("images", "depth", poses_there, "K.txt"):
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
    if poses_there == "poses":
        parts = [(f"images/{photo}", f"depth/{stem}.png", f"poses/{stem}.txt") for photo, stem in zip(photos, stems)]
        triples = [tuple(folder / part for part in three) for three in parts]
        return _of_triples(folder, triples, read_K(folder / "K.txt"))
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
    files = [(folder / "images" / photo, folder / "depth" / f"{stem}.png") for photo, stem in zip(photos, stems)]
    where = [f"{folder / 'poses.txt'}, matrix {i + 1}" for i in range(len(files))]
    return Layout(files, poses, where, read_K(folder / "K.txt"), _K_depth(folder), {})


def _one_pose_a_file(folder: Path, photos: list[Path]) -> Layout:
    """frame-000000.color.png, .depth.png, .pose.txt, as 7-Scenes and 3DMatch have them."""
    places = (folder / "K.txt", folder / "camera-intrinsics.txt", folder.parent / "camera-intrinsics.txt")
    K = next((place for place in places if place.is_file()), None)
    if K is None:
        raise FileNotFoundError(
            f"{folder} has no K.txt: write the 3×3 matrix of the photos there (7-Scenes: 525 0 320, 0 525 240, 0 0 1, and "
            f"585 in place of 525 into K_depth.txt)."
        )
    stems = [p.name[: p.name.index(".color.")] for p in photos]
    triples = [(p, folder / f"{s}.depth.png", folder / f"{s}.pose.txt") for p, s in zip(photos, stems)]
    return _of_triples(folder, triples, read_K(K))


def _of_triples(folder: Path, triples: list[tuple[Path, Path, Path]], K: np.ndarray) -> Layout:
    """Of (photo, depth map, pose file); what lacks one of the three is skipped."""
    files, poses, where, skipped = [], [], [], {}
    for photo, depth, pose in triples:
        absent = next((path for path in (depth, pose) if not path.is_file()), None)
        if absent is not None:
            skipped[depth.stem] = f"{absent} is not there"
            continue
        rows = [word for _, words in number_lines(pose) for word in words]
        try:
            poses.append(np.array([float(word) for word in rows]).reshape(4, 4))
        except ValueError:
            raise ValueError(f"{pose} must hold the 16 numbers of a 4×4 matrix, got {' '.join(rows[:4])} …") from None
        files.append((photo, depth))
        where.append(str(pose))
    if not files:
        raise ValueError(f"{folder} has {len(triples)} photos, none with a depth map and a pose: {absent} is not there.")
    return Layout(files, np.array(poses), where, K, _K_depth(folder), skipped)


def _K_depth(folder: Path) -> np.ndarray | None:
    return read_K(folder / "K_depth.txt") if (folder / "K_depth.txt").is_file() else None


def read_poses(path: Path) -> np.ndarray:  # [V, 4, 4] float64
    """The matrices of a file with the 16 numbers of a 4×4 or the 12 of a 3×4 in a line."""
    rows = []
    for number, row in float_rows(path, "; a line holds the 16 numbers of a 4×4 matrix"):
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
    files: list[tuple[Path, Path]],  # V of (photo, depth map)
    poses: np.ndarray,  # [V, 4, 4] camera-to-world
    where: list[str],  # V, for messages
    K: np.ndarray,  # [3, 3]
    K_depth: np.ndarray | None = None,
) -> list[Frame]:
    """The frames of these files. Poses are checked first, as that is quick and reading photos is not."""
    motions = [inverse_pose(pose, place) for pose, place in zip(poses, where)]
    (height, width), first = _shape(files[0][0]), files[0][0]
    for photo, depth in files:
        if _shape(photo) != (height, width):
            raise ValueError(f"{photo} is {_said(photo)} (H×W) but the first photo is {_said(first)}.")
        if K_depth is None and _shape(depth, "a depth map") != (height, width):
            raise ValueError(
                f"{depth} is {_said(depth)} (H×W) but its photo is {_said(photo)}: bring both to one size, or write the "
                f"depth camera's matrix to K_depth.txt."
            )
    x, y = K[:2, 2].tolist()
    if not (1 <= x <= width - 1 and 1 <= y <= height - 1):
        raise ValueError(
            f"K.txt puts the principal point at ({x:.4g}, {y:.4g}), which is not inside photos of {width}×{height} pixels "
            f"(W×H): K must be in pixels of these photos, not of a larger size or in 0..1."
        )
    lens = Lens(K, width, height)
    return [
        Frame(depth.stem, photo, lens, motion, depth, where="K.txt", K_depth=K_depth)
        for (photo, depth), motion in zip(files, motions)
    ]


def _shape(path: Path, what: str = "a photo") -> tuple[int, int]:  # rows, columns, upright
    return upright_size(path, what)[::-1]


def _said(path: Path) -> str:
    return "{}×{}".format(*_shape(path))
