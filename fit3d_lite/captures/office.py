"""The office: one real capture that everyone can have, checked file by file.

A HoloLens walked through an office kitchen of 6.6 × 8.6 m: 373 photos of 540×360 with depth and poses, 143 MB, from
``sample-data/hololens-dataset/000`` of https://github.com/ardaduz/deep-video-mvs (MIT, Copyright (c) 2020 Arda
Duzceker; Düzçeker et al., "DeepVideoMVS", CVPR 2021). The course counts every fourth photo: 94 of them, neighbours a
short step apart. ``assets/office_files.json`` lists size and git blob id of every file at one commit.
"""

from __future__ import annotations

import json
import os
from functools import cache as remember
from pathlib import Path

from ..base.download import DownloadError, fetch_many, offline
from ..base.inputs import check_whole
from ..base.machine import asset, cache_folder
from ..base.resume import no_way
from ..scenes.scene import Scene
from .frames import assemble
from .reading import choose, read_K
from .rgbd import frames_of, photo_of, read_poses

__all__ = ["find_office", "office"]

HOST = "https://raw.githubusercontent.com"


def office(frames=None, size=None, cache=None, *, every: int = 4) -> Scene:
    """The office capture as a Scene, from a copy on this machine or downloaded.

    A copy is used without a network, and taken as it is: the folder named by the environment variable FIT3D_OFFICE, or
    ``office`` in the cache folder; in the original's layout, or with every fourth photo only. Otherwise exactly the
    files of the frames asked for are downloaded into ``office`` in the cache folder, about 0.38 MB a frame, each checked
    by size and git blob id; a stopped download is resumed.

    Args:
        frames: positions among the capture's photos, as for ``captures.rgbd``: ``slice(20, 36)``, a list, or an int n
            for n evenly spaced. They mean the same photos whichever copy is there. Photos overlap well within five
            positions.
        size: (height, width) or an int for the shorter side; None for 360×540.
        cache: the cache folder; FIT3D_CACHE or the default when not given.
        every: which of the original's 373 photos are counted: 4 gives 94, 1 gives all of them.

    Returns a Scene with depths [V, H, W] in metres (0 = unknown), named "office".

    Raises:
        DownloadError: no copy and no network, or a file of another size or hash than listed.
        FileNotFoundError: FIT3D_OFFICE names a folder that is not a capture.
        ValueError: frames outside the capture, or what ``captures.rgbd`` refuses.
    """
    stems = _chosen(frames, every)
    folder = _find(stems, cache) or _download(stems, cache_folder(cache) / "office")
    rows = _rows(folder)
    files = [(photo_of(folder, stem), folder / "depth" / f"{stem}.png") for stem in stems]
    poses, lines = read_poses(folder / "poses.txt"), [rows[stem] for stem in stems]
    K = read_K(folder / "K.txt")
    listed = frames_of(files, poses[lines], [f"{folder / 'poses.txt'}, matrix {i + 1}" for i in lines], K)
    return assemble(listed, source=f"the office capture in {folder}", name="office", size=size)


def find_office(frames=None, cache=None, *, every: int = 4) -> Path | None:
    """The folder from which ``office(frames, …)`` can be read without a network, or None. Arguments as there.

    Raises FileNotFoundError when FIT3D_OFFICE names a folder that is not a capture.
    """
    return _find(_chosen(frames, every), cache)


@remember
def upstream() -> dict:
    """repository, commit, folder, licence and files {path: [bytes, git blob id]} of the original."""
    return json.loads(asset("office_files.json").read_text())


def _stems() -> list[str]:
    """Names of the original's frames, in order; their places are the lines of its poses.txt."""
    return sorted(Path(path).stem for path in upstream()["files"] if path.startswith("images/"))


def _chosen(frames, every: int) -> list[str]:
    check_whole(1, every=every)
    stems = _stems()[::every]
    return [stems[i] for i in choose(frames, len(stems))]


def _find(stems: list[str], cache) -> Path | None:
    named = os.environ.get("FIT3D_OFFICE")
    if named and not _rows(Path(named).expanduser()):
        raise FileNotFoundError(
            f"FIT3D_OFFICE={named} is not a capture with images/, depth/, poses.txt and K.txt: correct it or unset it."
        )
    folders = [Path(named).expanduser()] if named else []
    folders.append(cache_folder(cache) / "office")
    return next((folder for folder in folders if _has(folder, stems)), None)


def _rows(folder: Path) -> dict[str, int]:
    """Frame name to line of poses.txt. The original's poses cover all its frames, whichever photos are there; in a
    smaller copy the lines follow the photos. Empty when this is no capture, or its lines and photos do not pair up."""
    if not all((folder / part).exists() for part in ("images", "depth", "poses.txt", "K.txt")):
        return {}
    count, stems = len(read_poses(folder / "poses.txt")), _stems()
    if count != len(stems):
        stems = sorted(path.stem for path in (folder / "images").iterdir() if photo_of(folder, path.stem) == path)
    return {stem: row for row, stem in enumerate(stems)} if count == len(stems) else {}


def _has(folder: Path, stems: list[str]) -> bool:
    rows = _rows(folder)
    return all(
        stem in rows and photo_of(folder, stem) is not None and (folder / "depth" / f"{stem}.png").is_file()
        for stem in stems
    )


def _download(stems: list[str], folder: Path) -> Path:
    table = upstream()
    paths = ["K.txt", "poses.txt"] + [path for stem in stems for path in (f"images/{stem}.png", f"depth/{stem}.png")]
    paths = list(dict.fromkeys(paths))  # a frame may be asked for twice
    missing = [path for path in paths if not (folder / path).exists()]
    megabytes = sum(table["files"][path][0] for path in missing) / 2**20
    help_ = (
        f"{len(missing)} files ({megabytes:.1f} MB) of the office capture are missing and there is no network: put a "
        f"copy at {folder} or name its folder in FIT3D_OFFICE; fit3d_lite.room(seed=0) needs neither and works now"
    )
    poses = folder / "poses.txt"
    if poses.exists() and poses.stat().st_size != table["files"]["poses.txt"][0]:  # the lines would no longer match
        raise DownloadError(
            f"{folder} holds another copy of the office with {len(_rows(folder))} frames, not all of the {len(stems)} "
            f"asked for: move it away and run this again to download them."
        )
    if offline():
        raise DownloadError(f"{help_} (FIT3D_OFFLINE=1 is set).")
    source = f"{HOST}/{table['repository']}/{table['commit']}/{table['folder']}"
    files = [
        {"url": f"{source}/{path}", "path": folder / path, "size": size, "git_blob": blob}
        for path in paths
        for size, blob in [table["files"][path]]
    ]
    try:
        fetch_many(files, desc=f"office, {len(stems)} frames")
    except DownloadError as error:
        if error.__cause__ is not None and no_way(error.__cause__):
            raise DownloadError(f"{help_} ({error.__cause__}).") from error
        raise
    return folder
