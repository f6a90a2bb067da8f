"""Shared by all tests: no network, no home folder, no window; GPU and large-file tests skip where they cannot run."""

import os
import socket
from pathlib import Path

import pytest
import torch

os.environ.setdefault("MPLBACKEND", "Agg")
if not torch.cuda.is_available():  # Triton's kernels then run in its interpreter; it looks at this when it is imported
    os.environ.setdefault("TRITON_INTERPRET", "1")
SHARED = Path(__file__).parents[2] / "shared"


def pytest_collection_modifyitems(items):
    for item in items:
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))
        if item.get_closest_marker("shared") and not SHARED.is_dir():
            item.add_marker(pytest.mark.skip(reason="the large local files are not beside this checkout"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of large local files; the test is skipped when it is absent."""
    if not SHARED.is_dir():
        pytest.skip("the large local files are not beside this checkout")
    return SHARED


@pytest.fixture(autouse=True)
def _own_cache(request, tmp_path, monkeypatch):
    """No test reads or writes the reader's cache, and none inherits a profile or a capture from the shell or from
    another test. Tests marked ``shared`` find the office capture among the large local files; those marked ``gpu`` keep
    the reader's cache, in which gsplat is compiled."""
    if not (request.node.get_closest_marker("gpu") and torch.cuda.is_available()):
        monkeypatch.setenv("FIT3D_CACHE", str(tmp_path / "fit3d_cache"))
    for name in ("FIT3D_PROFILE", "FIT3D_OFFICE"):
        monkeypatch.delenv(name, raising=False)
    if request.node.get_closest_marker("shared") and (SHARED / "data" / "office").is_dir():
        monkeypatch.setenv("FIT3D_OFFICE", str(SHARED / "data" / "office"))
    monkeypatch.setattr("fit3d_lite.course.settings.chosen.profile", "quick")  # setup("full") stays otherwise
    monkeypatch.setattr("fit3d_lite.course.settings.chosen.artifacts", None)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    """A test that reaches outside this machine fails at once instead of hanging or passing by luck."""
    connect = socket.socket.connect

    def local_only(self, address):
        if self.family != getattr(socket, "AF_UNIX", None) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise OSError(f"unit tests use no network, and this one tried to reach {address}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", local_only)
