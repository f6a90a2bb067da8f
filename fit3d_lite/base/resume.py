"""One HTTP request that continues a file where it stopped, whatever the server makes of it."""

import http.client
import re
import shutil
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

SLOWEST = 60.0, 60 * 1024  # in so many seconds so many bytes must arrive, or the connection counts as broken
CHUNK = 1 << 20  # bytes read at once, at most: large enough to be fast, small enough for a lively progress bar


class DownloadError(OSError):
    """A file could not be had; the message says which, from where, and what to do."""


class Slow(TimeoutError):
    """Bytes drip in, too few to wait for."""


class Cut(Exception):
    """The connection broke; what has arrived is kept and the rest can be asked for again."""


def continue_download(url, partial, size, timeout, share, hashed: bool) -> str | None:
    """Append to ``partial`` until it is whole, in one request. Returns the SHA-256 the server announces, if any;
    ``hashed``: the caller has one, so that a partial of full size needs no request.
    """
    have = bytes_of(partial)
    if size is not None and have > size:  # left by another version of the file
        drop(partial)
        have = 0
    if size is not None and have == size and hashed:
        share.reach(have)
        return None
    version, whole = (_note(partial).read_text().split("\n") if _note(partial).is_file() else ["", ""])[:2]
    redirect = _RememberHash()
    headers = {"User-Agent": "fit3d_lite", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if version:
            headers["If-Range"] = version  # a file that has changed is sent from its beginning
    try:
        opener = urllib.request.build_opener(redirect)
        reply = opener.open(urllib.request.Request(url, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # no bytes after ``have``: either the partial is whole, or it is of another file
            total = re.search(r"/(\d+)$", error.headers.get("Content-Range", ""))
            if total is not None and int(total[1]) == have:
                return redirect.sha256
            drop(partial)
            raise Cut from error
        if error.code in (408, 429) or error.code >= 500:
            raise Cut from error
        raise DownloadError(
            f"{url} answers {error.code} {error.reason}: the file has moved or is not public. If you have it, put it "
            f"at {partial.absolute().with_suffix('')}."
        ) from error
    except (ValueError, http.client.InvalidURL) as error:
        raise DownloadError(f"{url} is no address: {error}") from None
    except DownloadError:
        raise
    except (OSError, http.client.HTTPException) as error:  # URLError is an OSError
        raise Cut from error

    with reply:
        if reply.status == 206:
            start = re.match(r"bytes (\d+)-\d+/(\d*)", reply.headers.get("Content-Range", ""))
            if start is None or int(start[1]) != have:
                raise DownloadError(f"{url} was asked for bytes from {have:,} and sent others; delete {partial}")
            if whole and start[2] and start[2] != whole:
                drop(partial)
                raise Cut from ConnectionError(f"the file had {whole} bytes and now has {start[2]}: start over")
        else:
            have = 0  # the server ignores Range and sends the whole file: start over
        length = reply.headers.get("Content-Length")
        total = have + int(length) if length is not None else None
        if None not in (size, total) and total != size:
            raise DownloadError(
                f"{url} offers {total:,} bytes where {size:,} were expected: the file has changed, or a login or error "
                "page is sent in its place"
            )
        free = shutil.disk_usage(partial.parent).free
        if total is not None and total - have > free:
            raise DownloadError(
                f"{partial.stem} needs {(total - have) / 2**20:,.0f} MB more and {partial.parent} has "
                f"{free / 2**20:,.0f} MB free; make room or choose another folder"
            )
        share.expect(total)
        if not have:
            tag = reply.headers.get("ETag", "")
            _note(partial).write_text(f"{tag if tag.startswith(chr(34)) else ''}\n{total or ''}")
        since, before = time.monotonic(), have
        with open(partial, "ab" if have else "wb") as out:
            share.reach(have)
            while True:
                try:
                    chunk = reply.read1(CHUNK)
                except (OSError, http.client.HTTPException) as error:
                    raise Cut from error
                if not chunk:
                    break
                out.write(chunk)
                have += len(chunk)
                share.reach(have)
                if time.monotonic() - since > SLOWEST[0]:
                    if have - before < SLOWEST[1]:
                        raise Cut from Slow(f"only {have - before:,} bytes in {SLOWEST[0]:.0f} s")
                    since, before = time.monotonic(), have
    if total is not None and have < total:  # http.client does not complain when a body ends early
        raise Cut from ConnectionError(f"{have:,} of {total:,} bytes arrived")
    return redirect.sha256


def refuse_scheme(url) -> None:
    """Raise DownloadError for file:, ftp: and whatever else is no http or https address."""
    if not re.match(r"https?://[^/?#\s]", str(url), re.IGNORECASE):
        raise DownloadError(f"{str(url)!r} is no http or https address.")


def drop(partial: Path) -> None:
    """Delete an unfinished download and what is noted of it."""
    partial.unlink(missing_ok=True)
    _note(partial).unlink(missing_ok=True)


def _note(partial: Path) -> Path:
    """Where the version (ETag) and the size of an unfinished download are noted."""
    return partial.with_name(partial.name + ".version")


@contextmanager
def alone(partial: Path):
    """One process a file: another waits here until the first is done. No lock where the system has none."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    with open(partial, "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            pass  # a file system without locks
        try:
            yield
        finally:
            if not bytes_of(partial):
                drop(partial)


class _RememberHash(urllib.request.HTTPRedirectHandler):
    """huggingface.co names the SHA-256 of a large file when it redirects to its storage (``X-Linked-Etag``)."""

    sha256 = None

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        refuse_scheme(newurl)
        tag = headers.get("X-Linked-Etag", "").strip('"')
        if re.fullmatch(r"[0-9a-f]{64}", tag):
            self.sha256 = tag
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def no_way(error) -> bool:
    """True when there is no way to the server at all: no name, no route, refused; not when it is merely slow."""
    unanswered = isinstance(error, urllib.error.URLError) and not isinstance(error, urllib.error.HTTPError)
    return unanswered and not isinstance(error.reason, (TimeoutError, ConnectionResetError))


def bytes_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
