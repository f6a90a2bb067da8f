"""Files that are whole or absent: write under another name, rename at the end."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replace_when_whole(path: str | Path):
    """``with replace_when_whole(path) as partial:`` write to ``partial``; it becomes ``path`` only if nothing was
    raised.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The process number keeps two writers apart; the ending stays, because some libraries choose the format by it.
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
