"""Visible checks, exercises and guesses: what a notebook says about its own results.

Each shows HTML in a notebook, with a plain-text twin for terminals and screen readers, and a small JSON part
(``application/vnd.fit3d.check+json``) from which the gallery counts checks. A symbol and a word say what a color says.
"""

import html
import math
from dataclasses import dataclass

import torch

from ..widgets.notebook import AMBER, BLUE, GREEN, RED, number, show, strip
from .settings import chosen

CHECK_MIME = "application/vnd.fit3d.check+json"


def check(ok, what: str, hint: str) -> None:
    """A visible check: a green line when ``ok``, else a red line and an AssertionError that says ``hint``; in the full
    profile the red line alone.

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
    _show_check(passed, what, hint if chosen.strict else f"{hint} (or it is otherwise at full size, which is not measured yet)")
    if not passed and chosen.strict:
        raise AssertionError(hint)


def _show_check(passed: bool, what: str, hint: str) -> None:
    payload = {"kind": "check", "what": what, "passed": passed}
    if passed:
        show(f"✓ {what}", strip(GREEN, f"<b>✓</b> {html.escape(what)}"), CHECK_MIME, payload)
    else:
        markup = strip(RED, f"<b>✗ not so:</b> {html.escape(what)}<br><b>Likely:</b> {html.escape(hint)}")
        show(f"✗ not so: {what}\n  Likely: {hint}", markup, CHECK_MIME, payload)


def _tensor(value) -> torch.Tensor:
    tensor = torch.as_tensor(value).detach().cpu()
    return (tensor if tensor.layout == torch.strided else tensor.to_dense()).double()


def check_close(mine, reference, what: str, hint: str, tol: float = 1e-5) -> None:
    """Like :func:`check`, for numbers or tensors of any equal shape (sparse ones too).

    Passes when the largest difference is at most ``tol`` times the reference's largest magnitude (at most ``tol``
    itself where the reference is all zero); the difference is shown either way. NaN and infinity never pass.

    Raises:
        AssertionError: when the shapes or the values differ; the message ends with the hint.
    """
    mine, reference = _tensor(mine), _tensor(reference)
    if mine.shape != reference.shape:
        said = f"yours has shape {tuple(mine.shape)}, the reference {tuple(reference.shape)}. {hint}"
        _show_check(False, what, said)
        raise AssertionError(said)
    worst, scale = _difference(mine, reference)
    limit = tol * (scale or 1.0)
    passed = worst <= limit < math.inf
    said = f"the largest difference is {worst:.2g}, allowed is {limit:.2g}. {hint}"
    _show_check(passed, f"{what} (largest difference {worst:.1g})" if passed else what, said)
    if not passed:
        raise AssertionError(said)


def _difference(mine: torch.Tensor, reference: torch.Tensor) -> tuple[float, float]:
    if mine.numel() == 0:
        raise ValueError(f"there is nothing to compare: both have shape {tuple(mine.shape)}")
    return (mine - reference).abs().max().item(), reference.abs().max().item()


def _unsolved(answer) -> bool:
    if isinstance(answer, tuple | list):
        return any(_unsolved(a) for a in answer)
    return answer is None or answer is ...


def exercise(answer, expected, what: str, hint: str, tol: float = 1e-4) -> None:
    """Check a reader's answer without ever stopping the notebook.

    "Not solved yet" when ``answer`` is None or ``...``; green when it is right; the hint when it is wrong.

    Args:
        answer: the reader's number, text, tensor or tuple of those.
        expected: the right answer, or a function ``answer -> bool``.
        tol: for numbers and tensors, relative to the expected answer's largest magnitude.
    """
    if _unsolved(answer):
        state, rgb, text = "open", BLUE, f"○ not solved yet: {what}"
    else:
        try:
            right = bool(expected(answer)) if callable(expected) else _same(answer, expected, tol)
            reason = ""
        except Exception as error:  # a reader's half-made answer may be anything; say what broke and go on
            right, reason = False, f" (comparing it failed: {error})"
        state, rgb = ("solved", GREEN) if right else ("wrong", AMBER)
        text = f"✓ solved: {what}" if right else f"✗ not yet: {what}{reason}\n  Hint: {hint}"
    payload = {"kind": "exercise", "what": what, "state": state}
    show(text, strip(rgb, html.escape(text).replace("\n", "<br>")), CHECK_MIME, payload)


def _same(answer, expected, tol: float) -> bool:
    if isinstance(expected, tuple | list):
        return len(answer) == len(expected) and all(_same(a, e, tol) for a, e in zip(answer, expected, strict=True))
    if isinstance(expected, str | bool):
        return answer == expected
    answer, expected = _tensor(answer), _tensor(expected)
    if answer.shape != expected.shape:
        raise ValueError(f"yours has shape {tuple(answer.shape)}, expected is {tuple(expected.shape)}")
    worst, scale = _difference(answer, expected)
    return worst <= tol * (scale or 1.0) < math.inf


@dataclass
class Guess:
    """A reader's guess, kept until the measured value is known; see :func:`predict`."""

    question: str
    value: object
    unit: str = ""


def predict(question: str, guess=None, unit: str = "") -> Guess:
    """Note what the reader expects before a cell measures it; ``None`` or ``...`` means no guess yet."""
    made = "no guess yet: set one above" if _unsolved(guess) else f"your guess: {number(guess)} {unit}".rstrip()
    text = f"? {question}\n  {made}"
    show(text, strip(BLUE, f"<b>?</b> {html.escape(question)}<br><b>{html.escape(made)}</b>"))
    return Guess(question, guess, unit)


def reveal(guess: Guess, value) -> None:
    """Show the measured ``value`` beside the guess; a wrong guess is no error, it is the point."""
    measured = f"{number(value)} {guess.unit}".rstrip()
    if _unsolved(guess.value):
        made, verdict = "none", "guess first next time: it is how the number stays with you"
    elif isinstance(value, str | bool) or isinstance(guess.value, str):
        made = str(guess.value)
        verdict = "as you said" if str(guess.value).casefold() == str(value).casefold() else "not as you said"
    else:
        made, off = f"{number(guess.value)} {guess.unit}".rstrip(), float(guess.value) - float(value)
        verdict = "exactly" if off == 0 else f"your guess is {number(abs(off))} too {'high' if off > 0 else 'low'}"
    cells = "".join(
        f'<span style="display:inline-block;margin-right:2em">{k} <b>{html.escape(v)}</b></span>'
        for k, v in (("guessed", made), ("measured", measured))
    )
    markup = strip(BLUE, f"<b>!</b> {html.escape(guess.question)}<br>{cells}<i>{html.escape(verdict)}</i>")
    show(f"! {guess.question}\n  guessed {made} · measured {measured} · {verdict}", markup)
