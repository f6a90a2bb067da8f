"""The house: which rooms there are, who may import whom, and what stands at the door."""

import ast
import graphlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fit3d_lite as f3d
from fit3d_lite import viz

ROOT = Path(__file__).parents[1]
HOUSE = ROOT / "fit3d_lite"
ROOMS = (  # from the ground up: a room imports only from rooms that stand before it
    "base", "scenes", "captures", "rooms", "splatting", "splatting/gpu", "backbones", "widgets", "lifting", "viz",
    "finetuning", "probing", "correspondence", "light3d", "retrieval", "ablations", "course/lessons", "course",
)  # fmt: skip
FILES = {room: sorted((HOUSE / room).glob("*.py")) for room in ROOMS}
CELLS = [
    "".join(cell["source"])
    for path in sorted((ROOT / "notebooks").glob("*.ipynb"))
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]
]


def imported(path: Path) -> set[Path]:
    """The files of this package that a file imports: at its top, late inside a function, or for type checkers only."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
            for name in (base / alias.name for alias in node.names):
                place = name if name.is_dir() or name.with_suffix(".py").is_file() else base
                found.add(place / "__init__.py" if place.is_dir() else place.with_suffix(".py"))
    return found


def room_of(path: Path) -> str:
    return path.parent.relative_to(HOUSE).as_posix()


def test_the_folders_are_the_rooms_and_the_door_holds_two_files():
    folders = {path.parent for path in HOUSE.rglob("*.py")} - {HOUSE}
    assert {folder.relative_to(HOUSE).as_posix() for folder in folders} == set(ROOMS)
    assert {path.name for path in HOUSE.glob("*.py")} == {"__init__.py", "__main__.py"}


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_from_rooms_above_it_only_and_in_no_circle(room):
    graph = {path: imported(path) for path in FILES[room]}
    for path, others in graph.items():
        for other in others:
            asked = room_of(other)
            assert other.is_file(), f"{path} imports {other}, which is not there"
            assert asked in ROOMS[: ROOMS.index(room) + 1], f"{room}/{path.name} imports from {asked}"
    inside = {path: {other for other in others if room_of(other) == room} for path, others in graph.items()}
    graphlib.TopologicalSorter(inside).prepare()  # CycleError names the files


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_is_small_and_says_what_it_is(room):
    # A lesson has a file of its own; beside them stands records.py.
    most = len(list((ROOT / "notebooks").glob("*.ipynb"))) + 1 if room == "course/lessons" else 13
    assert len(FILES[room]) - 1 <= most
    says = ast.get_docstring(ast.parse((HOUSE / room / "__init__.py").read_text(encoding="utf-8"))) or ""
    assert 3 <= len([line for line in says.splitlines() if line.strip()]) <= 12, f"{room}/__init__.py says {says!r}"


def test_notebooks_import_from_rooms_and_not_from_files_inside_them():
    asked = set(re.findall(r"(?:from|import)\s+fit3d_lite\.([\w.]+)", "\n".join(CELLS)))
    assert {name.replace(".", "/") for name in asked} <= set(ROOMS)


def test_the_names_at_the_door_are_those_that_lessons_use_and_the_readme_shows():
    pages = [path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *ROOT.glob("docs/*.md"))]
    used = set(re.findall(r"\bf3d\.(\w+)", "\n".join([*CELLS, *pages])))
    assert set(f3d.__all__) == used and len(f3d.__all__) <= 48
    assert len(viz.__all__) <= 40
    for module in (f3d, viz):
        assert all(getattr(module, name) is not None for name in module.__all__)


def test_importing_the_package_brings_nothing_heavy_but_torch():
    heavy = (
        "timm", "torchvision", "matplotlib", "sklearn", "scipy", "PIL", "IPython", "ipywidgets", "h5py", "plyfile", "numba",
    )  # fmt: skip
    ask = f"import sys, fit3d_lite; print(*[name for name in {heavy} if name in sys.modules])"
    said = subprocess.run([sys.executable, "-c", ask], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert said.split() == [], f"import fit3d_lite also imports {said}"
