"""What makes a notebook a lesson: one setup, checks that say the likely mistake, guesses, exercises, result cards.

Read setup first (device, precision, profile, cache, figure style, and what one lesson keeps for the next), then checks and
cards; both go by what setup() left in settings. Nothing here knows what is taught.
"""

from .cards import Row, card
from .checks import check, check_close, exercise, predict, reveal
from .setup import Run, setup

__all__ = ["Row", "Run", "card", "check", "check_close", "exercise", "predict", "reveal", "setup"]
