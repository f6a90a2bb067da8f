"""The gallery runs notebooks, measures them, and stays whole when one of them fails."""

import html
import json
import re

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from tools import gallery
from tools.bootstrap import ROOT, badge_cell, repository
from tools.execute import execute
from tools.gallery_index import duration
from tools.links import linked
from tools.notebooks import with_hero
from tools.page import to_html, undescribed

# The outputs that fit3d_lite.course.checks and fit3d_lite.course.cards send, without the seconds that importing torch takes.
SHOW = """\
from IPython.display import display
display({"text/plain": "ok", "application/vnd.fit3d.check+json": {"kind": "check", "what": "a", "passed": True}}, raw=True)
display({"text/plain": "o", "application/vnd.fit3d.check+json": {"kind": "exercise", "what": "b", "state": "open"}}, raw=True)
row = {"name": "RMSE <m>", "verdict": "LOOK", "why": "one seed", "cells": ["RMSE <m>", "0.9 m", "0.7 to 0.8", "0.37", "LOOK"]}
display({"text/plain": "c", "application/vnd.fit3d.card+json": {"title": "Result", "profile": "quick", "rows": [row]}}, raw=True)
"""  # noqa: E501
PICTURE = """\
import base64
from IPython.display import Image
Image(base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="))
"""
WIDGET = """\
display({"text/plain": "Int" + "Slider()", "application/vnd.jupyter.widget-view+json": {"model_id": "1"}}, raw=True)
kept = bytearray(60_000_000)
print("the static twin")
"""


def write(folder, name, *cells):
    nb = new_notebook(cells=[nbformat.from_dict(badge_cell(name)), *cells])
    nb.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(nb, folder / name)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A gallery of one good and one failing notebook; (folder of pages, exit code, what was printed)."""
    import contextlib
    import io

    root = tmp_path_factory.mktemp("gallery")
    notebooks = root / "notebooks"
    notebooks.mkdir()
    formula = new_markdown_cell("# A view is a **sparse** matrix\n\n> box\n\nYou render `W @ c`.\n\n$$\\hat f = WF$$")
    good = [new_code_cell(s) for s in (SHOW, PICTURE, WIDGET, "import time; time.sleep(0.5)")]
    write(notebooks, "00_good.ipynb", formula, *good)
    bad = [new_code_cell(s) for s in (SHOW, "raise AssertionError('the order is <back> to front')", "print('never')")]
    write(notebooks, "01_bad.ipynb", new_markdown_cell("# Lifting\n\nFails."), *bad)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = gallery.main(["--notebooks", str(notebooks), "--out", str(root / "out"), "--timeout", "60"])
    return root / "out", code, printed.getvalue()


def test_one_failing_notebook_is_named_and_the_other_is_still_there(built):
    out, code, printed = built
    assert code == 1
    assert "01_bad.ipynb FAILED in cell 3: AssertionError: the order is <back> to front" in printed
    assert "1 of 2 notebooks ran to their end" in printed
    index = (out / "index.html").read_text()
    assert index.count('class="entry failed"') == 1 and index.count('class="entry"') == 1
    assert "<b>Cell 3</b>: AssertionError: the order is &lt;back&gt; to front" in index
    assert "1 of 2" in index and (out / "00_good.html").exists() and "never" not in json.dumps(entry(out, "01_bad"))


def entry(out, stem):
    return json.loads((out / f"{stem}.json").read_text())


def test_entry_says_title_outcome_checks_time_and_memory(built):
    good = entry(built[0], "00_good")
    assert good["title"] == "A view is a sparse matrix" and good["outcome"] == "You render W @ c."
    assert good["failed_cell"] is None and good["checks"] == 1 and good["exercises"] == 1
    assert good["thumbnail"].startswith("data:image/jpeg;base64,")
    assert 0.5 < good["slowest"] < good["seconds"] < 60
    assert 90e6 < good["peak_bytes"] < 2e9  # the 60 MB it keeps, over a kernel of at least 30 MB


def test_index_collects_result_cards_and_says_look(built):
    index = (built[0] / "index.html").read_text()
    assert "RMSE &lt;m&gt;" in index and "0.7 to 0.8" in index and "⚠ LOOK" in index and "one seed" in index


def test_each_table_and_guide_is_a_page_that_others_link_to(built):
    out = built[0]
    page = (out / "measured.html").read_text()
    assert 'href="measured.html"' in (out / "index.html").read_text() and 'href="gpu.html"' in page
    for path in (ROOT / "bench" / "results").glob("*.md"):
        assert f'href="results_{path.stem}.html"' in page and "<table" in (out / f"results_{path.stem}.html").read_text()
    for name in ("glossary", "teaching", "extend"):
        text = (out / f"{name}.html").read_text()
        assert "<footer>fit3d_lite " in text and "profile" in text
    ours = {x.partition("#")[0] for p in out.glob("*.html") for x in re.findall(r'href="([^"#:]+\.html[^"]*)"', p.read_text())}
    lessons = {f"{p.stem}.html" for p in (ROOT / "notebooks").glob("*.ipynb")}
    assert ours - lessons and not [x for x in ours - lessons if not (out / x).is_file()]


@pytest.mark.parametrize(
    ("target", "leads"),
    [("../docs/glossary.md#auc", "glossary.html#auc"), ("02_lifting.ipynb", "02_lifting.html"), ("#here", "#here"),
     (f"https://github.com/{repository()}/blob/main/bench/results/demo.md", "results_demo.html"),
     ("../tools/figures.py", f"https://github.com/{repository()}/blob/main/tools/figures.py"),
     *((other, other) for other in ("https://arxiv.org/abs/2407.20229", "data:image/jpeg;base64,AA"))],
)  # fmt: skip
def test_a_lessons_link_leads_to_the_sites_page_or_to_github(target, leads):
    assert linked(f"see [this]({target})", ROOT / "notebooks") == f"see [this]({leads})"


def test_the_name_of_a_table_in_running_text_becomes_a_link():
    said = linked("as `bench/results/demo.md` says, and [`bench/results/demo.md`](x)", ROOT / "notebooks")
    assert said == "as [bench/results/demo.md](results_demo.html) says, and [`bench/results/demo.md`](x)"


def test_the_search_holds_the_text_of_every_page(built):
    script = (built[0] / "search.js").read_text()
    pages = json.loads(re.match(r"const PAGES = (.*);\n", script)[1])
    assert {p["page"] for p in pages} == {p.name for p in built[0].glob("*.html")} - {"index.html"}
    texts = {p["page"]: p["text"] for p in pages}
    assert "the static twin" in texts["00_good.html"] and "data:image" not in texts["00_good.html"]
    assert '<script src="search.js">' in (built[0] / "index.html").read_text()


def test_pages_ask_nothing_of_any_server(built):
    for page in built[0].glob("*.html"):  # where a reader may go by a click is another matter
        text = page.read_text()
        asked = re.findall(r"""(?:src=|<link[^>]+href=)["'](?:https?:)?//[^"']+|@import|url\(["']?https?:""", text)
        assert not asked, f"{page.name} asks for {asked[:3]}"


def test_page_shows_formula_and_static_twin_and_no_live_widget(built):
    page = (built[0] / "00_good.html").read_text()
    assert "<math" in page and "the static twin" in page and "data:image/png;base64" in page
    assert "IntSlider()" not in page  # what a live widget leaves behind where nothing can draw it
    assert "prefers-color-scheme: dark" in page and "--jp-layout-color0" in page


def test_running_one_again_keeps_the_others(built, capsys):
    out, _, _ = built
    notebooks = out.parent / "notebooks"
    assert gallery.main(["--notebooks", str(notebooks), "--out", str(out), "nothing"]) == 2
    (notebooks / "01_bad.ipynb").rename(notebooks / "02_bad.ipynb")
    gallery.write_index(out, notebooks)
    assert 'class="entry failed"' not in (out / "index.html").read_text()  # an entry whose notebook is gone
    assert 'class="entry"' in (out / "index.html").read_text()
    (notebooks / "02_bad.ipynb").rename(notebooks / "01_bad.ipynb")
    gallery.write_index(out, notebooks)


def test_a_cell_that_takes_too_long_is_named(tmp_path, capsys):
    write(tmp_path, "00_slow.ipynb", new_code_cell("import time; time.sleep(60)"))
    assert gallery.main(["--notebooks", str(tmp_path), "--out", str(tmp_path / "out"), "--timeout", "2"]) == 1
    assert "FAILED in cell 1: took longer than 2 s" in capsys.readouterr().out


def test_durations_read_well():
    assert [duration(s) for s in (3.4, 89, 125)] == ["3 s", "89 s", "2 min 05 s"]


def test_pictures_of_the_course_are_inside_the_page():
    shown = '![hero](../assets/hero_01.jpg)\n\n<img alt="x" src="../assets/room.jpg">\n\n![gone](../assets/none.jpg)'
    cell = new_markdown_cell(shown)
    inside = new_markdown_cell(with_hero("![hero](x/assets/hero_02.jpg)", "02_lifting.ipynb"))
    nb = new_notebook(cells=[cell, inside])
    assert gallery.thumbnail(new_notebook(cells=[inside]), ROOT).startswith("data:image/jpeg;base64,")
    page = to_html(nb, ROOT / "notebooks", "t")
    assert page.count("data:image/jpeg;base64,") == 3
    assert "hero_01.jpg" not in page and "none.jpg" in page


def test_a_hint_stays_folded():
    cell = new_markdown_cell("<details><summary>Hint</summary>\n\nTake the **mean**.\n\n</details>\n\nAfter.")
    page = to_html(new_notebook(cells=[cell]), ROOT / "notebooks", "t")
    folded = page[page.index("<details>") : page.index("</details>")]
    assert "<strong>mean</strong>" in folded and "After." not in folded


def test_a_progress_bar_is_one_line_of_the_page(tmp_path):
    code = "from tqdm import tqdm\nimport time\nfor i in tqdm(range(30), mininterval=0):\n    time.sleep(0.01)"
    path = tmp_path / "bar.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell(code)]), path)
    outputs = execute(path, timeout=60).nb.cells[0].outputs
    assert len(outputs) == 1 and outputs[0].text.count("it/s") == 1 and "30/30" in outputs[0].text


def test_a_damaged_entry_is_named_and_the_others_stay(built, tmp_path, capsys):
    out, _, _ = built
    for name in ("00_good", "01_bad", "02_torn", "03_other"):
        (tmp_path / f"{name}.ipynb").touch()
    for name in ("00_good", "01_bad"):
        (tmp_path / f"{name}.json").write_text((out / f"{name}.json").read_text())
    (tmp_path / "02_torn.json").write_text((out / "00_good.json").read_text()[:100])
    (tmp_path / "03_other.json").write_text("[1]")
    gallery.write_index(tmp_path, tmp_path)
    said = capsys.readouterr().out
    assert all(f"{name}.json is left out, as it is damaged" in said for name in ("02_torn", "03_other"))
    page = (tmp_path / "index.html").read_text()
    assert "1 of 2" in page and "A view is a sparse matrix" in page


def test_a_notebooks_name_cannot_leave_its_attribute():
    from tools.gallery_index import _page

    assert '"' not in _page({"file": 'a"onclick="x.ipynb'})


FIGURES = """\
import matplotlib.pyplot as plt, torch
from IPython.display import display
import fit3d_lite as f3d
run = f3d.setup("quick")
images = torch.rand(2, 3, 28, 28)
display(f3d.viz.compare(images, {"PCA, original": torch.rand(2, 2, 2, 3), "likeness": torch.rand(2, 2, 2)}, unit="cosine"))
display(f3d.viz.show_labels(images, torch.tensor([[[0, 1], [1, 0]]] * 2), ("wall", "chair")))
display(f3d.viz.show_depth(images, torch.rand(2, 28, 28) + 1))
f3d.viz.frames_slider([images[0].movedim(0, -1)] * 2, ["near", "far"], "a ride")
"""
PLOT = """\
figure, ax = plt.subplots()
ax.plot([1, 2, 3], [0.5, 0.3, 0.2], "o-", label="original")
ax.set(xlabel="angle", ylabel="recall", title="the wider, the harder")
ax.legend()
plt.show()
"""


def test_every_figure_of_a_page_says_what_it_shows(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("MPLBACKEND", raising=False)  # what the tests draw with shows nothing
    write(tmp_path, "00_figures.ipynb", new_markdown_cell("# Figures\n\nAll."), new_code_cell(FIGURES), new_code_cell(PLOT))
    ran = execute(tmp_path / "00_figures.ipynb", 600)
    assert ran.failed_cell is None, ran.error
    page = to_html(ran.nb, tmp_path, "figures")
    assert page.count("<img") >= 5 and undescribed(page) == []
    said = html.unescape(" ".join(re.findall(r'<img alt="([^"]*)"', page)))
    assert "6 pictures, columns: photo; PCA, original; likeness. Color bar: cosine." in said
    assert "Colors stand for wall, chair." in said and "Color bar: metres." in said
    assert "of recall against angle, titled the wider, the harder: original from 0.5 to 0.2." in said


def test_a_picture_without_words_is_found():
    silent = '<img src="a"><img alt="" src="b"><img src="c" alt="No description has been provided for this image">'
    assert len(undescribed(silent + '<img src="d" alt="a room">')) == 3


def test_pictures_in_the_texts_of_the_lessons_say_what_they_show():
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "markdown":
                assert not re.findall(r"!\[\s*\]\(", cell.source) and undescribed(cell.source) == [], path.name
