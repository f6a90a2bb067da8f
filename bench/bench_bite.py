"""Do the lessons notice when nothing was learned? Lessons 03 to 07, run with another network in place of the 3D-aware one.

    make bench ONLY=bite                          # both networks, five lessons: some 20 minutes on two cores
    python -m bench.bench_bite 04 07              # some lessons, the others as they were last run

"Nothing learned" is the original network itself; in lesson 03, whose network is made in it, a learning rate of 1e-12.
"Wrong poses" is load_vit("small", "wrong_poses"); in lesson 03 the targets of other cameras. A red check does not stop the
lesson here, so that its card is reached. A lesson that says LOOK in neither a row nor a check would teach a claim that a
network without the effect passes.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

import nbformat

from fit3d_lite.base.whole import replace_when_whole
from tools.execute import execute

from .report import ROOT, table, write

LESSONS = ("03", "04", "05", "06", "07")
NETWORKS = {"nothing learned": "original", "wrong poses": "wrong_poses"}
KEPT = ROOT / "cache" / "bite.json"
REPLACED = """
import fit3d_lite as f3d
from fit3d_lite.course.settings import Settings
from fit3d_lite.finetuning.targets import ShuffledPoses
_load, _tune, Settings.strict = f3d.load_vit, f3d.finetune, property(lambda self: False)

def _load_vit(name, weights="original", *rest, **options):
    return _load(name, "{weights}" if weights == "fit3d" else weights, *rest, **options)

def _finetune(vit, scenes, targets, recipe="lite", **options):
    if recipe != "lite" or not isinstance(targets, (list, tuple)):  # a step by hand, or a control of the lesson's own
        return _tune(vit, scenes, targets, recipe, **options)
    if "{weights}" == "original":
        return _tune(vit, scenes, targets, recipe, **(options | {{"lr": 1e-12}}))
    grid = vit.grid(scenes[0].height, scenes[0].width)
    return _tune(vit, scenes, ShuffledPoses(scenes, targets, vit.channels, grid), recipe, **options)

f3d.load_vit, f3d.finetune = _load_vit, _finetune
"""


def noticed(lesson: str, weights: str) -> dict:
    """Rows that say LOOK and checks that are red, in a run with these weights in place of the 3D-aware ones."""
    source = next((ROOT / "notebooks").glob(f"{lesson}_*.ipynb"))
    nb = nbformat.read(source, as_version=4)
    at = next(i for i, cell in enumerate(nb.cells) if cell.cell_type == "code" and "f3d.setup(" in cell.source)
    nb.cells.insert(at, nbformat.v4.new_code_cell(REPLACED.format(weights=weights)))
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"FIT3D_CACHE": folder, "FIT3D_PROFILE": "quick", "PYTHONPATH": str(ROOT)}
        path = Path(folder) / source.name
        nbformat.write(nb, path)
        done = execute(path, timeout=1800)
    if done.error:
        raise RuntimeError(f"lesson {lesson} with {weights} ended in cell {done.failed_cell}: {done.error}")
    shown = [out.get("data", {}) for cell in done.nb.cells for out in cell.get("outputs", [])]
    cards = [data["application/vnd.fit3d.card+json"] for data in shown if "application/vnd.fit3d.card+json" in data]
    checks = [data["application/vnd.fit3d.check+json"] for data in shown if "application/vnd.fit3d.check+json" in data]
    return {
        "looks": [row["name"] for card in cards for row in card["rows"] if row["verdict"] == "LOOK"],
        "red": [check["what"] for check in checks if check["kind"] == "check" and not check["passed"]],
    }


def main(asked: list[str]) -> None:
    found = json.loads(KEPT.read_text()) if KEPT.is_file() else {}
    for lesson in asked or LESSONS:
        for network, weights in NETWORKS.items():
            found[f"{lesson} {network}"] = noticed(lesson, weights)
            print(lesson, network, found[f"{lesson} {network}"], flush=True)
            KEPT.parent.mkdir(exist_ok=True)
            with replace_when_whole(KEPT) as partial:
                partial.write_text(json.dumps(found))
    body = [
        [key.split(" ", 1)[0], key.split(" ", 1)[1], len(said["looks"]), "; ".join(said["looks"]), "; ".join(said["red"])]
        for key, said in sorted(found.items())
    ]
    missed = [f"lesson {row[0]}, {row[1]}" for row in body if not row[2]]
    about = (
        "# Do the lessons notice when nothing was learned?\n\nLessons 03 to 07 in the quick profile with another network in "
        "place of the 3D-aware one: the original itself\n(nothing learned), and one trained towards the targets of other "
        f"cameras (wrong poses). Unnoticed: {', '.join(missed) or 'none'}.\n\n"
    )
    header = ["lesson", "in place of the 3D-aware network", "rows that say LOOK", "which", "checks in red"]
    write("bite", about + table(header, body))


if __name__ == "__main__":
    main(sys.argv[1:])
