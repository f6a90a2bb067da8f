"""Captures as people bring them: without metres, without depth, few points, wandering exposure, blur, masks."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from boxes import painted_box
from skimage.metrics import structural_similarity

from fit3d_lite import Camera, Gaussians, Scene, consistency, fit, photo_psnr, render, with_rendered_depths
from fit3d_lite.scenes import Report, ScenePoints
from fit3d_lite.splatting import photo_ssim, psnr, ssim
from fit3d_lite.splatting.quality import as_photo, sharp_photos

UNKNOWN = Report("a test", tuple(map(str, range(8))), {}, {}, units="unknown")


def shrunk(scene: Scene, factor: float) -> Scene:
    """The same photos in a world of another size, its unit unknown."""
    poses = [c.world_to_camera.clone() for c in scene.cameras]
    for pose in poses:
        pose[:3, 3] *= factor
    cameras = [replace(c, world_to_camera=pose) for c, pose in zip(scene.cameras, poses, strict=True)]
    return Scene(scene.images, cameras, scene.depths * factor, report=UNKNOWN)


def test_a_scene_without_metres_is_fitted_alike_at_any_size():
    found = []
    for factor in (1.0, 0.02, 50.0):
        train, held = shrunk(painted_box(4), factor).split(4)
        assert train.cameras[0].near == pytest.approx(factor * shrunk(painted_box(4), 1.0).cameras[0].near, rel=0.02)
        cloud = fit(Gaussians.from_depth(train, count=200), train, 10, progress=False)
        found.append(np.mean(photo_psnr(cloud, held)))
    assert max(found) - min(found) < 0.3 and min(found) > 15


def test_the_near_plane_of_a_camera_is_what_is_drawn():
    cloud = Gaussians.from_points(torch.tensor([[0, 0, 0.1], [0, 0.01, 0.1]]), opacity=0.9)
    K = torch.tensor([[20.0, 0, 12], [0, 20.0, 12], [0, 0, 1]])
    for near, seen in ((0.2, False), (0.05, True)):
        _, alpha = render(cloud, Camera(K, torch.eye(4), 24, 24, near=near))
        assert bool((alpha > 0).any()) == seen
    camera = Camera(K, torch.eye(4), 24, 24, near=0.05)
    assert camera.scaled(12, 12).near == camera.cropped(2, 2, 8, 8).near == 0.05
    with pytest.raises(ValueError, match="near plane must be > 0"):
        replace(camera, near=0.0).check()


def test_a_sparse_start_grows_to_what_the_photos_can_fill_and_a_dense_one_hardly():
    scene = painted_box(4)
    cloud = Gaussians.from_depth(scene, count=300)
    few = cloud[torch.randperm(len(cloud), generator=torch.Generator().manual_seed(0))[:30]]
    sparse, dense = (fit(start, scene, 36, refine_every=6, progress=False) for start in (few, cloud))
    most = scene.height * scene.width // 8
    assert 0.8 * most < len(sparse) <= most and len(cloud) <= len(dense) <= 1.3 * len(cloud)


def test_splits_go_where_the_error_is():
    scene = painted_box(2)
    cloud = Gaussians.from_depth(scene, count=200)
    u, depth = scene.cameras[0].project(cloud.means)
    left = (u[:, 0] < scene.width / 2) & (depth > 0)
    images = torch.stack([as_photo(cloud, view) for view in scene])
    images[0, :, :, : scene.width // 2] = 1 - images[0, :, :, : scene.width // 2]  # right elsewhere, wrong here
    one = Scene(images[:1], scene.cameras[:1])
    grown = fit(cloud, one, 3, lr_scale=1e-6, refine_every=1, split_share=0.1, max_count=220, progress=False)
    assert len(grown) == 220
    moved = torch.cdist(grown.means, cloud.means).min(1).values > 1e-4  # children stand beside where their parent stood
    u, _ = scene.cameras[0].project(grown.means[moved])
    assert left.any() and (u[:, 0] < scene.width / 2 + 3).float().mean() > 0.9


def dimmed(scene: Scene) -> Scene:
    gain = torch.linspace(0.4, 1.0, len(scene))[torch.randperm(len(scene), generator=torch.Generator().manual_seed(1))]
    return replace(scene, images=scene.images * gain[:, None, None, None])


def test_exposure_is_learned_by_photo_and_taken_out_of_psnr():
    train, held = dimmed(painted_box(6)).split(3)
    start = Gaussians.from_depth(train, count=300)
    plain, learned = (fit(start, train, 40, exposure=e, progress=False) for e in (None, "affine"))
    quality = {e: [np.mean(photo_psnr(cloud, held, e)) for cloud in (plain, learned)] for e in (None, "affine")}
    assert quality["affine"][1] > quality["affine"][0] + 0.3 and quality["affine"][0] > quality[None][0] + 1
    with pytest.raises(ValueError, match='exposure is "affine" or None'):
        fit(start, train, 1, exposure="gain")
    with pytest.raises(ValueError, match='exposure is "affine" or None'):
        photo_psnr(plain, held, "gain")


def test_the_exposure_that_is_taken_out_is_the_least_squares_one():
    view = painted_box(2)[0]
    cloud = Gaussians.from_depth(painted_box(2), count=400)
    image = render(cloud, view.camera)[0].clamp(0, 1)
    A, b = torch.tensor([[0.6, 0.1, 0], [0, 0.7, 0.1], [0.1, 0, 0.5]]), torch.tensor([0.05, 0.1, 0.0])
    changed = replace(view, image=(image @ A.T + b).permute(2, 0, 1))
    assert (as_photo(cloud, changed, "affine") - changed.image).abs().max() < 1e-4


def test_masked_pixels_teach_nothing_and_are_not_judged():
    scene = painted_box(3)
    masks = torch.ones(3, scene.height, scene.width, dtype=torch.bool)
    masks[:, :, : scene.width // 3] = False
    spoilt = scene.images.clone()
    spoilt[:, :, :, : scene.width // 3] = 0.0
    start = Gaussians.from_depth(scene, count=300)
    a, b = (fit(start, replace(scene, images=i, masks=masks), 8, progress=False) for i in (scene.images, spoilt))
    assert torch.allclose(a.colors, b.colors, atol=1e-5) and not torch.equal(a.colors, start.colors)
    judged = [photo_psnr(a, replace(scene, images=images, masks=masks), "affine") for images in (scene.images, spoilt)]
    assert judged[0] == pytest.approx(judged[1])
    part = as_photo(a, scene[0])[:, masks[0]]
    assert photo_psnr(a, replace(scene, masks=masks))[0] == pytest.approx(psnr(part, scene.images[0][:, masks[0]]))


def test_blurred_photos_are_left_out_by_their_neighbors():
    scene = painted_box(7)
    images = torch.rand(scene.images.shape, generator=torch.Generator().manual_seed(0))
    images[3] = F.avg_pool2d(images[3:4], 5, 1, 2)[0]
    blurred = replace(scene, images=images)
    kept = sharp_photos(blurred, 0.4)
    assert len(kept) == 6 and torch.equal(kept.images, images[[0, 1, 2, 4, 5, 6]])
    assert len(sharp_photos(blurred, 0.0)) == 7
    with pytest.raises(ValueError, match="drop_blurred ≤ 1; got .* 2"):
        fit(Gaussians.from_depth(scene, count=50), scene, 1, drop_blurred=2)


def test_ssim_is_scikit_images():
    a, b = (torch.rand(3, 40, 50, generator=torch.Generator().manual_seed(s)) for s in (0, 1))
    b = 0.7 * a + 0.3 * b
    options = {"win_size": 11, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    _, whole = structural_similarity(a.numpy(), b.numpy(), channel_axis=0, full=True, **options)
    assert float(ssim(a, b)) == pytest.approx(float(whole[:, 5:-5, 5:-5].mean()), abs=1e-5)  # where no window is cut off
    scene = painted_box(2)
    cloud = Gaussians.from_depth(scene, count=200)
    drawn = [render(cloud, view.camera)[0].clamp(0, 1).permute(2, 0, 1) for view in scene]
    assert photo_ssim(cloud, scene) == pytest.approx([float(ssim(d, v.image)) for d, v in zip(drawn, scene, strict=True)])


# --- depths that were rendered


def test_rendered_depths_are_the_true_ones_and_say_that_they_are_rendered():
    scene = painted_box(6)
    cloud = Gaussians.from_depth(scene, count=2500)
    bare = Scene(scene.images, scene.cameras, points=ScenePoints(cloud.means, cloud.colors), report=UNKNOWN)
    made = with_rendered_depths(bare, cloud)
    known = (made.depths > 0) & (scene.depths > 0)
    off = ((made.depths - scene.depths).abs() / scene.depths)[known]
    assert known.float().mean() > 0.6 and off.median() < 0.02 and off.quantile(0.95) < 0.1
    assert made.rendered and not bare.rendered and "rendered depths" in repr(made) and made[:3].rendered
    found = consistency(torch.rand(6, 4, 6, 8), made, min_overlap=0.05, tolerance=0.05)
    assert found.rendered and not found.metric and list(found.recall) == ["5 px", "10 px", "20 px"]
    assert "truth: rendered depths" in repr(found) and "cm" not in repr(found) and found.select(found.pixels < 20).rendered
    measured = consistency(torch.rand(6, 4, 6, 8), scene, min_overlap=0.05)
    assert "5 cm" in measured.recall and "rendered" not in repr(measured)
    with pytest.raises(ValueError, match="cover no pixel"):
        with_rendered_depths(bare, replace(cloud, means=cloud.means + 500))
