"""A widget of a notebook's page: markup, the numbers it needs as data-… attributes, and page.js, which brings it to life.

No kernel, no widget manager, no network, no package: it works in Colab, JupyterLab and VS Code, in a saved notebook and in
an exported page. Where scripts do not run, the markup alone is seen, which each widget makes a static picture of itself.
"""

import base64
import functools
import html
import json
from pathlib import Path

import numpy as np
from torch import Tensor


class Widget:
    """Shows itself as HTML in a notebook, and as one line of text elsewhere."""

    def __init__(self, kind: str, controls: str, body: str, text: str, title: str = "", width: str = "62em", **data):
        """``kind`` names the function of page.js; ``controls`` stand in a bar that is hidden where no script runs; ``data``
        is what page.js reads from the outermost element."""
        style = f"color:inherit;font-family:system-ui,sans-serif;max-width:{width}"
        bar = "display:none;flex-wrap:wrap;gap:.7em;align-items:center;margin:.3em 0"
        self._text = text
        self._markup = (
            f'<div class="f3d-{kind}" style="{style}" {attributes(**data)}>{title}'
            f'<div class="f3d-bar" style="{bar}">{controls}</div>{body}</div><script>{script()}</script>'
        )

    def _repr_html_(self) -> str:
        return self._markup

    def __repr__(self) -> str:
        return self._text


@functools.cache
def script() -> str:
    """page.js without its comments and indentation."""
    lines = Path(__file__).with_name("page.js").read_text("utf-8").splitlines()
    return "\n".join(line for line in map(str.strip, lines) if line and not line.startswith("//"))


def attributes(**data) -> str:
    """``data-key="…"`` for page.js: of an array or a tensor the bytes as base64, of anything else its JSON."""
    said = {key: as_base64(v) if isinstance(v, np.ndarray | Tensor) else json.dumps(v) for key, v in data.items()}
    return " ".join(f'data-{key}="{html.escape(value, True)}"' for key, value in said.items())


def as_base64(content: bytes | np.ndarray | Tensor) -> str:
    """Bytes, or those of an array or of a tensor on the CPU, as text for a page."""
    return base64.b64encode(content if isinstance(content, bytes) else np.asarray(content).tobytes()).decode()


def slider(label: str, high: float, value: float, step: float = 1) -> str:
    """Markup of a slider from 0 to ``high`` for the bar of a widget."""
    return (
        f'<label>{label} <input type="range" min="0" max="{high:g}" step="{step:g}" value="{value:g}" '
        'style="vertical-align:middle;width:7em"></label>'
    )
