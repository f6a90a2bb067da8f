"""Captures: a box-shaped room in closed form, written to disk and read back; the office from a stand-in repository."""

import importlib
import re
import shutil
import socket
import threading
import warnings
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fit3d_lite import captures
from fit3d_lite.base import download as downloads
from fit3d_lite.base.download import DownloadError, hash_file
from fit3d_lite.captures.reading import counting_order
from fit3d_lite.scenes.camera import Camera
from fit3d_lite.scenes.poses import agreement

office_file = importlib.import_module("fit3d_lite.captures.office")  # the room exports a function of that name
BOX = torch.tensor([4.0, 3.0, 2.5])  # metres; the room is [0, 4] × [0, 3] × [0, 2.5] and cameras stand inside
HEIGHT, WIDTH = 60, 90


def box_camera(i):
    eye = (1.0 + 0.2 * i, 1.4 + 0.03 * i, 1.2)
    return Camera.look_at(eye, (3.6, 2.2 - 0.1 * i, 1.0), fov_x=70, width=WIDTH, height=HEIGHT)


def box_view(camera):
    """Exact depth [H, W] to the walls, and a photo [H, W, 3] whose color is the position on the wall."""
    origin, directions = camera.rays(dtype=torch.float64)
    walls = torch.where(directions > 0, BOX.double(), torch.zeros(3).double())
    depth = ((walls - origin) / directions).amin(-1)
    return depth, (origin + depth[..., None] * directions) / BOX


def turning_camera(i):
    """A walk with steps and turns of different lengths, on which one frame is not like the next."""
    eye, angle = (1.2 + 0.9 * np.sin(0.7 * i**1.3), 1.4 + 0.7 * np.sin(1.1 * i), 1.2), 0.35 * i * (1 + i / 6)
    return Camera.look_at(eye, np.add(eye, (np.cos(angle), np.sin(angle), 0)), fov_x=70, width=WIDTH, height=HEIGHT)


def write_capture(folder, stems, ending=".png", decimals=9, poses="camera_to_world", camera=box_camera):
    cameras = [camera(i) for i in range(len(stems))]
    for part in ("images", "depth"):
        (folder / part).mkdir(parents=True)
    for stem, camera in zip(stems, cameras):
        depth, color = box_view(camera)
        Image.fromarray((color * 255).round().byte().numpy()).save(folder / "images" / f"{stem}{ending}")
        Image.fromarray((depth * 1000).round().numpy().astype(np.uint16)).save(folder / "depth" / f"{stem}.png")
    rows = [getattr(camera, poses).flatten().tolist() for camera in cameras]
    (folder / "poses.txt").write_text("".join(" ".join(f"{v:.{decimals}f}" for v in row) + "\n" for row in rows))
    np.savetxt(folder / "K.txt", cameras[0].K.numpy())
    return folder


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write_capture(tmp_path_factory.mktemp("capture") / "box", [f"{i:05d}" for i in range(8)])


@pytest.fixture
def box(written, tmp_path):
    """A copy of the capture that a test may damage."""
    return Path(shutil.copytree(written, tmp_path / "box"))


def color_error(scene, i, j):
    """Mean difference in color between pixels of view i and where their 3D points land in view j."""
    points = scene.cameras[i].unproject(scene.depths[i]).reshape(-1, 3)
    pixels, depth = scene.cameras[j].project(points)
    u, v = pixels.floor().long().unbind(1)
    seen = (depth > 0) & (u >= 0) & (u < scene.width) & (v >= 0) & (v < scene.height)
    assert seen.float().mean() > 0.3
    here = scene.images[i].flatten(1).T[seen]
    return float((here - scene.images[j][:, v[seen], u[seen]].T).abs().mean())


def test_depths_unproject_onto_the_walls_of_the_room(written):
    scene = captures.rgbd(written)
    assert (len(scene), scene.height, scene.width, scene.name) == (8, HEIGHT, WIDTH, "box")
    for view in scene:
        points = view.camera.unproject(view.depth)
        to_wall = torch.minimum(points.abs(), (points - BOX).abs()).amin(-1)
        assert to_wall.max() < 2e-3  # depth files are whole millimetres
        # The color is the position: photo, depth and pose belong together.
        assert (view.image.permute(1, 2, 0) - points / BOX).abs().max() < 0.005


def test_views_agree_with_each_other_at_full_and_at_other_sizes(written):
    # A pixel is 0.02 to 0.05 m of wall, 0.01 in color; a wrong pose or a K left unscaled gives 0.1 and more.
    for size in (None, 30, (45, 80)):
        scene = captures.rgbd(written, size=size)
        assert color_error(scene, 0, 2) < 0.02, size
        assert color_error(scene, 5, 3) < 0.02, size


def test_frames_without_zeros_in_front_are_in_counting_order():
    names = [f"{i}.jpg" for i in range(12)]
    assert sorted(sorted(names), key=counting_order) == names  # 2 before 10
    assert sorted(["b_09.png", "b_10.png", "a_11.png"], key=counting_order) == ["a_11.png", "b_09.png", "b_10.png"]


def test_no_reading_is_unknown_and_photos_of_sixteen_bits_are_refused(box):
    file = box / "depth/00002.png"
    depth = np.array(Image.open(file))
    depth[:5] = 65535
    Image.fromarray(depth).save(file)
    scene = captures.rgbd(box)
    assert (scene.depths[2, :5] == 0).all() and (scene.depths[2, 5:] > 0).all()
    grey = np.linspace(0, 65535, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype(np.uint16)
    Image.fromarray(grey).save(box / "images/00002.png")
    with pytest.raises(ValueError, match="00002.png has more than 8 bits a color"):
        captures.rgbd(box)


def test_size_is_the_short_side_or_both_sides_and_resizes_like_a_scene(written):
    scene = captures.rgbd(written)
    for size, (height, width) in ((30, (30, 45)), ((20, 50), (20, 50))):
        small, expected = captures.rgbd(written, size=size), scene.resized(width, height)
        torch.testing.assert_close(small.images, expected.images)
        torch.testing.assert_close(small.depths, expected.depths, rtol=0, atol=0)
        torch.testing.assert_close(small.cameras[3].K, expected.cameras[3].K)
        assert (small.cameras[3].height, small.cameras[3].width) == (height, width)
    corner = torch.tensor([[4.0, 3.0, 2.5]])
    full, half = (captures.rgbd(written, [0], size).cameras[0].project(corner)[0] for size in (None, 30))
    torch.testing.assert_close(half, full / 2)


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        (None, [0, 1, 2, 3, 4, 5, 6, 7]),
        (slice(1, 6, 2), [1, 3, 5]),
        (range(2, 5), [2, 3, 4]),
        ([7, 0, -2], [7, 0, 6]),
        (np.array([4, 2]), [4, 2]),
        (1, [0]),
        (2, [0, 7]),
        (3, [0, 4, 7]),
        (8, [0, 1, 2, 3, 4, 5, 6, 7]),
    ],
)
def test_frames_chooses_photos_with_their_own_depths_and_cameras(written, frames, expected):
    everything, some = captures.rgbd(written), captures.rgbd(written, frames)
    torch.testing.assert_close(some.images, everything.images[expected])
    torch.testing.assert_close(some.depths, everything.depths[expected])
    for camera, i in zip(some.cameras, expected, strict=True):
        torch.testing.assert_close(camera.world_to_camera, everything.cameras[i].world_to_camera)


def rewrite_depths(folder, change):
    for file in (folder / "depth").iterdir():
        Image.fromarray(change(np.array(Image.open(file)))).save(file)


def test_depth_scale_is_units_in_a_metre(written, box):
    rewrite_depths(box, lambda depth: depth * 5)
    torch.testing.assert_close(captures.rgbd(box, 2, depth_scale=5000.0).depths, captures.rgbd(written, 2).depths)
    with pytest.raises(ValueError, match="depth_scale .* > 0, got 0"):
        captures.rgbd(written, depth_scale=0)


def test_poses_of_few_decimals_become_exact_rotations_or_are_refused(tmp_path):
    stems = ["a", "b", "c"]
    scene = captures.rgbd(write_capture(tmp_path / "four", stems, decimals=4))
    for i, camera in enumerate(scene.cameras):
        R = camera.world_to_camera[:3, :3]
        assert (R @ R.T - torch.eye(3)).abs().max() < 1e-6
        assert (camera.world_to_camera - box_camera(i).world_to_camera).abs().max() < 5e-4  # not another rotation
    with pytest.raises(
        ValueError, match=r"poses.txt, matrix 1: camera-to-world is not a rigid motion: R Rᵀ differs .* by 0\.0"
    ):
        captures.rgbd(write_capture(tmp_path / "two", stems, decimals=2))


def rewrite_poses(folder, change):
    poses = np.loadtxt(folder / "poses.txt").reshape(-1, 4, 4)
    np.savetxt(folder / "poses.txt", change(poses).reshape(len(poses), -1))


WRONG = {
    "OpenGL": (lambda poses: poses @ np.diag([1, -1, -1, 1.0]), None, "looks like OpenGL axes"),
    "world-to-camera": (np.linalg.inv, None, r"looks like camera-to-world poses \(pass pose.inverse"),
    "×10": (lambda poses: poses * TRANSLATIONS + poses * 10 * (1 - TRANSLATIONS), None, "translations .* by about 0.1"),
    "÷5": (lambda poses: poses * TRANSLATIONS + poses / 5 * (1 - TRANSLATIONS), None, "translations .* by about 5"),
    "K × 2": (None, np.diag([2.0, 2, 1]), "photos of another size .*first row by 0.5"),
    "K ÷ 2": (None, np.diag([0.5, 0.5, 1]), "photos of another size .*first row by 2"),
    "K in 0..1": (None, np.diag([1 / WIDTH, 1 / HEIGHT, 1]), "first row by 90, its second by 60"),
}
TRANSLATIONS = np.ones((4, 4))
TRANSLATIONS[:3, 3] = 0


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("frames", [None, [0, 7], 1])
def test_geometry_is_judged_on_the_captures_own_neighbours_whatever_frames_are_chosen(box, kind, frames):
    change, lens, message = WRONG[kind]
    if change:
        rewrite_poses(box, change)
    else:
        np.savetxt(box / "K.txt", lens @ np.loadtxt(box / "K.txt"))
    with pytest.raises(ValueError, match=message):
        captures.rgbd(box, frames, size=30)


def test_mirrored_photos_are_told_with_their_depth_maps_and_without(tmp_path):
    def turn(part):
        for file in (folder / part).iterdir():
            Image.fromarray(np.flip(np.array(Image.open(file)), 1).copy()).save(file)

    folder = write_capture(tmp_path / "walk", [f"{i:02d}" for i in range(10)], camera=turning_camera)
    for file in (folder / "images").iterdir():  # a pattern on the walls instead of a color that grows evenly
        place = np.array(Image.open(file)) / 255
        Image.fromarray((127 + 127 * np.sin(place * (17, 23, 29))).astype(np.uint8)).save(file)
    captures.rgbd(folder)
    turn("images")
    with pytest.raises(ValueError, match="the photos are mirrored left to right against their depth maps: .* as given by"):
        captures.rgbd(folder)
    turn("depth")
    with pytest.raises(ValueError, match="looks like photos and depth maps mirrored left to right .turn the files back"):
        captures.rgbd(folder)


def test_a_mask_chooses_frames(written):
    some = captures.rgbd(written, frames=np.arange(8) % 3 == 0, size=30)
    torch.testing.assert_close(some.images, captures.rgbd(written, frames=[0, 3, 6], size=30).images)
    torch.testing.assert_close(some[[False, True, True]].images, some.images[1:])
    with pytest.raises(ValueError, match="one bool for each of the 8 photos, got 2"):
        captures.rgbd(written, frames=[True, False])


@pytest.mark.filterwarnings("error")
def test_right_geometry_is_taken_without_a_word_and_what_cannot_be_checked_is_said(box):
    for frames in (None, [0, 7], 1):
        captures.rgbd(box, frames, size=30)
    rewrite_depths(box, np.zeros_like)
    with pytest.warns(UserWarning, match="could not be checked.* 0% of their depths agree as given"):
        captures.rgbd(box, size=30)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda poses: np.roll(poses, 1, 0), "poses of the photo before .shift the lines"),
        (lambda poses: np.roll(poses, -1, 0), "poses of the photo after .shift the lines"),
        (lambda poses: poses[::-1], "poses in reverse order"),
    ],
    ids=["one later", "one earlier", "reversed"],
)
def test_poses_of_other_frames_are_refused(tmp_path, change, message):
    folder = write_capture(tmp_path / "walk", [f"{i:02d}" for i in range(10)], camera=turning_camera)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        captures.rgbd(folder)
    rewrite_poses(folder, change)
    with pytest.raises(ValueError, match=message):
        captures.rgbd(folder, [2])


def test_exchanged_cx_and_cy_are_refused(tmp_path):
    folder = write_capture(tmp_path / "walk", [f"{i:02d}" for i in range(10)], camera=turning_camera)
    K = np.loadtxt(folder / "K.txt")
    K[:2, 2] = K[1::-1, 2]
    np.savetxt(folder / "K.txt", K)
    with pytest.raises(ValueError, match="a K with cx and cy exchanged"):
        captures.rgbd(folder)


def test_one_lost_pose_is_named_where_its_frame_is_used(box):
    def lose(poses):
        poses[3] = np.eye(4)
        return poses

    rewrite_poses(box, lose)
    with pytest.warns(UserWarning, match=r"of 1 of 8 frames look lost: 00003 \(pose 4: .* agree, .* midway .* left out"):
        scene = captures.rgbd(box)
    assert len(scene) == 7 and list(scene.report.skipped) == ["00003"]
    with pytest.raises(ValueError, match="1 of 8 frames look lost: 00003"):
        captures.rgbd(box, on_missing="raise")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        captures.rgbd(box, [0, 1, 6])


@pytest.mark.parametrize("factors", [[2, 2, 1], [1 / WIDTH, 1 / HEIGHT, 1]])
def test_a_principal_point_outside_the_photo_is_refused_where_no_neighbour_can_tell(box, factors):
    np.savetxt(box / "K.txt", np.diag(factors) @ np.loadtxt(box / "K.txt"))
    rewrite_depths(box, np.zeros_like)
    with pytest.warns(UserWarning), pytest.raises(ValueError, match=r"K.txt puts the principal point at \((90, 60|0.5, 0.5)\)"):
        captures.rgbd(box)


def test_poses_and_K_in_the_ways_other_programs_write_them(written, box):
    poses, K = np.loadtxt(box / "poses.txt").reshape(-1, 4, 4), np.loadtxt(box / "K.txt")
    rows = [", ".join(map(str, pose[:3].flatten())) for pose in poses]
    (box / "poses.txt").write_text("# 3×4\n" + "\n".join(rows), encoding="utf-8-sig")
    expected = captures.rgbd(written)
    wide = np.eye(4)
    wide[:3, :3] = K
    for matrix, options in ((K, {"delimiter": ","}), (wide[:3], {}), (wide, {"delimiter": ", "})):
        np.savetxt(box / "K.txt", matrix, **options)
        for mine, right in zip(captures.rgbd(box).cameras, expected.cameras, strict=True):
            torch.testing.assert_close(mine.K, right.K)
            torch.testing.assert_close(mine.world_to_camera, right.world_to_camera)
    (box / "poses.txt").write_text("\n".join(rows), encoding="utf-16")
    with pytest.raises(ValueError, match="poses.txt is not text in UTF-8"):
        captures.rgbd(box)


def test_photos_are_turned_upright_and_webp_is_read(written, box):
    upright = captures.rgbd(written)
    file = box / "images/00003.png"
    turned, exif = Image.open(file).transpose(Image.Transpose.ROTATE_90), Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    file.unlink()
    turned.save(box / "images/00003.webp", lossless=True, exif=exif)
    torch.testing.assert_close(captures.rgbd(box).images, upright.images)


def test_a_picture_that_breaks_inside_pillow_is_named(box):
    file = box / "images/00002.png"
    content = bytearray(file.read_bytes())
    start = content.index(b"IDAT") - 4
    half = int.from_bytes(content[start : start + 4], "big") // 2
    content[start : start + 4] = half.to_bytes(4, "big")  # the next chunk then starts amid pixels: a SyntaxError
    file.write_bytes(content)
    with pytest.raises(ValueError, match="00002.png cannot be read as a photo"):
        captures.rgbd(box)


def test_world_to_camera_poses_are_refused_by_their_depths(tmp_path):
    folder = write_capture(tmp_path / "inverse", [f"{i}" for i in range(6)], poses="world_to_camera")
    with pytest.raises(
        ValueError, match=r"read as camera-to-world and inverted.*contradict the depths.*pose\.inverse\(\)"
    ):
        captures.rgbd(folder)


def remove(name):
    return lambda folder: (folder / name).unlink()


def rewrite(name, text):
    return lambda folder: (folder / name).write_text(text)


def change_line(name, old, new):
    return lambda folder: (folder / name).write_text(re.sub(old, new, (folder / name).read_text(), count=1))


def save(name, array):
    return lambda folder: Image.fromarray(array).save(folder / name)


def drop_pose(folder):
    lines = (folder / "poses.txt").read_text().splitlines()
    (folder / "poses.txt").write_text("\n".join(lines[:-1]))


def add_pose(folder):
    with open(folder / "poses.txt", "a") as file:
        file.write(" ".join(map(str, np.eye(4).flatten())) + "\n")


SMALL, GREY = np.zeros((30, 45), np.uint16), np.zeros((HEIGHT, WIDTH), np.uint8)
REFUSALS = {
    "no folder": (shutil.rmtree, FileNotFoundError, "There is no folder .*box"),
    "no K": (remove("K.txt"), FileNotFoundError, "box has no K.txt: a capture needs"),
    "no depth folder": (lambda f: shutil.rmtree(f / "depth"), FileNotFoundError, "box has no depth"),
    "no photos": (lambda f: [p.unlink() for p in (f / "images").iterdir()], ValueError, r"images has no photos \(.png"),
    "photo without depth": (
        remove("depth/00003.png"),
        ValueError,
        "8 photos, 7 depth maps and 8 poses: photo 00003 has no depth map",
    ),
    "depth without photo": (remove("images/00002.png"), ValueError, "7 photos, 8 depth.* depth map 00002 has no photo"),
    "pose missing": (drop_pose, ValueError, "8 depth maps and 7 poses: photo 00007.png is the first without a line"),
    "pose too many": (
        add_pose,
        ValueError,
        "8 depth maps and 9 poses: line 9 of poses.txt is the first without a photo",
    ),
    "two photos": (save("images/00001.jpg", GREY), ValueError, "two photos named 00001"),
    "8-bit depth": (save("depth/00004.png", GREY), ValueError, r"00004.png is 8-bit \(mode L\).*16-bit"),
    "color depth": (save("depth/00000.png", np.zeros((60, 90, 3), np.uint8)), ValueError, r"8-bit \(mode RGB\)"),
    "small depth": (save("depth/00001.png", SMALL), ValueError, r"00001.png is 30×45 \(H×W\) but its photo is 60×90"),
    "small photo": (save("images/00001.png", GREY[:30]), ValueError, r"30×90 \(H×W\) but the first photo is 60×90"),
    "broken photo": (rewrite("images/00002.png", "<html>"), ValueError, "00002.png cannot be read as a photo"),
    "broken depth": (rewrite("depth/00002.png", "<html>"), ValueError, "00002.png cannot be read as a depth map"),
    "K of 4 numbers": (rewrite("K.txt", "64 64 45 30\n"), ValueError, r"K.txt must hold a 3×3 .*1 rows of \[4\]"),
    "K of words": (rewrite("K.txt", "fx 0 0\n0 1 0\n0 0 1\n"), ValueError, "K.txt: could not convert.*'fx'.*3×3"),
    "K of negative focal": (rewrite("K.txt", "-64 0 45\n0 64 30\n0 0 1\n"), ValueError, "fx=-64"),
    "pose of 15 numbers": (change_line("poses.txt", r" \S+\n", "\n"), ValueError, "line 1 has 15 numbers"),
    "pose of words": (change_line("poses.txt", r"^\S+", "x"), ValueError, "line 1: could not convert.*'x'"),
    "scaled pose": (
        change_line("poses.txt", r"^\S+", "7"),
        ValueError,
        "matrix 1: camera-to-world is not a rigid motion",
    ),
}


@pytest.mark.parametrize("damage", REFUSALS)
def test_a_damaged_capture_is_refused_in_one_sentence(box, damage):
    break_it, kind, message = REFUSALS[damage]
    break_it(box)
    with pytest.raises(kind, match=message) as caught:
        captures.rgbd(box)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frames": [3, 8]}, r"position 8 is outside the 8 photos \(0 to 7\)"),
        ({"frames": [-9]}, "position -9 is outside the 8 photos"),
        ({"frames": []}, "chooses none of the"),
        ({"frames": 9}, "frames=9 asks for 9 evenly spaced photos; there are 8"),
        ({"frames": 0}, "frames=0"),
        ({"frames": slice(8, 20)}, r"slice\(8, 20, None\) chooses none of the 8"),
        ({"size": 0}, "size is .*got 0"),
        ({"size": (10, 20, 3)}, r"size is .*got \(10, 20, 3\)"),
        ({"size": "large"}, "size is .*got 'large'"),
    ],
)
def test_frames_and_sizes_that_cannot_be_are_refused(written, options, message):
    with pytest.raises(ValueError, match=message):
        captures.rgbd(written, **options)


def test_a_lost_camera_harms_only_its_own_frame(box):
    change_line("poses.txt", r"^\S+", "-inf")(box)
    assert len(captures.rgbd(box, slice(1, None))) == 7
    with pytest.warns(UserWarning, match="of 1 of 2 frames look lost: 00000 .*matrix 1 has NaN or infinite numbers"):
        assert captures.rgbd(box, [0, 2]).report.used == ("00002",)
    with pytest.raises(ValueError, match="the poses of all 1 frames chosen are lost"), pytest.warns(UserWarning):
        captures.rgbd(box, [0])


# --- the office, from a stand-in for its repository ---


class Repository:
    """Serves a folder with Range requests, and notes what was asked for."""

    def __init__(self, root, prefix):
        self.asked, self.cut, repository = [], {}, self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                path = self.path.removeprefix(prefix)
                start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").removesuffix("-"))
                repository.asked.append((path, start))
                if path == self.path or not (root / path).is_file():
                    return self.send_error(404)
                content = (root / path).read_bytes()
                self.send_response(206 if start else 200)
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
                self.send_header("Content-Length", str(len(content) - start))
                self.end_headers()
                self.wfile.write(content[start : repository.cut.pop(path, None)])

            def log_message(self, *args):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()


STEMS = [f"{i:05d}" for i in (3, 4, 5, 6, 7, 9, 10, 11, 12)]  # with a gap, as the original; every fourth: 3, 7, 12


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return write_capture(tmp_path_factory.mktemp("original") / "000", STEMS)


@pytest.fixture
def no_copies(monkeypatch):
    monkeypatch.delenv("FIT3D_OFFICE", raising=False)
    monkeypatch.delenv("FIT3D_OFFLINE", raising=False)


@pytest.fixture
def repository(original, no_copies, monkeypatch):
    table = {"repository": "someone/captures", "commit": "c0ffee", "folder": "sample/000"}
    paths = [p for p in original.rglob("*") if p.is_file()]
    files = {str(p.relative_to(original)): [p.stat().st_size, hash_file(p, "git_blob")] for p in paths}
    table["files"] = files
    served = Repository(original, "/someone/captures/c0ffee/sample/000/")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(office_file, "upstream", lambda: table)
    monkeypatch.setattr(office_file, "HOST", f"http://127.0.0.1:{served.http.server_port}")
    monkeypatch.setattr(downloads, "Event", type("AtOnce", (threading.Event,), {"wait": lambda self, seconds: None}))
    served.files = files
    yield served
    served.http.shutdown()
    served.http.server_close()


def test_only_the_frames_asked_for_are_downloaded_and_only_once(repository, original, tmp_path):
    assert captures.find_office([0, 2]) is None
    scene = captures.office([0, 2])
    wanted = {"K.txt", "poses.txt"} | {
        f"{part}/{stem}.png" for part in ("images", "depth") for stem in ("00003", "00012")
    }
    assert {path for path, _ in repository.asked} == wanted and len(repository.asked) == 6
    expected = captures.rgbd(original, [0, 8])
    torch.testing.assert_close(scene.images, expected.images)
    torch.testing.assert_close(scene.depths, expected.depths)
    torch.testing.assert_close(scene.cameras[1].world_to_camera, expected.cameras[1].world_to_camera)
    assert captures.find_office([0, 2]) == tmp_path / "fit3d_cache" / "office"
    assert captures.find_office() is None, "position 1 is not there"
    captures.office([2, 0], size=30)
    assert len(repository.asked) == 6, "what is there is not asked for again"
    captures.office()
    assert sorted(path for path, _ in repository.asked[6:]) == ["depth/00007.png", "images/00007.png"]  # by threads


def test_what_is_there_needs_no_network(repository, monkeypatch, tmp_path):
    captures.office(slice(0, 2))
    asked = len(repository.asked)
    monkeypatch.setenv("FIT3D_OFFLINE", "1")
    assert len(captures.office(slice(0, 2))) == 2 and len(repository.asked) == asked
    with pytest.raises(
        DownloadError, match=r"2 files \(0\.0 MB\) .*no network: put a copy at .*office or name .*FIT3D_OFFICE.*room"
    ):
        captures.office()


def test_a_cut_and_a_stopped_download_continue_where_they_broke(repository, tmp_path, original):
    folder = tmp_path / "fit3d_cache" / "office"
    (folder / "depth").mkdir(parents=True)
    (folder / "depth" / "00003.png.partial").write_bytes((original / "depth" / "00003.png").read_bytes()[:100])
    repository.cut["images/00003.png"] = 150
    captures.office([0])
    assert ("depth/00003.png", 100) in repository.asked and ("depth/00003.png", 0) not in repository.asked
    assert ("images/00003.png", 0) in repository.asked and ("images/00003.png", 150) in repository.asked
    assert (folder / "images" / "00003.png").read_bytes() == (original / "images" / "00003.png").read_bytes()


def test_a_file_with_another_git_blob_is_not_kept(repository, tmp_path):
    repository.files["depth/00003.png"][1] = "0" * 40
    with pytest.raises(DownloadError, match="depth/00003.png has git_blob .* where 0000"):
        captures.office([0])
    assert not list((tmp_path / "fit3d_cache" / "office" / "depth").iterdir())


def test_every_counts_the_photos_of_the_original(repository, original):
    torch.testing.assert_close(captures.office([1], every=1).images, captures.rgbd(original, [1]).images)
    with pytest.raises(ValueError, match="position 9 is outside the 9 photos"):
        captures.office([9], every=1)
    with pytest.raises(ValueError, match="every must be a whole number from 1 up, got 0"):
        captures.office(every=0)


def smaller_copy(original, folder):
    """Every fourth frame only, photos as JPEG, one line of poses.txt a frame."""
    for part in ("images", "depth"):
        (folder / part).mkdir(parents=True)
    for stem in STEMS[::4]:
        shutil.copy(original / "depth" / f"{stem}.png", folder / "depth")
        Image.open(original / "images" / f"{stem}.png").save(folder / "images" / f"{stem}.jpg", quality=95)
    lines = (original / "poses.txt").read_text().splitlines()
    (folder / "poses.txt").write_text("\n".join(lines[::4]))
    shutil.copy(original / "K.txt", folder)
    return folder


def test_a_smaller_copy_in_the_cache_is_not_mixed_with_downloads(repository, original, tmp_path):
    folder = smaller_copy(original, tmp_path / "fit3d_cache" / "office")
    before = sorted(folder.rglob("*"))
    with pytest.raises(DownloadError, match="office with 3 frames, not all of the 2 asked for: move it away"):
        captures.office([0, 1], every=1)
    assert repository.asked == [] and sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("where", ["cache", "FIT3D_OFFICE"])
def test_a_smaller_copy_gives_the_same_frames_wherever_it_lies(repository, original, tmp_path, monkeypatch, where):
    folder = tmp_path / ("fit3d_cache/office" if where == "cache" else "elsewhere")
    smaller_copy(original, folder)
    if where == "FIT3D_OFFICE":
        monkeypatch.setenv("FIT3D_OFFICE", str(folder))
    assert captures.find_office() == folder and captures.find_office(every=1) is None
    copy, whole = captures.office([1, 2]), captures.rgbd(original, [4, 8])
    assert (copy.images - whole.images).abs().mean() < 0.02  # JPEG
    torch.testing.assert_close(copy.depths, whole.depths)
    torch.testing.assert_close(copy.cameras[1].world_to_camera, whole.cameras[1].world_to_camera)
    assert repository.asked == []


def test_a_wrong_FIT3D_OFFICE_is_said_and_not_passed_over(no_copies, monkeypatch, tmp_path):
    monkeypatch.setenv("FIT3D_OFFICE", str(tmp_path))
    for call in (captures.find_office, captures.office):
        with pytest.raises(FileNotFoundError, match=f"FIT3D_OFFICE={tmp_path} is not a capture.*unset it"):
            call()


def test_without_copy_and_network_one_sentence_says_what_works(no_copies, monkeypatch, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as gone:  # nobody answers at its port once it is closed
        monkeypatch.setattr(office_file, "HOST", f"http://127.0.0.1:{gone.getsockname()[1]}")
    assert captures.find_office() is None
    with pytest.raises(
        DownloadError, match=r"34 files \(6\.\d MB\) .*put a copy at .*fit3d_cache/office .*room\(seed=0\)"
    ) as caught:
        captures.office(slice(20, 36))
    assert "\n" not in str(caught.value) and not list(tmp_path.rglob("*.png"))


def test_the_table_lists_the_whole_original():
    table = office_file.upstream()
    assert re.fullmatch("[0-9a-f]{40}", table["commit"]) and len(table["files"]) == 2 * 373 + 2
    assert all(size > 0 and re.fullmatch("[0-9a-f]{40}", blob) for size, blob in table["files"].values())
    assert sum(size for size, _ in table["files"].values()) == 143_130_625


# --- the real capture, when it is there ---


@pytest.fixture(scope="module")
def office_copy(shared):
    folder = shared / "data" / "office"
    if not folder.is_dir():
        pytest.skip("the office is not beside this checkout")
    return folder


@pytest.mark.shared
def test_neighbouring_frames_of_the_office_agree(office_copy):
    scene = captures.office(slice(20, 28), size=90)
    poses = torch.stack([camera.world_to_camera.double() for camera in scene.cameras])
    K = torch.stack([camera.K.double() for camera in scene.cameras])
    # 0.19 to 0.8 between neighbours of the whole walk, half of it in the mean; inverse poses stay below 0.1.
    assert agreement(poses, K, scene.depths) > 0.2
    assert agreement(torch.linalg.inv(poses), K, scene.depths) < 0.1


@pytest.mark.shared
def test_the_office_projects_alike_at_every_size(office_copy):
    full, small = captures.office([20, 21]), captures.office([20, 21], size=(252, 378))
    assert (small.height, small.width) == (252, 378) and full.depths.max() < 12  # the kitchen is 6.6 × 8.6 m
    points = full.cameras[0].unproject(full.depths[0])[full.depths[0] > 0]
    here, there = (scene.cameras[1].project(points)[0] for scene in (full, small))
    torch.testing.assert_close(there, here * 0.7, rtol=1e-4, atol=1e-2)


@pytest.mark.shared
def test_the_table_knows_the_depth_maps_and_names_of_the_office(office_copy):
    files = office_file.upstream()["files"]
    for path in sorted((office_copy / "depth").iterdir())[::10]:
        assert [path.stat().st_size, hash_file(path, "git_blob")] == files[f"depth/{path.name}"]
    assert office_file._stems()[::4] == sorted(path.stem for path in (office_copy / "images").iterdir())


@pytest.mark.shared
def test_inverse_poses_of_the_office_are_refused(office_copy, tmp_path):
    poses = np.loadtxt(office_copy / "poses.txt").reshape(-1, 4, 4)
    for part in ("images", "depth", "K.txt"):
        (tmp_path / part).symlink_to(office_copy / part)
    np.savetxt(tmp_path / "poses.txt", np.linalg.inv(poses).reshape(-1, 16))
    with pytest.raises(ValueError, match=r"camera-to-world poses \(pass pose.inverse\(\)\)"):
        captures.rgbd(tmp_path, slice(20, 26), size=90)
