"""The two cells every notebook shares: the Colab badge and the bootstrap. Their text lives here and nowhere else.

    from tools.bootstrap import badge_cell, bootstrap_cell
    cells = [badge_cell("01_views.ipynb"), ..., bootstrap_cell(), ...]

The GitHub owner and name stand in pyproject.toml's Repository URL, and ``make owner`` copies them into every notebook; the
commit that a released notebook asks for stands in its table [tool.fit3d_lite], and ``make release`` writes it. All of this
needs nothing but Python, so that both commands run before any environment is made.
"""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BADGE_ID, BOOTSTRAP_ID = "view-in-github", "bootstrap"
PLACEHOLDER = "owner.not.set/fit3d_lite"  # no account can be called so, as GitHub allows no dots in an owner's name

# At most 12 lines. A checkout or an unpacked zip that lies here, above, beside or one folder below is used as it is. Else an
# archive is brought, which needs no git: on Colab without dependencies, since it has them all but plyfile, and replacing an
# imported torch or numpy there would force a restart. pip leaves a package of the same version in place whatever commit it
# is of, so an older one is uninstalled first. Python's own assert stops the notebook; a failing "!pip" passes in silence.
_BOOTSTRAP = """\
# Uses the fit3d_lite in, above, beside or just below this folder; else brings it. Colab keeps its torch and numpy.
import importlib.util, os, pathlib, subprocess, sys
repo, made, here = "{repo}", "{made}", pathlib.Path.cwd()
os.environ.update({{"GOMP_SPINCOUNT": "1000", **os.environ, "FIT3D_NOTEBOOK": made}})  # torch's threads wait asleep
near = [here, *here.parents, *here.glob("*"), *here.parent.glob("*"), *pathlib.Path("/content").glob("*")]
sys.path[:0] = near = [str(p) for p in near if os.path.exists(p / "fit3d_lite" / "__init__.py")][:1]
old = getattr(importlib.util.find_spec("fit3d_lite"), "origin", None)
if not near and not (old and f'"{{made}}' in pathlib.Path(old).read_text("utf-8")):  # not there, or another version
    assert "." not in repo.split("/")[0], "Nobody said whose copy on GitHub to use: run make owner OWNER=you/name"
    get = f"install -q https://github.com/{{repo}}/archive/{ref}.zip" + " --no-deps plyfile" * ("COLAB_RELEASE_TAG" in os.environ)
    pip = [subprocess.call([sys.executable, "-m", "pip", *do.split()]) for do in ("uninstall -qqy fit3d_lite", get)]
    assert pip[1] == 0, "fit3d_lite did not come: connect and run this again, or unpack the course's zip beside this file"\
"""


def project(pyproject: Path = ROOT / "pyproject.toml") -> dict:
    return tomllib.loads(pyproject.read_text(encoding="utf-8"))


def repository(pyproject: Path = ROOT / "pyproject.toml") -> str:
    """The project's ``owner/name`` on GitHub, from pyproject's Repository URL."""
    url = project(pyproject)["project"]["urls"]["Repository"]
    match = re.fullmatch(r"https://github\.com/([\w.-]+/[\w.-]+)", url)
    if not match:
        raise ValueError(f"pyproject.toml's Repository is {url!r}; it must read https://github.com/owner/name")
    return match[1]


def pinned() -> str:
    """The commit, 40 digits, that the notebooks of a release bring; empty between releases."""
    return project()["tool"]["fit3d_lite"]["pin"]


def bootstrap_source(repo: str | None = None, pin: str | None = None) -> str:
    """Text of the bootstrap cell; equal, byte for byte, in every notebook."""
    pin = pinned() if pin is None else pin
    made = pin or project()["project"]["version"]
    return _BOOTSTRAP.format(repo=repo or repository(), made=made, ref="{made}" if pin else "HEAD")


def badge_source(filename: str, repo: str | None = None) -> str:
    """Text of the badge cell of ``notebooks/<filename>``, in the form Colab itself writes."""
    link = f"https://colab.research.google.com/github/{repo or repository()}/blob/main/notebooks/{filename}"
    image = '<img src="https://colab.research.google.com/assets/colab-badge.svg" alt="Open In Colab"/>'
    return f'<a href="{link}" target="_parent">{image}</a>'


def badge_cell(filename: str, repo: str | None = None) -> dict:
    """The first cell of ``notebooks/<filename>``."""
    metadata = {"id": BADGE_ID, "colab_type": "text"}
    return {"cell_type": "markdown", "id": BADGE_ID, "metadata": metadata, "source": badge_source(filename, repo)}


def bootstrap_cell(repo: str | None = None) -> dict:
    """The cell that finds or brings fit3d_lite; it stands before the first import."""
    return {"cell_type": "code", "id": BOOTSTRAP_ID, "metadata": {}, "source": bootstrap_source(repo),
            "outputs": [], "execution_count": None}  # fmt: skip
