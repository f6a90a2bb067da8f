"""What people bring is taken where it is clear what they mean, and else refused in one sentence with the numbers."""

import os

import numpy as np
import pytest
import torch

import fit3d_lite as f3d
from fit3d_lite.base import inputs
from fit3d_lite.base.machine import usable_device, usual_torch


def test_arrays_and_lists_become_tensors_and_other_things_are_named():
    want = torch.tensor([[1.0, 2], [3, 4]])
    for given in (want, want.numpy(), want.double().numpy(), want.tolist(), list(want), want.T.contiguous().numpy().T):
        found = inputs.as_tensor(given, "x")
        assert found.dtype == torch.float32 and torch.equal(found, want)
    with torch.inference_mode():
        made = torch.ones(2)
        assert not inputs.as_tensor(made, "x").is_inference()  # training could not use it
    for wrong in (None, "photos", object(), [torch.ones(2), torch.ones(3)]):
        with pytest.raises(ValueError, match=f"photos must be a tensor or a numpy array, not {type(wrong).__name__}"):
            inputs.as_tensor(wrong, "photos")


def test_positions_are_a_slice_whole_numbers_or_a_mask():
    mask = [True, False, True]
    for given in (mask, np.array(mask), torch.tensor(mask), [0, 2], [0, -1], np.array([0, 2]), slice(None, None, 2)):
        assert inputs.positions(given, 3) == [0, 2]
    for wrong, said in (
        ([True, False], "one bool for each of the 3 photos, got 2"),
        ([0, 3], r"position 3 is outside the 3 photos \(0 to 2\)"),
        ([0.0, 1.0], "not by"), ("1:3", "not by '1:3'"), (None, "not by None"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=said):
            inputs.positions(wrong, 3)


@pytest.mark.parametrize("wrong", [0, -5, 1.5, "3", True, float("nan")])
def test_whole_numbers_are_whole(wrong):
    inputs.check_whole(1, stop=None, every=np.int64(3))
    with pytest.raises(ValueError, match="every must be a whole number from 1 up, got "):
        inputs.check_whole(1, stop=4, every=wrong)


def test_a_grid_with_its_channels_last_or_turned_is_named_and_a_right_one_is_not():
    for shape, size in (((192, 16, 16), (224, 224)), ((384, 34, 45), (480, 640)), ((5, 2, 40), (20, 400))):
        inputs.check_grid(shape, *size, "feats")
    for shape, size, said in (
        ((16, 16, 192), (224, 224), r"channels are last. Then give feats.movedim\(-1, -3\)"),
        ((34, 45, 384), (480, 640), "channels are last"),
        ((384, 45, 34), (480, 640), r"rows and columns are exchanged. Then give feats.transpose\(-1, -2\)"),
    ):
        with pytest.raises(ValueError, match=said):
            inputs.check_grid(shape, *size, "feats")


def test_a_pipe_a_folder_and_what_is_no_path_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", "/dev/null"):
        with pytest.raises(ValueError, match="is a folder, a pipe or a device, where a file is expected .a log."):
            inputs.existing_file(path, "a log")
    with pytest.raises(FileNotFoundError, match="there is no log at /.*nothing"):
        inputs.existing_file(tmp_path / "nothing", "log")
    with pytest.raises(ValueError, match="log is named by its path, not by NoneType"):
        inputs.existing_file(None, "log")
    (tmp_path / "text").write_bytes(b"\xef\xbb\xbfone")
    assert inputs.read_text(tmp_path / "text", "log") == "one"
    (tmp_path / "text").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="text is not text in UTF-8"):
        inputs.read_text(tmp_path / "text", "log")


def test_a_device_that_is_not_here_is_named():
    for device in ("gpu", "cuda:77"):
        with pytest.raises(ValueError, match=f"device '{device}' cannot be used here: "):
            usable_device(device)


def test_the_callers_mode_does_not_reach_what_is_made():
    plain = f3d.room(3, views=1, size=16, shadows=False)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"), torch.inference_mode():
            scene = f3d.room(3, views=1, size=16, shadows=False)
            with usual_torch():
                assert torch.ones(1).dtype == torch.float32 and torch.ones(1).device.type == "cpu" and torch.is_grad_enabled()
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(scene.images, plain.images) and not scene.images.is_inference()
