"""Photos to click on: what the page carries are the true cosines, and what the head said."""

import base64
import html
import json
import re

import numpy as np
import pytest
import torch
from blobs import blobs, rotated
from torch.testing import assert_close

from fit3d_lite import viz
from fit3d_lite.viz.click_bins import click_distribution

BINS = torch.linspace(0.5, 8.5, 40)


def sample(h=8, w=12):
    dice = torch.Generator().manual_seed(0)
    probabilities = torch.rand(40, h, w, generator=dice) ** 4
    return torch.rand(3, 32, 48, generator=dice), probabilities / probabilities.sum(0), torch.rand(32, 48) + 1


def carried(clickable, name):
    text = re.search(f'data-{name}="([^"]*)"', clickable._repr_html_())[1]
    if name == "codes":
        return np.frombuffer(base64.b64decode(text), np.uint8)
    return json.loads(html.unescape(text))


def test_bars_in_the_page_are_the_bins_added_up_by_their_place_in_the_range():
    image, probabilities, truth = sample()
    clickable = click_distribution(image, probabilities, BINS, truth, grid=(8, 12), groups=10)
    bars = carried(clickable, "codes").reshape(8, 12, 10)
    weights = [p.numpy() for p in probabilities[:, 5, 7]]
    expected, edges = np.histogram(BINS.numpy(), bins=10, range=(0.5, 8.5), weights=weights)
    assert np.abs(bars[5, 7] / 255 - expected / expected.max()).max() <= clickable.worst + 1e-6 < 0.003
    assert np.allclose(carried(clickable, "shape")["edges"], edges, atol=1e-3)


def test_the_mean_is_the_heads_expected_depth_and_the_truth_is_that_of_the_patch_center():
    image, probabilities, truth = sample(16, 24)
    mean, center = carried(click_distribution(image, probabilities, BINS, truth, grid=(8, 12)), "depths")
    expected = (probabilities * BINS[:, None, None]).sum(0).reshape(8, 2, 12, 2).mean((1, 3))
    assert np.allclose(mean, expected.flatten(), atol=1e-3)
    assert np.allclose(center, truth[2::4, 2::4].flatten(), atol=1e-3)


def test_what_cannot_be_drawn_is_refused():
    image, probabilities, truth = sample()
    with pytest.raises(ValueError, match=r"must be \[40, h, w\] for 40 bins, not \[39, 8, 12\]"):
        click_distribution(image, probabilities[:-1], BINS)
    with pytest.raises(ValueError, match="are these the scores"):
        click_distribution(image, probabilities * 3, BINS)
    with pytest.raises(ValueError, match=r"patch \(24, 0\) lies outside the grid of 24×24"):
        click_distribution(image, probabilities, BINS, at=(24, 0))


def test_clicks_are_answered_in_the_page_with_the_true_cosine():
    images, feats = torch.rand(2, 3, 48, 64), blobs(views=2, channels=40)
    made = viz.click_similarity(images, feats, at=(1, 2, 3), dims=40)
    markup = made._repr_html_()
    assert "http" not in markup
    shape = json.loads(re.search(r'data-shape="([^"]+)"', markup)[1].replace("&quot;", '"'))
    assert shape == {"views": 2, "h": 6, "w": 8, "view": 1, "row": 2, "col": 3}
    codes = np.frombuffer(base64.b64decode(re.search(r'data-codes="([^"]+)"', markup)[1]), np.int8)
    codes = torch.from_numpy(codes.astype(np.float32)).reshape(2, 6, 8, 40).movedim(-1, 1)
    # What the script computes; eight bits hold a cosine to about a hundredth.
    assert_close(viz.similarity(codes, 1, 2, 3), viz.similarity(feats, 1, 2, 3), atol=0.02, rtol=0)
    assert made.worst < 0.02 < viz.click_similarity(images, torch.randn(2, 400, 6, 8), dims=2).worst
    with pytest.raises(ValueError, match=r"patch \(0, 6, 0\).*6×8"):
        viz.click_similarity(images, feats, at=(0, 6, 0))


def test_one_click_asks_every_model():
    images, feats = torch.rand(2, 3, 48, 64), blobs(views=2)
    made = viz.click_similarity(images, {"original": feats, "other <i>": rotated(feats)[:, :7]}, at=(1, 2, 3))
    markup = made._repr_html_()
    assert markup.count('class="f3d-model"') == 2 and markup.count("data:image/jpeg") == 4 and "<i>" not in markup
    codes = [np.frombuffer(base64.b64decode(c), np.int8) for c in re.findall(r'data-codes="([^"]+)"', markup)]
    assert [len(c) for c in codes] == [96 * 12, 96 * 7]
    with pytest.raises(ValueError, match="their grids are"):
        viz.click_similarity(images, {"a": feats, "b": feats[..., :4]})
