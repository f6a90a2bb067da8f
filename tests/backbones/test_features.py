"""Features of several ViTs: put together as asked, extracted once, the same from memory and from disk."""

import itertools
from pathlib import Path

import pytest
import torch
from tiny import tiny_vit
from torch.testing import assert_close

from fit3d_lite import Assembly, RawPixels
from fit3d_lite.backbones import features
from fit3d_lite.backbones.assembly import Combine, levels_of
from fit3d_lite.backbones.features import CHUNK, FeatureStore, digest_of, tokens_of


class Photos:
    """Noise, readable like LabelledPhotos."""

    def __init__(self, count, size=32):
        self.pixels = torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(1))
        self.height = self.width = size
        self.read = 0

    @property
    def digests(self):
        return [digest_of(image) for image in self.pixels]

    def __len__(self):
        return len(self.pixels)

    def images(self, indices):
        self.read += len(indices)
        return self.pixels[list(indices)]


class Counting(RawPixels):
    """Counts the photos it is shown, and can fail as a machine does that is switched off."""

    def __init__(self, fail_after=None):
        super().__init__(8)
        self.seen, self.fail_after = 0, fail_after

    def extract(self, images, **options):
        if self.fail_after is not None and self.seen >= self.fail_after:
            raise KeyboardInterrupt
        self.seen += len(images)
        return super().extract(images, **options)


@pytest.fixture(scope="module")
def tiny():
    return tiny_vit()


def test_a_full_cache_costs_only_the_cache(tmp_path, monkeypatch):
    def full(*args):
        raise OSError("no room")

    monkeypatch.setattr(features.whole, "save", full)
    with pytest.warns(UserWarning, match="features are not kept: no room"):
        tensors, path = features.kept(tmp_path, "key", lambda: {"0": torch.ones(2)})
    assert path is None and tensors["0"].tolist() == [1, 1]


def test_maps_are_joined_added_or_mixed():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 2, 3, 4, 5, generator=generator)
    assert torch.equal(Combine("concat", [3, 3])([a, b]), torch.cat([a, b], 1))
    assert torch.equal(Combine("add", [3, 3])([a, b]), a + b)
    fusion = Combine("fusion", [3, 3])
    assert_close(fusion([a, b]), (a + b) / 2)  # where it starts
    with torch.no_grad():
        fusion.mix.weight.normal_()
    weight = fusion.mix.weight[:, :, 0, 0]
    assert_close(fusion([a, b]), torch.einsum("oc,bchw->bohw", weight, torch.cat([a, b], 1)))


def test_what_does_not_go_together_is_refused(tiny):
    with pytest.raises(ValueError, match=r"Patch sizes differ \(tiny 8, raw RGB 4\)"):
        Assembly([tiny, RawPixels(4)])
    wide = RawPixels(8)
    wide.channels = 100
    with pytest.raises(ValueError, match=r"cannot be added \(tiny 192, raw RGB 100\)"):
        Assembly([tiny, wide], "add")
    with pytest.raises(ValueError, match="way must be one of concat, add, fusion, got 'mean'"):
        Assembly(tiny, "mean")
    with pytest.raises(ValueError, match="at least one"):
        Assembly([])


def test_four_levels_are_spaced_evenly_and_end_at_the_last_block(tiny):
    tiny_levels = levels_of(tiny, 4)
    assert tiny_levels == [1, 2, 4, 5] and levels_of(tiny, 1) == [5]
    twelve = type("Twelve", (), {"blocks": 12})
    assert levels_of(twelve, 4) == [2, 5, 8, 11]
    assert levels_of(RawPixels(), 4) == [0] * 4


def test_raw_pixels_are_the_pixels_of_each_patch():
    images = torch.rand(2, 3, 16, 24)
    feats, mean = RawPixels(8).extract(images, cls=True)
    assert feats.shape == (2, 192, 2, 3)
    patch = images[1, :, 8:, 16:].flatten()
    assert_close(feats[1, :, 1, 2].sort().values, (patch.sort().values - 0.5) / 0.25)
    assert_close(mean[1], feats[1].mean((1, 2)))


def test_kept_tokens_give_both_probes_what_the_vit_gives(tiny):
    photos = Photos(3)
    store = FeatureStore(Assembly([tiny, RawPixels(8)]), photos, levels=4)
    for norm in (True, False):
        levels, cls = store.batch([2, 0], norm)
        expected = tiny.extract(photos.pixels[[2, 0]], block=[1, 2, 4, 5], norm=norm)
        # Half precision keeps 11 bits; through the norm a rounding of a large token weighs a little more.
        for found, wanted in zip(levels, expected, strict=True):
            assert_close(found[0], wanted, atol=0.02, rtol=2e-3)
            assert_close(found[1], RawPixels(8).extract(photos.pixels[[2, 0]]), atol=2e-3, rtol=1e-3)
        assert_close(cls, tiny.extract(photos.pixels[[2, 0]], norm=norm, cls=True)[1], atol=0.02, rtol=2e-3)


def test_a_vit_in_half_precision_can_be_probed():
    vit = tiny_vit(dtype=torch.bfloat16)
    levels, cls = FeatureStore(Assembly(vit), Photos(2)).batch([0, 1], norm=True)
    assert levels[0][0].dtype == cls.dtype == torch.float32 and levels[0][0].std() > 0.5


def test_disk_and_memory_give_the_same_bits_and_nothing_is_left_behind():
    photos, assembly = Photos(CHUNK + 3), Assembly(RawPixels(8))
    held = FeatureStore(assembly, photos, mirrored=True)
    streamed = FeatureStore(assembly, photos, mirrored=True, memory=100)
    assert streamed.on_disk and not held.on_disk
    assert held.bytes == sum(t.numel() * 2 for tokens in held._whole.values() for t in tokens.values())
    for indices, mirrored in itertools.product(([0], [CHUNK + 2, 1, CHUNK]), (False, True)):
        for a, b in zip(held.batch(indices, False, mirrored), streamed.batch(indices, False, mirrored), strict=True):
            assert torch.equal(a[0][0] if isinstance(a, list) else a, b[0][0] if isinstance(b, list) else b)
    expected = RawPixels(8).extract(photos.pixels[[1]].flip(-1))
    assert_close(held.batch([1], False, mirrored=True)[0][0][0], expected, atol=2e-3, rtol=1e-3)
    folder = Path(streamed._temporary.name)
    assert len(list(folder.iterdir())) == 4
    del streamed
    assert not folder.exists()


def test_a_vit_runs_once_over_each_photo_and_never_again_with_a_cache(tmp_path):
    photos, raw = Photos(CHUNK + 3), Counting()
    first = FeatureStore(Assembly([raw, raw]), photos, cache=tmp_path)
    assert raw.seen == len(photos)
    again = FeatureStore(Assembly([raw]), photos, cache=tmp_path)
    assert raw.seen == photos.read == len(photos)
    assert torch.equal(first.batch([5], False)[0][0][1], again.batch([5], False)[0][0][0])
    # Other levels, the mirror image and another photo are something else.
    FeatureStore(Assembly([raw]), photos, levels=4, cache=tmp_path)
    assert raw.seen == 2 * len(photos)
    FeatureStore(Assembly([raw]), photos, mirrored=True, cache=tmp_path)
    assert raw.seen == 3 * len(photos)
    photos.pixels[0, 0, 0, 0] = 1 - photos.pixels[0, 0, 0, 0]
    FeatureStore(Assembly([raw]), photos, cache=tmp_path)
    assert raw.seen == 3 * len(photos) + CHUNK


def test_a_stopped_extraction_goes_on_where_it_stopped(tmp_path):
    photos = Photos(3 * CHUNK)
    with pytest.raises(KeyboardInterrupt):
        FeatureStore(Assembly(Counting(fail_after=2 * CHUNK)), photos, cache=tmp_path)
    rest = Counting()
    store = FeatureStore(Assembly(rest), photos, cache=tmp_path)
    assert rest.seen == CHUNK
    expected = RawPixels(8).extract(photos.pixels[[3 * CHUNK - 1]])
    assert_close(store.batch([3 * CHUNK - 1], False)[0][0][0], expected, atol=2e-3, rtol=1e-3)


def test_a_damaged_file_is_made_again(tmp_path):
    photos = Photos(4)
    FeatureStore(Assembly(RawPixels(8)), photos, cache=tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:100])
    raw = Counting()
    FeatureStore(Assembly(raw), photos, cache=tmp_path)
    assert raw.seen == 4


def test_features_beyond_half_precision_are_refused():
    class Loud(RawPixels):
        def extract(self, images, **options):
            return [(feats * 1e5, cls) for feats, cls in super().extract(images, **options)]

    with pytest.raises(FloatingPointError, match="beyond ±65504"):
        tokens_of(Loud(8), torch.zeros(1, 3, 8, 8))
