"""Points that turn: what the page holds, and the still that stands for it."""

import base64
import json
import re

import numpy as np
import pytest
import torch
from clouds import cube
from torch.testing import assert_close

from fit3d_lite import Camera, viz


def parts(made):
    markup = made._repr_html_()
    shape = json.loads(re.search(r'data-shape="([^"]+)"', markup)[1].replace("&quot;", '"'))
    codes = np.frombuffer(base64.b64decode(re.search(r'data-places="([^"]+)"', markup)[1]), "<u2").reshape(-1, 3)
    paints = [np.frombuffer(base64.b64decode(c), np.uint8).reshape(-1, 3) for c in re.findall(r'data-colors="([^"]+)"', markup)]
    return markup, shape, codes, paints


def test_the_page_holds_all_points_and_colors_and_no_link():
    points, colors = cube(50), torch.rand(50, 3)
    made = viz.point_view(points, {"photo": colors, "<b>": 1 - colors})
    markup, shape, codes, paints = parts(made)
    assert "http" not in markup and "<b>" not in markup and markup.count("<script>") == 1
    places = torch.from_numpy((codes / 32767.5 - 1) * shape["reach"])
    middle = (torch.quantile(points, 0.02, dim=0) + torch.quantile(points, 0.98, dim=0)) / 2
    radius = (torch.quantile(points, 0.98, dim=0) - torch.quantile(points, 0.02, dim=0)).norm() / 2
    assert_close(places.float(), (points - middle) / radius, atol=1e-4, rtol=0)
    assert_close(torch.from_numpy(paints[0].copy()).float() / 255, colors, atol=0.003, rtol=0)
    assert_close(torch.from_numpy(paints[1].copy()).float() / 255, 1 - colors, atol=0.003, rtol=0)
    assert len(parts(viz.point_view(points, colors, at_most=20))[2]) == 20
    # Where no script runs, the still is seen; canvas and bar, which would do nothing, are not.
    before = markup.split("<script>")[0]
    assert before.count("display:none") == 2 and "data:image/jpeg" in before


def test_the_still_shows_each_point_where_a_camera_at_that_place_sees_it():
    points = cube(300)
    points[0] = torch.tensor([4.6, 3.6, 2.8])
    colors = torch.full((300, 3), 0.5)
    colors[0] = torch.tensor([1.0, 0, 0])
    made = viz.point_view(points, colors, yaw=40, pitch=25)
    _, shape, _, _ = parts(made)
    middle = (torch.quantile(points, 0.02, dim=0) + torch.quantile(points, 0.98, dim=0)) / 2
    radius = (torch.quantile(points, 0.98, dim=0) - torch.quantile(points, 0.02, dim=0)).norm() / 2
    yaw, pitch = np.radians(40), np.radians(25)
    eye = middle + shape["view"]["far"] * radius * torch.tensor(
        [np.cos(pitch) * np.cos(yaw), np.cos(pitch) * np.sin(yaw), np.sin(pitch)]
    )
    fov = 2 * np.degrees(np.arctan(shape["W"] / 2 / shape["focal"]))
    camera = Camera.look_at(eye, middle, fov_x=fov, width=shape["W"], height=shape["H"])
    red = torch.nonzero((made.still[..., 0] > 0.9) & (made.still[..., 1] < 0.1)).float()
    expected = camera.project(points[:1])[0][0].flip(0)
    assert (red.mean(0) + 0.5 - expected).abs().max() < 1.5


def test_cutting_opens_the_front_and_the_top():
    points = torch.tensor([[1.0, 0, 0], [-1, 0, 0], [0, 0, 1], [0, 0, -1], [0, 1, 0], [0, -1, 0]]).repeat(20, 1)
    colors = (points + 1) / 2

    def shows(made, color):
        return ((made.still - (torch.tensor(color) + 1) / 2).abs().amax(-1) < 0.01).any()

    whole = viz.point_view(points, colors, yaw=0, pitch=0, up=(0, 0, 1))
    assert shows(whole, [1.0, 0, 0]) and shows(whole, [0, 0, 1.0])
    open_front = viz.point_view(points, colors, yaw=0, pitch=0, cut_front=0.9)
    assert not shows(open_front, [1.0, 0, 0]) and shows(open_front, [-1.0, 0, 0])  # nearest gone, what it hid is seen
    open_top = viz.point_view(points, colors, yaw=0, pitch=0, cut_top=0.3)
    assert not shows(open_top, [0, 0, 1.0]) and shows(open_top, [0, 0, -1.0])


def test_points_that_cannot_be_shown_are_refused():
    with pytest.raises(ValueError, match=r"'color' must be \[50, 3\].*\[49, 3\]"):
        viz.point_view(cube(50), torch.rand(49, 3))
    with pytest.raises(ValueError, match="from 0 to 255"):
        viz.point_view(cube(3), torch.tensor([[0.0, 255, 3]] * 3))
    with pytest.raises(ValueError, match="finite"):
        viz.point_view(torch.full((5, 3), torch.nan), torch.rand(5, 3))
    with pytest.raises(ValueError, match="cuts in 0..1.*2"):
        viz.point_view(cube(5), torch.rand(5, 3), cut_top=2.0)
