"""Gaussians from depth, from points, to and from .ply, and fitted to photos."""

import math

import numpy as np
import pytest
import torch
from boxes import orbit, painted_box
from numpy.lib.recfunctions import append_fields
from plyfile import PlyData, PlyElement

from fit3d_lite import Camera, Gaussians, Scene, fit, load_ply, photo_psnr, render, save_ply
from fit3d_lite.splatting import psnr, ssim
from fit3d_lite.splatting.gaussians import rotation_matrices, spacing
from fit3d_lite.splatting.ply import NEEDED, stored


def some(count=50, seed=0):
    g = torch.Generator().manual_seed(seed)
    return Gaussians(
        torch.randn(count, 3, generator=g),
        torch.randn(count, 4, generator=g),
        torch.rand(count, 3, generator=g) + 0.01,
        torch.rand(count, generator=g),
        torch.rand(count, 3, generator=g),
    )


def test_rotation_matrices_match_the_axis_angle_form():
    angle = 0.7
    quats = torch.tensor([[math.cos(angle / 2), 0, 0, math.sin(angle / 2)]]) * 3  # of any length
    c, s = math.cos(angle), math.sin(angle)
    torch.testing.assert_close(rotation_matrices(quats)[0], torch.tensor([[c, -s, 0], [s, c, 0], [0, 0, 1]]))


def test_covariance_has_the_squared_scales_as_eigenvalues():
    cloud = some()
    values = torch.linalg.eigvalsh(cloud.covariances())
    torch.testing.assert_close(values, (cloud.scales**2).sort(1).values, atol=1e-6, rtol=1e-4)


def test_spacing_is_the_mean_distance_to_three_neighbours():
    points = torch.randn(40, 3)
    expected = torch.cdist(points, points).sort(1).values[:, 1:4].mean(1)
    torch.testing.assert_close(spacing(points), expected, atol=1e-5, rtol=1e-4)


def test_from_depth_lies_on_the_surface_and_faces_its_normal():
    scene = painted_box()
    cloud = Gaussians.from_depth(scene, count=1500).check()
    assert 1000 < len(cloud) <= 1500
    low, high = torch.tensor([-5.0, -6.0, -3.5]), torch.tensor([5.0, 6.0, 4.5])
    to_wall = torch.minimum(cloud.means - low, high - cloud.means)
    distance, wall = to_wall.min(1)
    assert float(distance.abs().median()) < 0.01
    # On a wall, away from the corners, the thin axis of the disc is the wall's normal.
    flat = to_wall.sort(1).values[:, 1] > 0.6
    normal = rotation_matrices(cloud.quats)[:, :, 2].abs().gather(1, wall[:, None])[flat]
    assert flat.sum() > 300 and float(normal.quantile(0.1)) > 0.98
    assert float((cloud.scales[flat, 2] / cloud.scales[flat, 0]).median()) < 0.3
    round_ones = Gaussians.from_depth(scene, count=1500, flatten=False)
    assert torch.equal(round_ones.scales[:, 0], round_ones.scales[:, 2])


def test_from_depth_looks_like_the_photos_even_from_a_camera_it_never_saw():
    train, held = painted_box().split(3)
    # The second held-out camera is the last one and sees walls that no training view saw.
    assert photo_psnr(Gaussians.from_depth(train, count=4000), held)[0] > 25


def test_from_depth_respects_a_given_voxel_and_skips_unknown_depth():
    scene = painted_box()
    coarse, fine = Gaussians.from_depth(scene, voxel=1.0), Gaussians.from_depth(scene, voxel=0.5)
    assert 2 < len(fine) / len(coarse) < 5  # a surface: four times as many for half the edge
    holes = scene.depths.clone()
    holes[:, :, 24:] = 0
    half = Gaussians.from_depth(Scene(scene.images, scene.cameras, holes), voxel=0.5)
    assert 0.3 < len(half) / len(fine) < 0.95


def test_from_points_starts_like_3dgs():
    points = torch.randn(30, 3)
    cloud = Gaussians.from_points(points).check()
    torch.testing.assert_close(cloud.scales, spacing(points).unsqueeze(1).expand(-1, 3))
    assert float(cloud.opacities[0]) == pytest.approx(0.1) and cloud.quats[0].tolist() == [1, 0, 0, 0]


def test_ply_has_the_3dgs_layout_and_encoding(tmp_path):
    cloud = some()
    vertex = PlyData.read(str(save_ply(cloud, tmp_path / "a.ply")))["vertex"]
    names = [p.name for p in vertex.properties]
    assert names[:3] == ["x", "y", "z"] and {"f_dc_0", "opacity", "scale_2", "rot_3"} <= set(names)
    np.testing.assert_allclose(vertex["scale_1"], cloud.scales[:, 1].log(), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(vertex["opacity"], torch.logit(cloud.opacities), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        vertex["f_dc_2"], (cloud.colors[:, 2] - 0.5) * 2 * math.sqrt(math.pi), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_array_equal(vertex["rot_0"], cloud.quats[:, 0])


def test_ply_round_trip_is_exact(tmp_path):
    """A cloud of this package comes back to the last bit; any other moves by float32 rounding once, and never again."""

    def again(cloud):
        return load_ply(save_ply(cloud, tmp_path / "b.ply"))

    def equal(a, b):
        return all(
            torch.equal(getattr(a, n), getattr(b, n)) for n in ("means", "quats", "scales", "opacities", "colors")
        )

    ours = stored(some(20_000))
    assert equal(again(ours), ours)
    assert equal(stored(ours), ours)
    raw = some(20_000, seed=1)
    for name in ("means", "quats", "scales", "opacities", "colors"):
        torch.testing.assert_close(getattr(again(raw), name), getattr(raw, name), rtol=2e-6, atol=2e-7)


def test_a_broken_or_foreign_ply_is_refused(tmp_path):
    path = save_ply(some(), tmp_path / "c.ply")
    cut = tmp_path / "cut.ply"
    cut.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="not a whole .ply"):
        load_ply(cut)
    (tmp_path / "text.ply").write_text("hello")
    with pytest.raises(ValueError, match="not a whole .ply"):
        load_ply(tmp_path / "text.ply")
    mesh = tmp_path / "mesh.ply"
    mesh.write_text(
        "ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty float y\nproperty float z\nend_header\n0 0 0\n"
    )
    with pytest.raises(ValueError, match="lacks f_dc_0.*not of 3D Gaussians"):
        load_ply(mesh)
    with pytest.raises(FileNotFoundError, match="there is no .ply file at"):
        load_ply(tmp_path / "none.ply")


def test_a_failed_save_leaves_the_old_file(tmp_path):
    path = save_ply(some(), tmp_path / "d.ply")
    before = path.read_bytes()
    bad = some()
    bad.means[0] = float("nan")
    with pytest.raises(ValueError, match="1 of 50 Gaussians"):
        save_ply(bad, path)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


REFUSALS = {
    "shape": (lambda c: Gaussians(c.means, c.quats[:, :3], c.scales, c.opacities, c.colors), r"quats must be \[50, 4\]"),
    "negative scale": (lambda c: Gaussians(c.means, c.quats, -c.scales, c.opacities, c.colors).check(), "must be > 0, got -"),
    "logits": (lambda c: Gaussians(c.means, c.quats, c.scales, 5 * c.opacities, c.colors).check(), "apply a sigmoid"),
    "no rotation": (lambda c: Gaussians(c.means, 0 * c.quats, c.scales, c.opacities, c.colors).check(), "quaternions are zero"),
    "one point": (lambda c: Gaussians.from_points(c.means[:1]), "N ≥ 2"),
    "NaN point": (lambda c: Gaussians.from_points(c.means * float("nan")), "50 of 50 points"),
    "bytes as colors": (lambda c: Gaussians.from_points(c.means, 255 * c.colors), "in 0..1"),
    "no depth": (lambda c: Gaussians.from_depth(Scene(torch.zeros(6, 3, 36, 48), orbit())), "has no depth above 0"),
    "voxel": (lambda c: Gaussians.from_depth(painted_box(), voxel=-1.0), "voxel > 0"),
    "fit nothing": (lambda c: fit(c[:0], painted_box(), 1), "no Gaussians to fit"),
    "fit steps": (lambda c: fit(c, painted_box(), -1), "steps must be a whole number from 0 up, got -1"),
    "fit small photos": (lambda c: fit(c, painted_box(width=10, height=8), 1), "at least 11×11, got 8×10"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals_name_the_numbers(case):
    make, message = REFUSALS[case]
    with pytest.raises(ValueError, match=message):
        make(some())


def test_ssim_matches_the_definition_and_psnr_the_closed_form():
    g = torch.Generator().manual_seed(0)
    a = torch.rand(3, 20, 24, generator=g).double()
    b = (a + 0.1 * torch.randn(3, 20, 24, generator=g)).clamp(0, 1)
    w = torch.exp(-0.5 * ((torch.arange(11) - 5) / 1.5) ** 2).double()
    w = (w[:, None] * w).div(w.sum() ** 2)
    total = []
    for ch in range(3):
        for i in range(10):
            for j in range(14):
                x, y = a[ch, i : i + 11, j : j + 11], b[ch, i : i + 11, j : j + 11]
                mx, my = (w * x).sum(), (w * y).sum()
                vx, vy, c = (w * (x - mx) ** 2).sum(), (w * (y - my) ** 2).sum(), (w * (x - mx) * (y - my)).sum()
                total.append((2 * mx * my + 1e-4) * (2 * c + 9e-4) / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4)))
    assert float(ssim(a, b)) == pytest.approx(float(torch.stack(total).mean()), rel=1e-6)
    assert float(ssim(a, a)) == pytest.approx(1)


def test_the_gradient_of_ssim_is_its_slope_across_the_blocks_that_it_is_computed_in():
    a, b = (torch.rand(1, 12, 61, generator=torch.Generator().manual_seed(s), dtype=torch.float64) for s in (1, 2))
    assert torch.autograd.gradcheck(ssim, (a.requires_grad_(), b.requires_grad_()))
    assert psnr(torch.zeros(4), torch.full((4,), 0.1)) == pytest.approx(20, abs=1e-4)


def test_fit_improves_views_that_were_held_out_and_leaves_its_input_alone():
    train, held = painted_box().split(3)
    start = Gaussians.from_depth(train, count=600)
    kept = start.means.clone()
    history = []
    fitted = fit(start, train, 60, refine_every=20, history=history, progress=False)
    assert np.mean(photo_psnr(fitted, held)) > np.mean(photo_psnr(start, held)) + 1
    assert np.mean([h["loss"] for h in history[-6:]]) < 0.7 * np.mean([h["loss"] for h in history[:6]])
    assert torch.equal(start.means, kept)
    assert len(start) < len(fitted) <= 1.3 * len(start)
    fitted.check()


def test_fit_is_repeatable_with_a_seed():
    scene = painted_box(3)
    start = Gaussians.from_depth(scene, count=200)
    a, b, c = (fit(start, scene, 6, seed=s, progress=False, refine_every=2) for s in (0, 0, 1))
    assert torch.equal(a.means, b.means) and not torch.equal(a.means, c.means)


def test_splitting_keeps_the_picture_nearly_the_same_and_dropping_removes_the_faint():
    from fit3d_lite.splatting.fitting import _raw
    from fit3d_lite.splatting.growth import Densifier

    scene = painted_box(2)
    cloud = Gaussians.from_depth(scene, count=300)
    cloud.opacities[:20] = 0.001
    raw = _raw(cloud)
    optimizer = torch.optim.Adam([{"name": n, "params": [p]} for n, p in raw.items()], lr=0.0)
    sum(p.sum() for p in raw.values()).backward()
    optimizer.step()
    Densifier(len(cloud), share=0.1, max_count=10_000).refine(raw, optimizer)
    assert len(raw["means"]) == len(cloud) - 20 + math.ceil(0.1 * (len(cloud) - 20))
    for group in optimizer.param_groups:
        parameter = raw[group["name"]]
        assert group["params"][0] is parameter
        state = optimizer.state[parameter]
        assert state["exp_avg"].shape == parameter.shape and state["step"] == 1


def test_an_interrupted_fit_keeps_what_it_reached(monkeypatch, capsys):
    scene = painted_box(3)
    start = Gaussians.from_depth(scene, count=200)
    calls = []

    def stop_at_four(*args, **kwargs):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return render(*args, **kwargs)

    monkeypatch.setattr("fit3d_lite.splatting.fitting.render", stop_at_four)
    reached = fit(start, scene, 50, progress=False)
    assert "Stopped after 3 of 50 steps" in capsys.readouterr().out
    assert not torch.equal(reached.means, start.means)


def test_a_camera_that_sees_nothing_teaches_nothing():
    scene = painted_box(2)
    away = Camera.look_at((40, 0, 0), (50, 0, 0), width=48, height=36)
    start = stored(Gaussians.from_depth(scene, count=100))
    half = fit(start, Scene(scene.images, [away, scene.cameras[1]]), 2, progress=False)
    assert not torch.equal(half.means, start.means)
    with pytest.raises(ValueError, match="None of the 2 cameras sees a Gaussian: cloud and cameras are of two worlds"):
        fit(start, Scene(scene.images, [away, away]), 3, progress=False)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_fit_in_a_cell_without_gradients_trains_all_the_same(mode):
    scene = painted_box(2)
    cloud, history = Gaussians.from_depth(scene, 100), []
    with mode():
        fitted = fit(cloud, scene, steps=2, progress=False, history=history)
    assert len(history) == 2 and not torch.equal(fitted.colors, cloud.colors)


def written(path, rows):
    PlyData([PlyElement.describe(rows, "vertex")]).write(str(path))
    return path


BAD = [("xyz", np.nan), (["scale_0"], -np.inf), (["scale_0"], -120), ([f"rot_{i}" for i in range(4)], 0)]


@pytest.mark.parametrize("columns, value", BAD)
def test_a_few_bad_gaussians_of_a_ply_are_left_out_and_counted(tmp_path, columns, value):
    rows = np.array(PlyData.read(save_ply(some(), tmp_path / "a.ply"))["vertex"].data)
    for column in columns:
        rows[column][:3] = value
    with pytest.warns(UserWarning, match="3 of 50 Gaussians"):
        cloud = load_ply(written(tmp_path / "b.ply", rows))
    assert torch.equal(cloud.means, load_ply(tmp_path / "a.ply").means[3:])


def test_the_3d_filter_of_a_ply_is_applied(tmp_path):
    plain = load_ply(save_ply(some(), tmp_path / "a.ply"))
    rows = np.array(PlyData.read(tmp_path / "a.ply")["vertex"].data)
    rows = append_fields(rows, "filter_3D", np.full(50, 0.05, "f4"), usemask=False)
    got = load_ply(written(tmp_path / "b.ply", rows))
    assert torch.allclose(got.scales, (plain.scales**2 + 0.05**2).sqrt(), rtol=1e-5)
    share = plain.scales.prod(1) / got.scales.prod(1)
    assert torch.allclose(got.opacities, plain.opacities * share, rtol=1e-4)


@pytest.mark.parametrize(
    "names, said",
    [
        (["packed_position", "packed_rotation"], "uncompressed"),
        ([name for name in NEEDED if name != "scale_2"], "2D Gaussians"),
        (["x", "y", "z", "red"], "from_points"),
    ],
)
def test_a_ply_of_another_kind_is_named_with_the_way_on(tmp_path, names, said):
    path = written(tmp_path / "a.ply", np.ones(4, [(name, "<f4") for name in names]))
    with pytest.raises(ValueError, match=said):
        load_ply(path)


def test_a_folder_is_not_a_ply(tmp_path):
    with pytest.raises(ValueError, match="folder"):
        load_ply(tmp_path)


def test_what_cannot_be_fitted_or_made_is_said():
    scene = painted_box()
    cloud = Gaussians.from_depth(scene, count=100)
    with pytest.raises(ValueError, match="lie in one voxel of 100 m"):
        Gaussians.from_depth(scene, voxel=100.0)
    with pytest.raises(ValueError, match="scene must be a Scene, got list"):
        fit(cloud, [scene], 1)
    with pytest.raises(ValueError, match="camera must be a Camera, got View"):
        render(cloud, scene[0])
