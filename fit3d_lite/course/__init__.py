"""What makes a notebook a lesson: one setup, checks that say the likely mistake, guesses, exercises, a quiz, result cards.

Read setup first (device, precision, profile, cache, figure style, and what one lesson keeps for the next), then checks and
cards; both go by what setup() left in settings, and tables gathers all cards for a paper. exercises and quiz judge and show
what lessons/ asks.
"""

from .cards import Row, card
from .checks import check, check_close, predict, reveal
from .exercises import exercise
from .quiz import quiz
from .setup import Run, setup
from .tables import card_tables

__all__ = ["Row", "Run", "card", "card_tables", "check", "check_close", "exercise", "predict", "quiz", "reveal", "setup"]
