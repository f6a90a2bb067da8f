"""One call from scenes to weights: halves that processes share, resume, and never take one scene for another."""

import multiprocessing
import re

import pytest
import torch

import fit3d_lite as f3d
from fit3d_lite.__main__ import main
from fit3d_lite.finetuning import pipeline, prepare

SMALL = "--scene room:1000 room:1001 room:1002 --views 3 --size 56 --gaussians 300 --fit-steps 3 --device cpu"


def written(work):
    return {path.name: path.stat().st_mtime_ns for path in work.glob("*.safetensors")}


def alone(words):
    torch.set_num_threads(1)  # a forked process has no pool of threads
    pipeline.main(words)


def test_two_processes_share_the_scenes_and_a_third_fine_tunes_on_what_they_left(tmp_path, monkeypatch, capfd):
    words = [*SMALL.split(), "--work", str(tmp_path / "work")]
    processes = multiprocessing.get_context("fork")  # which need not import everything anew
    running = [processes.Process(target=alone, args=([*words, "--shard", shard],)) for shard in ("1/2", "2/2")]
    for process in running:
        process.start()
    for process in running:
        process.join(300)
    assert [process.exitcode for process in running] == [0, 0]
    assert sorted(re.findall(r"scene (\d) of 3, room", capfd.readouterr().out)) == ["1", "2", "3"]
    made = written(tmp_path / "work")
    assert sorted(name.split("_")[0] for name in made) == ["cloud"] * 3 + ["lifted"] * 3

    monkeypatch.setattr(prepare, "fit", lambda *a, **k: pytest.fail("fitted again"))
    monkeypatch.setattr(prepare, "lift", lambda *a, **k: pytest.fail("lifted again"))
    pipeline.main([*words, "--recipe", "one-scene", "--epochs", "1", "--out", str(tmp_path / "tuned.safetensors")])
    assert "History(4 steps" in capfd.readouterr().out and written(tmp_path / "work") == made
    tuned, vit = f3d.load_vit("small", tmp_path / "tuned.safetensors", device="cpu"), f3d.load_vit("small", device="cpu")
    assert not torch.equal(tuned.model.blocks[0].mlp.fc1.weight, vit.model.blocks[0].mlp.fc1.weight)


def test_other_settings_or_photos_are_another_file(tmp_path):
    scene = f3d.room(1000, 3, 48, shadows=False)
    base = ["--gaussians", "200", "--work", str(tmp_path), "--fit-steps"]
    clouds = [prepare.fitted(pipeline.arguments([*base, steps]), scene) for steps in ("2", "2", "3")]
    prepare.fitted(pipeline.arguments([*base, "2", "--exposure", "affine"]), scene)
    prepare.fitted(pipeline.arguments([*base, "2"]), scene[1:])
    assert len(list(tmp_path.glob("cloud_*"))) == 4
    assert torch.equal(clouds[0].means, clouds[1].means) and not torch.equal(clouds[0].means, clouds[2].means)


def test_a_star_names_every_folder(tmp_path):
    for name in ("b", "a"):
        (tmp_path / name).mkdir()
    assert pipeline.arguments(["--scene", f"rgbd:{tmp_path}/*", "stereo"]).scene == [
        f"rgbd:{tmp_path / 'a'}", f"rgbd:{tmp_path / 'b'}", "stereo",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--scene stereo --shard 3/2", "--shard is I/N with I from 1 to N, as 3/8; got '3/2'"),
        ("--scene stereo --shard 0/2", "--shard is I/N"),
        ("--scene stereo --shard 1/2 --out a.pth", "fine-tune with --out and without --shard"),
        ("--scene room:x", "a scene is .*got 'room:x'"),
        ("--work here", "name scenes"),
    ],
)
def test_what_is_wrong_is_said_before_any_work(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["pipeline", *words.split()]) == 2 and re.match(f"pipeline: .*{said}", capsys.readouterr().err)
    assert not list(tmp_path.iterdir())
