"""Result cards: each number beside the range expected at this profile, and beside the paper's.

A number out of range says LOOK, and why it may be. The JSON part is as in checks.py.
"""

import html
import re
from dataclasses import asdict, dataclass

from ..base import artifacts
from ..widgets.notebook import AMBER, in_notebook, number, show, strip
from .settings import chosen

CARD_MIME = "application/vnd.fit3d.card+json"
CARDS = "cards"  # the folder, beside the artifacts of a profile, in which every card's payload is kept


@dataclass
class Row:
    """One number of a result card.

    Args:
        name: what was measured: "mIoU, original and 3D-aware".
        value: the number (or a text, which is shown and not judged).
        spread: its standard deviation over seeds, where measured.
        quick, middle, full: ``(low, high)`` expected in that profile; None where no range is known. Without one of its own,
            the middle profile's is estimated: the quick one widened by its width on both sides, its sign kept.
        paper: the paper's number, as text: "32.76 (ScanNet++, DINOv2-S)".
        why: what it may mean when the value is out of range.
    """

    name: str
    value: float | str
    spread: float | None = None
    unit: str = ""
    quick: tuple[float, float] | None = None
    middle: tuple[float, float] | None = None
    full: tuple[float, float] | None = None
    paper: str | None = None
    why: str = ""

    def expected(self, profile: str) -> tuple[float, float] | None:
        """The range for that profile, measured or (:attr:`estimated`) not."""
        if not (profile == "middle" and self.estimated):
            return getattr(self, profile)
        low, high = self.quick
        wide = low - (high - low), high + (high - low)
        return (max(wide[0], 0) if low > 0 else wide[0]), (min(wide[1], 0) if high < 0 else wide[1])

    @property
    def estimated(self) -> bool:
        return self.middle is None and self.quick is not None

    def verdict(self, profile: str) -> str:
        """"ok", "LOOK", or "" when there is nothing to compare with. NaN is out of every range."""
        expected = self.expected(profile)
        if expected is None or isinstance(self.value, str):
            return ""
        return "ok" if expected[0] <= float(self.value) <= expected[1] else "LOOK"


class Card:
    """A result card: shows itself once when made, and prints as text. Made by :func:`card`."""

    def __init__(self, title: str, rows: list[Row], profile: str):
        self.title, self.rows, self.profile = title, rows, profile
        self.looks = [r for r in rows if r.verdict(profile) == "LOOK"]
        self._shown_in = None

    def _cells(self, row: Row) -> list[str]:
        value = number(row.value) + (f" ± {number(row.spread)}" if row.spread is not None else "")
        expected = row.expected(self.profile)
        unknown = "not measured yet" if self.profile == "full" and row.quick else ""
        span = f"{number(expected[0])} to {number(expected[1])}" if expected else unknown
        span += " (estimated)" if expected and self.profile == "middle" and row.estimated else ""
        mark = {"ok": "✓ in range", "LOOK": "⚠ LOOK", "": ""}[row.verdict(self.profile)]
        return [row.name, f"{value} {row.unit}".rstrip(), span, row.paper or "", mark]

    def _columns(self) -> tuple[list[str], list[list[str]]]:
        heads = ["", "measured", f"expected ({self.profile})", "paper", ""]
        body = [self._cells(r) for r in self.rows]
        used = [i for i in range(len(heads)) if i < 2 or any(line[i] for line in body)]
        return [heads[i] for i in used], [[line[i] for i in used] for line in body]

    def __str__(self) -> str:
        heads, body = self._columns()
        widths = [max(len(line[i]) for line in [heads, *body]) for i in range(len(heads))]
        lines = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in [heads, *body]]
        looks = [f"⚠ LOOK: {r.name} is {number(r.value)}. {r.why}".rstrip() for r in self.looks]
        return "\n".join([self.title, *lines, *looks])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        line = "border-bottom:1px solid rgba(128,128,128,.35)"
        cell = f"padding:.3em .9em;text-align:left;color:inherit;{line}"
        heads, body = self._columns()
        out = [f'<th style="{cell};font-weight:600;opacity:.75">{html.escape(h)}</th>' for h in heads]
        rows = [f'<tr style="background:transparent">{"".join(out)}</tr>']
        for row, cells in zip(self.rows, body, strict=True):
            look = row in self.looks
            back = f"rgba({AMBER},.25)" if look else "transparent"
            weights = ["600" if i == 1 or (look and i == len(cells) - 1) else "400" for i in range(len(cells))]
            tds = [
                f'<td style="{cell};font-weight:{w};font-variant-numeric:tabular-nums">{html.escape(c)}</td>'
                for c, w in zip(cells, weights, strict=True)
            ]
            rows.append(f'<tr style="background:{back}">{"".join(tds)}</tr>')
        looks = "".join(
            strip(AMBER, f"<b>⚠ LOOK: {html.escape(r.name)} is {number(r.value)}.</b> {html.escape(r.why)}")
            for r in self.looks
        )
        table = f'<table style="border-collapse:collapse;margin:.3em 0;color:inherit">{"".join(rows)}</table>'
        box = "border:1px solid rgba(128,128,128,.5);border-radius:8px;padding:.7em 1em;display:inline-block"
        title = f'<div style="font-size:1.1em;font-weight:700">{html.escape(self.title)}</div>'
        return f'<div style="{box};max-width:64em;overflow-x:auto">{title}{table}{looks}</div>'

    def payload(self) -> dict:
        """What the gallery collects: title, profile and rows with their verdicts, ready for JSON."""
        mine = self.profile
        judged = [{"verdict": r.verdict(mine), "expected": r.expected(mine), "cells": self._cells(r)} for r in self.rows]
        rows = [asdict(r) | judgement for r, judgement in zip(self.rows, judged, strict=True)]
        return {"title": self.title, "profile": self.profile, "rows": rows}

    def show(self) -> None:
        if in_notebook():
            from IPython import get_ipython

            self._shown_in = get_ipython().execution_count
        show(str(self), self._repr_html_(), CARD_MIME, self.payload())

    def _ipython_display_(self) -> None:
        # A card made on a cell's last line was shown when made; showing it again as the cell's value would double it.
        from IPython import get_ipython

        if not in_notebook() or get_ipython().execution_count != self._shown_in:
            self.show()


def card(title: str, rows: list, profile: str | None = None) -> Card:
    """Show a result card and return it. After :func:`setup` its numbers are kept too, for tables.py; a card of the same
    title takes the place of the last.

    Args:
        rows: :class:`Row` objects, or dicts with a Row's fields.
        profile: "quick", "middle" or "full", whose range is compared; by default the one :func:`setup` chose.
    """
    profile = profile or chosen.profile
    if profile not in ("quick", "middle", "full"):
        raise ValueError(f"profile is {profile!r}; it must be 'quick', 'middle' or 'full'")
    made = Card(title, [r if isinstance(r, Row) else Row(**_plain(r)) for r in rows], profile)
    for row in made.rows:
        row.value, row.spread = _scalar(row.value), _scalar(row.spread)
        if row.value is None:
            raise ValueError(f"row {row.name!r} of the card {title!r} has no value: it was not measured, or not returned")
    made.show()
    if chosen.artifacts is not None:
        slug = "-".join(re.findall(r"[a-z0-9]+", title.casefold())) or "card"
        artifacts.save(chosen.artifacts / CARDS, slug[:80], made.payload())
    return made


def _scalar(value):
    return value.item() if hasattr(value, "item") else value


def _plain(row: dict) -> dict:
    unknown = set(row) - set(Row.__dataclass_fields__)
    if unknown:
        raise ValueError(f"a row has no field {sorted(unknown)}; it has {list(Row.__dataclass_fields__)}")
    return row
