"""Fine-tuning: one step equals a plain reference, the original stays, stopping costs nothing, many processes are one."""

import copy
import errno
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F
from tiny import tiny_vit

import fit3d_lite as f3d
from fit3d_lite.__main__ import main
from fit3d_lite.backbones import features, save_checkpoint
from fit3d_lite.backbones.adapters import add_lora, merge_lora
from fit3d_lite.backbones.vit import ViT
from fit3d_lite.base import ArtifactMismatch
from fit3d_lite.base.history import History
from fit3d_lite.finetuning import command
from fit3d_lite.finetuning import step as step_file
from fit3d_lite.finetuning.recipes import RECIPES, Recipe, named_recipe
from fit3d_lite.finetuning.sampling import Sampler
from fit3d_lite.finetuning.step import drift, patch_terms
from fit3d_lite.finetuning.targets import (
    AgreeingPatches,
    BlurredFeatures,
    OwnFeatures,
    RandomPatches,
    ShuffledPoses,
    Targets,
)
from fit3d_lite.lifting.grid import patch_matrix

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def vit():
    return tiny_vit()


@pytest.fixture(scope="module")
def scenes():
    return [f3d.room(1000 + i, 4, 48, shadows=False) for i in range(2)]


@pytest.fixture(scope="module")
def lifted(vit, scenes):
    return [f3d.lift(f3d.Gaussians.from_depth(s, count=600), s.cameras, vit.extract(s.images)) for s in scenes]


@pytest.fixture
def tune(vit, scenes, lifted):
    def run(recipe="brief", **options):
        return f3d.finetune(vit, scenes, lifted, recipe, progress=False, **options)

    return run


@pytest.fixture
def named(scenes):
    """As ``tune``, of a ViT that files can be loaded into by its name: timm's own for tests."""
    vit = f3d.load_vit("test_vit", "random", device="cpu")
    lifted = [f3d.lift(f3d.Gaussians.from_depth(s, count=600), s.cameras, vit.extract(s.images)) for s in scenes]
    return lambda **options: f3d.finetune(vit, scenes, lifted, progress=False, **options)


def weights(vit) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in vit.model.state_dict().values()])


# --- one run


def test_paper_recipe_equals_a_plain_loop(vit, scenes, lifted, tune):
    """The paper's step, written out: flip, masked L1 at the patch grid, clip 0.1, AdamW 1e-5 with decay 1e-4."""
    model, sampler = copy.deepcopy(vit).train(), Sampler([0] * 4 + [1] * 4, 2)
    optimizer = torch.optim.AdamW(model.model.parameters(), lr=1e-5, weight_decay=1e-4)
    losses = []
    for step in range(4):
        views, chances = sampler(step)
        images, targets, masks = [], [], []
        for view, chance in zip(views, chances):
            scene, index = divmod(view, 4)
            target, mask = lifted[scene].render(scenes[scene].cameras[index], 6, 6)
            parts = scenes[scene].images[index], target, mask
            for kept, part in zip((images, targets, masks), parts):
                kept.append(part.flip(-1) if chance < 0.5 else part)
        feats, target, mask = model(torch.stack(images)), torch.stack(targets), torch.stack(masks)
        loss = ((feats - target).abs() * mask[:, None]).sum() / (mask.sum() * feats.shape[1])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.model.parameters(), 0.1)
        optimizer.step()
        losses.append(loss.item())
    tuned = tune("paper")
    assert tuned.history.column("loss")[1] == pytest.approx(losses, rel=1e-5)
    change, expected = weights(tuned) - weights(vit), weights(model) - weights(vit)
    assert (change - expected).norm() < 0.02 * expected.norm()


def test_the_original_is_untouched_and_the_result_is_another_vit(vit, tune):
    before, frozen = weights(vit).clone(), [p.requires_grad for p in vit.parameters()]
    tuned = tune(train="lora")
    assert torch.equal(weights(vit), before) and [p.requires_grad for p in vit.parameters()] == frozen
    assert not vit.training and not tuned.training and all(p.requires_grad for p in tuned.parameters())
    assert not torch.equal(weights(tuned), before) and not hasattr(vit, "history")


def test_the_loss_falls_and_the_features_come_closer_to_the_targets(vit, scenes, lifted, tune):
    tuned = tune("paper", lr=1e-4, epochs=6)

    def distance(model):
        off = []
        for scene, one in zip(scenes, lifted):
            feats = model.extract(scene.images)
            for camera, feat in zip(scene.cameras, feats):
                target, mask = one.render(camera, 6, 6)
                off.append((feat - target).abs()[:, mask].mean())
        return torch.stack(off).mean()

    assert distance(tuned) < 0.9 * distance(vit)
    assert tuned.history.last("loss", 4) < tuned.history[0]["loss"]


def test_same_seed_same_weights_other_seed_other_weights(tune):
    first, again, other = tune(), tune(), tune(seed=1)
    assert torch.equal(weights(first), weights(again)) and not torch.equal(weights(first), weights(other))


@pytest.mark.parametrize("kind", ["brief", "paper"])
def test_a_batch_in_parts_gives_the_gradient_of_the_whole(tune, kind):
    extra = {"keep": 0.5, "cosine": 0.3, "batch": 4}
    whole, parts = tune(kind, **extra), tune(kind, at_once=1, **extra)
    for name in ("loss", "l1", "keep", "grad_norm", "std_ratio"):
        assert parts.history.column(name)[1] == pytest.approx(whole.history.column(name)[1], rel=1e-3), name


def test_out_of_memory_halves_what_is_on_the_device_and_keeps_the_batch(tune, monkeypatch, capsys):
    forward = step_file.Student.forward

    def small(self, images):
        if len(images) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, images)

    expected = tune(batch=4)
    monkeypatch.setattr(step_file.Student, "forward", small)
    tuned = tune(batch=4)
    assert tuned.history.column("loss")[1] == pytest.approx(expected.history.column("loss")[1], rel=1e-4)
    said = capsys.readouterr().out
    assert "2 images at once from here on" in said and "1 images at once" in said and "batch stays 4" in said

    def never(self, images):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(step_file.Student, "forward", never)
    with pytest.raises(MemoryError, match="one image does not fit the memory of cpu: use smaller images"):
        tune()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_lower_precision_stays_close_to_fp32(tune, dtype):
    exact, low = tune(stop=2), tune(stop=2, dtype=dtype)
    assert low.history.column("loss")[1] == pytest.approx(exact.history.column("loss")[1], rel=0.05)
    assert torch.isfinite(weights(low)).all() and low.history[0]["grad_norm"] == pytest.approx(
        exact.history[0]["grad_norm"], rel=0.1
    )  # unscaled before it is clipped


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(tune, tmp_path):
    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        tune("paper", lr=1e30, clip=1e30, checkpoint=tmp_path / "run.pt", every=1, epochs=5)
    assert (tmp_path / "run.pt").is_file()


def test_spread_is_restored_and_the_depth_map_starts_at_its_best(vit, scenes, lifted):
    targets = Targets(scenes, lifted, 192, (6, 6))
    trainer = step_file.Trainer(vit, scenes, targets, RECIPES["lite"], torch.float32, None)
    trainer.begin()
    feats = torch.cat([vit.extract(s.images) for s in scenes]).movedim(1, -1)
    wanted, depths, masks = map(torch.stack, zip(*(targets[i] for i in range(8))))
    new = (wanted * trainer.target_scale.scale + trainer.target_scale.shift).movedim(1, -1)[masks]
    assert torch.allclose(new.mean(0), feats[masks].mean(0), atol=1e-4)
    assert torch.allclose(new.std(0), feats[masks].std(0), rtol=1e-3)
    z = (depths[masks] - depths[masks].mean()) / depths[masks].std(correction=0)
    with torch.no_grad():
        guess = trainer.student.to_depth(feats.movedim(-1, 1))[:, 0][masks]
        head = trainer.student.to_depth

        def loss(scale):
            weight = head.weight.flatten()
            size = (scale * weight).square().sum() * step_file.RIDGE * feats[masks].square().mean() * len(z)
            return ((scale * (guess - head.bias) + head.bias - z) ** 2).sum() + size

        assert loss(1.0) < loss(0.98) and loss(1.0) < loss(1.02)  # a minimum of the ridge problem along its own ray
    assert ((guess - z) ** 2).mean() < 0.6


def test_blend_mixes_the_originals_weights_in(vit, tune):
    full, half, none = tune(), tune(blend=0.25), tune(blend=1.0)
    assert torch.allclose(weights(half), 0.75 * weights(full) + 0.25 * weights(vit), atol=1e-6)
    assert torch.equal(weights(none), weights(vit))


# --- fewer weights


def test_lora_starts_at_the_original_and_melts_into_plain_timm_weights(vit, scenes):
    adapted = copy.deepcopy(vit)
    add_lora(adapted.model, 4, 8.0, ("qkv", "proj"), (-1, 2))
    images = scenes[0].images[:2]
    trained = [n for n, p in adapted.model.named_parameters() if p.requires_grad]
    assert {n.split(".")[1] for n in trained} == {"2", "5"} and len(trained) == 8
    with torch.no_grad():
        assert torch.equal(adapted(images), vit(images))
        for block in (2, 5):
            adapted.model.blocks[block].attn.qkv.up.normal_(std=0.02)
        before = adapted(images)
        merge_lora(adapted.model)
        assert torch.allclose(adapted(images), before, atol=1e-4) and not torch.allclose(before, vit(images), atol=1e-2)
    assert adapted.model.state_dict().keys() == vit.model.state_dict().keys()


def test_lora_changes_only_the_layers_it_names(vit, tune):
    tuned = tune(train="lora", lora_layers=("proj",), lora_blocks=(5,), lr=1e-2)
    new, old = tuned.model.state_dict(), vit.model.state_dict()
    assert [k for k in new if not torch.equal(new[k], old[k])] == ["blocks.5.attn.proj.weight"]


def test_an_adapter_starts_at_the_original_and_travels_in_our_own_format(vit, scenes, tune, named, tmp_path):
    tuned, images = tune(train="adapter", lr=1e-2), scenes[0].images
    assert not torch.allclose(tuned.extract(images), vit.extract(images), atol=1e-2)
    state = tuned.model.state_dict()
    assert all(torch.equal(state[k.replace("norm.", "norm.norm.", 1) if k.startswith("norm.") else k], v)
               for k, v in vit.model.state_dict().items())  # fmt: skip
    tuned = named(train="adapter", lr=1e-2)
    path = f3d.save_vit(tuned, tmp_path / "adapted.safetensors", dtype=torch.float32)
    assert torch.equal(f3d.load_vit("test_vit", path, device="cpu").extract(images), tuned.extract(images))
    with pytest.raises(ValueError, match="adapter, which timm's model has no place for: use save_vit"):
        save_checkpoint(tuned, tmp_path / "adapted.pth")
    fresh = tune(train="adapter", stop=1, lr=1e-12)
    assert torch.allclose(fresh.extract(images), vit.extract(images), atol=1e-6)


def test_vits_with_other_blocks_are_trained_or_refused_before_the_first_step(scenes, lifted, vit):
    small = dict(img_size=48, patch_size=8, embed_dim=192, depth=2, num_heads=3, num_classes=0)
    parallel = timm.models.VisionTransformer(
        **small, dynamic_img_size=True, block_fn=timm.models.vision_transformer.ParallelThingsBlock
    )
    parallel = ViT(parallel, "parallel", vit.config).eval()
    # Its attention reads qkv.weight itself, and its last norm is an identity.
    eva = timm.models.Eva(**small, dynamic_img_size=True, qkv_fused=True, use_rot_pos_emb=True)
    eva = ViT(eva, "eva", vit.config).eval()
    assert isinstance(eva.model.norm, torch.nn.Identity)
    for model, train in ((parallel, "full"), (parallel, "adapter"), (eva, "full"), (eva, "lora"), (eva, "adapter")):
        tuned = f3d.finetune(model, scenes, lifted, train=train, epochs=1, blend=0.0, lr=1e-3, progress=False)
        assert not torch.equal(tuned.extract(scenes[0].images), model.extract(scenes[0].images))
        if train != "adapter":
            assert tuned.model.state_dict().keys() == model.model.state_dict().keys()
    steps = []
    with pytest.raises(ValueError, match="linear attn.qkv, and those of this ViT .ParallelThingsBlock. have none"):
        f3d.finetune(parallel, scenes, lifted, train="lora", on_step=steps.append, progress=False)
    assert not steps


def test_the_result_loads_from_the_published_format(named, scenes, tmp_path):
    tuned = named(train="lora", stop=2)
    path = save_checkpoint(tuned, tmp_path / "test_vit_finetuned.pth")
    assert torch.equal(f3d.load_vit("test_vit", path, device="cpu").extract(scenes[0].images), tuned.extract(scenes[0].images))


# --- stopping and going on


@pytest.mark.parametrize("options", [{}, {"train": "lora", "epochs": 2}, {"dtype": torch.float16, "recipe": "paper"}])
def test_a_run_stopped_and_resumed_is_the_same_to_the_last_bit(tune, tmp_path, options):
    whole = tune(**options)
    kept = {"checkpoint": tmp_path / "run.pt", "log": tmp_path / "log.jsonl", "resume": True}
    tune(stop=1, **kept, **options)
    halfway = tune(stop=3, **kept, **options)
    assert len(halfway.history) == 3
    resumed = tune(**kept, **options)
    assert torch.equal(weights(resumed), weights(whole))

    def numbers(run):
        return [{k: v for k, v in row.items() if k != "seconds"} for row in run]

    assert numbers(resumed.history) == numbers(whole.history) == numbers(History.read(tmp_path / "log.jsonl"))
    assert torch.equal(weights(tune(**kept, **options)), weights(whole))  # a finished run is not trained again


def test_another_scene_of_the_same_name_is_another_scene(vit, scenes, lifted, tune, tmp_path):
    tune(stop=1, checkpoint=tmp_path / "run.pt")
    asked = command.arguments(["--gaussians", "300", "--work", str(tmp_path), "--out", "x.pth"])
    paths = {command.lifted_features(asked, vit, scenes[0])}
    assert paths == {command.lifted_features(asked, vit, scenes[0])}
    camera = scenes[0].cameras[0]
    moved = [replace(camera, K=camera.K * torch.tensor([[1.01], [1.0], [1.0]])), *scenes[0].cameras[1:]]
    others = [{"images": scenes[0].images * 0.9}, {"depths": scenes[0].depths * 1.01}, {"cameras": moved}]
    for number, change in enumerate(others, 2):
        other = replace(scenes[0], **change)
        paths.add(command.lifted_features(asked, vit, other))
        assert len(paths) == number
        with pytest.raises(ArtifactMismatch, match="content"):
            f3d.finetune(vit, [other, scenes[1]], lifted, checkpoint=tmp_path / "run.pt", resume=True, progress=False)


def in_a_process(code: str, folder: Path) -> subprocess.CompletedProcess:
    env = os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests" / "standins")))}
    return subprocess.run([sys.executable, "-c", code, str(folder)], env=env, capture_output=True, text=True, timeout=170)


KILLED = """
import os, random, signal, sys, time
import torch
torch.set_num_threads(1)
import fit3d_lite as f3d
from tiny import tiny_vit
folder = sys.argv[1]

vit = tiny_vit()
scene = f3d.room(1000, 12, 32, shadows=False)
lifted = f3d.lift(f3d.Gaussians.from_depth(scene, count=300), scene.cameras, vit.extract(scene.images))

def run(checkpoint, log):
    tuned = f3d.finetune(vit, [scene], [lifted], batch=2, epochs=4, progress=False,
                         checkpoint=checkpoint, every=3, resume=True, log=log)
    torch.save(tuned.model.state_dict(), checkpoint + ".weights")

rng, kills = random.Random(0), 0
while True:  # with one thread torch starts no pool, so a fork is safe
    child = os.fork()
    if not child:
        run(folder + "/killed.pt", folder + "/killed.jsonl")
        os._exit(0)
    lines = lambda: sum(1 for _ in open(folder + "/killed.jsonl")) if os.path.exists(folder + "/killed.jsonl") else 0
    at = lines() + rng.randint(2, 8) if kills < 3 else 10**9
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if lines() >= at:
            time.sleep(rng.random() * 0.05)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            kills += 1
            break
        time.sleep(0.01)
    else:
        break
if not os.fork():
    run(folder + "/whole.pt", folder + "/whole.jsonl")
    os._exit(0)
os.wait()
print("kills", kills)
"""


def test_a_process_killed_at_random_steps_ends_with_the_same_bits(tmp_path):
    done = in_a_process(KILLED, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "kills 3" in done.stdout
    killed, whole = (torch.load(tmp_path / f"{n}.pt.weights", weights_only=True) for n in ("killed", "whole"))
    assert all(torch.equal(killed[k], whole[k]) for k in whole)
    assert len(History.read(tmp_path / "killed.jsonl")) == 24


def test_the_stop_button_ends_a_step_writes_a_checkpoint_and_is_passed_on(tune, tmp_path):
    def press(history):
        if len(history) == 2:
            os.kill(os.getpid(), signal.SIGINT)

    path, before = tmp_path / "run.pt", signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match="stopped after step 2 of 6; .*run.pt holds it, resume=True goes on"):
        tune(checkpoint=path, on_step=press)
    assert signal.getsignal(signal.SIGINT) == before
    assert torch.equal(weights(tune(checkpoint=path, resume=True)), weights(tune()))


def test_a_checkpoint_of_other_settings_is_refused_with_the_difference(tune, tmp_path):
    path = tmp_path / "run.pt"
    tune(checkpoint=path, stop=1)
    with pytest.raises(ArtifactMismatch, match=r"lr is 0.0001, asked is 0.001; seed is 0, asked is 3"):
        tune(checkpoint=path, resume=True, lr=1e-3, seed=3)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="no checkpoint of a fine-tuning run, or damaged"):
        tune(checkpoint=path, resume=True)
    with pytest.raises(ValueError, match="resume=True needs checkpoint="):
        tune(resume=True)


# --- several processes


TOGETHER = """
import os, sys, torch
torch.set_num_threads(1)
import torch.distributed as dist
import fit3d_lite as f3d
from tiny import tiny_vit
folder = sys.argv[1]

vit = tiny_vit()
scenes = [f3d.room(1000 + i, 6 - i, 32, shadows=False) for i in range(2)]
lifted = [f3d.lift(f3d.Gaussians.from_depth(s, count=300), s.cameras, vit.extract(s.images)) for s in scenes]

def run(own, name, **options):
    tuned = f3d.finetune(vit, [scenes[i] for i in own], [lifted[i] for i in own], keep=0.5, epochs=1,
                         progress=False, log=f"{folder}/{name}.jsonl", checkpoint=f"{folder}/{name}.pt", **options)
    torch.save(tuned.model.state_dict(), f"{folder}/{name}.weights")

children = []
for rank in range(3):
    child = os.fork()
    children.append(child)
    if child:
        continue
    if rank == 2:
        run([0, 1], "one", batch=4, shards=2)
    else:
        dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
        run([rank], "two" if rank == 0 else "nobody", batch=2)
        dist.destroy_process_group()
    os._exit(0)
sys.exit(max(os.waitpid(c, 0)[1] for c in children) != 0)
"""


def test_two_processes_equal_one_with_twice_the_batch(tmp_path):
    done = in_a_process(TOGETHER, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = (History.read(tmp_path / f"{n}.jsonl") for n in ("one", "two"))
    assert len(one) == len(two) == 2  # 5 views in the smaller shard, 2 a step
    for name in ("loss", "l1", "keep", "geometry", "grad_norm", "covered"):
        assert two.column(name)[1] == pytest.approx(one.column(name)[1], rel=1e-4), name
    a, b = (torch.load(tmp_path / f"{n}.weights", weights_only=True) for n in ("one", "two"))
    assert all(torch.allclose(a[k], b[k], atol=2e-5) for k in a)
    assert not (tmp_path / "nobody.jsonl").exists() and not (tmp_path / "nobody.pt").exists()  # one process writes


# --- the parts


def test_every_view_comes_once_an_epoch_and_shards_equally():
    sampler = Sampler([0] * 5 + [1] * 3 + [2] * 4, batch=4, shards=2, seed=7)
    assert sampler.steps == 1  # shard 1 has three views
    plain = Sampler([0] * 5 + [1] * 3 + [2] * 4, batch=3, seed=7)
    epochs = [[v for step in range(4) for v in plain(epoch * 4 + step)[0]] for epoch in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(12)) and epochs[0] != epochs[1]
    views, chances = sampler(0)
    assert [v in range(5, 8) for v in views] == [False, False, True, True] and all(0 <= c < 1 for c in chances)
    own = Sampler([0] * 3, batch=2, seed=7, first_shard=1)
    assert [v + 5 for v in own(0)[0]] == views[2:] and own(0)[1] == chances[2:]
    with pytest.raises(ValueError, match="A batch of 9 needs 9 views of each shard; the shards have 3"):
        Sampler([0] * 3, batch=9)


def test_terms_of_the_loss_by_hand():
    rng = torch.Generator().manual_seed(0)
    f, t = torch.randn(2, 3, 2, 2, generator=rng), torch.randn(2, 3, 2, 2, generator=rng)
    terms = patch_terms(f, t, Recipe(cosine=1.0))
    for b, i, j in torch.ones(2, 2, 2).nonzero().tolist():
        x, y = f[b, :, i, j].double(), t[b, :, i, j].double()
        assert terms["l1"][b, i, j].item() == pytest.approx(sum(abs(p - q) for p, q in zip(x, y)).item() / 3, rel=1e-5)
        assert terms["cosine"][b, i, j].item() == pytest.approx(1 - (x @ y / x.norm() / y.norm()).item(), abs=1e-5)
    assert set(patch_terms(f, t, Recipe())) == {"l1"}
    with pytest.raises(ValueError, match=r"\[2, 3, 2, 2\] and their targets \[2, 3, 2, 1\]"):
        patch_terms(f, t[..., :1], Recipe())


def test_drift_shows_collapse_and_turning_away():
    f = torch.randn(2, 8, 4, 4, generator=torch.Generator().manual_seed(1))
    assert drift(f, f) == pytest.approx((1.0, 1.0), abs=1e-5)
    assert drift(0.1 * f + 1, f)[0] == pytest.approx(0.1, abs=1e-4)
    assert drift(-f, f)[1] == pytest.approx(-1.0, abs=1e-5)


@pytest.mark.parametrize("keep", ["memory", "disk", "render"])
def test_targets_are_the_lifted_features_and_the_depth_of_the_gaussians(scenes, lifted, tmp_path, keep):
    files = [one.save(tmp_path / f"{i}.safetensors") for i, one in enumerate(lifted)]
    targets = Targets(scenes, files, 192, (6, 6), keep)
    for _ in range(2):  # made, then kept
        feature, log_depth, mask = targets[5]
        expected, covered = lifted[1].render(scenes[1].cameras[1], 6, 6)
        assert torch.equal(mask, covered) and torch.allclose(feature, expected, atol=1e-6)
        W = patch_matrix(lifted[1].cloud, scenes[1].cameras[1], 6, 6).to_dense().double() * lifted[1].seen
        z = scenes[1].cameras[1].project(lifted[1].cloud.means)[1].double()
        depth = ((W @ z) / W.sum(1).clamp_min(1e-9)).reshape(6, 6)
        assert torch.allclose(log_depth[mask].double(), depth[mask].log(), atol=1e-5)
    assert Targets(scenes, lifted, 192, (6, 6), budget=10).keep == "disk" and targets.some(3) == [0, 2, 5]


def test_masked_pixels_are_in_no_target(scenes, lifted):
    masks = torch.ones(scenes[1].images[:, 0].shape, dtype=torch.bool)
    masks[1, : scenes[1].height // 2] = False
    hidden = [scenes[0], scenes[1]._with(masks=masks)]
    right, part = Targets(scenes, lifted, 192, (6, 6)), Targets(hidden, lifted, 192, (6, 6))
    assert torch.equal(part[5][2][3:], right[5][2][3:]) and right[5][2][:3].any() and not part[5][2][:3].any()
    assert not part[5][0][:, :3].any() and torch.equal(part[4][2], right[4][2])


def test_controls_differ_from_the_targets_in_the_feature_alone(vit, scenes, lifted):
    args = (scenes, lifted, 192, (6, 6))
    right, wrong = Targets(*args), ShuffledPoses(*args)
    own, blurred = OwnFeatures(*args, vit=vit), BlurredFeatures(*args, vit=vit)
    assert torch.equal(wrong[5][0], right[7][0]) and torch.equal(wrong[3][0], right[1][0])  # four views: two further on
    feats = vit.extract(scenes[1].images)[1]
    mask = right[5][2]
    assert torch.allclose(own[5][0], feats * mask, atol=1e-5)
    block = feats[:, :3, 1:6]  # around row 0, column 3: the picture ends above
    assert mask[0, 3] and torch.allclose(blurred[5][0][:, 0, 3], block.mean((1, 2)), atol=1e-5)
    for control in (own, blurred):
        assert all(torch.equal(a, b) for a, b in zip(control[5][1:], right[5][1:]))
    one = scenes[0][:1]
    with pytest.raises(ValueError, match="room 1000 .* has one view: there is no other pose"):
        ShuffledPoses([one], lifted[:1], 192, (6, 6))[0]


def test_agreeing_patches_are_the_half_whose_own_feature_is_nearest_to_the_target(vit, scenes, lifted):
    right, narrow = Targets(scenes, lifted, 192, (6, 6)), AgreeingPatches(scenes, lifted, 192, (6, 6), vit=vit)
    feature, depth, mask = right[5]
    alike = F.cosine_similarity(feature, vit.extract(scenes[1].images)[1], dim=0)
    best = alike[mask].argsort(descending=True)[: -(-int(mask.sum()) // 2)]
    assert narrow[5][2].sum() == len(best) or narrow[5][2].sum() == len(best) + 1  # the median itself is kept
    assert alike[narrow[5][2]].min() >= alike[mask & ~narrow[5][2]].max() and not (narrow[5][2] & ~mask).any()
    assert torch.equal(narrow[5][0], feature * narrow[5][2]) and torch.equal(narrow[5][1], depth * narrow[5][2])


def test_the_control_of_agreeing_patches_is_some_half_of_them(scenes, lifted):
    right, half = (kind(scenes, lifted, 192, (6, 6)) for kind in (Targets, RandomPatches))
    kept = [(int(half[i][2].sum()), int(right[i][2].sum())) for i in range(8)]
    assert 0.4 < sum(few for few, _ in kept) / sum(most for _, most in kept) < 0.6
    assert torch.equal(half[5][0], right[5][0] * half[5][2]) and not (half[5][2] & ~right[5][2]).any()
    assert torch.equal(half.render(5), half.render(5)) and not torch.equal(half[5][2], half[6][2])


def test_finer_targets_pull_enlarged_features_on_their_own_grid(vit, scenes, lifted, tune):
    """The loss of the first step, written out: targets on 12 × 12, features enlarged from 6 × 6 bilinearly."""
    views, chances = Sampler([0] * 4 + [1] * 4, 2)(0)
    total, covered = 0, 0
    for view, chance in zip(views, chances):
        scene, index = divmod(view, 4)
        target, mask = lifted[scene].render(scenes[scene].cameras[index], 12, 12)
        image = scenes[scene].images[index]
        image, target, mask = (x.flip(-1) if chance < 0.5 else x for x in (image, target, mask))
        with torch.no_grad():
            near = F.interpolate(vit.features(image[None]), (12, 12), mode="bilinear", align_corners=False)[0]
        total, covered = total + ((near - target).abs().mean(0) * mask).sum(), covered + mask.sum()
    fine = tune("paper", finer=2)
    assert fine.history.column("loss")[1][0] == pytest.approx((total / covered).item(), rel=1e-5)
    assert not torch.equal(weights(fine), weights(tune("paper")))
    assert tune("lite", finer=2, keep=0.1).history.column("geometry")[1][0] > 0
    own = OwnFeatures(scenes, lifted, 192, (12, 12), vit=vit)
    assert own[5][0].shape == (192, 12, 12) and f3d.finetune(vit, scenes, own, "paper", finer=2, progress=False).history
    with pytest.raises(ValueError, match=r"192 channels on \(12, 12\); of this ViT and finer=1 they must be 192 on \(6, 6\)"):
        f3d.finetune(vit, scenes, own, progress=False)
    with pytest.raises(ValueError, match="finer"):
        tune(finer=0)


def test_with_a_cache_the_originals_features_are_made_once(vit, scenes, lifted, tune, tmp_path, monkeypatch):
    for scene in scenes:
        vit.extract(scene.images, cache=tmp_path)
    first = tune(stop=1, cache=tmp_path)
    monkeypatch.setattr(features, "_run", lambda *args: pytest.fail("features of the same photos are made again"))
    own = OwnFeatures(scenes, lifted, 192, (6, 6), vit=vit, cache=tmp_path)
    assert torch.equal(weights(tune(stop=1, cache=tmp_path)), weights(first))
    assert not torch.equal(weights(f3d.finetune(vit, scenes, own, stop=1, cache=tmp_path, progress=False)), weights(first))


def test_ready_targets_are_taken_and_strange_ones_refused(vit, scenes, lifted, tune):
    ready = Targets(scenes, lifted, 192, (6, 6))
    assert torch.equal(weights(f3d.finetune(vit, scenes, ready, progress=False)), weights(tune("lite")))
    with pytest.raises(ValueError, match="made for other scenes"):
        f3d.finetune(vit, scenes[:1], ready)
    with pytest.raises(ValueError, match=r"192 channels on \(3, 3\); of this ViT and finer=1 they must be 192 on \(6, 6\)"):
        f3d.finetune(vit, scenes, Targets(scenes, lifted, 192, (3, 3)))


def test_learning_rate_rises_stays_and_falls():
    recipe = Recipe(warmup=3, decay=True)
    assert [recipe.lr_at(s, 10) for s in (0, 5)] == pytest.approx([0.25, 0.5])
    assert recipe.lr_at(9, 10) < 0.03 and Recipe().lr_at(9, 10) == 1.0


def test_recipes_are_the_published_ones_and_refuse_nonsense():
    paper = RECIPES["paper"]
    assert (paper.lr, paper.weight_decay, paper.clip, paper.batch, paper.epochs) == (1e-5, 1e-4, 0.1, 2, 1)
    assert (paper.train, paper.l1, paper.cosine, paper.keep, paper.geometry, paper.flip) == ("full", 1.0, 0, 0, 0, 0.5)
    for changes, said in (
        ({"lr": 0}, "lr must be a number above 0, got 0"),
        ({"train": "half"}, "train must be one of full, lora, adapter; got 'half'"),
        ({"rate": 1}, "no setting rate; it has train, lr"),
        ({"l1": 0.0}, "nothing pulls the features"),
        ({"train": "adapter", "blend": 0.5}, "an adapter has no original weights"),
        ({"lora_layers": ("mlp",)}, "must name qkv, proj or both"),
        ({"flip": 2}, "flip must lie in 0..1, got 2"),
    ):
        with pytest.raises(ValueError, match=said):
            named_recipe("paper", **changes)
    with pytest.raises(ValueError, match="recipe must be one of paper, lite, brief, one-scene, or a Recipe; got 'best'"):
        named_recipe("best")


def test_bad_input_is_refused_before_any_work(vit, scenes, lifted):
    narrow = f3d.lift(lifted[0].cloud, scenes[0].cameras, torch.ones(4, 3, 6, 6))
    with pytest.raises(ValueError, match="at_once must be a whole number from 1 up, got -1"):
        f3d.finetune(vit, scenes, lifted, at_once=-1)
    for name, value in (("at_once", 0), ("stop", 0), ("stop", -5), ("every", 1.5), ("watch", "3"), ("shards", 0)):
        with pytest.raises(ValueError, match=f"{name} must be a whole number from 1 up, got {value!r}"):
            f3d.finetune(vit, scenes, lifted, **{name: value})
    for args, said in (
        (([], []), "no scenes"),
        ((scenes, lifted[:1]), "2 scenes but lifted features of 1"),
        (([scenes[0], scenes[1].resized(64, 48)], lifted), r"2 sizes \(48×48, 48×64, H×W\)"),
        ((scenes, [lifted[0], narrow]), "room 1001 .* have 3 channels, the ViT gives 192"),
    ):
        with pytest.raises(ValueError, match=said):
            f3d.finetune(vit, *args)
    with pytest.raises(ValueError, match="block 9; this ViT has blocks 0 to 5"):
        f3d.finetune(vit, scenes, lifted, train="lora", lora_blocks=(9,))
    with pytest.raises(ValueError, match="A batch of 99 needs 99 views"):
        f3d.finetune(vit, scenes, lifted, batch=99)


# --- the caller's mode, and results that could not be written


def test_the_callers_mode_changes_nothing(scenes, lifted, tune):
    right = weights(tune(epochs=1, stop=2))
    coarse = [f3d.lift(one.cloud, s.cameras, torch.ones(4, 384, 3, 3)) for one, s in zip(lifted, scenes, strict=True)]
    with torch.inference_mode():
        torch.testing.assert_close(weights(tune(epochs=1, stop=2)), right, rtol=0, atol=0)
        own = f3d.load_vit("small", device="cpu")
        ready = Targets(scenes, coarse, own.channels, own.grid(48, 48))
        f3d.finetune(own, scenes, ready, progress=False, epochs=1, stop=1)
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    try:
        tuned = tune(epochs=1, stop=2)
        assert torch.get_default_dtype() == torch.float64 and torch.empty(0).is_meta  # theirs again
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
    torch.testing.assert_close(weights(tuned), right, rtol=0, atol=0)


def test_paths_that_cannot_be_written_are_refused_before_the_first_step(tune, tmp_path):
    (tmp_path / "file").write_text("")
    for option in ("checkpoint", "log"):
        for path, said in ((tmp_path, "is a folder or a device"), (tmp_path / "file" / "x", "cannot be written: ")):
            with pytest.raises(OSError, match=said):
                tune(**{option: path}, on_step=lambda history: pytest.fail("a step was taken"))


def test_a_callback_that_raises_leaves_the_checkpoint(tune, tmp_path):
    def raises(history):
        if len(history) == 3:
            raise RuntimeError("the plot broke")

    with pytest.raises(RuntimeError, match="the plot broke"):
        tune(checkpoint=tmp_path / "run.pt", on_step=raises)
    resumed = tune(checkpoint=tmp_path / "run.pt", resume=True)
    torch.testing.assert_close(weights(resumed), weights(tune()), rtol=0, atol=0)


def test_a_flipped_byte_of_a_checkpoint_is_refused(tune, tmp_path):
    path = tmp_path / "run.pt"
    tune(checkpoint=path, stop=1)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)
    with pytest.raises(ValueError, match="run.pt is no checkpoint of a fine-tuning run, or damaged .*: delete it"):
        tune(checkpoint=path, resume=True)


def test_targets_reserve_their_file_first(vit, scenes, lifted, monkeypatch):
    def full(number, start, size):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(OSError, match=r"the targets need \d+ MB and .* has [\d,]+ MB free; .*targets=.render"):
        Targets(scenes, lifted, vit.channels, vit.grid(48, 48), "disk")


def test_what_teaches_nothing_is_refused_in_every_recipe(vit, scenes, lifted):
    def run(change):
        f3d.finetune(vit, scenes[0], change(lifted[0]), "paper", stop=1, progress=False)

    with pytest.raises(ValueError, match="The Gaussians cover no patch of 4 views: there is nothing to learn from"):
        run(lambda one: replace(one, weight=torch.zeros_like(one.weight)))
    with pytest.raises(ValueError, match="The features lifted for room 1000 .train. are not finite: lift again"):
        run(lambda one: replace(one, features=one.features * torch.nan))
    with pytest.raises(ValueError, match="features .N, C. and weight .N. of its N = "):
        run(lambda one: replace(one, weight=one.weight[:3]))
    with pytest.raises(ValueError, match="weights are torch.float16, too coarse to train"):
        f3d.finetune(copy.deepcopy(vit).half(), scenes, lifted)


# --- the command line


def test_command_line_trains_resumes_and_writes_weights_that_load(tmp_path, capsys):
    common = f"--rooms 2 --views 3 --size 48 --gaussians 400 --device cpu --work {tmp_path} --checkpoint {tmp_path}/run.pt"
    words = f"{common} --recipe paper --lr 1e-4 --train lora --lora-blocks 4 5 --every 1".split()
    command.main([*words, "--out", str(tmp_path / "a.pth"), "--log", str(tmp_path / "log.jsonl")])
    command.main([*words, "--out", str(tmp_path / "b.safetensors"), "--resume"])
    assert len(list(tmp_path.glob("lifted_*.safetensors"))) == 2 and "History(3 steps" in capsys.readouterr().out
    a, b = (f3d.load_vit("small", tmp_path / n, device="cpu") for n in ("a.pth", "b.safetensors"))
    assert torch.allclose(weights(a), weights(b), atol=2e-3)  # the second is stored in fp16
    with open(tmp_path / "log.jsonl") as file:
        assert [json.loads(line)["step"] for line in file] == [0, 1, 2]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--rooms 1 --out x.bin", "--out must end in .safetensors or .pth"),
        ("--out x.pth", "name scenes: --scene colmap:my/scan"),
        ("--scene colmop:here --out x.pth", "a scene is .*rgbd:PATH.*got 'colmop:here'"),
        ("--rooms 1 --out x.pth --train adapter", "an adapter is no part of a timm state dict"),
        ("--rooms 1 --out x.pth --lr -1", "lr must be a number above 0"),
        ("--rooms 1 --out x.pth --resume", "--resume needs --checkpoint"),
        ("--rooms 1 --out x.pth --device qpu", "device 'qpu' cannot be used here"),
        ("--rooms 1 --out x.pth --backbone nothing", "there is no model 'nothing'"),
        ("--rooms 1 --out x.pth --weights nowhere.pth", "there is no checkpoint at .*nowhere.pth"),
        ("--rgbd nowhere --out x.pth", "There is no folder nowhere"),
        ("--rooms 1 --out file/x.pth", "file/x.pth cannot be written: "),
        ("--rooms 1 --out x.pth --work file", "file/lifted cannot be written: "),
        ("--rooms 1 --size 48 --gaussians 300 --out x.pth --batch 99", "A batch of 99 needs 99 views"),
    ],
)
def test_command_line_says_in_one_line_what_is_wrong(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    assert main(["finetune", *words.split()]) == 2 and re.match(f"finetune: {said}", capsys.readouterr().err)


def test_command_line_reads_the_frames_asked_for_and_keeps_proportions(monkeypatch, vit):
    asked = []
    wide = f3d.room(1000, 3, 48, shadows=False).cropped(0, 6, 48, 36)
    monkeypatch.setattr("fit3d_lite.captures.rgbd", lambda *args, **options: asked.append((args, options)) or wide)
    words = "--rgbd scan --out x.pth --size 36 --depth-scale 5000 --frames".split()
    for frames, meant in (("5", 5), ("0:9:2", slice(0, 9, 2)), (":4", slice(None, 4))):
        (scene,) = command.own_scenes(command.arguments([*words, frames]))
        assert asked.pop() == (("scan",), {"frames": meant, "size": 36, "depth_scale": 5000.0})
        assert (scene.height, scene.width) == (36, 36)
        assert scene.cameras[0].K[0, 2] == wide.cameras[0].K[0, 2] - 6  # cut, not squeezed
    with pytest.raises(SystemExit) as ended:
        command.arguments([*words, "a:b"])
    assert ended.value.code == 2


def test_module_runs_without_a_warning():
    done = subprocess.run(
        [sys.executable, "-W", "default", "-m", "fit3d_lite", "finetune", "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0 and "--restore-spread" in done.stdout and "RuntimeWarning" not in done.stderr


