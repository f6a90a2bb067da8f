"""All result cards so far as tables for a paper, and what may be claimed from them.

    tables = card_tables(run.artifacts)     # of the cards that lessons have shown in this profile
    tables.save("paper")                    # paper/results.csv and paper/results.tex
    print(tables.claims)

Every card is kept when it is shown (cards.py), the last one of each title. Nothing here measures anything.
"""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path

from ..base import artifacts
from ..base.whole import replace_when_whole
from ..widgets.notebook import number
from .cards import CARDS

# Words by which a row of a card names a control: what should not help.
CONTROL = re.compile(r"control|wrong poses|untrained|blur|twice|shuffled|random|collapse|by chance|place in the picture", re.I)
HEADS = ("card", "measure", "value", "spread", "unit", "low", "high", "paper", "verdict", "control", "profile")
SPECIAL = re.compile(r"([&%$#_{}])")
SIGNS = {"−": "-", "±": r"\pm", "×": r"\times", "≥": r"\geq", "≤": r"\leq", "°": r"^\circ", "²": "^2", "δ": r"\delta"}


@dataclass(frozen=True)
class CardTables:
    """Rows of all cards; ``csv`` and ``latex`` are texts, ``claims`` a paragraph."""

    rows: list[dict]  # by the names of HEADS

    @property
    def csv(self) -> str:
        """One line a number, with all digits; empty where nothing was measured or is known."""
        out = io.StringIO()
        table = csv.DictWriter(out, HEADS, lineterminator="\n")
        table.writeheader()
        table.writerows(self.rows)
        return out.getvalue()

    @property
    def latex(self) -> str:
        """A booktabs table: measured ± spread, the paper's number, controls in italics; a dagger marks what is out of its
        range."""
        lines = [r"\begin{tabular}{lrl}", r"\toprule", r"measure & measured & published \\"]
        for title in dict.fromkeys(row["card"] for row in self.rows):
            lines += [r"\midrule", rf"\multicolumn{{3}}{{l}}{{\textbf{{{_tex(title)}}}}} \\"]
            for row in (row for row in self.rows if row["card"] == title):
                name = _tex(row["measure"])
                name = rf"\textit{{{name}}}" if row["control"] else name
                value = number(row["value"]) + ("" if row["spread"] is None else f" ± {number(row['spread'])}")
                value = _tex(f"{value} {row['unit']}".strip()) + (r"$^\dagger$" if row["verdict"] == "LOOK" else "")
                lines.append(rf"{name} & {value} & {_tex(row['paper'] or '')} \\")
        return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"

    @property
    def claims(self) -> str:
        """What these numbers allow to be said, in a paragraph that counts them."""
        cards = {row["card"] for row in self.rows}
        numbers = [row for row in self.rows if not isinstance(row["value"], str)]
        alone, controls = sum(row["spread"] is None for row in numbers), sum(row["control"] for row in numbers)
        unknown = sum(row["low"] is None for row in numbers)
        out = [f"{row['measure']} ({row['card']})" for row in numbers if row["verdict"] == "LOOK"]
        profiles = ", ".join(sorted({row["profile"] for row in self.rows}))
        return (
            f"Numbers: {len(numbers)}, from result cards: {len(cards)}, profile {profiles}. Without a spread: {alone}; these are "
            f"single runs, which show that something happened once, on these data. Before a table says that one network is "
            f"better, repeat it over seeds and scenes (fit3d_lite.paired gives the interval). Controls, in italics: {controls}. "
            f"Claim 3D for a gain only where its control, above all wrong poses, gains less. Without an expected range: "
            f"{unknown}. Out of it, and not to be used unexplained: {'; '.join(out) or 'none'}."
        )

    def save(self, folder: str | Path) -> tuple[Path, Path]:
        """Write results.csv and results.tex (it needs \\usepackage{booktabs}); returns both paths."""
        paths = tuple(Path(folder) / f"results.{ending}" for ending in ("csv", "tex"))
        for path, text in zip(paths, (self.csv, self.latex), strict=True):
            with replace_when_whole(path) as partial:
                partial.write_text(text, encoding="utf-8")
        return paths


def card_tables(folder: str | Path) -> CardTables:
    """The cards that were shown with this folder of artifacts (``run.artifacts``).

    Raises FileNotFoundError when there is none yet, ValueError for a damaged one.
    """
    kept = sorted((Path(folder) / CARDS).glob("*.json"), key=lambda path: (path.stat().st_mtime, path.name))
    if not kept:
        raise FileNotFoundError(f"no result card is kept in {folder} yet: run a lesson to its card first.")
    rows = []
    for path in kept:
        card = artifacts.load(path.parent, path.stem)
        for row in card["rows"]:
            low, high = row["expected"] or (None, None)
            rows.append({
                "card": card["title"], "measure": row["name"], "value": row["value"], "spread": row["spread"],
                "unit": row["unit"], "low": low, "high": high, "paper": row["paper"], "verdict": row["verdict"],
                "control": bool(CONTROL.search(row["name"])), "profile": card["profile"],
            })  # fmt: skip
    return CardTables(rows)


def _tex(text: str) -> str:
    """Plain text as LaTeX: its special letters escaped, signs that fonts may lack as commands."""
    text = SPECIAL.sub(r"\\\1", text.replace("\\", "/")).replace("~", r"\textasciitilde{}").replace("^", r"\^{}")
    return "".join(f"${SIGNS[letter]}$" if letter in SIGNS else letter for letter in text)
