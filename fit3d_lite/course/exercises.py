"""Exercises: a student's answer is tried on cases that the cell does not show, and a wrong one hears its likely mistake."""

from __future__ import annotations

import copy
import html
import importlib
import math

import torch

from ..widgets.notebook import AMBER, BLUE, GREEN, number, show, strip
from .checks import CHECK_MIME, difference, tensor, unsolved
from .lessons.records import Exercise


def lesson(name: str):
    """The exercises and the quiz of lesson ``name``, "00" and so on, "A1" of an appendix. ValueError where there is none."""
    try:
        return importlib.import_module(f"{__package__}.lessons.lesson_{name}")
    except ModuleNotFoundError:
        raise ValueError(f"there is no lesson {name!r}; lessons are named as their files begin, 01 or A1") from None


def exercise(name: str, answer) -> None:
    """Try a student's answer, and never stop the notebook.

    Says "not solved yet" where nothing is written, that it is right, or in which case it is not and the likely mistake.

    Args:
        name: "01.2" is the second exercise of lesson 01.
        answer: a function, tried on hidden cases; or a value, where the exercise asks for one.

    Raises:
        ValueError: when there is no such exercise.
    """
    number_of_lesson, _, which = name.partition(".")
    known = lesson(number_of_lesson).EXERCISES
    if not which.isdigit() or int(which) not in known:
        raise ValueError(f"there is no exercise {name!r}; lesson {number_of_lesson} has {', '.join(map(str, known))}")
    asked = known[int(which)]
    state, said = judge(asked, answer)
    text = {
        "open": f"○ not solved yet: {asked.asks} ({minutes(asked)})",
        "solved": f"✓ solved: {asked.asks}",
        "wrong": f"✗ not yet: {asked.asks}. {said}",
    }[state]
    payload = {"kind": "exercise", "what": asked.asks, "state": state}
    rgb = {"open": BLUE, "solved": GREEN, "wrong": AMBER}[state]
    show(text, strip(rgb, html.escape(text).replace("\n", "<br>")), CHECK_MIME, payload)


def minutes(asked: Exercise) -> str:
    return "a line" if asked.minutes < 5 else f"about {asked.minutes} minutes"


def judge(asked: Exercise, answer) -> tuple[str, str]:
    """("open" | "solved" | "wrong", what to say of a wrong one)."""
    cases = asked.cases()
    given = {name: _attempt(answer, case) for name, case in cases.items()}
    if all(unsolved(value) for value in given.values()):
        return "open", ""
    for name, case in cases.items():
        said = _wrong(asked, given[name], case)
        if said is None:
            continue
        where = f'In the case "{name}" ' if len(cases) > 1 else ""
        for sentence, mistake in asked.mistakes.items():
            if all(_alike(given[n], _attempt(mistake, c), asked.tol) for n, c in cases.items()):
                return "wrong", f"{where}{said}\n  Likely: {sentence}"
        return "wrong", f"{where}{said}\n  Hint: {asked.hint}"
    return "solved", ""


def _attempt(answer, case: tuple):
    """What the answer gives, or the error that it ends in: a half-made answer may do anything."""
    if not callable(answer):
        return answer
    try:
        return answer(*copy.deepcopy(case))
    except Exception as error:
        return error


def _wrong(asked: Exercise, given, case: tuple) -> str | None:
    """What is wrong with it in this case; None when it is right."""
    if isinstance(given, Exception):
        return f"yours ends in {type(given).__name__}: {given}"
    if unsolved(given):
        return "yours gives nothing."
    try:
        if asked.accepts is not None:
            return None if asked.accepts(given, *case) else f"yours does not do: {_brief(given)}."
        right = asked.answer(*copy.deepcopy(case))
        if _same(given, right, asked.tol):
            return None
    except Exception as error:
        return f"yours cannot be compared: {error}"
    return f"yours gives {_brief(given)}, right is {_brief(right)}."


def _brief(value) -> str:
    if isinstance(value, torch.Tensor) and value.numel() != 1:
        first = ", ".join(number(x) for x in value.detach().flatten()[:4].tolist())
        return f"[{first}{', …' if value.numel() > 4 else ''}] of shape {tuple(value.shape)}"
    if isinstance(value, tuple | list | dict):
        return f"a {type(value).__name__} of {len(value)}"
    return number(value.item() if hasattr(value, "item") else value) if not callable(value) else "a function"


def _alike(one, other, tol: float) -> bool:
    """Whether two answers, or the errors they ended in, are the same."""
    if isinstance(one, Exception) or isinstance(other, Exception):
        return type(one) is type(other)
    try:
        return _same(one, other, tol)
    except Exception:
        return False


def _same(given, right, tol: float) -> bool:
    if isinstance(right, dict):
        return given.keys() == right.keys() and all(_same(given[k], right[k], tol) for k in right)
    if isinstance(right, tuple | list):
        return len(given) == len(right) and all(_same(g, r, tol) for g, r in zip(given, right, strict=True))
    if isinstance(right, str | bool) or right is None:
        return given == right
    given, right = tensor(given), tensor(right)
    if given.shape != right.shape:
        raise ValueError(f"it has shape {tuple(given.shape)}, right is {tuple(right.shape)}")
    if right.numel() == 0:
        return True
    known = right.isfinite()  # a case may ask for nan (0 / 0) or infinity: they must stand at the same places
    if not torch.equal(known, given.isfinite()) or not torch.equal(given[~known].isnan(), right[~known].isnan()):
        return False
    if not known.any():
        return True
    worst, scale = difference(given[known], right[known])
    return worst <= tol * (scale or 1.0) < math.inf
