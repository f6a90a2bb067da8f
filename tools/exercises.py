"""Do the exercises do what they say? Every printed solution must be accepted, every typical wrong answer refused by name.

    python -m tools.exercises            # one line an exercise; exit code 1 when one is not as it should be
    python -m tools.exercises 01 03      # of some lessons
    python -m tools.exercises solutions  # for teachers: every notebook with all solutions filled in, in build/solutions
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import re
import sys
from pathlib import Path

from fit3d_lite.course import exercises

from .bootstrap import ROOT
from .notebooks import read, write

CALL = re.compile(r'f3d\.exercise\("(\w+\.\d+)"')
SOLUTION = re.compile(r"<summary>Solution</summary>\s*```python\n(.*?)```", re.DOTALL)


def lessons() -> dict[str, Path]:
    return {path.name.split("_")[0]: path for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}


def printed(path: Path) -> dict[str, tuple[str, str | None]]:
    """By exercise, its cell as far as the call that judges it, and the solution printed below."""
    cells, found = json.loads(path.read_text(encoding="utf-8"))["cells"], {}
    for at, cell in enumerate(cells):
        source = "".join(cell["source"])
        if cell["cell_type"] != "code" or not (call := CALL.search(source)):
            continue
        below = "".join(cells[at + 1]["source"]) if at + 1 < len(cells) else ""
        solution = SOLUTION.search(below)
        found[call[1]] = source, solution[1] if solution else None
    return found


def imports_of(path: Path) -> str:
    """What a notebook imports in its cells: all that a printed solution may use beside what is given to it."""
    found = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code" and "FIT3D_NOTEBOOK" not in source:  # the bootstrap's are its own
            found += [ast.unparse(node) for node in ast.parse(source).body if isinstance(node, ast.Import | ast.ImportFrom)]
    return "\n".join([*found, ""])


def solved(cell: str, solution: str) -> str:
    """The cell with the solution in the place of what it fills in, as far as the call that judges it."""
    names = {name for node in ast.parse(solution).body for name in _defined(node)}
    kept, lines = [], cell.splitlines()
    for node in ast.parse(cell).body:
        text = "\n".join(lines[node.lineno - 1 : node.end_lineno])
        if not _defined(node) & names:
            kept.append(text)
        if CALL.search(text):
            break
    return "\n".join([*kept[:-1], solution, kept[-1]])


def _defined(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    targets = getattr(node, "targets", [getattr(node, "target", None)])
    return {n.id for target in targets if target is not None for n in ast.walk(target) if isinstance(n, ast.Name)}


def said(code: str) -> str:
    """What a cell prints. Solutions need nothing of their lesson but its imports: what they are tried on is the package's."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, "cell", "exec"), {})
    return out.getvalue()


def faults(name: str, cell: str, solution: str | None, imports: str) -> list[str]:
    """What is wrong with one exercise, a sentence each."""
    lesson, _, number = name.partition(".")
    known = exercises.lesson(lesson).EXERCISES
    if int(number) not in known:
        return ["nothing is known of it"]
    asked, found = known[int(number)], []
    if "○ not solved yet" not in (text := said(imports + solved(cell, ""))):
        found.append(f"the empty cell says: {text.strip()}")
    if solution is None:
        found.append("no solution is printed below it")
    elif not (text := said(imports + solved(cell, solution))).startswith("✓ solved"):
        found.append(f"its printed solution is refused: {text.strip()}")
    if (state := exercises.judge(asked, asked.answer))[0] != "solved":
        found.append(f"its own right answer is refused: {state[1]}")
    if len(asked.mistakes) < 2:
        found.append(f"{len(asked.mistakes)} typical wrong answers are known, 2 are needed")
    if asked.minutes >= 10 and len(asked.cases()) < 3:
        found.append(f"{len(asked.cases())} cases, 3 are needed for an exercise of {asked.minutes} minutes")
    for sentence, mistake in asked.mistakes.items():
        state, text = exercises.judge(asked, mistake)
        if state != "wrong" or f"Likely: {sentence}" not in text:
            found.append(f'the wrong answer "{sentence}" is met with: {state} {text}')
    return found


def write_solutions(out: Path = ROOT / "build" / "solutions") -> list[Path]:
    """Every notebook with the printed solution in the place of each stub; the files."""
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for path in lessons().values():
        nb = read(path)
        answers = {cell: solution for cell, solution in printed(path).values() if solution}
        for cell in nb["cells"]:
            if (source := cell["source"]) in answers:
                call = next(n for n in ast.parse(source).body if CALL.search(ast.get_source_segment(source, n)))
                rest = source.splitlines()[call.end_lineno :]
                cell["source"] = "\n".join([solved(source, answers[source]), *rest])
        written.append(out / path.name)
        written[-1].write_text("", encoding="utf-8")
        write(written[-1], nb)
    return written


def main(asked: list[str]) -> int:
    if asked == ["solutions"]:
        print(f"solutions: {len(write_solutions())} notebooks in {ROOT / 'build' / 'solutions'}")
        return 0
    bad = 0
    if unknown := sorted(set(asked) - set(lessons())):
        print(f"exercises: no lesson {', '.join(unknown)}; there are {', '.join(lessons())}")
        return 2
    for lesson, path in lessons().items():
        if asked and lesson not in asked:
            continue
        for name, (cell, solution) in printed(path).items():
            wrong = faults(name, cell, solution, imports_of(path))
            bad += len(wrong)
            print(f"{name}:", "; ".join(wrong) or "the printed solution is accepted, each wrong answer refused by its name")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
