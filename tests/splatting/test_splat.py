"""torch's way: the view matrix and its gradients against the dense float64 reference, and what must hold at the edges."""

import pytest
import torch
from clouds import CASES, CLOSE, camera, cloud, parts, relative
from dense import dense_view_matrix

from fit3d_lite import Camera, Gaussians, project, render, set_backend, view_matrix
from fit3d_lite.splatting.pairs import list_pairs
from fit3d_lite.splatting.splat import folded_matrix


@pytest.fixture(autouse=True)
def _by_torch():
    set_backend("torch")
    yield
    set_backend("auto")


@pytest.mark.parametrize("case", CASES)
def test_view_matrix_equals_the_dense_reference(case):
    c, cam = cloud(**CASES[case]), camera()
    expected = dense_view_matrix(*(p.double() for p in parts(c)), cam)
    W = view_matrix(c, cam)
    assert W.shape == (30 * 40, len(c))
    assert relative(W.to_dense(), expected) < CLOSE
    assert (expected > 0).sum() > 200  # the case shows something


@pytest.mark.parametrize("case", CASES)
def test_image_and_every_gradient_equal_the_dense_reference(case):
    c, cam = cloud(**CASES[case]), camera()
    g = torch.Generator().manual_seed(9)
    values, direction = torch.randn(len(c), 5, generator=g), torch.randn(30, 40, 5, generator=g)
    push_alpha = torch.randn(30, 40, generator=g)
    mine = [p.clone().requires_grad_() for p in [*parts(c), values]]
    image, alpha = render(Gaussians(*mine[:4], c.colors), cam, mine[4])
    ((image * direction).sum() + (alpha * push_alpha).sum()).backward()

    plain = [p.double().clone().requires_grad_() for p in [*parts(c), values]]
    W = dense_view_matrix(*plain[:4], cam)
    expected = (W @ plain[4]).reshape(30, 40, 5)
    opacity = W.sum(1).reshape(30, 40)
    ((expected * direction).sum() + (opacity * push_alpha).sum()).backward()

    assert relative(image, expected) < CLOSE
    assert relative(alpha, opacity) < CLOSE
    for name, a, b in zip(["means", "quats", "scales", "opacities", "values"], mine, plain, strict=True):
        assert relative(a.grad, b.grad) < CLOSE, name


def test_gradients_pass_gradcheck_in_float64():
    c, cam = cloud(count=6, seed=5, dtype=torch.float64, size=(0.2, 0.5), spread=0.8), camera(8, 6)
    inputs = [p.clone().requires_grad_() for p in [*parts(c), c.colors]]

    # The pairs that switch on or off inside the step of 1e-6 are avoided by the choice of seed; the rest is smooth.
    def smooth(*args):
        image, alpha = render(Gaussians(*args[:3], 0.9 * args[3], args[4]), cam)
        return torch.cat([image, alpha.unsqueeze(-1)], -1)

    assert torch.autograd.gradcheck(smooth, inputs, eps=1e-6, atol=1e-5, rtol=1e-3)


def test_differentiable_view_matrix_gives_the_gradients_of_render():
    c, cam = cloud(count=200, seed=6), camera()
    values = torch.randn(len(c), 4)
    grads = []
    for draw in (
        lambda k: view_matrix(k, cam, differentiable=True) @ values,
        lambda k: render(k, cam, values)[0].flatten(0, 1),
    ):
        leaf = [p.clone().requires_grad_() for p in parts(c)]
        (draw(Gaussians(*leaf, c.colors)) ** 2).sum().backward()
        grads.append([p.grad for p in leaf])
    for a, b in zip(*grads, strict=True):
        assert relative(a, b) < CLOSE


def test_plain_view_matrix_carries_no_gradient():
    c = cloud(count=50)
    leaf = Gaussians(*(p.clone().requires_grad_() for p in parts(c)), c.colors)
    assert not view_matrix(leaf, camera()).requires_grad


def test_rows_of_the_view_matrix_sum_to_the_opacity_of_the_pixel():
    c, cam = cloud(count=500, seed=7), camera()
    W, (_, alpha) = view_matrix(c, cam), render(c, cam)
    rows = (W @ torch.ones(len(c), 1)).reshape(30, 40)
    torch.testing.assert_close(rows, alpha)
    assert 0 <= float(rows.min()) and float(rows.max()) <= 1 + 1e-6


def test_one_gaussian_matches_the_closed_form():
    """On the optical axis at depth z, the opacity at distance d pixels is o · exp(−½ d² / (f² s² / z² + 0.3))."""
    cam = Camera(torch.tensor([[50.0, 0, 16.5], [0, 50.0, 16.5], [0, 0, 1]]), torch.eye(4), 33, 33)
    z, s, o = 2.0, 0.1, 0.8
    c = Gaussians(
        torch.tensor([[0, 0, z]]),
        torch.tensor([[1.0, 0, 0, 0]]),
        torch.full((1, 3), s),
        torch.tensor([o]),
        torch.ones(1, 3),
    )
    _, alpha = render(c, cam)
    d = torch.arange(33) - 16.0
    expected = o * torch.exp(-0.5 * (d[:, None] ** 2 + d**2) / ((50 * s / z) ** 2 + 0.3))
    expected[expected < 1 / 255] = 0
    torch.testing.assert_close(alpha, expected, atol=1e-6, rtol=1e-5)


def test_the_nearer_of_two_gaussians_wins_whatever_their_order():
    cam = Camera(torch.tensor([[50.0, 0, 8], [0, 50.0, 8], [0, 0, 1]]), torch.eye(4), 16, 16)
    means = torch.tensor([[0.01, 0.01, 2.0], [0.01, 0.01, 1.0]])
    c = Gaussians(
        means,
        torch.tensor([[1.0, 0, 0, 0]]).repeat(2, 1),
        torch.full((2, 3), 0.2),
        torch.full((2,), 0.9),
        torch.eye(3)[:2],
    )
    for order in ([0, 1], [1, 0]):
        image, _ = render(c[order], cam)
        far, near = image[8, 8, 0], image[8, 8, 1]
        assert near > 0.85 and 0.05 < far < 0.1  # 0.9, and 0.9 of the 0.1 that is left


def test_values_may_have_any_width_and_background_fills_what_is_left():
    c, cam = cloud(count=100, seed=8, size=(0.02, 0.1)), camera()
    wide = torch.randn(len(c), 200)
    image, alpha = render(c, cam, wide)
    torch.testing.assert_close(image.flatten(0, 1), view_matrix(c, cam) @ wide, atol=1e-5, rtol=1e-4)
    sky = torch.tensor([0.1, 0.2, 0.3])
    filled, _ = render(c, cam, background=sky)
    torch.testing.assert_close(filled, render(c, cam)[0] + (1 - alpha)[..., None] * sky)


def test_an_empty_view_is_black_and_passes_zero_gradients():
    cam = camera()
    away = Camera.look_at((0.3, -3.0, 0.4), (0.3, -6.0, 0.4), width=40, height=30)
    c = cloud(count=100)[10:]
    leaf = [p.clone().requires_grad_() for p in parts(c)]
    image, alpha = render(Gaussians(*leaf, c.colors), away)
    assert float(image.abs().max()) == 0 and float(alpha.max()) == 0
    image.sum().backward() if image.requires_grad else None
    assert all(p.grad is None or float(p.grad.abs().max()) == 0 for p in leaf)
    assert view_matrix(c, away)._nnz() == 0
    nobody = c[:0]
    assert view_matrix(nobody, cam).shape == (1200, 0)
    assert render(nobody, cam)[0].shape == (30, 40, 3)


def test_gaussians_before_the_near_plane_are_left_out():
    c = cloud(count=400)
    flat = project(c, camera())
    assert float(flat.depths.min()) > 0.2
    assert len(flat.index) < len(c)
    assert (flat.depths.diff() >= 0).all()


def test_bands_of_rows_change_nothing(monkeypatch):
    c, cam = cloud(count=600, seed=11), camera()
    whole = view_matrix(c, cam)
    image = render(c, cam)[0]
    monkeypatch.setattr("fit3d_lite.splatting.splat.list_pairs", lambda e, k: list_pairs(e, k, max_pairs=500))
    banded = view_matrix(c, cam)
    assert torch.equal(banded.crow_indices(), whole.crow_indices())
    assert torch.equal(banded.col_indices(), whole.col_indices())
    torch.testing.assert_close(banded.values(), whole.values())
    torch.testing.assert_close(render(c, cam)[0], image)


def test_detached_geometry_receives_nothing_from_values():
    c = cloud(count=100)
    means = c.means.clone().requires_grad_()
    values = torch.randn(len(c), 8, requires_grad=True)
    live = Gaussians(means, c.quats, c.scales, c.opacities, c.colors)
    render(live.detach(), camera(), values)[0].sum().backward()
    assert means.grad is None and values.grad.abs().sum() > 0


def test_no_dense_array_is_made():
    """20,000 Gaussians at 200²: a dense pixel × Gaussian array would be 3.2 GB; the pairs are a few megabytes."""
    c, cam = cloud(count=20_000, seed=12, size=(0.003, 0.01)), camera(200, 200)
    W = view_matrix(c, cam)
    assert W._nnz() < 3_000_000


def test_refusals_name_the_numbers():
    c, cam = cloud(count=20), camera()
    with pytest.raises(ValueError, match=r"N = 20 Gaussians, got \[19, 3\]"):
        render(c, cam, torch.zeros(19, 3))
    with pytest.raises(ValueError, match="near plane must be > 0"):
        view_matrix(c, cam, near=0.0)
    broken = Gaussians(c.means.clone(), *parts(c)[1:], c.colors)
    broken.means[3] = float("nan")
    with pytest.raises(ValueError, match="1 of 20 Gaussians have NaN or infinite means"):
        view_matrix(broken, cam)


def test_float32_geometry_keeps_needles_and_places_far_from_the_origin():
    """What a GPU computes in: means within a thousandth of a pixel, spreads within 1e-4, 2 km from the origin too."""
    from fit3d_lite.splatting.projection import ellipses

    c, cam = cloud(**CASES["needles"]), camera(200, 150)
    shift = torch.tensor([2000.0, -1000.0, 500.0])
    c = Gaussians(c.means + shift, *parts(c)[1:], c.colors)
    pose = cam.world_to_camera.double()
    pose[:3, 3] -= pose[:3, :3] @ shift.double()
    cam = Camera(cam.K, pose, 200, 150)
    exact, single = project(c, cam, dtype=torch.float64), project(c, cam, dtype=torch.float32)
    assert torch.equal(exact.index, single.index) and single.means.dtype == torch.float32
    near = (exact.means - torch.tensor([100.0, 75.0])).abs().amax(1) < 200
    assert float((exact.means - single.means)[near].abs().max()) < 1e-3
    spreads = slice(3, 5)
    a, b = ellipses(exact)[:, spreads], ellipses(single)[:, spreads]
    assert float((b / a - 1).abs().max()) < 1e-4


def test_blocks_that_do_not_fill_the_picture_are_refused():
    with pytest.raises(ValueError, match="picture of 18×16 is not made of blocks of 4×4 pixels"):  # loops wrote past its end
        folded_matrix(cloud(5), camera(width=16, height=18), 4, 4)
