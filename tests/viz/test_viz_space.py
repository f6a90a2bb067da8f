"""Camera paths, films, points that turn, t-SNE, contact sheets, maps of errors: geometry against the camera, files against
what reads them, refusals before any work."""

import base64
import io
import json
import os
import re
import shutil
import stat

import numpy as np
import pytest
import torch
from blobs import blobs, drawn, rotated
from PIL import Image
from torch.testing import assert_close

from fit3d_lite import Camera, Gaussians, render, viz
from fit3d_lite.viz.palette import seen

# ---- paths


def cube(n=400, seed=0):
    return torch.rand(n, 3, generator=torch.Generator().manual_seed(seed)) * torch.tensor([4.0, 3.0, 2.0]) + 1


@pytest.mark.parametrize("up", [(0, 0, 1), (0, -1, 0), (1, 1, 1)])
def test_an_orbit_keeps_its_distance_and_sees_everything(up):
    points = cube()
    path = viz.orbit(points, frames=7, elevation=20, up=up)
    middle = (torch.quantile(points, 0.02, dim=0) + torch.quantile(points, 0.98, dim=0)) / 2
    unit = torch.tensor(up).float() / torch.tensor(up).float().norm()
    away = torch.stack([camera.center - middle for camera in path])
    assert_close(away.norm(dim=1), away.norm(dim=1)[:1].expand(7), rtol=1e-5, atol=0)
    assert_close((away @ unit) / away.norm(dim=1), torch.full((7,), np.sin(np.radians(20))).float(), atol=1e-5, rtol=0)
    for camera in path:
        pixels, depth = camera.check().project(points)
        inside = (pixels >= 0).all(1) & (pixels[:, 0] < camera.width) & (pixels[:, 1] < camera.height) & (depth > 0)
        assert inside.float().mean() > 0.98
        above, _ = camera.project((middle + 0.5 * unit)[None])
        assert above[0, 1] < camera.height / 2  # up is up
    turned = torch.linalg.cross(away[0], away[1]) @ unit
    assert turned > 0  # counter-clockwise as seen from above


def test_a_way_passes_every_camera_and_turns_evenly_between_two():
    a = Camera.look_at((0, 0, 0), (1, 0, 0), fov_x=60, width=32, height=24)
    b = Camera.look_at((2, 0, 1), (2, 1, 1), fov_x=80, width=32, height=24)
    c = Camera.look_at((2, 3, 0), (1, 3, 0), fov_x=60, width=32, height=24)
    path = viz.between([a, b, c], steps=4)
    assert len(path) == 9
    for camera, given in zip((path[0], path[4], path[8]), (a, b, c), strict=True):
        assert_close(camera.world_to_camera, given.world_to_camera, atol=1e-5, rtol=0)
        assert_close(camera.K, given.K, atol=1e-4, rtol=0)
    half = path[2].check()
    diagonal = torch.tensor([1.0, 1, 0]) / 2**0.5
    assert_close(half.forward, diagonal, atol=1e-5, rtol=0)  # a quarter turn, half way
    assert half.K[0, 0] == pytest.approx((a.K[0, 0] + b.K[0, 0]).item() / 2)
    loop = viz.between([a, b, c], steps=4, loop=True)
    assert len(loop) == 12
    assert_close(loop[8].world_to_camera, c.world_to_camera, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: viz.orbit(torch.rand(4, 2)), r"\[4, 2\]"),
        (lambda: viz.orbit(cube(), elevation=90), "90"),
        (lambda: viz.orbit(cube(), up=(0, 0, 0)), "up must be a direction"),
        (lambda: viz.between([viz.orbit(cube())[0]]), "got 1 and 8"),
        (lambda: viz.between([viz.orbit(cube(), size=s)[0] for s in ((8, 8), (8, 9))]), "camera.scaled"),
        (lambda: viz.up_of([]), "no up"),
        (lambda: viz.up_of([Camera.look_at((0, 0, 0), (1, 0, 0), up=u) for u in ((0, 0, 1), (0, 0, -1))]), "length 0.00"),
        (lambda: viz.under_roof(cube(), 1.5), "1.5"),
    ],
)
def test_paths_that_cannot_be_are_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def test_up_is_read_off_the_cameras_and_the_roof_comes_off_along_it():
    points = cube()
    cameras = viz.orbit(points, 12, elevation=10, up=(0, -1, 0))
    up = viz.up_of(cameras)
    assert_close(up, torch.tensor([0.0, -1, 0]).double(), atol=1e-4, rtol=0)
    low = viz.under_roof(points, 0.5, up)
    assert points[low, 1].min() > points[~low, 1].max() - 1e-6 and 0.4 < low.float().mean() < 0.6


def test_a_flight_draws_every_set_of_values_by_one_render():
    points = cube(60)
    cloud = Gaussians.from_points(points, torch.rand(60, 3, generator=torch.Generator().manual_seed(1)), opacity=0.9)
    path = viz.orbit(points, 3, size=(40, 40))
    film = viz.fly(cloud, path, {"red": torch.tensor([1.0, 0, 0]).expand(60, 3), "photo": cloud.colors}, background=0.0)
    assert [p.size for p in film.pictures] == [(640, 320)] * 3  # two of 40 × 40, enlarged eightfold
    picture, alpha = render(cloud, path[1])
    found = torch.from_numpy(np.asarray(film.pictures[1])[::8, ::8].copy()).float() / 255
    assert_close(found[:, 40:], picture, atol=0.003, rtol=0)
    assert_close(found[:, :40, 0], alpha, atol=0.003, rtol=0)
    assert "red | photo" in film._repr_html_() and 'data-seconds="0.15"' in film._repr_html_()
    with pytest.raises(ValueError, match=r"'wide' must be \[60, 3\].*\[60, 4\]"):
        viz.fly(cloud, path, {"wide": torch.rand(60, 4)})
    with pytest.raises(ValueError, match="0 cameras"):
        viz.fly(cloud, [])


# ---- films


def frames(n=4, h=20, w=31):
    return [torch.full((h, w, 3), i / n) for i in range(n)]


def test_a_gif_holds_every_frame_and_loops(tmp_path):
    path = viz.save_gif(viz.frames_slider(frames(), list("abcd")), tmp_path / "a.gif", seconds=0.2)
    with Image.open(path) as film:
        assert film.n_frames == 4 and film.info["duration"] == 200 and film.info["loop"] == 0
        film.seek(2)
        assert np.asarray(film.convert("RGB")).mean() == pytest.approx(127.5, abs=2)


def test_without_ffmpeg_an_mp4_is_refused_with_a_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr("fit3d_lite.widgets.movie.find_ffmpeg", lambda: None)
    with pytest.raises(RuntimeError, match="needs ffmpeg.*use save_gif"):
        viz.save_mp4(frames(), tmp_path / "a.mp4")
    assert not list(tmp_path.iterdir())


def stub(folder, body):
    """An ffmpeg that does what ``body`` says, first on the PATH."""
    program = folder / "ffmpeg"
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(program.stat().st_mode | stat.S_IEXEC)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def test_ffmpeg_gets_all_pixels_of_even_size_and_its_failure_leaves_no_file(tmp_path, monkeypatch):
    tools, out = tmp_path / "tools", tmp_path / "out"
    tools.mkdir()
    monkeypatch.setenv("PATH", stub(tools, f'echo "$@" > {tmp_path}/said; for last; do :; done; cat > "$last"'))
    raw = viz.save_mp4(frames(h=200, w=301), out / "a.mp4", seconds=0.25).read_bytes()
    assert len(raw) == 4 * 200 * 300 * 3 and raw[-1] == round(255 * 3 / 4)
    assert "-s 300x200 -r 4 " in (tmp_path / "said").read_text()
    (out / "a.mp4").unlink()
    monkeypatch.setenv("PATH", stub(tools, 'cat > /dev/null; echo "Unknown encoder" >&2; exit 1'))
    with pytest.raises(RuntimeError, match="a.mp4: Unknown encoder"):
        viz.save_mp4(frames(), out / "a.mp4")
    assert not list(out.iterdir())


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="no ffmpeg on this machine")
def test_the_real_ffmpeg_writes_a_film(tmp_path):
    path = viz.save_mp4(frames(h=200, w=301), tmp_path / "a.mp4")
    assert path.read_bytes()[4:8] == b"ftyp"


def test_films_refuse_what_they_cannot_hold(tmp_path):
    with pytest.raises(ValueError, match="frames of one size"):
        viz.save_gif([torch.zeros(200, 200, 3), torch.zeros(200, 201, 3)], tmp_path / "a.gif")
    with pytest.raises(ValueError, match="must end in .gif, not 'a.mp4'"):
        viz.save_gif(frames(), tmp_path / "a.mp4")
    with pytest.raises(ValueError, match="at least 0.02 seconds"):
        viz.save_gif(frames(), tmp_path / "a.gif", seconds=0.001)
    with pytest.raises(ValueError, match="more than 0 seconds"):
        viz.frames_slider(frames(), list("abcd"), seconds=0)


# ---- points that turn


def parts(made):
    markup = made._repr_html_()
    shape = json.loads(re.search(r'data-shape="([^"]+)"', markup)[1].replace("&quot;", '"'))
    codes = np.frombuffer(base64.b64decode(re.search(r'data-places="([^"]+)"', markup)[1]), "<u2").reshape(-1, 3)
    paints = [np.frombuffer(base64.b64decode(c), np.uint8).reshape(-1, 3) for c in re.findall(r'data-colors="([^"]+)"', markup)]
    return markup, shape, codes, paints


def test_the_page_holds_all_points_and_colours_and_no_link():
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
    with pytest.raises(ValueError, match=r"'colour' must be \[50, 3\].*\[49, 3\]"):
        viz.point_view(cube(50), torch.rand(49, 3))
    with pytest.raises(ValueError, match="from 0 to 255"):
        viz.point_view(cube(3), torch.tensor([[0.0, 255, 3]] * 3))
    with pytest.raises(ValueError, match="finite"):
        viz.point_view(torch.full((5, 3), torch.nan), torch.rand(5, 3))
    with pytest.raises(ValueError, match="cuts in 0..1.*2"):
        viz.point_view(cube(5), torch.rand(5, 3), cut_top=2.0)


# ---- t-SNE


def test_groups_become_islands_and_the_same_patches_are_shown_for_every_model():
    g = torch.Generator().manual_seed(0)
    truth = torch.randint(0, 3, (2, 12, 12), generator=g)
    feats = torch.eye(6)[truth].movedim(-1, 1) + 0.1 * torch.randn(2, 6, 12, 12, generator=g)
    found = viz.tsne({"a": feats, "b": rotated(feats)}, patches=150, perplexity=15)
    a, b = found.values()
    assert torch.equal(a.index, b.index) and len(a.index) == 150 and len(a.index.unique()) == 150
    assert torch.equal(a.pick(truth), truth.flatten()[a.index])
    middles = torch.stack([a.points[a.pick(truth) == k].mean(0) for k in range(3)])
    assert torch.equal(torch.cdist(a.points, middles).argmin(1), a.pick(truth))
    # The second model only turned its features and started from the first one's page: points stay near their place.
    moved = (a.points / a.points.std() - b.points / b.points.std()).norm(dim=1).median()
    assert moved < 0.5
    from sklearn.manifold import trustworthiness

    x = torch.nn.functional.normalize(feats, dim=1).movedim(1, -1).reshape(-1, 6)[a.index].numpy()
    assert a.trust == pytest.approx(trustworthiness(x, a.points.numpy(), n_neighbors=10), abs=1e-3)


def test_pages_show_labels_with_names_or_colours():
    found = viz.tsne(blobs(views=2), patches=60, perplexity=10)
    labels = torch.randint(0, 3, (2, 6, 8))
    labels[0, 0, 0] = 255
    figure = viz.show_embedding(found, labels, ("wall", "floor", "lamp"))
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["wall", "floor", "lamp"]
    assert drawn(figure).std() > 10
    assert not viz.show_embedding(found, torch.rand(2, 6, 8, 3)).legends
    with pytest.raises(ValueError, match=r"\[2, 6, 8\] or colours|labels \[V, h, w\]"):
        viz.show_embedding(found, torch.rand(2, 6, 8))
    with pytest.raises(ValueError, match=r"grid \[2, 6, 7\], the patches on \[2, 6, 8\]"):
        viz.show_embedding(found, labels[..., :7])
    with pytest.raises(ValueError, match="perplexity of 30 needs more than 90 patches, there are 48"):
        viz.tsne(blobs(views=1))
    with pytest.raises(ValueError, match="on one grid"):
        viz.tsne({"a": blobs(), "b": blobs(h=5)})


# ---- colours of places and mistakes


def test_colours_of_places_part_what_is_apart_for_every_kind_of_colour_vision():
    across = torch.stack(torch.meshgrid(torch.linspace(0, 6, 7), torch.linspace(0, 4, 5), indexing="ij"), -1)
    points = torch.cat([across, torch.zeros(7, 5, 1)], -1)
    colors = viz.color_position(points)
    assert colors.shape == (7, 5, 3) and 0 <= colors.min() and colors.max() <= 1
    lab = seen(colors.reshape(-1, 3).double().numpy())[:3]  # normal, protan, deutan
    apart = np.linalg.norm(lab[:, :, None] - lab[:, None], axis=-1)
    place = torch.cdist(points.reshape(-1, 3), points.reshape(-1, 3)).numpy()
    assert apart[:, place > 3].min() > 10  # a just noticeable difference is 2.3
    for kind in apart:
        assert np.corrcoef(kind[place > 0], place[place > 0])[0, 1] > 0.7
    with pytest.raises(ValueError, match=r"\[4, 2\]"):
        viz.color_position(torch.rand(4, 2))


def test_mistakes_are_marked_and_counted_where_there_is_a_truth():
    truth = torch.tensor([[[0, 1], [255, 2]]])
    guess = torch.tensor([[[0, 2], [1, 2]]])
    colors = viz.color_mistakes(guess, truth)
    assert torch.equal(colors[0, 0, 0], colors[0, 1, 1]) and not torch.equal(colors[0, 0, 0], colors[0, 0, 1])
    assert (colors[0, 1, 0] == 1).all()
    figure = viz.show_mistakes(torch.rand(1, 3, 8, 8), {"probe": guess}, truth)
    assert "probe: 33 % wrong" in [ax.get_title() for ax in figure.axes]
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["wrong", "right", "no label"]
    with pytest.raises(ValueError, match=r"\[1, 2, 2\].*\[1, 2\]"):
        viz.color_mistakes(guess, truth[:, 0])
    with pytest.raises(ValueError, match="all 4 pixels have the label 255"):
        viz.show_mistakes(torch.rand(1, 3, 8, 8), guess, torch.full((1, 2, 2), 255))


def test_errors_and_confidence_have_a_scale_from_nothing_to_much():
    images = torch.rand(2, 3, 16, 16)
    errors = torch.rand(2, 4, 4) * 2
    errors[0, 0, 0] = torch.nan
    figure = viz.show_error(images, errors, unit="metres")
    bar = figure.axes[-1]
    assert bar.get_ylabel() == "metres" and bar.get_ylim()[0] == 0 and drawn(figure).std() > 10
    assert viz.show_error(images, errors, worst=5.0).axes[-1].get_ylim() == (0, 5)
    assert viz.show_confidence(images, torch.rand(2, 4, 4) / 2).axes[-1].get_ylim() == (0, 1)
    with pytest.raises(ValueError, match="smallest is -1: take .abs"):
        viz.show_error(images, -torch.ones(2, 4, 4))
    with pytest.raises(ValueError, match="none of them is known"):
        viz.show_error(images, torch.full((2, 4, 4), torch.nan))
    with pytest.raises(ValueError, match="from 0 to 2: confidence"):
        viz.show_confidence(images, torch.arange(32.0).reshape(2, 4, 4).clamp(max=2))
    with pytest.raises(ValueError, match="kind must be one of"):
        viz.compare(images, {"a": torch.rand(2, 4, 4)}, kind="heat")


# ---- contact sheets, and clicks for several models


def test_a_contact_sheet_keeps_every_picture_whole_and_titled():
    red, wide = torch.tensor([1.0, 0, 0]).expand(200, 200, 3), torch.tensor([0, 0, 1.0]).expand(100, 200, 3)
    sheet = viz.contact_sheet([red, wide, red], ["a", "b", "a very long title that does not fit"], columns=2, width=212)
    page = np.asarray(sheet.image).astype(int)
    assert page.shape[1] == 212 and "3 pictures" in repr(sheet)
    blue = (page[..., 2] > 200) & (page[..., 0] < 50)
    assert blue.sum() == 97 * 48  # half as high as wide, nothing cut
    assert ((page[..., 0] > 200) & (page[..., 1] < 50)).sum() == 2 * 97 * 97
    assert Image.open(io.BytesIO(sheet._repr_jpeg_())).format == "JPEG"
    both = viz.contact_sheet(torch.rand(5, 3, 130, 130), beneath=torch.rand(5, 130, 130, 3), columns=3)
    assert both.image.height > both.image.width
    with pytest.raises(ValueError, match="5 pictures with 5 titles and 2 pictures beneath"):
        viz.contact_sheet(torch.rand(5, 3, 8, 8), beneath=torch.rand(2, 8, 8, 3))
    with pytest.raises(ValueError, match="40 columns in 300 pixels"):
        viz.contact_sheet(torch.rand(40, 3, 8, 8), columns=40, width=300)


def test_one_click_asks_every_model():
    images, feats = torch.rand(2, 3, 48, 64), blobs(views=2)
    made = viz.click_similarity(images, {"original": feats, "other <i>": rotated(feats)[:, :7]}, at=(1, 2, 3))
    markup = made._repr_html_()
    assert markup.count('class="f3d-model"') == 2 and markup.count("data:image/jpeg") == 4 and "<i>" not in markup
    codes = [np.frombuffer(base64.b64decode(c), np.int8) for c in re.findall(r'data-codes="([^"]+)"', markup)]
    assert [len(c) for c in codes] == [96 * 12, 96 * 7]
    with pytest.raises(ValueError, match="their grids are"):
        viz.click_similarity(images, {"a": feats, "b": feats[..., :4]})
