"""Structure from motion for real, on a dozen rendered photos; what it refuses, before work is done."""

import builtins
import sys
import types
import zipfile

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from drawn_box import BOX, seen_along
from PIL import Image

from fit3d_lite import Gaussians, captures
from fit3d_lite.scenes.camera import Camera

COUNT = 12


def camera_at(i):
    eye = (0.6 + 0.1 * i, 0.5 + 0.13 * i, 1.2 + 0.05 * (i % 3))
    return Camera.look_at(eye, (3.6, 1.8, 1.0), fov_x=65, width=160, height=120)


def photo(camera):
    """The box with soft random spots on its walls, [H, W, 3]."""
    u, v = np.meshgrid(np.arange(camera.width) + 0.5, np.arange(camera.height) + 0.5)
    K = camera.K.double().numpy()
    place = seen_along(camera, (np.stack([u, v], -1).reshape(-1, 2) - K[:2, 2]) / K.diagonal()[:2])[0] * BOX
    wall = ((place.abs() < 1e-6) | ((place - BOX).abs() < 1e-6)).int().argmax(1, keepdim=True)
    across = torch.gather(place, 1, torch.cat([(wall + 1) % 3, (wall + 2) % 3], 1)) + 1.7 * wall
    spots = torch.rand(1, 3, 100, 100, generator=torch.Generator().manual_seed(0)).double()
    color = F.grid_sample(spots, across[None, None] / 3 - 1, padding_mode="reflection", align_corners=False)[0, :, 0].T
    return (color.reshape(camera.height, camera.width, 3) * 255).byte().numpy()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("film") / "mine"
    folder.mkdir()
    for i in range(COUNT):
        Image.fromarray(photo(camera_at(i))).save(folder / f"{i}.png")
    blocks = np.random.default_rng(0).integers(0, 255, (12, 16, 3), np.uint8)  # of another place
    Image.fromarray(blocks.repeat(10, 0).repeat(10, 1)).save(folder / "lost.png")
    return folder


def test_cameras_of_plain_photos_are_found_and_kept(folder, tmp_path, capfd):
    scene = captures.photos(folder, cache=tmp_path)
    assert scene.report.used == tuple(f"{i}.jpg" for i in range(COUNT)) and list(scene.report.unregistered) == ["lost.jpg"]
    assert not scene.metric and scene.depths is None and scene.name == "mine"
    true = [camera_at(i) for i in range(COUNT)]
    for a, b in ((0, 5), (3, 11)):  # how one camera is turned against another does not depend on the world
        turns = [c[a].world_to_camera[:3, :3] @ c[b].world_to_camera[:3, :3].T for c in (scene.cameras, true)]
        angle = torch.rad2deg(torch.linalg.matrix_norm(turns[0] - turns[1]) / 2**0.5)
        assert angle < 0.5
    steps = [torch.stack([(c[i].center - c[0].center).norm() for i in range(1, COUNT)]) for c in (scene.cameras, true)]
    ratio = steps[0] / steps[1]  # one unknown scale for all
    assert (ratio / ratio.median() - 1).abs().max() < 0.01
    assert scene.cameras[0].fov_x == pytest.approx(65, abs=2)
    assert len(Gaussians.from_points(scene)) > 300
    said = capfd.readouterr()
    assert "colmap" not in (said.out + said.err).lower()  # its own log is silenced
    for file in tmp_path.rglob("database.db"):
        file.unlink()  # what follows reads the finished model
    again = captures.photos(folder, cache=tmp_path, size=60)
    assert again.images.shape == (COUNT, 3, 60, 80)
    with pytest.raises(ValueError, match="12 of the 13 photos of mine registered, not lost.jpg: walk around"):
        captures.photos(folder, cache=tmp_path, on_missing="raise")


def test_a_film_gives_the_sharpest_frame_of_each_span(folder, tmp_path):
    import cv2

    film = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(film), cv2.VideoWriter_fourcc(*"MJPG"), 10, (160, 120))
    for i in range(COUNT):
        picture = cv2.imread(str(folder / f"{i}.png"))
        for strength in (9, 1, 5) if i % 2 else (1, 9, 5):  # the sharp one is not always the first
            writer.write(cv2.blur(picture, (strength, strength)))
    writer.release()
    with pytest.raises(ValueError, match="fewer than the 50 photos"):
        captures.photos(film, frames=50, cache=tmp_path)
    scene = captures.photos(film, frames=4, cache=tmp_path)
    taken = [int(name[:-4]) for name in scene.report.used]
    assert len(taken) == 4 and all(i % 3 == i // 3 % 2 for i in taken)
    (tmp_path / "no.mp4").write_bytes(b"no film")
    with pytest.raises(ValueError, match="no.mp4 cannot be read as a film"):
        captures.photos(tmp_path / "no.mp4", cache=tmp_path)


def test_sets_that_cannot_work_are_refused_before_any_work(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no"):
        captures.photos(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(ValueError, match="neither a folder, nor a .zip, nor a film"):
        captures.photos(tmp_path / "notes.txt")
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        for i in range(2):
            archive.write(folder / f"{i}.png", f"{i}.png")
    with pytest.raises(ValueError, match="has 2 photos, and cameras are found from 3 on"):
        captures.photos(tmp_path / "two.zip", cache=tmp_path)
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    for i in range(4):
        picture = Image.open(folder / f"{i}.png")
        (picture if i else picture.transpose(Image.Transpose.ROTATE_90)).save(mixed / f"{i}.png")
    with pytest.raises(ValueError, match="several shapes .3 of 160×120, 1 of 120×160, W×H.: .* all upright or all across"):
        captures.photos(mixed, cache=tmp_path)


def test_photos_of_nothing_in_common_are_refused_with_advice(tmp_path):
    rng = np.random.default_rng(1)
    for i in range(3):
        Image.fromarray(rng.integers(0, 255, (60, 80, 3), np.uint8)).save(tmp_path / f"{i}.png")
    with pytest.raises(ValueError, match="No two of the 3 photos .* share two thirds"):
        captures.photos(tmp_path, cache=tmp_path / "cache")


class DepthAnything3:
    """Its public signature (github ByteDance-Seed/Depth-Anything-3, src/depth_anything_3/api.py at 11a70dd), with the
    box in place of the network."""

    @classmethod
    def from_pretrained(cls, name):
        assert name.startswith("depth-anything/")
        return cls()

    def to(self, device):
        return self

    def inference(
        self, image, extrinsics=None, intrinsics=None, align_to_input_ext_scale=True, infer_gs=False, render_exts=None,
        render_ixts=None, render_hw=None, process_res=504, process_res_method="upper_bound_resize", export_dir=None,
        export_format="mini_npz", export_feat_layers=None, conf_thresh_percentile=40.0, num_max_points=1_000_000,
        show_cameras=True, feat_vis_fps=15, export_kwargs={},
    ):  # fmt: skip
        cameras = [camera_at(i) for i in range(len(image))]
        depth = []
        for camera in cameras:
            u, v = np.meshgrid(np.arange(camera.width) + 0.5, np.arange(camera.height) + 0.5)
            K = camera.K.double().numpy()
            rays = (np.stack([u, v], -1).reshape(-1, 2) - K[:2, 2]) / K.diagonal()[:2]
            depth.append(seen_along(camera, rays)[1].reshape(camera.height, camera.width))
        conf = np.ones((len(image), 120, 160), np.float32)
        conf[:, :2] = 0
        return types.SimpleNamespace(
            processed_images=np.stack([np.array(Image.open(path)) for path in image]),  # [N, H, W, 3] uint8
            depth=torch.stack(depth).float().numpy(),
            conf=conf,
            extrinsics=torch.stack([c.world_to_camera for c in cameras])[:, :3].numpy(),  # [N, 3, 4] world-to-camera
            intrinsics=torch.stack([c.K for c in cameras]).numpy(),
        )


def test_depth_anything_3_is_called_as_it_is_and_its_answer_is_a_scene(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "depth_anything_3", types.ModuleType("depth_anything_3"))
    monkeypatch.setitem(sys.modules, "depth_anything_3.api", types.SimpleNamespace(DepthAnything3=DepthAnything3))
    scene = captures.photos(folder, frames=slice(COUNT), size=60, method="depth-anything-3", cache=tmp_path)
    assert len(scene) == COUNT and not scene.metric and scene.images.shape[2:] == (60, 80)
    assert (scene.depths[:, 1:] > 0).all() and not (scene.depths[:, 0] > 0).any()  # least sure: unknown
    points = scene.cameras[4].unproject(scene.depths[4])[2:].reshape(-1, 3)
    assert torch.minimum(points.abs(), (points - BOX).abs()).amin(-1).median() < 0.02
    with pytest.raises(ValueError, match='method is "colmap" or "depth-anything-3"'):
        captures.photos(folder, method="mvs")


@pytest.mark.parametrize(
    "module, method, message",
    [
        ("pycolmap", "colmap", "pycolmap, which is not installed: pip install pycolmap"),
        ("depth_anything_3", "depth-anything-3", "Depth Anything 3 is not installed: pip install"),
    ],
)
def test_a_missing_package_is_named_with_its_remedy(folder, monkeypatch, module, method, message):
    find = builtins.__import__

    def without(name, *args, **options):
        if name.split(".")[0] == module:
            raise ImportError(name)
        return find(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ModuleNotFoundError, match=message):
        captures.photos(folder, method=method)
