"""COLMAP models: cameras, poses and sparse points of structure from motion, read through pycolmap.

    FOLDER/images/…                     the photos; or images_2, images_4, images_8 with K scaled to them
    FOLDER/sparse/0/cameras.bin …       the model, binary or text; also in sparse/ or in FOLDER itself

Every camera model is read: pycolmap says where a ray falls in the photo, and the photo is undistorted by that.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ..base.inputs import existing_folder
from ..scenes.lens import Lens
from ..scenes.points import ScenePoints
from ..scenes.scene import Scene
from .frames import Frame, assemble
from .reading import PHOTOS, counting_order

PARTS = ("cameras", "images", "points3D")
FOLDERS = ("images", "images_2", "images_4", "images_8")


def colmap(folder, frames=None, size=None, name: str | None = None, on_missing: str = "skip", *, images=None) -> Scene:
    """A COLMAP model with its photos as a Scene.

    Args:
        folder: holds ``sparse/0``, ``sparse`` or the model itself, and the photos in ``images`` or ``images_2`` to ``_8``.
            Of several models the one with most photos is taken.
        frames, size: as for ``captures.rgbd``; photos in the order of their names.
        on_missing: "skip" leaves photos out that the model names and that are not there, "raise" refuses them.
        images: the folder of the photos where it is another one.

    Returns a Scene without depths, with ``.points`` (their ``seen_by`` counts its views) and ``.report``, which names the
    photos that did not register. Its unit of length is unknown.

    Raises:
        FileNotFoundError: no model, a part of one, no photos. ModuleNotFoundError: pycolmap is not installed.
        ValueError: a damaged model, none of its photos there, or a photo of another shape than its camera.
    """
    folder = existing_folder(folder)
    models = find_models(folder)
    read = {path: read_model(path) for path in models}
    path = max(models, key=lambda path: read[path].num_reg_images())
    notes = () if len(models) == 1 else (f"the largest of {len(models)} models, {path.name}",)
    photos = Path(images).expanduser() if images else _photo_folder(folder)
    return scene_of(read[path], path, photos, frames, size, name or folder.resolve().name, on_missing, notes)


def scene_of(model, path: Path, photos: Path, frames, size, name: str, on_missing: str, notes=()) -> Scene:
    """The Scene of a pycolmap.Reconstruction. Arguments as :func:`colmap` has them."""
    lenses = {i: lens_of(camera) for i, camera in model.cameras.items()}
    seen = {i: model.images[i] for i in model.reg_image_ids()}
    order = sorted(seen, key=lambda i: counting_order(seen[i].name))
    listed = []
    for i in order:
        pose = np.eye(4)
        pose[:3] = seen[i].cam_from_world().matrix()
        where = f"{path}, image {seen[i].name}"
        listed.append(Frame(seen[i].name, photos / seen[i].name, lenses[seen[i].camera_id], pose, where=where))
    there = {p.relative_to(photos).as_posix() for p in photos.rglob("*") if p.suffix.lower() in PHOTOS and p.name[0] != "."}
    alone = sorted(there - {frame.name for frame in listed}, key=counting_order)
    kinds = " and ".join(sorted({camera.model.name for camera in model.cameras.values()}))
    return assemble(
        listed,
        source=f"COLMAP model {path} ({kinds})",
        name=name,
        frames=frames,
        size=size,
        on_missing=on_missing,
        units="unknown",
        stored=True,  # COLMAP does not look at EXIF orientation
        points=points_of(model, order),
        unregistered={name: "not in the model: it matched too few others, or was added later" for name in alone},
        notes=notes,
    )


def find_models(folder: Path) -> list[Path]:
    """The folders in which a model lies: FOLDER/sparse/*, FOLDER/sparse, FOLDER. FileNotFoundError for none."""
    sparse = folder / "sparse"
    inside = sorted((p for p in sparse.iterdir() if p.is_dir()), key=lambda p: p.name) if sparse.is_dir() else []
    begun = [p for p in (*inside, sparse, folder) if any((p / f"cameras{end}").is_file() for end in (".bin", ".txt"))]
    for path in begun:
        end = ".bin" if (path / "cameras.bin").is_file() else ".txt"
        missing = [part + end for part in PARTS if not (path / (part + end)).is_file()]
        if missing:
            raise FileNotFoundError(f"{path} has no {missing[0]}: a COLMAP model is cameras, images and points3D.")
    if not begun:
        raise FileNotFoundError(
            f"{folder} has no COLMAP model: cameras.bin or cameras.txt lies neither in sparse/0, nor in sparse, nor there."
        )
    inside = [path for path in begun if path.parent == sparse]
    return inside or begun[:1]


def read_model(path: Path):
    """The pycolmap.Reconstruction in a folder. ValueError where it is damaged or empty."""
    pycolmap = need_pycolmap()
    for part in PARTS:
        if (path / f"{part}.bin").is_file():
            check_binary(path / f"{part}.bin", part, pycolmap)
        else:
            check_text(path / f"{part}.txt", part, pycolmap.CameraModelId.__members__)
    try:
        model = pycolmap.Reconstruction(path)
    except (ValueError, RuntimeError, IndexError, KeyError) as error:
        why = str(error).strip().splitlines()[-1]
        raise ValueError(f"{path} is no whole COLMAP model ({why}): export it again.") from None
    if not model.num_reg_images():
        raise ValueError(f"{path} has {model.num_cameras()} cameras but no photo with a pose.")
    return model


def check_binary(path: Path, part: str, pycolmap) -> None:
    """Raise ValueError where the file ends before its last record: pycolmap fills what is missing in a camera with
    whatever lies in memory."""
    data, at = path.read_bytes(), 8
    count = int.from_bytes(data[:8], "little")

    def number(offset: int, size: int) -> int:
        return int.from_bytes(data[offset : offset + size], "little")

    for record in range(1, count + 1):
        if part == "cameras":  # id, model, width, height; then the model's parameters
            try:
                camera = pycolmap.Camera.create_from_model_id(1, pycolmap.CameraModelId(number(at + 4, 4)), 1.0, 1, 1)
            except (ValueError, TypeError):
                raise ValueError(f"{path}, camera {record}: there is no camera model {number(at + 4, 4)}.") from None
            at += 24 + 8 * len(camera.params)
        elif part == "images":  # id, quaternion, translation, camera; name up to a zero; then its 2D points
            end = data.find(b"\0", at + 64) + 1
            at = end + 8 + 24 * number(end, 8) if end else len(data) + 1
        else:  # id, place, color, error; then its track
            at += 51 + 8 * number(at + 43, 8)
        if at > len(data):
            raise ValueError(
                f"{path} ends at byte {len(data):,}, within record {record:,} of {count:,}: it is cut off; copy it again."
            )


def check_text(path: Path, part: str, models=()) -> None:
    """Raise ValueError, with the line, where a word is not a number, words are missing, or a model is none of these."""
    start, least = {"cameras": (2, 5), "images": (0, 10), "points3D": (0, 8)}[part]
    points_follow = False  # in images.txt a line of 2D points, which may be empty, follows each photo's
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        words = line.split()
        if not points_follow and (not words or words[0].startswith("#")):
            continue
        try:
            [float(word) for word in (words[:9] if part == "images" and not points_follow else words[start:])]
            if not points_follow and len(words) < least:
                raise ValueError(f"{len(words)} words where at least {least} belong")
            if part == "cameras" and words[1] not in models:
                raise ValueError(f"there is no camera model {words[1]}")
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}.") from None
        points_follow = part == "images" and not points_follow


def need_pycolmap():
    try:
        import pycolmap
    except ImportError:
        raise ModuleNotFoundError(
            "COLMAP models are read and made by pycolmap, which is not installed: pip install pycolmap (38 MB; it asks "
            "for numpy only and needs no GPU)."
        ) from None
    return pycolmap


def lens_of(camera) -> Lens:
    """A pycolmap.Camera as a Lens."""
    if camera.is_spherical():
        raise ValueError(f"Camera model {camera.model.name} is a panorama: cut it into views of a pinhole first.")
    K = np.array(camera.calibration_matrix())

    def bend(rays: np.ndarray) -> np.ndarray:
        return camera.img_from_cam(np.concatenate([rays, np.ones_like(rays[:, :1])], 1))

    some = np.stack(np.meshgrid(np.linspace(-0.5, 0.5, 5), np.linspace(-0.5, 0.5, 5)), -1).reshape(-1, 2)
    pinhole = np.abs(bend(some) - (some * K.diagonal()[:2] + K[:2, 2])).max() < 1e-6  # a fisheye without k is none
    extra = tuple(camera.params[list(camera.extra_params_idxs())])
    return Lens(K, camera.width, camera.height) if pinhole else Lens(K, camera.width, camera.height, extra, bend=bend)


def points_of(model, order: list[int]) -> ScenePoints | None:
    """The sparse points; ``seen_by`` counts the photos in this order of image ids."""
    points = list(model.points3D.values())
    if not points:
        return None
    view = {image: i for i, image in enumerate(order)}
    tracks = [[e.image_id for e in point.track.elements] for point in points]
    pairs = [(n, view[image]) for n, track in enumerate(tracks) for image in dict.fromkeys(track) if image in view]
    known = all(point.has_error() for point in points)
    return ScenePoints(
        torch.from_numpy(np.array([point.xyz for point in points])).float(),
        torch.from_numpy(np.array([point.color for point in points])).float() / 255,
        torch.tensor([len(track) for track in tracks]),
        torch.tensor([point.error for point in points]).float() if known else None,
        torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2),
    )


def _photo_folder(folder: Path) -> Path:
    found = next((folder / name for name in FOLDERS if (folder / name).is_dir()), None)
    if found is None:
        raise FileNotFoundError(f"{folder} has no photos: {', '.join(FOLDERS)} are not there; name the folder by images=.")
    return found
