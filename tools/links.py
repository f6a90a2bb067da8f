"""Where a link of our texts leads on the site: to its page there, else to the file on GitHub."""

import re
from pathlib import Path

from .bootstrap import ROOT, repository


def documents() -> dict[Path, str]:
    """The Markdown files that have a page, and its name: measured, glossary and other guides, results_<table> for tables."""
    guides = {path: path.stem for path in sorted((ROOT / "docs").glob("*.md"))}
    tables = {path: f"results_{path.stem}" for path in sorted((ROOT / "bench" / "results").glob("*.md"))}
    return {ROOT / "bench" / "README.md": "measured"} | guides | tables


def address(target: str, folder: Path) -> str:
    """The link ``target`` of a text in ``folder``, as a page of the site has it; what is not ours stays as it is."""
    start = f"https://github.com/{repository()}/blob/main/"
    path, mark, anchor = target.partition("#")
    if not path or ("://" in path and not path.startswith(start)) or path.startswith(("data:", "mailto:")):
        return target
    file = ROOT / path.removeprefix(start) if path.startswith(start) else (folder / path).resolve()
    if file in documents():
        return f"{documents()[file]}.html{mark}{anchor}"
    if file.suffix == ".ipynb" and file.parent == ROOT / "notebooks":
        return f"{file.stem}.html{mark}{anchor}"
    return start + file.relative_to(ROOT).as_posix() + mark + anchor if file.is_relative_to(ROOT) and file.exists() else target


def linked(markdown: str, folder: Path) -> str:
    """Markdown whose links lead to the site's pages; the name of a table in running text becomes one."""
    known = "|".join(name.removeprefix("results_") for name in documents().values() if name.startswith("results_"))
    markdown = re.sub(rf"(?<!\[)`(bench/results/({known})\.md)`(?!\])", r"[\1](results_\2.html)", markdown)
    return re.sub(r"(?<=\]\()[^)\s]+(?=\))", lambda m: address(m[0], folder), markdown)
