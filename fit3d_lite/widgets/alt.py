"""What a figure shows, in words: the alt text of every figure, for readers who hear a page and for pages without pictures.

The words come from the figure itself, its titles, axes, legends and numbers, so they say what is drawn there and nothing
else. A notebook keeps them in the metadata of the picture (``metadata["image/jpeg"]["alt"]``), where nbconvert's classic pages
look, and ours (tools/page.py).
"""

from __future__ import annotations

import sys

__all__ = ["describe", "describe_figures"]

LONGEST = 700  # letters


def describe(figure) -> str:
    """One to a few sentences about a matplotlib figure."""
    axes = [ax for ax in figure.axes if ax.get_visible() and ax.get_label() != "<colorbar>"]
    pictures = [ax for ax in axes if ax.images]
    said = [figure.get_suptitle() if hasattr(figure, "get_suptitle") else ""]
    if pictures:
        said.append(_pictures(pictures))
    said += [_plot(ax) for ax in axes if ax not in pictures and ax.has_data()]
    bars = [ax.get_ylabel() or ax.get_xlabel() for ax in figure.axes if ax.get_label() == "<colorbar>"]
    said += [f"Color bar: {_plain(unit)}." for unit in bars if unit]
    legends = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    said += [f"Colors stand for {', '.join(map(_plain, legends))}."] if legends else []
    text = " ".join(s for s in said if s) or "A drawing."
    return text if len(text) <= LONGEST else text[: LONGEST - 1].rsplit(" ", 1)[0] + "…"


def _pictures(axes: list) -> str:
    """Pictures and maps, by their titles, which head the columns, and their labels, which head the rows."""
    titles = list(dict.fromkeys(_plain(ax.get_title()) for ax in axes if ax.get_title()))
    rows = list(dict.fromkeys(_plain(ax.get_ylabel()) for ax in axes if ax.get_ylabel()))
    count = f"{len(axes)} pictures" if len(axes) > 1 else "A picture"
    heads = [f"columns: {'; '.join(titles)}" if len(axes) > 1 else "; ".join(titles)] if titles else []
    heads += [f"rows: {'; '.join(rows)}"] if rows else []
    return count + (f", {', '.join(heads)}." if heads else ".")


def _plot(ax) -> str:
    """A plot: its title, its axes, and where each named line begins and ends."""
    title, x, y = (_plain(t) for t in (ax.get_title(), ax.get_xlabel(), ax.get_ylabel()))
    said = f"A plot of {y} against {x}" if x and y else f"A plot along {x or y}" if x or y else "A plot"
    said += f", titled {title}" if title else ""
    lines = []
    for line in ax.lines:
        values = [float(v) for v in line.get_ydata()] if len(line.get_ydata()) else []
        if str(line.get_label()).startswith("_") or not values:
            continue
        span = f"{values[0]:.3g}" if values[0] == values[-1] else f"from {values[0]:.3g} to {values[-1]:.3g}"
        lines.append(f"{_plain(line.get_label())} {span}")
    named = [_plain(c.get_label()) for c in (*ax.collections, *ax.containers) if not str(c.get_label()).startswith("_")]
    named += [_plain(p.get_label()) for p in ax.patches if p.get_label() and not str(p.get_label()).startswith("_")]
    points = sum(len(c.get_offsets()) for c in ax.collections if hasattr(c, "get_offsets"))
    parts = [*lines, *dict.fromkeys(named), *([f"{points} points"] if points > 1 else [])]
    return said + (f": {'; '.join(parts)}." if parts else ".")


def _plain(text) -> str:
    return " ".join(str(text).split())


def describe_figures() -> None:
    """From now on every figure that this notebook shows carries its description. Nothing outside a notebook."""
    from IPython import get_ipython

    shell = get_ipython()
    if shell is None or getattr(shell, "_fit3d_describes", False):
        return
    shell._fit3d_describes = True
    shell.events.register("pre_run_cell", lambda *_: _wrap(shell))  # a backend that starts later sets its own again
    _wrap(shell)


def _wrap(shell) -> None:
    if "matplotlib.figure" not in sys.modules:
        return
    from matplotlib.figure import Figure

    for mime in ("image/jpeg", "image/png"):
        formatter = shell.display_formatter.formatters[mime]
        draw = formatter.type_printers.get(Figure)
        if draw is not None and not hasattr(draw, "describes"):

            def described(figure, draw=draw):
                return draw(figure), {"alt": describe(figure)}

            described.describes = True
            formatter.for_type(Figure, described)
