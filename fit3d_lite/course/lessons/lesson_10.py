"""Lesson 10, other networks: what it asks."""

import torch
import torch.nn.functional as F

from .records import Exercise, Question


def _tokens():
    drawn = torch.Generator().manual_seed(10)

    def case(views, prefix, h, w):
        return torch.randn(views, prefix + h * w, 6, generator=drawn), h, w

    return {
        "a CLS token": case(2, 1, 4, 4),
        "CLS and four registers, a wide photo": case(2, 5, 3, 5),
        "no prefix tokens at all": case(1, 0, 5, 2),
    }


def _patches(tokens, h, w, first=None):
    """[V, C, h, w] of the tokens from ``first`` on."""
    first = tokens.shape[1] - h * w if first is None else first
    return tokens[:, first:].reshape(len(tokens), h, w, -1).permute(0, 3, 1, 2)


def _positions():
    drawn = torch.Generator().manual_seed(20)

    def case(prefix, old, new):
        return torch.randn(1, prefix + old[0] * old[1], 5, generator=drawn), old, new

    return {
        "from 14 × 14 to 10 × 10, one CLS": case(1, (14, 14), (10, 10)),
        "to a wide photo": case(1, (6, 6), (5, 9)),
        "CLS and four registers, to a finer grid": case(5, (4, 4), (7, 6)),
        "no prefix, from a tall grid": case(0, (6, 4), (3, 8)),
        "nothing to resize": case(1, (5, 5), (5, 5)),
    }


def _resized(pos, old, new, prefix=None, **options):
    prefix = pos.shape[1] - old[0] * old[1] if prefix is None else prefix
    grid = pos[:, prefix:].reshape(1, *old, -1).permute(0, 3, 1, 2)
    options = {"mode": "bicubic", "antialias": True} | options
    grid = F.interpolate(grid, new, **options)
    return torch.cat([pos[:, :prefix], grid.flatten(2).transpose(1, 2)], 1)


def _in_a_row(pos, old, new):
    count = pos.shape[1] - old[0] * old[1] + new[0] * new[1]
    return F.interpolate(pos.transpose(1, 2), count, mode="linear").transpose(1, 2)


def _two_sets():
    drawn = torch.Generator().manual_seed(30)

    def case(count, others, channels, width):
        mix = torch.randn(channels, channels, generator=drawn) * 0.7 ** torch.arange(channels)[:, None]
        rows = [torch.randn(n, channels, generator=drawn) @ mix + 2 for n in (count, others)]
        return rows[0], rows[1] + 0.5, width

    return {"12 channels to 4": case(60, 20, 12, 4), "8 to 1": case(40, 9, 8, 1), "as many as there are": case(30, 7, 6, 6)}


def _narrowed(train, test, width, centre=None, fit=None, last=False, signs=True):
    """Scores [M, width] of ``test`` along the main directions of ``train``; the options are the typical mistakes."""
    mean, fit = (train if centre is None else centre).mean(0), train if fit is None else fit
    axes = torch.linalg.svd(fit - fit.mean(0), full_matrices=False)[2]
    axes = (axes.flip(0) if last else axes)[:width].T
    return (test - mean) @ (axes * axes.sum(0).sign() if signs else axes)


EXERCISES = {
    1: Exercise(
        "the patches among the tokens, as a map", _patches,
        {
            "The tokens that belong to no patch stand first, not last.":
                lambda tokens, h, w: _patches(tokens[:, : h * w], h, w),
            "One token was left out always. A network may have registers too, or no CLS: count what is over.":
                lambda tokens, h, w: _patches(tokens, h, w, first=1),
            "Channels are the last axis of tokens: reshape to [V, h, w, C] first, and move C forward then.":
                lambda tokens, h, w: tokens[:, tokens.shape[1] - h * w :].reshape(len(tokens), -1, h, w),
            "Patches run along rows of the photo: h comes before w.":
                lambda tokens, h, w: _patches(tokens, w, h).transpose(2, 3),
        },
        "h · w tokens are patches, row by row; all before them are not.", _tokens, minutes=5,
    ),
    2: Exercise(
        "position embeddings for another grid", _resized,
        {
            "The prefix tokens are gone. They have no place in the picture: put them back in front, unchanged.":
                lambda pos, old, new: _resized(pos, old, new)[:, pos.shape[1] - old[0] * old[1] :],
            "All tokens were resized as one long row. Only the patches are a map, of old[0] rows and old[1] columns.": _in_a_row,
            "One token was kept aside always. A network may have registers too, or none: count what is over.":
                lambda pos, old, new: _resized(pos, old, new, prefix=1),
            "Bilinear where timm is bicubic: mode=\"bicubic\".": lambda *given: _resized(*given, mode="bilinear"),
            "Without antialias a smaller grid takes single values of a larger one: antialias=True.":
                lambda *given: _resized(*given, antialias=False),
            "Corners were aligned: a patch is an area, and its middle is what is resized (align_corners=False).":
                lambda *given: _resized(*given, align_corners=True),
        },
        "split off the prefix, make a map [1, C, h, w] of the rest, F.interpolate it, flatten it, put the prefix in front.",
        _positions, minutes=15,
    ),
    3: Exercise(
        "as many channels as another network has", _narrowed,
        {
            "The rows were not centered by their mean, and the first direction points to it.":
                lambda train, test, width: _narrowed(train, test, width, centre=torch.zeros_like(train)),
            "Centered by the mean of the test rows: a probe that was fitted on training rows would read shifted numbers.":
                lambda train, test, width: _narrowed(train, test, width, centre=test),
            "The directions were found on the test rows, which nothing may be fitted on.":
                lambda train, test, width: _narrowed(train, test, width, fit=test),
            "Channels were taken, not directions: which channels come first means nothing.":
                lambda train, test, width: (test - train.mean(0))[:, :width],
            "These are the directions in which the rows differ least.":
                lambda train, test, width: _narrowed(train, test, width, last=True),
            "A direction's sign is arbitrary until you turn it so that its C numbers sum to something positive.":
                lambda train, test, width: _narrowed(train, test, width, signs=False),
        },
        "the first rows of Vt of the centered training rows, turned; then (test − mean of train) @ axes.",
        _two_sets, minutes=10, tol=1e-3,
    ),
}  # fmt: skip

QUIZ = [
    Question(
        "A network with patches of 14 pixels and one with 16 look at the same photo of 224 × 224. The first has more recall "
        "within 10 pixels. What may be said?",
        "Nothing yet: the first had 16 × 16 patches, the second 14 × 14.",
        "A finer grid reads smaller things and lands nearer to the true place. Give both as many patches first.",
        {
            "The first knows more about 3D.": "It may. But the grid alone moves the number as well, in this lesson by more.",
            "The first sees sharper, since its patches are smaller.":
                "Enlarge the photo for the second and its patches show as little.",
            "They are equal: recall is told in pixels of the photo.":
                "The threshold is; the places among which it is looked for are not.",
        },
    ),
    Question(
        "You read a network before its last LayerNorm instead of after it. A ridge probe on standardized channels says the "
        "same, recall does not. Why?",
        "A cosine weighs channels by their size, such a probe does not.",
        "A few long channels decide a cosine. So bring each to mean 0 and deviation 1, for every network, on the same photos.",
        {
            "The probe is broken.": "It gives each channel deviation 1 first, so it cannot see by what they were multiplied.",
            "Recall is noise.": "The queries are the same, and so are the photos. It is the yardstick that changed.",
            "The norm adds knowledge about places.": "It has two numbers a channel, the same at every place.",
        },
    ),
    Question(
        "A network of 768 channels reads labels better than one of 192. What is the control for width?",
        "Both reduced to as many channels, by directions fitted on the training rooms.",
        "A wider probe has more numbers to fit. What is left at equal width is not owed to them.",
        {
            "The narrow one twice, side by side.":
                "Copies have the same span, and the probe gains nothing: they are the control for \"beside\", not for width.",
            "The narrow one, with 576 channels of noise.": "Noise makes it worse, so anything would win.",
            "None is needed: a linear probe is linear.": "It has a weight for each channel and class, so its size grows with C.",
        },
    ),
    Question(
        "The published checkpoint gains, and the one you trained on three rooms gains less. What does the difference show?",
        "Nothing about the network: 230 scenes against three.",
        "Compare what was trained alike: yours with right poses beside yours with wrong ones.",
        {
            "That drawn rooms teach nothing.": "Yours gained too, or its control would not be behind it. It saw little.",
            "That the network suits the paper's recipe.":
                "It is one network. What differs is the scenes, their number and the steps.",
            "That your recipe is wrong.": "It may be, but this comparison cannot say so.",
        },
    ),
    Question(
        "Fine-tuning a network with random weights raises recall a little, and labels not at all. Which reading fits?",
        "Averaging over views takes out noise; it cannot put in what was never there.",
        "The target is the network's own features, averaged. Where they do not know a chair, the average does not either.",
        {
            "3D-aware fine-tuning needs no pretraining.": "Labels stayed where they were, near chance.",
            "Random weights are as good as pretrained ones for finding places.":
                "Their recall stays far below. It rose, no more.",
            "The gain of pretrained networks must be an error.": "Both gained in recall; only one had labels to sharpen.",
        },
    ),
]  # fmt: skip
