"""transforms.json, the file that nerfstudio, instant-ngp, Polycam's and Record3D's converters write; ScanNet++ too.

Its poses are camera-to-world with OpenGL axes (x right, y up, z backward); ours are world-to-camera with OpenCV's.
``applied_transform`` needs no undoing: poses and the .ply beside them are written after it, in one world.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import torch

from ..scenes.lens import Lens
from ..scenes.points import ScenePoints
from ..scenes.scene import Scene
from .colmap import check_text
from .frames import Frame, assemble, inverse_pose
from .reading import PHOTOS, upright_size

OPENCV = np.diag([1.0, -1.0, -1.0, 1.0])
SCANNETPP = np.array([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, -1, 0], [0, 0, 0, 1.0]])  # undoes how its poses were turned
LAYOUTS = (  # transforms, photos, masks, points: the paper's repository, then ScanNet++ itself
    ("transforms_train.json", "images", "masks", "points3D.txt"),
    ("dslr/nerfstudio/transforms_undistorted.json", "dslr/resized_undistorted_images", "dslr/resized_undistorted_masks",
     "dslr/colmap/points3D.txt"),
    ("dslr/nerfstudio/transforms.json", "dslr/resized_images", "dslr/resized_anon_masks", "dslr/colmap/points3D.txt"),
)  # fmt: skip
MODELS = ("PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "OPENCV_FISHEYE", "FULL_OPENCV")


def nerfstudio(
    folder, frames=None, size=None, name: str | None = None, on_missing: str = "skip", *, metres: bool | None = None,
    depth_scale: float = 1000.0,
) -> Scene:  # fmt: skip
    """A folder with transforms.json (or transforms_train.json), or such a file itself, as a Scene.

    Read are intrinsics (of each frame, of all, or from ``camera_angle_x``), OpenCV's and the fisheye's distortion,
    ``depth_file_path``, ``mask_path`` and the points of ``ply_file_path``.

    Args:
        frames, size: as for ``captures.rgbd``; photos in the order of the file.
        on_missing: "skip" leaves out frames whose photo, depth or mask is not there, "raise" refuses them.
        metres: whether the poses are. None says yes where there is depth (a phone with LiDAR measured), else unknown.
        depth_scale: units of the depth files in one unit of the poses; 1000 for millimetres.

    Raises:
        FileNotFoundError: no transforms file. ValueError: a file that is not one, with the line or the frame.
    """
    folder = Path(folder).expanduser()
    path = folder if folder.suffix == ".json" else _first(folder, "transforms.json", "transforms_train.json")
    table = read_transforms(path)
    listed = frames_of(table, path, path.parent, path.parent)
    metres = any(frame.depth for frame in listed) if metres is None else metres
    points = path.parent / table["ply_file_path"] if table.get("ply_file_path") else None
    return assemble(
        listed,
        source=str(path),
        name=name or path.parent.resolve().name,
        frames=frames,
        size=size,
        on_missing=on_missing,
        units="metres" if metres else "unknown",
        depth_scale=depth_scale,
        points=read_ply(points) if points and points.is_file() else None,
        notes=(f"{points} is not there, so no points",) if points and not points.is_file() else (),
    )


def scannetpp(
    folder, frames=None, size=None, name: str | None = None, on_missing: str = "skip", *, split: str = "all", train_list=None
) -> Scene:
    """One ScanNet++ scene (its DSLR photos) as a Scene: in the layout of the FiT3D repository (images/, masks/,
    points3D.txt, transforms_train.json) or as downloaded (dslr/…).

    Args:
        frames, size, on_missing: as for ``captures.nerfstudio``.
        split: "train" (``frames`` of the file), "test" (``test_frames``), or "all", which is what the paper lifts.
        train_list: a text file with one "sceneID_imageID" or image name a line; other photos are left out.

    Returns a Scene in metres with ``.masks`` [V, H, W], False where pixels were anonymised: they count in no loss.

    Raises:
        FileNotFoundError: no such layout. ValueError: an unknown split, or a damaged file.
    """
    folder = Path(folder).expanduser()
    if split not in ("train", "test", "all"):
        raise ValueError(f'split must be "train", "test" or "all", not {split!r}.')
    layout = next((layout for layout in LAYOUTS if (folder / layout[0]).is_file()), None)
    if layout is None:
        _first(folder, *(layout[0] for layout in LAYOUTS))
    path, photos, masks, points = (folder / part for part in layout)
    table = read_transforms(path)
    parts = {"train": ("frames",), "test": ("test_frames",), "all": ("frames", "test_frames")}[split]
    listed = [frame for part in parts for frame in frames_of(table, path, photos, masks, part, SCANNETPP)]
    bad = {f["file_path"] for part in parts for f in table.get(part, ()) if f.get("is_bad")}
    skipped = {frame.name: "marked as bad in the file" for frame in listed if frame.name in bad}
    if train_list is not None:
        wanted = {Path(line.strip()).stem for line in Path(train_list).read_text().splitlines() if line.strip()}
        out = [f.name for f in listed if not wanted & {Path(f.name).stem, f"{folder.resolve().name}_{Path(f.name).stem}"}]
        skipped |= {one: f"not in {train_list}" for one in out}
    listed = sorted((frame for frame in listed if frame.name not in skipped), key=lambda frame: frame.name)
    return assemble(
        listed,
        source=str(path),
        name=name or folder.resolve().name,
        frames=frames,
        size=size,
        on_missing=on_missing,
        points=read_points3d(points) if points.is_file() else None,
        skipped=skipped,
    )


def _first(folder: Path, *names: str) -> Path:
    found = next((folder / name for name in names if (folder / name).is_file()), None)
    if found is None:
        raise FileNotFoundError(f"{folder} has no {' and no '.join(names)}.")
    return found


def read_transforms(path: Path) -> dict:
    """The file as a dict with a list of ``frames``. ValueError where it is not such a file."""
    try:
        table = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no file {path}.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not JSON: {error}.") from None
    if not isinstance(table, dict) or not isinstance(table.get("frames"), list):
        raise ValueError(f'{path} has no list "frames": it is not a transforms file.')
    return table


def frames_of(
    table: dict, path: Path, photos: Path, masks: Path, part: str = "frames", world: np.ndarray | None = None
) -> list[Frame]:
    """The frames of a transforms file; ``world`` [4, 4] is multiplied to their poses from the left."""
    lenses, listed = {}, []
    for number, entry in enumerate(table.get(part) or ()):
        where = f"{path}, {part}[{number}]"
        try:
            file = _photo(photos / entry["file_path"].replace("\\", "/"))
            pose = np.array(entry["transform_matrix"], dtype=np.float64)
            known = {key: value for key, value in (table | entry).items() if not isinstance(value, (list, dict))}
            key = tuple(known.get(k) for k in KEYS)
            if key not in lenses and file.is_file():
                lenses[key] = _lens(known, file)
            depth, mask = entry.get("depth_file_path"), entry.get("mask_path")
        except KeyError as error:
            raise ValueError(f"{where} has no {error.args[0]}.") from None
        except (TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"{where}: {error}") from None
        if pose.shape not in ((3, 4), (4, 4)):
            raise ValueError(f"{where}: transform_matrix must be 4×4, got {list(pose.shape)}.")
        pose = np.concatenate([pose[:3], [[0.0, 0.0, 0.0, 1.0]]])
        motion = inverse_pose((np.eye(4) if world is None else world) @ pose @ OPENCV, where)
        depth, mask = depth and path.parent / depth, mask and masks / mask
        listed.append(Frame(entry["file_path"], file, lenses.get(key), motion, depth, mask, where))
    return listed


KEYS = ("camera_model", "is_fisheye", "fl_x", "fl_y", "cx", "cy", "w", "h", "camera_angle_x", "camera_angle_y",
        "k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2")  # fmt: skip


def _lens(known: dict, photo: Path) -> Lens:
    model = known.get("camera_model", "OPENCV")
    if model not in MODELS:
        raise ValueError(f"camera_model {model!r} is none of {', '.join(MODELS)}.")
    width, height = upright_size(photo)
    width, height = int(known.get("w", width)), int(known.get("h", height))
    if known.get("fl_x"):
        fx = float(known["fl_x"])
        fy = float(known.get("fl_y") or fx)
    elif known.get("camera_angle_x"):
        fx = width / (2 * math.tan(float(known["camera_angle_x"]) / 2))
        fy = height / (2 * math.tan(float(known["camera_angle_y"]) / 2)) if known.get("camera_angle_y") else fx
    else:
        raise ValueError("neither fl_x nor camera_angle_x stands in it, so the focal length is unknown.")
    K = np.array([[fx, 0, float(known.get("cx", width / 2))], [0, fy, float(known.get("cy", height / 2))], [0, 0, 1.0]])
    fisheye = model == "OPENCV_FISHEYE" or bool(known.get("is_fisheye"))
    order = ("k1", "k2", "k3", "k4") if fisheye else ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")
    return Lens(K, width, height, tuple(float(known.get(k) or 0.0) for k in order), fisheye)


def _photo(path: Path) -> Path:
    """The file of that name, or with the ending that was left out."""
    return path if path.is_file() else next((p for end in PHOTOS if (p := Path(f"{path}{end}")).is_file()), path)


def read_ply(path: Path) -> ScenePoints:
    """Places and colors of a .ply of points."""
    from plyfile import PlyData, PlyParseError

    try:
        rows = PlyData.read(path)["vertex"].data
        xyz = np.stack([rows[axis] for axis in "xyz"], 1).astype(np.float32)
    except (PlyParseError, KeyError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as points: {error}.") from None
    colored = {"red", "green", "blue"} <= set(rows.dtype.names)
    color = np.stack([rows[c] for c in ("red", "green", "blue")], 1) / 255 if colored else np.full_like(xyz, 0.5)
    return ScenePoints(torch.from_numpy(xyz), torch.from_numpy(color).float())


def read_points3d(path: Path) -> ScenePoints:
    """COLMAP's points3D.txt on its own: without images.txt nothing says which photo a number in a track is."""
    check_text(path, "points3D")
    rows = [line.split() for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")]
    numbers = torch.tensor([[float(word) for word in row[1:8]] for row in rows]).reshape(-1, 7)
    lengths = torch.tensor([(len(row) - 8) // 2 for row in rows], dtype=torch.int64)
    return ScenePoints(numbers[:, :3], numbers[:, 3:6] / 255, lengths, numbers[:, 6])
