"""Files are whole or absent, whatever happens to their writers."""

import errno
import os
import subprocess
import sys

import pytest
import torch

from fit3d_lite.base import whole
from fit3d_lite.base.whole import check_writable, replace_when_whole


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("PytorchStreamWriter failed writing file data/3: file write failed"),
        ValueError("I/O error: No space left on device (os error 28)"),
    ],
    ids=["python", "torch", "safetensors"],
)
def test_a_full_disk_is_one_sentence_with_folder_and_free_space(tmp_path, error):
    (tmp_path / "a.pt").write_text("older")
    with pytest.raises(OSError, match=rf"a.pt could not be written: {tmp_path} has [\d,]+ MB free; make room"):
        with replace_when_whole(tmp_path / "a.pt") as partial:
            partial.write_text("half")
            raise error
    assert [p.name for p in tmp_path.iterdir()] == ["a.pt"] and (tmp_path / "a.pt").read_text() == "older"
    with pytest.raises(ValueError, match="^other$"), replace_when_whole(tmp_path / "a.pt"):
        raise ValueError("other")


def test_what_a_killed_writer_left_is_swept_and_a_living_one_is_not(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    writers = (("a", dead.pid), ("a", os.getppid()), ("b", dead.pid))
    left, alive, other = (tmp_path / f".{stem}.{number}.partial.pt" for stem, number in writers)
    for path in (left, alive, other):
        path.write_text("half")
    with replace_when_whole(tmp_path / "a.pt") as partial:
        partial.write_text("whole")
    assert not left.exists() and alive.exists() and other.exists()


def test_a_place_where_nothing_can_be_written_is_said_at_once(tmp_path):
    check_writable(tmp_path / "new" / "a.pt")
    assert list((tmp_path / "new").iterdir()) == []
    with pytest.raises(OSError, match="is a folder or a device"):
        check_writable(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot be written: "):
        check_writable(tmp_path / "file" / "a.pt")


def test_a_flipped_byte_is_refused(tmp_path):
    path = whole.save(tmp_path / "a.safetensors", "artifact", {"by": "me"}, {"x": torch.arange(64.0)})
    assert whole.load(path, "artifact", "make it again")[1]["x"].tolist() == list(range(64))
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="a.safetensors is damaged .* make it again"):
        whole.load(path, "artifact", "make it again")
