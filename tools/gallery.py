"""Run every notebook and show the results as pages: ``make course``, or ``python -m tools.gallery 01 04``.

Writes a static site, build/course: one page a notebook, those of site.py, and index.html with titles, pictures, times,
memory, checks and result cards. The index is renewed after each notebook, and a later run of some notebooks keeps the
entries of the others.
"""

import argparse
import base64
import io
import json
import re
import sys
from pathlib import Path

from PIL import Image

from .bootstrap import BADGE_ID, ROOT
from .execute import Execution, execute
from .gallery_index import index_html
from .page import to_html, undescribed
from .site import stamp, write_documents, write_search

CARD_MIME = "application/vnd.fit3d.card+json"
CHECK_MIME = "application/vnd.fit3d.check+json"


def plain(markdown: str) -> str:
    """Markdown of one line as text: no emphasis, no links, no code marks."""
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", markdown)
    text = re.sub(r"<[^>]+>|(\*\*|__|`)", "", text)
    return re.sub(r"(?<!\w)[*_]|[*_](?!\w)", "", text).strip()


def title_and_outcome(nb, name: str) -> tuple[str, str]:
    """The first heading, and the first sentence of prose after it."""
    title, outcome = name, ""
    lines = [x for c in nb.cells if c.cell_type == "markdown" and c.get("id") != BADGE_ID for x in c.source.split("\n")]
    for position, line in enumerate(lines):
        if line.startswith("# "):
            title = plain(line[2:])
            prose = (x for x in lines[position + 1 :] if x.strip() and not re.match(r"\s*([#!<|>]|[-*] )", x))
            outcome = plain(next(prose, ""))
            break
    return title, outcome


def _data_uri(raw: bytes, width: int = 720) -> str:
    """A picture as a small JPEG inside the page; transparent ones on white."""
    image = Image.open(io.BytesIO(raw)).convert("RGBA")
    flat = Image.new("RGB", image.size, "white")
    flat.paste(image, mask=image.getchannel("A"))
    flat.thumbnail((width, width * 2))
    out = io.BytesIO()
    flat.save(out, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()


def thumbnail(nb, folder: Path) -> str:
    """The hero picture of the notebook, else the first picture among its outputs, else nothing."""
    for cell in nb.cells:
        if cell.cell_type == "markdown":
            links = re.findall(r"!\[[^\]]*\]\(([^)\s]+)|<img[^>]+src=[\"']([^\"']+)", cell.source)
            for link in (a or b for a, b in links):
                if link.startswith("data:image/"):
                    return _data_uri(base64.b64decode(link.partition(",")[2]))
                if (folder / link).is_file() and Path(link).suffix.lower() in (".png", ".jpg", ".jpeg", ".webp"):
                    return _data_uri((folder / link).read_bytes())
        for output in cell.get("outputs", []):
            for mime in ("image/png", "image/jpeg"):
                if mime in output.get("data", {}):
                    return _data_uri(base64.b64decode(output["data"][mime]))
    return ""


def record(path: Path, ran: Execution) -> dict:
    """What the index shows of one executed notebook, ready for JSON."""
    data = [o["data"] for c in ran.nb.cells for o in c.get("outputs", []) if "data" in o]
    checks = [d[CHECK_MIME] for d in data if CHECK_MIME in d]
    title, outcome = title_and_outcome(ran.nb, path.stem)
    return {
        "file": path.name, "title": title, "outcome": outcome, "thumbnail": thumbnail(ran.nb, path.parent),
        "seconds": ran.seconds, "peak_bytes": ran.peak_bytes, "slowest": max(ran.cell_seconds.values(), default=0.0),
        "bytes": len(json.dumps(ran.nb)), "failed_cell": ran.failed_cell, "error": ran.error,
        "checks": sum(c["kind"] == "check" and c["passed"] for c in checks),
        "exercises": sum(c["kind"] == "exercise" for c in checks),
        "cards": [d[CARD_MIME] for d in data if CARD_MIME in d],
    }  # fmt: skip


def build(paths: list[Path], out: Path, timeout: float = 600) -> int:
    """Run the notebooks and write their pages and the index; the number of notebooks that failed."""
    out.mkdir(parents=True, exist_ok=True)
    failures = 0
    for number, path in enumerate(paths, 1):
        say = f"course {number}/{len(paths)}: {path.name}"

        def progress(index, count, say=say):
            if sys.stdout.isatty():
                print(f"\r{say}, cell {index + 1} of {count} ", end="", flush=True)

        print(f"{say} ...", flush=True)
        ran = execute(path, timeout, progress)
        entry = record(path, ran)
        page = to_html(ran.nb, path.parent, entry["title"], stamp())
        (out / f"{path.stem}.html").write_text(page, encoding="utf-8")
        (out / f"{path.stem}.json").write_text(json.dumps(entry))
        looks = sum(r["verdict"] == "LOOK" for c in entry["cards"] for r in c["rows"])
        tail = f", {entry['checks']} checks passed" + (f", {looks} numbers say LOOK" if looks else "")
        tail += f", {len(silent)} PICTURES WITHOUT A DESCRIPTION" if (silent := undescribed(page)) else ""
        verdict = "done" if ran.failed_cell is None else f"FAILED in cell {ran.failed_cell}: {ran.error}"
        print(f"\r{say} {verdict}, {ran.seconds:.0f} s, {ran.peak_bytes / 2**30:.1f} GB{tail}", flush=True)
        failures += ran.failed_cell is not None
        write_index(out, path.parent)
    return failures


def write_index(out: Path, notebooks: Path) -> None:
    """index.html from the entries of all notebooks that still exist."""
    kept = [p for p in sorted(out.glob("*.json")) if (notebooks / f"{p.stem}.ipynb").exists()]
    entries = []
    for path in kept:
        try:
            entry = json.loads(path.read_text())
            index_html([entry], "")
            entries.append(entry)
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            print(f"course: {path} is left out, as it is damaged ({error!r}): run python -m tools.gallery {path.stem}")
    (out / "index.html").write_text(index_html(entries, stamp()), encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.gallery", description="Run notebooks; write build/course.")
    parser.add_argument("only", nargs="*", help="beginnings of notebook names, such as 00 or 04; all when none")
    parser.add_argument("--notebooks", type=Path, default=ROOT / "notebooks", help="the folder of the notebooks")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "course", help="where the pages go")
    parser.add_argument("--timeout", type=float, default=600, help="seconds one cell may take")
    given = parser.parse_args(arguments)
    wanted = tuple(x for names in given.only for x in names.split(",") if x)
    paths = [p for p in sorted(given.notebooks.resolve().glob("*.ipynb")) if not wanted or p.name.startswith(wanted)]
    if not paths:
        print(f"course: no notebook {' '.join(wanted)} in {given.notebooks}")
        return 2
    failures = build(paths, given.out, given.timeout)
    write_documents(given.out)
    write_search(given.out)
    page = given.out / "index.html"
    print(f"course: {len(paths) - failures} of {len(paths)} notebooks ran to their end; open {page}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
