"""Keep notebooks fit for git: put in the shared cells, strip outputs, say what breaks the house rules.

    python -m tools.notebooks dress notebooks/01_views.ipynb   # put in or renew badge and bootstrap, then strip
    python -m tools.notebooks clean                            # the same for every notebook
    python -m tools.notebooks lint                             # exit code 1 and one line per problem

A lesson's first picture stands inside it, as data: Colab shows no attachments, and a link shows nothing in a zip or a fork.
"""

import base64
import json
import re
import sys
from pathlib import Path

from .bootstrap import BADGE_ID, BOOTSTRAP_ID, ROOT, badge_cell, badge_source, bootstrap_cell, bootstrap_source

MAX_LINES = 25  # a longer cell hides its idea
# A line that runs a shell or pip: a failing one passes in silence, and pip belongs to the bootstrap alone.
SHELL_LINE = re.compile(r"^\s*(!|%%?(pip|conda|bash|sh|system|sx)\b)|\bpip3?\s+install\b", re.MULTILINE)
# Where a lesson shows assets/hero_NN.jpg: the file as a link, or the picture that dress put in its place.
HERO = re.compile(r"(!\[[^\]]*\]\()(?:[^)\s]*assets/hero_\w\w\.jpg|data:image/jpeg;base64,[\w+/=]*)\)")
KEEP_METADATA = {"kernelspec", "language_info", "accelerator", "colab"}


def all_notebooks() -> list[Path]:
    return sorted((ROOT / "notebooks").glob("*.ipynb"))


def _is_bootstrap(cell: dict) -> bool:
    return cell.get("id") == BOOTSTRAP_ID or (cell["cell_type"] == "code" and "find_spec(\"fit3d_lite\")" in cell["source"])


def read(path: Path) -> dict:
    """A notebook as JSON has it, each source as one text."""
    nb = json.loads(path.read_text(encoding="utf-8"))
    for cell in nb["cells"]:
        cell["source"] = "".join(cell["source"])
    return nb


def write(path: Path, nb: dict) -> bool:
    """Write it as Jupyter does, so that git sees no other change; True when the file changed."""
    cells = [{**cell, "source": cell["source"].splitlines(True)} for cell in nb["cells"]]
    text = json.dumps({**nb, "cells": cells}, indent=1, sort_keys=True, ensure_ascii=False, separators=(",", ": ")) + "\n"
    changed = text != path.read_text(encoding="utf-8")
    if changed:
        path.write_text(text, encoding="utf-8")
    return changed


def with_hero(source: str, name: str) -> str:
    """Markdown of lesson ``NN_….ipynb`` with assets/hero_NN.jpg inside, where there is that file and the text shows it."""
    file = ROOT / "assets" / f"hero_{name[:2]}.jpg"
    if not file.is_file():
        return source
    return HERO.sub(lambda m: f"{m[1]}data:image/jpeg;base64,{base64.b64encode(file.read_bytes()).decode()})", source)


def dress(path: Path, repo: str | None = None) -> bool:
    """Put badge, hero picture and bootstrap in, strip outputs; True when the file changed."""
    nb = read(path)
    nb["nbformat"], nb["nbformat_minor"] = 4, 5  # cell ids exist from 4.5
    cells = [c for c in nb["cells"] if c.get("id") != BADGE_ID and "colab-badge.svg" not in c["source"]]
    at = next((i for i, c in enumerate(cells) if _is_bootstrap(c)), None)
    if at is None:
        at = next((i for i, c in enumerate(cells) if c["cell_type"] == "code"), len(cells))
        cells.insert(at, bootstrap_cell(repo))
    else:
        cells[at] = bootstrap_cell(repo)
    nb["cells"] = [badge_cell(path.name, repo), *cells]
    seen = set()
    for number, cell in enumerate(nb["cells"]):
        if cell.get("id") in seen or not cell.get("id"):
            cell["id"] = f"cell-{number:03d}"
        seen.add(cell["id"])
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
            cell["metadata"].pop("execution", None)
            cell["metadata"].pop("outputId", None)
        else:
            cell["source"] = with_hero(cell["source"], path.name)
    nb["metadata"] = {k: v for k, v in nb["metadata"].items() if k in KEEP_METADATA}
    nb["metadata"]["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nb["metadata"]["language_info"] = {"name": "python"}
    return write(path, nb)


def lint(path: Path, repo: str | None = None) -> list[str]:
    """What breaks the house rules in one notebook, one sentence each; an empty list when it is fit for git."""
    nb = read(path)
    found, cells = [], nb["cells"]
    first = cells[0] if cells else {}
    if first.get("id") != BADGE_ID or first.get("source") != badge_source(path.name, repo):
        found.append(f"the first cell must be the badge of {path.name}, with id {BADGE_ID}: run make notebooks-clean")
    bootstraps = [c for c in cells if c["cell_type"] == "code" and c["source"] == bootstrap_source(repo)]
    if len(bootstraps) != 1:
        found.append(f"{len(bootstraps)} cells equal the bootstrap, 1 is needed: run make notebooks-clean")
    ids = [c.get("id") for c in cells]
    for double in sorted({str(i) for i in ids if ids.count(i) > 1 or i is None}):
        found.append(f"cell id {double} is missing or stands more than once")
    if "widgets" in nb["metadata"]:
        found.append("metadata.widgets is there, and GitHub does not show such a notebook: run make notebooks-clean")
    for index, cell in enumerate(cells):
        if cell["cell_type"] != "code":
            if with_hero(cell["source"], path.name) != cell["source"]:
                found.append(f"cell {index} shows another picture than assets/hero_{path.name[:2]}.jpg: run make notebooks-clean")
            continue
        if cell["outputs"] or cell["execution_count"] is not None:
            found.append(f"cell {index} has outputs: run make notebooks-clean")
        lines = len(cell["source"].splitlines())
        if lines > MAX_LINES:
            found.append(f"cell {index} has {lines} lines, at most {MAX_LINES} keep one idea readable")
        if not _is_bootstrap(cell) and SHELL_LINE.search(cell["source"]):
            found.append(f"cell {index} runs a shell or pip line: only the bootstrap brings packages")
    return found


def main(arguments: list[str]) -> int:
    command, *names = arguments or ["lint"]
    paths = [Path(n) for n in names] or all_notebooks()
    if missing := [str(p) for p in paths if not p.is_file()]:
        print(f"notebooks: there is no {', '.join(missing)}")
        return 2
    if command in ("dress", "clean"):
        changed = [p.name for p in paths if dress(p)]
        print(f"notebooks: {len(paths)} looked at, {len(changed)} rewritten {' '.join(changed)}")
        return 0
    if command == "lint":
        problems = [f"{p.name}: {line}" for p in paths for line in lint(p)]
        print("\n".join(problems) or f"notebooks: {len(paths)} fit for git")
        return 1 if problems else 0
    print(f"unknown command {command!r}: say dress, clean or lint")
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
