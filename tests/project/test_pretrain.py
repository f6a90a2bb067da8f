"""Pretraining: it learns, it resumes to the same bits, its cache is whole or absent, and its targets are what they say."""

import copy
import dataclasses
import shutil

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from fit3d_lite import load_vit, save_vit
from fit3d_lite.backbones.checkpoints import TINY
from tools import pretrain_cache
from tools.pretrain import Recipe, _windows, centered, main, train
from tools.pretrain_cache import FIRST_SEED, components, cut_photos, make_targets, read_all, render_rooms

SMALL = Recipe(steps=24, batch=4, lr=1e-3, warmup=4, window=32)


@pytest.fixture(scope="module")
def untrained():
    return load_vit("tiny", "random", device="cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory, untrained):
    """Two small rooms, and what another untrained ViT sees in them."""
    cache = tmp_path_factory.mktemp("pretrain")
    files = render_rooms(cache, 2, views=2, size=64)
    teacher = load_vit("tiny", "random", device="cpu", seed=1)
    targets = read_all(make_targets(cache, files, teacher, 8, [2, -1]), "targets")
    return read_all(files, "images"), components(targets, untrained.channels), cache, files, teacher


def test_the_loss_falls_and_stopping_changes_no_bit(data, untrained, tmp_path):
    images, targets, *_ = data
    whole, halted, resumed = (copy.deepcopy(untrained) for _ in range(3))
    losses = train(whole, images, targets, SMALL)
    # Unrelated directions have a cosine near 0, so a loss near 1; 24 steps bring it to about 0.6.
    assert 0.9 < sum(losses[:3]) / 3 < 1.1
    assert sum(losses[-3:]) / 3 < 0.8

    file = tmp_path / "checkpoint.pt"
    assert train(halted, images, targets, SMALL, file, every=5, stop=12) == losses[:12]
    early = shutil.copy(file, tmp_path / "early.pt")
    torch.manual_seed(99)  # whatever else drew random numbers in between
    assert train(resumed, images, targets, SMALL, file, resume=True) == losses
    for key, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[key]), key
    assert not torch.equal(whole.model.norm.weight, halted.model.norm.weight)
    assert {p.name for p in tmp_path.iterdir()} == {"checkpoint.pt", "early.pt"}, "no half-written file is left"

    # A run may be made longer as long as its learning rate is constant, here up to step 16.
    longer, begun = dataclasses.replace(SMALL, steps=40), copy.deepcopy(untrained)
    assert train(begun, images, targets, longer, stop=13) == train(
        halted, images, targets, longer, early, resume=True, stop=13
    )
    for other in (dataclasses.replace(SMALL, lr=5e-4), longer):
        with pytest.raises(ValueError, match="start without resuming"):
            train(resumed, images, targets, other, file, resume=True)


def test_what_cannot_be_trained_on_is_refused(data, untrained, tmp_path):
    images, targets, *_ = data
    with pytest.raises(ValueError, match=r"\[4, 192, h, w\]"):
        train(untrained, images, targets[:, :100], SMALL)
    with pytest.raises(ValueError, match="uint8"):
        train(untrained, images.float(), targets, SMALL)
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        train(untrained, images, targets, SMALL, tmp_path / "none.pt", resume=True)


def test_a_window_of_the_picture_and_of_the_targets_show_the_same_place():
    smooth = F.interpolate(torch.rand(5, 3, 4, 4) * 255, (64, 64), mode="bicubic").clamp(0, 255).byte()
    targets = F.avg_pool2d(smooth.float() / 255, 8)  # a teacher that sees the mean color of each patch
    for step in (0, 1, 22, 23):  # the last steps see nearly whole pictures
        seen, wanted = _windows(smooth, targets, dataclasses.replace(SMALL, color=0.0), step, 8)
        assert seen.shape[-1] == (32 if step < 20 else 64)
        error = (F.avg_pool2d(seen, 8) - wanted)[:, :, 1:-1, 1:-1].abs().mean()
        # Blurring to patches first and cutting then is not quite cutting first; mirrored windows would differ by 0.2.
        assert error < 0.04, f"step {step}: {error:.3f}"


def test_components_agree_with_a_dense_singular_value_decomposition():
    x = torch.randn(6, 10, 5, 5) * torch.linspace(1, 30, 10)[:, None, None] + 40
    x[:, 1] += 20 * x[:, 0]
    flat = x.double().movedim(1, -1).reshape(-1, 10)
    flat = (flat - flat.mean(0)) / flat.std(0, correction=0)
    _, values, right = torch.linalg.svd(flat, full_matrices=False)
    for whiten in (0.0, 0.25, 0.5):
        expected = flat @ right[:4].T / (values[:4] ** 2 / len(flat)) ** whiten
        got = components(x, 4, whiten).movedim(1, -1).reshape(-1, 4).double()
        assert_close(got * (got * expected).sum(0).sign(), expected, atol=5e-3, rtol=5e-3)  # fp16; signs are free
    with pytest.raises(ValueError, match="11 components .* 10 channels"):
        components(x, 11)


def test_centering_removes_the_mean_and_nothing_else(data, untrained):
    images = data[0]
    student = copy.deepcopy(untrained)
    with torch.no_grad():
        student.model.norm.bias += 3.0
        before = student(images.float() / 255)
        after = centered(student, images)(images.float() / 255)
    assert before.mean() > 2.5
    assert_close(after.mean((0, 2, 3)), torch.zeros(192), atol=1e-4, rtol=0)
    assert_close(after - after.mean((0, 2, 3), True), before - before.mean((0, 2, 3), True), atol=1e-4, rtol=0)


def test_the_cache_is_kept_and_a_stopped_write_leaves_nothing(data, tmp_path, monkeypatch):
    _, _, cache, files, teacher = data
    assert [f.name for f in files] == [f"room_{FIRST_SEED + i:07d}.safetensors" for i in range(2)]
    marked = torch.zeros_like(load_file(files[0])["images"])
    copied = tmp_path / "pictures_64" / files[0].name
    copied.parent.mkdir()
    save_file({"images": marked}, copied)

    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(pretrain_cache, "room", stopped)
    assert torch.equal(read_all(render_rooms(tmp_path, 1, 2, 64), "images"), marked)
    with pytest.raises(KeyboardInterrupt):
        render_rooms(tmp_path, 2, 2, 64)
    assert [p.name for p in tmp_path.rglob("*.safetensors*")] == [copied.name]

    kept = make_targets(cache, files, teacher, 8, [2, -1])[0].stat().st_mtime_ns
    assert make_targets(cache, files, teacher, 8, [2, -1])[0].stat().st_mtime_ns == kept
    assert (
        make_targets(cache, files[:1], teacher, 8, [1])[0].parent
        != make_targets(cache, files, teacher, 8, [2, -1])[0].parent
    )


def test_photos_are_cut_into_both_ends(tmp_path):
    from PIL import Image

    (tmp_path / "photos").mkdir()
    photo = Image.new("RGB", (120, 60), (200, 0, 0))
    photo.paste((0, 0, 200), (60, 0, 120, 60))
    photo.save(tmp_path / "photos" / "a.png")
    images = read_all(cut_photos(tmp_path, tmp_path / "photos", size=32), "images")
    assert images.shape == (2, 3, 32, 32)
    assert images[0, 0].min() == 200 and images[1, 2].min() == 200
    (tmp_path / "none").mkdir()
    with pytest.raises(FileNotFoundError, match="no .jpg"):
        cut_photos(tmp_path, tmp_path / "none")


def test_the_command_makes_weights_that_load_and_goes_on_after_a_stop(tmp_path, untrained, capsys):
    file = save_vit(load_vit("tiny", "random", device="cpu", seed=1), tmp_path / "teacher.safetensors")
    line = [
        "--teacher",
        "tiny",
        "--teacher-weights",
        str(file),
        "--teacher-grid",
        "8",
        "--cache",
        str(tmp_path / "cache"),
    ]
    line += [
        "--rooms",
        "2",
        "--views",
        "1",
        "--size",
        "64",
        "--steps",
        "2",
        "--batch",
        "2",
        "--out",
        str(tmp_path / "out.safetensors"),
    ]
    main(line)
    first = load_vit("tiny", tmp_path / "out.safetensors", device="cpu")
    assert first.fingerprint() != untrained.fingerprint() and first.config["arch"] == TINY
    assert "step      2  loss" in capsys.readouterr().out
    main([*line, "--resume"])  # nothing is left to do, so the same weights come out
    assert load_vit("tiny", tmp_path / "out.safetensors", device="cpu").fingerprint() == first.fingerprint()


@pytest.mark.parametrize("teacher", [["--teacher-weights", "/no/such/file.safetensors"], ["--teacher", "no_such_vit"]])
def test_without_a_teacher_one_sentence_says_what_to_do_before_any_work(tmp_path, teacher):
    with pytest.raises(SystemExit, match="the teacher cannot be had: .* --teacher-weights"):
        main(["--cache", str(tmp_path / "cache"), *teacher])
    assert not (tmp_path / "cache").exists()


def test_the_embedded_weights_are_small_centered_and_not_the_untrained_ones(untrained):
    from fit3d_lite.base.machine import asset

    assert asset("vit_tiny.safetensors").stat().st_size < 6_000_000
    vit = load_vit("tiny", device="cpu")
    feats = vit.extract(torch.rand(2, 3, 8, 8).repeat_interleave(24, 2).repeat_interleave(24, 3))
    assert torch.isfinite(feats).all() and vit.config["arch"] == TINY
    assert vit.fingerprint() != untrained.fingerprint()
