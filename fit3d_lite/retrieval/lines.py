"""Lines to read: sentences made by chance, drawn in a typeface, spoiled as print and scanners spoil them; and one photo."""

from __future__ import annotations

import numpy as np

from .fonts import Face, draw

WORDS = (
    "the of and to in was that his he with as for is it had on at by not be this from but have were are her all she they "
    "which one you we there been their so an or when who will more no if out up into do any your what has man could other "
    "than our some very time upon about may its only now like little then can should made did us such great before must "
    "two these see know over much down after first good men own never most old shall day where those came come himself way "
    "work life without go make well through being long say might how am too even again many back here think every people"
).split()
SPOILED = ("clean", "noise", "blur", "rotation", "old print")


def sentence(rng: np.random.Generator, length: int = 40) -> str:
    """About that many characters of common words; each sixth is a name or a number that is in no list of words."""
    parts, starts = [], True
    while len(" ".join(parts)) < length:
        kind, syllables = rng.random(), rng.choice(("lo", "ba", "ri", "ven", "ste", "mar", "quil", "zo", "fex", "jud", "wy"), 3)
        part = WORDS[min(int(rng.exponential(len(WORDS) / 3)), len(WORDS) - 1)]
        part = str(rng.integers(1, 2000)) if kind < 0.08 else "".join(syllables).capitalize() if kind < 0.17 else part
        stop = str(rng.choice(list(",.;:!?"))) if rng.random() < 0.15 else ""
        parts.append((part.capitalize() if starts else part) + stop)
        starts = stop in (".", "!", "?")
    return " ".join(parts)


def spoil(ink: np.ndarray, how: str, rng: np.random.Generator, capital: float = 30.0) -> np.ndarray:
    """A photo of a line: grey ``[H, W]`` in 0..1, paper bright, from its ink with capitals so many pixels high.

    ``how`` is one of SPOILED. noise: σ = 0.2 a pixel (else 0.02). blur: σ = 0.06 of a capital. rotation: 1° to 3° either way.
    old print: ink that spread here and failed there, specks, stained paper, half a degree. ValueError for any other.
    """
    from scipy.ndimage import gaussian_filter, rotate

    def cloud(size: float, like: np.ndarray) -> np.ndarray:
        soft = gaussian_filter(rng.normal(size=like.shape), size * capital)
        return soft / soft.std()

    if how not in SPOILED:
        raise ValueError(f"how is {how!r}; a line is spoiled by one of {', '.join(SPOILED)}.")
    paper = 1.0
    if how == "rotation":
        ink = rotate(ink, rng.uniform(1, 3) * rng.choice((-1, 1)), order=1)
    if how == "blur":
        ink = gaussian_filter(ink, 0.06 * capital)
    if how == "old print":
        ink = gaussian_filter(rotate(ink, rng.uniform(-0.5, 0.5), order=1), 0.035 * capital)
        ink = 1 / (1 + np.exp(-12 * (ink - 0.34 + 0.1 * cloud(0.12, ink) + 0.06 * cloud(0.03, ink))))
        ink = np.maximum(ink, 0.8 * (cloud(0.03, ink) > 3.6))
        paper = 0.8 + 0.08 * cloud(1.5, ink)
    noise = rng.normal(scale=0.2 if how == "noise" else 0.02, size=ink.shape)
    return (paper * (1 - 0.85 * ink.clip(0, 1)) + noise).clip(0, 1).astype(np.float32)


def lines(face: Face, how: str, count: int, seed: int = 0) -> tuple[list[np.ndarray], list[str]]:
    """``count`` photos of lines, and what they say; a seed gives the same sentences in every face and however spoiled."""
    texts = [sentence(np.random.default_rng((seed, i))) for i in range(count)]
    return [spoil(draw(text, face)[0], how, np.random.default_rng((seed, i, 1))) for i, text in enumerate(texts)], texts


def page_lines() -> tuple[list[np.ndarray], list[str]]:
    """Five lines of ``page``, a photo that scikit-image carries, cut out by hand and enlarged three times, and their text."""
    from scipy.ndimage import zoom
    from skimage.data import page

    texts = {
        (9, 36): "Region-based segmentation",
        (46, 66): "Let us first determine markers of the coins and the",
        (64, 84): "background. These markers are pixels that we can label",
        (82, 101): "unambiguously as either object or background. Here,",
        (99, 119): "the markers are found at the two extreme parts of the",
    }
    return [zoom(page()[top:end] / 255, 3, order=3).clip(0, 1).astype(np.float32) for top, end in texts], list(texts.values())
