"""Lesson 09, when does it help: what it asks."""

import math

import torch

from .records import Exercise, Question


def _bytes(gaussians, channels, dim, decoder=True, size=4, kernel=9):
    """Bytes of ``dim`` numbers a Gaussian and the decoder's weights; the options are the typical mistakes."""
    return size * (gaussians * dim + decoder * channels * dim * kernel)


def _sizes():
    return {
        "a room": (12_000, 384, 64),
        "8 numbers": (12_000, 384, 8),
        "few Gaussians, where the decoder is most of it": (100, 768, 64),
    }


def _interval(before, after, t, own=False, whole=False, root=True, sign=1):
    """Mean and 95 % interval of the paired difference; the options are the typical mistakes."""
    before, after = (torch.as_tensor(x, dtype=torch.float64) for x in (before, after))
    off, n = sign * (after - before), len(before)
    spread = (before.var() + after.var()).sqrt() if own else off.std(correction=0 if whole else 1)
    half = t * spread / (math.sqrt(n) if root else 1)
    return off.mean(), off.mean() - half, off.mean() + half


def _repetitions():
    drawn = torch.Generator().manual_seed(9)

    def pair(n, gain, apart, noise):
        rooms = 0.4 + apart * torch.randn(n, generator=drawn, dtype=torch.float64)
        return rooms, rooms + gain + noise * torch.randn(n, generator=drawn, dtype=torch.float64)

    return {
        "rooms that differ much": (*pair(5, 0.05, 0.04, 0.005), 2.776),
        "a loss": (*pair(5, -0.1, 0.02, 0.02), 2.776),
        "many repetitions": (*pair(20, 0.01, 0.02, 0.01), 2.093),
        "two repetitions": (*pair(2, 0.03, 0.02, 0.01), 12.706),
    }


EXERCISES = {
    1: Exercise(
        "the bytes of D numbers a Gaussian and their decoder", _bytes,
        {
            "The decoder has weights too: a 3 × 3 convolution from D to C channels.":
                lambda *sizes: _bytes(*sizes, decoder=False),
            "A convolution of 3 × 3 has nine weights for each pair of channels.": lambda *sizes: _bytes(*sizes, kernel=1),
            "Those are numbers. A float32 has four bytes.": lambda *sizes: _bytes(*sizes, size=1),
        },
        "count the numbers of the Gaussians, then those of the convolution, then bytes.", _sizes,
    ),
    2: Exercise(
        "the mean paired difference with its 95 % interval", _interval,
        {
            "You took the spread of the two rows of numbers. Rooms that are hard are hard for both: take the spread of the "
            "differences.": lambda *given: _interval(*given, own=True),
            "The spread of a sample divides by n − 1.": lambda *given: _interval(*given, whole=True),
            "The mean of n numbers is surer than one of them: its spread is that of one, divided by √n.":
                lambda *given: _interval(*given, root=False),
            "The sign is turned: after minus before, so that a gain is above 0.": lambda *given: _interval(*given, sign=-1),
        },
        "the differences, their mean, their standard deviation with n − 1, divided by √n, times t.", _repetitions, minutes=12,
    ),
}  # fmt: skip

QUIZ = [
    Question(
        "One training on six rooms gives +0.06 mIoU. May you write that it helps?",
        "Not yet: another six rooms may give less, and a control may give as much.",
        "One run has no spread, and without a control nobody knows what the gain is owed to.",
        {
            "Yes, 0.06 is much.": "Much compared with what? The spread between repetitions says it, and one run has none.",
            "Yes, if the loss fell.": "The loss falls with wrong poses too.",
            "No, fine-tuning never helps alone.": "Here it did, in every repetition. One run just cannot show it.",
        },
    ),
    Question(
        "Why do all rows of a repetition share their rooms?",
        "Then the differences between rows are much steadier than the rows themselves.",
        "A hard room lowers all rows alike, and the difference does not see it.",
        {
            "To save time.": "It does that too, but rooms of one's own would be drawn in minutes.",
            "So that the networks learn the same.": "They learn from other rooms than the ones they are judged on.",
            "Because there are only a few rooms.": "Rooms are drawn from a number; there are as many as you like.",
        },
    ),
    Question(
        "A blur takes out more noise than 3D targets do, and labels gain far less. What does that kill?",
        "The idea that the gain is nothing but less noise.",
        "What counts is which noise goes: averaging over views keeps edges that a blur smears.",
        {
            "The idea that 3D matters.": "On the contrary: the better average is the one over views.",
            "The measure of noise.": "It measures what it says: how a patch differs from its neighbors.",
            "Nothing, since blur is a control.": "Controls are there to kill explanations.",
        },
    ),
    Question(
        "With wrong poses, whole photos of one room find each other better than before. Is that network good?",
        "No: it says the mean of the room everywhere, and knows less of places and labels.",
        "Targets from other cameras of the same room teach one thing: which room it is.",
        {
            "Yes, for retrieval of photos.": "It may tell rooms by their mean color. Masks, labels and depth fell.",
            "Yes, the poses do not matter then.": "They decide labels, depth and agreement, which all fell.",
            "The measure must be wrong.": "It is right, and it is one of many. That is why there are many.",
        },
    ),
    Question(
        "You expected the gain to be largest with the fewest labels. It is not. What do you do?",
        "Leave the expectation in the table, beside what came.",
        "An expectation written before is worth something only if it may fail.",
        {
            "Change the expectation.": "Then it was no expectation.",
            "Look for a metric in which it is true.": "Among a dozen metrics one will agree by chance.",
            "Leave the study out.": "Then the table holds only what agreed with you.",
        },
    ),
]  # fmt: skip
