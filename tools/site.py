"""What the gallery's site has beside the lessons: guides and tables as pages, a search through all, a stamp of what made it."""

import html
import importlib.metadata
import json
import os
import platform
import re
from pathlib import Path

from nbformat.v4 import new_markdown_cell, new_notebook

from fit3d_lite.base.machine import origin

from .links import documents
from .page import to_html

PACKAGES = ("torch", "timm", "numpy")
MOST = 30_000  # letters of a page that the search looks through


def stamp() -> str:
    """Version, commit, versions and profile in one line."""
    version, commits = origin()
    made = [f"fit3d_lite {version}" + (f", commit {commits[0][:10]}" if commits else "")]
    made += [f"Python {platform.python_version()}", *(f"{p} {importlib.metadata.version(p)}" for p in PACKAGES)]
    return " · ".join([*made, f"profile {os.environ.get('FIT3D_PROFILE') or 'chosen by the device'}"])


def write_documents(out: Path) -> None:
    """A page for each guide and each table of measurements."""
    for path, name in documents().items():
        text = path.read_text(encoding="utf-8")
        title = next((line[2:] for line in text.splitlines() if line.startswith("# ")), name)
        nb = new_notebook(cells=[new_markdown_cell(text)])
        (out / f"{name}.html").write_text(to_html(nb, path.parent, title, stamp()), encoding="utf-8")


def write_search(out: Path) -> None:
    """search.js: the text of every page, in a script, since a page that lies on a disk may not read other files."""
    pages = []
    for path in sorted(out.glob("*.html")):
        if path.name == "index.html":
            continue
        page = path.read_text(encoding="utf-8")
        title = html.unescape(re.search(r"<title>(.*?)</title>", page, re.DOTALL)[1])
        body = re.sub(r"<(style|script|svg|math)\b.*?</\1>", " ", page[page.index("<body") :], flags=re.DOTALL)
        text = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())
        pages.append({"page": path.name, "title": title, "text": text[:MOST]})
    (out / "search.js").write_text(f"const PAGES = {json.dumps(pages, ensure_ascii=False)};\n{SEARCH}", encoding="utf-8")


SEARCH = """\
const field = document.getElementById("search"), found = document.getElementById("found");
field.addEventListener("input", () => {
  const words = field.value.toLowerCase().split(/\\s+/).filter(w => w.length > 1);
  found.replaceChildren();
  if (!words.length) return;
  for (const p of PAGES) {
    const text = p.text.toLowerCase(), title = p.title.toLowerCase();
    if (!words.every(w => text.includes(w) || title.includes(w))) continue;
    const at = Math.max(0, text.indexOf(words[0]) - 60);
    const line = document.createElement("li"), link = document.createElement("a"), around = document.createElement("span");
    link.href = p.page; link.textContent = p.title; around.textContent = " … " + p.text.slice(at, at + 170) + " …";
    line.append(link, around); found.append(line);
  }
  if (!found.children.length) found.textContent = "No page has these words.";
});
"""
