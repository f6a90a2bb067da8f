"""An executed notebook as one HTML file that asks nothing of any server: images inside, formulas as MathML."""

import base64
import re
from pathlib import Path

from jinja2 import pass_context
from latex2mathml.converter import convert
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

from .bootstrap import BADGE_ID
from .links import linked

WIDGET_MIME = "application/vnd.jupyter.widget-view+json"

TEMPLATE = """\
{%- extends 'lab/index.html.j2' -%}
{%- block html_head_js_requirejs -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
{%- block html_head_js_mermaidjs -%}{%- endblock -%}
{%- block html_head_css -%}
<style>
@media (prefers-color-scheme: dark) { DARK }
body.jp-Notebook { background: var(--jp-layout-color0); color: var(--jp-content-font-color1); padding: 1em; }
body main { max-width: 62rem; margin: 0 auto; }
.jp-RenderedHTMLCommon { max-width: 46rem; }
.jp-OutputArea-output .jp-RenderedHTMLCommon { max-width: none; }
.jp-InputPrompt, .jp-OutputPrompt { display: none; }
.jp-RenderedHTMLCommon img { max-width: 100%; height: auto; }
/* progress bars, not errors */
.jp-RenderedText[data-mime-type="application/vnd.jupyter.stderr"] { background: none; opacity: .75; }
nav, footer { font-family: system-ui; margin: .5rem; } nav a { margin-right: 1.2em; color: var(--jp-content-link-color); }
footer { opacity: .7; font-size: 85%; }
.jp-RenderedHTMLCommon table { display: block; overflow-x: auto; max-width: 100%; }
@media (max-width: 40rem) { body.jp-Notebook { padding: .2em; } .jp-Cell { padding: .2em !important; } }
math[display=block] { overflow: auto hidden; padding: .3em 0; }
</style>
{%- endblock -%}
{%- macro with_words(picture, words) -%}
{{ picture | replace('<img', '<img alt="' ~ (words | escape_html) ~ '"', 1) if words else picture }}
{%- endmacro -%}
{%- block data_png scoped -%}{{ with_words(super(), output | get_metadata('alt', 'image/png')) }}{%- endblock -%}
{%- block data_jpg scoped -%}{{ with_words(super(), output | get_metadata('alt', 'image/jpeg')) }}{%- endblock -%}
{%- block body_header -%}{{ super() }}<nav><a href="index.html">← all lessons</a> <a href="glossary.html">glossary</a>
<a href="measured.html">measurements</a></nav>{%- endblock -%}
{%- block body_footer -%}<footer>STAMP</footer>{{ super() }}{%- endblock -%}
"""


class _MathMLRenderer(IPythonRenderer):
    """Formulas become MathML, which browsers draw themselves; one that cannot be read stays as TeX."""

    def block_math(self, body: str) -> str:
        return self._mathml(body, "block")

    def inline_math(self, body: str) -> str:
        return self._mathml(body, "inline")

    def _mathml(self, body: str, display: str) -> str:
        try:
            return convert(body.strip(), display=display)
        except Exception:  # the converter raises many kinds; the TeX text is still readable
            return f"<code>{self.escape_html(body)}</code>"

    def escape_html(self, text: str) -> str:
        return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


class PageExporter(HTMLExporter):
    @pass_context
    def markdown2html(self, context, source):
        cell, resources = context.get("cell", {}), context.get("resources", {})
        renderer = _MathMLRenderer(
            escape=False, attachments=cell.get("attachments", {}),
            path=resources.get("metadata", {}).get("path", ""), anchor_link_text=" ",
            embed_images=False,  # with_pictures did; this would close each piece of HTML, <details> before its text
        )  # fmt: skip
        return MarkdownWithMath(renderer=renderer).render(source)


def without_widgets(nb) -> None:
    """Drop live widgets from the outputs in place: a page has no kernel to draw them; their static twins stay."""
    nb.metadata.pop("widgets", None)
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if WIDGET_MIME not in o.get("data", {})]


def with_pictures(source: str, folder: Path) -> str:
    """Markdown whose pictures, files relative to ``folder``, stand inside it, in Markdown's or in HTML's form."""

    def inside(match):
        file = folder / match[2]
        if not file.is_file():
            return match[0]
        kind = {".png": "png", ".webp": "webp"}.get(file.suffix.lower(), "jpeg")
        return f"{match[1]}data:image/{kind};base64,{base64.b64encode(file.read_bytes()).decode()}"

    start = r"(!\[[^\]]*\]\(|<img[^>]*\ssrc=[\"'])"
    return re.sub(rf"{start}([^):\s\"']+\.(?:png|jpe?g|webp))", inside, source, flags=re.IGNORECASE)


def undescribed(page: str) -> list[str]:
    """Pictures of a page whose alt text says nothing: what is given where there is none (nbconvert's sentence) counts too."""
    tags = re.findall(r"<img\b[^>]*>", page)
    alts = [re.search(r"\balt=([\"'])(.*?)\1", tag, re.DOTALL) for tag in tags]
    bad = [not alt or not alt[2].strip() or alt[2].startswith("No description") for alt in alts]
    return [re.sub(r"base64,[^\"']{20,}", "base64,…", tag)[:200] for tag, none in zip(tags, bad, strict=True) if none]


def to_html(nb, folder: Path, title: str, stamp: str = "") -> str:
    """HTML of an executed notebook whose relative links start from ``folder``; ``stamp`` says below what made it. The
    notebook is changed in place."""
    without_widgets(nb)
    nb.cells = [c for c in nb.cells if c.get("id") != BADGE_ID]  # its picture would be asked from a server
    for cell in nb.cells:
        if cell.cell_type == "markdown":
            cell.source = linked(with_pictures(cell.source, folder), folder)
    nb.metadata.title = title
    exporter = PageExporter()
    exporter.raw_template = TEMPLATE.replace("DARK", _dark_theme(exporter)).replace("STAMP", stamp)
    return exporter.from_notebook_node(nb, resources={"metadata": {"path": str(folder), "name": title}})[0]


def _dark_theme(exporter: HTMLExporter) -> str:
    """JupyterLab's dark colors, from nbconvert's own files, for readers whose system is dark."""
    sheets = (Path(folder) / "static" / "theme-dark.css" for folder in exporter.template_paths)
    text = next((s.read_text() for s in sheets if s.is_file()), "")
    return re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
