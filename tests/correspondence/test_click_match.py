"""Clicking a point in one view and finding it in another: what the page is sent, and its static twin."""

import json
import re
from html import unescape

import pytest
import torch
import torch.nn.functional as F
from two_planes import position_features, two_planes

from fit3d_lite.correspondence.click import click_match, match_patch, patch_truth, show_match
from fit3d_lite.correspondence.correspond import surface, visible

PATCHES = 16


def pooled(scene):
    return F.adaptive_avg_pool2d(position_features(scene), PATCHES)


def test_the_page_knows_the_true_place_of_each_patch_and_which_are_hidden():
    scene = two_planes()
    uv, seen = patch_truth(scene, 0, 1, PATCHES, PATCHES)
    rows, cols = torch.meshgrid(torch.arange(PATCHES), torch.arange(PATCHES), indexing="ij")
    points = surface(scene, 0, torch.stack([cols * 4 + 2.0, rows * 4 + 2.0], -1).reshape(-1, 2))
    expected, visible_there = visible(scene, 1, points)
    assert torch.equal(uv, expected) and torch.equal(seen, visible_there) and 0.3 < seen.float().mean() < 0.9

    page = click_match(scene, 0, 1, {"exact": pooled(scene)}, at=(8, 3))._repr_html_()
    places = json.loads(unescape(re.search(r'data-truth="([^"]*)"', page)[1]))
    assert [p is not None for p in places] == seen.tolist()
    assert torch.tensor([p for p in places if p]).sub(uv[seen]).abs().max() <= 0.051


def test_position_is_found_at_its_place_by_the_page_and_by_the_figure():
    scene = two_planes()
    feats = pooled(scene)
    uv, seen = patch_truth(scene, 0, 2, PATCHES, PATCHES)
    off = []
    for i in seen.nonzero()[:, 0].tolist():
        similarity, (row, col) = match_patch(feats, 0, 2, divmod(i, PATCHES))
        assert similarity[row, col] == similarity.max()
        off.append(((torch.tensor([col * 4 + 2.0, row * 4 + 2.0]) - uv[i]).norm()).item())
    assert torch.tensor(off).median() < 3 and torch.tensor(off).quantile(0.9) < 6
    click = click_match(scene, 0, 2, {"exact": feats, "<none>": torch.ones_like(feats)}, at=(2, 9))
    assert click.worst < 0.02 and "&lt;none&gt;" in click._repr_html_() and "needs a browser" in repr(click)
    at = divmod(int(seen.nonzero()[0, 0]), PATCHES)
    titles = [ax.get_title() for ax in show_match(scene, 0, 2, {"exact": feats}, at).axes]
    assert titles[0] == "view 0: the point asked for" and re.fullmatch(r"exact: [0-5] px off", titles[1])
    gone = divmod(int((~seen).nonzero()[0, 0]), PATCHES)
    assert "not in view" in show_match(scene, 0, 2, {"exact": feats}, gone).axes[1].get_title()


@pytest.mark.parametrize(
    "a, b, at, grid, message",
    [
        (0, 3, (0, 0), 16, "views 0 and 3 of a scene with 3 views"),
        (0, 1, (16, 0), 16, "outside the grid of 16×16"),
        (0, 1, (0, 0), 8, "on one grid"),
    ],
)
def test_what_cannot_be_shown_is_refused(a, b, at, grid, message):
    models = {"one": torch.ones(3, 2, 16, 16), "two": torch.ones(3, 2, grid, grid)}
    for call in (click_match, show_match):
        with pytest.raises(ValueError, match=message):
            call(two_planes(size=16), a, b, models, at=at)
