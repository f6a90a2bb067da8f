"""ADE20k and VOC 2012: small folders in the published layouts, and the archives they come in."""

import hashlib
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from PIL import Image

from fit3d_lite import DownloadError, captures
from fit3d_lite.captures import folders
from fit3d_lite.scenes.scene import IGNORE


def photo(path, height, width, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, quality=95)


def annotation(path, numbers, palette=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(numbers, dtype=np.uint8))
    if palette:
        image.putpalette([n for n in range(256) for _ in range(3)])
    image.save(path)


def make_ade(root):
    for split, stem, shape in (("training", "ADE_train_1", (12, 20)), ("validation", "ADE_val_1", (30, 20))):
        photo(root / "images" / split / f"{stem}.jpg", *shape)
        numbers = np.arange(shape[0] * shape[1]).reshape(shape) % 151
        annotation(root / "annotations" / split / f"{stem}.png", numbers)
    lines = ["Idx\tRatio\tTrain\tVal\tName"] + [f"{i}\t0.1\t5\t2\tname {i}, other name" for i in range(1, 151)]
    (root / "objectInfo150.txt").write_text("\n".join(lines))
    return root


def make_voc(root):
    numbers = np.zeros((20, 30))
    numbers[2:8, 3:9], numbers[10:, :5], numbers[0] = 15, 20, 255
    for stem in ("2007_000032", "2007_000033"):
        photo(root / "JPEGImages" / f"{stem}.jpg", 20, 30)
        annotation(root / "SegmentationClass" / f"{stem}.png", numbers, palette=True)
    photo(root / "JPEGImages" / "2007_000999.jpg", 20, 30)  # most photos of VOC have no annotation
    for split, text in (("train", "2007_000032\n"), ("val", "2007_000033\n"), ("trainval", "2007_000032\n2007_000033\n")):
        file = root / "ImageSets" / "Segmentation" / f"{split}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root, numbers


def test_ade_counts_its_classes_from_one_and_other_becomes_no_class(tmp_path):
    data = captures.ade20k(make_ade(tmp_path), "training")
    image, depth, label, camera = data[0]
    assert (len(data), len(data.classes), data.classes[:2]) == (1, 150, ("name 1", "name 2"))
    assert image.shape == (3, 12, 20) and 0 <= image.min() and image.max() <= 1 and depth is camera is None
    numbers = torch.arange(240).reshape(12, 20) % 151
    assert torch.equal(label, torch.where(numbers == 0, IGNORE, numbers - 1))


def test_a_list_cannot_name_files_outside_its_folder(tmp_path):
    root, _ = make_voc(tmp_path / "voc")
    for stem in ("../../secret", "/etc/passwd", "a\\..\\b"):
        (root / "ImageSets" / "Segmentation" / "val.txt").write_text(f"{stem}\n")
        with pytest.raises(ValueError, match="which is no plain name and could lie outside"):
            captures.voc(root)


def test_ade_without_its_table_numbers_the_classes(tmp_path):
    (make_ade(tmp_path) / "objectInfo150.txt").unlink()
    assert captures.ade20k(tmp_path).classes[149] == "class 150"


def test_voc_reads_the_numbers_of_a_palette_picture_and_only_listed_photos(tmp_path):
    root, numbers = make_voc(tmp_path)
    data = captures.voc(root, "trainval")
    assert len(data) == 2 and len(captures.voc(root)) == 1
    assert torch.equal(data[1].label, torch.from_numpy(numbers).long())
    assert [data.classes[i] for i in (0, 15, 20)] == ["background", "person", "tvmonitor"] and len(data.classes) == 21


def test_a_folder_above_the_root_will_do(tmp_path):
    make_voc(tmp_path / "VOCdevkit" / "VOC2012")
    assert len(captures.voc(tmp_path)) == 1


def test_a_square_holds_the_whole_photo_and_labels_only_there(tmp_path):
    data = captures.ade20k(make_ade(tmp_path), "validation", side=60)
    plain = captures.ade20k(tmp_path, "validation")[0]
    image, _, label, _ = data[0]
    assert image.shape == (3, 60, 60) and label.shape == (60, 60)
    outside = torch.ones(60, 60, dtype=torch.bool)
    outside[:, 10:50] = False  # 30×20 becomes 60×40, in the middle
    assert (label[outside] == IGNORE).all() and (image[:, outside] == 0.5).all()
    assert torch.equal(label[:, 10:50], plain.label.repeat_interleave(2, 0).repeat_interleave(2, 1))
    wide = captures.ade20k(tmp_path, "training", side=60)[0]  # 12×20 becomes 36×60
    assert (wide.label[:12] == IGNORE).all() and (wide.label[48:] == IGNORE).all() and (wide.image[:, :12] == 0.5).all()
    assert (wide.label[12:48] != IGNORE).any(1).all()


def test_photos_and_annotations_that_do_not_pair_up_are_named(tmp_path):
    photo(make_ade(tmp_path) / "images" / "training" / "ADE_train_2.jpg", 9, 9)
    with pytest.raises(ValueError, match="2 photos, 1 annotations; ADE_train_2 has no annotation"):
        captures.ade20k(tmp_path, "training")
    root, _ = make_voc(tmp_path / "voc")
    (root / "SegmentationClass" / "2007_000033.png").unlink()
    with pytest.raises(FileNotFoundError, match="lists 1 photos, but .*2007_000033.png is missing"):
        captures.voc(root)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: photo(path, 12, 20), "has mode RGB; an annotation is one number a pixel"),
        (lambda path: annotation(path, np.full((12, 20), 255)), "the number 255, .* Were these labels shifted already"),
        (lambda path: annotation(path, np.full((12, 20), 151)), "the number 151, which is none of the ADE20k training"),
        (lambda path: annotation(path, np.ones((6, 10))), r"is 6×10 but its photo is 12×20 \(H×W\)"),
        (lambda path: path.write_bytes(b"no picture"), "cannot be read as an annotation"),
    ],
)
def test_an_annotation_that_cannot_be_right_is_refused(tmp_path, spoil, message):
    data = captures.ade20k(make_ade(tmp_path), "training")
    spoil(tmp_path / "annotations" / "training" / "ADE_train_1.png")
    with pytest.raises(ValueError, match=message):
        data[0]


def test_wrong_arguments_are_refused_in_one_sentence(tmp_path):
    make_ade(tmp_path)
    with pytest.raises(ValueError, match="one of training, validation, not 'val'"):
        captures.ade20k(tmp_path, "val")
    with pytest.raises(ValueError, match="side is a number of pixels from 1 up, or None, not 0"):
        captures.ade20k(tmp_path, side=0)
    with pytest.raises(FileNotFoundError, match="no folder .*nowhere; without one, 1907 MB are downloaded"):
        captures.voc(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="no list of the val split at .*val.txt"):
        captures.voc(tmp_path)


@pytest.fixture
def served(tmp_path, monkeypatch):
    """Both archives, small, on a local server."""
    folder, content = tmp_path / "served", tmp_path / "content"
    make_ade(content / "ade" / "ADEChallengeData2016")
    make_voc(content / "voc" / "VOCdevkit" / "VOC2012")
    zipped = shutil.make_archive(folder / "ade", "zip", content / "ade")
    tarred = shutil.make_archive(folder / "voc", "tar", content / "voc")
    handler = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=folder))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    md5, sha256 = (hashlib.new(kind, open(f, "rb").read()).hexdigest() for kind, f in (("md5", zipped), ("sha256", tarred)))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(folders, "ADE", folders.Archive(f"{url}/ade.zip", "ADEChallengeData2016", 1, md5=md5))
    voc = folders.Archive(f"{url}/voc.tar", "VOCdevkit/VOC2012", 1, sha256=sha256)
    monkeypatch.setattr(folders, "VOC", voc)
    yield
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("reader", [captures.ade20k, captures.voc])
def test_archives_are_downloaded_checked_unpacked_and_found_again(reader, served, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    stopped = cache / ".voc.unpacking" / "half"
    stopped.mkdir(parents=True)
    first = reader(cache=cache)[0]
    assert sorted(path.name for path in cache.iterdir() if path.suffix in (".zip", ".tar", ".partial")) == []
    monkeypatch.setenv("FIT3D_OFFLINE", "1")
    assert torch.equal(reader(cache=cache)[0].label, first.label)


def test_an_archive_with_another_content_is_deleted_and_nothing_is_unpacked(served, tmp_path, monkeypatch):
    other = folders.Archive(folders.ADE.url, "ADEChallengeData2016", 1, md5="0" * 32)
    monkeypatch.setattr(folders, "ADE", other)
    with pytest.raises(DownloadError, match="another MD5 than 0000"):
        captures.ade20k(cache=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_without_a_network_the_message_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("FIT3D_OFFLINE", "1")
    with pytest.raises(DownloadError, match="VOCtrainval_11-May-2012.tar .* is missing and FIT3D_OFFLINE=1"):
        captures.voc(cache=tmp_path)
