"""A lesson's quiz: five questions, four answers each; a click on an answer says whether it is right, and why."""

from __future__ import annotations

import html
import random

from ..widgets.page import Widget
from .exercises import lesson
from .lessons.records import Question


def quiz(name: str) -> Widget:
    """The quiz of lesson ``name`` ("01"), for a notebook's page: it needs no kernel, and without scripts all but the score
    works. ValueError where there is no such lesson."""
    asked = lesson(name).QUIZ
    body = "".join(_question(i, question) for i, question in enumerate(asked, 1))
    score = '<b>Your score</b> <output aria-live="polite"></output>'
    return Widget("quiz", score, body, f"{len(asked)} questions: " + " ".join(q.ask for q in asked), width="46em")


def _question(at: int, question: Question) -> str:
    answers = [(question.right, question.why, True), *((text, why, False) for text, why in question.wrong.items())]
    random.Random(question.ask).shuffle(answers)  # the same order every time, and the right one anywhere
    rows = "".join(
        f'<details data-right="{int(right)}" style="margin:.15em 0 .15em 1em"><summary style="cursor:pointer">'
        f"{html.escape(text)}</summary><div style=\"margin:.2em 0 .4em 1.2em\"><b>{'✓ Yes.' if right else '✗ No.'}</b> "
        f"{html.escape(why)}</div></details>"
        for text, why, right in answers
    )
    return f'<div class="f3d-question" style="margin:.8em 0"><b>{at}. {html.escape(question.ask)}</b>{rows}</div>'
