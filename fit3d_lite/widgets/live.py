"""A plot that renews itself while a cell runs: a callback for whatever has a history that can be drawn."""

from __future__ import annotations

import time

from .notebook import in_notebook


class LivePlot:
    """``finetune(..., on_step=LivePlot())``: shows ``history.plot()``, at most every ``seconds``; in a terminal nothing.

    One figure is replaced in place; the last one, drawn by :meth:`finish` or by the last step shown, stays.

    Args:
        plot: from a history to a matplotlib figure; by default its own ``plot()``.
    """

    def __init__(self, seconds: float = 3.0, plot=None):
        self.seconds, self.plot = seconds, plot or (lambda history: history.plot())
        self._handle, self._last, self._next = None, None, 0.0

    def __call__(self, history) -> None:
        self._last = history
        if time.monotonic() >= self._next:
            self.finish()

    def finish(self) -> None:
        """Draw the latest state now."""
        if self._last is None or not in_notebook():
            return
        from IPython.display import display

        figure = self.plot(self._last)
        if self._handle is None:
            self._handle = display(figure, display_id=True)
        else:
            self._handle.update(figure)
        self._next = time.monotonic() + self.seconds
