"""NYUv2: a file of the original's format with a few frames written, compared with the arrays that went in."""

import hashlib
import importlib
import pickle
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import h5py
import numpy as np
import pytest
import torch

from fit3d_lite import DownloadError, captures
from fit3d_lite.scenes.scene import IGNORE

nyu = importlib.import_module("fit3d_lite.captures.nyu")  # the room exports a function of that name
FRAMES = (0, 2, 1447)  # written; 0 and 1447 are of the test split, 2 is not
NAMED = {number: name for name, number in nyu.facts()["classes_40"].items() if isinstance(number, int)}


def arrays(frame):
    """image [480, 640, 3], depth [480, 640], measured depth, raw label, rows first as everybody but MATLAB has them."""
    dice = np.random.default_rng(frame)
    image = dice.integers(0, 256, (480, 640, 3), dtype=np.uint8)
    depth = dice.uniform(0.5, 9.5, (480, 640)).astype(np.float32)
    measured = np.where(dice.random((480, 640)) < 0.2, 0, depth).astype(np.float32)
    return image, depth, measured, dice.integers(0, 895, (480, 640), dtype=np.uint16)


@pytest.fixture(scope="session")
def mat(tmp_path_factory):
    """The format of the 3 GB file at its full shape: frames never written take no room in HDF5."""
    path = tmp_path_factory.mktemp("nyu") / nyu.FILE
    with h5py.File(path, "w", libver="latest") as file:
        make = partial(file.create_dataset, compression="gzip", compression_opts=1)
        make("images", (1449, 3, 640, 480), "u1", chunks=(1, 3, 640, 480))
        for key, kind in (("depths", "f4"), ("rawDepths", "f4"), ("labels", "u2")):
            make(key, (1449, 640, 480), kind, chunks=(1, 640, 480))
        for frame in FRAMES:
            image, depth, measured, label = arrays(frame)
            file["images"][frame] = image.transpose(2, 1, 0)
            for key, values in (("depths", depth), ("rawDepths", measured), ("labels", label)):
                file[key][frame] = values.T
        names = file.create_dataset("names", (1, 894), h5py.ref_dtype)
        for number in range(1, 895):
            text = file.create_dataset(f"#refs#/{number}", data=[[ord(c)] for c in NAMED.get(number, f"raw {number}")])
            names[0, number - 1] = text.ref
    return path


def changed(mat, tmp_path, change):
    path = tmp_path / "changed.mat"
    path.write_bytes(mat.read_bytes())
    with h5py.File(path, "r+") as file:
        change(file)
    return path


def test_a_photo_its_depth_and_its_labels_come_back_the_right_way_round(mat):
    data = captures.nyu(mat, split="all", classes=40, crop=None)
    image, depth, _, label = arrays(2)
    example = data[2]
    assert torch.equal(example.image, torch.from_numpy(image).permute(2, 0, 1) / 255)
    assert torch.equal(example.depth, torch.from_numpy(depth))
    assert torch.equal(example.label == IGNORE, torch.from_numpy(label == 0))
    for raw, name in ((21, "wall"), (5, "chair"), (157, "bed"), (8, "otherstructure"), (12, "otherfurniture"), (1, "otherprop")):
        assert (example.label[torch.from_numpy(label == raw)] == data.classes.index(name)).all(), name


def test_the_thirteen_classes_group_the_forty_in_the_order_of_the_paper(mat):
    fine, coarse = (captures.nyu(mat, "all", classes=n) for n in (40, 13))
    assert coarse.classes == (
        "bed", "books", "ceiling", "chair", "floor", "furniture", "objects", "painting", "sofa", "table", "tv", "wall",
        "window",
    )  # fmt: skip
    # Written down a second time, as the numbers that other code uses (1 = bed … 13 = window).
    to13 = [12, 5, 6, 1, 4, 9, 10, 12, 13, 6, 8, 6, 13, 10, 6, 13, 6, 7, 7, 5, 7, 3, 2, 6, 11, 7, 7, 7, 7, 7, 7, 6]
    to13 = torch.tensor(to13 + [7, 7, 7, 7, 7, 7, 6, 7]) - 1
    known = fine[0].label != IGNORE
    assert torch.equal(coarse[0].label[known], to13[fine[0].label[known]])
    assert torch.equal(coarse[0].label == IGNORE, ~known)


def test_the_table_of_raw_labels_holds_the_published_counts():
    table = nyu.class_table(40)
    counts = np.bincount(table[1:], minlength=40)
    assert len(table) == 895 and table[0] == IGNORE
    assert counts.tolist() == [1] * 37 + [68, 82, 707]


def test_the_official_split_has_795_and_654_photos_that_do_not_meet(mat):
    train, test = captures.nyu(mat, "train"), captures.nyu(mat, "test")
    assert (len(train), len(test)) == (795, 654)
    assert sorted(train.rows + test.rows) == list(range(1449))
    # The first and last of testNdxs, from 0: frames 1, 2, 9, 14 and 1446 to 1449 in MATLAB's counting.
    assert test.rows[:4] == [0, 1, 8, 13] and test.rows[-4:] == [1445, 1446, 1447, 1448]


def test_cropping_takes_the_window_inside_the_border_and_the_camera_follows(mat):
    whole, inside = captures.nyu(mat, "all", crop=None)[0], captures.nyu(mat, "all")[0]
    assert inside.image.shape == (3, 426, 560)
    for part in ("image", "depth", "label"):
        assert torch.equal(getattr(inside, part), getattr(whole, part)[..., 45:471, 41:601]), part
    points = whole.camera.unproject(whole.depth)[45:471, 41:601]
    assert torch.allclose(inside.camera.unproject(inside.depth), points, atol=1e-5)


def test_the_camera_is_matlabs_with_pixel_centers_half_a_pixel_earlier(mat):
    example = captures.nyu(mat, "all", crop=None)[0]
    row, column = 100, 200
    x = (column + 1 - 325.58244941119034) * example.depth[row, column] / 518.85790117450188  # the toolbox counts from 1
    y = (row + 1 - 253.73616633400465) * example.depth[row, column] / 519.46961112127485
    expected = torch.stack([x, y, example.depth[row, column]])
    assert torch.allclose(example.camera.unproject(example.depth)[row, column], expected, atol=1e-4)


def test_measured_depth_keeps_its_holes(mat):
    example = captures.nyu(mat, "all", crop=None, depth="measured")[0]
    assert torch.equal(example.depth, torch.from_numpy(arrays(0)[2]))
    assert 0.15 < (example.depth == 0).float().mean() < 0.25


def test_resizing_averages_photos_and_keeps_labels_and_depths_as_they_are(mat):
    full, small = captures.nyu(mat, "all")[0], captures.nyu(mat, "all", size=213)[0]
    assert small.image.shape == (3, 213, 280) and (small.camera.height, small.camera.width) == (213, 280)
    assert small.image.std() < 0.7 * full.image.std()
    assert set(small.label.unique().tolist()) <= set(full.label.unique().tolist())
    assert torch.isin(small.depth, full.depth).all()


def test_parts_of_the_data_set_are_as_lazy_as_the_whole(mat):
    data = captures.nyu(mat, "test")
    assert data[::2].rows == data.rows[::2] and data[[3, 0]].rows == [data.rows[3], data.rows[0]]
    assert torch.equal(data[-2].image, captures.nyu(mat, "all")[1447].image)
    with pytest.raises(IndexError, match="654"):
        data[654]


def test_a_copy_sent_to_another_process_opens_the_file_for_itself(mat):
    data = captures.nyu(mat, "test")
    first = data[0]
    copy = pickle.loads(pickle.dumps(data))
    assert torch.equal(copy[0].label, first.label)


def test_a_file_with_the_first_frames_only_keeps_their_part_of_the_split(mat, tmp_path):
    path = tmp_path / "few.mat"
    with h5py.File(mat) as file, h5py.File(path, "w") as few:
        for key in ("images", "depths", "labels"):
            few[key] = file[key][:4]
    assert captures.nyu(path, "train").rows == [2, 3] and captures.nyu(path, "test").rows == [0, 1]
    assert torch.equal(captures.nyu(path, "train")[0].depth, captures.nyu(mat, "train")[0].depth)
    with pytest.raises(ValueError, match="no 'rawDepths'; it holds depths, images, labels"):
        captures.nyu(path, depth="measured")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "val"}, '"train", "test" or "all", not \'val\''),
        ({"classes": 894}, "13 or with 40 classes, not with 894"),
        ({"depth": "raw"}, '"filled" or "measured", not \'raw\''),
        ({"crop": (slice(0, 481), slice(0, 640))}, "does not lie inside frames of 480×640"),
        ({"size": 0}, "whole pixels from 1 up, got 0"),
    ],
)
def test_wrong_options_are_refused_in_one_sentence(mat, options, message):
    with pytest.raises(ValueError, match=message):
        captures.nyu(mat, **options)


def test_a_missing_file_is_named_with_the_remedy(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"without a path, 3 GB are downloaded.*{nyu.FILE}"):
        captures.nyu(tmp_path)


def test_a_file_that_is_cut_off_or_something_else_is_refused(mat, tmp_path):
    (tmp_path / "cut.mat").write_bytes(mat.read_bytes()[:100_000])
    (tmp_path / "page.mat").write_text("<html>moved</html>")
    for name in ("cut.mat", "page.mat"):
        with pytest.raises(ValueError, match="not the labelled NYUv2 file, or is cut off"):
            captures.nyu(tmp_path / name)


def test_labels_of_another_version_of_the_file_are_refused(mat, tmp_path):
    def rename(file):
        del file["#refs#/21"]
        file["names"][0, 20] = file["#refs#/5"].ref

    with pytest.raises(ValueError, match="raw label 21 .* is 'chair' and should be 'wall'"):
        captures.nyu(changed(mat, tmp_path, rename))


def test_arrays_with_rows_first_are_refused_before_anything_is_read(mat, tmp_path):
    def turn(file):
        for key, shape in (("images", (9, 3, 480, 640)), ("depths", (9, 480, 640)), ("labels", (9, 480, 640))):
            del file[key]
            file.create_dataset(key, shape, "u1")

    with pytest.raises(ValueError, match=r"\[9, 3, 480, 640\]; MATLAB's file has \[1449, 3, 640, 480\]"):
        captures.nyu(changed(mat, tmp_path, turn))


def test_a_raw_label_that_does_not_exist_is_refused_when_it_is_read(mat, tmp_path):
    def spoil(file):
        file["labels"][0, 300, 200] = 900

    data = captures.nyu(changed(mat, tmp_path, spoil), "test")
    with pytest.raises(ValueError, match="frame 0 .* has the label 900; NYUv2 has 894"):
        data[0]


def test_without_a_path_the_file_is_downloaded_checked_and_found_again(mat, tmp_path, monkeypatch):
    handler = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=mat.parent))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    content = mat.read_bytes()
    file = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    here = f"http://127.0.0.1:{server.server_port}"
    file["urls"] = [f"{here}/gone.mat", f"{here}/{nyu.FILE}"]  # the first address is out of reach
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(nyu, "facts", lambda facts=nyu.facts(): facts | {"file": file})
    downloaded = captures.nyu(cache=tmp_path)
    server.shutdown()
    server.server_close()
    assert (tmp_path / nyu.FILE).read_bytes() == content
    assert torch.equal(captures.nyu(cache=tmp_path)[0].image, downloaded[0].image)  # without a server
    with pytest.raises(DownloadError, match="none of 2 addresses"):
        captures.nyu(cache=tmp_path / "elsewhere")
