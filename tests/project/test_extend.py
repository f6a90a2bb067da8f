"""The recipes of docs/extend.md run as printed; what they would download has random weights instead."""

import re

import pytest
import torch

import fit3d_lite as f3d
from tools.bootstrap import ROOT

PAGE = (ROOT / "docs" / "extend.md").read_text("utf-8")
RECIPES = dict(zip(re.findall(r"^## (.*)", PAGE, re.MULTILINE), re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL), strict=True))


@pytest.fixture
def run(monkeypatch, tmp_path):
    load = f3d.load_vit

    def without_download(name, weights="original", **options):
        weights = "random" if weights == "original" and name != "small" else weights
        return load(name, weights, **options)

    monkeypatch.setattr(f3d, "load_vit", without_download, raising=False)
    monkeypatch.chdir(tmp_path)

    def recipe(name):
        found = {}
        exec(RECIPES[name], found)  # noqa: S102
        return found

    return recipe


def test_a_scene_of_ones_own_is_lifted_and_learned_from(run, capsys):
    found = run("Your scene")
    assert found["scene"].name == "mine" and len(found["tuned"].history) >= 1
    assert capsys.readouterr().out.count("recall") == 2


@pytest.mark.slow
def test_dinov3_is_looked_through_fine_tuned_saved_and_loaded(run, capsys):
    found = run("Your ViT")
    assert found["vit"].patch_size == 16 and found["feats"].shape == (4, 384, 6, 6)
    photos = found["room"].images
    torch.testing.assert_close(found["again"].extract(photos), found["tuned"].extract(photos), atol=2e-2, rtol=2e-2)


def test_a_probe_of_ones_own_reads_more_from_the_vit_than_from_raw_pixels(run):
    found = run("Your probe")
    scores = [found["nearest_probe"](network, found["train"], found["test"]) for network in (found["vit"], f3d.RawPixels(14))]
    assert scores[0] > scores[1] > 0
