"""The closed-form probe against scikit-learn, hand-made confusion tables and scenes whose answer is known."""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import Ridge
from torch.testing import assert_close

from fit3d_lite import Camera, Scene
from fit3d_lite.probing import ridge as quickprobe
from fit3d_lite.probing.ridge import correspondences, cross_view_cosine, mean_iou, patch_targets, quick_probe

EYES = ((-0.6, 0, 0), (0, 0.1, 0), (0.6, 0, 0.2))


def wall(seed=0, size=32) -> Scene:
    """Three views of a flat wall 3 m ahead, its depth known exactly, with a random photo and four label quadrants."""
    torch.manual_seed(seed)
    cameras = tuple(Camera.look_at(eye, (eye[0], 3, eye[2]), width=size, height=size) for eye in EYES)
    depths = torch.stack([torch.full((size, size), 3.0 - eye[1]) for eye in EYES])
    points = torch.stack([c.unproject(d) for c, d in zip(cameras, depths, strict=True)])
    labels = (points[..., 0] > 0).long() + 2 * (points[..., 2] > 0).long()
    return Scene(torch.rand(3, 3, size, size), cameras, depths, labels, ("a", "b", "c", "d", "never"), f"wall {seed}")


def test_mean_iou_leaves_out_classes_that_are_not_in_the_ground_truth():
    confusion = torch.tensor([[6, 2, 0], [1, 3, 4], [0, 0, 0]])  # class 2 is guessed four times and never true
    assert mean_iou(confusion) == pytest.approx((6 / 9 + 3 / 10) / 2)


def test_patch_targets_are_shares_and_means_over_known_pixels():
    scene = wall()
    labels, depths = scene.labels.clone(), scene.depths.clone()
    labels[0, :4, :4], depths[0, :4, :2] = 255, 0.0
    labels[1, :4, :4] = torch.tensor([0, 0, 0, 4])
    depths[1, :4, :4] = torch.tensor([1.0, 2.0, 0.0, 0.0])
    scene = dataclasses.replace(scene, labels=labels, depths=depths)
    values, known = patch_targets(scene, 8, 8, "labels")
    assert values.shape == (3, 5, 8, 8) and known[0, 0, 0] == 0
    assert_close(values[1, :, 0, 0], torch.tensor([0.75, 0, 0, 0, 0.25]).double())
    values, known = patch_targets(scene, 8, 8, "depths")
    assert (known[0, 0, 0], known[1, 0, 0]) == (0.5, 0.5)
    assert values[1, 0, 0, 0] == pytest.approx(1.5)


def test_the_linear_map_is_scikit_learns_ridge():
    scene = wall()
    feats = torch.randn(3, 6, 8, 8, dtype=torch.float64)
    maps = quickprobe._ridge([(feats, scene)], "labels")
    x = feats.movedim(1, -1).reshape(-1, 6).numpy()
    y = patch_targets(scene, 8, 8, "labels")[0].movedim(1, -1).reshape(-1, 5).numpy()
    for strength, found in zip(quickprobe.STRENGTHS, maps, strict=True):
        expected = Ridge(alpha=strength * len(x)).fit(x, y)
        np.testing.assert_allclose(found[:-1].T, expected.coef_, atol=1e-9)
        np.testing.assert_allclose(found[-1], expected.intercept_, atol=1e-9)


def test_features_that_hold_the_answer_score_high_and_noise_scores_as_guessing():
    scenes = [wall(seed) for seed in range(3)]
    answers = {
        s.images.sum().item(): torch.cat([patch_targets(s, 16, 16, t)[0] for t in ("labels", "depths")], 1)
        for s in scenes
    }

    def told(images):
        return answers[images.sum().item()].float()

    def noise(images):
        return torch.randn(3, 8, 16, 16, generator=torch.Generator().manual_seed(int(images.sum() * 1000)))

    good, bad = (quick_probe(f, scenes[:1], scenes[1:2], scenes[2:]) for f in (told, noise))
    assert good.miou > 0.97 and good.rmse < 0.02  # patches on the border of two quadrants cost a little
    assert torch.tensor(good.iou).isnan().tolist() == [False] * 4 + [True]
    # With nothing to go by one class wins everywhere, or four at random: an IoU of at most 1/7 each.
    assert bad.miou < 0.2 and bad.rmse == pytest.approx(scenes[0].depths.std(correction=0).item(), abs=0.01)


def test_what_cannot_be_probed_is_refused():
    scene = wall()
    with pytest.raises(ValueError, match="got 1, 0 and 1"):
        quick_probe(lambda x: x, [scene], [], [scene])
    bare = dataclasses.replace(scene, labels=None, depths=None)
    with pytest.raises(ValueError, match="nothing to probe"):
        quick_probe(lambda x: x, [bare], [bare], [bare])
    with pytest.raises(ValueError, match="has no depths"):
        correspondences(bare)


def test_correspondences_are_the_same_point_and_stop_at_what_is_hidden():
    scene = wall()
    view_a, uv_a, view_b, uv_b = correspondences(scene, per_view=100)
    assert len(view_a) > 100 and (view_a != view_b).all()
    for a, uv, b, other in list(zip(view_a, uv_a, view_b, uv_b, strict=True))[::17]:
        u, v = uv.long()
        point = scene.cameras[a].unproject(scene.depths[a])[v, u]
        assert_close(scene.cameras[b].project(point)[0], other)
    # A board in front of the second camera hides the wall from it, and it from the others.
    depths = scene.depths.clone()
    depths[1] = 1.0
    view_a, _, view_b, _ = correspondences(dataclasses.replace(scene, depths=depths), per_view=100)
    assert set(view_a.tolist()) | set(view_b.tolist()) == {0, 2}
    depths[0] = depths[2] = 0.0
    with pytest.raises(ValueError, match="share a visible point"):
        correspondences(dataclasses.replace(scene, depths=depths))


def test_cosine_tells_features_of_the_place_from_features_of_the_picture():
    scene = wall(size=64)
    points = torch.stack([c.unproject(d) for c, d in zip(scene.cameras, scene.depths, strict=True)]).movedim(-1, 1)
    waves = torch.cat([torch.sin(points[:, (0, 2)] * k + p) for k in (1.5, 3.0) for p in (0.0, 1.6)], 1)
    place = F.adaptive_avg_pool2d(waves, 16)
    found = cross_view_cosine(place, scene)
    assert found.true > 0.97 and found.margin > 0.5 and found.pairs > 100
    # Fixed to the picture instead of to the wall: agreement is no better than chance.
    picture = torch.randn(3, 8, 16, 16)
    assert abs(cross_view_cosine(picture, scene).margin) < 0.1
    # A large common mean gives a high cosine to any pair; removing it brings the margin back.
    assert cross_view_cosine(place + 10, scene).margin < 0.05
    assert cross_view_cosine(place + 10, scene, centre=True).margin > 0.5
