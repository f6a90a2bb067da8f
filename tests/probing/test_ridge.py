"""The closed-form probe against scikit-learn, hand-made confusion tables and scenes whose answer is known."""

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch.testing import assert_close
from wall import wall

from fit3d_lite.probing import ridge
from fit3d_lite.probing.metrics import mean_iou
from fit3d_lite.probing.ridge import patch_targets, quick_probe


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


def test_the_linear_maps_are_scikit_learns_ridge():
    scene = wall()
    feats = torch.randn(3, 6, 8, 8, dtype=torch.float64)
    holes = scene.depths.clone()
    holes[1, :13, :7] = 0.0  # then a patch counts less for depth than for its label
    for one in (scene, dataclasses.replace(scene, depths=holes)):
        for task, maps in ridge._ridge([(feats, one)], ["labels", "depths"]).items():
            x = feats.movedim(1, -1).reshape(-1, 6).numpy()
            y, known = patch_targets(one, 8, 8, task)
            y, known = y.movedim(1, -1).flatten(0, 2).numpy(), known.flatten().numpy()
            for strength, found in zip(ridge.STRENGTHS, maps, strict=True):
                expected = Ridge(alpha=strength * known.sum()).fit(x, y, sample_weight=known)
                np.testing.assert_allclose(found[:-1].T, np.atleast_2d(expected.coef_), atol=1e-9)
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


def test_each_test_scene_has_its_own_score_as_if_it_were_the_only_one():
    scenes = [wall(seed) for seed in range(5)]

    def features(images):
        return torch.randn(3, 8, 16, 16, generator=torch.Generator().manual_seed(int(images.sum() * 1000)))

    both = quick_probe(features, scenes[:2], scenes[2:3], scenes[3:])
    alone = [quick_probe(features, scenes[:2], scenes[2:3], [scene]) for scene in scenes[3:]]
    assert [(s.miou, s.rmse) for s in both.scenes] == [(s.miou, s.rmse) for s in alone]
    assert both.scenes[0].rmse != both.scenes[1].rmse  # and they differ, so that each is its own
    assert both.rmse**2 == pytest.approx(sum(s.rmse**2 for s in alone) / 2)  # as many pixels in both


def test_what_cannot_be_probed_is_refused():
    scene = wall()
    with pytest.raises(ValueError, match="got 1, 0 and 1"):
        quick_probe(lambda x: x, [scene], [], [scene])
    with pytest.raises(ValueError, match="features: 9216 of 9216 values are not finite"):
        quick_probe(lambda x: x / 0, [scene], [scene], [scene])
    bare = dataclasses.replace(scene, labels=None, depths=None)
    with pytest.raises(ValueError, match="nothing to probe"):
        quick_probe(lambda x: x, [bare], [bare], [bare])
