"""What makes a notebook a lesson: one setup, checks that say the likely mistake, guesses, exercises, a quiz, result cards.

Read setup first (device, precision, profile, cache, figure style, and what one lesson keeps for the next), then checks and
cards; both go by what setup() left in settings, and tables gathers all cards for a paper. exercises and quiz judge and show
what lessons/ asks. point, measured, sweep and sweep_figures are ablations: settings of one training, how it is judged, many
of them, and what differs; ablate is their command line.
"""

from .cards import Row, card
from .checks import check, check_close, predict, reveal
from .exercises import exercise
from .quiz import quiz
from .setup import Run, setup
from .tables import card_tables

# Ablations train networks, and timm is four seconds that `import fit3d_lite` should not cost.
_LATE = {
    "Point": "point", "measure": "measured", "point_of": "point", "course_grid": "sweep", "course_table": "sweep",
    "gain_chart": "sweep_figures", "gains": "sweep_figures",
}  # fmt: skip

__all__ = [
    "Row", "Run", "card", "card_tables", "check", "check_close", "exercise", "predict", "quiz", "reveal", "setup", *_LATE,
]  # fmt: skip


def __getattr__(name: str):
    if name in _LATE:
        import importlib

        return getattr(importlib.import_module(f".{_LATE[name]}", __name__), name)
    raise AttributeError(f"fit3d_lite.course has no {name!r}")
