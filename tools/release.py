"""Pin the notebooks of a release to the commit whose package they bring; Python and git are all it needs.

    python -m tools.release          # every bootstrap cell installs the commit that is checked out now
    python -m tools.release over     # after the release: the newest code again
"""

import re
import subprocess
import sys
from pathlib import Path

from .bootstrap import PLACEHOLDER, ROOT, pinned, project, repository
from .notebooks import all_notebooks, dress


def git(*arguments: str) -> str:
    return subprocess.run(["git", "-C", ROOT, *arguments], capture_output=True, text=True, check=True).stdout.strip()


def write_pin(commit: str, pyproject: Path = ROOT / "pyproject.toml") -> None:
    """Put ``commit``, 40 digits or nothing, into pyproject's [tool.fit3d_lite]."""
    if not re.fullmatch(r"([0-9a-f]{40})?", commit):
        raise ValueError(f"a pin is a commit's 40 digits, or nothing; got {commit!r}")
    text = pyproject.read_text(encoding="utf-8")
    pyproject.write_text(re.sub(r'^pin = "[^"]*"', f'pin = "{commit}"', text, flags=re.MULTILINE), encoding="utf-8")


def obstacle() -> str:
    """What stands against a release now, as one sentence; nothing when it can be made."""
    version = project()["project"]["version"]
    if repository() == PLACEHOLDER:
        return "no owner is set: run make owner OWNER=you/name and commit"
    if git("status", "--porcelain"):
        return "there are changes that no commit holds, and a pin must name all of the code: commit them"
    if f"## {version}" not in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"):
        return f"CHANGELOG.md has no section '## {version}': write what changed, and commit"
    return ""


def main(arguments: list[str]) -> int:
    over = arguments == ["over"]
    if not over and (reason := obstacle()):
        print(f"release: {reason}", file=sys.stderr)
        return 1
    write_pin("" if over else git("rev-parse", "HEAD"))
    changed = [p.name for p in all_notebooks() if dress(p)]
    tag = f"v{project()['project']['version']}"
    print(f"release: {len(changed)} notebooks now bring {pinned() or 'the newest code'}")
    if not over:
        print(f"release: git commit -am 'Release {tag}' && git tag {tag} && git push origin HEAD {tag}; then make release OVER=1")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
