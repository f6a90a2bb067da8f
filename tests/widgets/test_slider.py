"""Frames under a slider, and pictures in and out: whole, upright, and asking nothing of the network."""

import base64
import io
import os
import re

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from fit3d_lite import viz


def test_slider_is_whole_and_asks_nothing_of_the_network():
    figure = viz.show_images(torch.rand(2, 3, 16, 16))
    frames = [torch.rand(12, 20, 3), np.zeros((12, 20, 3)), Image.new("L", (20, 12)), figure]
    markup = viz.frames_slider(frames, ["a <b>", "c", "d", "e"], "blocks")._repr_html_()
    assert "http" not in markup and "src=" in markup and "<b>" not in markup
    uris = re.findall(r'src="data:image/(?:jpeg|png);base64,([^"]+)"', markup)
    assert len(uris) == 4 and markup.count('type="range"') == 1 and 'max="3"' in markup
    assert Image.open(io.BytesIO(base64.b64decode(uris[0]))).size == (160, 96)  # enlarged
    # Without scripts every frame is seen and the bar, which would do nothing, is not.
    before = markup.split("<script>")[0]
    assert before.count("display:none") == 1 and 'class="f3d-bar" style="display:none' in before


def test_tiles_keep_their_place_and_a_photo_stays_beside_the_frames():
    red, blue = torch.tensor([1.0, 0, 0]).expand(2, 3, 3), torch.tensor([0, 0, 1.0]).expand(2, 3, 3)
    whole = viz.tile([[red, blue], [blue, red]])
    assert whole.shape == (5, 7, 3)
    assert torch.equal(whole[3:, :3], blue) and whole[2].min() == whole[:, 3].min() == 1
    markup = viz.frames_slider([whole, torch.rand(200, 200, 3)], ["a", "b"], beside=torch.rand(10, 7, 3))._repr_html_()
    assert markup.count("data:image/png") == 1 and markup.count("data:image/jpeg") == 2  # whichever is smaller
    with pytest.raises(ValueError, match=r"rows \[2, 1\]"):
        viz.tile([[red, blue], [red]])


def test_slider_refuses_what_it_cannot_show():
    with pytest.raises(ValueError, match="2 frames with 1 labels"):
        viz.frames_slider([torch.rand(4, 4, 3)] * 2, ["a"])
    with pytest.raises(ValueError, match="more than 0 seconds"):
        viz.frames_slider([torch.rand(4, 4, 3)], ["a"], seconds=0)
    with pytest.raises(ValueError, match=r"\[4, 4, 3\] from 0 to 255"):
        viz.frames_slider([255 * (torch.arange(48.0) / 47).reshape(4, 4, 3)], ["a"])


def encoded(picture, **options):
    out = io.BytesIO()
    picture.save(out, **options)
    return out.getvalue()


@pytest.mark.parametrize("source", [None, ["a.png"], 3, {"a": b""}])
def test_what_is_no_picture_is_named_by_its_type(source):
    with pytest.raises(ValueError, match=f"a picture is a path, bytes, .* not {type(source).__name__}"):
        viz.load_image(source)


def test_photos_come_upright_square_and_without_transparency(tmp_path):
    turned = Image.new("RGB", (40, 20), "red")
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held on its side
    assert viz.load_image(encoded(turned, format="JPEG", exif=exif)).shape == (1, 3, 40, 20)
    clear = viz.load_image(encoded(Image.new("RGBA", (8, 8), (0, 0, 0, 0)), format="PNG"))
    assert_close(clear, torch.ones(1, 3, 8, 8))
    path = tmp_path / "a.png"
    turned.save(path)
    assert viz.load_image(path, 16).shape == (1, 3, 16, 16)
    assert viz.load_image(path, (10, 30)).shape == (1, 3, 10, 30)
    with pytest.raises(ValueError, match="save it as JPEG or PNG"):
        viz.load_image(b"not a picture")
    with pytest.raises(FileNotFoundError, match="missing.jpg"):
        viz.load_image(tmp_path / "missing.jpg")


def test_uploads_are_read_in_both_layouts_of_ipywidgets():
    seven = {"a.png": {"metadata": {"name": "a.png"}, "content": b"123"}}
    eight = ({"name": "a.png", "type": "image/png", "content": memoryview(b"123")},)
    assert viz.uploaded(seven) == viz.uploaded(eight) == [("a.png", b"123")]
    assert viz.uploaded(()) == viz.uploaded({}) == []
    with pytest.raises(ValueError, match="not int"):
        viz.uploaded(3)
    with pytest.raises(ValueError, match="an uploaded file is bytes; a is int"):
        viz.uploaded({"a": 3})  # bytes(3) would be three zeros


def test_a_photo_is_taken_as_a_pil_image_an_array_or_colabs_upload():
    picture = Image.new("RGB", (40, 30), "red")
    content = encoded(picture, format="PNG")
    assert viz.uploaded({"cat.png": content}) == [("cat.png", content)]
    expected = viz.load_image(content, 16)
    for source in (picture, np.asarray(picture)):
        assert torch.equal(viz.load_image(source, np.int64(16)), expected)


def test_a_photo_that_is_too_large_or_no_file_is_refused_by_name(tmp_path):
    Image.new("1", (20000, 10000)).save(tmp_path / "scan.png")
    with pytest.raises(ValueError, match="scan.png has too many pixels"):
        viz.load_image(tmp_path / "scan.png", 64)
    Image.fromarray(np.full((4, 4), 30000, np.uint16)).save(tmp_path / "grey.png")
    with pytest.raises(ValueError, match="grey.png has more than 8 bits a color .mode I"):
        viz.load_image(tmp_path / "grey.png")
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(ValueError, match="is a folder, a pipe or a device"):
            viz.load_image(path)
