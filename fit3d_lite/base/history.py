"""What a run has said so far, a row a step: kept in memory, written as JSON lines, drawn as curves.

A GPU works off a queue that the CPU fills. To read one number (``loss.item()``) the CPU waits until the queue is empty,
and the GPU then waits for the CPU to fill it again. So a training loop hands over its numbers as tensors, and the
history reads those of several steps at once.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from torch import Tensor, stack

from .inputs import read_text
from .whole import replace_when_whole

LATEST = 10  # rows after which numbers are read, whether anybody asked or not
# Column, title of its panel, and what to look for in it.
PANELS = (
    ("loss", "loss"),
    ("std_ratio", "standard deviation, of the original's"),
    ("cosine_to_original", "cosine to the original"),
    ("grad_norm", "gradient norm"),
)


def to_floats(rows: Sequence[dict]) -> None:
    """Replace every tensor of one number in ``rows`` by a float, in place and with one wait for all of them."""
    places = [(row, name) for row in rows for name, value in row.items() if isinstance(value, Tensor)]
    if not places:
        return
    values = stack([row[name].detach().double() for row, name in places]).tolist()
    for (row, name), value in zip(places, values, strict=True):
        row[name] = value


class History(list):
    """A list of rows, each a dict with the numbers of one step; None where a number was not measured in that step.

    Rows that come by :meth:`add` may hold tensors, and all of them are floats after :meth:`sync`.

    Args:
        accept: called with each row once its numbers are floats; may change the row, or raise to end the run.
    """

    def __init__(self, rows: Iterable[dict] = (), accept: Callable[[dict], None] | None = None):
        super().__init__(rows)
        self._accept, self._log = accept, None
        self._read, self._began = len(self), None  # rows that hold floats; when the step of the first other row began

    def log_to(self, path: str | Path) -> None:
        """Write all rows to ``path``, in place of what is there, and from now on each row once it has been read."""
        self.write(path)
        self._log = path

    def add(self, row: dict, began: float | None = None) -> dict:
        """Append a row, and read it at once where that makes nobody wait: on the CPU. On a GPU every tenth one is read.

        Args:
            began: ``time.perf_counter()`` before the step; the row then gets ``seconds``, the mean over those read
                together.
        """
        if self._read == len(self):
            self._began = began
        self.append(row)
        waits = any(isinstance(value, Tensor) and value.device.type != "cpu" for value in row.values())
        if not waits or len(self) - self._read == LATEST:
            self.sync()
        return row

    def sync(self) -> None:
        """Read what is still on the device, with one wait for all of it."""
        rows = self[self._read :]
        if not rows:
            return
        to_floats(rows)
        seconds = None if self._began is None else (time.perf_counter() - self._began) / len(rows)
        for row in rows:
            if self._accept is not None:
                self._accept(row)
            if seconds is not None:
                row["seconds"] = seconds
        if self._log is not None:
            with open(self._log, "a") as file:
                file.writelines(json.dumps(row) + "\n" for row in rows)
        self._read = len(self)

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
        for line in read_text(path, "log of a run").splitlines():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                break
            if not isinstance(rows[-1], dict):
                raise ValueError(f"{path} is no log of a run: a line of it reads {line[:40]!r}.")
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
    parts = (values[max(0, i + 1 - over) : i + 1] for i in range(len(values)))
    return [sum(part) / len(part) for part in parts]
