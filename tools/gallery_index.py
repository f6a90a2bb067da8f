"""The site's front page as one HTML text: system fonts, light and dark, no request to any server."""

import html
from urllib.parse import quote

STYLE = """
:root { color-scheme: light dark; --page: #f6f7f9; --paper: #fff; --ink: #1b1f24; --soft: #5a6472; --line: #d9dee5;
  --link: #0b62c4; --good: #14713f; --look: #8f5300; --bad: #b3261e; --picture: #e9edf2; }
@media (prefers-color-scheme: dark) { :root { --page: #12151a; --paper: #1b2028; --ink: #e8ebef; --soft: #9aa5b3;
  --line: #323a46; --link: #7db4ff; --good: #63d196; --look: #f0b455; --bad: #ff8a80; --picture: #262d37; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 76rem; margin: 0 auto; padding: 2.2rem 1.2rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .3rem; letter-spacing: -.01em; }
h2 { font-size: 1.12rem; line-height: 1.3; margin: 0; }
h3 { font-size: .95rem; margin: 0 0 .3rem; }
p { margin: .35rem 0 0; } a { color: var(--link); text-decoration: none; } a:hover { text-decoration: underline; }
.lead { color: var(--soft); max-width: 46rem; }
.totals { display: flex; flex-wrap: wrap; gap: .5rem 2rem; margin: 1.2rem 0 1.6rem; }
.totals b { display: block; font-size: 1.45rem; line-height: 1.2; font-variant-numeric: tabular-nums; }
.totals span { color: var(--soft); font-size: .88rem; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 21rem), 1fr)); gap: 1.1rem; }
.entry { background: var(--paper); border: 1px solid var(--line); border-radius: 12px; overflow: hidden;
  display: flex; flex-direction: column; }
.entry.failed { border: 2px solid var(--bad); }
.picture { display: grid; place-items: center; aspect-ratio: 16 / 9; background: var(--picture); overflow: hidden; }
.picture img { width: 100%; height: 100%; object-fit: contain; display: block; }
.picture span { font-size: 2.6rem; font-weight: 700; color: var(--soft); opacity: .5; }
.text { padding: .9rem 1rem 1rem; display: flex; flex-direction: column; flex: 1; }
.outcome { color: var(--soft); font-size: .94rem; flex: 1; }
.facts { display: flex; flex-wrap: wrap; gap: .15rem 1rem; margin-top: .8rem; padding-top: .6rem; font-size: .86rem;
  border-top: 1px solid var(--line); color: var(--soft); font-variant-numeric: tabular-nums; }
.good { color: var(--good); } .look { color: var(--look); font-weight: 600; } .bad { color: var(--bad); }
.error { margin: .6rem 0 0; padding: .5rem .7rem; border-left: 4px solid var(--bad); font-size: .86rem;
  overflow-wrap: anywhere; background: color-mix(in srgb, var(--bad) 10%, transparent); }
.results { margin-top: 2.4rem; } .results > h2 { font-size: 1.35rem; margin-bottom: .8rem; }
.cards { display: grid; gap: 1rem; }
.card { background: var(--paper); border: 1px solid var(--line); border-radius: 12px; padding: .9rem 1rem; overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .35rem .9rem .35rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--soft); font-weight: 500; } td:nth-child(2) { font-weight: 600; white-space: nowrap; }
tr:last-child td { border-bottom: 0; } tr.out td { background: color-mix(in srgb, var(--look) 13%, transparent); }
.why { color: var(--look); font-size: .88rem; }
.search { width: 100%; max-width: 30rem; margin-top: 1rem; padding: .5rem .8rem; font: inherit; color: inherit;
  background: var(--paper); border: 1px solid var(--line); border-radius: 8px; }
#found { max-width: 60rem; padding-left: 1.2rem; font-size: .92rem; } #found span { color: var(--soft); }
footer { margin-top: 2.5rem; color: var(--soft); font-size: .86rem; }
"""  # noqa: E501


def duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"


def _looks(entry: dict) -> int:
    return sum(r["verdict"] == "LOOK" for c in entry["cards"] for r in c["rows"])


def _page(entry: dict) -> str:
    """The address of an entry's page, safe inside an attribute whatever the notebook is called."""
    return quote(entry["file"].replace(".ipynb", ".html"))


def _entry(entry: dict) -> str:
    e = html.escape
    failed, looks, page = entry["failed_cell"] is not None, _looks(entry), _page(entry)
    source = entry["thumbnail"]
    picture = f'<img src="{e(source)}" alt="">' if source else f"<span>{e(entry['file'][:2])}</span>"
    checks = f'<span class="good">✓ {entry["checks"]} checks</span>' if entry["checks"] else "<span>no checks</span>"
    facts = [f'<span class="bad"><b>✗ failed</b></span> {checks}' if failed else checks]
    if looks:
        facts.append(f'<span class="look">⚠ {looks} LOOK</span>')
    facts += [f'<span title="slowest cell {entry["slowest"]:.0f} s">{duration(entry["seconds"])}</span>']
    facts += [f'<span title="peak memory of the kernel">{entry["peak_bytes"] / 2**30:.1f} GB</span>']
    facts += [f'<span title="size of the executed notebook">{entry["bytes"] / 2**20:.1f} MB file</span>']
    error = f'<p class="error"><b>Cell {entry["failed_cell"]}</b>: {e(entry["error"][:400])}</p>' if failed else ""
    return (
        f'<article class="entry{" failed" if failed else ""}"><a class="picture" href="{page}" tabindex="-1" '
        f'aria-hidden="true">{picture}</a><div class="text"><h2><a href="{page}">{e(entry["title"])}</a></h2>'
        f'<p class="outcome">{e(entry["outcome"])}</p>{error}<div class="facts">{"".join(facts)}</div></div></article>'
    )


def _card(entry: dict, card: dict) -> str:
    e = html.escape
    rows = []
    for row in card["rows"]:
        out = row["verdict"] == "LOOK"
        cells = "".join(f"<td>{e(c)}</td>" for c in row["cells"][:4])
        why = f'<div class="why">{e(row["why"])}</div>' if out and row["why"] else ""
        mark = {"ok": '<span class="good">✓ in range</span>', "LOOK": '<span class="look">⚠ LOOK</span>'}
        rows.append(f'<tr{" class=out" if out else ""}>{cells}<td>{mark.get(row["verdict"], "")}{why}</td></tr>')
    heads = f"<tr><th></th><th>measured</th><th>expected ({e(card['profile'])})</th><th>paper</th><th></th></tr>"
    page = _page(entry)
    return (
        f'<div class="card"><h3>{e(card["title"])} <a href="{page}">· {e(entry["title"])}</a></h3>'
        f"<table>{heads}{''.join(rows)}</table></div>"
    )


def index_html(entries: list[dict], stamp: str) -> str:
    """The front page for the entries that gallery.record made, in their order; ``stamp`` says what made it."""
    failed = [x for x in entries if x["failed_cell"] is not None]
    looks = sum(map(_looks, entries))
    totals = [
        (f"{len(entries) - len(failed)} of {len(entries)}", "notebooks ran to their end", "bad" if failed else "good"),
        (str(sum(x["checks"] for x in entries)), "checks passed", ""),
        (str(looks), "numbers out of range", "look" if looks else ""),
        (duration(sum(x["seconds"] for x in entries)), "in all", ""),
        (f"{max((x['peak_bytes'] for x in entries), default=0) / 2**30:.1f} GB", "peak memory", ""),
    ]
    boxes = "".join(f'<div><b class="{c}">{html.escape(v)}</b><span>{k}</span></div>' for v, k, c in totals)
    cards = "".join(_card(x, c) for x in entries for c in x["cards"])
    results = f'<section class="results"><h2>Results</h2><div class="cards">{cards}</div></section>' if cards else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><title>fit3d_lite: the course</title>'
        f"<style>{STYLE}</style></head><body><main><h1>3D-aware features, notebook by notebook</h1>"
        '<p class="lead">Lift the features of a 2D vision transformer into 3D Gaussians, render them back from every '
        "camera, fine-tune on what was rendered, then measure. Each page below was run as it stands. What takes longer "
        'than a lesson, over many rooms and repetitions, is in <a href="measured.html">the tables of measurements</a>; words '
        'are explained in the <a href="glossary.html">glossary</a>; there is a <a href="teaching.html">plan for '
        'teachers</a>, and ways to bring <a href="extend.html">your own scene, ViT and probe</a>.</p>'
        '<input id="search" class="search" type="search" placeholder="Search all pages" '
        'aria-label="Search all pages"><ul id="found" aria-live="polite"></ul>'
        f'<div class="totals">{boxes}</div><div class="grid">{"".join(map(_entry, entries))}</div>{results}'
        f"<footer>{html.escape(stamp)}. Made by <code>make course</code>.</footer></main>"
        '<script src="search.js"></script></body></html>'
    )
