"""Downloads against a local server that behaves well, or badly in the ways real servers do."""

import hashlib
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from fit3d_lite.base import download, resume
from fit3d_lite.base.download import DownloadError, fetch, fetch_many, hash_file, offline

CONTENT = bytes(range(256)) * 4096  # 1 MiB
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server:
    """Serves CONTENT at every path, and notes the Range header of every request."""

    def __init__(self):
        self.ranges = []  # of each request, None without
        self.cut_after = []  # bytes after which the next replies break
        self.statuses = []  # codes of the next replies, before any content
        self.ignores_range = False
        self.content = CONTENT
        self.version = None  # the ETag
        self.linked_sha256 = None  # announced in a redirect, as huggingface.co does
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                server.reply(self)

            def log_message(self, *args):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def reply(self, handler):
        if self.linked_sha256 and not handler.path.startswith("/storage"):
            handler.send_response(302)
            handler.send_header("Location", f"{self.url}/storage{handler.path}")
            handler.send_header("X-Linked-Etag", f'"{self.linked_sha256}"')
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        asked = handler.headers.get("Range")
        if self.version and handler.headers.get("If-Range", self.version) != self.version:
            asked = None
        self.ranges.append(asked)
        if self.statuses:
            handler.send_error(self.statuses.pop(0))
            return
        total, start = len(self.content), 0
        if asked and not self.ignores_range:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= total:
                handler.send_response(416)
                handler.send_header("Content-Range", f"bytes */{total}")
                handler.send_header("Content-Length", "0")
                handler.end_headers()
                return
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        else:
            handler.send_response(200)
        if self.version:
            handler.send_header("ETag", self.version)
        handler.send_header("Content-Length", str(total - start))
        handler.end_headers()
        body = self.content[start:]
        handler.wfile.write(body[: self.cut_after.pop(0)] if self.cut_after else body)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.delenv("FIT3D_OFFLINE", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


def get(server, tmp_path, **options):
    return fetch(f"{server.url}/data.bin", tmp_path / "new" / "data.bin", **({"backoff": 0.001} | options))


def partial(tmp_path):
    return tmp_path / "new" / "data.bin.partial"


def start_with(tmp_path, content):
    partial(tmp_path).parent.mkdir()
    partial(tmp_path).write_bytes(content)


def test_a_whole_download_is_checked_and_named(server, tmp_path):
    path = get(server, tmp_path, sha256=SHA256, size=len(CONTENT))
    assert path.read_bytes() == CONTENT and not partial(tmp_path).exists()
    get(server, tmp_path, sha256=SHA256, size=len(CONTENT))
    assert server.ranges == [None], "a file that is there is not asked for again"


def test_a_cut_connection_is_resumed_at_the_byte_where_it_broke(server, tmp_path):
    server.cut_after = [300_000, 200_000]
    assert get(server, tmp_path, sha256=SHA256).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=300000-", "bytes=500000-"]


def test_a_stopped_run_is_resumed_by_the_next(server, tmp_path):
    start_with(tmp_path, CONTENT[:1000])
    assert get(server, tmp_path, sha256=SHA256).read_bytes() == CONTENT
    assert server.ranges == ["bytes=1000-"]


def test_a_server_that_ignores_range_gives_the_file_once(server, tmp_path):
    server.ignores_range = True
    server.cut_after = [300_000]
    assert get(server, tmp_path).read_bytes() == CONTENT  # no hash: appending would show here


def test_a_server_that_always_breaks_at_the_same_byte_does_not_keep_us(server, tmp_path):
    server.ignores_range = True
    server.cut_after = [300_000] * 100
    with pytest.raises(DownloadError, match="broke 3 times in a row at 300,000 bytes.*run this again"):
        get(server, tmp_path, retries=2)
    assert partial(tmp_path).stat().st_size == 300_000


def test_a_whole_partial_is_recognised_by_416(server, tmp_path):
    start_with(tmp_path, CONTENT)
    assert get(server, tmp_path, sha256=SHA256).read_bytes() == CONTENT
    assert len(server.ranges) == 1


def test_a_partial_longer_than_the_file_starts_over(server, tmp_path):
    start_with(tmp_path, CONTENT + b"more")
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.ranges == [f"bytes={len(CONTENT) + 4}-", None]


def test_a_whole_partial_of_known_size_needs_no_server(server, tmp_path):
    start_with(tmp_path, CONTENT)
    get(server, tmp_path, sha256=SHA256, size=len(CONTENT))
    assert server.ranges == []


@pytest.mark.parametrize("version", ['"new"', None], ids=["by its ETag", "by its size"])
def test_a_file_that_changed_meanwhile_starts_over(server, tmp_path, version):
    server.version = version and '"old"'
    server.cut_after = [200_000]
    with pytest.raises(DownloadError):
        get(server, tmp_path, retries=-1)
    server.version, server.content = version, bytes(900_000)
    assert get(server, tmp_path).read_bytes() == bytes(900_000)
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["data.bin"]


def test_the_announced_hash_is_held_against_a_full_partial(server, tmp_path):
    start_with(tmp_path, b"x" + CONTENT[1:])
    server.linked_sha256 = SHA256
    with pytest.raises(DownloadError, match=f"where {SHA256}"):
        get(server, tmp_path, size=len(CONTENT))


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://a.b/c", "data.bin", "http://", "http://[::1/x", ""])
def test_what_is_no_web_address_is_refused(tmp_path, url):
    with pytest.raises(DownloadError, match="is no (http or https )?address"):
        fetch(url, tmp_path / "data.bin", backoff=1000)
    assert not list(tmp_path.iterdir())


def test_two_processes_fetch_a_file_once(server, tmp_path):
    jobs = [threading.Thread(target=get, args=(server, tmp_path)) for _ in range(3)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert len(server.ranges) == 1 and (tmp_path / "new" / "data.bin").read_bytes() == CONTENT


def test_one_failure_ends_the_others_at_once(server, tmp_path):
    began = time.monotonic()
    nowhere = {"url": "http://127.0.0.1:1/x", "path": tmp_path / "slow"}  # refused: tried again after a long wait
    server.statuses = [404]
    files = [{"url": f"{server.url}/x", "path": tmp_path / "gone"}, nowhere]
    with pytest.raises(DownloadError):
        fetch_many(files, backoff=30)
    assert time.monotonic() - began < 20


def test_dripping_bytes_do_not_keep_us(server, tmp_path, monkeypatch):
    monkeypatch.setattr(resume, "SLOWEST", (0.0, len(CONTENT) + 1))
    with pytest.raises(DownloadError, match="broke 2 times in a row .*only .* bytes in 0 s"):
        get(server, tmp_path, retries=1)


@pytest.mark.parametrize("kind", ["sha256", "git_blob"])
def test_a_wrong_hash_names_both_and_leaves_nothing(server, tmp_path, kind):
    wrong = "0" * (64 if kind == "sha256" else 40)
    actual = SHA256 if kind == "sha256" else hashlib.sha1(b"blob 1048576\0" + CONTENT).hexdigest()
    with pytest.raises(DownloadError, match=f"{actual} where {wrong}"):
        get(server, tmp_path, **{kind: wrong})
    assert not list((tmp_path / "new").iterdir())


def test_git_blob_is_what_git_computes(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(CONTENT)
    git = subprocess.run(["git", "hash-object", "--no-filters", file], capture_output=True, text=True, check=True)
    assert hash_file(file, "git_blob") == git.stdout.strip()


def test_a_right_git_blob_passes(server, tmp_path):
    get(server, tmp_path, git_blob=hashlib.sha1(b"blob 1048576\0" + CONTENT).hexdigest())


def test_the_hash_announced_by_the_hub_is_used(server, tmp_path):
    server.linked_sha256 = SHA256
    assert get(server, tmp_path).read_bytes() == CONTENT
    server.linked_sha256 = "0" * 64
    with pytest.raises(DownloadError, match=f"{SHA256} where {'0' * 64}"):
        fetch(f"{server.url}/other", tmp_path / "other", backoff=0.001)


def test_another_size_is_refused_before_the_body(server, tmp_path):
    with pytest.raises(DownloadError, match="offers 1,048,576 bytes where 7 were expected"):
        get(server, tmp_path, size=7)
    assert not partial(tmp_path).exists()


def test_a_present_file_of_wrong_size_or_hash_is_named(server, tmp_path):
    path = get(server, tmp_path)
    with pytest.raises(DownloadError, match="has 1,048,576 bytes where 5 are expected; delete it"):
        get(server, tmp_path, size=5)
    with pytest.raises(DownloadError, match="delete it"):
        get(server, tmp_path, sha256="0" * 64)
    assert path.exists()


def test_404_is_not_retried_and_says_where_to_put_the_file(server, tmp_path):
    server.statuses = [404]
    with pytest.raises(DownloadError, match=f"answers 404.*put it at {tmp_path}/new/data.bin"):
        get(server, tmp_path)
    assert len(server.ranges) == 1


def test_a_busy_server_is_tried_again(server, tmp_path):
    server.statuses = [503, 429]
    assert get(server, tmp_path).read_bytes() == CONTENT
    server.statuses = [503] * 10
    with pytest.raises(DownloadError, match="broke 2 times in a row at 0 bytes .*503"):
        fetch(f"{server.url}/other", tmp_path / "other", retries=1, backoff=0.001)


def test_offline_forbids_the_network_but_not_what_is_there(server, tmp_path, monkeypatch):
    monkeypatch.setenv("FIT3D_OFFLINE", "1")
    with pytest.raises(
        DownloadError, match=f"(?s)data.bin is missing.*FIT3D_OFFLINE=1.*{server.url}.*{tmp_path}/new/data.bin"
    ):
        get(server, tmp_path)
    assert server.ranges == []
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "data.bin").write_bytes(CONTENT)
    assert get(server, tmp_path, sha256=SHA256).exists()
    monkeypatch.setenv("FIT3D_OFFLINE", "false")
    assert not offline()


def test_no_network_is_said_at_once(tmp_path):
    with pytest.raises(DownloadError, match=f"no network: data.bin .*nowhere.invalid.*put it at {tmp_path}/data.bin"):
        fetch("http://nowhere.invalid/data.bin", tmp_path / "data.bin", backoff=1000)


def test_a_full_disk_is_noticed_before_the_download(server, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(resume.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DownloadError, match="needs 1 MB more"):
        get(server, tmp_path)


def test_many_files_arrive_in_order_and_are_checked(server, tmp_path, capsys):
    files = [{"url": f"{server.url}/{i}", "path": tmp_path / f"{i}.bin", "size": len(CONTENT)} for i in range(12)]
    server.cut_after = [5000] * 6
    paths = fetch_many(files, threads=3, backoff=0.001)
    assert [path.name for path in paths] == [f"{i}.bin" for i in range(12)]
    assert all(path.read_bytes() == CONTENT for path in paths)
    files[5]["git_blob"] = "0" * 40
    paths[5].unlink()
    with pytest.raises(DownloadError, match="git_blob .* where 0000"):
        fetch_many(files, backoff=0.001)


def test_two_files_with_one_path_are_refused(tmp_path):
    files = [{"url": "http://nowhere.invalid/a", "path": tmp_path / "a"}] * 2
    with pytest.raises(ValueError, match="two of the 2 files"):
        fetch_many(files)


def test_the_bar_ends_at_the_total_whatever_happened(server, tmp_path, monkeypatch):
    bars = []

    class Bar(download.tqdm):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            bars.append(self)

    monkeypatch.setattr(download, "tqdm", Bar)
    server.ignores_range = True  # the bar must go back
    server.cut_after = [400_000, 300_000]
    get(server, tmp_path)
    assert (bars[0].n, bars[0].total) == (len(CONTENT), len(CONTENT))
    files = [{"url": f"{server.url}/{i}", "path": tmp_path / f"{i}.bin"} for i in range(3)]
    fetch_many(files)
    assert (bars[1].n, bars[1].total) == (3 * len(CONTENT), 3 * len(CONTENT))
