"""Masks carried from view to view, and Probe3D's recall: against scikit-learn, plain versions and known answers."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from torch.testing import assert_close
from two_planes import position_features, two_planes

from fit3d_lite.correspondence.consistency import BINS
from fit3d_lite.correspondence.correspond import surface, view_pairs, visible
from fit3d_lite.correspondence.masks import Propagation, mask_propagation, propagate_labels
from fit3d_lite.correspondence.match import features_at
from fit3d_lite.correspondence.probe3d import probe3d_recall


def one_hot(labels, classes):  # [h, w] -> [M, h, w]
    return torch.nn.functional.one_hot(labels, classes).movedim(-1, 0).float()


def test_labels_are_carried_as_by_scikit_learns_weighted_neighbours():
    torch.manual_seed(0)
    source, target, labels = torch.randn(8, 6, 7), torch.randn(8, 5, 4), torch.randint(0, 3, (6, 7))
    for neighbours, temperature in ((1, 0.1), (5, 0.1), (7, 0.5)):
        reference = KNeighborsClassifier(
            neighbours, metric="cosine", weights=lambda d, t=temperature: np.exp(-np.asarray(d) / t)
        )
        reference.fit(source.flatten(1).T.numpy(), labels.flatten().numpy())
        expected = reference.predict_proba(target.flatten(1).T.numpy()).T.reshape(3, 5, 4)
        found = propagate_labels(source, one_hot(labels, 3), target, neighbours, temperature)
        assert_close(found, torch.from_numpy(expected).float(), atol=1e-5, rtol=0)


def test_a_patch_without_a_label_is_nobodys_neighbour():
    source = torch.tensor([[[1.0, 0.9]], [[0.0, 0.5]]])  # two patches; the target is the first one's double
    shares = torch.tensor([[[0.0, 0.0]], [[0.0, 1.0]]])  # and only the second has a label
    assert propagate_labels(source, shares, source[:, :, :1], neighbours=2).flatten().tolist() == [0, 1]
    with pytest.raises(ValueError, match="no patch of the source has a label"):
        propagate_labels(source, shares * 0, source)
    with pytest.raises(ValueError, match="do not fit"):
        propagate_labels(source, shares, torch.ones(3, 1, 1))
    with pytest.raises(ValueError, match="whole number from 1 up, got 0"):
        propagate_labels(source, shares, source, neighbours=0)


def test_position_carries_masks_exactly_and_a_constant_does_not():
    scene = two_planes()
    exact = mask_propagation(position_features(scene), scene, neighbours=1)
    # A pixel's nearest position lies up to half a pixel away, which matters on the line between left and right.
    assert exact.miou > 0.97 and exact.accuracy > 0.98
    nothing = mask_propagation(torch.ones(3, 4, 8, 8), scene)
    assert nothing.miou < 0.35
    assert "mIoU" in repr(exact)


def test_only_what_both_views_see_and_has_a_label_is_counted():
    scene = two_planes()
    labels = scene.labels.clone()
    labels[:, :20] = 255
    scene = dataclasses.replace(scene, labels=labels)
    expected = torch.zeros(3, dtype=torch.long)
    for pair in view_pairs(scene):
        points = scene.cameras[pair.b].unproject(scene.depths[pair.b]).reshape(-1, 3)
        truth = labels[pair.b].flatten()[visible(scene, pair.a, points)[1]]
        expected += torch.bincount(truth[truth != 255], minlength=3)
    # Features that say nothing, so that rows (what is true) and columns (what is found) differ.
    assert mask_propagation(torch.ones(3, 2, 8, 8), scene).confusion.sum((0, 2)).tolist() == expected.tolist()


def test_masks_are_told_apart_by_the_angle_between_the_views():
    tables = torch.zeros(4, 2, 2, dtype=torch.long)
    tables[0], tables[3] = torch.tensor([[5, 0], [0, 5]]), torch.tensor([[6, 2], [1, 3]])
    found = Propagation(tables)
    by_angle = found.miou_by_angle
    assert list(by_angle) == list(BINS) and by_angle["0-15°"] == 1 and math.isnan(by_angle["15-30°"])
    assert by_angle["60-180°"] == pytest.approx((6 / 9 + 3 / 6) / 2)
    assert found.accuracy == pytest.approx(19 / 22) and found.miou == pytest.approx((11 / 14 + 8 / 11) / 2)
    scene = two_planes(eyes=((0, 0), (0.05, 0)))
    assert mask_propagation(position_features(scene), scene).confusion[1:].sum() == 0  # the cameras are not turned


def test_a_scene_without_labels_is_refused():
    scene = two_planes(size=16)
    with pytest.raises(ValueError, match="planes differs"):
        mask_propagation(position_features(scene), [scene, dataclasses.replace(scene, labels=None)])


def test_probe3ds_recall_is_that_of_a_slow_plain_version():
    scene = two_planes(size=32)
    feats = torch.randn(3, 5, 8, 8, generator=torch.Generator().manual_seed(2))
    found = probe3d_recall(feats, scene, matches=20, most=None)
    pairs = view_pairs(scene)
    assert len(found.errors) == len(pairs) == 6
    places = torch.tensor([[u + 0.5, v + 0.5] for v in range(2, 32, 4) for u in range(2, 32, 4)])
    for pair, errors in zip(pairs, found.errors, strict=True):
        query, keys = (features_at(feats[v], places, (32, 32)) for v in (pair.a, pair.b))
        rated = []
        for i, one in enumerate(query):
            distances = sorted((1 - float(one @ key), j) for j, key in enumerate(keys))
            (first, j), (second, _) = distances[:2]
            point = surface(scene, pair.a, places[i : i + 1])
            truth = scene.cameras[pair.b].project(point)[0][0]
            rated.append((1 - first / second, math.dist(truth.tolist(), places[j].tolist()) / 4))
        best = sorted(rated, reverse=True)[:20]
        assert_close(errors.sort().values, torch.tensor(sorted(e for _, e in best)), atol=1e-4, rtol=0)


def test_probe3ds_recall_counts_every_pair_the_same_and_bins_by_angle():
    found = probe3d_recall(position_features(two_planes()), two_planes(), matches=100)
    assert found.recall["5 quarter px"] == found.by_angle["0-15°"] == 1 and math.isnan(found.by_angle["30-60°"])
    errors = (torch.tensor([1.0, 30.0]), torch.tensor([7.0, 7.0, 7.0, 7.0]))
    uneven = dataclasses.replace(found, errors=errors, angle=torch.tensor([10.0, 100.0]))
    assert uneven.recall == {"5 quarter px": 0.25, "10 quarter px": 0.75, "20 quarter px": 0.75}
    assert uneven.by_angle["0-15°"] == 0.5 and uneven.by_angle["60-180°"] == 1
    with pytest.raises(ValueError, match="at least 1 match"):
        probe3d_recall(position_features(two_planes()), two_planes(), matches=0)
