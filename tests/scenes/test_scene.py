"""Cameras and scenes: closed forms, round trips, and every refusal of bad input."""

import math

import numpy as np
import pytest
import torch
from boxes import box_depth, orbit

from fit3d_lite import Camera, Scene, room
from fit3d_lite.scenes import Report, ScenePoints
from fit3d_lite.scenes.poses import agreement, explain_rigid


def scene(**changes):
    cameras = orbit()
    values = dict(
        images=torch.rand(6, 3, 36, 48, generator=torch.Generator().manual_seed(0)),
        cameras=cameras,
        depths=torch.stack([box_depth(c) for c in cameras]),
    )
    return Scene(**(values | changes))


def with_poses(change):
    return [Camera(c.K, change(c.world_to_camera), c.width, c.height) for c in orbit()]


def test_look_at_puts_the_target_in_the_middle_and_up_on_top():
    camera = Camera.look_at((1, 2, 3), (4, 0, 1), width=64, height=48)
    pixel, depth = camera.project(torch.tensor([4.0, 0, 1]))
    torch.testing.assert_close(pixel, torch.tensor([32.0, 24.0]), atol=1e-4, rtol=0)
    assert float(depth) == pytest.approx(math.sqrt(9 + 4 + 4), rel=1e-6)
    above, _ = camera.project(torch.tensor([4.0, 0, 1.2]))
    assert above[1] < 24
    torch.testing.assert_close(camera.center, torch.tensor([1.0, 2, 3]))
    assert camera.fov_x == pytest.approx(60, abs=1e-4)


def test_pixel_centers_are_at_one_half():
    K = torch.tensor([[10.0, 0, 4], [0, 10, 3], [0, 0, 1]])
    camera = Camera(K, torch.eye(4), 8, 6)
    point = camera.unproject(torch.full((6, 8), 2.0))[1, 5]
    torch.testing.assert_close(point, torch.tensor([(5.5 - 4) / 10 * 2, (1.5 - 3) / 10 * 2, 2.0]))


def test_project_undoes_unproject():
    camera = orbit()[3]
    depth = box_depth(camera)
    pixels, z = camera.project(camera.unproject(depth))
    v, u = torch.meshgrid(torch.arange(36) + 0.5, torch.arange(48) + 0.5, indexing="ij")
    torch.testing.assert_close(pixels, torch.stack([u, v], -1), atol=2e-4, rtol=0)
    torch.testing.assert_close(z, depth, atol=1e-5, rtol=1e-5)


def test_scaled_and_cropped_cameras_see_the_same_points():
    camera = orbit()[1]
    points = torch.randn(20, 3)
    pixels, _ = camera.project(points)
    torch.testing.assert_close(camera.scaled(96, 18).project(points)[0], pixels * torch.tensor([2.0, 0.5]))
    cropped = camera.cropped(7, 5, 20, 11)
    torch.testing.assert_close(cropped.project(points)[0], pixels - torch.tensor([7.0, 5.0]))
    with pytest.raises(ValueError, match="40,5 \\+ 20×11 does not lie inside 48×36"):
        camera.cropped(40, 5, 20, 11)


def test_camera_to_world_is_the_inverse():
    camera = orbit()[4]
    torch.testing.assert_close(camera.camera_to_world @ camera.world_to_camera, torch.eye(4), atol=1e-6, rtol=0)


def test_a_scene_is_a_sequence_of_views():
    whole = scene(labels=torch.zeros(6, 36, 48, dtype=torch.int64), classes=("wall",))
    assert len(whole) == 6 and len(list(whole)) == 6
    assert whole[2].image.shape == (3, 36, 48) and whole[-1].depth.shape == (36, 48)
    assert len(whole[::2]) == 3 and whole[[5, 0]].cameras[1] is whole.cameras[0]
    assert whole[np.int64(1)].image is not None and whole[torch.tensor(1)].camera is whole.cameras[1]
    train, held = whole.split(3)
    assert (len(train), len(held)) == (4, 2)
    assert not {id(c) for c in train.cameras} & {id(c) for c in held.cameras}
    with pytest.raises(IndexError, match="View 6 of a scene with 6"):
        whole[6]
    with pytest.raises(ValueError, match="one view in 9"):
        whole.split(9, offset=8)


def test_resizing_keeps_geometry_and_never_blends_depths():
    whole = scene(labels=torch.arange(36 * 48).reshape(1, 36, 48).expand(6, -1, -1) % 7)
    small = whole.resized(24, 18)
    assert small.images.shape == (6, 3, 18, 24) and small.cameras[0].K[0, 0] == whole.cameras[0].K[0, 0] / 2
    assert torch.isin(small.depths[0], whole.depths[0]).all()
    window = whole.cropped(8, 4, 16, 12)
    torch.testing.assert_close(
        window[0].camera.unproject(window[0].depth), whole[0].camera.unproject(whole[0].depth)[4:16, 8:24]
    )


REFUSALS = {
    "empty": (dict(images=torch.zeros(0, 3, 36, 48), cameras=[]), "empty: images \\[0, 3, 36, 48\\], 0 cameras"),
    "not RGB": (dict(images=torch.zeros(6, 1, 36, 48)), r"\[V, 3, H, W\], got \[6, 1, 36, 48\]"),
    "cameras missing": (dict(cameras=orbit()[:5]), "6 images but 5 cameras"),
    "depth of another size": (dict(depths=torch.ones(6, 18, 24)), r"depths is \[6, 18, 24\] but the images are 6 of 36×48"),
    "labels of another size": (dict(labels=torch.ones(6, 36, 47).long()), r"labels is \[6, 36, 47\]"),
    "0..255": (dict(images=torch.rand(6, 3, 36, 48) * 255), "0..1, got .*: divide by 255"),
    "bytes": (dict(images=torch.zeros(6, 3, 36, 48, dtype=torch.uint8)), "torch.uint8: divide by 255"),
    "normalised": (dict(images=torch.randn(6, 3, 36, 48)), "0..1, got -.*undo the normalisation"),
    "NaN image": (dict(images=torch.full((6, 3, 36, 48), float("nan"))), "31104 image values are NaN"),
    "NaN depth": (dict(depths=torch.full((6, 36, 48), float("nan"))), "10368 depths are NaN"),
    "negative depth": (dict(depths=-torch.ones(6, 36, 48)), "≥ 0 metres"),
    "millimetres": (dict(depths=torch.full((6, 36, 48), 2500.0)), "millimetres / 1000 2.5 m"),
    "centimetres": (dict(depths=torch.full((6, 36, 48), 250.0)), "median depth is 250, .* centimetres / 100 would give 2.5 m"),
    "label beyond classes": (dict(labels=torch.full((6, 36, 48), 3), classes=("a", "b")), "from 3 to 3 but there are 2 classes"),
    "camera of another size": (dict(cameras=orbit(width=50)), "Camera 0 is 36×50 but its image is 36×48"),
    "focal length": (
        dict(cameras=[Camera(torch.diag(torch.tensor([-5.0, 5, 1])), c.world_to_camera, 48, 36) for c in orbit()]),
        "Camera 0: Focal lengths must be > 0 pixels, got fx=-5",
    ),
    "NaN pose": (dict(cameras=with_poses(lambda p: p * float("nan"))), "Camera 0: .*NaN"),
    "scaled pose": (dict(cameras=with_poses(lambda p: torch.diag(torch.tensor([2.0, 2, 2, 1])) @ p)), "scales by 2"),
    "sheared pose": (dict(cameras=with_poses(lambda p: p + 0.2 * torch.eye(4)[[1, 0, 2, 3]])), "not a rigid motion"),
    "transposed pose": (dict(cameras=with_poses(lambda p: p.T)), "last row .* use pose.T.*looks like transposed"),
    "mirror": (dict(cameras=with_poses(lambda p: torch.diag(torch.tensor([1.0, -1, 1, 1])) @ p)), "det R = -1.*y axis flipped"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals_name_the_numbers(case):
    changes, message = REFUSALS[case]
    with pytest.raises(ValueError, match=message):
        scene(**changes)


def test_poses_in_another_convention_are_recognised_by_the_depths():
    opengl = torch.diag(torch.tensor([1.0, -1, -1, 1]))
    wrong = {
        "camera-to-world poses \\(pass pose.inverse": lambda p: p.inverse(),
        "OpenGL axes \\(pass diag\\(1, -1, -1, 1\\) @ pose\\)": lambda p: opengl @ p,
        "camera-to-world poses with OpenGL axes": lambda p: (opengl @ p).inverse(),
        "transposed rotations": lambda p: torch.cat([torch.cat([p[:3, :3].T, p[:3, 3:]], 1), p[3:]]),
    }
    scene()  # the right convention passes
    for name, change in wrong.items():
        with pytest.raises(ValueError, match=f"contradict the depths. This looks like {name}"):
            scene(cameras=with_poses(change))


def test_two_views_that_share_nothing_are_not_accused():
    """Here transposed rotations agree on 17 % of the pixels by chance, the right ones on none."""
    assert len(room(60009, 2, (96, 128), shadows=False)) == 2


def test_right_poses_agree_and_unrelated_views_are_not_refused():
    right = scene()
    poses = torch.stack([c.world_to_camera for c in right.cameras])
    K = torch.stack([c.K for c in right.cameras])
    assert agreement(poses, K, right.depths) > 0.5
    # Views that never overlap give no evidence either way, and must pass.
    apart = [Camera.look_at((50.0 * i, 0, 0), (50.0 * i + 1, 0, 0), width=48, height=36) for i in range(6)]
    scene(cameras=apart)


def test_rounded_pose_files_are_still_rigid():
    assert explain_rigid((orbit()[2].world_to_camera * 1e4).round() / 1e4) == ""


def test_the_shape_of_a_camera_is_checked_when_it_is_made():
    with pytest.raises(ValueError, match=r"Camera.K must be \[3, 3\], got \[4, 4\]"):
        Camera(torch.eye(4), torch.eye(4), 8, 8)
    with pytest.raises(ValueError, match="parallel to up"):
        Camera.look_at((0, 0, 0), (0, 0, 1))


def test_masks_points_and_report_follow_their_views():
    masks = torch.ones(6, 36, 48, dtype=torch.bool)
    masks[2, :18] = False
    pairs = torch.tensor([[0, 0], [0, 2], [1, 2], [1, 5], [1, 1]])
    points = ScenePoints(torch.rand(2, 3), torch.rand(2, 3), torch.tensor([2, 3]), torch.tensor([0.5, 3.0]), pairs)
    report = Report("here", tuple("abcdef"), {"g": "absent"}, {}, units="unknown")
    whole = scene(masks=masks, points=points, report=report)
    part = whole[[5, 2]]
    assert part.report.used == ("f", "c") and "g: absent" in str(part.report) and not part.metric and scene().metric
    assert part.points.seen_by.tolist() == [[0, 1], [1, 1], [1, 0]] and part.points.in_view(1).tolist() == [0, 1]
    assert part.masks[0].all() and not part[1].mask[:18].any() and part[1].mask[18:].all()
    small = whole.resized(24, 18).cropped(0, 6, 24, 12)
    assert small.masks.shape == (6, 12, 24) and not small.masks[2, :3].any() and small.masks[2, 3:].all()
    assert points[torch.tensor([False, True])].seen_by.tolist() == [[0, 2], [0, 5], [0, 1]]
    assert len(points.sound(min_track=2, max_error=4)) == 2
    with pytest.raises(ValueError, match="1 of 2 sparse points are seen by 2 photos or more and at most 2 pixels off"):
        points.sound(min_track=2)
    with pytest.raises(ValueError, match=r"masks is \[6, 36, 36\] but the images are 6 of 36×48"):
        scene(masks=masks[..., :36])
    with pytest.raises(ValueError, match=r"ScenePoints.color must be \[2, 3\]"):
        ScenePoints(torch.rand(2, 3), torch.rand(3, 3))
