"""Plain photos or a film of one place: structure from motion finds the cameras. Runs on a CPU, through pycolmap.

    photos → upright copies of 800 pixels → SIFT features → matches of pairs → cameras and points, photo by photo

All is kept in a folder of the cache named by the photos' content: a stopped run goes on, a finished one is read.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ..base.inputs import check_whole, target_size
from ..base.machine import cache_folder
from ..base.unpack import unpack
from ..base.whole import replace_when_whole
from ..scenes.camera import Camera
from ..scenes.lens import need_cv2
from ..scenes.points import Report
from ..scenes.scene import Scene
from .colmap import need_pycolmap, read_model, scene_of
from .reading import PHOTOS, check_on_missing, choose, counting_order, read_pixels, upright_size

FILMS = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm")
FROM_FILM = 40  # photos taken from a film
EXHAUSTIVE = 60  # up to here every photo is compared with every other, beyond it with its neighbours in order
FEWEST = 3
ORIENTATION = 0x0112  # the tag of EXIF
DA3 = "depth-anything/DA3-LARGE"
ADVICE = "walk around the place rather than turning on the spot, and let neighbours share two thirds of what they show"


def photos(
    folder, frames=None, size=None, name: str | None = None, on_missing: str = "skip", *, longest: int = 800,
    method: str = "colmap", cache=None,
) -> Scene:  # fmt: skip
    """Photos of one place, or a film of it, as a Scene whose cameras structure from motion finds.

    20 to 60 photos from one camera at one zoom do well, all held the same way. One SIMPLE_RADIAL camera is fitted to all.

    Args:
        folder: of the photos; or a .zip of them; or a film (.mp4, .mov, …), of which the sharpest frame of each of 40
            spans is taken.
        frames: which photos to use, as for ``captures.rgbd``; of a film, how many.
        size: of the scene's photos, as for ``captures.rgbd``; None keeps the ``longest`` side.
        on_missing: "raise" refuses a set in which some photo does not register, "skip" leaves it out and reports it.
        longest: pixels of the longer side at which features are found.
        method: "colmap", or "depth-anything-3" for depth and poses from that network in one pass, at 504 pixels. It needs
            its package, its weights (downloaded) and a GPU; here only its calls were tested, and no result measured.

    Returns a Scene as ``captures.colmap`` does: no depths (but with depth-anything-3), ``.points``, unit of length unknown.

    Raises:
        FileNotFoundError: nothing there. ModuleNotFoundError: pycolmap, or for a film OpenCV, is not installed.
        ValueError: fewer than three photos; photos of several shapes; nothing matches, or under half of them registers.
    """
    source = Path(folder).expanduser()
    check_on_missing(on_missing)
    if method not in ("colmap", "depth-anything-3"):
        raise ValueError(f'method is "colmap" or "depth-anything-3", not {method!r}.')
    if not source.exists():
        raise FileNotFoundError(f"There is no {source}.")
    (need_pycolmap if method == "colmap" else need_depth_anything)()
    name = name or source.resolve().stem
    source = unpack(source) if source.suffix.lower() == ".zip" else source
    if source.is_file():
        if source.suffix.lower() not in FILMS:
            raise ValueError(f"{source} is neither a folder, nor a .zip, nor a film ({', '.join(FILMS)}).")
        work = _work([source], (frames, longest), cache)
        _copies_of_film(source, work / "images", FROM_FILM if frames is None else frames, longest)
    else:
        files = find_photos(source)
        files = [files[i] for i in choose(frames, len(files))] if files else []
        if len(files) < FEWEST:
            raise ValueError(f"{source} has {len(files)} photos, and cameras are found from {FEWEST} on; 20 to 60 do well.")
        _one_shape(files)
        work = _work(files, longest, cache)
        _copies(files, source, work / "images", longest)
    if method != "colmap":
        return depth_anything(work, name, size)
    done = work / "sparse"
    if not done.is_dir():
        solve(work, name)
    model = read_model(done)
    names = {p.name for p in (work / "images").iterdir()}
    count, found = len(names), model.num_reg_images()
    if found < count and (2 * found < count or on_missing == "raise"):
        missing = sorted(names - {image.name for image in model.images.values()})
        raise ValueError(f"{found} of the {count} photos of {name} registered, not {', '.join(missing[:5])}: {ADVICE}.")
    return scene_of(model, done, work / "images", None, size, name, on_missing)


def find_photos(folder: Path) -> list[Path]:
    """The photos in a folder, or in its ``images``, in counting order."""
    for place in (folder, folder / "images"):
        found = [p for p in place.iterdir() if p.suffix.lower() in PHOTOS and p.name[0] != "."] if place.is_dir() else []
        if found:
            return sorted(found, key=lambda p: counting_order(p.name))
    return []


def _one_shape(files: list[Path]) -> None:
    """Raise ValueError unless all photos have one shape: they are taken for one camera at one zoom."""
    shapes = Counter(map(upright_size, files))
    if len({round(w / h, 2) for w, h in shapes}) > 1:
        said = ", ".join(f"{count} of {w}×{h}" for (w, h), count in shapes.most_common(4))
        raise ValueError(
            f"The photos have several shapes ({said}, W×H): take those of one camera at one zoom, all upright or all across."
        )


def _work(files: list[Path], settings, cache) -> Path:
    """The folder in the cache for exactly these photos and settings."""
    hashed = hashlib.blake2b(repr(settings).encode(), digest_size=8)
    for file in files:
        hashed.update(file.name.encode() + file.read_bytes())
    work = cache_folder(cache) / "photos" / hashed.hexdigest()
    (work / "images").mkdir(parents=True, exist_ok=True)
    return work


def _copies(files: list[Path], folder: Path, images: Path, longest: int) -> None:
    """Upright copies, their longer side ``longest`` at most. The EXIF note stays: the focal length in it helps."""
    from PIL import Image

    for file in tqdm(files, desc="reading photos", unit="photo", delay=1.0, leave=False):
        target = images / f"{file.stem}.jpg"
        if target.is_file():
            continue
        photo = Image.fromarray(read_pixels(file, "a photo", "RGB")[0])
        photo.thumbnail((longest, longest), Image.LANCZOS)
        with Image.open(file) as stored:
            note = stored.getexif()
            note.pop(ORIENTATION, None)  # the copy is upright
        with replace_when_whole(target) as partial:
            photo.save(partial, quality=95, exif=note)


def _copies_of_film(film: Path, images: Path, count, longest: int) -> None:
    """The sharpest frame (most variance of the Laplacian) of each of ``count`` equal spans of the film."""
    check_whole(FEWEST, frames=count)
    if len(list(images.iterdir())) == count:
        return
    cv2 = need_cv2()
    reader = cv2.VideoCapture(str(film))
    total = int(reader.get(cv2.CAP_PROP_FRAME_COUNT))
    if not reader.isOpened() or total < 1:
        raise ValueError(f"{film} cannot be read as a film: OpenCV finds no frames in it.")
    if total < count:
        raise ValueError(f"{film} has {total} frames, fewer than the {count} photos asked for by frames=.")
    best = {}
    for position in tqdm(range(total), desc="reading the film", unit="frame", delay=1.0, leave=False):
        whole, frame = reader.read()
        if not whole:  # the header often promises a few more
            break
        scale = longest / max(frame.shape[:2])
        if scale < 1:
            frame = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        sharp = cv2.Laplacian(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), cv2.CV_32F).var()
        span = position * count // total
        if span not in best or sharp > best[span][0]:
            best[span] = sharp, position, frame
    for _, position, frame in best.values():
        with replace_when_whole(images / f"{position:06d}.jpg") as partial:
            cv2.imwrite(str(partial), frame, [cv2.IMWRITE_JPEG_QUALITY, 95])


def solve(work: Path, name: str) -> None:
    """Structure from motion on ``work/images``; the largest model comes to lie in ``work/sparse``."""
    pycolmap = need_pycolmap()
    files = sorted((p.name for p in (work / "images").iterdir()), key=counting_order)
    count, database = len(files), work / "database.db"
    level, pycolmap.logging.minloglevel = pycolmap.logging.minloglevel, 3  # its own log is hundreds of lines
    pycolmap.set_random_seed(0)
    try:
        with tqdm(total=3 * count, desc=f"{name}: features", delay=1.0) as bar:
            reader = pycolmap.ImageReaderOptions(camera_model="SIMPLE_RADIAL")
            step = max(1, os.cpu_count() or 1)
            for start in range(0, count, step):
                some = files[start : start + step]
                one = {"camera_mode": pycolmap.CameraMode.SINGLE, "reader_options": reader, "device": pycolmap.Device.cpu}
                pycolmap.extract_features(database, work / "images", some, **one)
                reader.existing_camera_id = 1  # every later photo is of the first one's camera
                bar.update(len(some))
            bar.set_description(f"{name}: matches")
            match = pycolmap.match_exhaustive if count <= EXHAUSTIVE else pycolmap.match_sequential
            match(database, device=pycolmap.Device.cpu)
            bar.update(count)
            bar.set_description(f"{name}: cameras")
            partial = work / "sparse.partial"
            for angle, inliers in ((16.0, 100), (4.0, 50)):  # COLMAP's own start, then one for small movements
                shutil.rmtree(partial, ignore_errors=True)
                partial.mkdir()
                options = pycolmap.IncrementalPipelineOptions(min_model_size=FEWEST, random_seed=0)
                options.mapper.init_min_tri_angle, options.mapper.init_min_num_inliers = angle, inliers
                models = pycolmap.incremental_mapping(
                    database, work / "images", partial, options, next_image_callback=bar.update
                )
                if models:
                    break
            bar.update(bar.total - bar.n)
    finally:
        pycolmap.logging.minloglevel = level
    if not models:
        raise ValueError(f"No two of the {count} photos of {name} show enough of the same things: {ADVICE}.")
    best = max(models, key=lambda i: models[i].num_reg_images())
    shutil.rmtree(work / "sparse", ignore_errors=True)
    (partial / str(best)).rename(work / "sparse")
    shutil.rmtree(partial)


def need_depth_anything():
    try:
        from depth_anything_3.api import DepthAnything3
    except ImportError:
        raise ModuleNotFoundError(
            "Depth Anything 3 is not installed: pip install git+https://github.com/ByteDance-Seed/Depth-Anything-3 (it wants "
            'a CUDA GPU); method="colmap" needs neither.'
        ) from None
    return DepthAnything3


def depth_anything(work: Path, name: str, size) -> Scene:
    """Depths and cameras of ``work/images`` in one pass; the tenth of the pixels that are least sure stay unknown."""
    files = sorted((work / "images").iterdir(), key=lambda p: counting_order(p.name))
    model = need_depth_anything().from_pretrained(DA3).to(device="cuda" if torch.cuda.is_available() else "cpu")
    found = model.inference([str(file) for file in files])
    images, depths = torch.from_numpy(found.processed_images).movedim(3, 1) / 255, torch.from_numpy(found.depth).float()
    if found.conf is not None:
        depths = depths * torch.from_numpy(found.conf >= np.quantile(found.conf, 0.1))
    poses = torch.eye(4).repeat(len(files), 1, 1)
    poses[:, :3] = torch.from_numpy(found.extrinsics)[:, :3]
    height, width = images.shape[2:]
    K = torch.from_numpy(found.intrinsics)
    names, notes = tuple(file.name for file in files), ("depths are a network's, not a sensor's",)
    report = Report(f"Depth Anything 3 ({DA3})", names, {}, {}, units="unknown", notes=notes)
    cameras = [Camera(K[i], poses[i], width, height) for i in range(len(files))]
    scene = Scene(images.float(), cameras, depths, name=name, report=report)
    return scene.resized(*target_size(size, height, width)[::-1])
