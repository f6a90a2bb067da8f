"""Lifting against dense float64 references, and what it must do at the edges."""

import pytest
import torch
from dense import dense_view_matrix
from torch.nn.functional import normalize

from fit3d_lite import Camera, Gaussians, render, view_matrix
from fit3d_lite.lifting.decoder import Product
from fit3d_lite.lifting.grid import patch_matrix, transposed
from fit3d_lite.lifting.lifted import MIN_WEIGHT, Lifted
from fit3d_lite.lifting.methods import lift

# Sums of a few hundred float32 products: rounding stays near 1e-6.
CLOSE = dict(atol=1e-5, rtol=1e-4)
H, W, GRID = 24, 32, (6, 8)  # pixels and patches: 4 pixels a patch, as many as the default samples


def ring(views=5, width=W, height=H):
    """Cameras around the origin, looking at it."""
    angles = torch.linspace(0, 4.5, views)
    return [Camera.look_at((2.5 * a.cos(), 2.5 * a.sin(), 0.8), (0, 0, 0), width=width, height=height) for a in angles]


def blob(count=300, seed=0, dtype=torch.float32, opacity=None):
    """A ball of soft Gaussians that fills the pictures of ``ring``, and one Gaussian that no camera sees."""
    g = torch.Generator().manual_seed(seed)
    means = torch.randn(count, 3, generator=g) * 0.6
    means[-1] = torch.tensor([0.0, 0.0, 90.0])
    values = dict(
        means=means,
        quats=torch.randn(count, 4, generator=g),
        scales=0.1 + 0.2 * torch.rand(count, 3, generator=g),
        opacities=torch.full((count,), opacity) if opacity else 0.2 + 0.7 * torch.rand(count, generator=g),
        colors=torch.rand(count, 3, generator=g),
    )
    return Gaussians(**{k: v.to(dtype) for k, v in values.items()})


def maps(views=5, channels=7, grid=GRID, dtype=torch.float32, seed=1):
    return torch.randn(views, channels, *grid, generator=torch.Generator().manual_seed(seed)).to(dtype)


def dense_patches(cloud, camera, h, w):  # [h*w, N] float64
    """The dense view matrix averaged over blocks of pixels."""
    parts = (p.double() for p in (cloud.means, cloud.quats, cloud.scales, cloud.opacities))
    pixels = dense_view_matrix(*parts, camera).reshape(h, camera.height // h, w, camera.width // w, len(cloud))
    return pixels.mean((1, 3)).reshape(h * w, len(cloud))


def rows(feats):  # [V, C, h, w] -> [V*h*w, C] float64
    return feats.double().flatten(2).transpose(1, 2).flatten(0, 1)


def test_patch_matrix_is_the_dense_view_matrix_averaged_over_patches():
    c, cam = blob(), ring()[0]
    torch.testing.assert_close(patch_matrix(c, cam, *GRID).to_dense().double(), dense_patches(c, cam, *GRID), **CLOSE)


def test_a_patch_grid_of_the_camera_size_is_the_view_matrix():
    c, cam = blob(), ring()[0]
    assert torch.equal(patch_matrix(c, cam, H, W).to_dense(), view_matrix(c, cam).to_dense())


def test_a_grid_that_does_not_divide_the_picture_covers_all_of_it():
    """13 patches over 32 pixels: a camera whose picture is drawn anew at 2 pixels a patch, so patches stay equal."""
    c, cam = blob(opacity=0.9), ring()[0]
    odd = patch_matrix(c, cam, 5, 13, samples=None)
    assert odd.shape == (65, len(c))
    fine = view_matrix(c, cam.scaled(26, 25)).to_dense().reshape(5, 5, 13, 2, len(c)).mean((1, 3))
    torch.testing.assert_close(odd.to_dense(), fine.reshape(65, len(c)), **CLOSE)


def test_mean_equals_the_dense_weighted_mean():
    c, cams, feats = blob(), ring(), maps()
    A = torch.cat([dense_patches(c, cam, *GRID) for cam in cams])
    expected = A.T @ rows(feats) / A.sum(0).unsqueeze(1)
    got = lift(c, cams, feats)
    torch.testing.assert_close(got.weight.double(), A.sum(0), **CLOSE)
    assert int(got.seen.sum()) > 200
    torch.testing.assert_close(got.features.double()[got.seen], expected[got.seen], **CLOSE)


def test_maps_from_a_generator_give_the_same_bits_as_all_at_once():
    c, cams, feats = blob(), ring(), maps()
    assert torch.equal(lift(c, cams, (f for f in feats)).features, lift(c, cams, feats).features)


def test_a_constant_feature_comes_back_whatever_the_opacity():
    c, cams = blob(opacity=0.4), ring()
    constant = torch.tensor([2.0, -1.0, 0.5])
    lifted = lift(c, cams, constant[None, :, None, None].expand(5, 3, *GRID))
    values, mask = lifted.render(ring(9)[4], 7, 9)  # a new view, another grid
    assert int(mask.sum()) > 10
    torch.testing.assert_close(values[:, mask], constant[:, None].expand(3, int(mask.sum())), **CLOSE)
    assert float(values[:, ~mask].abs().sum()) == 0


def ball(count=900):
    """Opaque, seen from outside: what photos of a thing look like. And a smooth function of place on it, [N, 6]."""
    means = 0.8 * normalize(torch.randn(count, 3, generator=torch.Generator().manual_seed(3)), dim=1)
    quats, ones = torch.tensor([1.0, 0, 0, 0]).repeat(count, 1), torch.ones(count)
    c = Gaussians(means, quats, 0.05 * torch.ones(count, 3), 0.9 * ones, 0.5 + 0.5 * (4 * means).sin())
    return c, torch.cat([(2 * means).sin(), (2 * means).cos()], 1)


def pictures(c, cams, values):  # [V, C, h, w]
    return torch.stack([(patch_matrix(c, cam, *GRID) @ values).T.reshape(-1, *GRID) for cam in cams])


def test_lifting_photos_gives_back_the_picture():
    """RGB is a feature as any other: a ball lifted from seven photos looks in an eighth view as it does in its
    photo."""
    c, _ = ball()
    cams = ring(8)
    photos = torch.stack([render(c, cam)[0].permute(2, 0, 1) for cam in cams])
    keep = [0, 1, 2, 4, 5, 6, 7]
    lifted = lift(c, [cams[i] for i in keep], photos[keep], samples=1)
    values, mask = lifted.render(cams[3], H, W)
    truth = photos[3][:, mask] / render(c, cams[3])[1][mask]
    assert int(mask.sum()) > 100
    error = (values[:, mask] - truth).abs().mean()
    assert error < 0.3 * (truth - truth.mean(1, keepdim=True)).abs().mean()  # the mean color scores 1


def test_gaussians_that_no_view_saw_have_no_feature_and_are_masked():
    c, cams = blob(), ring()
    lifted = lift(c, cams, maps() + 5)
    assert not lifted.seen[-1] and float(lifted.features[-1].abs().sum()) == 0
    assert float(lifted.weight[-1]) < MIN_WEIGHT
    at_it = Camera.look_at((0, 0.01, 88.0), (0, 0, 90.0), up=(1, 0, 0), fov_x=10, width=W, height=H)
    assert float((patch_matrix(c, at_it, *GRID) @ torch.ones(len(c), 1)).max()) > 0.15  # it is in the picture
    values, mask = lifted.render(at_it, *GRID)
    assert not mask.any() and float(values.abs().sum()) == 0


def test_half_precision_maps_are_summed_in_float32():
    c, cams, feats = blob(), ring(), maps()
    half = lift(c, cams, feats.half())
    assert half.features.dtype == torch.float32
    torch.testing.assert_close(half.features, lift(c, cams, feats.half().float()).features)


def test_geometry_receives_no_gradient():
    c = blob()
    means = c.means.clone().requires_grad_()
    feats = maps().requires_grad_()
    lifted = lift(Gaussians(means, c.quats, c.scales, c.opacities, c.colors), ring(), feats)
    assert not lifted.features.requires_grad and not lifted.cloud.means.requires_grad


def test_saved_features_come_back_bit_for_bit(tmp_path):
    lifted = lift(blob(), ring(), maps())
    file = lifted.save(tmp_path / "room.safetensors")
    back = Lifted.load(file)
    for name in ("features", "weight"):
        assert torch.equal(getattr(back, name), getattr(lifted, name))
    assert torch.equal(back.cloud.quats, lifted.cloud.quats) and back.settings == lifted.settings
    for a, b in zip(back.render(ring()[1], *GRID), lifted.render(ring()[1], *GRID), strict=True):
        assert torch.equal(a, b)
    assert [p.name for p in tmp_path.iterdir()] == ["room.safetensors"]


def test_other_or_damaged_files_are_refused(tmp_path):
    from safetensors.torch import save_file

    with pytest.raises(FileNotFoundError, match="there is no lifted file at"):
        Lifted.load(tmp_path / "nothing.safetensors")
    save_file({"features": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="no lifted file: its header says 'no format of ours'"):
        Lifted.load(tmp_path / "other.safetensors")
    file = lift(blob(50), ring(2), maps(2)).save(tmp_path / "cut.safetensors")
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match="damaged"):
        Lifted.load(file)


def normal_equations(c, cams, feats, ridge):
    """Dense float64 minimizer of the energy in solve.py, over the Gaussians that are seen."""
    A = torch.cat([patch_matrix(c, cam, *GRID).to_dense().double() for cam in cams])
    d = A.sum(0)
    seen = d >= MIN_WEIGHT
    mean = torch.zeros(len(c), feats.shape[1], dtype=torch.float64)
    mean[seen] = (A.T @ rows(feats))[seen] / d[seen, None]
    A, d = A[:, seen], d[seen]
    left = A.T @ A + ridge * torch.diag(d)
    mean[seen] = torch.linalg.solve(
        left, A.T @ (A.sum(1, keepdim=True) * rows(feats)) + ridge * d[:, None] * mean[seen]
    )
    return mean


@pytest.mark.parametrize("ridge", [1.0, 0.1])
def test_solve_run_to_the_end_equals_the_normal_equations(ridge):
    c, cams, feats = blob(dtype=torch.float64), ring(), maps(dtype=torch.float64)
    got = lift(c, cams, feats, method="solve", ridge=ridge, steps=60)
    torch.testing.assert_close(got.features, normal_equations(c, cams, feats, ridge), atol=1e-9, rtol=1e-7)
    assert (got.features - lift(c, cams, feats).features).abs().max() > 0.05  # it is not the mean


def test_default_steps_of_solve_come_close_to_the_end():
    c, cams, feats = blob(), ring(), maps()
    mean, few = lift(c, cams, feats).features, lift(c, cams, feats, method="solve").features
    end = normal_equations(c, cams, feats, 0.3)
    assert (few - end).norm() < 0.05 * (mean - end).norm()


def test_no_steps_or_a_huge_ridge_leave_the_mean():
    c, cams, feats = blob(), ring(), maps()
    mean = lift(c, cams, feats).features
    assert torch.equal(lift(c, cams, feats, method="solve", steps=0).features, mean)
    torch.testing.assert_close(lift(c, cams, feats, method="solve", ridge=1e6).features, mean, atol=1e-4, rtol=1e-4)


def test_solve_keeps_a_constant_and_survives_more_steps_than_it_needs():
    c, cams = blob(opacity=0.4), ring()
    lifted = lift(c, cams, torch.full((5, 2, *GRID), 3.0), method="solve", steps=50)
    torch.testing.assert_close(lifted.features[lifted.seen], torch.full((int(lifted.seen.sum()), 2), 3.0), **CLOSE)


def test_robust_mean_ignores_a_corrupted_view():
    """All views show the same smooth features but one, which shows noise. Two views cannot outvote each other: those
    Gaussians count that at least two other views show."""
    (c, truth), cams = ball(), ring(12)
    clean = pictures(c, cams, truth)
    broken = clean.clone()
    broken[3] = 2 * torch.randn(6, *GRID, generator=torch.Generator().manual_seed(5))
    shown = torch.stack([patch_matrix(c, cam, *GRID).to_dense().sum(0) > 0.01 for cam in cams])
    judged = shown[3] & (shown.sum(0) >= 3)
    assert int(judged.sum()) > 100
    reference = lift(c, cams, clean).features[judged]
    plain, robust = ((lift(c, cams, broken, robust=r).features[judged] - reference).norm() for r in (False, True))
    assert robust < 0.4 * plain


def test_robust_mean_of_views_that_agree_is_the_mean():
    c, cams = blob(), ring()
    same = torch.tensor([1.0, 2.0])[None, :, None, None].expand(5, 2, *GRID)
    torch.testing.assert_close(lift(c, cams, same, robust=True).features, lift(c, cams, same).features, **CLOSE)


def small_decoder(**options):
    (c, truth), cams = ball(300), ring()
    options = {"dim": 8, "steps": 60, "lr": 0.02, "progress": False} | options
    return lift(c, cams, pictures(c, cams, truth), method="decoder", **options)


def test_decoder_learns_and_renders_all_channels():
    history = []
    lifted = small_decoder(history=history)
    assert lifted.features.shape == (300, 8) and lifted.decoder.shape == (6, 8, 3, 3)
    assert sum(history[-5:]) < 0.5 * sum(history[:5])
    (c, truth), cams = ball(300), ring()
    values, mask = lifted.render(cams[2], *GRID)
    assert mask.any() and float(values[:, ~mask].abs().sum()) == 0
    wanted = pictures(c, cams[2:3], truth)[0][:, mask]
    assert (values[:, mask] - wanted).abs().mean() < 0.5 * wanted.abs().mean()  # what is rendered is what was trained


def test_decoder_is_the_same_for_the_same_seed_and_other_for_another():
    a, b, other = (small_decoder(steps=5, seed=s) for s in (1, 1, 2))
    assert torch.equal(a.features, b.features) and torch.equal(a.decoder, b.decoder)
    assert not torch.equal(a.decoder, other.decoder)


def test_decoder_gradient_is_that_of_autograd_and_never_reaches_the_geometry():
    c = blob()
    leaves = [p.clone().requires_grad_() for p in (c.means, c.quats, c.scales, c.opacities)]
    live = Gaussians(*leaves, c.colors)
    W = patch_matrix(live, ring()[0], *GRID)
    assert not W.requires_grad
    x = torch.randn(len(c), 3, requires_grad=True)
    push = torch.randn(48, 3)
    (got,) = torch.autograd.grad((Product.apply(W, transposed(W), x) * push).sum(), x)
    (expected,) = torch.autograd.grad((W.to_dense() @ x * push).sum(), x)
    torch.testing.assert_close(got, expected, **CLOSE)
    lift(live, ring(), maps(), method="decoder", dim=8, steps=2, progress=False)
    assert all(p.grad is None for p in leaves)


def test_decoder_stopped_by_the_reader_keeps_what_it_has(monkeypatch, capsys):
    class Impatient(list):
        def append(self, loss):
            super().append(loss)
            if len(self) == 3:
                raise KeyboardInterrupt

    history = Impatient()
    lifted = small_decoder(history=history)
    assert len(history) == 3 and float(lifted.features.abs().sum()) > 0
    assert "Stopped after 2 of 60 steps" in capsys.readouterr().out


def test_decoder_is_saved_with_its_features(tmp_path):
    lifted = small_decoder(steps=3)
    back = Lifted.load(lifted.save(tmp_path / "low.safetensors"))
    assert torch.equal(back.decoder, lifted.decoder)
    assert torch.equal(back.render(ring()[1], *GRID)[0], lifted.render(ring()[1], *GRID)[0])


def test_closed_form_decoder_is_the_ridge_regression_on_principal_components_of_the_mean():
    """Checked from outside: the short vectors against an SVD, the convolution by the gradient of what it minimizes."""
    c, cams, feats = blob(dtype=torch.float64), ring(), maps(channels=12, dtype=torch.float64)
    lifted = lift(c, cams, feats, method="closed", dim=8, ridge=0.05)
    mean = lift(c, cams, feats).features
    principal = torch.linalg.svd(rows(feats), full_matrices=False).Vh[:8].T
    torch.testing.assert_close(lifted.features @ lifted.features.T, mean @ principal @ principal.T @ mean.T)

    plain = Lifted(c, lifted.features, lifted.weight)  # without decoder: renders the short vectors
    low, mask = (torch.stack(parts) for parts in zip(*(plain.render(cam, *GRID) for cam in cams), strict=True))
    weights = lifted.decoder.clone().requires_grad_()
    error = (torch.nn.functional.conv2d(low, weights, padding=1) - feats).movedim(1, -1)[mask]
    inputs = torch.nn.functional.unfold(low, 3, padding=1).transpose(1, 2)[mask.flatten(1)]
    energy = (error**2).sum() + 0.05 * (inputs**2).sum(0).mean() * (weights**2).sum()
    (slope,) = torch.autograd.grad(energy, weights)
    assert mask.any() and slope.abs().max() < 1e-9 * energy.detach()
    assert torch.equal(lifted.render(cams[1], *GRID)[1], mask[1])


def test_options_out_of_range_are_refused():
    c, cams, feats = blob(60), ring(), maps()
    for dim in (7, 129):
        with pytest.raises(ValueError, match=f"8 to 128 dimensions per Gaussian, got dim={dim}"):
            lift(c, cams, feats, method="decoder", dim=dim)
        with pytest.raises(ValueError, match=f"got dim={dim}"):
            lift(c, cams, feats, method="closed", dim=dim)
    with pytest.raises(ValueError, match="dim=8 is more than the C=7 channels"):
        lift(c, cams, feats, method="closed", dim=8)
    with pytest.raises(ValueError, match="lr='fast'"):
        lift(c, cams, feats, method="decoder", lr="fast")
    with pytest.raises(ValueError, match="ridge=-1"):
        lift(c, cams, feats, method="solve", ridge=-1)
    with pytest.raises(ValueError, match="'mean' has no option ridge; it has robust"):
        lift(c, cams, feats, ridge=1)


def test_refusals_name_the_numbers():
    c, cams, feats = blob(60), ring(), maps()
    with pytest.raises(ValueError, match="mean, solve, decoder, closed; got 'average'"):
        lift(c, cams, feats, method="average")
    with pytest.raises(ValueError, match="5 feature maps but 4 cameras"):
        lift(c, cams[:4], feats)
    with pytest.raises(ValueError, match="3 feature maps but 5 cameras"):
        lift(c, cams, (f for f in feats[:3]))
    with pytest.raises(ValueError, match="More than 4 feature maps"):
        lift(c, cams[:4], (f for f in feats))
    with pytest.raises(ValueError, match=r"\[V, C, h, w\] and not empty, got \[5, 7, 48\]"):
        lift(c, cams, feats.flatten(2))
    with pytest.raises(ValueError, match=r"not empty, got \[5, 0, 6, 8\]"):
        lift(c, cams, feats[:, :0])
    with pytest.raises(ValueError, match=r"Feature map 1 must be \[C, h, w\] like the first"):
        lift(c, cams, [feats[0], feats[1, :, :3], *feats[2:]])
    with pytest.raises(ValueError, match="N = 0"):
        lift(c[:0], cams, feats)
    with pytest.raises(ValueError, match="no cameras"):
        lift(c, [], feats[:0])
    bad = feats.clone()
    bad[1, 2, 3, 4] = float("nan")
    with pytest.raises(ValueError, match="feats has 1 of 1680 values that are NaN"):
        lift(c, cams, bad)
    with pytest.raises(ValueError, match="Feature map 1 has 1 of 336 values"):
        lift(c, cams, (f for f in bad))
    away = Camera.look_at((50, 0, 0), (60, 0, 0), width=W, height=H)
    with pytest.raises(ValueError, match="camera 3 is outside the scene: it sees none of the 60 Gaussians"):
        lift(c, [*cams[:3], away, cams[4]], feats)
    with pytest.raises(ValueError, match="h must be a whole number from 1 up, got 0"):
        patch_matrix(c, cams[0], 0, 4)


def test_features_of_other_programs_and_other_modes_are_lifted_alike_or_refused():
    cams, feats = ring(3, 36, 24), torch.rand(3, 5, 4, 6)
    c = blob(40)
    want = lift(c, cams, feats).features
    torch.set_default_dtype(torch.float64)
    try:
        for given in (feats.numpy(), list(feats.numpy()), list(feats)):
            assert torch.equal(lift(c, cams, given).features, want)
    finally:
        torch.set_default_dtype(torch.float32)
    with torch.inference_mode():
        found = lift(c, cams, feats, method="decoder", dim=8, steps=2, progress=False)
        assert torch.equal(found.weight, lift(c, cams, feats).weight)
    for wrong, said in ((feats.movedim(1, -1), "channels are last"), (feats.transpose(2, 3), "rows and columns are exchanged")):
        with pytest.raises(ValueError, match=f"Feature map 0 .* does not suit photos of 24×36 .*{said}"):
            lift(c, cams, wrong)
    with pytest.raises(ValueError, match="each camera must be a Camera, got Tensor"):
        lift(c, [camera.K for camera in cams], feats)
    with pytest.raises(ValueError, match="h must be a whole number from 1 up, got 4.5"):
        patch_matrix(c, cams[0], 4.5, 4)
