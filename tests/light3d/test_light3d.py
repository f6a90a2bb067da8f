"""Points reach the pixels that see them, labels reach the points, and the controls take away what they say."""

import math
from dataclasses import replace

import pytest
import torch

import fit3d_lite as f3d
from fit3d_lite.light3d import WAYS, Sample, Segmenter, frustum, other_places, samples_of, train_segmenter


def wall(z=2.0, n=12, offset=(0.0, 0.0)):
    """A wall of n × n discs, 2 m wide, at depth z."""
    x, y = torch.meshgrid(torch.linspace(-1, 1, n), torch.linspace(-1, 1, n), indexing="xy")
    means = torch.stack([x.flatten() + offset[0], y.flatten() + offset[1], torch.full((n * n,), z)], 1)
    flat = torch.full((n * n, 3), 0.12)
    return f3d.Gaussians(means, torch.eye(4)[:1].expand(n * n, 4), flat, torch.full((n * n,), 0.9), torch.full((n * n, 3), 0.5))


def both(a, b):
    names = ("means", "quats", "scales", "opacities", "colors")
    return f3d.Gaussians(*(torch.cat([getattr(a, name), getattr(b, name)]) for name in names))


CAMERA = f3d.Camera(torch.tensor([[20.0, 0, 12], [0, 20, 8], [0, 0, 1]]), torch.eye(4), 24, 16)
UP = (0.0, -1.0, 0.0)


def test_points_are_in_the_cameras_frame_and_carried_as_the_view_matrix_of_all_says():
    turn = torch.eye(4)
    turn[:3, :3] = torch.tensor([[math.cos(0.3), 0, math.sin(0.3)], [0, 1, 0], [-math.sin(0.3), 0, math.cos(0.3)]])
    camera, cloud = replace(CAMERA, world_to_camera=turn), both(wall(), wall(z=-2))  # half of it is behind the camera
    view = frustum(cloud, camera, UP)
    local = cloud.means @ turn[:3, :3].T
    assert len(view) < 144 and (view.points[:, 2] > 0).all()
    at = torch.cdist(view.points.double(), local.double()).argmin(1)
    values = torch.randn(len(cloud), 3)
    expected = (f3d.view_matrix(cloud, camera) @ values).T.reshape(3, 16, 24)
    torch.testing.assert_close(view.carry(values[at]), expected)


def test_hidden_points_are_read_and_not_seen():
    view = frustum(both(wall(1.5, 24), wall(2.5)), CAMERA, UP)
    behind = (view.points[:, 2:] > 2).float()
    assert behind.sum() > 50 and view.carry(behind).max() < 0.05 < 0.9 < view.carry(1 - behind).max()


def test_gradients_of_what_is_carried_are_those_of_the_dense_matrix():
    view = frustum(wall(), CAMERA, UP)
    values, weight = torch.randn(len(view), 2, requires_grad=True), torch.randn(2, 16, 24)
    (grad,) = torch.autograd.grad((view.carry(values) * weight).sum(), values)
    torch.testing.assert_close(grad, view.W.to_dense().T @ weight.flatten(1).T)


def test_handmade_geometry_knows_a_wall_and_its_height():
    view = frustum(wall(n=20), CAMERA, UP)
    height, x, y, z, planarity = view.handmade.T
    assert (z < -0.99).all() and x.abs().max() < 0.1 and (planarity > 0.3).all()
    torch.testing.assert_close(height, view.points[:, 1].max() - view.points[:, 1])  # y points down


def test_nothing_before_the_camera_is_said():
    with pytest.raises(ValueError, match="None of the 144 points lies before this camera"):
        frustum(wall(z=-2), CAMERA)


def halves():
    """Features that are the same everywhere: only the points know which half of each picture is near (class 1)."""
    samples = []
    for right in (0, 1) * 4:
        near, far = (wall(z, 10, (side, 0)) for z, side in ((1.5, 2 * right - 1.0), (3.5, 1.0 - 2 * right)))
        label = torch.zeros(16, 24, dtype=torch.long)
        label[:, 12 * right : 12 * right + 12] = 1
        samples.append(Sample(torch.ones(4, 2, 3), frustum(both(near, far), CAMERA, UP), label))
    return samples


def test_point_features_learn_from_labels_in_the_picture_alone_and_controls_cannot():
    samples, options = halves(), dict(classes=2, steps=60, on_step=lambda step: None)
    found = {way: train_segmenter(samples, samples, way=way, **options).miou for way in ("none", "points", "shuffled")}
    wrong = other_places(samples, 1)  # the halves changed places
    found["another place"] = train_segmenter(samples, wrong, **options).miou
    assert found["points"] > 0.7 > 0.5 > max(found["none"], found["shuffled"], found["another place"]), found


def test_photos_and_points_meet_before_the_first_convolution():
    one, model = halves()[0], Segmenter(2, "points")
    photo = torch.rand(1, 3, 16, 24)
    scores = model(photo, [one.view])
    assert scores.shape == (1, 2, 16, 24) and model.photo.merge[0].weight.shape == (16, 19, 1, 1)
    scores.sum().backward()
    assert model.pointnet.near[0].weight.grad.abs().sum() > 0  # by way of W


def test_frozen_features_and_points_are_read_by_one_matrix():
    samples = [replace(one, input=torch.randn(6, 2, 3)) for one in halves()]
    views, feats = [one.view for one in samples[:2]], torch.stack([one.input for one in samples[:2]])
    model = Segmenter(2, "handmade", vit_channels=6).eval()
    apart = model.of_vit.score.weight[:, :, 0, 0], model.of_points.score.weight[:, :, 0, 0]
    pixels = torch.cat([torch.nn.functional.interpolate(feats, (16, 24), mode="bilinear"), model.carried(views)], 1)
    whole = torch.einsum("mc,bchw->bmhw", torch.cat(apart, 1), pixels) / (1 + 1e-5) ** 0.5
    torch.testing.assert_close(model(feats, views), whole, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("way", WAYS)
def test_a_seed_repeats_itself(way):
    samples = halves()[:2]
    first, again = (train_segmenter(samples, samples, 2, way, steps=2, seed=3) for _ in range(2))
    assert [s.loss for s in first.history] == [s.loss for s in again.history] and first.parameters > 0
    assert torch.equal(first.confusion, again.confusion)


def test_samples_of_a_room_have_its_labels_and_its_gravity():
    room = f3d.room(3, 2, 48)
    for sample, camera, label in zip(samples_of(room, (32, 32)), room.cameras, room.resized(32, 32).labels, strict=True):
        assert torch.equal(sample.label, label) and sample.input.shape == (3, 32, 32)
        torch.testing.assert_close(sample.view.up, camera.world_to_camera[:3, 2])
        assert sample.view.carry(torch.ones(len(sample.view), 1)).mean() > 0.9


def test_bad_input_is_refused_with_its_numbers():
    samples = halves()[:2]
    with pytest.raises(ValueError, match="way must be one of none, points, .* got 'depth'"):
        train_segmenter(samples, samples, 2, "depth")
    with pytest.raises(ValueError, match="no test samples"):
        train_segmenter(samples, [], 2)
    wrong = [replace(samples[0], label=samples[0].label[:8])]
    with pytest.raises(ValueError, match=r"Labels of training sample 0 are \[8, 24\], its view \[16, 24\]"):
        train_segmenter(wrong, samples, 2)
    with pytest.raises(ValueError, match="has no labels"):
        samples_of(replace(f3d.room(3, 1, 16), labels=None), (16, 16))
