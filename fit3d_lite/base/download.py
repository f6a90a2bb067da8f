"""Checked, resumable downloads: a file appears under its name only when it is whole.

``fetch`` serves the whole project: a 3 GB ``.mat``, a checkpoint, the many small files of a capture. It needs the
standard library only (urllib), because all it asks of HTTP is one ``Range`` header, and one dependency fewer is one
thing fewer that can differ between Colab and a laptop.

    <path>.partial   grows, survives a cut connection or a stopped notebook, and is resumed
    <path>           exists only after size and hash have been checked
"""

import hashlib
import os
import re
from collections.abc import Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from threading import Event

from tqdm import tqdm

from .inputs import check_kind, check_whole, existing_file
from .resume import CHUNK, Cut, DownloadError, Slow, alone, bytes_of, continue_download, drop, no_way, refuse_scheme


def fetch(url, path, sha256=None, git_blob=None, size=None, *, retries=4, backoff=1.0, timeout=30.0) -> Path:
    """Download ``url`` to ``path`` unless it is there already, and return the path.

    An unfinished download continues where it stopped. Broken connections and busy servers (408, 429, 5xx) are tried
    again after ``backoff``·1, 2, 4, … seconds, at most ``retries`` times in a row without any new bytes. A file that is
    already there is not downloaded; it is compared with ``size``, or with the hash when no size is given.

    Args:
        url: http or https address.
        path: where the file shall appear; missing folders are made.
        sha256: expected SHA-256 in hex. Without it, the hash that huggingface.co announces for its large files is used.
        git_blob: expected git blob id in hex, as ``git hash-object`` prints it (SHA-1 with a header).
        size: expected bytes.
        timeout: seconds without any byte after which a connection counts as broken.

    Raises:
        DownloadError: no network (or ``FIT3D_OFFLINE=1``), address refused, wrong size or hash, disk too small. After a
            wrong hash nothing is left on disk, so the next call starts afresh.
    """
    path = Path(path)
    bar = tqdm(total=size, unit="B", unit_scale=True, unit_divisor=1024, desc=path.name, delay=1.0)
    with bar:
        return _fetch(url, path, sha256, git_blob, size, retries, backoff, timeout, _Share(bar, size is None, Event()))


def fetch_many(files, threads=8, desc=None, **options) -> list[Path]:
    """Download many files with a few threads and one progress bar; the first failure stops the rest.

    Args:
        files: dicts of ``fetch``'s arguments: ``{"url": …, "path": …, "sha256" | "git_blob": …, "size": …}``.
        threads: connections at once.
        options: ``retries``, ``backoff``, ``timeout`` of ``fetch``.

    Returns:
        The paths, in order. What was finished before a failure stays and is not downloaded again.

    Raises:
        ValueError: two files with the same path. DownloadError: as ``fetch``.
    """
    check_whole(1, threads=threads)
    for file in files:
        check_kind(Mapping, each_file=file)
    files = [{"sha256": None, "git_blob": None, "size": None} | dict(file) for file in files]
    paths = [Path(file["path"]) for file in files]
    if len(set(paths)) < len(paths):
        twice = next(path for path in paths if paths.count(path) > 1)
        raise ValueError(f"two of the {len(paths)} files are to be written to {twice}; give each its own path")
    sizes = [file["size"] for file in files]
    options = {"retries": 4, "backoff": 1.0, "timeout": 30.0} | options
    total = sum(sizes) if all(size is not None for size in sizes) else None
    desc = desc or f"{len(files)} files"
    stop = Event()
    with (
        tqdm(total=total, unit="B", unit_scale=True, unit_divisor=1024, desc=desc, delay=1.0) as bar,
        ThreadPoolExecutor(max_workers=threads) as pool,
    ):
        jobs = [
            pool.submit(_fetch, **(file | {"path": Path(file["path"])}), **options, share=_Share(bar, total is None, stop))
            for file in files
        ]
        try:
            done, _ = wait(jobs, return_when=FIRST_EXCEPTION)
            for job in done:
                job.result()  # raises the first failure, while others are still on their way
            return [job.result() for job in jobs]
        except BaseException:  # also a stopped notebook: do not start what has not begun, and end what has
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def offline() -> bool:
    """True when the environment variable ``FIT3D_OFFLINE`` forbids the network."""
    return os.environ.get("FIT3D_OFFLINE", "").strip().lower() not in ("", "0", "false", "no", "off")


def _fetch(url, path, sha256, git_blob, size, retries, backoff, timeout, share) -> Path:
    if path.exists():
        _check_existing(path, sha256, git_blob, size)
        share.reach(path.stat().st_size)
        return path
    what = f"{path.name} ({size / 2**20:,.1f} MB)" if size else path.name
    by_hand = f"Get {url} on a machine with a network and put it at {path.absolute()}"
    if offline():
        raise DownloadError(f"{what} is missing and FIT3D_OFFLINE=1 forbids the network. {by_hand}, or unset it.")
    refuse_scheme(url)
    for kind, digits, expected in (("sha256", 64, sha256), ("git_blob", 40, git_blob)):
        if expected is not None and not re.fullmatch(rf"[0-9a-fA-F]{{{digits}}}", str(expected)):
            raise DownloadError(f"{kind} must be {digits} hexadecimal digits, got {expected!r}; nothing was downloaded.")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with alone(partial):
        if not path.exists():  # else another process has brought it meanwhile
            _bring(url, path, partial, sha256, git_blob, size, retries, backoff, timeout, share)
    return path


def _bring(url, path, partial, sha256, git_blob, size, retries, backoff, timeout, share) -> None:
    what = f"{path.name} ({size / 2**20:,.1f} MB)" if size else path.name
    by_hand = f"Get {url} on a machine with a network and put it at {path.absolute()}"
    most, failures, reached = 0, 0, False
    while True:
        try:
            announced = continue_download(url, partial, size, timeout, share, hashed=bool(sha256 or git_blob))
            break
        except Cut as cut:
            cause = cut.__cause__
            reached |= not no_way(cause)
            if not reached:  # waiting would not help
                raise DownloadError(
                    f"no network: {what} is missing and {url} cannot be reached ({cause.reason}). {by_hand}."
                ) from cause
            # Only bytes beyond the furthest point so far are progress: a server that ignores Range and always breaks
            # at the same byte must not keep us for ever.
            have = bytes_of(partial)
            failures = 0 if have > most and not isinstance(cause, Slow) else failures + 1
            most = max(most, have)
            if failures > retries:
                raise DownloadError(
                    f"the connection for {url} broke {failures} times in a row at {have:,} bytes ({cause}). What has "
                    "arrived is kept: run this again to continue."
                ) from cause
            share.stop.wait(backoff * 2 ** max(0, failures - 1))

    _check_partial(partial, url, sha256 or (None if git_blob else announced), git_blob, size)
    partial.replace(path)
    drop(partial)


class _Share:
    """One file's part of a progress bar that several threads move, back too when a download starts over."""

    def __init__(self, bar, counts: bool, stop: Event):
        # Whether this file's size is still to be counted is settled before any thread starts: by the time a slow one
        # gets here, a fast one may have given the bar a total.
        self.bar, self.position, self.own, self.stop = bar, 0, counts, stop

    def expect(self, total):
        if self.own and total is not None:
            with self.bar.get_lock():
                self.bar.total = (self.bar.total or 0) + total
            self.own = False

    def reach(self, position):
        if self.stop.is_set():
            raise DownloadError("stopped, as another file could not be had; what has arrived is kept")
        with self.bar.get_lock():
            self.bar.update(position - self.position)
        self.position = position


def hash_file(path, kind="sha256") -> str:
    """Hex digest of a file: ``kind`` is "sha256", or "git_blob" for the id that git gives the same content."""
    digest = hashlib.sha256() if kind == "sha256" else hashlib.sha1(b"blob %d\0" % Path(path).stat().st_size)
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _check_partial(partial, url, sha256, git_blob, size):
    if size is not None and bytes_of(partial) != size:
        have = bytes_of(partial)
        drop(partial)
        raise DownloadError(f"{url} gave {have:,} bytes where {size:,} were expected; nothing is kept")
    for kind, expected in (("sha256", sha256), ("git_blob", git_blob)):
        if expected is not None and (actual := hash_file(partial, kind)) != expected.lower():
            drop(partial)
            raise DownloadError(
                f"{url} has {kind} {actual} where {expected} was expected: damaged on the way, or changed. The "
                "download is deleted; run this again, and if it repeats the file has changed at its source."
            )


def _check_existing(path, sha256, git_blob, size):
    existing_file(path, "download")
    if size is not None and path.stat().st_size != size:
        raise DownloadError(
            f"{path} has {path.stat().st_size:,} bytes where {size:,} are expected; delete it and run this again"
        )
    if size is not None:  # a file gets its name only after its hash was checked; 3 GB need not be read every time
        return
    for kind, expected in (("sha256", sha256), ("git_blob", git_blob)):
        if expected is not None and (actual := hash_file(path, kind)) != expected.lower():
            raise DownloadError(
                f"{path} has {kind} {actual} where {expected} is expected; delete it and run this again"
            )
