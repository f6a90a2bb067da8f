"""The two cells every notebook shares: the Colab badge and the bootstrap. Their text lives here and nowhere else.

    from tools.bootstrap import badge_cell, bootstrap_cell
    cells = [badge_cell("01_views.ipynb"), ..., bootstrap_cell(), ...]

The GitHub owner and name stand in pyproject.toml's Repository URL; ``make owner`` copies them into every notebook.
"""

import re
import tomllib
from pathlib import Path

from nbformat.v4 import new_code_cell, new_markdown_cell

ROOT = Path(__file__).resolve().parents[1]
BADGE_ID, BOOTSTRAP_ID = "view-in-github", "bootstrap"

# At most 12 lines. It walks up to a checkout; else it brings the package once, without its dependencies, since
# Colab has them all but plyfile, and replacing an imported torch or numpy there would force a restart.
# subprocess with check=True stops the notebook when pip fails; a failing "!pip" line would pass in silence.
_BOOTSTRAP = """\
# Finds fit3d_lite in this checkout; on Colab it brings it once and leaves torch and numpy alone.
import importlib.util, os, pathlib, subprocess, sys
os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # torch's threads wait asleep: far faster beside other busy programs
folders = (pathlib.Path.cwd(), *pathlib.Path.cwd().parents)
sys.path[:0] = [str(p) for p in folders if (p / "fit3d_lite" / "__init__.py").exists()][:1]
if importlib.util.find_spec("fit3d_lite") is None:
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "plyfile"]
    subprocess.run([*pip, "git+{url}"], check=True)
    importlib.invalidate_caches()"""


def repository(pyproject: Path = ROOT / "pyproject.toml") -> str:
    """The project's ``owner/name`` on GitHub, from pyproject's Repository URL."""
    url = tomllib.loads(pyproject.read_text())["project"]["urls"]["Repository"]
    match = re.fullmatch(r"https://github\.com/([\w.-]+/[\w.-]+)", url)
    if not match:
        raise ValueError(f"pyproject.toml's Repository is {url!r}; it must read https://github.com/owner/name")
    return match[1]


def bootstrap_source(repo: str | None = None) -> str:
    """Text of the bootstrap cell; equal, byte for byte, in every notebook."""
    return _BOOTSTRAP.format(url=f"https://github.com/{repo or repository()}")


def badge_source(filename: str, repo: str | None = None) -> str:
    """Text of the badge cell of ``notebooks/<filename>``, in the form Colab itself writes."""
    link = f"https://colab.research.google.com/github/{repo or repository()}/blob/main/notebooks/{filename}"
    image = '<img src="https://colab.research.google.com/assets/colab-badge.svg" alt="Open In Colab"/>'
    return f'<a href="{link}" target="_parent">{image}</a>'


def badge_cell(filename: str, repo: str | None = None):
    """The first cell of ``notebooks/<filename>``."""
    metadata = {"id": BADGE_ID, "colab_type": "text"}
    return new_markdown_cell(badge_source(filename, repo), id=BADGE_ID, metadata=metadata)


def bootstrap_cell(repo: str | None = None):
    """The cell that finds or brings fit3d_lite; it stands before the first import."""
    return new_code_cell(bootstrap_source(repo), id=BOOTSTRAP_ID)
