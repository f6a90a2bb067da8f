"""Visible checks and guesses: what a notebook says about its own results.

Each shows HTML in a notebook, with a plain-text twin for terminals and screen readers, and a small JSON part
(``application/vnd.fit3d.check+json``) from which the gallery counts checks. A symbol and a word say what a color says.
"""

import html
import math
from dataclasses import dataclass

import torch

from ..base.inputs import as_tensor
from ..widgets.notebook import BLUE, GREEN, RED, number, show, strip
from .settings import chosen

CHECK_MIME = "application/vnd.fit3d.check+json"


def check(ok, what: str, hint: str) -> None:
    """A visible check: a green line when ``ok``, else a red line and an AssertionError that says ``hint``; in the middle
    and the full profile the red line alone.

    Args:
        ok: one yes or no; a tensor of one element is fine.
        what: what holds, as a statement: "the weights of a pixel sum to at most one".
        hint: the likely mistake: "your transmittance grows along the ray: the order is back to front".

    Raises:
        AssertionError: when not ok, in the quick profile; its message is the hint.
        ValueError: when ``ok`` has more than one element or is text.
    """
    shape = tuple(getattr(ok, "shape", ()))
    if math.prod(shape) != 1:
        raise ValueError(f"check needs one yes or no and got shape {shape}; use .all() or check_close")
    if isinstance(ok, str):
        raise ValueError(f"check needs one yes or no and got the text {ok!r}; compare it with something")
    passed = bool(ok) and bool(ok == ok)  # nan is true to Python, and unequal to itself
    _settle(passed, what, hint)


def _settle(passed: bool, what: str, hint: str) -> None:
    """Show a check; a failed one stops the notebook where its expectation was measured (see settings.py)."""
    _show_check(passed, what, hint if chosen.strict else f"{hint} (or it is so in this profile, which is not measured yet)")
    if not passed and chosen.strict:
        raise AssertionError(hint)


def _show_check(passed: bool, what: str, hint: str) -> None:
    payload = {"kind": "check", "what": what, "passed": passed}
    if passed:
        show(f"✓ {what}", strip(GREEN, f"<b>✓</b> {html.escape(what)}"), CHECK_MIME, payload)
    else:
        markup = strip(RED, f"<b>✗ not so:</b> {html.escape(what)}<br><b>Likely:</b> {html.escape(hint)}")
        show(f"✗ not so: {what}\n  Likely: {hint}", markup, CHECK_MIME, payload)


def tensor(value) -> torch.Tensor:
    """On the CPU, dense, in double precision: what two answers are compared as."""
    made = as_tensor(value, "what check_close compares").detach().cpu()
    return (made if made.layout == torch.strided else made.to_dense()).double()


def check_close(mine, reference, what: str, hint: str, tol: float = 1e-5) -> None:
    """Like :func:`check`, for numbers or tensors of any equal shape (sparse ones too).

    Passes when the largest difference is at most ``tol`` times the reference's largest magnitude (at most ``tol``
    itself where the reference is all zero); the difference is shown either way. NaN and infinity never pass.

    Raises:
        AssertionError: when the shapes or the values differ, in the quick profile; the message ends with the hint.
    """
    mine, reference = tensor(mine), tensor(reference)
    if mine.shape != reference.shape:
        return _settle(False, what, f"yours has shape {tuple(mine.shape)}, the reference {tuple(reference.shape)}. {hint}")
    worst, scale = difference(mine, reference)
    limit = tol * (scale or 1.0)
    passed = worst <= limit < math.inf
    said = f"the largest difference is {worst:.2g}, allowed is {limit:.2g}. {hint}"
    _settle(passed, f"{what} (largest difference {worst:.1g})" if passed else what, said)


def difference(mine: torch.Tensor, reference: torch.Tensor) -> tuple[float, float]:
    """Largest difference, and the reference's largest magnitude."""
    if mine.numel() == 0:
        raise ValueError(f"there is nothing to compare: both have shape {tuple(mine.shape)}")
    return (mine - reference).abs().max().item(), reference.abs().max().item()


def unsolved(answer) -> bool:
    """Whether nothing was filled in: None, ``...`` or the empty choice of a form."""
    if isinstance(answer, tuple | list):
        return any(unsolved(a) for a in answer)
    return answer is None or answer is ... or (isinstance(answer, str) and not answer)


@dataclass
class Guess:
    """A reader's guess, kept until the measured value is known; see :func:`predict`."""

    question: str
    value: object
    unit: str = ""


def predict(question: str, guess=None, unit: str = "") -> Guess:
    """Note what the reader expects before a cell measures it; nothing chosen means no guess yet.

    A form gives text: "30 %" is the number 30 when a number is revealed.
    """
    said = _number(guess)
    made = f"your guess: {guess if said is None else number(said)} {'' if said is None else unit}".rstrip()
    made = "no guess yet: choose one above" if unsolved(guess) else made
    text = f"? {question}\n  {made}"
    show(text, strip(BLUE, f"<b>?</b> {html.escape(question)}<br><b>{html.escape(made)}</b>"))
    return Guess(question, guess, unit)


def reveal(guess: Guess, value) -> None:
    """Show the measured ``value`` beside the guess; a wrong guess is no error, it is the point."""
    measured = f"{number(value)} {guess.unit}".rstrip()
    if unsolved(guess.value):
        made, verdict = "none", "guess first next time: it is how the number stays with you"
    elif isinstance(value, str | bool) or _number(guess.value) is None:
        made = str(guess.value)
        verdict = "as you said" if str(guess.value).casefold() == str(value).casefold() else "not as you said"
    else:
        said = _number(guess.value)
        made, off = f"{number(said)} {guess.unit}".rstrip(), said - float(value)
        verdict = "exactly" if off == 0 else f"your guess is {number(abs(off))} too {'high' if off > 0 else 'low'}"
    cells = "".join(
        f'<span style="display:inline-block;margin-right:2em">{k} <b>{html.escape(v)}</b></span>'
        for k, v in (("guessed", made), ("measured", measured))
    )
    markup = strip(BLUE, f"<b>!</b> {html.escape(guess.question)}<br>{cells}<i>{html.escape(verdict)}</i>")
    show(f"! {guess.question}\n  guessed {made} · measured {measured} · {verdict}", markup)


def _number(guess) -> float | None:
    """The number that a guess begins with; None where it is a word."""
    try:
        return float(guess.replace(",", "").split()[0] if isinstance(guess, str) else guess)
    except (ValueError, TypeError, IndexError):  # a word, nothing chosen
        return None
