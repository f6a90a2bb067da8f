"""What an exercise is made of, and a question of a quiz."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Exercise:
    """A function to be written by the student (or a value: then it is a function without arguments here).

    Args:
        asks: what is asked, in a few words: "the weight α·T of each blob on a ray".
        answer: a right answer; the student's is compared with it.
        cases: gives what both are tried on: name of a case -> its arguments, the same every time. The special ones
            (nothing seen, a class that is absent) are what an exercise of ten minutes is about.
        mistakes: what is said -> the typical wrong answer it is said for.
        hint: said for any other wrong answer.
        minutes: what a student needs.
        tol: for numbers and tensors, relative to the largest magnitude of the right ones.
        accepts: ``accepts(given, *case)``, where more than one answer is right; it takes the place of the comparison.
    """

    asks: str
    answer: Callable
    mistakes: dict[str, Callable]
    hint: str
    cases: Callable[[], dict[str, tuple]] = lambda: {"your answer": ()}
    minutes: int = 2
    tol: float = 1e-4
    accepts: Callable | None = None


@dataclass(frozen=True)
class Question:
    """One of a lesson's five questions: ``wrong`` holds three answers and, for each, why it is wrong."""

    ask: str
    right: str
    why: str
    wrong: dict[str, str] = field(default_factory=dict)
