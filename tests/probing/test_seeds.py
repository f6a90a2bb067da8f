"""Means over seeds and paired differences against SciPy; classification against scikit-learn and by hand."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.stats import ttest_rel
from tiny import tiny_vit

from fit3d_lite import RawPixels, paired, room
from fit3d_lite.probing import classify, over_seeds
from fit3d_lite.probing.classify import photo_vectors, photos_of_things
from fit3d_lite.scenes import Scene


def test_runs_give_mean_and_spread():
    runs = over_seeds(lambda seed: SimpleNamespace(name="mine", miou=[0.2, 0.4, 0.3][seed], rmse=0.5), seeds=3)
    assert runs.values("miou") == [0.2, 0.4, 0.3] and len(runs) == 3 and runs[1].miou == 0.4
    assert runs.mean("miou") == pytest.approx(0.3) and runs.spread("miou") == pytest.approx(np.std([0.2, 0.4, 0.3], ddof=1))
    assert "mIoU 0.300 ± 0.100" in str(runs) and "RMSE 0.500 ± 0.000" in str(runs) and "mAcc" not in str(runs)
    assert math.isnan(over_seeds(lambda seed: SimpleNamespace(miou=0.1), seeds=[7]).spread("miou"))


@pytest.mark.parametrize("shift", [0.0, 0.01, 0.2])
def test_a_paired_difference_is_scipys_t_test(shift):
    rng = np.random.default_rng(3)
    before = rng.normal(0.3, 0.05, 6)
    after = before + shift + rng.normal(0, 0.02, 6)
    found, expected = paired(before, after), ttest_rel(after, before)
    interval = expected.confidence_interval(0.95)
    assert found.mean - found.half_width == pytest.approx(interval.low)
    assert found.mean + found.half_width == pytest.approx(interval.high)
    assert found.significant == (expected.pvalue < 0.05)
    assert ("not significant" in str(found)) == (expected.pvalue >= 0.05)


def test_pairs_must_match():
    with pytest.raises(ValueError, match="got 3 and 2"):
        paired([1, 2, 3], [1, 2])
    with pytest.raises(ValueError, match="at least 2; got 1 and 1"):
        paired([1], [2])


def photos(count, seed, noise=0.15):
    """Photos of one color with noise; three colors are three classes."""
    g = torch.Generator().manual_seed(seed)
    classes = torch.randint(0, 3, (count,), generator=g)
    colors = torch.tensor([[0.7, 0.4, 0.4], [0.4, 0.7, 0.4], [0.4, 0.4, 0.7]])[classes]
    return (colors[:, :, None, None] + noise * torch.randn(count, 3, 8, 8, generator=g)).clamp(0, 1), classes.numpy()


def test_neighbours_vote_by_cosine():
    train, test = photos(40, 0, 0.6), photos(30, 1, 0.6)
    found = classify(RawPixels(8), train, test, k=5)
    vectors = (RawPixels(8).extract(images).flatten(1).half().float() for images in (train[0], test[0]))
    x, y = (torch.nn.functional.normalize(v, dim=1) for v in vectors)
    guess = []
    for row in y @ x.T:
        votes = torch.zeros(3)
        for cosine, i in zip(*row.topk(5), strict=True):
            votes[train[1][i]] += torch.exp(cosine / 0.07)
        guess.append(int(votes.argmax()))
    assert found.guess.tolist() == guess
    assert found.accuracy == pytest.approx(np.mean(np.array(guess) == test[1]))
    assert found.chance == pytest.approx(np.bincount(test[1]).max() / 30)
    assert found.confusion.sum() == 30 and found.confusion.trace() == found.accuracy * 30


def test_a_photos_vector_is_its_normed_cls_token_or_mean_patch():
    vit, images = tiny_vit(), torch.rand(3, 3, 24, 32)
    feats, cls = vit.extract(images, cls=True)
    torch.testing.assert_close(photo_vectors(vit, images), cls, atol=0.02, rtol=2e-3)
    torch.testing.assert_close(photo_vectors(vit, images, "mean"), feats.mean((2, 3)), atol=0.02, rtol=2e-3)


@pytest.mark.parametrize("method", ["knn", "linear"])
@pytest.mark.parametrize("token", ["cls", "mean"])
def test_what_differs_is_told_apart_and_noise_is_not(method, token):
    assert classify([RawPixels(4), RawPixels(4)], photos(40, 0), photos(30, 1), method, token).accuracy == 1.0
    images, classes = photos(200, 2)
    shuffled = np.random.default_rng(0).permutation(classes)
    assert classify(RawPixels(4), photos(200, 0), (images, shuffled), method, token).accuracy < 0.5


def test_bad_classifications_are_refused():
    train, test = photos(12, 0), photos(6, 1)
    for wrong, message in (
        (dict(method="tree"), "method must be 'knn' or 'linear'"),
        (dict(token="patch"), "token must be 'cls' or 'mean'"),
        (dict(train=(train[0], train[1][:5])), "training set has 12 photos and 5 class numbers"),
        (dict(train=(train[0], np.zeros(12, int))), "nothing to tell apart"),
        (dict(test=(test[0], np.full(6, 9))), "Class 9 of the test set never occurs"),
    ):
        with pytest.raises(ValueError, match=message):
            classify(**dict(vits=RawPixels(8), train=train, test=test) | wrong)


def test_single_things_are_cut_out_of_labelled_photos():
    labels = torch.zeros(2, 64, 96, dtype=torch.int64)  # wall
    labels[0, 10:50, 20:40] = 1  # a bed of 40 × 20, the square around it 40 × 40
    labels[0, 0:30, 80:96] = 2  # a lamp at the photo's edge
    labels[0, 60:64, 0:4] = 2  # another, too small
    labels[1, :, 10:80] = 1  # wider than the photo is high
    images = torch.rand(2, 3, 64, 96)
    scene = Scene(images, room(0, 2, (64, 96)).cameras, None, labels, ("wall", "bed", "lamp"), "two")
    photos, classes = photos_of_things(scene, side=40)
    assert classes.tolist() == [1, 1] and photos.shape == (2, 3, 40, 40)
    assert torch.allclose(photos[0], images[0, :, 10:50, 10:50])
    photos, classes = photos_of_things(scene, 30, least=30)
    assert classes.tolist() == [1, 2, 1], "16 of 30 pixels across are enough"
    assert torch.allclose(photos[1], images[0, :, 0:30, 66:96]), "the square stays inside the photo"
    assert photos_of_things(scene, 8, without=("bed", "wall", "lamp"))[0].shape == (0, 3, 8, 8)
    with pytest.raises(ValueError, match="two has no labels"):
        photos_of_things(Scene(images, scene.cameras, name="two"), 8)
