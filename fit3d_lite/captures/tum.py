"""TUM RGB-D: photos, depth maps and motion-capture poses, each with a clock of its own.

    rgb.txt, depth.txt      "seconds file" a line          groundtruth.txt   "seconds tx ty tz qx qy qz qw" a line

Sturm et al., "A benchmark for the evaluation of RGB-D SLAM systems", IROS 2012; CC BY 4.0. Depth is registered to the
color camera, 5000 units to the metre. Poses are camera-to-world with OpenCV's axes. Intrinsics are the color cameras'
from the data set's page, whose pixel centers are whole numbers where ours end in .5.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..base.download import fetch
from ..base.machine import cache_folder
from ..base.unpack import unpack
from ..scenes.lens import Lens
from ..scenes.scene import Scene
from .frames import Frame, assemble, inverse_pose
from .reading import float_rows, number_lines, read_K, size_of

CAMERAS = {  # fx fy cx cy, then k1 k2 p1 p2 k3
    "freiburg1": (517.3, 516.5, 318.6, 255.3, 0.2624, -0.9531, -0.0054, 0.0026, 1.1633),
    "freiburg2": (520.9, 521.0, 325.1, 249.7, 0.2312, -0.7849, -0.0033, -0.0001, 0.9172),
    "freiburg3": (535.4, 539.2, 320.1, 247.6),  # photos of this one are undistorted already
}
DOWNLOADS = {"fr1/desk": ("freiburg1", "rgbd_dataset_freiburg1_desk", 344_011_403)}  # bytes
PAGE = "https://cvg.cit.tum.de/rgbd/dataset"
SPAN = 5  # times max_gap: poses further apart than this are not interpolated between


def tum(
    folder, frames=None, size=None, name: str | None = None, on_missing: str = "skip", *, max_gap: float = 0.02,
    camera: str | None = None, cache=None,
) -> Scene:  # fmt: skip
    """A TUM RGB-D sequence as a Scene, from its folder or by name.

    Args:
        folder: of the sequence; or "fr1/desk", which is downloaded once (344 MB, resumed, its size checked) and unpacked.
        frames, size: as for ``captures.rgbd``; photos in the order of time.
        on_missing: "skip" leaves out photos without a depth map or a pose near in time, "raise" refuses them.
        max_gap: seconds by which a photo, its depth map and the nearest pose may lie apart. Poses are interpolated.
        camera: "freiburg1", "freiburg2" or "freiburg3", where the folder's name does not say; K.txt in the folder, 3×3 in
            pixels of the photos as ``captures.rgbd`` has it, goes first.

    Raises:
        DownloadError: no network. FileNotFoundError: no such folder or one of its three lists.
        ValueError: a damaged line; no two clocks that meet within ``max_gap``; an unknown camera.
    """
    folder = _download(*DOWNLOADS[folder], cache) if str(folder) in DOWNLOADS else Path(folder).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}; sequences known by name are {', '.join(DOWNLOADS)}.")
    for part in ("rgb.txt", "depth.txt", "groundtruth.txt"):
        if not (folder / part).is_file():
            raise FileNotFoundError(f"{folder} has no {part}: a TUM sequence is rgb.txt, depth.txt and groundtruth.txt.")
    photos, depths = read_list(folder / "rgb.txt"), read_list(folder / "depth.txt")
    times, poses = read_poses(folder / "groundtruth.txt")
    lens = _lens(folder, folder / photos[0][1], camera)
    depth_times = np.array([seconds for seconds, _, _ in depths])
    listed, skipped = [], {}
    for seconds, file, line in photos:
        where = f"{folder / 'rgb.txt'}, line {line}"
        near = int(np.abs(depth_times - seconds).argmin())
        off = abs(depth_times[near] - seconds)
        pose = pose_at(seconds, times, poses, max_gap)
        if off > max_gap or pose is None:
            why = f"the nearest depth map is {off:.3f} s away" if off > max_gap else "no pose near in time"
            if on_missing == "raise":
                raise ValueError(f"{where}: {why}, and max_gap is {max_gap:g} s.")
            skipped[file] = f"{why} (max_gap {max_gap:g} s)"
            continue
        motion = inverse_pose(pose, f"{folder / 'groundtruth.txt'} at {seconds:.3f} s")
        listed.append(Frame(file, folder / file, lens, motion, folder / depths[near][1], where=where))
    return assemble(
        listed,
        source=f"TUM sequence {folder}",
        name=name or folder.resolve().name,
        frames=frames,
        size=size,
        on_missing=on_missing,
        depth_scale=5000.0,
        skipped=skipped,
    )


def read_list(path: Path) -> list[tuple[float, str, int]]:
    """(seconds, file, line) in the order of time."""
    rows = []
    for number, words in number_lines(path):
        try:
            rows.append((float(words[0]), words[1], number))
        except (ValueError, IndexError):
            raise ValueError(f'{path}, line {number} is not "seconds file": {" ".join(words)!r}.') from None
    if not rows:
        raise ValueError(f"{path} lists no files.")
    return sorted(rows)


def read_poses(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Seconds [P] in order, and rows [P, 7] of tx ty tz qx qy qz qw."""
    rows = []
    for number, row in float_rows(path):
        if len(row) != 8 or not np.isfinite(row).all() or not 0.9 < np.linalg.norm(row[4:]) < 1.1:
            raise ValueError(f"{path}, line {number} is not seconds, three metres and a quaternion of length 1: {row}.")
        rows.append(row)
    if not rows:
        raise ValueError(f"{path} has no poses.")
    rows = np.array(sorted(rows))
    return rows[:, 0], rows[:, 1:]


def pose_at(seconds: float, times: np.ndarray, poses: np.ndarray, max_gap: float) -> np.ndarray | None:
    """Camera-to-world [4, 4] between the poses before and after: places on the line, rotations on the great circle
    (slerp). None where the nearest is further than ``max_gap``, or the two lie SPAN times that apart."""
    after = int(np.searchsorted(times, seconds))
    before, after = max(0, after - 1), min(after, len(times) - 1)
    if min(abs(times[[before, after]] - seconds)) > max_gap or times[after] - times[before] > SPAN * max_gap:
        return None
    share = np.clip((seconds - times[before]) / max(times[after] - times[before], 1e-9), 0, 1)
    first, second = (poses[i, 3:] / np.linalg.norm(poses[i, 3:]) for i in (before, after))
    second = second if first @ second >= 0 else -second  # q and −q are one rotation: take the shorter way
    angle = np.arccos(np.clip(first @ second, -1, 1))
    if angle > 1e-6:
        turn = (np.sin((1 - share) * angle) * first + np.sin(share * angle) * second) / np.sin(angle)
    else:
        turn = first
    x, y, z, w = turn / np.linalg.norm(turn)
    pose = np.eye(4)
    pose[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    pose[:3, 3] = (1 - share) * poses[before, :3] + share * poses[after, :3]
    return pose


def _lens(folder: Path, photo: Path, camera: str | None) -> Lens:
    width, height = size_of(photo)[:2] if photo.is_file() else (640, 480)
    if camera is None and (folder / "K.txt").is_file():
        return Lens(read_K(folder / "K.txt"), width, height)
    told = camera or next((c for c in CAMERAS if c in str(folder.resolve()) or f"fr{c[-1]}" in folder.name), None)
    if told not in CAMERAS:
        raise ValueError(f"Which camera took {folder}? Put its K.txt there, or give camera= one of {', '.join(CAMERAS)}.")
    fx, fy, cx, cy, *distortion = CAMERAS[told]
    return Lens(np.array([[fx, 0, cx + 0.5], [0, fy, cy + 0.5], [0, 0, 1]]), 640, 480, tuple(distortion))


def _download(camera: str, name: str, size: int, cache) -> Path:
    folder = cache_folder(cache) / "tum" / name
    if not folder.is_dir():
        archive = fetch(f"{PAGE}/{camera}/{name}.tgz", folder.parent / f"{name}.tgz", size=size)
        unpack(archive, folder)
        archive.unlink()
    return folder
