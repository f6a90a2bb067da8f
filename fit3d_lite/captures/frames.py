"""From frames to a Scene: the one door that every reader of a capture ends at.

A reader (colmap.py, nerfstudio.py, rgbd.py, …) lists its frames: where the photo lies, through which lens, from where it
was taken. Here absent files are left out or refused, photos are undistorted, turned upright and brought to one size, and
the report is written.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ..base.inputs import target_size
from ..base.machine import usual_torch
from ..scenes.camera import Camera
from ..scenes.lens import Lens, undistort
from ..scenes.points import Report, ScenePoints
from ..scenes.poses import agreement, explain_rigid
from ..scenes.scene import Scene, resize_maps, resize_photos
from .reading import check_on_missing, choose, read_depth, read_pixels, size_of

QUARTERS = {3: 2, 6: 1, 8: 3}  # EXIF orientation: quarter turns clockwise that bring a stored photo upright


@dataclass(frozen=True)
class Frame:
    """One photo of a capture, not yet read."""

    name: str
    photo: Path
    lens: Lens  # in pixels of the photo, or of the same photo at another size
    pose: np.ndarray  # [4, 4] world-to-camera
    depth: Path | None = None
    mask: Path | None = None
    where: str = ""  # file and line it stands in, for messages
    K_depth: np.ndarray | None = None  # [3, 3] of the depth map, where it is not that of the photo


@usual_torch(grad=False)
def assemble(
    listed: list[Frame],
    *,
    source: str,
    name: str,
    frames=None,
    size=None,
    on_missing: str = "skip",
    units: str = "metres",
    depth_scale: float = 1000.0,  # units of the depth files in one metre
    stored: bool = False,  # cameras are of the pixels as stored, where EXIF says "turn" and the size does not tell
    points: ScenePoints | None = None,  # seen_by counts ``listed``
    skipped: dict[str, str] | None = None,
    unregistered: dict[str, str] | None = None,
    notes: tuple[str, ...] = (),
) -> Scene:
    """The Scene of these frames. ``frames`` counts those whose files are there; see ``captures.rgbd`` for it and ``size``.

    Raises FileNotFoundError for an absent file with ``on_missing="raise"``, ValueError for nothing left or a photo of
    another shape than its camera.
    """
    check_on_missing(on_missing)
    present, skipped = [], dict(skipped or {})
    for position, frame in enumerate(listed):
        absent = next((p for p in (frame.photo, frame.depth, frame.mask) if p and not p.is_file()), None)
        if absent is None:
            present.append(position)
        elif on_missing == "raise":
            raise FileNotFoundError(f'{frame.where} names {absent}, which is not there; on_missing="skip" leaves it out.')
        else:
            skipped[frame.name] = f"{absent} is not there"
    if not present:
        why = f"; the first, {next(iter(skipped))}: {next(iter(skipped.values()))}" if skipped else ""
        raise ValueError(f"{source}: none of its {len(skipped)} frames can be used{why}.")
    chosen = [present[i] for i in choose(frames, len(present))]
    if len(chosen) < len(present):
        notes = (*notes, f"frames={frames} chose {len(chosen)} of {len(present)}")
    kept = [listed[i] for i in chosen]

    sizes = [_upright_size(frame, stored) for frame in kept]
    common = Counter(sizes).most_common(1)[0][0]
    target = target_size(size, *common)
    shapes = len(set(sizes))
    if shapes > 1:
        notes = (*notes, f"{shapes} sizes of photos, brought to {target[0]}×{target[1]} (H×W) and cropped where they differ")
    bent = sum(not frame.lens.straight for frame in kept)
    if bent:
        notes = (*notes, f"{bent} photos undistorted")
    lenses, views = {}, []
    for frame in tqdm(kept, desc=name, unit="frame", delay=1.0):
        views.append(_read(frame, {"shape": common, "target": target}, depth_scale, stored, lenses))
    images, cameras, depths, masks = zip(*views, strict=True)
    depths = _stacked(depths, torch.zeros(target))
    masks = _stacked(masks, torch.ones(target, dtype=torch.bool))
    points = points and points.of_views(chosen, len(listed))
    report = Report(
        source, tuple(f.name for f in kept), skipped, dict(unregistered or {}), _agree(cameras, depths, points), units, notes
    )
    try:
        return Scene(torch.stack(images), cameras, depths, name=name, masks=masks, points=points, report=report)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None


def _stacked(maps, unknown: Tensor) -> Tensor | None:
    if all(one is None for one in maps):
        return None
    return torch.stack([unknown if one is None else one for one in maps])


def _agree(cameras, depths, points) -> str:
    said = []
    if depths is not None and len(cameras) > 1:
        share = agreement(torch.stack([c.world_to_camera for c in cameras]), torch.stack([c.K for c in cameras]), depths)
        said.append(f"{share:.0%} of the depths agree between neighbouring views")
    if points and points.error is not None and points.track_length is not None:
        error, length = points.error.mean(), points.track_length.double().mean()
        said.append(f"{len(points):,} points seen by {length:.1f} photos each, {error:.2f} pixels off on average")
    return "; ".join(said)


def _orientation(frame: Frame, stored: bool) -> tuple[int, int, bool]:
    """Quarter turns clockwise still to be made after undistortion, whether to read the pixels as stored, by file and lens."""
    width, height, exif = size_of(frame.photo)
    if exif == 1:
        return 0, True
    upright = (height, width) if exif > 4 else (width, height)
    fits = [abs(w / h - frame.lens.width / frame.lens.height) < 0.01 for w, h in ((width, height), upright)]
    as_stored = fits[0] and (stored or not fits[1])
    return (QUARTERS.get(exif, 0), True) if as_stored else (0, False)


def _upright_size(frame: Frame, stored: bool) -> tuple[int, int]:  # rows, columns
    turns, as_stored = _orientation(frame, stored)
    width, height, exif = size_of(frame.photo)
    return (width, height) if turns % 2 or (exif > 4 and not as_stored) else (height, width)


def _read(frame: Frame, sizes: dict, depth_scale: float, stored: bool, lenses: dict):
    """Image [3, h, w], camera, depth [h, w] and mask [h, w] or None, of the target size."""
    turns, as_stored = _orientation(frame, stored)
    pixels = read_pixels(frame.photo, "a photo", "RGB", upright=not as_stored)[0]
    height, width = pixels.shape[:2]
    key = (id(frame.lens), width, height)
    if key not in lenses:
        lens = frame.lens
        if abs(width / lens.width - height / lens.height) > 0.01 * width / lens.width:
            raise ValueError(
                f"{frame.photo} is {width}×{height} but {frame.where or 'its camera'} has {lens.width}×{lens.height} "
                f"(W×H): photos may be scaled, but not cropped or turned."
            )
        try:
            lens = lens if (lens.width, lens.height) == (width, height) else lens.scaled(width, height)
            K = lens.pinhole()
            lenses[key] = lens, K, lens.sources(K)
        except ValueError as error:
            raise ValueError(f"{frame.where or frame.photo}: {error}") from None
    lens, K, sources = lenses[key]
    camera = Camera(torch.from_numpy(K).float(), torch.from_numpy(frame.pose).float(), width, height)
    image = torch.from_numpy(undistort(pixels, sources)).permute(2, 0, 1).float() / 255
    maps = [read_depth(frame.depth) / depth_scale if frame.depth else None, _mask(frame.mask) if frame.mask else None]
    if maps[0] is not None and frame.K_depth is not None:
        maps[0] = through(maps[0], frame.K_depth, lens.K, width, height)
    for what, path, i in (("depth map", frame.depth, 0), ("mask", frame.mask, 1)):
        if maps[i] is None:
            continue
        if abs(maps[i].shape[1] * height - maps[i].shape[0] * width) > 0.01 * width * maps[i].shape[0]:
            raise ValueError(
                f"{path} is {_size(maps[i])} (H×W) but its photo is {height}×{width}: a {what} shows what its photo shows."
            )
        at_photo = resize_maps(maps[i][None], height, width)[0]
        kind = np.uint8 if i else np.float32
        maps[i] = torch.from_numpy(undistort(at_photo.numpy().astype(kind), sources, nearest=True))
    return to_size(turned(image, turns), turned(camera, turns), *(turned(m, turns) for m in maps), **sizes)


def through(depth: Tensor, K_depth: np.ndarray, K: np.ndarray, width: int, height: int) -> Tensor:  # [height, width]
    """A depth map as a camera at the same place with K sees it; 0 where it does not reach. The nearest pixel is taken."""
    u, v = np.arange(width) + 0.5, np.arange(height) + 0.5
    columns = np.floor((u - K[0, 2]) / K[0, 0] * K_depth[0, 0] + K_depth[0, 2]).astype(int)
    rows = np.floor((v - K[1, 2]) / K[1, 1] * K_depth[1, 1] + K_depth[1, 2]).astype(int)
    inside = ((rows >= 0) & (rows < depth.shape[0]))[:, None] & ((columns >= 0) & (columns < depth.shape[1]))
    seen = depth[rows.clip(0, depth.shape[0] - 1)][:, columns.clip(0, depth.shape[1] - 1)]
    return seen * torch.from_numpy(inside)


def _mask(path: Path) -> Tensor:  # [H, W], 1 = counts
    return torch.from_numpy(read_pixels(path, "a mask", "L")[0] > 127).to(torch.uint8)


def turned(what, quarters: int):
    """A picture [..., H, W] or a Camera turned clockwise by quarters."""
    if what is None or not quarters:
        return what
    if isinstance(what, Tensor):
        return torch.rot90(what, -quarters, (-2, -1))
    for _ in range(quarters):
        K, pose = what.K.clone(), what.world_to_camera
        K[0, 0], K[1, 1] = what.K[1, 1], what.K[0, 0]
        K[0, 2], K[1, 2] = what.height - what.K[1, 2], what.K[0, 2]
        quarter = torch.tensor([[0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], dtype=pose.dtype)
        what = replace(what, K=K, world_to_camera=quarter @ pose, width=what.height, height=what.width)
    return what


def to_size(image, camera, depth, mask, *, shape: tuple[int, int], target: tuple[int, int]):
    """The middle of the photo that has the proportions of ``shape``, resized to the target; K follows."""
    width = min(camera.width, round(camera.height * shape[1] / shape[0]))
    height = min(camera.height, round(camera.width * shape[0] / shape[1]))
    if camera.width - width <= 1 and camera.height - height <= 1:  # rounding, as of a photo scaled from an odd size
        width, height = camera.width, camera.height
    left, top = (camera.width - width) // 2, (camera.height - height) // 2
    window = (..., slice(top, top + height), slice(left, left + width))
    image, depth, mask = (m if m is None else m[window].contiguous() for m in (image, depth, mask))
    if (height, width) != target:
        image = resize_photos(image[None], *target)[0]
        depth, mask = (m if m is None else resize_maps(m[None], *target)[0] for m in (depth, mask))
    camera = camera.cropped(left, top, width, height).scaled(target[1], target[0])
    return image, camera, depth, mask if mask is None else mask.bool()


def inverse_pose(pose: np.ndarray, where: str) -> np.ndarray:  # camera-to-world [4, 4] -> world-to-camera [4, 4]
    """The inverse with the nearest exact rotation. Raises ValueError for NaN and for what is not a rigid motion."""
    if not np.isfinite(pose).all():
        raise ValueError(f"{where} has NaN or infinite numbers, which often marks a lost camera: leave that frame out.")
    problem = explain_rigid(torch.from_numpy(pose))
    if problem:
        raise ValueError(f"{where}: {problem.replace('world_to_camera', 'camera-to-world')}")
    U, _, Vt = np.linalg.svd(pose[:3, :3])
    rotation = U @ Vt  # explain_rigid has refused mirrors and larger errors
    inverse = np.eye(4)
    inverse[:3, :3], inverse[:3, 3] = rotation.T, -rotation.T @ pose[:3, 3]
    return inverse


def _size(image: Tensor) -> str:
    return f"{image.shape[-2]}×{image.shape[-1]}"
