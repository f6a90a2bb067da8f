"""What README and docs promise is there: links, rooms, commands, options; and the program in the README runs as printed."""

import re
import shlex

import pytest

import fit3d_lite as f3d
from fit3d_lite import __main__ as command_line
from fit3d_lite.finetuning.command import arguments
from tools.bootstrap import ROOT
from tools.notebooks import all_notebooks

README = (ROOT / "README.md").read_text("utf-8")
PAGES = [ROOT / "README.md", ROOT / "bench" / "README.md", ROOT / "assets" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(text, language):
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text("utf-8"))
    assert links or page.parent.name == "docs" or page.parent.name == "assets"
    assert not [x for x in links if "://" not in x and not (page.parent / x).exists()]


def test_every_lesson_and_every_table_is_listed():
    assert re.findall(r"\]\(notebooks/([^)]+)\)", README) == [p.name for p in all_notebooks()]
    table = (ROOT / "bench" / "README.md").read_text("utf-8")
    assert set(re.findall(r"\]\(results/([^)]+)\)", table)) == {p.name for p in (ROOT / "bench" / "results").glob("*.md")}


def test_the_rooms_are_those_that_are_there_in_the_order_of_imports():
    listed = re.findall(r"^\| \[(\w+)\]\(fit3d_lite/\w+\)", README, re.MULTILINE)
    assert sorted(listed) == sorted(p.name for p in (ROOT / "fit3d_lite").iterdir() if (p / "__init__.py").exists())
    for room in listed:
        code = "\n".join(p.read_text("utf-8") for p in (ROOT / "fit3d_lite" / room).rglob("*.py"))
        used = set(re.findall(r"from \.{2,3}(\w+)", code)) | set(re.findall(r"from \.\. import (\w+)", code))
        assert used & set(listed) <= set(listed[: listed.index(room) + 1]), f"{room} uses a room below it"


def test_commands_exist_with_their_options():
    texts = [p.read_text("utf-8") for p in PAGES]
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {m for t in texts for m in re.findall(r"\bmake ([a-z][\w-]*)", " ".join(re.findall(r"`+[^`]+`+", t)))} <= targets
    benches = {p.stem.removeprefix("bench_") for p in (ROOT / "bench").glob("bench_*.py")}
    assert {m for t in texts for m in re.findall(r"make bench ONLY=(\w+)", t)} <= benches
    for module in {m for t in texts for m in re.findall(r"python -m ((?:bench|tools)\.\w+)", t)}:
        assert (ROOT / f"{module.replace('.', '/')}.py").exists(), module
    lines = [x for t in texts for b in blocks(t, "bash") for x in re.findall(r"-m fit3d_lite (.*)", b)]
    assert len(lines) >= 4
    for line in lines:
        name, *options = shlex.split(line, comments=True)
        assert name in command_line.COMMANDS
        if name == "finetune":
            assert arguments(options).out.name.startswith("tuned")


def test_names_in_running_text_exist():
    for page in PAGES:
        for path in re.findall(r"\bf3d\.([A-Za-z_][\w.]*\w)", page.read_text("utf-8")):
            here = f3d
            for part in path.split("."):
                assert hasattr(here, part), f"{page.name}: f3d.{path}"
                here = getattr(here, part)


@pytest.mark.slow
def test_the_program_in_the_readme_runs_as_printed(capsys):
    (program,) = blocks(README, "python")
    assert len([x for x in program.splitlines() if x.strip()]) <= 12
    found = {}
    exec(program, found)  # noqa: S102
    rows = [x for x in capsys.readouterr().out.splitlines() if "recall" in x]
    assert len(rows) == 2 and tuple(found["W"].shape) == (224 * 224, len(found["cloud"]))
    assert found["features"].shape == (384, 16, 16) and found["mask"].float().mean() > 0.5


def test_lessons_link_to_words_that_the_glossary_has():
    known = re.findall(r'<a id="([\w-]+)">', (ROOT / "docs" / "glossary.md").read_text("utf-8"))
    linked = {x for path in all_notebooks() for x in re.findall(r"docs/glossary\.md#([\w-]+)", path.read_text("utf-8"))}
    assert linked and linked <= set(known) and len(known) == len(set(known))
