"""The Triton projection against the float64 one of torch, values and gradients. Without a GPU it is interpreted."""

import math

import pytest
import torch
from dense import dense_view_matrix

from fit3d_lite import Camera, Gaussians
from fit3d_lite.splatting.projection import EPS2D, ellipses, project

triton = pytest.importorskip("triton", reason="Triton is not installed (it comes with torch on Linux only)")

from triton_offline import compile_for  # noqa: E402

from fit3d_lite.splatting.gpu import triton_project  # noqa: E402
from fit3d_lite.splatting.gpu.triton_project import project_ellipses  # noqa: E402

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
NEAR = 0.2
CLOSE = 1e-5  # in norm; float32 numbers round to 6e-8, and some tens of operations follow one another
EYE = torch.tensor([0.3, -3.0, 0.4])


def camera(width=40, height=30, at=(0.0, 0.0, 0.0)):
    at = torch.tensor(at)
    return Camera.look_at(EYE + at, at, fov_x=60, width=width, height=height)


def cloud(count, low=0.05, high=0.4, seed=0, spread=1.5, at=(0.0, 0.0, 0.0)):
    """Gaussians of all shapes with ``at`` in their middle; each seventh a needle, some about the camera, some faint."""
    g = torch.Generator().manual_seed(seed)
    means = spread * (2 * torch.rand(count, 3, generator=g) - 1)
    means[: count // 10] = EYE + 0.3 * torch.randn(count // 10, 3, generator=g)
    scales = torch.empty(count, 3).uniform_(math.log(low), math.log(high), generator=g).exp()
    scales[::7] *= torch.tensor([12, 0.1, 0.1])
    quats, opacities = torch.randn(count, 4, generator=g), torch.rand(count, generator=g)
    opacities[::9] *= 0.004
    return Gaussians(means + torch.tensor(at), quats, scales, opacities, torch.rand(count, 3, generator=g))


def leaves(c, dtype=torch.float32, device="cpu"):
    return [v.to(device, dtype, copy=True).requires_grad_() for v in (c.means, c.quats, c.scales, c.opacities)]


def relative(a, b):
    return float((a.detach().cpu().double() - b.detach()).norm() / b.detach().norm())


def both(c, cam, seed=0):
    """Rows, depths and gradients of the Triton projection and of the float64 one, and which Gaussians are seen.

    A random push on every number of every row; the unseen rows of the reference are zeros.
    """
    mine, plain = leaves(c, device=DEVICE), leaves(c, torch.float64)
    rows, depths = project_ellipses(Gaussians(*mine, c.colors.to(DEVICE)), cam, NEAR)
    flat = project(Gaussians(*plain, c.colors), cam, NEAR, dtype=torch.float64)
    expected = torch.zeros(len(c), 6, dtype=torch.float64).index_put((flat.index,), ellipses(flat))
    push = torch.randn(len(c), 6, generator=torch.Generator().manual_seed(seed))
    (rows * push.to(DEVICE)).sum().backward()
    (expected * push).sum().backward()
    seen = torch.zeros(len(c), dtype=torch.bool)
    seen[flat.index] = True
    far = torch.full((len(c),), math.inf, dtype=torch.float64).index_put((flat.index,), flat.depths.detach())
    grads, expected_grads = [v.grad for v in mine], [v.grad for v in plain]
    return rows.detach().cpu(), depths.cpu(), grads, expected.detach(), far, expected_grads, seen


def assert_equal(c, cam, tolerance=CLOSE):
    rows, depths, grads, expected, far, expected_grads, seen = both(c, cam)
    for column, name in enumerate(["mean u", "mean v", "slope", "1/σ_v", "1/σ_u|v", "opacity"]):
        assert relative(rows[seen, column], expected[seen, column]) < tolerance, name
    torch.testing.assert_close(depths, far.float())
    for name, mine, plain in zip(["means", "quats", "scales", "opacities"], grads, expected_grads, strict=True):
        assert relative(mine, plain) < tolerance, name
    return rows, grads, seen


@pytest.mark.parametrize(
    "kind",
    [
        dict(count=400, seed=1),  # overlapping
        dict(count=200, seed=2, low=0.002, high=1.0),  # needles
        dict(count=200, seed=3, low=0.3, high=0.6, spread=0.7),  # a pile
        dict(count=100, seed=4, low=0.0005, high=0.005),  # dots under a pixel
    ],
    ids=["overlapping", "needles", "pile", "dots"],
)
def test_rows_depths_and_every_gradient_equal_the_float64_projection(kind):
    _, _, seen = assert_equal(cloud(**kind), camera())
    assert 0 < int(seen.sum()) < len(seen)


@pytest.mark.parametrize("count", [1, triton_project.BLOCK, triton_project.BLOCK + 1])
def test_any_number_of_gaussians_fills_its_rows(count):
    c = cloud(count, seed=5)
    c.opacities.fill_(0.5)
    assert_equal(c, camera())


def test_an_ellipse_row_gives_the_alpha_of_the_dense_reference():
    c, cam = cloud(12, seed=6)[2:], camera(20, 15)
    c.opacities.fill_(0.9)
    mine, plain = leaves(c, device=DEVICE), leaves(c, torch.float64)
    rows, _ = project_ellipses(Gaussians(*mine, c.colors.to(DEVICE)), cam, NEAR)
    u, v, slope, inv_v, inv_u, opacity = rows.cpu().unbind(1)
    dv = (torch.arange(15) + 0.5).repeat_interleave(20).unsqueeze(1) - v
    du = (torch.arange(20) + 0.5).repeat(15).unsqueeze(1) - u
    alpha = opacity * torch.exp(-0.5 * (((du - slope * dv) * inv_u) ** 2 + (dv * inv_v) ** 2))
    # Each Gaussian alone, so that its weight is its alpha.
    alone = [dense_view_matrix(*(p[n : n + 1] for p in plain), cam) for n in range(len(c))]
    expected = torch.cat(alone, 1)
    push = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1)) * (expected > 0)
    (alpha * push).sum().backward()
    (expected * push).sum().backward()
    assert relative(alpha * (expected > 0), expected) < CLOSE
    for a, b in zip(mine, plain, strict=True):
        assert relative(a.grad, b.grad) < CLOSE


@pytest.mark.filterwarnings("ignore:invalid value encountered")  # numpy's, in the interpreter
def test_unseen_gaussians_keep_finite_rows_and_pass_nothing_back():
    c, cam = cloud(60, seed=7), camera()
    c.means[10] = 2 * EYE  # behind the camera
    c.means[11] = EYE  # in it
    c.means[12] = float("nan")
    c.means[13] = float("inf")
    c.opacities[14] = 0.99 / 255
    c.opacities[15] = float("nan")
    c.opacities[16] = 1 / 255  # just seen
    c.means[16] = 0
    c.scales[14], c.quats[14] = float("inf"), float("nan")
    mine = leaves(c, device=DEVICE)
    rows, depths = project_ellipses(Gaussians(*mine, c.colors.to(DEVICE)), cam, NEAR)
    (rows * torch.full_like(rows, float("nan"))).sum().backward()
    seen = depths.isfinite().cpu()
    assert not seen[10:16].any() and seen[16] and 10 < int(seen.sum()) < 60
    assert depths[~seen].eq(math.inf).all()
    assert rows.isfinite().all() and rows[~seen, 5].eq(0).all() and rows[seen, 5].gt(0).all()
    for value in mine:
        assert value.grad[~seen].eq(0).all() and value.grad[seen].isnan().any()


def test_beyond_the_margin_the_rows_stop_turning_as_torch_clamp_does():
    c, cam = cloud(200, seed=8), camera()
    rows, _, seen = assert_equal(c, cam)
    u, v = rows[seen, 0], rows[seen, 1]
    sides = [u < -0.15 * 40, u > 1.15 * 40, v < -0.15 * 30, v > 1.15 * 30]  # 0.3 of half a picture on each side
    assert min(int(side.sum()) for side in sides) >= 2


def test_a_needle_across_the_picture_keeps_its_digits():
    """Three metres long, a tenth of a millimetre wide, at 1024²: the textbook difference uu − uv² / vv is all rounding."""
    g = torch.Generator().manual_seed(9)
    scales = torch.tensor([[3, 1e-4, 1e-4], [1, 1, 1e-4], [3, 0.03, 1e-5]]).repeat(40, 1)
    c = Gaussians(
        0.5 * torch.randn(120, 3, generator=g),
        torch.randn(120, 4, generator=g),
        scales,
        torch.full((120,), 0.5),
        torch.rand(120, 3, generator=g),
    )
    cam = camera(1024, 1024)
    rows, _, _, expected, _, _, _ = both(c, cam)
    assert float((rows[:, 4] / expected[:, 4] - 1).abs().max()) < 1e-4
    assert_equal(c, cam)
    flat = project(c, cam, dtype=torch.float64)
    uu, uv, vv = flat.covariances.float().unbind(1)
    assert float(((uu - uv * uv / vv) / flat.given_v - 1).abs().max()) > 0.03  # the case shows something


def test_far_from_the_origin_only_the_distance_to_the_camera_counts():
    at = (1024.0, -2048.0, 64.0)
    c, cam = cloud(200, seed=10, at=at), camera(at=at)
    assert_equal(c, cam)


def test_the_pose_may_be_float64():
    cam = camera()
    finer = Camera(cam.K.double(), cam.world_to_camera.double(), 40, 30)
    finer.world_to_camera[:3, 3] += 1e-9
    assert_equal(cloud(100, seed=11), finer)


def test_quaternions_of_any_length_turn_alike_and_zero_does_not_turn():
    c, cam = cloud(100, seed=12), camera()
    c.quats.mul_(torch.logspace(-6, 6, 100).unsqueeze(1))
    assert_equal(c, cam)
    grads = both(c, cam)[2][1].cpu().double()
    along = (grads * c.quats).sum(1).abs() / (grads.norm(dim=1) * c.quats.norm(dim=1)).clamp_min(1e-30)
    assert float(along.max()) < 1e-5  # a longer quaternion is the same rotation

    c.quats[50:] = 0
    still = both(c, cam)
    assert still[2][1][50:].eq(0).all() and still[5][1][50:].eq(0).all()
    c.quats[50:, 0] = 1
    assert torch.equal(both(c, cam)[0], still[0])


def test_a_ball_feels_no_torque():
    c, cam = cloud(50, seed=13), camera()
    c.scales[:] = 0.1
    assert both(c, cam)[2][1].eq(0).all()


def test_strided_clouds_and_spread_gradients_give_the_same():
    c, cam = cloud(70, seed=14), camera()
    wide = torch.cat([c.means, c.scales, c.quats, c.opacities[:, None]], 1).to(DEVICE).requires_grad_()
    cut = Gaussians(wide[:, :3], wide[:, 6:10], wide[:, 3:6], wide[:, 10], c.colors.to(DEVICE))
    rows, _ = project_ellipses(cut, cam, NEAR)
    rows.sum().backward()  # its gradient is one number, expanded
    plain = leaves(c, device=DEVICE)
    expected, _ = project_ellipses(Gaussians(*plain, c.colors.to(DEVICE)), cam, NEAR)
    (expected * torch.ones_like(expected)).sum().backward()
    assert torch.equal(rows, expected)
    means, quats, scales, opacities = (p.grad for p in plain)
    assert torch.equal(wide.grad, torch.cat([means, scales, quats, opacities[:, None]], 1))


def test_no_gaussians_give_no_rows():
    mine = leaves(cloud(10)[:0], device=DEVICE)
    rows, depths = project_ellipses(Gaussians(*mine, torch.zeros(0, 3, device=DEVICE)), camera(), NEAR)
    rows.sum().backward()
    assert rows.shape == (0, 6) and depths.shape == (0,) and mine[1].grad.shape == (0, 4)


def test_depths_carry_no_gradient():
    rows, depths = project_ellipses(Gaussians(*leaves(cloud(5), device=DEVICE), torch.zeros(5, 3)), camera(), NEAR)
    assert rows.requires_grad and not depths.requires_grad


def test_refusals_name_the_remedy(monkeypatch):
    c, cam = cloud(5).to(DEVICE), camera()
    with pytest.raises(ValueError, match=r"float32 only, got float64: use cloud\.to\(torch\.float32\)"):
        project_ellipses(c.to(torch.float64), cam, NEAR)
    with pytest.raises(ValueError, match="near plane must be > 0"):
        project_ellipses(c, cam, 0.0)
    with pytest.raises(ValueError, match="Focal lengths must be > 0"):
        project_ellipses(c, Camera(-cam.K, cam.world_to_camera, 40, 30), NEAR)
    compiled = triton.JITFunction(triton_project.project_kernel.fn)
    monkeypatch.setattr(triton_project, "project_kernel", compiled)
    with pytest.raises(ValueError, match=r"needs a cloud on a GPU, got cpu: use cloud\.to\('cuda'\)"):
        project_ellipses(c.to("cpu"), cam, NEAR)


@pytest.mark.parametrize("capability", [(7, 5), (9, 0)], ids=["T4", "H100"])
def test_both_kernels_compile_without_spilling(capability):
    constants = dict(EPS=EPS2D, ALPHA_MIN=1 / 255, BLOCK=triton_project.BLOCK)
    for kernel, pointers in [(triton_project.project_kernel, 6), (triton_project.project_backward_kernel, 9)]:
        code = kernel.fn.__code__
        names = [n for n in code.co_varnames[: code.co_argcount] if n not in constants]
        types = ["*fp32"] * pointers + ["i32"] + ["fp32"] * (len(names) - pointers - 1)
        compiled = compile_for(kernel, dict(zip(names, types, strict=True)), constants, capability)
        assert f".target sm_{capability[0]}{capability[1]}" in compiled.asm["ptx"]
        assert compiled.spilled == 0 and compiled.registers <= 64  # half of the threads an SM can hold, or more
        assert ".f64" not in compiled.asm["ptx"]  # a T4 computes it at a thirty-second of its float32 speed


@pytest.mark.gpu
def test_nothing_waits_for_the_gpu():
    c, cam = cloud(1000, seed=15), camera()
    mine = leaves(c, device="cuda")
    live = Gaussians(*mine, c.colors.cuda())
    project_ellipses(live, cam, NEAR)[0].sum().backward()  # compiles
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        project_ellipses(live, cam, NEAR)[0].sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode(before)
