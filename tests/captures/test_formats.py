"""Captures of other programs: the same drawn box in every layout gives the same Scene, or the right sentence."""

import io
import json
import shutil
import tarfile
import zipfile

import numpy as np
import pycolmap
import pytest
import torch
from drawn_box import BOX, seen_along
from PIL import Image

from fit3d_lite import Gaussians, captures
from fit3d_lite.scenes.camera import Camera

HEIGHT, WIDTH, VIEWS = 60, 80, 5


def camera_at(i):
    eye = (1.0 + 0.2 * i, 1.4 + 0.05 * i, 1.2)
    return Camera.look_at(eye, (3.6, 2.2 - 0.1 * i, 1.0), fov_x=60, width=WIDTH, height=HEIGHT)


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
        assert error.median() < 0.0025  # half a pixel off would be 0.004
        if view.depth is not None:
            known = view.depth.flatten() > 0
            assert ((view.depth.flatten() - depth).abs()[known] < 0.05 * depth[known]).float().mean() > 0.95


OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])


def save(folder, i, lens=None, photos="images", depth_units=None, ending="png"):
    """Photo i, and its depth where ``depth_units`` to the metre are given."""
    photo, depth = draw(camera_at(i), lens)
    (folder / photos).mkdir(parents=True, exist_ok=True)
    Image.fromarray(photo).save(folder / photos / f"{i}.{ending}", quality=98)
    if depth_units:
        (folder / "depth").mkdir(exist_ok=True)
        Image.fromarray((depth * depth_units).round().astype(np.uint16)).save(folder / "depth" / f"{i}.png")


def write_nerfstudio(folder, depth=False, lens=None, file="transforms.json", **table):
    frames = []
    for i in range(VIEWS):
        save(folder, i, lens, depth_units=1000 if depth else None)
        pose = camera_at(i).camera_to_world.double().numpy() @ OPENGL
        frames.append({"file_path": f"images/{i}.png", "transform_matrix": pose.tolist()})
        frames[-1] |= {"depth_file_path": f"depth/{i}.png"} if depth else {}
    table = {"fl_x": 69.282, "fl_y": 69.282, "cx": 40, "cy": 30, "w": WIDTH, "h": HEIGHT, "frames": frames} | table
    (folder / file).write_text(json.dumps(table, indent=1))
    return table


def write_tum(folder, offset=0.0, ending="png", lens=None):
    """A TUM sequence: photos at 0, 0.1, … s, depths ``offset`` later, poses 100 times a second by the same formula."""
    for i in range(VIEWS):
        save(folder, i, lens, photos="rgb", depth_units=5000)
        if ending == "pgm":
            depth = np.array(Image.open(folder / "depth" / f"{i}.png")).astype(">u2")
            (folder / "depth" / f"{i}.pgm").write_bytes(b"P5\n%d %d\n65535\n" % (WIDTH, HEIGHT) + depth.tobytes())
    (folder / "rgb.txt").write_text("# color\n" + "".join(f"{i / 10:.6f} rgb/{i}.png\n" for i in range(VIEWS)))
    lines = "".join(f"{i / 10 + offset:.6f} depth/{i}.{ending}\n" for i in range(VIEWS))
    (folder / "depth.txt").write_text("# depth\n" + lines)
    rows = ["# seconds tx ty tz qx qy qz qw"]
    for t in np.arange(-0.005, VIEWS / 10, 0.01):
        pose = camera_at(t * 10).camera_to_world.double().numpy()
        q = pycolmap.Rotation3d(pose[:3, :3]).quat  # x y z w
        rows.append(" ".join(f"{v:.7f}" for v in (t, *pose[:3, 3], *q)))
    (folder / "groundtruth.txt").write_text("\n".join(rows))
    np.savetxt(folder / "K.txt", [[69.282, 0, 40], [0, 69.282, 30], [0, 0, 1]])
    return folder


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


LENSES = {
    "SIMPLE_RADIAL": (69.0, 40, 30, -0.15),
    "RADIAL": (69.0, 40, 30, 0.1, 0.05),
    "OPENCV": (69.0, 70.0, 41, 29, -0.2, 0.05, 0.002, -0.001),
    "FULL_OPENCV": (69.0, 70.0, 41, 29, 0.3, 0.05, 0.002, -0.001, 0.01, 0.2, 0.02, 0.01),
    "OPENCV_FISHEYE": (50.0, 50.0, 40, 30, 0.02, 0.01, 0.0, 0.0),
    "SIMPLE_FISHEYE": (50.0, 40, 30),  # bends although no parameter says so
    "FOV": (60.0, 60.0, 40, 30, 0.8),
    "THIN_PRISM_FISHEYE": (55.0, 55.0, 40, 30, 0.02, 0.01, 0.001, 0.001, 0, 0, 0.002, 0.001),
}


@pytest.mark.parametrize("model", LENSES)
def test_every_lens_is_undistorted_to_a_pinhole(tmp_path, model):
    scene = captures.colmap(write_colmap(tmp_path, model, LENSES[model]))
    assert any("undistorted" in note for note in scene.report.notes)
    same_place(scene, 0.016)


def test_photos_scaled_portrait_and_turned_by_exif_become_one_size_with_their_cameras(tmp_path):
    write_colmap(tmp_path, one_each=True)
    model = pycolmap.Reconstruction(tmp_path / "sparse/0")
    model.write_text(tmp_path / "sparse/0")
    for file in (tmp_path / "sparse/0").glob("*.bin"):
        file.unlink()
    cameras = tmp_path / "sparse/0/cameras.txt"
    cameras.write_text(cameras.read_text().replace("2 PINHOLE 80 60 69.281999999999996 69.281999999999996 40 30",
                                                   "2 PINHOLE 60 80 69.282 69.282 30 40"))  # fmt: skip
    portrait = pycolmap.Camera(model="PINHOLE", width=60, height=80, params=[69.282, 69.282, 30, 40])
    Image.fromarray(draw(camera_at(1), portrait)[0]).save(tmp_path / "images/1.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # a phone held upright: stored on its side, the model counts pixels as stored
    photo = Image.open(tmp_path / "images/2.png")
    photo.save(tmp_path / "images/2.png", exif=exif)
    Image.open(tmp_path / "images/3.png").resize((160, 120), Image.BICUBIC).save(tmp_path / "images/3.png")
    scene = captures.colmap(tmp_path)
    assert scene.images.shape == (VIEWS, 3, 60, 80) and "cropped" in " ".join(scene.report.notes)
    same_place(scene, 0.03)
    turned = scene.cameras[2].world_to_camera[0, :3] @ camera_at(2).world_to_camera[1, :3]
    assert turned == pytest.approx(-1, abs=1e-4)  # x of the upright photo runs along −y of the stored one
    same_place(captures.colmap(tmp_path, size=(30, 50)), 0.04)
    Image.open(tmp_path / "images/4.png").resize((80, 80)).save(tmp_path / "images/4.png")
    with pytest.raises(ValueError, match="4.png is 80×80 but .*image 4.png has 80×60"):
        captures.colmap(tmp_path)


def test_colmap_says_what_is_missing_and_which_of_several_models_it_took(tmp_path):
    folder = write_colmap(tmp_path / "a")
    (folder / "images").rename(folder / "images_4")
    small = pycolmap.Reconstruction(folder / "sparse/0")
    small.deregister_frame(small.images[1].frame_id)
    (folder / "sparse/1").mkdir()
    small.write(folder / "sparse/1")
    (folder / "images_4/0.png").unlink()
    shutil.copy(folder / "images_4/1.png", folder / "images_4/new.png")
    scene = captures.colmap(folder)
    assert "the largest of 2 models, 0" in scene.report.notes and len(scene) == VIEWS - 1
    assert list(scene.report.skipped) == ["0.png"] and list(scene.report.unregistered) == ["new.png"]
    assert "0.png" in str(scene.report) and scene.points.seen_by[:, 1].max() == VIEWS - 2
    with pytest.raises(FileNotFoundError, match="images_4/0.png, which is not there"):
        captures.colmap(folder, on_missing="raise")
    (folder / "sparse/1/points3D.bin").unlink()
    with pytest.raises(FileNotFoundError, match="sparse/1 has no points3D.bin"):
        captures.colmap(folder)
    with pytest.raises(FileNotFoundError, match="has no COLMAP model"):
        captures.colmap(tmp_path)


@pytest.mark.parametrize("part", ["cameras", "images", "points3D"])
def test_a_cut_or_damaged_model_is_refused_with_its_place(tmp_path, part):
    file = write_colmap(tmp_path / "a") / f"sparse/0/{part}.bin"
    file.write_bytes(file.read_bytes()[:-20])  # pycolmap itself reads a cut camera without a word
    with pytest.raises(ValueError, match=f"{part}.bin ends at byte .* within record .* it is cut off"):
        captures.colmap(tmp_path / "a")
    file = write_colmap(tmp_path / "b", binary=False) / f"sparse/0/{part}.txt"
    lines = file.read_text().splitlines()
    lines[4 if part != "cameras" else 3] = "1 PINHOLE 80 x 60 1 2 3 4 5 a.png"
    file.write_text("\n".join(lines))
    with pytest.raises(ValueError, match=f"{part}.txt, line [45]: could not convert string to float"):
        captures.colmap(tmp_path / "b")


def test_nerfstudio_reads_every_spelling_of_the_intrinsics(tmp_path):
    table = write_nerfstudio(tmp_path)
    wanted = captures.nerfstudio(tmp_path)
    same_place(wanted)
    assert not wanted.metric and wanted.points is None and wanted.depths is None
    own = {key: table.pop(key) for key in ("fl_x", "fl_y", "cx", "cy", "w", "h")}
    angle = {"camera_angle_x": 2 * np.arctan(40 / 69.282)}  # instant-ngp and Blender
    for top, each in ((angle, {}), ({}, own)):
        frames = [f | each | {"file_path": f["file_path"][:-4]} for f in table["frames"]]  # without ".png"
        (tmp_path / "transforms.json").write_text(json.dumps(table | top | {"frames": frames}))
        scene = captures.nerfstudio(tmp_path / "transforms.json")
        torch.testing.assert_close(scene.cameras[3].K, wanted.cameras[3].K, atol=1e-3, rtol=0)
        assert torch.equal(scene.images, wanted.images)
    (tmp_path / "transforms.json").rename(tmp_path / "transforms_train.json")
    assert len(captures.nerfstudio(tmp_path, frames=2)) == 2


@pytest.mark.parametrize("model", ["OPENCV", "OPENCV_FISHEYE"])
def test_nerfstudio_undistorts_photos_depths_and_masks_and_leaves_absent_ones_out(tmp_path, model):
    params = LENSES[model]
    lens = pycolmap.Camera(model=model, width=WIDTH, height=HEIGHT, params=params)
    names = ("fl_x", "fl_y", "cx", "cy", "k1", "k2", *(("p1", "p2") if model == "OPENCV" else ("k3", "k4")))
    table = write_nerfstudio(tmp_path, True, lens, camera_model=model, **dict(zip(names, params)), ply_file_path="p.ply")
    (tmp_path / "masks").mkdir()
    mask = np.full((HEIGHT, WIDTH), 255, np.uint8)
    mask[:, :20] = 0
    Image.fromarray(mask).save(tmp_path / "masks/0.png")
    table["frames"][0]["mask_path"] = "masks/0.png"
    table["applied_transform"] = np.eye(4)[:3].tolist()
    (tmp_path / "transforms.json").write_text(json.dumps(table))
    (tmp_path / "p.ply").write_text(PLY)
    (tmp_path / "images/2.png").unlink()
    (tmp_path / "depth/3.png").unlink()
    scene = captures.nerfstudio(tmp_path)
    same_place(scene, 0.016)
    assert scene.metric and scene.report.used == ("images/0.png", "images/1.png", "images/4.png")
    assert len(scene.report.skipped) == 2 and "of the depths agree" in scene.report.agreement
    assert not scene.masks[0, :, :15].any() and scene.masks[0, :, 30:].all() and scene.masks[1:].all()
    assert scene.points.xyz.tolist() == [[1, 2, 3]] and scene.points.color[0].tolist() == [1, 0, 0]
    with pytest.raises(FileNotFoundError, match=r"frames\[2\] names .*images/2.png, which is not there"):
        captures.nerfstudio(tmp_path, on_missing="raise")


PLY = """ply
format ascii 1.0
element vertex 1
property float x
property float y
property float z
property uchar red
property uchar green
property uchar blue
end_header
1 2 3 255 0 0
"""


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda t: t.pop("fl_x"), r"frames\[0\]: neither fl_x nor camera_angle_x"),
        (lambda t: t.update(camera_model="EQUIRECTANGULAR"), "camera_model 'EQUIRECTANGULAR' is none of"),
        (lambda t: t["frames"][2].pop("transform_matrix"), r"frames\[2\] has no transform_matrix"),
        (lambda t: t["frames"][1].update(transform_matrix=[[1, 2], [3, 4]]), r"frames\[1\]: transform_matrix must be 4×4"),
        (lambda t: t["frames"][1]["transform_matrix"][0].__setitem__(0, 9.0), r"frames\[1\]: camera-to-world is not a rigid"),
        (lambda t: t.update(k1=-9.0, k2=-9.0), "leaves no pinhole view inside 80×60"),
        (lambda t: t.pop("frames"), 'has no list "frames"'),
    ],
)
def test_a_broken_transforms_file_is_refused_with_its_frame(tmp_path, change, message):
    table = write_nerfstudio(tmp_path)
    change(table)
    (tmp_path / "transforms.json").write_text(json.dumps(table))
    with pytest.raises(ValueError, match=message):
        captures.nerfstudio(tmp_path)


def test_a_cut_transforms_file_and_an_empty_folder_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="has no transforms.json and no transforms_train.json"):
        captures.nerfstudio(tmp_path)
    write_nerfstudio(tmp_path)
    text = (tmp_path / "transforms.json").read_text()
    (tmp_path / "transforms.json").write_text(text[:200])
    with pytest.raises(ValueError, match=r"transforms.json is not JSON: .* line \d+"):
        captures.nerfstudio(tmp_path)


def test_scannetpp_in_the_papers_layout_has_masks_points_and_the_train_list(tmp_path):
    scene_folder = tmp_path / "0a1b2c"
    table = write_nerfstudio(scene_folder, file="transforms_train.json")
    for entry in table["frames"]:
        pose = np.array(entry["transform_matrix"])[[1, 0, 2, 3]]  # as ScanNet++ turns its world
        pose[2] *= -1
        entry |= {"file_path": entry["file_path"][7:], "mask_path": entry["file_path"][7:], "transform_matrix": pose.tolist()}
    table["test_frames"] = table["frames"][3:]
    table["frames"] = table["frames"][:3]
    table["frames"][0]["is_bad"] = True
    (scene_folder / "transforms_train.json").write_text(json.dumps(table))
    (scene_folder / "masks").mkdir()
    for i in range(VIEWS):
        mask = np.full((HEIGHT, WIDTH), 255, np.uint8)
        mask[10:20, i : i + 10] = 0
        Image.fromarray(mask).save(scene_folder / f"masks/{i}.png")
    (scene_folder / "points3D.txt").write_text("# points\n7 1.0 2.0 0.5 255 0 51 0.25 1 5 2 7 3 9\n")
    scene = captures.scannetpp(scene_folder)
    same_place(scene)
    assert scene.metric and scene.report.used == ("1.png", "2.png", "3.png", "4.png")
    assert scene.report.skipped == {"0.png": "marked as bad in the file"}
    assert [int((~mask).sum()) for mask in scene.masks] == [100] * 4
    assert scene.points.track_length.tolist() == [3] and scene.points.error.tolist() == [0.25]
    (tmp_path / "train.txt").write_text("0a1b2c_1\n0a1b2c_4\nother_2\n")
    assert captures.scannetpp(scene_folder, train_list=tmp_path / "train.txt").report.used == ("1.png", "4.png")
    assert captures.scannetpp(scene_folder, split="test").report.used == ("3.png", "4.png")
    with pytest.raises(ValueError, match="split must be"):
        captures.scannetpp(scene_folder, split="val")


@pytest.mark.parametrize("layout", ["7-Scenes", "poses/"])
def test_one_pose_a_file_and_depth_through_another_lens(tmp_path, layout):
    depth_lens = pycolmap.Camera(model="PINHOLE", width=40, height=30, params=[37.0, 37.0, 20.5, 14.5])
    flat = layout == "7-Scenes"
    names = ("{}.color.png", "{}.depth.png", "{}.pose.txt") if flat else ("images/{}.png", "depth/{}.png", "poses/{}.txt")
    for i in range(VIEWS):
        photo, depth, pose = (tmp_path / name.format(f"frame-{i:06d}") for name in names)
        for path in (photo, depth, pose):
            path.parent.mkdir(exist_ok=True)
        Image.fromarray(draw(camera_at(i))[0]).save(photo)
        Image.fromarray((draw(camera_at(i), depth_lens)[1] * 1000).round().astype(np.uint16)).save(depth)
        np.savetxt(pose, camera_at(i).camera_to_world.double().numpy())
    np.savetxt(tmp_path / ("camera-intrinsics.txt" if flat else "K.txt"), [[69.282, 0, 40], [0, 69.282, 30], [0, 0, 1]])
    with (
        pytest.warns(UserWarning, match="a K of photos of another size"),
        pytest.raises(ValueError, match="is 30×40 .H×W. but its photo is 60×80: .* K_depth.txt"),
    ):
        captures.rgbd(tmp_path)
    np.savetxt(tmp_path / "K_depth.txt", [[37.0, 0, 20.5], [0, 37.0, 14.5], [0, 0, 1]])
    (tmp_path / names[2].format("frame-000001")).unlink()
    np.savetxt(tmp_path / names[2].format("frame-000003"), np.full((4, 4), -np.inf))
    with pytest.warns(UserWarning, match="of 1 of 4 frames look lost"):
        scene = captures.rgbd(tmp_path)
    same_place(scene)
    assert len(scene) == 3 and len(scene.report.skipped) == 2 and (scene.depths > 0).float().mean() > 0.8
    (tmp_path / names[2].format("frame-000002")).write_text("1 0 0")
    with pytest.raises(ValueError, match="frame-000002.* must hold the 16 numbers"):
        captures.rgbd(tmp_path)


@pytest.mark.parametrize("ending, offset", [("png", 0.0), ("pgm", 0.004)])
def test_tum_pairs_clocks_and_interpolates_poses(tmp_path, ending, offset):
    scene = captures.tum(write_tum(tmp_path, offset, ending))
    same_place(scene)
    assert len(scene) == VIEWS and scene.metric and scene.depths.min() > 0.3
    for i, camera in enumerate(scene.cameras):  # no pose was written for these very times
        torch.testing.assert_close(camera.world_to_camera.float(), camera_at(i).world_to_camera, atol=2e-3, rtol=0)


def test_tum_leaves_out_what_has_no_partner_in_time_and_says_so(tmp_path):
    write_tum(tmp_path)
    poses = (tmp_path / "groundtruth.txt").read_text().splitlines()
    poses = [row for row in poses if row[0] == "#" or not 0.25 < float(row.split()[0]) < 0.36]
    (tmp_path / "groundtruth.txt").write_text("\n".join(poses))
    depth = (tmp_path / "depth.txt").read_text().splitlines()
    (tmp_path / "depth.txt").write_text("\n".join(depth[:2] + depth[3:]))
    (tmp_path / "rgb/4.png").unlink()
    scene = captures.tum(tmp_path)
    assert scene.report.used == ("rgb/0.png", "rgb/2.png")
    assert scene.report.skipped["rgb/1.png"].startswith("the nearest depth map is 0.100 s away")
    assert scene.report.skipped["rgb/3.png"].startswith("no pose near in time") and "rgb/4.png" in scene.report.skipped
    with pytest.raises(ValueError, match="rgb.txt, line 3: the nearest depth map is 0.100 s away"):
        captures.tum(tmp_path, on_missing="raise")
    with pytest.raises(ValueError, match="none of its 5 frames can be used"):
        captures.tum(tmp_path, max_gap=-1)


def test_tum_knows_the_lens_of_freiburg_and_names_broken_lines(tmp_path):
    quarter = [v / 4 for v in (517.3, 516.5, 319.1, 255.8)]  # photos are 640×480; a quarter of that does here
    distortion = [0.2624, -0.9531, -0.0054, 0.0026, 1.1633, 0, 0, 0]
    lens = pycolmap.Camera(model="FULL_OPENCV", width=160, height=120, params=quarter + distortion)
    folder = write_tum(tmp_path / "rgbd_dataset_freiburg1_box", lens=lens)
    (folder / "K.txt").unlink()
    same_place(captures.tum(folder, frames=[1, 3]), 0.02)
    moved = folder.rename(tmp_path / "box")
    with pytest.raises(ValueError, match="Which camera took"):
        captures.tum(moved)
    with open(moved / "groundtruth.txt", "a") as file:
        file.write("\n9.0 1 2 3 0 0 0 0")
    with pytest.raises(ValueError, match=r"groundtruth.txt, line \d+ is not seconds, three metres and a quaternion"):
        captures.tum(moved, camera="freiburg1")
    (moved / "depth.txt").write_text("0.0\n")
    with pytest.raises(ValueError, match='depth.txt, line 1 is not "seconds file"'):
        captures.tum(moved, camera="freiburg1")
    with pytest.raises(FileNotFoundError, match="known by name are fr1/desk"):
        captures.tum("fr9/attic")


def test_an_archive_is_unpacked_into_its_folder_and_never_out_of_it(tmp_path):
    good = tmp_path / "mine.zip"
    with zipfile.ZipFile(good, "w") as archive:
        archive.writestr("box/images/0.png", b"photo")
        archive.writestr("__MACOSX/box/._0.png", b"junk")
    folder = captures.unpack(good)
    assert folder == tmp_path / "mine" and (folder / "images/0.png").read_bytes() == b"photo"
    for name in ("../evil.txt", "a/../../evil.txt", "/evil.txt", "..\\evil.txt", "C:/evil.txt"):
        with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
            archive.writestr("fine.txt", b"fine")
            archive.writestr(name, b"evil")
        with pytest.raises(ValueError, match="leads out of the folder"):
            captures.unpack(tmp_path / "bad.zip")
    with tarfile.open(tmp_path / "bad.tgz", "w:gz") as archive:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc"
        archive.addfile(link)
    with pytest.raises(ValueError, match="is a link or a device"):
        captures.unpack(tmp_path / "bad.tgz")
    with tarfile.open(tmp_path / "good.tgz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("a/b.txt"), io.BytesIO())
    assert (captures.unpack(tmp_path / "good.tgz", tmp_path / "there") / "b.txt").is_file()
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(70 * 2**20))
    with pytest.raises(ValueError, match="it would grow to 70 MB"):
        captures.unpack(tmp_path / "bomb.zip")
    (tmp_path / "cut.zip").write_bytes(good.read_bytes()[:60])
    with pytest.raises(ValueError, match="cut.zip is no .zip"):
        captures.unpack(tmp_path / "cut.zip")
    left = {p.name for p in tmp_path.iterdir()}
    assert left == {"mine", "mine.zip", "bad.zip", "bad.tgz", "good.tgz", "there", "bomb.zip", "cut.zip"}
