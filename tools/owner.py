"""Copy the project's GitHub owner/name into pyproject.toml, every badge, bootstrap and link. It needs Python alone.

    python -m tools.owner you/course   # write this name
    python -m tools.owner              # the name that `git remote` knows; without one, copy what pyproject.toml says
    python -m tools.owner check        # what CI says of a copy whose links lead elsewhere; GITHUB_REPOSITORY is its name
"""

import os
import re
import subprocess
import sys
from pathlib import Path

from .bootstrap import PLACEHOLDER, ROOT, repository
from .notebooks import dress

# The forms in which our repository is named in text; the last group is what follows owner/name.
PLACES = ("github.com", "raw.githubusercontent.com", "colab.research.google.com/github", "img.shields.io/github")


def rename(text: str, old: str, new: str) -> str:
    """``text`` with every link to the repository ``old`` (owner/name) pointing to ``new``; other links stay."""
    hosts = "|".join(re.escape(p) for p in PLACES)
    site, new_site = (f"https://{owner}.github.io/{name}" for owner, name in (old.split("/"), new.split("/")))
    text = text.replace(site, new_site)
    return re.sub(rf"((?:{hosts})/(?:[\w-]+/)*?){re.escape(old)}(?![\w-])", lambda m: m[1] + new, text)


def links(text: str) -> set[str]:
    """Every owner/name that a Colab badge of our notebooks, or a raw link to our assets, in ``text`` points to."""
    found = re.findall(r"colab\.research\.google\.com/github/([\w.-]+/[\w.-]+)/blob/main/notebooks/\w\d_", text)
    return set(found) | set(re.findall(r"raw\.githubusercontent\.com/([\w.-]+/[\w.-]+)/main/assets", text))


def remote(root: Path = ROOT) -> str | None:
    """The owner/name of the checkout's remote ``origin`` on GitHub; None without git, without a remote, or elsewhere."""
    try:
        asked = subprocess.run(["git", "-C", root, "remote", "get-url", "origin"], capture_output=True, text=True)
    except FileNotFoundError:  # no git here
        return None
    match = re.search(r"\bgithub\.com[:/]([\w.-]+/[\w.-]+?)(?:\.git)?/?$", asked.stdout.strip())
    return match and match[1]


def advice(root: Path = ROOT, here: str = "") -> str:
    """What a copy called ``here`` should be told: nothing when its links lead to itself."""
    said = repository(root / "pyproject.toml")
    if not here or here.lower() == said.lower():
        return ""
    whose = "nobody's copy yet" if said == PLACEHOLDER else said
    return f"badges, bootstrap cells and links name {whose}: run `make owner OWNER={here}` and commit what it changed"


def sync(root: Path = ROOT, new: str | None = None) -> list[str]:
    """Point every place to ``new`` (or to what pyproject.toml says); the names of the files that changed.

    Raises:
        ValueError: when ``new`` is not of the form owner/name.
    """
    if new and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]*/(?!\.+$)[A-Za-z0-9._-]+", new):
        raise ValueError(f"OWNER is {new!r}; it must read owner/name, such as you/fit3d_lite")
    pyproject = root / "pyproject.toml"
    changed, old = [], repository(pyproject)
    texts = [p for ending in ("*.md", "*.cff", "*/*.md") for p in sorted(root.glob(ending))]  # also of assets/, bench/, docs/
    notebooks = sorted((root / "notebooks").glob("*.ipynb"))
    # A badge that was left behind by an earlier owner is renewed too, so old names are read from the files.
    names = {old}.union(*[links(p.read_text(encoding="utf-8")) for p in texts + notebooks])
    if new and new != old:
        pyproject.write_text(rename(pyproject.read_text(), old, new))
        changed.append("pyproject.toml")
    repo = new or old
    for path in texts + notebooks:
        before = text = path.read_text(encoding="utf-8")
        for name in names:
            text = rename(text, name, repo)
        if text != before:
            path.write_text(text, encoding="utf-8")
        if path.suffix == ".ipynb":
            dress(path, repo)
        if path.read_text(encoding="utf-8") != before:
            changed.append(str(path.relative_to(root)))
    return changed


def main(arguments: list[str]) -> int:
    given = arguments[0] if arguments else ""
    if given == "check":
        said = advice(here=os.environ.get("GITHUB_REPOSITORY", ""))
        print(f"::warning title=owner::{said}" if said else "owner: the links lead here")
        return 0
    try:
        new = given or remote()
        if not new and repository() == PLACEHOLDER:
            raise ValueError("git knows no remote on GitHub: say make owner OWNER=you/name")
        files = sync(new=new)
    except ValueError as error:
        print(f"owner: {error}", file=sys.stderr)
        return 1
    print(f"owner: {repository()} now stands everywhere; {len(files)} files changed {' '.join(files)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
