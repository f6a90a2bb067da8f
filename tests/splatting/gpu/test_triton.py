"""Triton's way of drawing, run in its interpreter, against the dense float64 reference; and which backend is taken."""

import warnings

import pytest
import torch
from clouds import CASES, CLOSE, camera, cloud, parts, relative
from dense import dense_view_matrix

from fit3d_lite import Gaussians, backend, render, set_backend, view_matrix

pytest.importorskip("triton", reason="Triton comes with torch's CUDA builds for Linux")
from triton_offline import DRAWING, compile_drawing  # noqa: E402

from fit3d_lite.splatting.gpu import triton_draw, triton_kernels  # noqa: E402

interpreted = pytest.mark.skipif(torch.cuda.is_available(), reason="kernels are compiled here, see test_gpu_parity.py")


def few(case, count=24):
    return cloud(**{**CASES[case], "count": count})


@interpreted
@pytest.mark.parametrize(("case", "channels"), [("overlaps", 3), ("needles", 5), ("opaque pile", 3), ("opaque pile", 18)])
def test_image_and_every_gradient_equal_the_dense_reference(case, channels):
    """Three, five and eighteen channels: blocks of 4, of 8 and two of 16. The pile stops pixels early."""
    c, cam = few(case), camera(19, 13)  # no multiple of a tile
    g = torch.Generator().manual_seed(9)
    values, push = torch.randn(len(c), channels, generator=g), torch.randn(13, 19, channels, generator=g)
    push_alpha = torch.randn(13, 19, generator=g)
    mine = [p.clone().requires_grad_() for p in [*parts(c), values]]
    image, alpha = render(Gaussians(*mine[:4], c.colors), cam, mine[4], backend="triton")
    ((image * push).sum() + (alpha * push_alpha).sum()).backward()

    plain = [p.double().clone().requires_grad_() for p in [*parts(c), values]]
    W = dense_view_matrix(*plain[:4], cam)
    expected, opacity = (W @ plain[4]).reshape(image.shape), W.sum(1).reshape(13, 19)
    ((expected * push).sum() + (opacity * push_alpha).sum()).backward()
    assert relative(image, expected) < CLOSE
    assert relative(alpha, opacity) < CLOSE
    for name, a, b in zip(["means", "quats", "scales", "opacities", "values"], mine, plain, strict=True):
        assert relative(a.grad, b.grad) < CLOSE, name


@interpreted
def test_where_alpha_is_held_at_its_most_it_passes_no_gradient():
    """A wall far wider than the picture, of opacity 1: alpha is 0.999 in the middle, and less towards the borders."""
    wall, cam = few("overlaps", 2), camera(16, 16)
    wall.means[:], wall.scales[:], wall.opacities[:] = torch.tensor([0.0, 0.0, 0.0]), 20.0, torch.tensor([1.0, 0.6])
    grads = []
    for way in ("torch", "triton"):
        leaves = [p.clone().requires_grad_() for p in parts(wall)]
        image, alpha = render(Gaussians(*leaves, wall.colors), cam, backend=way)
        (image.sum() + alpha.sum()).backward()
        grads.append([p.grad for p in leaves])
    assert 0.2 < float((alpha.detach() >= 0.999).float().mean()) < 0.8  # both kinds of pixels
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-6)


@interpreted
@pytest.mark.parametrize("case", ["overlaps", "opaque pile"])
def test_view_matrix_equals_the_dense_reference_and_torchs_row_by_row(case):
    c, cam = few(case), camera(19, 13)
    W, plain = view_matrix(c, cam, backend="triton"), view_matrix(c, cam, backend="torch")
    assert relative(W.to_dense(), dense_view_matrix(*(p.double() for p in parts(c)), cam)) < CLOSE
    assert torch.equal(W.crow_indices(), plain.crow_indices())
    assert torch.equal(W.col_indices(), plain.col_indices())  # near to far within a pixel


@interpreted
def test_differentiable_view_matrix_gives_torchs_gradients():
    c, cam = few("overlaps", 30), camera(19, 13)
    values, grads = torch.randn(30, 4, generator=torch.Generator().manual_seed(1)), []
    for way in ("torch", "triton"):
        leaves = [p.clone().requires_grad_() for p in parts(c)]
        W = view_matrix(Gaussians(*leaves, c.colors), cam, differentiable=True, backend=way)
        ((W @ values) ** 2).sum().backward()
        grads.append([p.grad for p in leaves])
    assert all(relative(b, a) < CLOSE for a, b in zip(*grads, strict=True))


@interpreted
def test_bands_of_tiles_change_nothing(monkeypatch):
    c, cam = few("overlaps"), camera(19, 26)
    whole, W = render(c, cam, backend="triton")[0], view_matrix(c, cam, backend="triton")
    seen = []
    listing = triton_draw.tile_lists

    def banded(ellipses, order, cam):
        seen.append(listing(ellipses, order, cam, max_listed=len(c)))
        return seen[-1]

    monkeypatch.setattr(triton_draw, "tile_lists", banded)
    image, again = render(c, cam, backend="triton")[0], view_matrix(c, cam, backend="triton")
    assert len(seen[0]) > 2
    assert torch.equal(image, whole)
    assert torch.equal(again.col_indices(), W.col_indices()) and torch.equal(again.values(), W.values())


@interpreted
def test_only_what_is_asked_for_gets_a_gradient():
    c, cam = few("overlaps", 20), camera(16, 8)
    values = torch.randn(20, 3, requires_grad=True)
    means = c.means.clone().requires_grad_()
    live = Gaussians(means, *parts(c)[1:], c.colors)
    render(live.detach(), cam, values, backend="triton")[0].sum().backward()
    assert means.grad is None and values.grad.abs().sum() > 0
    render(live, cam, values.detach(), backend="triton")[0].sum().backward()
    assert means.grad.abs().sum() > 0


@interpreted
def test_an_empty_view_is_black_and_its_gradients_are_zero():
    from fit3d_lite import Camera

    away = Camera.look_at((0.3, -3.0, 0.4), (0.3, -6.0, 0.4), width=20, height=14)
    c = few("overlaps", 40)[10:]
    leaves = [p.clone().requires_grad_() for p in parts(c)]
    image, alpha = render(Gaussians(*leaves, c.colors), away, backend="triton")
    assert float(image.detach().abs().max()) == 0 and float(alpha.detach().max()) == 0
    image.sum().backward()
    assert all(float(p.grad.abs().max()) == 0 for p in leaves)
    assert view_matrix(c, away, backend="triton")._nnz() == 0
    assert render(c[:0], away, backend="triton")[0].shape == (14, 20, 3)
    image, alpha = render(c, camera(20, 14), torch.zeros(len(c), 0), backend="triton")  # no channel: only the opacity
    assert image.shape == (14, 20, 0) and float(alpha.sum()) > 1


def test_each_tile_lists_what_reaches_it_from_near_to_far():
    """Against a plain loop over tiles and Gaussians."""
    c, cam = few("overlaps", 80), camera(35, 22)
    from fit3d_lite.splatting.projection import ellipses, project

    flat = project(c, cam)
    rows = ellipses(flat).float()
    shuffled = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
    (lists,) = triton_draw.tile_lists(rows[shuffled], shuffled.argsort(), cam)
    W = view_matrix(c, cam).to_dense().reshape(22, 35, -1)[:, :, flat.index]  # by depth
    tile = triton_kernels.TILE
    assert lists.tiles_x == 5 and lists.tiles == 15
    for number in range(lists.tiles):
        y, x = number // 5 * tile, number % 5 * tile
        needed = torch.nonzero((W[y : y + tile, x : x + tile] > 0).any(0).any(0)).squeeze(1)
        listed = shuffled[lists.listed[lists.starts[number] : lists.starts[number + 1]].long()]
        assert (listed.diff() > 0).all()  # flat is sorted by depth, so its rows come in ascending order
        assert set(needed.tolist()) <= set(listed.tolist())
        assert len(listed) < len(rows)


@pytest.mark.parametrize("capability", [(7, 5), (9, 0)])
@pytest.mark.parametrize("kernel", DRAWING)
def test_kernels_compile_for_a_t4_and_an_h100_without_spilling(kernel, capability):
    for block in (1, 4, triton_draw.MAX_BLOCK) if "blend" in kernel else (1,):
        compiled = compile_drawing(kernel, capability, block)
        assert compiled.spilled == 0 and compiled.registers < 200


def test_what_cannot_run_on_a_cpu_is_refused_with_the_reason(monkeypatch):
    c = few("overlaps", 10)
    with pytest.raises(ValueError, match="backend must be one of auto, torch, numba, triton, gsplat, got 'cuda'"):
        render(c, camera(), backend="cuda")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(ValueError, match="'triton' cannot run here: its kernels run on CUDA, .* on cpu"):
        view_matrix(c, camera(), backend="triton")
    with pytest.raises(ValueError, match="'gsplat' cannot run here"):
        render(c, camera(), backend="gsplat")


@interpreted
def test_float64_is_refused_by_the_fast_backends():
    with pytest.raises(ValueError, match="draws float32 only, got float64"):
        render(few("overlaps", 10).to(torch.float64), camera(), backend="triton")


@interpreted
def test_set_backend_changes_what_auto_means():
    c = few("overlaps", 10)
    try:
        set_backend("triton")
        assert backend.choose("auto", c) == "triton" and "triton" in backend.describe("cpu")
        assert backend.choose("torch", c) == "torch"
    finally:
        set_backend("auto")
    with pytest.raises(ValueError, match="must be one of"):
        set_backend("fast")


@interpreted
def test_kernels_are_trusted_only_when_they_give_torchs_numbers(monkeypatch):
    device = torch.device("cpu")
    backend.agrees.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with torch.inference_mode():  # in which no gradient can be taken
            assert backend.agrees("triton", device)
    blend = triton_draw.blend

    def a_little_bright(*scene):
        image, alpha = blend(*scene)
        return 1.01 * image, alpha

    monkeypatch.setattr(triton_draw, "blend", a_little_bright)
    backend.agrees.cache_clear()
    with pytest.warns(UserWarning, match="differ from torch by 1.0e-02 here; drawing with torch"):
        assert not backend.agrees("triton", device)

    def not_a_number(*scene):
        image, alpha = blend(*scene)
        return image, alpha * float("nan")

    monkeypatch.setattr(triton_draw, "blend", not_a_number)
    backend.agrees.cache_clear()
    with pytest.warns(UserWarning, match="differ from torch by nan"):
        assert not backend.agrees("triton", device)

    def refuses(*scene):
        raise RuntimeError("PTX version is not supported")

    monkeypatch.setattr(triton_draw, "blend", refuses)
    backend.agrees.cache_clear()
    with pytest.warns(UserWarning, match="do not run here .RuntimeError: PTX version"):
        assert not backend.agrees("triton", device)
    backend.agrees.cache_clear()
