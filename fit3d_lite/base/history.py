"""What a run has said so far, a row a step: kept in memory, written as JSON lines, drawn as curves."""

from __future__ import annotations

import json
from pathlib import Path

from .whole import replace_when_whole

# Column, title of its panel, and what to look for in it.
PANELS = (
    ("loss", "loss"),
    ("std_ratio", "standard deviation, of the original's"),
    ("cosine_to_original", "cosine to the original"),
    ("grad_norm", "gradient norm"),
)


class History(list):
    """A list of rows, each a dict with the numbers of one step; None where a number was not measured in that step."""

    def column(self, name: str) -> tuple[list[int], list[float]]:
        """(steps, values) of the rows in which ``name`` was measured."""
        pairs = [(row["step"], row[name]) for row in self if row.get(name) is not None]
        return [p[0] for p in pairs], [p[1] for p in pairs]

    def last(self, name: str, over: int = 1) -> float:
        """Mean of the last ``over`` values of a column; nan when there is none."""
        values = self.column(name)[1][-over:]
        return sum(values) / len(values) if values else float("nan")

    def write(self, path: str | Path) -> None:
        """All rows as JSON lines, in place of what is there."""
        with replace_when_whole(path) as partial:
            partial.write_text("".join(json.dumps(row) + "\n" for row in self))

    @classmethod
    def read(cls, path: str | Path) -> History:
        """What :meth:`write` wrote, or a run's ``log``; a last line that was cut short is left out."""
        rows = cls()
        for line in Path(path).read_text().splitlines():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                break
        return rows

    def plot(self, others: dict[str, History] | None = None, name: str = "this run"):
        """Loss, standard-deviation ratio, cosine to the original and gradient norm over the steps: a running mean, and
        behind it, faint, every step.

        Args:
            others: further runs to draw beside this one, by name.
        """
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8.6, 4.6), layout="constrained")
        for ax, (column, title) in zip(figure.subplots(2, 2).flat, PANELS, strict=True):
            for label, run in {name: self, **(others or {})}.items():
                steps, values = run.column(column)
                noisy = column in ("loss", "grad_norm")
                line = ax.plot(steps, _smooth(values) if noisy else values, label=label)[0]
                ax.plot(steps, values, color=line.get_color(), alpha=0.25, linewidth=1)
            ax.set_title(title)
            ax.set_xlabel("step")
            ax.grid(alpha=0.25)
            if column in ("loss", "grad_norm"):
                ax.set_ylim(bottom=0)
            if others and column == "loss":
                ax.legend()
        return figure

    def __repr__(self) -> str:
        if not self:
            return "History(no step yet)"
        return (
            f"History({len(self)} steps: loss {self.last('loss', 10):.3f}, standard deviation "
            f"{self.last('std_ratio'):.2f} of the original's, cosine to it {self.last('cosine_to_original'):.3f})"
        )


def _smooth(values: list[float], over: int = 8) -> list[float]:
    """Mean of each value and up to ``over`` - 1 before it: two photos a step make a noisy loss."""
    return [sum(values[max(0, i + 1 - over) : i + 1]) / len(values[max(0, i + 1 - over) : i + 1]) for i in range(len(values))]
