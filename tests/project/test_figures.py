"""Each picture that the repository shows is made by `make figures`, from what the repository and its dependencies hold."""

import re

import numpy as np
import torch
from PIL import Image, ImageSequence

import fit3d_lite as f3d
from tools import figures
from tools.bootstrap import ROOT
from tools.notebooks import all_notebooks

README = (ROOT / "README.md").read_text("utf-8")


def test_what_is_shown_is_made_here():
    texts = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    shown = {n for t in texts for n in re.findall(r"assets/(\w+)\.(?:jpe?g|png|webp|gif)", t.read_text("utf-8"))}
    shown |= {f"hero_{p.name[:2]}" for p in all_notebooks() if "](data:image/jpeg" in p.read_text("utf-8")}
    assert {"hero", "room", "hero_00"} <= shown and shown == set(figures.FIGURES)
    assert {p.stem for kind in ("jpg", "webp") for p in (ROOT / "assets").glob(f"*.{kind}")} == shown


def test_the_moving_picture_is_small_moves_and_comes_back():
    path = ROOT / "assets" / "ride.webp"
    picture = Image.open(path)
    assert path.stat().st_size < 2_000_000 and picture.n_frames > 20 and picture.info["loop"] == 0
    frames = [np.asarray(frame.convert("RGB"), dtype=float) for frame in ImageSequence.Iterator(picture)]
    apart = [np.abs(frame - frames[0]).mean() for frame in frames]
    assert apart[-1] < apart[len(frames) // 2] and "ride.webp" in README[: README.index("##")]


def test_an_unknown_picture_is_refused(capsys):
    assert figures.main(["hero,sunset"]) == 2
    assert "no sunset; there are hero, ride, room" in capsys.readouterr().out


def test_strips_and_stacks_lie_where_they_should():
    row = figures.strip([torch.zeros(4, 5, 3), torch.full((4, 3, 3), 0.5)])
    assert row.shape == (4, 8 + figures.GAP, 3) and row[0, -1, 0] == 0.5 and row[0, 5, 0] == 1
    both = figures.stack([row, row])
    assert both.shape == (8 + figures.GAP, 8 + figures.GAP, 3) and torch.equal(both[-4:], row)


def test_the_left_photo_of_the_stereo_pair_renders_as_the_right_one():
    left, right = figures.stereo()
    assert 2 < left.depths[left.depths > 0].min() < 2.5 and 0.9 < (left.depths > 0).float().mean() < 0.95
    cloud = f3d.Gaussians.from_depth(left, count=200_000)
    photo = right.images[0].permute(1, 2, 0)
    scores = []
    for camera in (right.cameras[0], left.cameras[0]):
        rendered, alpha = f3d.render(cloud, camera)
        scores.append(-10 * ((rendered - photo)[alpha > 0.9] ** 2).mean().log10())
    assert scores[0] > 20 > scores[1] + 5  # dB: right from the right camera, wrong from the left one
