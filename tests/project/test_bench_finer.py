"""Features finer than the patch grid, which bench/results/lift.md measures."""

import pytest
import torch

import fit3d_lite as f3d
from bench.finer import features_finer


def patch_means(images, size=4):
    """Stands for a network: the mean color of each patch."""
    return torch.nn.functional.avg_pool2d(images, size)


def test_finer_features_are_means_of_the_patches_that_cover_a_cell():
    images = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    fine = features_finer(patch_means, images, shifts=2)
    assert fine.shape == (2, 3, 8, 12)
    # Cell (3, 5) covers pixels 6..7, 10..11; patches of 4 pixels that cover it start at rows 4, 6 and columns 8, 10.
    by_hand = torch.stack([images[:, :, r : r + 4, c : c + 4].mean((2, 3)) for r in (4, 6) for c in (8, 10)]).mean(0)
    torch.testing.assert_close(fine[:, :, 3, 5], by_hand)
    torch.testing.assert_close(fine[:, :, 0, 0], images[:, :, :4, :4].mean((2, 3)))
    torch.testing.assert_close(features_finer(patch_means, images, shifts=1), patch_means(images))


def test_finer_features_are_lifted_like_any_others():
    room = f3d.room(0, 4, 32, shadows=False)
    cloud = f3d.Gaussians.from_depth(room, count=300)
    fine = features_finer(patch_means, room.images)
    assert fine.shape == (4, 3, 16, 16)
    assert f3d.lift(cloud, room.cameras, fine).features.shape == (len(cloud), 3)


def test_no_shift_is_refused():
    with pytest.raises(ValueError, match="shifts=0"):
        features_finer(patch_means, torch.zeros(1, 3, 8, 8), shifts=0)
