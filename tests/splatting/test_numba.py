"""numba's loops on a CPU against the dense float64 reference and against torch's way, and when they are taken."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from clouds import CASES, CLOSE, camera, cloud, parts, relative
from dense import dense_view_matrix

from fit3d_lite import Camera, Gaussians, backend, patch_matrix, render, view_matrix
from fit3d_lite.splatting import numba_draw
from fit3d_lite.splatting.splat import folded_matrix

NAMES = ["means", "quats", "scales", "opacities", "values"]


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def drawn(c, cam, values, way="numba", **options):
    """Image, opacity, and the gradient of a random direction in every input."""
    g = torch.Generator().manual_seed(9)
    leaves = [p.clone().requires_grad_() for p in [*parts(c), values]]
    image, alpha = render(Gaussians(*leaves[:4], c.colors), cam, leaves[4], backend=way, **options)
    push = torch.randn(*image.shape[:2], image.shape[2] + 1, generator=g)
    (torch.cat([image, alpha[..., None]], -1) * push).sum().backward()
    return [image.detach(), alpha.detach(), *(leaf.grad for leaf in leaves)]


def dense(c, cam, values):
    g = torch.Generator().manual_seed(9)
    leaves = [p.double().clone().requires_grad_() for p in [*parts(c), values]]
    W = dense_view_matrix(*leaves[:4], cam)
    image, alpha = (W @ leaves[4]).reshape(cam.height, cam.width, -1), W.sum(1).reshape(cam.height, cam.width)
    push = torch.randn(*image.shape[:2], image.shape[2] + 1, generator=g)
    (torch.cat([image, alpha[..., None]], -1) * push).sum().backward()
    return [image.detach(), alpha.detach(), *(leaf.grad for leaf in leaves)]


@pytest.mark.parametrize("case", CASES)
def test_image_and_every_gradient_equal_the_dense_reference_and_torchs(case):
    c, cam = cloud(**CASES[case]), camera()
    values = torch.randn(len(c), 5, generator=torch.Generator().manual_seed(1))
    mine, plain, torchs = drawn(c, cam, values), dense(c, cam, values), drawn(c, cam, values, "torch")
    for name, a, b, other in zip(["image", "alpha", *NAMES], mine, plain, torchs, strict=True):
        assert relative(a, b) < (1e-6 if name in ("image", "alpha") else CLOSE), name
        assert relative(a, other) < CLOSE, name


@pytest.mark.parametrize("case", CASES)
def test_the_view_matrix_equals_the_dense_reference_and_stands_from_near_to_far(case):
    c, cam = cloud(**CASES[case]), camera()
    W, torchs = (view_matrix(c, cam, backend=way) for way in ("numba", "torch"))
    assert relative(W.to_dense(), dense_view_matrix(*(p.double() for p in parts(c)), cam)) < 1e-6
    assert torch.equal(W.crow_indices(), torchs.crow_indices()) and torch.equal(W.col_indices(), torchs.col_indices())


@pytest.mark.parametrize("down, across", [(3, 2), (5, 40), (30, 1), (1, 8)])
def test_folded_rows_are_the_means_of_blocks_of_pixels(down, across):
    c, cam = cloud(count=300, seed=2), camera()
    W, torchs = (folded_matrix(c, cam, down, across, backend=way) for way in ("numba", "torch"))
    assert W.shape == torchs.shape == (1200 // down // across, len(c))
    assert W._nnz() == torchs._nnz()  # no patch lists a Gaussian twice
    assert relative(W.to_dense(), torchs.to_dense()) < 1e-6


def test_patches_are_lifted_with_the_same_matrix():
    c, cam = cloud(count=300, seed=3), camera()
    mine = patch_matrix(c, cam, 7, 9).to_dense()
    backend.set_backend("torch")
    try:
        assert relative(mine, patch_matrix(c, cam, 7, 9).to_dense()) < 1e-6
    finally:
        backend.set_backend("auto")


def test_the_bits_do_not_depend_on_the_number_of_threads(threads):
    c, cam = cloud(count=5000, seed=4), camera(90, 70)
    values = torch.randn(len(c), 3)
    found = []
    for count in (1, 2, 3, 2):
        threads(count)
        found.append([*drawn(c, cam, values), view_matrix(c, cam, backend="numba").values()])
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_the_differentiable_matrix_gives_the_gradients_of_render():
    c, cam = cloud(count=200, seed=6), camera()
    values, grads = torch.randn(len(c), 4), []
    for draw in (
        lambda k: view_matrix(k, cam, differentiable=True, backend="numba") @ values,
        lambda k: render(k, cam, values, backend="numba")[0].flatten(0, 1),
    ):
        leaf = [p.clone().requires_grad_() for p in parts(c)]
        draw(Gaussians(*leaf, c.colors)).square().sum().backward()
        grads.append([p.grad for p in leaf])
    for a, b in zip(*grads, strict=True):
        assert relative(a, b) < CLOSE


def test_pictures_where_little_is_to_be_seen():
    away = Camera.look_at((0.3, -3.0, 0.4), (0.3, -6.0, 0.4), width=40, height=30)
    c = cloud(count=100)[10:]
    for hidden, cam in ((c, away), (c[:0], camera())):  # all behind the camera; nobody at all
        image, alpha, *grads = drawn(hidden, cam, hidden.colors)
        assert float(image.abs().sum() + alpha.abs().sum()) == 0 and image.shape == (30, 40, 3)
        assert all(float(g.abs().sum()) == 0 for g in grads)
        assert view_matrix(hidden, cam, backend="numba")._nnz() == 0
    image, alpha = render(c, camera(), torch.zeros(len(c), 0), backend="numba")  # no channel: only the opacity
    assert image.shape == (30, 40, 0) and float(alpha.max()) > 0.1
    for one, cam in ((c[:1], camera()), (c, camera(1, 1)), (c, camera(40, 17))):
        for a, b in zip(drawn(one, cam, one.colors), dense(one, cam, one.colors), strict=True):
            torch.testing.assert_close(a, b.float(), atol=1e-5, rtol=1e-4)


def test_the_near_plane_and_the_background_are_torchs():
    c, sky = cloud(count=300, seed=5), torch.tensor([0.1, 0.2, 0.3])
    mine, torchs = (drawn(c, camera(), c.colors, way, near=2.5, background=sky) for way in ("numba", "torch"))
    for a, b in zip(mine, torchs, strict=True):
        assert relative(a, b) < CLOSE


def test_only_what_is_asked_for_receives_a_gradient():
    c = cloud(count=100)
    means, values = c.means.clone().requires_grad_(), torch.randn(100, 8, requires_grad=True)
    live = Gaussians(means, c.quats, c.scales, c.opacities, c.colors)
    render(live.detach(), camera(), values, backend="numba")[0].sum().backward()
    assert means.grad is None and values.grad.abs().sum() > 0
    values.grad = None
    render(live, camera(), values.detach(), backend="numba")[0].sum().backward()
    assert values.grad is None and means.grad.abs().sum() > 0
    with torch.inference_mode():
        assert not render(live, camera(), values, backend="numba")[0].requires_grad


def test_auto_takes_it_on_a_cpu_for_float32_and_says_why_not_elsewhere(monkeypatch):
    c = cloud(count=10)
    assert backend.choose("auto", c) == "numba" and backend.describe("cpu") == "numba"
    assert backend.choose("auto", c.to(torch.float64)) == "torch"
    with pytest.raises(ValueError, match="backend='numba' draws float32 only, got float64"):
        render(c.to(torch.float64), camera(), backend="numba")
    with pytest.raises(ValueError, match="its loops run on a CPU, and the Gaussians are on meta"):
        backend.choose("numba", c.to("meta"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert backend.describe("cpu") == "torch"
    with pytest.raises(ValueError, match="numba is not installed"):
        render(c, camera(), backend="numba")


def test_loops_that_fail_or_differ_are_not_used(monkeypatch):
    backend.agrees.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with torch.inference_mode():  # in which no gradient can be taken
            assert backend.choose("auto", cloud(count=10)) == "numba"

    def refuses():
        raise ImportError("Numba needs NumPy 2.3 or less")

    def bright(*scene):
        image, alpha = paint(*scene)
        return 1.01 * image, alpha

    paint = numba_draw.render
    for name, broken, told in (
        ("kernels", refuses, "do not run here .ImportError: Numba needs NumPy"),
        ("render", bright, "differ from torch by 1.0e-02 here; drawing with torch"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(numba_draw, name, broken)
            backend.agrees.cache_clear()
            with pytest.warns(UserWarning, match=told):
                assert backend.choose("auto", cloud(count=10)) == "torch"
    backend.agrees.cache_clear()


@pytest.mark.slow
def test_compiling_is_said_once_and_kept_for_the_next_start(tmp_path):
    code = "import sys, fit3d_lite; print('numba' in sys.modules); fit3d_lite.splatting.backend.module('numba').kernels()"
    env = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    first, second = (
        subprocess.run([sys.executable, "-c", code], env=env, cwd=Path(__file__).parents[2], capture_output=True, text=True)
        for _ in range(2)
    )
    assert first.stdout == second.stdout == "False\n"  # numba is not imported before it is needed
    assert "numba compiled the drawing loops in" in first.stderr and str(tmp_path) in first.stderr
    assert second.stderr == ""
