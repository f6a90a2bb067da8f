"""Figures for print: of the width asked for, with fonts that journals take; and own photos in one grid, from a shell."""

import re
import zlib

import pytest
import torch
from blobs import blobs
from matplotlib import rc_context
from PIL import Image

from fit3d_lite import viz
from fit3d_lite.__main__ import main
from fit3d_lite.viz import paper


@pytest.fixture
def figure():
    return viz.compare(torch.rand(2, 3, 28, 42), {"similarity": torch.rand(2, 2, 3)}, ["left", "right"])


def look_of(figure) -> list:
    axes = [(ax.title.get_fontsize(), ax.yaxis.label.get_fontsize()) for ax in figure.axes]
    return [figure.get_size_inches().tolist(), axes]


def pdf_text(path) -> bytes:
    """The file with its compressed streams opened."""
    raw = path.read_bytes()
    streams = re.findall(rb"stream\r?\n(.*?)endstream", raw, re.DOTALL)
    opened = []
    for stream in streams:
        try:
            opened.append(zlib.decompress(stream))
        except zlib.error:
            pass
    return raw + b"".join(opened)


@pytest.mark.parametrize(("width", "inches"), [("column", 3.25), ("page", 6.875), (5, 5.0)])
def test_a_pdf_is_as_wide_as_asked_and_its_fonts_are_truetype(figure, tmp_path, width, inches):
    before = look_of(figure)
    path = viz.save(figure, tmp_path / "figure.pdf", width=width)
    raw = pdf_text(path)
    box = [float(x) for x in re.search(rb"/MediaBox \[\s*([\d. ]+)\]", raw)[1].split()]
    assert box[2] == pytest.approx(72 * inches, abs=0.1)
    assert b"/Subtype /Type3" not in raw and b"/FontFile2" in raw
    assert look_of(figure) == before  # the notebook's figure is what it was


def test_pixels_are_300_to_the_inch(figure, tmp_path):
    assert Image.open(viz.save(figure, tmp_path / "a.png")).width == int(3.25 * 300)


@pytest.mark.filterwarnings("error")
def test_a_grid_that_a_notebook_has_shown_keeps_its_panels_where_they_are(tmp_path):
    grid = viz.feature_grid([torch.rand(3, 28, 42)] * 2, {"features": [torch.rand(1, 8, 2, 3)] * 2})
    places = [ax.get_position().bounds for ax in grid.axes]
    with rc_context({"figure.constrained_layout.use": True}):  # as setup() leaves it
        grid.savefig(tmp_path / "shown.png", bbox_inches="tight")  # as a notebook shows it
        viz.save(grid, tmp_path / "grid.pdf", width="page")
        grid.savefig(tmp_path / "again.png", bbox_inches="tight")
    assert [ax.get_position().bounds for ax in grid.axes] == places


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [("a.doc", {}, "ends in '.doc'"), ("a", {}, "ends in 'nothing'"), ("a.pdf", {"width": "wide"}, "got 'wide' and 300"),
     ("a.pdf", {"width": 0}, "got 0 and"), ("a.pdf", {"dpi": 10}, "and 10")],
)  # fmt: skip
def test_other_files_and_widths_are_refused(figure, tmp_path, name, options, said):
    with pytest.raises(ValueError, match=said):
        viz.save(figure, tmp_path / name, **options)
    assert not list(tmp_path.iterdir())


def test_the_grid_shows_every_photo_in_its_proportions_with_one_basis():
    photos = [torch.rand(3, 40, 60), torch.rand(1, 3, 60, 40), torch.rand(3, 40, 40)]
    feats = {"original": list(blobs(views=3)[:, None]), "3D-aware": list(2 * blobs(views=3)[:, None])}
    made = viz.feature_grid(photos, feats, across=2)
    assert len(made.axes) == 9 and [t.get_text() for t in made.texts] == ["photo", "original", "3D-aware"] * 2
    width, height = made.get_size_inches()
    sides = [(a.get_position().width * width, a.get_position().height * height) for a in made.axes]
    assert [round(w / h, 3) for w, h in sides[:2]] == [1.5, 0.667] and round(sides[-1][0] / sides[-1][1], 3) == 1.0
    assert all(0 <= a.get_position().x0 and a.get_position().x1 <= 1.001 and a.get_position().y0 > -0.01 for a in made.axes)
    for axis, colors in zip(made.axes[2:4], viz.pca_colors(feats)["original"], strict=False):
        assert abs(axis.images[0].get_array() - colors[0].numpy()).max() < 1e-6
    with pytest.raises(ValueError, match="2 photos, features 3 of original"):
        viz.feature_grid(photos[:2], feats)


def test_the_command_makes_a_figure_of_photos_of_several_sizes_offline(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FIT3D_OFFLINE", "1")
    (tmp_path / "my").mkdir()
    for i, size in enumerate([(90, 60), (60, 90)]):
        Image.effect_noise(size, 80).convert("RGB").save(tmp_path / "my" / f"{i}.jpg")
    paper.main([str(tmp_path / "my"), "--size", "84", "--out", str(tmp_path / "f.png"), "--dpi", "100"])
    assert "2 photos, small: original, 3D-aware" in capsys.readouterr().out
    assert Image.open(tmp_path / "f.png").width == int(6.875 * 100)


@pytest.mark.parametrize(
    ("words", "said"),
    [("none.jpg --out f.pdf", "there is no picture at"), ("{} --out f.pdf", "there is no picture (.jpg"),
     ("a.jpg --out f.doc", "--out must end in"), ("a.jpg --out f.pdf --width wide", "could not convert")],
)  # fmt: skip
def test_the_command_says_in_one_line_what_is_wrong(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code = main(["figure", *words.format(tmp_path).split()])
    assert code == 2 and said in (line := capsys.readouterr().err) and line.count("\n") == 1
