"""What nightly runs rest on: the lesson as a Colab reader opens it, the drift of Colab's versions, profiles that are shrunk."""

import json
import re
import subprocess
import sys
import zipfile

import h5py
import pytest
import yaml

from tools import colab, profiles
from tools.bootstrap import ROOT
from tools.notebooks import all_notebooks

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
LIST = """\
# a list
scipy==1.15.2
Pillow==11.3.0
huggingface-hub==1.0.1
numpy==2.2.0
torch @ https://download.pytorch.org/whl/cu128/torch-2.12.0%2Bcu128-cp313-cp313-manylinux_2_28_x86_64.whl#sha256=00
absl-py==1.4.0
"""


def test_the_lesson_is_opened_as_on_colab_but_its_archive_is_this_checkout(tmp_path):
    nb = colab.as_opened(all_notebooks()[0], tmp_path / "course.zip")
    (cell,) = [c for c in nb["cells"] if c.get("id") == "bootstrap"]
    assert f"install -q file://{tmp_path}/course.zip" in cell["source"] and "github.com" not in cell["source"]
    compile(cell["source"], "bootstrap", "exec")
    json.dumps(nb)


def test_the_archive_holds_the_package_its_assets_and_no_build(tmp_path):
    names = zipfile.ZipFile(colab.archive(tmp_path / "course.zip")).namelist()
    inside = {"fit3d_lite/__init__.py", "assets/vit_small.safetensors", "pyproject.toml"}
    assert {f"course-main/{name}" for name in inside} <= set(names)
    assert not [n for n in names if "__pycache__" in n or "/build/" in n or "/.git/" in n]


def test_drift_names_what_changed_and_renews_the_pins(tmp_path):
    pins = tmp_path / "pins.txt"
    pins.write_text("# Python 3.13\nnumpy==2.1.3\nscipy\npillow==11.3.0\nhuggingface_hub\ntorch==2.11.0\ntimm==1.0.28\n")
    changed = colab.drift(LIST, pins)
    assert changed == [
        "- numpy: 2.1.3 → 2.2.0", "- scipy: any → 1.15.2", "- huggingface_hub: any → 1.0.1", "- torch: 2.11.0 → 2.12.0",
        "- timm: 1.0.28 → no longer listed",
    ]  # fmt: skip
    assert "pillow==11.3.0" in pins.read_text() and "torch==2.12.0" in pins.read_text()
    assert colab.drift(LIST.replace("absl", "timm==1.0.28\nabsl"), pins) == ["- timm: any → 1.0.28"]
    assert colab.drift(LIST.replace("absl", "timm==1.0.28\nabsl"), pins) == []


def test_every_dependency_is_among_the_pins_but_the_one_that_colab_lacks():
    names = {re.split("==", x)[0].strip() for x in colab.PINS.read_text().splitlines() if not x.startswith("#")}
    needed = re.findall(r"^([\w-]+)>=", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    assert set(needed) - names == {"plyfile"}


def test_a_shrunk_profile_keeps_its_words_and_takes_the_quick_ones_numbers():
    assert profiles.smaller("small", "dinov2_small") == "dinov2_small" and profiles.smaller(30, None) == 30
    assert profiles.smaller({"epochs": 1}, {}) == {} and profiles.smaller((8, 2, 8), (20, 6, 12)) == (8, 2, 8)


def test_the_few_frames_of_nyuv2_are_enough_for_both_splits(tmp_path):
    from fit3d_lite import captures

    path = profiles.small_nyu(tmp_path / "few.mat")
    learned, tested = (captures.nyu(path, split=split, crop=None) for split in ("train", "test"))
    assert len(learned) > 60 and len(tested) > 27 and profiles.small_nyu(path) == path
    with h5py.File(path) as file:
        assert file["images"].shape[1:] == (3, 640, 480)


def test_the_pretended_gpu_is_still_there_when_the_lesson_begins(tmp_path):
    first = profiles.FIRST.format(root=str(ROOT), standins=str(ROOT / "tests" / "standins"), profile="middle",
                                  cache=str(tmp_path), gpu=True)  # fmt: skip
    look = "import gc; gc.collect(); import torch; print(torch.zeros(1, device='cuda').device)"
    said = subprocess.run([sys.executable, "-c", first + look], cwd=ROOT, capture_output=True, text=True)
    assert said.stdout.rstrip().endswith("cuda:0"), said.stderr


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.name)
def test_workflows_can_be_read_and_name_targets_and_files_that_are_there(path):
    text = path.read_text("utf-8")
    jobs = yaml.safe_load(text)["jobs"]
    assert jobs and all(job["timeout-minutes"] <= 120 for job in jobs.values())
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z][\w-]*)", re.sub(r"#.*", "", text))) <= targets
    assert not [m for m in re.findall(r"-m (tools\.\w+)", text) if not (ROOT / f"{m.replace('.', '/')}.py").is_file()]


@pytest.mark.parametrize("target", ["colab", "profiles"])
def test_make_says_how_the_lessons_are_run(target):
    asked = ["make", "--no-print-directory", "-n", target, "ONLY=00"]  # the tests may themselves be run by make
    plan = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert f"-m tools.{target}" in plan and plan.rstrip().endswith("00")
