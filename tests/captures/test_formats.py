"""Captures of other programs: the same drawn box in every layout gives the same Scene, or the right sentence."""

import numpy as np
import pycolmap
import pytest
import torch
from PIL import Image

from fit3d_lite import Gaussians, captures
from fit3d_lite.scenes.camera import Camera

BOX = torch.tensor([4.0, 3.0, 2.5])  # metres; cameras stand inside
HEIGHT, WIDTH, VIEWS = 60, 80, 5


def camera_at(i):
    eye = (1.0 + 0.2 * i, 1.4 + 0.05 * i, 1.2)
    return Camera.look_at(eye, (3.6, 2.2 - 0.1 * i, 1.0), fov_x=60, width=WIDTH, height=HEIGHT)


def seen_along(camera, rays):
    """Color [P, 3] (the place on the wall) and depth [P] along rays [P, 2] (x/z, y/z)."""
    pose = camera.camera_to_world.double()
    directions = torch.from_numpy(np.concatenate([rays, np.ones_like(rays[:, :1])], 1)) @ pose[:3, :3].T
    walls = torch.where(directions > 0, BOX.double(), torch.zeros(3).double())
    depth = ((walls - pose[:3, 3]) / directions).amin(-1)
    return (pose[:3, 3] + depth[:, None] * directions) / BOX, depth


def draw(camera, lens=None):
    """Photo [H, W, 3] and depth [H, W] through a pycolmap.Camera, which bends the rays, or straight."""
    lens = lens or pycolmap.Camera(model="PINHOLE", width=WIDTH, height=HEIGHT, params=[69.2820, 69.2820, 40.0, 30.0])
    u, v = np.meshgrid(np.arange(lens.width) + 0.5, np.arange(lens.height) + 0.5)
    color, depth = seen_along(camera, lens.cam_from_img(np.stack([u, v], -1).reshape(-1, 2)))
    shape = (lens.height, lens.width)
    return (color.reshape(*shape, 3) * 255).round().byte().numpy(), depth.reshape(shape).numpy()


def same_place(scene, limit=0.012):
    """Every pixel has the color of the place that its camera looks at: photo, K, pose and undistortion fit together."""
    for view in scene:
        u, v = np.meshgrid(np.arange(view.camera.width) + 0.5, np.arange(view.camera.height) + 0.5)
        K = view.camera.K.double().numpy()
        rays = (np.stack([u, v], -1).reshape(-1, 2) - K[:2, 2]) / K.diagonal()[:2]
        color, depth = seen_along(view.camera, rays)
        error = (view.image.flatten(1).T - color.float()).abs()
        assert error.mean() < limit / 4 and error.quantile(0.95) < limit, (error.mean(), error.quantile(0.95))
        if view.depth is not None:
            known = view.depth.flatten() > 0
            assert ((view.depth.flatten() - depth).abs()[known] < 0.05 * depth[known]).float().mean() > 0.95


def write_colmap(folder, model="PINHOLE", params=(69.2820, 69.2820, 40.0, 30.0), binary=True, one_each=False, where="sparse/0"):
    """The box as a COLMAP model with 40 points, each seen by the photos it falls into."""
    made = pycolmap.Reconstruction()
    (folder / "images").mkdir(parents=True)
    cameras = [camera_at(i) for i in range(VIEWS)]
    for i in range(VIEWS if one_each else 1):
        made.add_camera_with_trivial_rig(pycolmap.Camera(model=model, width=WIDTH, height=HEIGHT, params=params, camera_id=i + 1))
    points = np.random.default_rng(0).uniform(0, 1, (40, 3)) * BOX.numpy()
    points[:, 0] = 4.0
    for i, camera in enumerate(cameras):
        lens = made.cameras[i + 1 if one_each else 1]
        Image.fromarray(draw(camera, lens)[0]).save(folder / "images" / f"{i}.png")
        pose = camera.world_to_camera.double().numpy()
        local = points @ pose[:3, :3].T + pose[:3, 3]
        image = pycolmap.Image(name=f"{i}.png", keypoints=lens.img_from_cam(local), camera_id=lens.camera_id, image_id=i + 1)
        made.add_image_with_trivial_frame(image, pycolmap.Rigid3d(pose[:3]))
    for n, point in enumerate(points):
        track = pycolmap.Track()
        for i in range(VIEWS if n else 2):  # the first one is seen by two photos only
            track.add_element(i + 1, n)
        made.add_point3D(point, track, np.array([255, 0, 51], dtype=np.uint8))
    made.update_point_3d_errors()
    (folder / where).mkdir(parents=True, exist_ok=True)
    (made.write_binary if binary else made.write_text)(folder / where)
    return folder


@pytest.mark.parametrize("where, binary, one_each", [("sparse/0", True, False), ("sparse", False, True), (".", True, True)])
def test_a_colmap_model_lies_in_three_places_binary_or_text(tmp_path, where, binary, one_each):
    scene = captures.colmap(write_colmap(tmp_path, binary=binary, one_each=one_each, where=where))
    assert len(scene) == VIEWS and scene.depths is None and not scene.metric
    assert scene.report.used == tuple(f"{i}.png" for i in range(VIEWS))
    same_place(scene)
    points = scene.points
    assert len(points) == 40 and points.track_length.min() == 2 and points.error.max() < 0.1
    assert points.color[0].tolist() == pytest.approx([1, 0, 0.2])
    part = scene[[4, 1]]
    assert part.points.seen_by[:, 1].unique().tolist() == [0, 1] and part.report.used == ("4.png", "1.png")
    assert len(part.points.in_view(0)) == 39


def test_gaussians_start_from_the_points_that_enough_photos_agree_on(tmp_path):
    scene = captures.colmap(write_colmap(tmp_path))
    cloud = Gaussians.from_points(scene)
    assert len(cloud) == 39
    with pytest.raises(ValueError, match="0 of 40 sparse points are seen by 6 photos or more"):
        Gaussians.from_points(scene, min_track=6)
