"""Ablations: a small grid of points, each kept as soon as it is measured; one table; what differs, with intervals.

    python -m fit3d_lite ablate grid.toml --work runs                # what is there already is not done again
    python -m fit3d_lite ablate grid.toml --work runs --processes 8  # of one machine
    python -m fit3d_lite ablate grid.toml --work runs --shard 3/16   # of a cluster's array job, 1/16 to 16/16
    python -m fit3d_lite ablate grid.toml --work runs --out table    # and then the table and figures
    python -m fit3d_lite ablate grid.toml --work runs --out table --collect    # of what is there; measures nothing
    python -m fit3d_lite ablate grid.toml --work runs --known assets/ablations.csv    # points of a table need no measuring

The grid is a TOML file (assets/ablations.toml is the course's own):

    repetitions = 5
    base = { rooms = 6 }                         # settings of all points that are not varied: point.py, recipes.py
    [[study]]
    name = "rooms"
    question = "How many rooms?"
    expected = "written down before it is measured"
    grid = { rooms = [3, 6, 12], control = ["none", "wrong poses"] }       # all combinations
    rows = { "LoRA" = { train = "lora", lr = 1e-3 } }                      # or single points with a name

Each study has the network before fine-tuning beside its points, as the row "original" (and "original, blocks 4" where a row
has another network or judge): a gain is a difference to it within a repetition, whose rooms are the same.
"""

from __future__ import annotations

import ast
import hashlib
import itertools
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from ..base.inputs import check_whole, existing_file
from ..base.machine import asset
from ..base.whole import check_writable, replace_when_whole
from .measured import REPETITIONS, measure, try_inputs
from .point import OWN, RECIPE, TAUGHT, Point, point_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Study", "course_grid", "course_table", "points_of", "read_grid", "run_points", "table_of"]

VERSION = 2  # of what a point does; another one measures everything anew
ORIGINAL = "original"
HEAD = ("study", "row", "against", "repetition")  # the first columns of a table
TUPLES = {"lora_blocks", "lora_layers"}  # settings that are several values
KEYS = {"name", "question", "expected", "base", "grid", "rows"}


@dataclass(frozen=True)
class Study:
    """One question and the points that answer it, by the name of their row."""

    name: str
    question: str
    expected: str
    varied: tuple[str, ...]  # settings of the grid
    points: dict[str, Point]
    against: dict[str, str]  # the row of the network before fine-tuning that each row's gain is counted from
    unchanged: str | None  # the row that changes nothing: the recipe as it is


def read_grid(path: str | Path) -> tuple[list[Study], int]:
    """The studies of a TOML file and the number of repetitions. ValueError names what is wrong in it."""
    path = existing_file(path, "grid")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no TOML file: {error}.") from error
    if unknown := sorted(content.keys() - {"repetitions", "base", "study"}):
        raise ValueError(f"{path} holds {', '.join(unknown)}; a grid has repetitions, base and [[study]].")
    repetitions, studies = content.get("repetitions", 5), content.get("study", [])
    check_whole(1, repetitions=repetitions)
    if not studies or not isinstance(studies, list):
        raise ValueError(f"{path} has no [[study]].")
    found = [_study(path, content.get("base", {}), study) for study in studies]
    if twice := [study.name for i, study in enumerate(found) if study.name in {other.name for other in found[:i]}]:
        raise ValueError(f"{path} has two studies {twice[0]!r}.")
    return found, repetitions


def course_grid() -> list[Study]:
    """The studies of the course: what was asked, and what was expected before it was measured."""
    return read_grid(asset("ablations.toml"))[0]


def course_table() -> pd.DataFrame:
    """What came out, one line for each study, row, repetition and way (assets/ablations.csv)."""
    import pandas as pd

    return pd.read_csv(asset("ablations.csv"))


def _study(path: Path, base: Mapping, given: Mapping) -> Study:
    name = given.get("name", "")
    if not name or (unknown := sorted(given.keys() - KEYS)):
        said = f"has {', '.join(unknown)}, which is none of {', '.join(sorted(KEYS))}" if name else "has no name"
        raise ValueError(f"A study of {path} ({name!r}) {said}.")
    base, grid = {**base, **given.get("base", {})}, given.get("grid", {})
    if wrong := [key for key, values in grid.items() if not isinstance(values, list) or not values]:
        raise ValueError(f"The grid of study {name!r} gives {wrong[0]} no list of values.")
    rows = {}
    for values in itertools.product(*grid.values()) if grid else ():
        settings = dict(zip(grid, values, strict=True))
        rows[", ".join(_said(key, value) for key, value in settings.items())] = settings
    if twice := sorted(rows.keys() & given.get("rows", {}).keys()):
        raise ValueError(f"Study {name!r} has the row {twice[0]!r} in its grid and in its rows.")
    rows |= given.get("rows", {})
    if not rows:
        raise ValueError(f"Study {name!r} has neither a grid nor rows.")
    points = {}
    for row, settings in rows.items():
        try:
            points[row] = point_of(**{**base, **settings})
        except (TypeError, ValueError) as error:
            raise ValueError(f"Study {name!r}, row {row!r}: {error}") from error
    unchanged = next((row for row, settings in rows.items() if not settings), None)
    trained = {row: point for row, point in points.items() if point.recipe != "none"}
    # Where nothing is trained, gains are counted from the first row's network as it came.
    begun = [*trained.values(), replace(next(iter(points.values())), weights="original")]
    first, against = trained.get(unchanged, begun[0]).original, {}
    for row, point in list(points.items()):
        plain = point.original if point.recipe != "none" else first.judged_as(point)
        known = next((label for label, other in points.items() if other == plain), None)
        other = [f"{key} {value}" for key, value in plain.settings.items() if value != first.settings[key]]
        against[row] = known or ", ".join([ORIGINAL, *other])
        if points.setdefault(against[row], plain) != plain:
            raise ValueError(f"Study {name!r} has a row {against[row]!r}, the name of the network before fine-tuning.")
    return Study(name, given.get("question", ""), given.get("expected", ""), tuple(grid), points, against, unchanged)


def _said(key: str, value) -> str:
    return str(value) if isinstance(value, str) else f"{key} {value}"


# ---- points on disk


def points_of(studies: list[Study], repetitions: int) -> list[tuple[Point, int]]:
    """Every point of every study once, in each repetition: first the originals, which all gains are counted from, then in
    the file's order, but points of one network follow each other, so that it is trained once. ValueError for more
    repetitions than have rooms of their own."""
    check_whole(1, repetitions=repetitions)
    if repetitions > REPETITIONS:
        raise ValueError(f"there are rooms for {REPETITIONS} repetitions, not for {repetitions}.")
    groups: dict[Point, list[Point]] = {}
    points = dict.fromkeys(point for study in studies for point in study.points.values())
    for point in sorted(points, key=lambda point: point.recipe != "none"):
        groups.setdefault(point.of(TAUGHT), []).append(point)
    return [(point, repetition) for repetition in range(repetitions) for group in groups.values() for point in group]


def share_of(wanted: list[tuple[Point, int]], index: int, count: int) -> list[tuple[Point, int]]:
    """Part ``index`` of ``count``. A part has networks of one repetition, which share rooms, or where there are fewer parts
    than repetitions, whole repetitions."""
    repetitions = max(repetition for _, repetition in wanted) + 1
    networks = list(dict.fromkeys((point.of(TAUGHT), repetition) for point, repetition in wanted))
    position = {key: n for r in range(repetitions) for n, key in enumerate(k for k in networks if k[1] == r)}

    def part(point: Point, repetition: int) -> int:
        mates = range(repetition % count, count, repetitions) if count > repetitions else [repetition % count]
        return mates[position[point.of(TAUGHT), repetition] % len(mates)]

    return [one for one in wanted if part(*one) == index]


def _path(work: Path, point: Point, repetition: int) -> Path:
    made = json.dumps([VERSION, point.key, repetition], sort_keys=True)
    return work / f"point_{hashlib.sha256(made.encode()).hexdigest()[:20]}.json"


def run_points(wanted: list[tuple[Point, int]], work: str | Path, device=None) -> None:
    """Measure what is not in ``work`` yet; each point is there, whole, as soon as it is measured."""
    work = check_writable(Path(work) / "points").parent
    left = [(p, r) for p, r in wanted if not _path(work, p, r).is_file()]
    try_inputs([p for p, _ in left], device)
    for point, repetition in tqdm(left, "points", unit="point", mininterval=5):
        found = measure(point, repetition, device)
        with replace_when_whole(_path(work, point, repetition)) as partial:
            partial.write_text(json.dumps(found))


def take_known(table: pd.DataFrame, work: str | Path) -> int:
    """Keep the points of a table (:func:`table_of`, read back) in ``work``, unless they are there; how many were taken. So a
    study goes on where another machine left it, with the table's digits. ValueError where it has no such columns."""
    import pandas as pd

    if missing := sorted(set(HEAD) - set(table)):
        raise ValueError(f"the table has no column {', '.join(missing)}; it should be a table.csv of an ablation.")
    taken, defaults = 0, OWN | RECIPE
    for _, lines in table.groupby(["study", "row", "repetition"], sort=False):
        found = [{k: v for k, v in line.items() if pd.notna(v)} for line in json.loads(lines.to_json(orient="records"))]
        for name in TUPLES & found[0].keys():  # as Python writes them
            found[0][name] = ast.literal_eval(found[0][name])
        settings = {k: v if defaults[k] is None else type(defaults[k])(v) for k, v in found[0].items() if k in defaults}
        path = _path(Path(work), point_of(**settings), found[0]["repetition"])
        if not path.is_file():
            with replace_when_whole(path) as partial:
                partial.write_text(json.dumps([{k: v for k, v in f.items() if k not in {*HEAD, *defaults}} for f in found]))
            taken += 1
    return taken


def table_of(studies: list[Study], repetitions: int, work: str | Path) -> pd.DataFrame:
    """What is measured so far, one line for each study, row, repetition and way (alone, beside)."""
    import pandas as pd

    lines = []
    for study in studies:
        for (row, point), repetition in itertools.product(study.points.items(), range(repetitions)):
            path = _path(Path(work), point, repetition)
            if path.is_file():
                settings = {k: v for k, v in point.settings.items() if k != "changes"} | dict(point.changes)
                head = dict(zip(HEAD, (study.name, row, study.against.get(row, row), repetition), strict=True))
                lines += [head | settings | found for found in json.loads(path.read_text())]
    return pd.DataFrame(lines)
