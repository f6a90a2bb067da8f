"""Is this a notebook, and how does a line look in it? Markup with a plain-text twin for terminals and screen readers.

Colors are translucent over the page's own background, so they read in light and dark themes.
"""

GREEN, RED, AMBER, BLUE = "34,160,90", "214,69,65", "222,142,20", "70,130,220"


def in_notebook() -> bool:
    """True in a Jupyter or Colab kernel, False in a terminal or a script."""
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    return hasattr(get_ipython(), "kernel")


def show(text: str, markup: str, mime: str | None = None, payload: dict | None = None) -> None:
    """Display ``markup`` with ``text`` as its twin in a notebook; print ``text`` elsewhere."""
    if not in_notebook():
        print(text)
        return
    from IPython.display import display

    bundle = {"text/plain": text, "text/html": markup}
    if mime:
        bundle[mime] = payload
    display(bundle, raw=True)


def number(value) -> str:
    """A number as a reader wants it: three significant digits, whole numbers whole."""
    if isinstance(value, bool | str):
        return str(value)
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer() and abs(value) < 1e6):
        return f"{int(value):,}"
    value = float(value)
    if 999.5 <= abs(value) < 1e6:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 0.1 else f"{value:#.3g}".rstrip(".")


def strip(rgb: str, content: str) -> str:
    """One line of markup with a colored edge; ``content`` is HTML, escaped by the caller."""
    style = f"border-left:4px solid rgb({rgb});background:rgba({rgb},.13);padding:.35em .8em;margin:.2em 0"
    return f'<div style="{style};max-width:62em">{content}</div>'
