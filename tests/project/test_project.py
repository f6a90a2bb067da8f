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
from tools import owner
from tools.bootstrap import ROOT, badge_source, bootstrap_source, repository
from tools.notebooks import all_notebooks, dress, lint

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


# --- the bootstrap cell


def run_cell(source, cwd, path, tmp_path):
    """Run a cell in a bare Python (no site-packages) as Colab would; the pip stub keeps its arguments."""
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(path), "PIP_LOG": str(tmp_path / "pip.json")}
    return subprocess.run([sys.executable, "-S", "-c", source], cwd=cwd, env=env, capture_output=True, text=True)


@pytest.fixture
def colab(tmp_path):
    """A folder for PYTHONPATH with stubs of google.colab and of pip, which "installs" an empty fit3d_lite."""
    stub = tmp_path / "stub"
    (stub / "google" / "colab").mkdir(parents=True)
    (stub / "google" / "colab" / "__init__.py").touch()
    (stub / "pip").mkdir()
    (stub / "pip" / "__init__.py").touch()
    (stub / "pip" / "__main__.py").write_text(
        "import json, os, pathlib, sys\n"
        "open(os.environ['PIP_LOG'], 'w').write(json.dumps(sys.argv[1:]))\n"
        "sys.exit(1) if os.path.exists('offline') else None\n"
        "new = pathlib.Path(__file__).parents[1] / 'fit3d_lite'\n"
        "new.mkdir(); (new / '__init__.py').touch()\n"
    )
    return stub


def test_on_colab_the_bootstrap_brings_the_package_once(colab, tmp_path):
    cell = bootstrap_source() + "\nimport fit3d_lite; print(fit3d_lite.__file__)"
    content = tmp_path / "content"
    content.mkdir()
    first = run_cell(cell, content, colab, tmp_path)
    assert first.returncode == 0, first.stderr
    assert first.stdout.strip() == str(colab / "fit3d_lite" / "__init__.py")
    arguments = json.loads((tmp_path / "pip.json").read_text())
    assert arguments == ["install", "-q", "--no-deps", "plyfile", f"git+https://github.com/{repository()}"]
    (tmp_path / "pip.json").unlink()
    assert run_cell(cell, content, colab, tmp_path).returncode == 0
    assert not (tmp_path / "pip.json").exists()  # the second time it is there already


def test_a_failing_install_stops_the_notebook(colab, tmp_path):
    content = tmp_path / "content"
    content.mkdir()
    (content / "offline").touch()
    ran = run_cell(bootstrap_source(), content, colab, tmp_path)
    assert ran.returncode != 0 and "CalledProcessError" in ran.stderr


def test_in_a_checkout_the_bootstrap_finds_the_package_from_a_deep_folder(colab, tmp_path):
    checkout = tmp_path / "checkout"
    (checkout / "fit3d_lite").mkdir(parents=True)
    (checkout / "fit3d_lite" / "__init__.py").touch()
    (checkout / "notebooks" / "mine").mkdir(parents=True)
    cell = bootstrap_source() + "\nimport fit3d_lite; print(fit3d_lite.__file__)"
    ran = run_cell(cell, checkout / "notebooks" / "mine", colab, tmp_path)
    assert ran.stdout.strip() == str(checkout / "fit3d_lite" / "__init__.py"), ran.stderr
    assert not (tmp_path / "pip.json").exists()


def test_bootstrap_is_short():
    lines = bootstrap_source().splitlines()
    assert len(lines) <= 12 and max(map(len, lines)) <= 120


# --- notebooks


@pytest.mark.parametrize("path", all_notebooks() or [None], ids=lambda p: p.name if p else "none yet")
def test_notebook_in_git_keeps_the_house_rules(path):
    if path is None:
        pytest.skip("notebooks/ has no notebook yet")
    assert not lint(path)


@pytest.fixture
def notebook(tmp_path):
    """A notebook as an author leaves it after running it, without the shared cells."""
    (tmp_path / "notebooks").mkdir()
    path = tmp_path / "notebooks" / "01_views.ipynb"
    nb = new_notebook(cells=[new_markdown_cell("# Title"), new_code_cell("import fit3d_lite as f3d\nf3d.setup()")])
    nb.cells[1].outputs, nb.cells[1].execution_count = [nbformat.v4.new_output("stream", text="x")], 3
    nb.metadata.widgets = {"state": {}}
    nbformat.write(nb, path)
    return path


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


# --- the owner's name


def test_owner_moves_every_link_of_ours_and_no_other(notebook):
    root, old = notebook.parents[1], repository()
    shutil.copy(ROOT / "pyproject.toml", root)
    other = "https://colab.research.google.com/github/someone/else/blob/main/demo.ipynb https://github.com/a/b"
    ours = f"https://github.com/{old}/issues https://raw.githubusercontent.com/{old}/main/assets/hero.jpg"
    (root / "README.md").write_text(f"{ours}\n{other}\n")
    nb = nbformat.read(notebook, as_version=4)
    nb.cells[0].source = f"# Title\n![hero](https://raw.githubusercontent.com/{old}/main/assets/hero.jpg)"
    nbformat.write(nb, notebook)
    changed = owner.sync(root, "you/course")
    assert set(changed) == {"pyproject.toml", "README.md", "notebooks/01_views.ipynb"}
    assert repository(root / "pyproject.toml") == "you/course"
    readme = (root / "README.md").read_text()
    assert other in readme and old not in readme and "github.com/you/course/issues" in readme
    assert not lint(notebook, "you/course") and old not in notebook.read_text()
    assert owner.sync(root) == []  # pyproject.toml alone says it now, and all agree
    with pytest.raises(ValueError, match="'you'; it must read owner/name"):
        owner.sync(root, "you")


def test_every_link_of_ours_in_this_checkout_agrees_with_pyproject():
    texts = [ROOT / "README.md", *(p for d in ("assets", "bench", "docs") for p in (ROOT / d).glob("*.md")), *all_notebooks()]
    for path in texts:
        assert owner.links(path.read_text(encoding="utf-8")) <= {repository()}, f"{path.name}: run make owner"


# --- make


def test_make_and_ci_name_only_what_is_there():
    makefile = (ROOT / "Makefile").read_text()
    for module in re.findall(r"-m (tools\.\w+)", makefile):
        assert (ROOT / f"{module.replace('.', '/')}.py").exists(), module
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    plan = subprocess.run(["make", "-n", "-B", "test"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    order = [plan.index(x) for x in ("pip install", "ruff check", "pytest -q --durations=5 tests", "test 3/3")]
    assert order == sorted(order) and plan.count("pip install") == 1
