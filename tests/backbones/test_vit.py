"""ViT features against timm's own forward, and weights that load completely or not at all."""

import argparse
import copy
import hashlib
import json
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import numpy as np
import pytest
import safetensors.torch
import timm
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import checkpoint_filter_fn
from tiny import TINY, tiny_vit
from torch.testing import assert_close

from fit3d_lite.backbones import checkpoints, features
from fit3d_lite.backbones import load as backbones
from fit3d_lite.backbones.checkpoints import SMALL
from fit3d_lite.backbones.shorten import other_patches
from fit3d_lite.backbones.vit import NAMES, ViT, load_vit, save_checkpoint, save_vit
from fit3d_lite.base.download import DownloadError

NAMED = "test_vit"
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """The networks are small: threads would only wait for each other, above all beside other programs."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def photos(views=2, height=40, width=56, seed=0):
    return torch.rand(views, 3, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def untouched():
    return tiny_vit()


@pytest.fixture
def tiny(untouched):
    return copy.deepcopy(untouched)


@pytest.fixture
def named():
    """A ViT that files can be loaded into by its name: timm's own for tests, of 0.3 M parameters."""
    return load_vit(NAMED, weights="random", device="cpu")


def filled(name, seed=0):
    """A ViT of true size with uniform weights: timm's own initialisation takes seconds for each ViT-B."""
    model = checkpoints.without_weights(
        lambda: timm.create_model(NAMES.get(name, name), num_classes=0, dynamic_img_size=True)
    )
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.to_empty(device="cpu").parameters():
            parameter.uniform_(-0.05, 0.05, generator=generator)
    return ViT(model, name, backbones.configuration(NAMES.get(name, name))).eval()


@pytest.fixture(scope="module", params=list(NAMES))
def big(request):
    """Each of the six architectures, built once for the tests that need it."""
    return filled(request.param)


def timm_tokens(model, x):
    """Last block's tokens after and before the norm, from timm's own whole forward."""
    before = []
    hook = model.norm.register_forward_pre_hook(lambda module, inputs: before.append(inputs[0]))
    with torch.no_grad():
        after = model.forward_features(x)
    hook.remove()
    return after, before[0]


# ---- features


def test_features_are_those_of_timm_for_all_six(big):
    p, prefix = big.patch_size, big.model.num_prefix_tokens
    images = photos(1, 5 * p, 3 * p)
    after, before = timm_tokens(big.model, (images - MEAN) / STD)
    with torch.no_grad():
        feats = big(images)
        raw, cls = big.features(images, norm=False, cls=True)
    expected = [t[:, prefix:].transpose(1, 2).reshape(1, big.channels, 5, 3) for t in (after, before)]
    # The same operations in the same order; only the memory layout may differ.
    assert_close(feats, expected[0], rtol=1e-5, atol=1e-5)
    assert_close(raw, expected[1], rtol=1e-5, atol=1e-5)
    assert_close(cls, before[:, 0], rtol=1e-5, atol=1e-5)
    assert big.blocks == 12 and big.grid(5 * p + p - 1, 3 * p) == (5, 3)


PUBLISHED_BYTES = {  # of FiT3D's checkpoints; dinov2_base was added later and its size is not on record
    "dinov2_small": 88_278_421,
    "dinov2_reg_small": 88_283_296,
    "clip_base": 344_411_672,
    "mae_base": 343_240_909,
    "deit3_base": 343_318_933,
}


def test_keys_are_as_many_as_the_published_bytes(big):
    if big.name not in PUBLISHED_BYTES:
        pytest.skip("the size of this checkpoint is not on record")
    size = PUBLISHED_BYTES[big.name]
    raw = 4 * sum(tensor.numel() for tensor in big.model.state_dict().values())
    # torch.save adds names and alignment, some 250 to 400 bytes a tensor.
    assert 0 < size - raw < 500 * len(big.model.state_dict())


def test_blocks_come_in_the_order_asked_for(tiny):
    images, hooked = photos(), {}
    for i, block in enumerate(tiny.model.blocks):
        block.register_forward_hook(lambda module, inputs, out, i=i: hooked.__setitem__(i, out))
    with torch.no_grad():
        tiny(images)
        several = tiny.features(images, block=[4, 0, -1, 4], norm=False)
    for block, feats in zip([4, 0, 5, 4], several, strict=True):
        assert_close(feats, hooked[block][:, 1:].transpose(1, 2).reshape(2, 192, 5, 7))
    pairs = tiny.features(images, block=[1, -2], cls=True)
    assert [(f.shape, c.shape) for f, c in pairs] == [((2, 192, 5, 7), (2, 192))] * 2
    assert_close(pairs[1][1], tiny.model.norm(hooked[4])[:, 0])


def test_position_embedding_is_interpolated_as_for_a_model_of_that_size(tiny):
    fixed = timm.models.VisionTransformer(**(TINY | {"img_size": (40, 56), "dynamic_img_size": False})).eval()
    state = tiny.model.state_dict()
    position = state["pos_embed"]
    patches = position[:, 1:].reshape(1, 24, 24, 192).permute(0, 3, 1, 2)
    patches = F.interpolate(patches, size=(5, 7), mode="bicubic", antialias=True)
    fixed.load_state_dict(state | {"pos_embed": torch.cat([position[:, :1], patches.flatten(2).transpose(1, 2)], 1)})
    expected, _ = timm_tokens(fixed, (photos() - MEAN) / STD)
    assert_close(tiny(photos()).flatten(2).transpose(1, 2), expected[:, 1:], rtol=1e-4, atol=1e-4)


def test_other_sizes_are_resized_to_whole_patches(tiny):
    images = photos(1, 47, 61)
    resized = F.interpolate(images, size=(40, 56), mode="bilinear", antialias=True)
    assert tiny.grid(47, 61) == (5, 7)
    assert_close(tiny(images), tiny(resized), rtol=1e-5, atol=1e-5)


def test_the_six_use_imagenet_mean_as_fit3d_does_and_other_models_their_own():
    assert timm.get_pretrained_cfg(NAMES["clip_base"]).mean != (0.485, 0.456, 0.406)
    assert backbones.configuration(NAMES["clip_base"])["mean"] == [0.485, 0.456, 0.406]
    other = load_vit("vit_tiny_patch16_224.augreg_in21k", weights="random", device="cpu")
    assert other.mean.flatten().tolist() == other.std.flatten().tolist() == [0.5] * 3
    assert other(photos(1, 32, 48)).shape == (1, 192, 2, 3)


def test_grid_and_channels_of_a_hybrid_are_those_of_its_features_and_a_model_that_breaks_them_is_refused(monkeypatch):
    hybrid = load_vit("vit_tiny_r_s16_p8_224", weights="random", device="cpu")  # patches of 1 on a map 32 times smaller
    found = hybrid(photos(1, 96, 128))
    assert found.shape == (1, hybrid.channels, *hybrid.grid(96, 128)) and hybrid.patch_size == 32
    plain = timm.models.VisionTransformer.forward_intermediates
    for change, said in (
        (lambda maps: [m[..., 1:] for m in maps], r"features \[1, 192, 3, 3\] of an image of 48×64"),
        (lambda maps: 1 / 0, "no features of images of any size .division"),
    ):
        monkeypatch.setattr(
            timm.models.VisionTransformer, "forward_intermediates", lambda *a, change=change, **k: change(plain(*a, **k))
        )
        with pytest.raises(ValueError, match=said):
            load_vit("vit_tiny_patch16_224", weights="random", device="cpu")


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.rand(2, 4, 32, 32), r"\[V, 3, H, W\], not \[2, 4, 32, 32\]"),
        (torch.rand(3, 32, 32), r"images\[None\]"),
        (torch.rand(2, 32, 32, 3), r"channels are last.*movedim"),
        (torch.rand(0, 3, 32, 32), r"not \[0, 3, 32, 32\]"),
        ([1, 2], "not list"),
        (torch.full((1, 3, 32, 32), 200.0), "range from 200 to 200: divide by 255"),
        (torch.full((1, 3, 32, 32), 200, dtype=torch.uint8), r"images.float\(\) / 255"),
        (torch.randn(1, 3, 32, 32), "do not normalise before"),
        (torch.tensor(float("nan")).expand(1, 3, 32, 32), "not finite"),
        (torch.rand(1, 3, 7, 32), "7×32 pixels is smaller than one patch of 8×8"),
    ],
)
def test_bad_images_are_refused(tiny, images, message):
    for call in (tiny, tiny.extract):
        with pytest.raises(ValueError, match=message):
            call(images)


def test_bad_blocks_and_a_missing_cls_are_refused(tiny):
    for block in (6, -7, [0, 6], []):
        with pytest.raises(ValueError, match="blocks 0 to 5, or -1 to -6"):
            tiny.features(photos(), block=block)
    without = timm.models.VisionTransformer(**(TINY | {"class_token": False, "global_pool": "avg"}))
    vit = ViT(without, "bare", tiny.config)
    assert vit(photos()).shape == (2, 192, 5, 7)
    with pytest.raises(ValueError, match="bare has no CLS token"):
        vit.features(photos(), cls=True)


# ---- fine-tuning


def test_gradients_reach_every_weight_and_agree_with_differences(tiny):
    vit = copy.deepcopy(tiny).double().train()
    images, target = photos(1, 16, 24).double(), torch.randn(1, 192, 2, 3, dtype=torch.double)
    loss = (vit(images) - target).square().mean()
    loss.backward()
    assert all(parameter.grad is not None for parameter in vit.parameters())
    weight = vit.model.patch_embed.proj.weight
    step = 1e-5
    with torch.no_grad():
        values = []
        for sign in (1, -1):
            weight[3, 1, 2, 2] += sign * step
            values.append((vit(images) - target).square().mean())
            weight[3, 1, 2, 2] -= sign * step
    assert_close((values[0] - values[1]) / (2 * step), weight.grad[3, 1, 2, 2], rtol=1e-5, atol=1e-10)


def test_checkpointing_gives_the_same_gradients_and_computes_blocks_twice(tiny):
    def gradients(vit):
        calls = []
        vit.model.blocks[2].register_forward_pre_hook(lambda *args: calls.append(1))
        vit.train()
        vit(photos()).square().mean().backward()
        return [parameter.grad for parameter in vit.parameters()], len(calls)

    other = copy.deepcopy(tiny)
    other.set_grad_checkpointing(True)
    (plain, once), (again, twice) = gradients(tiny), gradients(other)
    assert (once, twice) == (1, 2)
    for a, b in zip(plain, again, strict=True):
        assert_close(a, b)


def test_a_deep_copy_is_independent_and_the_fingerprint_sees_the_difference(tiny):
    other = copy.deepcopy(tiny)
    before = tiny.fingerprint()
    assert other.fingerprint() == before
    with torch.no_grad():
        other.model.blocks[3].attn.qkv.weight[0, 0] += 1e-3
    assert tiny.fingerprint() == before != other.fingerprint()


def test_random_weights_are_the_same_for_a_seed_and_disturb_no_other_random_number(named):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    again = load_vit(NAMED, weights="random", device="cpu", grad_checkpointing=True)
    assert torch.equal(torch.rand(3), expected)
    assert again.fingerprint() == named.fingerprint()
    assert again.grad_checkpointing and not named.grad_checkpointing
    assert load_vit(NAMED, weights="random", device="cpu", seed=1).fingerprint() != named.fingerprint()


# ---- extract


def test_extract_is_features_in_batches_without_gradients(tiny):
    tiny.train()
    images = photos(5)
    (a, a_cls), (b, _) = tiny.extract(images, batch=2, block=[1, -1], norm=False, cls=True)
    expected = tiny.features(images, block=[1, -1], norm=False, cls=True)
    assert_close(a, expected[0][0].detach(), rtol=1e-5, atol=1e-5)
    assert_close(a_cls, expected[0][1].detach(), rtol=1e-5, atol=1e-5)
    assert_close(b, expected[1][0].detach(), rtol=1e-5, atol=1e-5)
    assert tiny.training, "the mode is put back"
    assert not a.requires_grad
    (a * torch.ones(1, requires_grad=True)).sum().backward()  # a probe can be trained on them


def test_extract_in_lower_precision_is_near_and_comes_back_as_float32(tiny):
    low = tiny.extract(photos(), dtype=torch.bfloat16)
    full = tiny.extract(photos())
    assert low.dtype == torch.float32 and not torch.equal(low, full)
    assert F.cosine_similarity(low, full).mean() > 0.999  # bf16 keeps 8 bits: errors of about 1 % after six blocks


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("can't allocate memory")])
def test_the_batch_is_halved_when_memory_runs_out(tiny, monkeypatch, error):
    expected, tried, forward = tiny.extract(photos(7)), [], tiny.model.forward_intermediates

    def small_memory(x, **options):
        tried.append(len(x))
        if len(x) > 2:
            raise error
        return forward(x, **options)

    monkeypatch.setattr(tiny.model, "forward_intermediates", small_memory)
    assert_close(tiny.extract(photos(7)), expected, rtol=1e-5, atol=1e-5)
    assert tried == [7, 3, 1, 1, 1, 1, 1, 1, 1]
    monkeypatch.setattr(tiny.model, "forward_intermediates", lambda x, **options: (_ for _ in ()).throw(error))
    with pytest.raises(MemoryError, match="one image of 40×56"):
        tiny.extract(photos(7))


def test_other_errors_are_not_mistaken_for_memory(tiny, monkeypatch):
    def broken(x, **options):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(tiny.model, "forward_intermediates", broken)
    with pytest.raises(RuntimeError, match="mat1"):
        tiny.extract(photos())


def test_the_batch_shrinks_with_the_image(tiny):
    small, large = features.batch_that_fits(tiny, 40, 56), features.batch_that_fits(tiny, 800, 800)
    assert 1 <= large < small <= 256
    with pytest.raises(ValueError, match="batch must be a whole number from 1 up, got 0"):
        tiny.extract(photos(), batch=0)


def test_features_that_are_not_finite_are_not_returned(tiny, tmp_path):
    with torch.no_grad():
        tiny.model.norm.weight[0] = float("inf")
    with pytest.raises(FloatingPointError, match="not finite"):
        tiny.extract(photos(), cache=tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_cache_returns_the_same_and_only_for_the_same(tiny, tmp_path, monkeypatch):
    calls, forward = [], tiny.model.forward_intermediates
    monkeypatch.setattr(tiny.model, "forward_intermediates", lambda *a, **o: calls.append(1) or forward(*a, **o))
    options = {"block": [0, -1], "cls": True, "cache": tmp_path}
    first = tiny.extract(photos(), **options)
    again = tiny.extract(photos(), **options)
    assert len(calls) == 1
    assert torch.equal(first[0][0], again[0][0]) and torch.equal(first[1][1], again[1][1])
    tiny.extract(photos(seed=1), **options)
    tiny.extract(photos(), **(options | {"norm": False}))
    tiny.extract(photos(), **(options | {"dtype": torch.bfloat16}))
    with torch.no_grad():
        tiny.model.blocks[0].mlp.fc1.bias += 0.1
    changed = tiny.extract(photos(), **options)
    assert len(calls) == 5 and not torch.equal(changed[0][0], first[0][0])
    assert len(list(tmp_path.iterdir())) == 5


def test_a_damaged_cache_is_computed_again_and_a_stopped_write_leaves_nothing(tiny, tmp_path, monkeypatch):
    expected = tiny.extract(photos(), cache=tmp_path)
    [file] = tmp_path.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:100])
    assert torch.equal(tiny.extract(photos(), cache=tmp_path), expected)
    assert file.stat().st_size == len(whole)  # whole again; the order of the header's entries is the library's own
    file.unlink()

    def stopped(tensors, path, header):
        Path(path).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(safetensors.torch, "save_file", stopped)
    with pytest.raises(KeyboardInterrupt):
        tiny.extract(photos(), cache=tmp_path)
    assert not list(tmp_path.iterdir())


# ---- weights


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_save_vit_and_load_it_again(named, tmp_path, dtype):
    path = save_vit(named, tmp_path / "tuned.safetensors", dtype=dtype, trained_on="rooms")
    again = load_vit(NAMED, weights=path, device="cpu")
    for key, tensor in named.model.state_dict().items():
        assert_close(again.model.state_dict()[key], tensor.to(dtype).float(), rtol=0, atol=0)
    assert next(again.parameters()).requires_grad and again.config == named.config
    with safetensors.safe_open(path, "pt") as file:
        assert file.metadata()["trained_on"] == '"rooms"'
        assert json.loads(file.metadata()["config"]) == named.config
    with pytest.raises(ValueError, match="must end in .safetensors"):
        save_vit(named, tmp_path / "tuned.pth")


def test_the_embedded_names_are_found_among_the_assets(tmp_path, monkeypatch):
    small = load_vit("small", weights="random", device="cpu")
    for file in ("vit_small.safetensors", "vit_small_fit3d.safetensors", "vit_small_wrong_poses.safetensors"):
        with torch.no_grad():
            small.model.cls_token += 1
        save_vit(small, tmp_path / file, dtype=torch.float32)
    monkeypatch.setattr(backbones, "asset", lambda name: tmp_path / name)
    original, tuned, control = (load_vit("small", kind, device="cpu") for kind in ("original", "fit3d", "wrong_poses"))
    assert_close(tuned.model.cls_token, original.model.cls_token + 1)
    assert_close(control.model.cls_token, original.model.cls_token + 2)


def test_the_published_and_the_training_format_load(named, tmp_path):
    """FiT3D's finetune.py saves {model, optimizer, lr_scheduler, epoch, args}; its published files are bare."""
    bare = save_checkpoint(named, tmp_path / "bare.pth")
    assert set(torch.load(bare, weights_only=True)) == set(named.model.state_dict())
    optimizer = torch.optim.AdamW(named.model.parameters(), lr=1e-5)
    named(photos()).mean().backward()
    optimizer.step()
    training = {
        "model": named.model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "lr_scheduler": torch.optim.lr_scheduler.MultiStepLR(optimizer, [1]).state_dict(),
        "epoch": 0,
        "args": argparse.Namespace(lr=1e-5, batch_size=2, output_dir="runs"),
    }
    torch.save(training, tmp_path / "checkpoint.pth")
    loaded = load_vit(NAMED, weights=tmp_path / "checkpoint.pth", device="cpu")
    assert loaded.fingerprint() == named.fingerprint()
    assert load_vit(NAMED, weights=str(bare), device="cpu").fingerprint() != named.fingerprint()


def test_a_checkpoint_that_could_run_code_is_refused(tmp_path):
    class Harmful:
        def __reduce__(self):
            return print, ("code ran",)

    torch.save({"model": {"cls_token": torch.zeros(1)}, "args": Harmful()}, tmp_path / "harmful.pth")
    with pytest.raises(ValueError, match="cannot be read"):
        load_vit(NAMED, weights=tmp_path / "harmful.pth")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda vit: {"model": vit.model.state_dict(), "best": np.float64(0.5)}, r"holds numpy.*scalar beside the weights"),
        (lambda vit: {"model": vit.model.state_dict(), "out": Path("here")}, r"holds pathlib.*Path beside the weights"),
        (lambda vit: vit.model, r"whole pickled timm.*VisionTransformer, not its state dict.*state_dict\(\)"),
    ],
)
def test_a_whole_file_that_the_safe_loader_refuses_is_not_called_truncated(named, tmp_path, content, message):
    torch.save(content(named), tmp_path / "best.pth")
    with pytest.raises(ValueError, match=message) as caught:
        load_vit(NAMED, weights=tmp_path / "best.pth")
    assert "truncated" not in str(caught.value) and "weights_only=False" in str(caught.value)


def test_the_wrappings_of_training_programs_are_opened(named, tmp_path):
    bare, path = named.model.state_dict(), tmp_path / "last.pth"
    other = {key: tensor + 1 for key, tensor in bare.items()}

    def under(prefix, state=bare):
        return {prefix + key: tensor for key, tensor in state.items()}

    for content, said in [
        ({"state_dict": bare, "epoch": 1}, "'state_dict.'"),
        (under("module."), "'module.'"),
        (under("_orig_mod."), "'_orig_mod.'"),
        ({"model": under("module."), "optimizer": {"state": {0: {"exp_avg": bare["cls_token"]}}}}, "'model.module.'"),
        ({"state_dict": under("backbone.") | {"fc.weight": torch.zeros(2, 2)}}, "'state_dict.backbone.'"),
        ({"student": under("module.backbone.", other), "teacher": under("backbone.")}, "'teacher.backbone.' are taken, the av"),
        ({"state_dict": other, "state_dict_ema": bare}, "'state_dict_ema.' are taken, the averaged"),
    ]:
        torch.save(content, path)
        with pytest.warns(UserWarning, match=said):
            assert load_vit(NAMED, weights=path, device="cpu").fingerprint() == named.fingerprint()
    torch.save({"left": bare, "right": other}, path)
    with pytest.raises(ValueError, match="holds 2 networks, under the prefixes left., right."):
        load_vit(NAMED, weights=path)


def test_files_of_dinov2_and_mae_as_their_authors_publish_them():
    with_registers = filled("dinov2_reg_small")
    state = dict(with_registers.model.state_dict())
    theirs = state | {"mask_token": torch.zeros(1, 384), "register_tokens": state["reg_token"]}
    theirs["pos_embed"] = torch.cat([torch.ones(1, 1, 384), state["pos_embed"]], 1)  # with a row for the CLS token
    theirs["cls_token"] = state["cls_token"] - 1
    del theirs["reg_token"]
    before = copy.deepcopy(state)
    checkpoints.load_strictly(with_registers.model, theirs, "dinov2_reg_small", "the file")
    assert_close(dict(with_registers.model.state_dict()), before)
    at_224 = state | {"pos_embed": torch.ones(1, 16 * 16, 384)}
    checkpoints.load_strictly(with_registers.model, at_224, "dinov2_reg_small", "the file")
    assert_close(with_registers.model.pos_embed, torch.ones_like(state["pos_embed"]))


def test_weights_that_are_not_finite_are_refused_when_read_and_named_when_used(named, tmp_path):
    with torch.no_grad():
        named.model.norm.weight[0] = float("nan")
    with pytest.raises(FloatingPointError, match="1 of its weights hold nan or inf, model.norm.weight first"):
        named.extract(photos())
    for path in (save_checkpoint(named, tmp_path / "nan.pth"), save_vit(named, tmp_path / "nan.safetensors")):
        with pytest.raises(ValueError, match="not finite .* in 1 of .* tensors, norm.weight first"):
            load_vit(NAMED, weights=path)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_truncated_or_foreign_file_is_refused(named, tmp_path, suffix):
    save = save_vit if suffix == ".safetensors" else save_checkpoint
    path = save(named, tmp_path / f"weights{suffix}")
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"<html>login</html>", b""):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"weights{suffix} \([\d,]+ bytes\) cannot be read: it is truncated"):
            load_vit(NAMED, weights=path)


def test_what_is_no_state_dict_is_refused(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"holds no state dict .* but keys \['epoch'\]"):
        load_vit(NAMED, weights=tmp_path / "other.pth")
    with pytest.raises(FileNotFoundError, match="no checkpoint at .*absent.pth"):
        load_vit(NAMED, weights=tmp_path / "absent.pth")


def test_weights_of_another_model_name_the_right_one(named, tmp_path):
    path = save_checkpoint(named, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=r"does not fit dinov2_small: .* should be .*, and \d+ more. It fits none of our"):
        load_vit("dinov2_small", weights=path)
    state = torch.load(path, weights_only=True)
    del state["norm.bias"]
    state["extra.weight"] = torch.zeros(1)
    state["cls_token"] = torch.zeros(1, 1, 7)
    torch.save(state, path)
    with pytest.raises(ValueError) as caught:
        load_vit(NAMED, weights=path)
    message = str(caught.value)
    assert "norm.bias is missing" in message and "extra.weight is not in the model" in message
    assert "cls_token is [1, 1, 7] and should be [1, 1, 64]" in message and "fits none of our models" in message
    assert "more" not in message


@pytest.mark.parametrize("right", [*NAMES, "small"])
def test_each_of_our_models_is_recognised_by_its_shapes(right, named):
    """Differences are the only evidence, so this shows that no two of them are alike."""
    state = {key: torch.empty(shape, device="meta") for key, shape in checkpoints._shapes(right).items()}
    with pytest.raises(ValueError, match=f"It fits {right}: use that name"):
        checkpoints.load_strictly(named.model, state, NAMED, "the file")


def test_a_classifier_in_the_original_is_left_out(named):
    state = named.model.state_dict() | {"head.weight": torch.zeros(1000, 64), "head.bias": torch.zeros(1000)}
    checkpoints.load_strictly(named.model, state, NAMED, "the file")


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("dinov2_tiny", "random", "no model 'dinov2_tiny'; use \"small\", dinov2_small"),
        ("vit_small_patch14_dino", "random", "Did you mean vit_small_patch14_dinov2"),
        ("resnet18", "random", "resnet18 is not a vision transformer"),
        ("small", "orginal", "weights must be .* not 'orginal'"),
        ("vit_tiny_patch16_224", "fit3d", "FiT3D published no checkpoint for 'vit_tiny_patch16_224', only for dinov2"),
    ],
)
def test_bad_names_are_refused(name, weights, message):
    with pytest.raises(ValueError, match=message):
        load_vit(name, weights=weights)


# ---- the hub, with a local server in its place


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A folder that is served under the hub's addresses, and an empty cache; what was asked for is in ``hub.asked``."""

    class Handler(SimpleHTTPRequestHandler):
        def do_HEAD(self):
            asked.append(self.path)
            super().do_HEAD()

        def end_headers(self):
            if Path(self.translate_path(self.path)).is_file():  # by these the client knows what it gets
                self.send_header("X-Repo-Commit", "0" * 40)
                self.send_header("ETag", f'"{hashlib.sha256(self.path.encode()).hexdigest()}"')
            super().end_headers()

        def log_message(self, *args):
            pass

    folder, asked = tmp_path / "hub", []
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("FIT3D_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FIT3D_OFFLINE", raising=False)
    look = huggingface_hub.try_to_load_from_cache  # only in our cache: the reader's own may hold anything
    monkeypatch.setattr(
        huggingface_hub,
        "try_to_load_from_cache",
        lambda *args, cache_dir: look(*args, cache_dir=cache_dir) if cache_dir else None,
    )
    yield SimpleNamespace(folder=folder, asked=asked)
    server.shutdown()
    server.server_close()


def test_fit3d_weights_come_from_the_hub_and_load_strictly(hub, tmp_path):
    source = filled("dinov2_small")
    save_checkpoint(source, hub.folder / "yuanwenyue" / "FiT3D" / "resolve" / "main" / "dinov2_small_finetuned.pth")
    loaded = load_vit("dinov2_small", weights="fit3d", device="cpu").model.state_dict()
    assert all(torch.equal(loaded[key], tensor) for key, tensor in source.model.state_dict().items())
    assert list((tmp_path / "cache").rglob("dinov2_small_finetuned.pth"))


def test_original_weights_come_from_timms_hub_once(hub, tmp_path, monkeypatch):
    name = "vit_tiny_patch16_224.augreg_in21k"
    source = filled(name)
    served = save_vit(source, hub.folder / "timm" / name / "resolve" / "main" / "model.safetensors", dtype=torch.float32)
    assert load_vit(name, device="cpu").fingerprint() == source.fingerprint()
    assert list((tmp_path / "cache").rglob("model.safetensors")) and len(hub.asked) == 1
    load_vit(name, device="cpu")
    assert len(hub.asked) == 1, "what is there is loaded without a question to the hub"
    monkeypatch.setenv("FIT3D_OFFLINE", "1")
    load_vit(name, device="cpu")
    # what huggingface_hub has already fetched for another program is used where it lies
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *args, cache_dir: str(served))
    monkeypatch.setenv("FIT3D_CACHE", str(tmp_path / "empty"))
    assert load_vit(name, device="cpu").fingerprint() == source.fingerprint()


@pytest.mark.parametrize(
    ("weights", "url"),
    [
        ("original", "timm/vit_small_patch14_dinov2.lvd142m/resolve/main/model.safetensors"),
        ("fit3d", "yuanwenyue/FiT3D/resolve/main/dinov2_small_finetuned.pth"),
    ],
)
@pytest.mark.parametrize("why", ["FIT3D_OFFLINE=1 forbids the network", "404"])
def test_without_a_network_one_sentence_says_what_works(hub, monkeypatch, weights, url, why):
    if "FIT3D_OFFLINE" in why:
        monkeypatch.setenv("FIT3D_OFFLINE", "1")
    with pytest.raises(DownloadError) as caught:
        load_vit("dinov2_small", weights=weights)
    message = str(caught.value)
    assert why in message and f"{url} elsewhere" in message and f'weights="…/{url.split("/")[-1]}"' in message
    assert 'load_vit("small") needs no download and works now' in message and len(message.splitlines()) == 1
    assert bool(hub.asked) == ("404" in why)


def test_a_server_that_is_not_there_is_one_sentence_too(hub, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the client tries several times
    with pytest.raises(DownloadError, match=r'cannot be downloaded \(.*\)\. Get .* load_vit\("small"\) needs no download'):
        load_vit("dinov2_small")


# ---- a trained network, where it is at hand


def test_a_trained_vit_small_loads_and_keeps_its_features(shared):
    path = shared / "weights" / "vit_small_patch14_saliency.safetensors"
    vit = load_vit("dinov2_small", weights=path, device="cpu")
    for key, tensor in checkpoints.read_weights(path)[0].items():
        assert torch.equal(vit.model.state_dict()[key], tensor.float())
    feats = vit.extract(photos(1, 70, 98))
    expected, _ = timm_tokens(vit.model, (photos(1, 70, 98) - MEAN) / STD)
    assert_close(feats.flatten(2).transpose(1, 2), expected[:, 1:], rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="It fits dinov2_small: use that name"):
        load_vit("mae_base", weights=path)


def test_other_patches_say_of_an_enlarged_photo_what_the_patches_said_of_it():
    """FlexiViT's resampling is exact for enlarging by the interpolation that it inverts; timm's own is compared, too."""
    vit = load_vit("small", device="cpu")
    other = other_patches(vit, 28)
    assert (other.patch_size, other.grid(56, 84), vit.patch_size) == (28, (2, 3), 14)
    photo = torch.rand(1, 3, 14, 14, generator=torch.Generator().manual_seed(0))
    large = F.interpolate(photo, size=(28, 28), mode="bicubic", antialias=True, align_corners=False)
    with torch.no_grad():
        tokens = [one.model.patch_embed.proj(x) for one, x in ((vit, photo), (other, large))]
        assert_close(tokens[1], tokens[0], atol=1e-3, rtol=1e-3)
        model = timm.create_model(SMALL["timm"], num_classes=0, dynamic_img_size=True, depth=8, patch_size=28)
        model.load_state_dict(checkpoint_filter_fn(vit.model.state_dict(), model), strict=True)
        photos = torch.rand(1, 3, 56, 84, generator=torch.Generator().manual_seed(1))
        theirs = model.eval().forward_features((photos - vit.mean) / vit.std)[:, 1:]
    assert_close(other.extract(photos).flatten(2).movedim(1, 2), theirs, rtol=1e-4, atol=1e-3)
    assert torch.equal(other_patches(vit, 14).extract(photos), vit.extract(photos))
    with pytest.raises(ValueError, match="pixels must be a whole number from 2 up, got 1"):
        other_patches(vit, 1)
