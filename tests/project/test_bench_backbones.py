"""Networks on equal ground: as many patches whatever their size, and every channel of the same weight."""

import torch
from torch.testing import assert_close

import fit3d_lite as f3d
from bench.bench_backbones import evened, first_blocks, narrow, reader

PHOTOS = torch.rand(4, 3, 56, 84, generator=torch.Generator().manual_seed(0))
SMALL, OTHER = f3d.load_vit("small", device="cpu"), f3d.load_vit("vit_tiny_patch16_224", "random", device="cpu")


def test_patches_of_14_and_of_16_pixels_get_the_same_grid_and_channels_of_deviation_one():
    for vit in (SMALL, OTHER):
        feats = reader(vit, PHOTOS, side=4)(PHOTOS)
        assert feats.shape == (4, vit.channels, 4, 6)
        std, mean = torch.std_mean(feats, (0, 2, 3))
        assert_close(mean, torch.zeros_like(mean), atol=1e-4, rtol=0)
        assert_close(std, torch.ones_like(std), atol=1e-3, rtol=0)


def test_evened_inside_the_last_norm_is_what_the_reader_makes_of_it_and_the_network_stays():
    before = OTHER.fingerprint()
    inside = evened(OTHER, PHOTOS, side=4)
    assert OTHER.fingerprint() == before != inside.fingerprint()
    assert_close(reader(inside, PHOTOS, side=4)(PHOTOS), reader(OTHER, PHOTOS, side=4)(PHOTOS), atol=2e-3, rtol=0)


def test_a_network_of_fewer_blocks_is_the_same_read_early():
    cut = first_blocks(SMALL, 3)
    assert cut.blocks == 3 and SMALL.blocks == 8
    assert_close(cut.extract(PHOTOS), SMALL.extract(PHOTOS, block=2), atol=1e-5, rtol=0)


def test_narrowing_keeps_the_directions_that_vary_most():
    read = reader(OTHER, PHOTOS, side=4)
    few, all_of_them = narrow(read, PHOTOS)(PHOTOS), read(PHOTOS)
    best = torch.linalg.svdvals(all_of_them.movedim(1, -1).flatten(0, -2))[: few.shape[1]].square().sum()
    assert_close(few.square().sum(), best, rtol=1e-3, atol=0)
