"""Probes on photos whose answer is known, and everything that can go wrong before one is trained."""

import dataclasses
import re
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from tiny import tiny_vit
from torch.testing import assert_close

from fit3d_lite import Assembly, Camera, RawPixels, Scene, probe_depth, probe_segmentation
from fit3d_lite.backbones.features import FeatureStore
from fit3d_lite.probing import DepthSpan, load_probe
from fit3d_lite.probing.depth import gradient_loss, sig_loss
from fit3d_lite.probing.labelled import LabelledPhotos
from fit3d_lite.probing.metrics import confusion_matrix, mean_iou
from fit3d_lite.probing.probe import ProbeOptions, _endless
from fit3d_lite.probing.train import LIGHT, Training
from fit3d_lite.scenes.scene import IGNORE

SIZE, PATCH = 32, 4
CLASSES = ("red", "green", "blue", "never")
# A grid of 8 × 8 patches is coarse and the photos few, so a few dozen steps do.
QUICK = dict(steps=40, batch=4)


def painted(seed: int, views: int = 4) -> Scene:
    """Photos of colored squares: the color names the class, the brightness the depth. No camera agrees with them, so
    all stand in one place, where none can disagree."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (views, 1, SIZE // 8, SIZE // 8), generator=g)
    depths = 1 + 3 * torch.rand(views, 1, SIZE // 8, SIZE // 8, generator=g)
    labels, depths = (F.interpolate(m.double(), SIZE, mode="nearest")[:, 0] for m in (labels, depths))
    images = torch.eye(3)[labels.long()].movedim(-1, 1) * (depths[:, None] / 8).float() + 0.3
    camera = Camera.look_at((0, 0, 0), (0, 1, 0), width=SIZE, height=SIZE)
    return Scene(images, (camera,) * views, depths.float(), labels.long(), CLASSES, f"painted {seed}")


TRAIN, VALIDATION, TEST = [painted(0), painted(1)], [painted(2)], [painted(3)]


class Noise(RawPixels):
    """Features that know nothing: a fixed hash of the photo."""

    def extract(self, images, **options):
        rng = torch.Generator().manual_seed(int(images.double().sum() * 1000))
        return super().extract(torch.rand(images.shape, generator=rng), **options)

    def fingerprint(self):
        return "noise"


def segment(features=None, train=TRAIN, test=TEST, validation=None, **options):
    return probe_segmentation(features or RawPixels(PATCH), train, test, validation, **QUICK | options)


def deepen(features=None, train=TRAIN, test=TEST, validation=None, **options):
    options = QUICK | {"span": DepthSpan(0.5, 5.0), "bins": 32, "rate": 3e-3} | options
    return probe_depth(features or RawPixels(PATCH), train, test, validation, **options)


def test_labels_that_lie_open_in_the_features_are_found_and_noise_gives_chance():
    good, bad = segment(), segment(Noise(PATCH))
    assert good.aacc > 0.9 and good.miou > 0.85
    assert torch.isnan(torch.tensor(good.iou)).tolist() == [False, False, False, True]
    assert bad.aacc < 0.5 and bad.miou < 0.35
    assert str(good).startswith("raw RGB ") and f"mIoU {good.miou:.3f}" in str(good)


def test_each_photo_has_a_score_of_its_own():
    found = segment()
    alone = [mean_iou(confusion_matrix(guess, truth, 4)) for guess, truth in zip(
        found.predict(TEST[0].images), TEST[0].labels, strict=True
    )]  # fmt: skip
    assert_close(found.score.miou_by_photo, torch.tensor(alone))


def test_depth_that_lies_open_in_the_features_is_found_and_noise_gives_the_mean_depth():
    good, bad = deepen(steps=150), deepen(Noise(PATCH), steps=150)
    spread = TEST[0].depths.std(dim=(1, 2)).mean().item()
    assert good.rmse < 0.6 * spread and bad.rmse > 0.9 * spread
    assert good.delta1 > bad.delta1 and good.score.by_photo.shape == (4, 6)


def test_options_come_as_one_object_or_by_name():
    mine = Training(**dataclasses.asdict(LIGHT["segmentation"]) | QUICK)
    named = segment(seed=3, name="mine", training=mine, rate=3e-3)
    found = probe_segmentation(RawPixels(PATCH), TRAIN, TEST, None, ProbeOptions(seed=3, name="other", training=mine),
                               name="mine", rate=3e-3)  # fmt: skip
    assert found.name == "mine" and found.seed == 3 and found.history == named.history != segment(seed=3).history


@pytest.mark.parametrize("probe", [segment, deepen])
def test_a_seed_gives_the_same_head_and_another_seed_another(probe):
    torch.manual_seed(5)
    first = probe(seed=1)
    before = torch.rand(1)
    torch.manual_seed(6)
    again, other = probe(seed=1), probe(seed=2)
    for a, b in zip(first.readout.state_dict().values(), again.readout.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert [s.loss for s in first.history] == [s.loss for s in again.history] != [s.loss for s in other.history]
    torch.manual_seed(5)
    assert torch.equal(torch.rand(1), before), "a probe must not draw from the reader's generator"


@pytest.mark.parametrize("probe", [segment, deepen])
def test_results_predict_measure_and_come_back_from_disk(probe, tmp_path):
    features = Assembly([RawPixels(PATCH), RawPixels(PATCH)], "fusion")
    found = probe(features, name="mine", flip_test=True)
    guess = found.predict(TEST[0].images)
    assert guess.shape == (4, SIZE, SIZE)
    assert str(found.measure(TEST, flip=True)) == str(found.score) != str(found.measure(TRAIN))
    back = load_probe(found.save(tmp_path / "head.safetensors"), features)
    assert torch.equal(back.predict(TEST[0].images), guess)
    assert str(back) == str(found) and back.history == found.history
    for name, tensor in vars(found.score).items():
        assert torch.equal(getattr(back.score, name), tensor) if isinstance(tensor, torch.Tensor) else True
    with pytest.raises(ValueError, match=r"trained on 2 ViTs \(fusion\).*given are 1 \(fusion\)"):
        load_probe(tmp_path / "head.safetensors", RawPixels(PATCH))
    with pytest.raises(FileNotFoundError, match="no probe file at"):
        load_probe(tmp_path / "none.safetensors", features)
    (tmp_path / "bad.safetensors").write_bytes(b"no")
    with pytest.raises(ValueError, match="damaged .*: train the probe again"):
        load_probe(tmp_path / "bad.safetensors", features)


def test_answers_add_up_and_mirror():
    labels, depths = segment(flip_test=True), deepen()
    images = TEST[0].images[:2]
    shares = labels.probabilities(images)
    assert_close(shares.sum(1), torch.ones(2, SIZE, SIZE))
    assert torch.equal(shares.argmax(1), labels.predict(images))
    assert_close(labels.probabilities(images, flip=True), labels.probabilities(images.flip(-1), flip=True).flip(-1))
    bins = depths.distribution(images)
    assert bins.shape == (2, 32, 4 * SIZE // PATCH, 4 * SIZE // PATCH)
    coarse = torch.einsum("bkhw,k->bhw", bins, depths.bins)
    assert_close(F.interpolate(coarse[:, None], SIZE, mode="bilinear")[:, 0], depths.predict(images), atol=1e-4, rtol=1e-4)


def test_an_answer_is_head_on_features_with_the_norm_for_labels_and_without_it_for_depth():
    vits = [tiny_vit(seed) for seed in (0, 1)]
    images, few = torch.rand(2, 3, SIZE, SIZE), [TRAIN[0][:2]]
    labels = segment(vits, train=few, test=[TEST[0][:1]], steps=1)
    feats = torch.cat([vit.extract(images) for vit in vits], 1)
    expected = F.interpolate(labels.readout.head(feats), SIZE, mode="bilinear").softmax(1)
    assert_close(labels.probabilities(images), expected, atol=2e-3, rtol=2e-3)  # features are kept in half precision
    depth = deepen(vits, train=few, test=[TEST[0][:1]], steps=1)
    feats = torch.cat([vit.extract(images, norm=False) for vit in vits], 1)
    cls = vits[0].extract(images, norm=False, cls=True)[1]
    expected = F.interpolate(depth.readout.head(feats, cls)[:, None], SIZE, mode="bilinear")[:, 0]
    assert_close(depth.predict(images), expected, atol=2e-3, rtol=2e-3)


def test_losses_of_a_batch_are_those_of_the_paper():
    found, maps = segment(steps=1), TRAIN[0].labels.clone()
    maps[:, :5] = IGNORE
    read, rng = found._read(TRAIN[0].images), torch.Generator()
    every = dataclasses.replace(LIGHT["segmentation"], points=None)
    loss = found.readout.loss(*read, maps, every, rng, 0)
    scores = F.interpolate(found.readout.head(read[0][0][0]), SIZE, mode="bilinear")
    assert_close(loss, F.cross_entropy(scores, maps, ignore_index=IGNORE))
    deep, maps = deepen(steps=1), TRAIN[0].depths.clone()
    maps[:, :5] = 0
    read, guess = deep._read(TRAIN[0].images), deep.predict(TRAIN[0].images)
    every = dataclasses.replace(LIGHT["depth"], points=None, scale_first=2)
    for done in (0, 1, 2):
        expected = sig_loss(guess, maps, warm_up=done < 2) + 0.5 * gradient_loss(guess, maps)
        assert_close(deep.readout.loss(*read, maps, every, rng, done), expected)


def test_mirrored_photos_are_learned_with_mirrored_maps(monkeypatch):
    sides, batch = [], FeatureStore.batch

    def noted(self, *arguments):
        sides.append(len(arguments) > 2 and arguments[2])
        return batch(self, *arguments)

    monkeypatch.setattr(FeatureStore, "batch", noted)
    plain, mirrored = segment(), segment(mirror=True)
    # Maps that were not mirrored with their photos would be noise that no head can fit.
    assert max(s.loss for s in mirrored.history[-10:]) < 1.5 * max(s.loss for s in plain.history[-10:])
    sides = sides[len(plain.history) + 1 :]
    assert 5 < sum(sides) < 35
    assert not any(sides[40:]), "the test set is not mirrored unless asked"


def test_every_data_set_form_gives_the_same_probe():
    class Photo(NamedTuple):
        image: torch.Tensor
        depth: torch.Tensor
        label: torch.Tensor

    class Lazy:
        """Reads on demand, as a reader of files does."""

        classes = CLASSES

        def __init__(self, form):
            self.views, self.form, self.reads = [v for s in TRAIN for v in s], form, 0

        def __len__(self):
            return len(self.views)

        def __getitem__(self, i):
            self.reads += 1
            v = self.views[i]
            return (v.image, v.label) if self.form == "pair" else Photo(v.image, v.depth, v.label)

    expected = segment()
    for form in ("pair", "photo"):
        assert str(segment(train=Lazy(form)).score) == str(expected.score)
    assert str(segment(train=Lazy("pair"), test=TEST[0]).score) == str(expected.score)  # one Scene is a data set too
    once = Lazy("pair")
    read = LabelledPhotos(once, "segmentation")
    assert str(segment(train=read).score) == str(expected.score)
    assert once.reads < 30, "photos that were read and checked are read again for their features alone"
    with pytest.raises(ValueError, match=r"was read for segmentation in None, not for depth in \(0.5, 5.0\)"):
        deepen(train=read)
    streamed = Lazy("photo")
    assert str(segment(train=streamed, memory=100).score) == str(expected.score)
    assert streamed.reads > 40 * 4, "nothing may be kept beyond the memory that was granted"


def test_the_best_validation_head_is_kept_and_the_test_set_chooses_nothing():
    # At this rate the head is good early and ruined late.
    found = segment(validation=VALIDATION, rate=0.03, steps=30, checks=15, decay="cosine")
    measured = [s.validation for s in found.history if s.validation is not None]
    assert len(measured) == 15 and found.history[-1].validation is not None
    assert found.measure(VALIDATION).miou == pytest.approx(max(measured))
    other = segment(validation=VALIDATION, test=[painted(9)], rate=0.03, steps=30, checks=15, decay="cosine")
    assert [s.validation for s in other.history] == [s.validation for s in found.history]
    depth = deepen(validation=VALIDATION, checks=4)
    measured = [s.validation for s in depth.history if s.validation is not None]
    assert depth.measure(VALIDATION).rmse == pytest.approx(min(measured))
    assert all(s.validation is None for s in segment().history)


def test_ignored_pixels_teach_nothing_and_count_for_nothing():
    half = torch.arange(SIZE) < SIZE // 2

    def spoiled(scene, label, depth):
        """The right half of every map is replaced."""
        labels = scene.labels.where(half, torch.tensor(label))
        return dataclasses.replace(scene, labels=labels, depths=scene.depths.where(half, torch.tensor(depth)))

    without = [spoiled(s, IGNORE, 0.0) for s in TRAIN]
    found = segment(train=without, test=[spoiled(s, IGNORE, 0.0) for s in TEST])
    assert found.aacc > 0.85 and found.score.confusion.sum() == 4 * SIZE * SIZE // 2
    # Depth outside the span is as good as unknown.
    beyond = deepen(train=[spoiled(s, 0, 60.0) for s in TRAIN], test=TEST)
    assert beyond.rmse == deepen(train=without, test=TEST).rmse


def test_all_pixels_or_a_lattice_of_them_teach_the_same():
    assert segment(points=None).aacc == pytest.approx(segment(points=8).aacc, abs=0.05)
    assert deepen(points=None, mirror=True).rmse == pytest.approx(deepen(points=8, mirror=True).rmse, rel=0.2)


def test_a_step_reports_what_a_live_curve_needs():
    seen = []
    found = segment(validation=VALIDATION, on_step=seen.append, steps=10, checks=2)
    assert seen == found.history and [s.number for s in seen] == list(range(1, 11)) and seen[0].steps == 10
    assert [s.number for s in seen if s.validation is not None] == [5, 10]


@pytest.mark.parametrize("probe", [segment, deepen])
def test_dpt_reads_four_blocks_of_a_vit_that_stays_as_it_was(probe):
    vit = tiny_vit()
    before = vit.fingerprint()
    few = [dataclasses.replace(s[:2], name=s.name) for s in TRAIN]
    found = probe([vit, vit], train=few, test=[TEST[0][:2]], head="dpt", steps=2)
    assert "dpt" in found.name and found.readout.combine[3].channels == 384
    assert vit.fingerprint() == before and all(p.grad is None for p in vit.parameters())
    assert found.predict(torch.rand(1, 3, 48, 64)).shape == (1, 48, 64)  # of another size than it was trained on


def test_a_vit_that_was_trained_on_is_not_mistaken_for_its_past(tmp_path):
    vit = tiny_vit()
    assembly, sets = Assembly(vit), dict(train=[TRAIN[0][:2]], test=[TEST[0][:1]], steps=2, cache=tmp_path)
    past = segment(assembly, **sets).save(tmp_path / "past.safetensors")
    files = set(tmp_path.iterdir())
    with torch.no_grad():
        vit.model.blocks[-1].mlp.fc2.bias += torch.arange(192) / 50
    segment(assembly, **sets)
    assert len(set(tmp_path.iterdir()) - files) == 2  # features of both sets, extracted anew
    with pytest.raises(ValueError, match="other weights"):
        load_probe(past, assembly)


def test_photos_in_both_sets_are_pointed_out():
    with pytest.warns(UserWarning, match="4 photos of the test set are in the training set"):
        segment(test=[TRAIN[1]], steps=1)


def test_every_photo_comes_once_before_any_comes_again():
    order = _endless(10, 4, torch.Generator().manual_seed(0))
    drawn = torch.cat([next(order) for _ in range(5)]).tolist()
    assert sorted(drawn[:10]) == sorted(drawn[10:]) == list(range(10)) and drawn[:10] != drawn[10:]


def pairs(image=None, target=None, classes=CLASSES, count=2):
    """A data set of pairs, of which the second can be spoiled."""
    view = TEST[0][0]
    items = [(view.image, view.label)] * (count - 1)
    items.append((view.image if image is None else image, view.label if target is None else target))

    class Pairs(list):
        pass

    found = Pairs(items)
    found.classes = classes
    return found


LABEL, IMAGE = TEST[0][0].label, TEST[0][0].image
REFUSED = {
    "labels run from 0 to 7 but there are 4 classes": pairs(target=LABEL.where(LABEL > 0, 7).index_fill(0, torch.tensor(0), 0)),
    "labels must be integers": pairs(target=LABEL.float()),
    "divide by 255": pairs(image=IMAGE * 255),
    "photo 1 of the training set: it is 40×32 pixels and photo 0 is 32×32": pairs(image=torch.rand(3, 40, 32)),
    r"its label map is \[8, 8\] and the image 32×32": pairs(target=LABEL[:8, :8]),
    r"an image must be \[3, H, W\]": pairs(image=IMAGE[0]),
    "names no classes": pairs(classes=()),
    "300 classes are too many": pairs(classes=tuple(map(str, range(300)))),
    "has no labelled pixel": pairs(target=torch.full_like(LABEL, IGNORE), count=1),
    "the training set is empty": [],
    "must have a length": iter(()),
    "has no label, which": [dataclasses.replace(TEST[0], labels=None)],
    "name different classes": [TEST[0], dataclasses.replace(TEST[0], classes=("a", "b", "c"))],
    "the test set has the classes .* and the training set": [dataclasses.replace(TEST[0], classes=("a", "b", "c"))],
}


@pytest.mark.parametrize("message", REFUSED)
def test_bad_photos_are_refused_before_any_feature_is_extracted(message):
    class Untouched(RawPixels):
        def extract(self, *_, **__):
            raise AssertionError("features were extracted before the data was checked")

    with pytest.raises(ValueError, match=re.compile(message, re.I)):
        segment(Untouched(PATCH), train=REFUSED[message])


def test_bad_depths_are_refused():
    depth = TEST[0][0].depth
    with pytest.raises(ValueError, match=r"Photo 1 of the training set: The median depth is \d{4}, so these are not metres"):
        deepen(train=pairs(target=depth * 1000))
    with pytest.raises(ValueError, match="no depth between 4.5 and 5.0 m"):
        deepen(train=pairs(target=depth.clamp(max=4), count=1), span=DepthSpan(4.5, 5.0))
    with pytest.raises(ValueError, match="crop is for whole frames of 480×640 and these photos are 32×32"):
        deepen(span="nyu")
    with pytest.raises(ValueError, match="span must be one of rooms, nyu"):
        deepen(span="mars")
    with pytest.raises(ValueError, match="0 < low < high"):
        DepthSpan(3.0, 1.0)
    with pytest.raises(ValueError, match="bins must be a whole number from 2 up"):
        deepen(bins=1)


def test_what_lies_outside_the_crop_is_not_judged():
    span = DepthSpan(0.5, 5.0, crop=(8, 24, 4, 28), frame=(SIZE, SIZE))
    outside = ~span.inside(SIZE, SIZE)
    spoiled = dataclasses.replace(TEST[0], depths=TEST[0].depths.where(~outside, 4.9))
    assert deepen(test=[spoiled], span=span).rmse == deepen(span=span).rmse
    assert deepen(test=[spoiled]).rmse > deepen().rmse + 0.1


def test_the_crop_follows_the_size_of_the_photo():
    span = DepthSpan(0.1, 9.0, crop=(45, 471, 41, 601), frame=(480, 640))
    mask = span.inside(480, 640)
    rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (45, 470, 41, 600) and mask.sum() == 426 * 560
    assert abs(span.inside(240, 320).double().mean() - mask.double().mean()) < 0.01


@pytest.mark.parametrize(
    "wrong, message",
    [
        (dict(head="mlp"), "head must be 'linear' or 'dpt', got 'mlp'"),
        (dict(training="heavy"), "training must be 'light', 'paper' or a Training, got 'heavy'"),
        (dict(learning_rate=1), "A probe has no option learning_rate; it has head, width, .* and for the training steps, batch"),
        (dict(steps=0), "steps must be a whole number from 1 up, got 0"),
        (dict(span="nyu"), "A probe has no option span"),
        (dict(decay="step"), "decay must be 'poly' or 'cosine'"),
    ],
)
def test_unknown_settings_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        segment(**wrong)


def test_a_loss_that_explodes_is_named():
    with pytest.raises(FloatingPointError, match="The loss is (nan|inf) in step .* lower it"):
        deepen(rate=1e38, clip=None)


def test_maps_beyond_the_memory_are_read_again_and_equal():
    data = [TRAIN[0]]
    held, read = (LabelledPhotos(data, "depth", span=(1.5, 3.0), memory=m) for m in (1e9, 0))
    assert held._maps is not None and read._maps is None
    assert torch.equal(held.maps([2, 0]), read.maps([2, 0]))
    truth = TRAIN[0].depths[[2, 0]]
    assert torch.equal(held.maps([2, 0]), truth.where((truth > 1.5) & (truth <= 3.0), 0.0))
