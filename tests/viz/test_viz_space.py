"""Camera paths, t-SNE, maps of errors: geometry against the camera, refusals before any work."""

import numpy as np
import pytest
import torch
from blobs import blobs, drawn, rotated
from clouds import cube
from torch.testing import assert_close

from fit3d_lite import Camera, Gaussians, render, viz
from fit3d_lite.viz.palette import color_mistakes, seen
from fit3d_lite.viz.paths import between, up_of

# ---- paths


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
    path = between([a, b, c], steps=4)
    assert len(path) == 9
    for camera, given in zip((path[0], path[4], path[8]), (a, b, c), strict=True):
        assert_close(camera.world_to_camera, given.world_to_camera, atol=1e-5, rtol=0)
        assert_close(camera.K, given.K, atol=1e-4, rtol=0)
    half = path[2].check()
    diagonal = torch.tensor([1.0, 1, 0]) / 2**0.5
    assert_close(half.forward, diagonal, atol=1e-5, rtol=0)  # a quarter turn, half way
    assert half.K[0, 0] == pytest.approx((a.K[0, 0] + b.K[0, 0]).item() / 2)
    loop = between([a, b, c], steps=4, loop=True)
    assert len(loop) == 12
    assert_close(loop[8].world_to_camera, c.world_to_camera, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: viz.orbit(torch.rand(4, 2)), r"\[4, 2\]"),
        (lambda: viz.orbit(cube(), elevation=90), "90"),
        (lambda: viz.orbit(cube(), up=(0, 0, 0)), "up must be a direction"),
        (lambda: between([viz.orbit(cube())[0]]), "got 1 and 8"),
        (lambda: between([viz.orbit(cube(), size=s)[0] for s in ((8, 8), (8, 9))]), "camera.scaled"),
        (lambda: up_of([]), "no up"),
        (lambda: up_of([Camera.look_at((0, 0, 0), (1, 0, 0), up=u) for u in ((0, 0, 1), (0, 0, -1))]), "length 0.00"),
        (lambda: viz.under_roof(cube(), 1.5), "1.5"),
    ],
)
def test_paths_that_cannot_be_are_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def test_up_is_read_off_the_cameras_and_the_roof_comes_off_along_it():
    points = cube()
    cameras = viz.orbit(points, 12, elevation=10, up=(0, -1, 0))
    up = up_of(cameras)
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


def test_pages_show_labels_with_names_or_colors():
    found = viz.tsne(blobs(views=2), patches=60, perplexity=10)
    labels = torch.randint(0, 3, (2, 6, 8))
    labels[0, 0, 0] = 255
    figure = viz.show_embedding(found, labels, ("wall", "floor", "lamp"))
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["wall", "floor", "lamp"]
    assert drawn(figure).std() > 10
    assert not viz.show_embedding(found, torch.rand(2, 6, 8, 3)).legends
    with pytest.raises(ValueError, match=r"\[2, 6, 8\] or colors|labels \[V, h, w\]"):
        viz.show_embedding(found, torch.rand(2, 6, 8))
    with pytest.raises(ValueError, match=r"grid \[2, 6, 7\], the patches on \[2, 6, 8\]"):
        viz.show_embedding(found, labels[..., :7])
    with pytest.raises(ValueError, match="perplexity of 30 needs more than 90 patches, there are 48"):
        viz.tsne(blobs(views=1))
    with pytest.raises(ValueError, match="on one grid"):
        viz.tsne({"a": blobs(), "b": blobs(h=5)})


# ---- colors of places and mistakes


def test_colors_of_places_part_what_is_apart_for_every_kind_of_color_vision():
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
    colors = color_mistakes(guess, truth)
    assert torch.equal(colors[0, 0, 0], colors[0, 1, 1]) and not torch.equal(colors[0, 0, 0], colors[0, 0, 1])
    assert (colors[0, 1, 0] == 1).all()
    figure = viz.show_mistakes(torch.rand(1, 3, 8, 8), {"probe": guess}, truth)
    assert "probe: 33 % wrong" in [ax.get_title() for ax in figure.axes]
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["wrong", "right", "no label"]
    with pytest.raises(ValueError, match=r"\[1, 2, 2\].*\[1, 2\]"):
        color_mistakes(guess, truth[:, 0])
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
    sure = viz.compare(images, {"sure": torch.rand(2, 4, 4) / 2}, kind="confidence", limits=(0, 1))
    assert sure.axes[-1].get_ylim() == (0, 1)
    with pytest.raises(ValueError, match="smallest is -1: take .abs"):
        viz.show_error(images, -torch.ones(2, 4, 4))
    with pytest.raises(ValueError, match="none of them is known"):
        viz.show_error(images, torch.full((2, 4, 4), torch.nan))
    with pytest.raises(ValueError, match="kind must be one of"):
        viz.compare(images, {"a": torch.rand(2, 4, 4)}, kind="heat")
