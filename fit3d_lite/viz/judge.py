"""Where is a prediction wrong, and how sure is it? Maps of errors, mistakes and confidence, each with its legend."""

import torch
from torch import Tensor

from .figures import WIDTH, compare
from .palette import IGNORE, RIGHT, WRONG, color_mistakes

__all__ = ["show_confidence", "show_error", "show_mistakes"]


def show_error(
    images: Tensor,  # [V, 3, H, W] in 0..1
    errors: Tensor | dict[str, Tensor],  # [V, h, w] from 0 up, nan = not known; or several, by title
    worst: float | None = None,
    unit: str = "error",
    titles: list[str] | None = None,
    width: float = WIDTH,
):
    """Photos with maps of errors, black for none and bright for large, on one scale from 0.

    Args:
        worst: where the scale ends; by default 99 % of the known errors lie below.
        unit: what the colour bar counts: "metres".

    Raises:
        ValueError: negative errors, none that is known, or as :func:`compare`.
    """
    maps = errors if isinstance(errors, dict) else {"error": errors}
    known = torch.cat([m.detach().cpu().float().flatten() for m in maps.values()] or [torch.zeros(0)])
    known = known[known.isfinite()]
    if not len(known) or known.min() < 0:
        said = f"the smallest is {known.min().item():.3g}: take .abs()" if len(known) else "none of them is known"
        raise ValueError(f"errors must be numbers from 0 up, and {said}")
    if worst is None:
        worst = torch.quantile(known[:: max(1, len(known) // 1_000_000)], 0.99).item() or 1.0
    maps = {title: m.detach().float() for title, m in maps.items()}
    return compare(images, maps, titles, limits=(0.0, worst), width=width, kind="error", unit=unit)


def show_confidence(
    images: Tensor,  # [V, 3, H, W] in 0..1
    confidence: Tensor | dict[str, Tensor],  # [V, h, w] in 0..1; or several, by title
    titles: list[str] | None = None,
    width: float = WIDTH,
):
    """Photos with maps of how sure a model is, dark blue for 0 and yellow for 1.

    Raises:
        ValueError: numbers outside 0..1, or as :func:`compare`.
    """
    maps = confidence if isinstance(confidence, dict) else {"confidence": confidence}
    for title, m in maps.items():
        if m.min() < 0 or m.max() > 1:
            raise ValueError(f"{title!r} runs from {m.min().item():.3g} to {m.max().item():.3g}: confidence lies in 0..1")
    maps = {title: m.detach().float() for title, m in maps.items()}
    return compare(images, maps, titles, limits=(0.0, 1.0), width=width, kind="confidence", unit="0 unsure, 1 sure")


def show_mistakes(
    images: Tensor,  # [V, 3, H, W] in 0..1
    guesses: Tensor | dict[str, Tensor],  # [V, h, w] whole numbers; or several, by title
    truth: Tensor,  # [V, h, w] whole numbers, 255 = none
    titles: list[str] | None = None,
    width: float = WIDTH,
):
    """Photos with the places where a guess is wrong; the share of them stands in the title.

    Raises:
        ValueError: guesses and truth of different shapes, nothing to judge, or as :func:`compare`.
    """
    from matplotlib.patches import Patch

    known = truth != IGNORE
    if not known.any():
        raise ValueError(f"there is nothing to judge: all {truth.numel()} pixels have the label {IGNORE} (none)")
    maps = {}
    for title, guess in (guesses if isinstance(guesses, dict) else {"mistakes": guesses}).items():
        colors = color_mistakes(guess, truth)
        wrong = 100 * (guess != truth)[known].float().mean().item()
        maps[f"{title}: {wrong:.0f} % wrong"] = colors
    figure = compare(images, maps, titles, width=width)
    handles = [Patch(facecolor=WRONG, label="wrong"), Patch(facecolor=RIGHT, label="right")]
    handles += [] if known.all() else [Patch(facecolor="white", edgecolor="0.7", label="no label")]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    figure.set_figheight(figure.get_figheight() + 0.25)
    return figure
