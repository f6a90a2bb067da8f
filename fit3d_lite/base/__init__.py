"""What everything stands on; no room of this package is needed to read it.

Read whole.py first (a file is whole or absent, and says in its header what it is), then artifacts.py (what one lesson
hands to the next), machine.py (Colab, caches, float types), download.py with resume.py (checked, resumable downloads),
history.py (the numbers of a run) and loops.py (loops that numba compiles).
"""

from .artifacts import ArtifactMismatch
from .download import DownloadError, fetch, fetch_many
from .history import History
from .machine import asset, best_dtype, cache_folder, on_colab

__all__ = [
    "ArtifactMismatch", "DownloadError", "History", "asset", "best_dtype", "cache_folder", "fetch", "fetch_many", "on_colab",
]  # fmt: skip
