"""Everything runs on a GPU that only pretends (pretend_cuda.py), with the CPU's numbers, and waits no more than it must."""

import copy
import json

import numpy as np
import pytest
import torch
from pretend_cuda import OnCuda, pretend_cuda
from tiny import tiny_vit
from torch.testing import assert_close
from torch.utils._pytree import tree_leaves, tree_map

import fit3d_lite as f3d
from fit3d_lite.base.machine import best_dtype, quiet_sparse
from fit3d_lite.correspondence import cross_view_cosine
from fit3d_lite.finetuning.targets import Targets
from fit3d_lite.lifting import Lifted

quiet_sparse()
KINDS = {
    "mean": {}, "solve": {}, "decoder": {"dim": 16, "steps": 4, "progress": False}, "closed": {"dim": 16},
    "robust": {"method": "mean", "robust": True},
}  # fmt: skip


@pytest.fixture(scope="module")
def room():
    return f3d.room(0, 4, 48, shadows=False)


@pytest.fixture(scope="module")
def tiny():
    return tiny_vit()


@pytest.fixture
def gpu():
    f3d.set_backend("torch")
    with pretend_cuda() as device:
        yield device
    f3d.set_backend("auto")


def on_gpu(thing):
    """A scene, cloud, ViT or tensor on the pretended GPU; what it was stays where it is."""
    return copy.deepcopy(thing).to("cuda") if isinstance(thing, torch.nn.Module) else thing.to("cuda")


def assert_same(mine, expected, **tolerance):
    """Every tensor of ``mine`` is on the GPU, and its numbers are those of ``expected``."""
    found, wanted = tree_leaves(mine), tree_leaves(expected)
    assert len(found) == len(wanted)
    for a, b in zip(found, wanted, strict=True):
        if isinstance(b, torch.Tensor):
            assert isinstance(a, OnCuda) and not isinstance(b, OnCuda), "a result has left the GPU"
            a, b = a.held.detach(), b.detach()
            a, b = (x.to_dense() if x.layout != torch.strided else x for x in (a, b))
        assert_close(a, b, **({"rtol": 1e-4, "atol": 1e-5} | tolerance))


# --- the pretended GPU itself: what it must refuse, and what it must not


def test_it_refuses_what_a_gpu_refuses_and_takes_what_a_gpu_takes(gpu):
    x = torch.arange(6.0, device="cuda").reshape(2, 3)
    mixed = [
        lambda: x + torch.ones(3), lambda: x @ torch.ones(3, 1), lambda: torch.cat([x, torch.ones(1, 3)]),
        lambda: torch.where(torch.ones(2, 3, dtype=torch.bool), x, x), lambda: torch.ones(2, 3).add_(x),
        lambda: torch.sparse_csr_tensor(torch.tensor([0, 1]), torch.tensor([0]), x[0, :1], (1, 2)),
        lambda: torch.ones(2, 3)[x[0].long()], lambda: x.index_add_(0, torch.tensor([0]), x[:1]),
    ]  # fmt: skip
    for mix in mixed:
        with pytest.raises(RuntimeError, match="same device"):
            mix()
    for bring in (lambda: x.numpy(), lambda: np.asarray(x)):
        with pytest.raises(TypeError, match=r"Use Tensor.cpu\(\)"):
            bring()
    with pytest.raises(RuntimeError, match="'cuda' device type for generator but found 'cpu'"):
        torch.rand(3, device="cuda", generator=torch.Generator())
    assert_same(x + torch.tensor(2.0), torch.arange(6.0).reshape(2, 3) + 2)  # one number may come from the CPU
    assert_same(x[torch.tensor([1])], torch.tensor([[3.0, 4, 5]]))  # and so may an index
    assert not isinstance(x.cpu(), OnCuda) and not isinstance(x.new_zeros(2, device="cpu"), OnCuda)
    assert_same((x.new_tensor([1.0]), torch.tensor([1.0], device="cuda")), (torch.ones(1), torch.ones(1)))


def test_it_counts_the_points_where_the_cpu_waits(gpu):
    x = torch.arange(6.0, device="cuda")
    waits = [
        lambda: x.sum().item(), lambda: bool((x > 2).all()), lambda: x.tolist(), lambda: x.cpu(), lambda: x[x > 2],
        lambda: x.nonzero(), lambda: x.long().repeat_interleave(x.long()), lambda: x.unique(), lambda: f"{x.mean():.1f}",
        lambda: torch.zeros(6).copy_(x), lambda: x.long().bincount(),
    ]  # fmt: skip
    for wait in waits:
        with gpu.watching() as seen:
            wait()
        assert seen.total >= 1, wait
    with gpu.watching() as seen:
        y = (x * 2).exp().cumsum(0)[torch.tensor([1, 2])]
        y.long().repeat_interleave(torch.ones(2, dtype=torch.long, device="cuda"), output_size=2).to("cuda")
    assert seen.total == 0, seen


def test_gradients_and_sparse_products_are_those_of_the_cpu(gpu):
    def made(device):
        x = torch.arange(1.0, 7.0, device=device).requires_grad_()
        W = torch.sparse_coo_tensor(torch.tensor([[0, 1, 1], [2, 0, 1]], device=device), x[:3], (2, 3))
        y = W @ x.reshape(3, 2)
        (y[:, 0] * x[-2:].log()).sum().backward()
        csr = W.detach().coalesce().to_sparse_csr()
        return y, x.grad, csr @ x.detach().reshape(3, 2), csr.t().to_sparse_csr().values(), csr.crow_indices()

    assert_same(made("cuda"), made("cpu"))


# --- every stage


def test_a_room_is_fitted_and_drawn(room, gpu):
    def made(scene):
        cloud, history = f3d.Gaussians.from_depth(scene, count=300), []
        fitted = f3d.fit(cloud, scene, steps=4, refine_every=2, history=history, progress=False)
        W = f3d.view_matrix(fitted, scene.cameras[0])
        traced = f3d.view_matrix(fitted, scene.cameras[1], differentiable=True)
        image = f3d.render(fitted, scene.cameras[0], background=scene.images.new_ones(3))
        psnr = f3d.photo_psnr(fitted, scene)
        return (vars(cloud), vars(fitted), image, psnr, [row["loss"] for row in history]), (W, traced.coalesce())

    fits, matrices = zip(made(on_gpu(room)), made(room), strict=True)
    assert_same(*fits, rtol=2e-3, atol=2e-4)
    for mine, expected in zip(*matrices, strict=True):
        assert isinstance(mine, OnCuda) and not isinstance(expected, OnCuda), "a matrix has left the GPU"
        mine, expected = mine.held.detach().to_dense(), expected.detach().to_dense()
        # An entry of 1/255, the least that counts, falls on either side and takes as much from what is behind it in its pixel.
        edge = ((mine == 0) != (expected == 0)).any(1)
        assert edge.sum() <= 3, f"{edge.sum()} pixels are seen by other Gaussians"
        assert_close(mine[edge], expected[edge], rtol=0, atol=1.1 / 255)
        assert_close(mine[~edge], expected[~edge], rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("name", KINDS)
def test_features_are_lifted_rendered_and_kept(name, room, tiny, gpu, tmp_path):
    feats = tiny.extract(room.images)
    options = {"method": name} | KINDS[name]

    def made(scene, feats):
        cloud = f3d.Gaussians.from_depth(scene, count=300)
        lifted = f3d.lift(cloud, scene.cameras, feats, **options)
        return lifted, lifted.features, lifted.weight, lifted.render(scene.cameras[1], 6, 6)

    (mine, *found), (_, *expected) = made(on_gpu(room), on_gpu(feats)), made(room, feats)
    assert_same(found, expected, rtol=1e-3, atol=1e-4)
    kept = Lifted.load(mine.save(tmp_path / "lifted.safetensors"))
    assert_same(mine.features, kept.features)


def test_features_come_in_half_precision_and_agree_with_fp32(room, tiny, gpu, tmp_path):
    vit = on_gpu(tiny)
    assert best_dtype(vit.mean.device) == torch.float16  # as on a T4, whatever torch says of bf16 there
    half, exact = vit.extract(on_gpu(room.images), cache=tmp_path), tiny.extract(room.images)
    assert_same(vit.extract(on_gpu(room.images), dtype=torch.float32), exact)
    assert torch.cosine_similarity(half.held, exact, dim=1).min() > 0.999
    assert_same(vit.extract(on_gpu(room.images), cache=tmp_path), half.held, rtol=0, atol=0)
    assert not isinstance(vit.extract(room.images), OnCuda)  # features live where the images are


@pytest.fixture(scope="module")
def lifted(room, tiny):
    return f3d.lift(f3d.Gaussians.from_depth(room, count=300), room.cameras, tiny.extract(room.images))


def losses(vit):
    return [row["loss"] for row in vit.history]


@pytest.mark.parametrize("recipe, changes", [("paper", {}), ("lite", {}), ("lite", {"train": "lora", "keep": 0.1}),
                                             ("paper", {"train": "adapter"})])  # fmt: skip
def test_fine_tuning_gives_the_cpus_losses_and_weights(recipe, changes, room, tiny, lifted, gpu, monkeypatch):
    # else the start is measured in fp16
    monkeypatch.setattr("fit3d_lite.backbones.features.best_dtype", lambda device: torch.float32)
    options = {"progress": False, "epochs": 1, **changes}
    mine = f3d.finetune(on_gpu(tiny), [on_gpu(room)], [on_gpu(lifted)], recipe, **options)
    expected = f3d.finetune(tiny, [room], [lifted], recipe, **options)
    assert losses(mine) == pytest.approx(losses(expected), rel=1e-4)
    assert_same(dict(mine.model.named_parameters()), dict(expected.model.named_parameters()), rtol=1e-3, atol=1e-4)
    assert json.dumps(mine.history)  # plain numbers, all of them
    assert [set(row) for row in mine.history] == [set(row) for row in expected.history]


def test_fp16_with_a_scaler_goes_through_checkpoint_and_resume(room, tiny, lifted, gpu, tmp_path):
    small = room.resized(24, 24)
    given = (on_gpu(tiny), [small], [lifted])  # scenes that stay on the CPU are brought over photo by photo
    options = {"progress": False, "dtype": torch.float16, "epochs": 2, "checkpoint": tmp_path / "run.pt"}
    whole = f3d.finetune(*given, "paper", **{**options, "checkpoint": None})
    f3d.finetune(*given, "paper", **options, stop=2)
    resumed = f3d.finetune(*given, "paper", **options, resume=True)
    assert losses(resumed) == pytest.approx(losses(whole), rel=1e-6)
    assert_same(dict(resumed.model.named_parameters()), tree_map(held, dict(whole.model.named_parameters())), rtol=1e-5)


def held(x):
    return x.held if isinstance(x, OnCuda) else x


@pytest.mark.parametrize("probe", [f3d.probe_segmentation, f3d.probe_depth])
def test_probes_learn_and_predict(probe, room, tiny, gpu, monkeypatch):
    monkeypatch.setattr("fit3d_lite.backbones.features.best_dtype", lambda device: torch.float32)
    kinds = (tiny, f3d.RawPixels(8)), (on_gpu(tiny), f3d.RawPixels(8, "cuda"))
    test = f3d.room(1, 2, 48, shadows=False)

    def made(vits):
        found = probe(f3d.Assembly(vits, "concat"), [room], [test], steps=4, batch=4)
        score = list(vars(found.score).values())[0].float()
        return [step.loss for step in found.history], score, found.predict(test.images).cpu()

    (losses_gpu, score_gpu, said_gpu), (losses_cpu, score_cpu, said_cpu) = (made(vits) for vits in reversed(kinds))
    assert losses_gpu == pytest.approx(losses_cpu, rel=1e-3)
    assert_close(held(score_gpu), score_cpu, rtol=2e-2, atol=3)  # pixels at an edge may fall to another class
    assert (held(said_gpu).float() - said_cpu.float()).abs().lt(0.02).float().mean() > 0.98


def test_agreement_between_views_and_the_quick_probe(room, tiny, gpu):
    feats = tiny.extract(room.images)

    def made(scene, feats):
        agree = f3d.consistency(feats, scene, points=20)
        cosine = cross_view_cosine(feats, scene, per_view=30)
        return agree.recall, agree.margin, agree.auc, agree.soft_error, cosine.true, cosine.shuffled

    assert_close(made(on_gpu(room), on_gpu(feats)), made(room, feats), rtol=1e-3, atol=1e-3)
    scene, found = on_gpu(room), f3d.quick_probe(tiny.extract, [room], [room], [room])
    mine = f3d.quick_probe(lambda x: on_gpu(tiny.extract(x.cpu())), [scene], [scene], [scene])
    assert (mine.miou, mine.rmse) == pytest.approx((found.miou, found.rmse), rel=1e-3)


def test_pictures_are_drawn_from_the_gpu(room, tiny, gpu):
    scene, feats = on_gpu(room), on_gpu(tiny.extract(room.images))
    colors = f3d.viz.pca_colors({"a": feats, "b": feats * 2})
    assert_close(held(colors["a"]), f3d.viz.pca_colors({"a": held(feats), "b": held(feats) * 2})["a"], atol=1e-4, rtol=1e-4)
    groups = f3d.viz.kmeans({"a": feats, "b": feats}, 4)
    assert (groups["a"] == groups["b"]).all()
    alike = f3d.viz.similarity(feats, 0, 2, 2)
    assert_close(held(alike), f3d.viz.similarity(held(feats), 0, 2, 2))
    for figure in (
        f3d.viz.compare(scene.images, {"pca": colors["a"], "groups": groups["a"], "alike": alike}),
        f3d.viz.show_depth(scene.images, scene.depths), f3d.viz.show_images(scene.images),
    ):  # fmt: skip
        assert figure.axes


# --- how often the CPU waits


def test_a_scene_looks_at_its_pixels_once(room, gpu):
    scene = on_gpu(room)
    with gpu.watching() as waits:
        part = scene[::2].resized(24, 24).cropped(2, 2, 16, 16).to("cuda")
        _ = [view for view in part]
    assert waits.total == 0, waits
    with gpu.watching() as waits:
        f3d.Scene(scene.images, scene.cameras, scene.depths)
    assert waits.total > 0
    bad = scene.images.clone()
    bad[0, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="1 image values are NaN"):
        f3d.Scene(bad, scene.cameras)


def steady(gpu, run, first: int, last: int) -> float:
    """Waits a step: those of a run of ``last`` steps without those of ``first``, so that start and end drop out."""
    found = []
    for steps in (first, last):
        with gpu.watching() as waits:
            run(steps)
        found.append(waits)
    return (found[1].total - found[0].total) / (last - first)


def test_a_step_of_fine_tuning_waits_as_rarely_as_it_says(room, tiny, lifted, gpu):
    """fp32: none; the numbers of ten steps are read at once. fp16: one, GradScaler asking whether a gradient overflowed
    before AdamW may move. A callback wants its numbers each step: one more. Before, each step asked for its loss, each
    term, the norm, the covered patches and the range of its images: six to eight."""
    vit, scene, features = on_gpu(tiny), on_gpu(room.resized(16, 16)), on_gpu(lifted)
    targets = Targets([scene], [features], vit.channels, vit.grid(16, 16))
    for i in range(len(targets)):
        targets[i]  # each target comes to the CPU once, when it is first rendered

    def run(steps, **options):
        f3d.finetune(vit, [scene], targets, "lite", batch=2, epochs=20, watch=1000, progress=False, stop=steps, **options)

    assert steady(gpu, run, 2, 12) <= 0.1
    assert steady(gpu, lambda n: run(n, dtype=torch.float16), 2, 12) <= 1.1
    assert steady(gpu, lambda n: run(n, on_step=lambda history: None), 2, 6) <= 1


def test_a_step_of_fitting_and_a_view_matrix_wait_as_rarely_as_they_say(room, gpu):
    """view_matrix, 5: Gaussians.check reads its sums at once; how many Gaussians are seen; how many rows they cover; how
    many pixels those rows cover; how many of these reach the eye. Each is the size of what comes next. fit: the same for
    its render, the progress bar's loss every tenth step, and a few at a refinement; its history is read at the end."""
    scene = on_gpu(room)
    cloud = f3d.Gaussians.from_depth(scene, count=300)
    with gpu.watching() as waits:
        f3d.view_matrix(cloud, scene.cameras[0])
    assert waits.total <= 5, waits
    assert steady(gpu, lambda n: f3d.fit(cloud, scene, n, progress=False, history=[]), 4, 14) <= 5.1


@pytest.mark.parametrize("probe, most", [(f3d.probe_segmentation, 0.1), (f3d.probe_depth, 4.1)])
def test_a_step_of_a_head_waits_rarely(probe, most, room, tiny, gpu):
    """Losses are read every ten steps. Segmentation: nothing else. Depth: four, since SigLoss lists the pixels whose depth
    is known, for prediction and truth, once more backwards, and a batch is first asked whether it knows any."""
    vit, test = on_gpu(tiny), [f3d.room(1, 2, 48, shadows=False)]
    assert steady(gpu, lambda steps: probe(vit, [room], test, steps=steps, batch=4), 4, 14) <= most


def test_lifting_and_rendering_features_wait_as_rarely_as_they_say(room, tiny, gpu):
    """A view of lift: its view matrix's five, two for its patch matrix (pixels of a patch add up; rows are counted) and one
    for the transpose. A render of lifted features: the first seven."""
    scene, feats = on_gpu(room), on_gpu(tiny.extract(room.images))
    cloud = f3d.Gaussians.from_depth(scene, count=300)
    lifted = f3d.lift(cloud, scene.cameras, feats)
    assert steady(gpu, lambda n: f3d.lift(cloud, scene.cameras[:n], feats[:n]), 1, 4) <= 8
    assert steady(gpu, lambda n: [lifted.render(camera, 6, 6) for camera in scene.cameras[:n]], 1, 4) <= 7
