"""The project's frame: requirements agree, an install finds its assets, notebooks in git keep the house rules."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from fit3d_lite.base.machine import asset
from tools.bootstrap import ROOT, badge_source, bootstrap_source
from tools.notebooks import all_notebooks, dress, lint
from tools.owner import links

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def requirement_lines(text):
    return [line.split("#")[0].strip() for line in text.splitlines() if line.split("#")[0].strip()]


# --- packaging


def test_requirements_agree_with_pyproject_and_are_lower_bounds():
    listed = requirement_lines((ROOT / "requirements.txt").read_text())
    assert sorted(listed) == sorted(PROJECT["dependencies"])
    assert all(re.fullmatch(r"[\w-]+>=[\d.]+", line) for line in listed)


def test_every_requirement_says_why():
    for name in ("requirements.txt", "tests/requirements.txt"):
        lines = [x for x in (ROOT / name).read_text().splitlines() if x.strip() and not x.startswith("#")]
        assert all("#" in line for line in lines), f"{name} has a line without its reason"


def test_colab_already_meets_the_bounds():
    image = {  # Colab's image of August 2026, as far as its versions are known to us
        "torch": "2.11", "timm": "1.0.28", "numpy": "2.1", "matplotlib": "3.10", "ipywidgets": "7.7",
        "scikit-learn": "1.6", "pillow": "11",
    }  # fmt: skip
    bounds = dict(line.split(">=") for line in PROJECT["dependencies"])
    for name, version in image.items():
        assert [int(x) for x in version.split(".")] >= [int(x) for x in bounds[name].split(".")], name


def test_an_install_finds_its_assets(tmp_path):
    source, target = tmp_path / "source", tmp_path / "site"
    for name in ("fit3d_lite", "assets"):
        if (ROOT / name).exists():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", source)
    (source / "README.md").touch()
    (source / "assets").mkdir(exist_ok=True)
    (source / "assets" / "probe.safetensors").write_bytes(b"x")
    (source / "assets" / "hero.jpg").write_bytes(b"x")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(target), str(source)], check=True, capture_output=True, cwd=tmp_path)
    assert (target / "fit3d_lite" / "assets" / "probe.safetensors").is_file()
    assert not (target / "fit3d_lite" / "assets" / "hero.jpg").exists()  # pictures of the README stay out
    ours = [p.relative_to(ROOT) for p in (ROOT / "fit3d_lite").rglob("*") if p.suffix in (".py", ".js")]
    assert len(ours) > 20 and not [p for p in ours if not (target / p).is_file()]  # every room is in pyproject's list
    ask = "from fit3d_lite.base.machine import asset; print(asset('probe.safetensors'))"
    said = subprocess.run([sys.executable, "-c", ask], env={**os.environ, "PYTHONPATH": str(target)}, cwd=tmp_path,
                          check=True, capture_output=True, text=True).stdout  # fmt: skip
    assert Path(said.strip()).parent == target / "fit3d_lite" / "assets"


def test_a_missing_asset_says_where_it_was_looked_for():
    with pytest.raises(FileNotFoundError, match=r"'nothing.bin' is in neither .*assets nor .*assets; install"):
        asset("nothing.bin")


# --- notebooks


@pytest.mark.parametrize("path", all_notebooks() or [None], ids=lambda p: p.name if p else "none yet")
def test_notebook_in_git_keeps_the_house_rules(path):
    if path is None:
        pytest.skip("notebooks/ has no notebook yet")
    assert not lint(path)


def as_left(path):
    """A notebook as an author leaves it after running it, without the shared cells."""
    path.parent.mkdir()
    nb = new_notebook(cells=[new_markdown_cell("# Title"), new_code_cell("import fit3d_lite as f3d\nf3d.setup()")])
    nb.cells[1].outputs, nb.cells[1].execution_count = [nbformat.v4.new_output("stream", text="x")], 3
    nb.metadata.widgets = {"state": {}}
    nbformat.write(nb, path)
    return path


@pytest.fixture
def notebook(tmp_path):
    return as_left(tmp_path / "notebooks" / "01_views.ipynb")


def test_an_appendix_is_named_by_a_letter_and_a_digit_and_dressed_alike(tmp_path, monkeypatch):
    monkeypatch.setattr("tools.notebooks.ROOT", tmp_path)
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "hero_A1.jpg").write_bytes(b"a picture")
    path = as_left(tmp_path / "notebooks" / "A1_light.ipynb")
    path.write_text(path.read_text().replace("# Title", "![a room](../assets/hero_A1.jpg)"))
    assert dress(path) and not lint(path) and "data:image/jpeg;base64," in path.read_text()
    badge = nbformat.read(path, as_version=4).cells[0].source
    assert links(badge.replace("A1_light", "01_views")) == links(badge) != set()


def test_dress_puts_in_the_shared_cells_and_strips_and_then_rests(notebook):
    assert len(lint(notebook)) == 4  # badge, bootstrap, widgets, outputs
    assert dress(notebook) and not lint(notebook) and not dress(notebook)
    nb = nbformat.read(notebook, as_version=4)
    sources = [c.source for c in nb.cells]
    assert sources[0] == badge_source("01_views.ipynb") and nb.cells[0].id == "view-in-github"
    assert sources[1] == "# Title" and sources[2] == bootstrap_source() and sources[3].startswith("import fit3d_lite")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("!pip install gsplat", "shell or pip"),
        ("%pip install gsplat", "shell or pip"),
        ("import os\nos.system('pip install gsplat')", "shell or pip"),
        ("x = 1\n" * 26, "26 lines"),
    ],
)
def test_lint_names_what_breaks_the_rules(notebook, source, said):
    dress(notebook)
    nb = nbformat.read(notebook, as_version=4)
    nb.cells.append(new_code_cell(source, id="extra"))
    nbformat.write(nb, notebook)
    assert [said in line for line in lint(notebook)] == [True]


def test_the_hero_stands_inside_and_another_picture_in_its_place_is_found(notebook):
    nb = nbformat.read(notebook, as_version=4)
    nb.cells[0].source = "# Title\n\n![a motorcycle](https://example.org/main/assets/hero_01.jpg)"
    nbformat.write(nb, notebook)
    dress(notebook)
    text = notebook.read_text()
    assert "![a motorcycle](data:image/jpeg;base64,/9j/" in text and "hero_01.jpg" not in text and not lint(notebook)
    notebook.write_text(text.replace("base64,/9j/", "base64,/9j/AAAA"))
    assert ["another picture than assets/hero_01.jpg" in line for line in lint(notebook)] == [True]
    assert dress(notebook) and notebook.read_text() == text


def test_pictures_inside_the_notebooks_stay_small_and_ask_no_server():
    heroes = sorted((ROOT / "assets").glob("hero_??.jpg"))
    assert max(p.stat().st_size for p in heroes) < 130_000 and sum(p.stat().st_size for p in heroes) < 95_000 * len(heroes)
    for path in all_notebooks():
        text = path.read_text("utf-8")
        assert path.stat().st_size < 260_000 and not re.findall(r"!\[[^\]]*\]\((?!data:)", text), path.name
        assert ("](data:image/jpeg;base64," in text) == ((ROOT / "assets" / f"hero_{path.name[:2]}.jpg").is_file())


def test_choices_in_forms_are_text_and_numbers_have_bounds():
    for path in all_notebooks():
        code = [c.source for c in nbformat.read(path, 4).cells if c.cell_type == "code"]
        forms = [line for source in code for line in source.splitlines() if "#@param" in line]
        assert forms and not [x for x in forms if "raw" in x], path.name  # raw: the chosen word without quotes
        numbers = [x for x in forms if re.search(r"type:\"(integer|number|slider)", x)]
        assert not [x for x in numbers if "min:" not in x or "max:" not in x], path.name
        for line in numbers:
            value, low, high = (re.search(part, line)[1] for part in (r"= (\S+)", r"min:([-\de.]+)", r"max:([-\de.]+)"))
            assert value == "None" or float(low) <= float(value) <= float(high), line


def test_lint_allows_what_only_looks_like_a_shell_line(notebook):
    dress(notebook)
    nb = nbformat.read(notebook, as_version=4)
    nb.cells.append(new_code_cell("ok = a != b  # no !shell here\n%matplotlib inline\npipeline = 1", id="extra"))
    nbformat.write(nb, notebook)
    assert not lint(notebook)


def test_lint_sees_a_changed_bootstrap_and_a_double_id(notebook):
    dress(notebook)
    raw = json.loads(notebook.read_text())
    raw["cells"][2]["source"] = ["# mine\n", *raw["cells"][2]["source"]]
    notebook.write_text(json.dumps(raw))
    assert any("0 cells equal the bootstrap" in line for line in lint(notebook))


# --- make


def test_make_and_ci_name_only_what_is_there():
    makefile = (ROOT / "Makefile").read_text()
    for module in re.findall(r"-m (tools\.\w+)", makefile):
        assert (ROOT / f"{module.replace('.', '/')}.py").exists(), module
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    plan = subprocess.run(["make", "-n", "-B", "test"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    order = [plan.index(x) for x in ("pip install", "ruff check", "pytest -q -n 2", "test 3/3")]
    assert order == sorted(order) and plan.count("pip install") == 1
