"""Segmentation metrics against scikit-learn, depth metrics against scikit-learn and the formulas in NumPy."""

import numpy as np
import pytest
import sklearn.metrics as reference
import torch

from fit3d_lite.probing.metrics import DepthScore, SegmentationScore, confusion_matrix, depth_errors, mean_iou
from fit3d_lite.scenes.scene import IGNORE

NAMES = ("wall", "floor", "chair", "never there", "rug")


def guesses(seed=0, shape=(3, 20, 30)):
    """Labels of five classes of which number 3 never occurs in the truth but is guessed; some pixels are ignored."""
    g = torch.Generator().manual_seed(seed)
    truth = torch.tensor([0, 1, 2, 4])[torch.randint(0, 4, shape, generator=g)]
    noise = torch.randint(0, 5, shape, generator=g)
    guess = torch.where(torch.rand(shape, generator=g) < 0.6, truth, noise)
    return guess, truth.where(torch.rand(shape, generator=g) < 0.9, IGNORE)


def test_one_confusion_matrix_gives_scikit_learns_numbers():
    guess, truth = guesses()
    known = truth != IGNORE
    t, p = truth[known].numpy(), guess[known].numpy()
    confusion = confusion_matrix(guess, truth, 5)
    np.testing.assert_array_equal(confusion, reference.confusion_matrix(t, p, labels=range(5)))
    score = SegmentationScore(confusion, NAMES)
    present = [0, 1, 2, 4]
    np.testing.assert_allclose(np.array(score.iou)[present], reference.jaccard_score(t, p, labels=present, average=None))
    assert score.miou == pytest.approx(reference.jaccard_score(t, p, labels=present, average="macro"))
    with pytest.warns(UserWarning, match="y_pred contains classes not in y_true"):  # class 3, which does not count there either
        assert score.macc == pytest.approx(reference.balanced_accuracy_score(t, p))
    assert score.aacc == pytest.approx(reference.accuracy_score(t, p))


def test_a_class_absent_from_the_truth_does_not_count_but_stealing_its_pixels_does():
    confusion = confusion_matrix(*guesses(), 5)
    score = SegmentationScore(confusion, NAMES)
    assert np.isnan(score.iou[3]) and np.isnan(score.accuracy[3])
    assert mean_iou(confusion) == pytest.approx(np.nanmean(score.iou))
    # Counting it as 0 would give four fifths; naming ten more absent classes changes nothing.
    assert score.miou == pytest.approx(np.nan_to_num(score.iou).mean() * 5 / 4)
    wider = torch.zeros(15, 15, dtype=torch.long)
    wider[:5, :5] = confusion
    assert mean_iou(wider) == pytest.approx(score.miou)
    # A pixel guessed as the absent class is still an error of its true class.
    cured = confusion.clone()
    cured[0, 0], cured[0, 3] = confusion[0, 0] + confusion[0, 3], 0
    assert mean_iou(cured) > score.miou


def test_confusion_matrices_of_batches_add_up_to_that_of_all():
    guess, truth = guesses()
    parts = [confusion_matrix(g, t, 5) for g, t in zip(guess, truth, strict=True)]
    assert torch.equal(sum(parts), confusion_matrix(guess, truth, 5))


def test_the_class_table_lists_the_most_frequent_class_first_and_says_who_is_absent():
    confusion = torch.tensor([[1, 1, 0], [2, 6, 0], [0, 0, 0]])
    lines = SegmentationScore(confusion, ("lamp", "wall", "door")).table().splitlines()
    assert [line.split()[0] for line in lines] == ["class", "wall", "lamp", "door"]
    assert lines[1].split() == ["wall", "0.667", "0.750", "80.0%"] and "does not count" in lines[3]


def test_depth_errors_are_the_formulas_photo_by_photo():
    g = torch.Generator().manual_seed(0)
    truth = 0.5 + 4 * torch.rand(3, 12, 16, generator=g)
    prediction = truth * torch.exp(0.3 * torch.randn(truth.shape, generator=g))
    valid = torch.rand(truth.shape, generator=g) < 0.8
    found = depth_errors(prediction, truth, valid)
    for row, p, t, known in zip(found, prediction, truth, valid, strict=True):
        p, t = p[known].double().numpy(), t[known].double().numpy()
        ratio = np.maximum(p / t, t / p)
        expected = [
            reference.root_mean_squared_error(t, p),
            reference.mean_absolute_percentage_error(t, p),
            np.mean(np.abs(np.log10(p) - np.log10(t))),
            *(np.mean(ratio < 1.25**k) for k in (1, 2, 3)),
        ]
        np.testing.assert_allclose(row, expected, rtol=1e-6)
    score = DepthScore(found)
    assert score.rmse == pytest.approx(found[:, 0].mean().item()) and score.delta3 == pytest.approx(found[:, 5].mean().item())
    with pytest.raises(AttributeError, match="delta4"):
        score.delta4


def test_a_photo_without_a_valid_pixel_is_left_out_of_the_mean():
    truth = torch.full((2, 4, 4), 2.0)
    valid = torch.ones(2, 4, 4, dtype=torch.bool)
    valid[1] = False
    score = DepthScore(depth_errors(truth + 0.5, truth, valid))
    assert score.by_photo[1].isnan().all() and score.rmse == pytest.approx(0.5) and score.delta1 == 0.0


@pytest.mark.parametrize("guess, truth", [(3, 0), (-1, 1), (255, 1), (0, 3), (0, -1)])
def test_labels_out_of_range_are_refused_with_the_numbers(guess, truth):
    with pytest.raises(ValueError, match="there are classes 0 to 2"):
        confusion_matrix(torch.tensor([guess]), torch.tensor([truth]), 3)


def test_maps_of_differing_shapes_are_refused():
    with pytest.raises(ValueError, match=r"\[4\].*\[2, 2\]"):
        confusion_matrix(torch.zeros(4).long(), torch.zeros(2, 2).long(), 3)


def test_a_depth_score_prints_on_a_windows_terminal():
    assert "delta1" in str(DepthScore(torch.ones(1, 6))).encode("cp1252").decode()
