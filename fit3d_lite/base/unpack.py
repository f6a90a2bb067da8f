"""Archives of strangers: unpacked whole or not at all, and never outside the folder that was meant."""

from __future__ import annotations

import shutil
import stat
import tarfile
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

MOST_BYTES, MOST_FILES = 20 * 2**30, 100_000
TIMES = 200  # a zip that grows more than this is made to fill a disk; photos do not shrink at all


def unpack(path, folder=None) -> Path:
    """Unpack a .zip, .tar, .tar.gz or .tgz into ``folder`` (beside the archive, of its name, when not given).

    Returns the folder; where everything lies in one folder of the archive, that one's content is in it. A folder that is
    there already with content is returned as it is.

    Raises:
        FileNotFoundError: no such archive.
        ValueError: it is none or is damaged; a name in it leads out of the folder; it holds links or devices; it would
            grow to more than 20 GB, 100,000 files or 200 times its size. Then nothing is written.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    stem = path.name.removesuffix(".gz").rsplit(".", 1)[0]
    folder = Path(folder).expanduser() if folder is not None else path.with_name(stem)
    if folder == path:
        folder = path.with_name(path.name + " unpacked")
    if folder.is_dir() and any(folder.iterdir()):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as made:
        inside = Path(made) / "content"
        inside.mkdir()
        try:
            if zipfile.is_zipfile(path):
                with zipfile.ZipFile(path) as archive:
                    _zip(archive, path, inside)
            elif tarfile.is_tarfile(path):
                with tarfile.open(path) as archive:
                    _tar(archive, path, inside)
            else:
                raise ValueError(f"{path} is no .zip and no .tar.gz.")
        except (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError, RuntimeError, NotImplementedError) as error:
            raise ValueError(f"{path} cannot be unpacked ({error}): copy or download it again.") from None
        parts = [p for p in inside.iterdir() if p.name not in ("__MACOSX", ".DS_Store")]
        whole = parts[0] if len(parts) == 1 and parts[0].is_dir() else inside
        if folder.is_dir():
            folder.rmdir()  # empty
        shutil.move(whole, folder)
    return folder


def _zip(archive: zipfile.ZipFile, path: Path, inside: Path) -> None:
    entries = archive.infolist()
    _refuse(path, [(e.filename, e.file_size, stat.S_ISLNK(e.external_attr >> 16)) for e in entries])
    archive.extractall(inside)


def _tar(archive: tarfile.TarFile, path: Path, inside: Path) -> None:
    entries = archive.getmembers()
    _refuse(path, [(e.name, e.size, not (e.isfile() or e.isdir())) for e in entries])
    for entry in entries:  # by hand: extract() would also set owners and modes
        target = inside / entry.name
        if entry.isdir():
            target.mkdir(parents=True, exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.extractfile(entry) as source, open(target, "wb") as file:
                shutil.copyfileobj(source, file)


def _refuse(path: Path, entries: list[tuple[str, int, bool]]) -> None:
    """Raise ValueError for what no archive of photos holds. Entries are (name, bytes, is a link or a device)."""
    for name, _, odd in entries:
        parts = PurePosixPath(name.replace("\\", "/"))
        if ".." in parts.parts or parts.is_absolute() or ":" in name.split("/")[0]:
            raise ValueError(f"{path} is refused: its entry {name!r} leads out of the folder it is unpacked to.")
        if odd:
            raise ValueError(f"{path} is refused: its entry {name!r} is a link or a device, not a file.")
    total = sum(size for _, size, _ in entries)
    if total > min(MOST_BYTES, max(2**26, TIMES * path.stat().st_size)) or len(entries) > MOST_FILES:
        raise ValueError(f"{path} is refused: it would grow to {total / 2**20:,.0f} MB in {len(entries):,} files.")
