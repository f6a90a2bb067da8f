"""Run lessons where Colab's own versions are installed, in an empty folder: ``make colab``; and see when they change.

    python -m tools.colab run build/colab/bin/python 00 01   # in that environment, which `make colab` makes
    python -m tools.colab drift pip-freeze.txt               # renew the pins from Colab's list; prints what changed

The lesson is as a reader gets it: copied alone, the package uninstalled, the bootstrap cell left to bring it. Only the archive
that it asks GitHub for is replaced, by one of this checkout; and google.colab is a stub.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from .bootstrap import ROOT, bootstrap_source
from .execute import execute
from .notebooks import all_notebooks, read

PINS = ROOT / "tools" / "colab_pins.txt"
ARCHIVE = re.compile(r"https://github\.com/\{repo\}/archive/[^ \"]+\.zip")
STUB = "def mount(folder):\n    raise RuntimeError('no Drive here')\n"


def archive(target: Path) -> Path:
    """This checkout as the zip that GitHub makes of it, changes that no commit holds included."""
    asked = ["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard"]
    names = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.splitlines()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as file:
        for name in names:
            if (ROOT / name).is_file():
                file.write(ROOT / name, f"course-main/{name}")
    return target


def as_opened(path: Path, course: Path) -> dict:
    """The notebook as a reader opens it, with an owner that is set and the archive at hand."""
    nb = read(path)
    for cell in nb["cells"]:
        if cell.get("id") == "bootstrap":
            cell["source"], found = ARCHIVE.subn(course.as_uri(), bootstrap_source("you/course", pin=""))
            assert found == 1, "the bootstrap cell asks for no archive: has its text changed?"
    return nb


def run(python: Path, names: list[str]) -> int:
    """Run the lessons with that Python's kernel; the number that failed or warned."""
    with tempfile.TemporaryDirectory() as temporary:
        here = Path(temporary)
        course, content, stub = archive(here / "course.zip"), here / "deep" / "content", here / "stub"
        content.mkdir(parents=True)
        (stub / "google" / "colab").mkdir(parents=True)
        (stub / "google" / "colab" / "__init__.py").touch()
        (stub / "google" / "colab" / "drive.py").write_text(STUB)
        spec = here / "jupyter" / "kernels" / "python3"  # before the environment's own of that name
        spec.mkdir(parents=True)
        variables = {"COLAB_RELEASE_TAG": "rebuilt", "PYTHONPATH": str(stub), "FIT3D_CACHE": str(here / "cache")}
        start = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        kernel = {"argv": start, "display_name": "Colab", "language": "python", "env": variables}
        (spec / "kernel.json").write_text(json.dumps(kernel))
        os.environ["JUPYTER_PATH"] = str(here / "jupyter")
        subprocess.run([python, "-m", "pip", "uninstall", "-qqy", "fit3d_lite"], check=True)
        failed = 0
        for path in [p for p in all_notebooks() if not names or p.name.startswith(tuple(names))]:
            (content / path.name).write_text(json.dumps(as_opened(path, course)), encoding="utf-8")
            ran = execute(content / path.name, timeout=900)
            said = [o["text"] for c in ran.nb.cells for o in c.get("outputs", []) if o.get("name") == "stderr"]
            warned = [line for text in said for line in text.splitlines() if "Warning" in line]
            verdict = f"FAILED in cell {ran.failed_cell}: {ran.error}" if ran.failed_cell is not None else "done"
            print(f"colab: {path.name} {verdict}, {ran.seconds:.0f} s", *warned, sep="\n  ", flush=True)
            failed += ran.failed_cell is not None or bool(warned)
        return failed


def drift(listed: str, pins: Path = PINS) -> list[str]:
    """Renew the pins from a list as ``pip freeze`` prints it; what changed, one line each."""
    versions = dict(re.findall(r"^([\w.-]+)==([\w.]+)", listed, re.MULTILINE))
    # torch comes from PyTorch's own server there: the version stands in the address.
    versions |= dict(re.findall(r"^([\w.-]+) @ \S+/\w+-([\d.]+)(?:%2B|\+|-)", listed, re.MULTILINE))
    versions = {name.lower().replace("_", "-"): version for name, version in versions.items()}
    lines, changed = [], []
    for line in pins.read_text(encoding="utf-8").splitlines():
        name, _, old = line.partition("==")
        new = versions.get(name.lower().replace("_", "-"))
        if line.startswith("#") or new == (old or None):
            lines.append(line)
            continue
        changed.append(f"- {name}: {old or 'any'} → {new or 'no longer listed'}")
        lines.append(f"{name}=={new}" if new else name)
    pins.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return changed


def main(arguments: list[str]) -> int:
    match arguments:
        case ["run", python, *names]:
            return 1 if run(Path(python).absolute(), names) else 0
        case ["drift", listed]:
            print("\n".join(drift(Path(listed).read_text(encoding="utf-8"))))
            return 0
    print(__doc__)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
