"""The demo is one PNG of four panels, and says where it went; a folder that cannot be written is refused before any work."""

import numpy as np
import pytest
from PIL import Image

from fit3d_lite.__main__ import main
from fit3d_lite.course import demo


def test_the_demo_writes_four_panels_of_which_the_3d_ones_are_calmer(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo, "SIZE", (112, 168))
    path = tmp_path / "demo.png"
    assert main(["demo", "--out", str(path)]) == 0 and str(path) in capsys.readouterr().out
    picture = np.asarray(Image.open(path).convert("RGB"), dtype=float)
    height, width = picture.shape[:2]
    assert width > 1200 and picture.std() > 20
    middle = picture[height // 3 : height // 2]
    grain = [np.abs(np.diff(panel, axis=1)).mean() for panel in np.array_split(middle, 4, axis=1)]
    assert grain[2] < grain[1] and grain[3] < grain[1]  # lifted and 3D-aware, against the original


def test_a_place_that_cannot_be_written_is_refused_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "picture", lambda: pytest.fail("work was done first"))
    (tmp_path / "file").touch()
    with pytest.raises(OSError):
        demo.main(["--out", str(tmp_path / "file" / "x.png")])
