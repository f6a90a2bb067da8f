"""Where a notebook's code comes from: the bootstrap cell, the owner on GitHub, the commit of a release."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from fit3d_lite import __version__
from fit3d_lite.base.machine import origin
from tools import owner, release
from tools.bootstrap import PLACEHOLDER, ROOT, bootstrap_source, pinned, project, repository
from tools.notebooks import all_notebooks, dress, lint, read

PIN = "0123456789abcdef" * 2 + "01234567"
SET = bootstrap_source("you/course", pin="")
RELEASED = bootstrap_source("you/course", pin=PIN)
WHERE = "\nimport fit3d_lite; print(fit3d_lite.__file__)"
# What stands for pip: it keeps what it was asked, and brings or removes a package of one line beside itself.
PIP = """\
import json, os, pathlib, shutil, sys
with open(os.environ["PIP_LOG"], "a") as log:
    log.write(json.dumps(sys.argv[1:]) + "\\n")
site = pathlib.Path(__file__).parents[1] / "fit3d_lite"
if sys.argv[1] == "uninstall":
    shutil.rmtree(site, ignore_errors=True)
elif os.path.exists("offline"):
    sys.exit("ERROR: no route to host")
else:
    site.mkdir()
    (site / "__init__.py").write_text(f'commit = "{os.environ["BRINGS"]} parent"')
"""


class Machine:
    """A bare Python with a pip that only pretends, started in a folder of its own."""

    def __init__(self, root):
        self.site, self.log, self.here = root / "site", root / "pip.log", root / "deep" / "content"
        (self.site / "pip").mkdir(parents=True)
        self.here.mkdir(parents=True)
        (self.site / "pip" / "__init__.py").touch()
        (self.site / "pip" / "__main__.py").write_text(PIP)

    def run(self, source, cwd=None, **variables):
        env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(self.site), "PIP_LOG": str(self.log), "BRINGS": PIN, **variables}
        return subprocess.run([sys.executable, "-S", "-c", source], cwd=cwd or self.here, env=env, capture_output=True, text=True)

    def asked(self):
        return [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []

    def package(self, folder, text=""):
        (folder / "fit3d_lite").mkdir(parents=True)
        (folder / "fit3d_lite" / "__init__.py").write_text(text)
        return str(folder / "fit3d_lite" / "__init__.py")


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


DROP = ["uninstall", "-qqy", "fit3d_lite"]
URL = f"https://github.com/you/course/archive/{PIN}.zip"


def test_on_colab_the_package_of_the_pinned_commit_is_brought_once_and_alone(machine):
    ran = machine.run(RELEASED + WHERE, COLAB_RELEASE_TAG="release-colab")
    assert ran.returncode == 0 and ran.stdout.strip() == str(machine.site / "fit3d_lite" / "__init__.py"), ran.stderr
    assert machine.asked() == [DROP, ["install", "-q", URL, "--no-deps", "plyfile"]]
    assert machine.run(RELEASED + WHERE, COLAB_RELEASE_TAG="release-colab").returncode == 0
    assert len(machine.asked()) == 2  # the second time it is there already


def test_elsewhere_it_comes_with_its_dependencies_though_google_colab_is_installed(machine):
    machine.package(machine.site / "google" / "colab")
    assert machine.run(RELEASED).returncode == 0
    assert machine.asked() == [DROP, ["install", "-q", URL]]


def test_between_releases_the_newest_code_is_brought_and_one_of_this_version_is_kept(machine):
    machine.run(SET)
    assert machine.asked()[1] == ["install", "-q", "https://github.com/you/course/archive/HEAD.zip"]
    (machine.site / "fit3d_lite" / "__init__.py").write_text(f'__version__ = "{__version__}"')
    machine.run(SET)
    assert len(machine.asked()) == 2


@pytest.mark.parametrize("text", ["", '__version__ = "0.0.9"', '__commit__ = "89abcdef" * 5', f'parents = "9 {PIN}"'])
def test_a_package_of_another_commit_is_replaced(machine, text):
    machine.package(machine.site, text)
    ran = machine.run(RELEASED + "\nimport fit3d_lite; print(fit3d_lite.commit)")
    assert ran.stdout.split() == [PIN, "parent"] and machine.asked()[0] == DROP, ran.stderr


@pytest.mark.parametrize(
    ("copy", "cwd"),
    [(".", "notebooks/mine"), ("course-main", "."), ("course-main", "papers"), (".", ".")],
    ids=["in a checkout", "one folder below", "beside it", "at its top"],
)
@pytest.mark.parametrize("installed", [False, True])
def test_a_checkout_or_an_unpacked_zip_nearby_is_used_as_it_is(machine, copy, cwd, installed):
    found = machine.package((machine.here / copy).resolve())
    if installed:
        machine.package(machine.site, "another")
    (machine.here / cwd).mkdir(parents=True, exist_ok=True)
    ran = machine.run(RELEASED + WHERE, cwd=machine.here / cwd)
    assert ran.stdout.strip() == found and not machine.asked(), ran.stderr


def test_a_folder_that_only_has_the_packages_name_is_no_package(machine):
    found = machine.package(machine.here / "fit3d_lite")  # a clone in /content: Python would take the outer folder
    assert machine.run(SET + WHERE).stdout.strip() == found


def test_also_a_zip_in_content_is_used(machine):
    content = machine.here.parents[1] / "colab"
    found = machine.package(content / "course-main")
    ran = machine.run(RELEASED.replace('"/content"', repr(str(content))) + WHERE)
    assert ran.stdout.strip() == found, ran.stderr


def test_a_placeholder_is_refused_in_one_sentence_and_nothing_is_asked(machine):
    ran = machine.run(bootstrap_source(PLACEHOLDER, pin=""), COLAB_RELEASE_TAG="x")
    assert ran.stderr.splitlines()[-1].startswith("AssertionError: Nobody said whose copy") and not machine.asked()


def test_without_a_network_one_sentence_names_both_ways_out(machine):
    (machine.here / "offline").touch()
    ran = machine.run(RELEASED)
    last = ran.stderr.splitlines()[-1]
    assert ran.returncode and "connect and run this again" in last and "unpack the course's zip beside this file" in last


def test_the_cell_sets_how_threads_wait_unless_the_reader_did_and_says_what_it_was_made_for(machine):
    machine.package(machine.here)
    show = "\nprint(os.environ['GOMP_SPINCOUNT'], os.environ['FIT3D_NOTEBOOK'])"
    assert machine.run(SET + show).stdout.split() == ["1000", __version__]
    assert machine.run(RELEASED + show, GOMP_SPINCOUNT="7").stdout.split() == ["7", PIN]


def test_the_cell_is_short_and_equal_everywhere():
    for cell in (SET, RELEASED):
        assert len(cell.splitlines()) <= 12 and max(map(len, cell.splitlines())) <= 130
    cells = {c["source"] for p in all_notebooks() for c in read(p)["cells"] if c.get("id") == "bootstrap"}
    assert cells == {bootstrap_source()}


# --- a release


def git(*arguments, cwd=ROOT):
    return subprocess.run(["git", *arguments], cwd=cwd, capture_output=True, text=True)


def test_a_release_is_pinned_to_its_own_package_and_a_checkout_may_do_without():
    tag = os.environ.get("GITHUB_REF_NAME") if os.environ.get("GITHUB_REF_TYPE") == "tag" else None
    tag = tag or git("describe", "--exact-match", "--tags", "--match", "v*").stdout.strip()
    assert pinned() == "" or re.fullmatch("[0-9a-f]{40}", pinned())
    if tag:
        assert tag == f"v{__version__}" and pinned(), "run make release, commit, and tag that commit"
        assert git("diff", "--quiet", pinned(), "HEAD", "--", "fit3d_lite", "assets").returncode == 0


def test_the_version_stands_in_both_places_and_a_zip_carries_its_commit():
    assert project()["project"]["version"] == __version__
    assert "fit3d_lite/__init__.py export-subst" in (ROOT / ".gitattributes").read_text()


def test_a_zip_a_checkout_and_an_install_know_their_commit_or_say_nothing(tmp_path):
    init = tmp_path / "fit3d_lite" / "__init__.py"
    init.parent.mkdir()
    shutil.copy(ROOT / "fit3d_lite" / "__init__.py", init)
    assert origin(init) == (__version__, [])
    for command in ("init -q", "add .", "-c user.name=a -c user.email=a@b commit -qm x"):
        assert git(*command.split(), cwd=tmp_path).returncode == 0
    head = git("rev-parse", "HEAD", cwd=tmp_path).stdout.strip()
    assert origin(init) == (__version__, [head])
    shutil.rmtree(tmp_path / ".git")
    init.write_text(init.read_text().replace("$Format:%H %P$", f"{PIN} {head}"))
    assert origin(init) == (__version__, [PIN, head])


def test_the_pin_is_written_and_taken_out_and_nothing_else_is_a_pin(tmp_path):
    copy = tmp_path / "pyproject.toml"
    shutil.copy(ROOT / "pyproject.toml", copy)
    release.write_pin(PIN, copy)
    assert project(copy)["tool"]["fit3d_lite"]["pin"] == PIN
    release.write_pin("", copy)
    assert project(copy)["tool"]["fit3d_lite"]["pin"] == ""
    with pytest.raises(ValueError, match="40 digits"):
        release.write_pin("main", copy)


def test_no_release_without_an_owner(monkeypatch, capsys):
    monkeypatch.setattr(release, "repository", lambda: PLACEHOLDER)
    assert release.main([]) == 1 and "no owner is set: run make owner" in capsys.readouterr().err


# --- the owner's name


@pytest.fixture
def copy(tmp_path):
    """A checkout of one lesson, under the name that ours has."""
    (tmp_path / "notebooks").mkdir()
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copy(all_notebooks()[0], tmp_path / "notebooks" / "00_demo.ipynb")
    return tmp_path


def test_owner_moves_every_link_of_ours_and_no_other(copy):
    old, notebook = repository(), copy / "notebooks" / "00_demo.ipynb"
    other = "https://colab.research.google.com/github/someone/else/blob/main/demo.ipynb https://github.com/a/b"
    site = "https://{}.github.io/{}/".format(*old.split("/"))
    (copy / "README.md").write_text(f"https://github.com/{old}/issues https://raw.githubusercontent.com/{old}/main/x\n{other}\n{site}\n")
    assert set(owner.sync(copy, "you/course")) == {"pyproject.toml", "README.md", "notebooks/00_demo.ipynb"}
    assert repository(copy / "pyproject.toml") == "you/course"
    readme = (copy / "README.md").read_text()
    assert other in readme and old not in readme and "github.com/you/course/issues" in readme
    assert "https://you.github.io/course/" in readme
    assert not lint(notebook, "you/course") and old not in notebook.read_text() and not dress(notebook, "you/course")
    assert owner.sync(copy) == []  # pyproject.toml alone says it now, and all agree


@pytest.mark.parametrize("name", ["you", "../..", "you/..", "a b/c", "you/x\n", "you/<b>", "-you/x", "you/x/y", PLACEHOLDER])
def test_an_owner_that_github_cannot_have_is_refused(name, tmp_path):
    with pytest.raises(ValueError, match="it must read owner/name"):
        owner.sync(tmp_path, name)


@pytest.mark.parametrize(
    ("url", "name"),
    [("https://github.com/you/my.course.git", "you/my.course"), ("git@github.com:you/course", "you/course"),
     ("https://gitlab.com/you/course", None), ("/srv/github.com", None)],
)  # fmt: skip
def test_the_remote_says_the_owner_where_it_lies_on_github(tmp_path, url, name):
    assert owner.remote(tmp_path) is None
    git("init", "-q", cwd=tmp_path)
    git("remote", "add", "origin", url, cwd=tmp_path)
    assert owner.remote(tmp_path) == name


def test_make_owner_needs_python_alone_and_a_fork_is_told_the_command(copy):
    shutil.copytree(ROOT / "tools", copy / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    bare = [sys.executable, "-S", "-m", "tools.owner"]
    told = subprocess.run([*bare, "check"], cwd=copy, env={"GITHUB_REPOSITORY": "me/fork"}, capture_output=True, text=True)
    assert "::warning" in told.stdout and "make owner OWNER=me/fork" in told.stdout
    assert subprocess.run([*bare, "me/fork"], cwd=copy, capture_output=True).returncode == 0
    assert not lint(copy / "notebooks" / "00_demo.ipynb", "me/fork")


def test_every_link_of_ours_in_this_checkout_agrees_with_pyproject():
    texts = [ROOT / "README.md", *(p for d in ("assets", "bench", "docs") for p in (ROOT / d).glob("*.md")), *all_notebooks()]
    for path in texts:
        assert owner.links(path.read_text(encoding="utf-8")) <= {repository()}, f"{path.name}: run make owner"
