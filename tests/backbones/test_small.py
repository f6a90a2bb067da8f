"""The embedded real network: int8 and low-rank files, and the whole of it beside the weights it was made from."""

from pathlib import Path

import pytest
import safetensors
import timm
import torch
import torch.nn.functional as F
from torch.testing import assert_close

import fit3d_lite as f3d
from fit3d_lite.backbones import compact, load_vit, save_checkpoint, save_vit
from fit3d_lite.backbones.checkpoints import SMALL, read_weights
from fit3d_lite.base import whole

KINDS = ("original", "fit3d", "wrong_poses")
SHARED = Path(__file__).parents[3] / "shared/weights/vit_small_patch14_saliency.safetensors"


@pytest.fixture(scope="module")
def small():
    return load_vit("small", device="cpu")


def photos(size=112):
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))


def test_it_is_a_timm_vit_of_eight_blocks(small):
    model = timm.create_model(SMALL["timm"], num_classes=0, dynamic_img_size=True, depth=8)
    model.load_state_dict(small.model.state_dict(), strict=True)
    mean, std = small.mean, small.std
    with torch.no_grad():
        tokens = model.eval().forward_features((photos() - mean) / std)[:, 1:]
    assert_close(small.extract(photos()).flatten(2).movedim(1, 2), tokens, rtol=1e-5, atol=1e-4)
    assert (small.blocks, small.channels, small.patch_size, small.grid(224, 224)) == (8, 384, 14, (16, 16))


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_file(), reason="the large local files are not there")
def test_int8_gives_the_features_of_the_whole_weights(small):
    whole = load_vit("dinov2_small", SHARED, device="cpu")
    a, b = (vit.extract(photos(224), block=7, norm=False) for vit in (small, whole))
    assert F.cosine_similarity(a, b).mean() > 0.9995


def test_the_shipped_3d_aware_one_is_the_same_network_with_other_weights(small):
    tuned = load_vit("small", "fit3d", device="cpu")
    assert tuned.config == small.config and tuned.fingerprint() != small.fingerprint()
    a, b = (vit.extract(photos(224)) for vit in (small, tuned))
    assert 0.5 < F.cosine_similarity(a, b).mean() < 0.99  # moved, and still a relative
    assert 0.5 < b.std(dim=(0, 2, 3)).mean() / a.std(dim=(0, 2, 3)).mean() < 1.5  # no collapse


def test_of_the_shipped_ones_right_poses_make_views_agree_and_wrong_poses_do_the_opposite(small):
    first = f3d.rooms.SEEDS["probe_test"].start + 500  # seen by none of them, judged in no table
    scenes = [f3d.room(first + i, 4, 224) for i in range(3)]  # in the first alone the original finds a quarter
    agree = {k: f3d.consistency(load_vit("small", k, device="cpu"), scenes).recall["20 px"] for k in KINDS}
    assert agree["fit3d"] > agree["original"] + 0.03 and agree["wrong_poses"] < agree["original"] - 0.1
    with pytest.raises(ValueError, match='a control, exists for "small" alone, not for .dinov2_small.'):
        load_vit("dinov2_small", "wrong_poses")


def test_saved_in_any_form_it_comes_back(small, tmp_path):
    feats = small.extract(photos())
    for dtype, least in ((torch.float32, 1.0), (torch.float16, 0.999999), (torch.int8, 0.9999)):
        again = load_vit("small", save_vit(small, tmp_path / "again.safetensors", dtype), device="cpu")
        assert again.config == small.config
        assert F.cosine_similarity(again.extract(photos()), feats).mean() > least - 1e-6
    assert (
        load_vit("small", save_checkpoint(small, tmp_path / "bare.pth"), device="cpu").fingerprint()
        == small.fingerprint()
    )
    assert load_vit("small", "random", device="cpu").fingerprint() != small.fingerprint()


def test_files_of_other_networks_are_refused_by_name(small, tmp_path):
    path = save_checkpoint(small, tmp_path / "bare.pth")
    with pytest.raises(ValueError, match=r"does not fit dinov2_small: blocks.8.*, and \d+ more. It fits small: use that name"):
        load_vit("dinov2_small", path)
    with pytest.raises(ValueError, match="does not fit small: .*It fits none of our models"):
        load_vit("small", save_checkpoint(load_vit("test_vit", "random", device="cpu"), tmp_path / "other.pth"))
    safetensors.torch.save_file(
        {"blocks.0.mlp.fc1.weight": torch.zeros(4, 3, dtype=torch.int8)}, tmp_path / "bad.safetensors"
    )
    with pytest.raises(ValueError, match=r"fc1.weight is int8 \[4, 3\] and needs .*fc1.weight.scale \[4\]"):
        read_weights(tmp_path / "bad.safetensors")


def test_int8_moves_a_weight_by_half_a_step_at_most():
    state = {"a.weight": torch.randn(5, 3, 2, 2), "zero.weight": torch.zeros(2, 4), "a.bias": torch.randn(5)}
    again = compact.from_int8(compact.to_int8(state))
    step = state["a.weight"].flatten(1).abs().amax(1) / 127
    assert ((again["a.weight"] - state["a.weight"]).abs().flatten(1).amax(1) <= step / 2 + 1e-7).all()
    assert torch.equal(again["zero.weight"], state["zero.weight"])
    assert_close(again["a.bias"], state["a.bias"].half())


def test_a_low_rank_difference_is_exact_at_its_rank(small, tmp_path):
    base, qkv, patches = small.model.state_dict(), "blocks.2.attn.qkv.weight", "patch_embed.proj.weight"
    moved = torch.randn(1152, 3) @ torch.randn(3, 384) / 100
    state = {
        "norm.bias": base["norm.bias"] + 1,
        qkv: base[qkv] + moved,
        patches: base[patches] + (torch.randn(384, 2) @ torch.randn(2, 588)).view(384, 3, 14, 14) / 100,
    }
    kept = compact.difference(state, base, rank=3)
    again = compact.added(base, kept)
    assert again.keys() == state.keys()
    for key in state:
        assert_close(again[key], state[key], atol=1e-5, rtol=1e-5)
    less = compact.added(base, compact.difference(state, base, rank=2))
    assert (less[qkv] - state[qkv]).norm() > 0.1 * moved.norm()

    rest = {key: tensor.half() for key, tensor in base.items() if key not in state}
    path = tmp_path / "tuned.safetensors"
    whole.save(path, "vit", {"base": "vit_small.safetensors"}, compact.to_int8(kept) | rest)
    tuned = load_vit("small", path, device="cpu")
    assert_close(tuned.model.norm.bias, state["norm.bias"], atol=1e-3, rtol=1e-3)
    assert (tuned.model.state_dict()[qkv] - state[qkv]).norm() < 0.02 * moved.norm()
