"""Appendix A2, reading as retrieval: what it asks."""

import itertools

import torch
import torch.nn.functional as F

from .records import Exercise, Question


def _contrast(z, labels, tau, itself=False, own=False, divide=True, temperature=True, inside=False, lonely=False):
    """The supervised contrastive loss; the options are the typical mistakes."""
    same, me = labels[:, None] == labels[None, :], torch.eye(len(z), dtype=torch.bool)
    partners = same if own else same & ~me
    scores = z @ z.T / (tau if temperature else 1.0)
    below = scores if itself else scores.masked_fill(me, -torch.inf)
    log_p = scores - below.logsumexp(1, keepdim=True)
    count = partners.sum(1)
    if inside:  # the mean stands inside the logarithm
        terms = -torch.log((log_p.exp() * partners).sum(1) / count.clamp_min(1))
    else:
        terms = -(log_p * partners).sum(1) / (count.clamp_min(1) if divide else 1)
    return terms[count > 0].sum() / (len(z) if lonely else (count > 0).sum())


def _batches():
    drawn = torch.Generator().manual_seed(21)

    def unit(n, c):
        return F.normalize(torch.randn(n, c, generator=drawn), dim=1)

    return {
        "two of each": (unit(6, 4), torch.tensor([0, 0, 1, 1, 2, 2]), 0.1),
        "five of one, two of another": (unit(7, 3), torch.tensor([4, 4, 4, 9, 4, 9, 4]), 0.5),
        "one without a partner": (unit(7, 5), torch.tensor([0, 1, 0, 1, 2, 1, 0]), 0.2),
    }


LOOK_ALIKES = ("l1I", "O0o")


def _ways(word):
    """All words that look like this one, those with the fewest changes first, else in the order of LOOK_ALIKES."""
    options = [next((group for group in LOOK_ALIKES if letter in group), letter) for letter in word]
    found = ["".join(letters) for letters in itertools.product(*options)]
    return sorted(found, key=lambda other: sum(a != b for a, b in zip(word, other, strict=True)))


def _settle(word, known, fewest=True, numbers=True, digits=True):
    """The word that was meant; the options are the typical mistakes."""
    ways = _ways(word) if fewest else sorted(_ways(word))
    if numbers and (any(letter.isdigit() for letter in word) or not digits):
        number = [way for way in ways if way.isdigit()]
        if number:
            return number[0]
    return next((way for way in ways if way in known), word)


def _words():
    known = {"all", "Ill", "III", "ill", "I", "of", "oil", "look", "hollow", "will"}
    read = {
        "letters read as digits": "ho11ow", "a capital in the middle": "wilI", "a word that is known already": "Ill",
        "a number": "18O6", "a number that begins with a letter": "l9", "a number and a word at once": "1ll",
        "two known words, one nearer": "lll", "a capital for a small letter": "Of", "no digit in it, so no number": "Il",
        "nothing fits": "xylo", "nothing to change": "quay",
    }  # fmt: skip
    return {name: (word, set(known)) for name, word in read.items()}


EXERCISES = {
    1: Exercise(
        "the label of the nearest example",
        lambda asked, examples, labels: [labels[i] for i in (asked @ examples.T).argmax(1).tolist()],
        {
            "That is the farthest: a cosine is large where two vectors agree.":
                lambda asked, examples, labels: [labels[i] for i in (asked @ examples.T).argmin(1).tolist()],
            "These are the numbers of the examples; their labels are asked for.":
                lambda asked, examples, labels: (asked @ examples.T).argmax(1).tolist(),
            "Each example was told which question is nearest to it: the maximum runs over the examples, dimension 1.":
                lambda asked, examples, labels: [labels[i] for i in (asked @ examples.T).argmax(0).tolist()],
        },
        "`asked @ examples.T` is [M, N]; `argmax(1)` gives an example for each row, `labels[i]` its letter.",
        lambda: {
            "three of four": (F.normalize(torch.tensor([[1.0, 0.2], [0.0, -1.0], [-1.0, 0.1]]), dim=1),
                              torch.tensor([[0.6, 0.8], [1.0, 0.0], [0.0, -1.0], [-1.0, 0.0]]), list("abca")),
            "one of two": (torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]]), ["x", "ß"]),
        },
    ),
    2: Exercise(
        "the supervised contrastive loss", _contrast,
        {
            "A picture stands below the line of its own fraction: the sum runs over all others, a ≠ i.":
                lambda *given: _contrast(*given, itself=True),
            "A picture is counted as its own partner: P(i) holds the others of its label.":
                lambda *given: _contrast(*given, own=True),
            "The sum over partners is not divided by their number |P(i)|.": lambda *given: _contrast(*given, divide=False),
            "The temperature is missing: divide the cosines by τ.": lambda *given: _contrast(*given, temperature=False),
            "The mean over partners stands inside the logarithm; here it stands outside.":
                lambda *given: _contrast(*given, inside=True),
            "A picture without a partner has no term, and is not counted in the mean either.":
                lambda *given: _contrast(*given, lonely=True),
        },
        "log p: the cosine over τ, less the logsumexp of its row without the diagonal. Then two means: partners, rows.",
        _batches, minutes=15,
    ),
    3: Exercise(
        "the word that was meant, where l, 1 and I, or O, 0 and o, were mistaken", _settle,
        {
            "Numbers are left out: with a digit in it, a word that can be all digits is a number.":
                lambda *given: _settle(*given, numbers=False),
            "Without any digit read it is no number: `Il` is no 11.": lambda *given: _settle(*given, digits=False),
            "Among several known words take the one with the fewest changes.": lambda *given: _settle(*given, fewest=False),
        },
        "try all combinations (`itertools.product`): a number if a digit was read, else the known word with the fewest changes.",
        _words, minutes=15,
    ),
}  # fmt: skip

QUIZ = [
    Question(
        "A reader by retrieval meets a ß, of which it has no example. What does it read?",
        "Its nearest neighbor, likely B.", "A search always finds something. Only its cosine says that it is far.",
        {
            "Nothing: the cosine is too low.": "For characters nothing is refused here; words are, below `near`.",
            "ß, since the encoder saw so many letters.": "It gives a vector. The name comes from an example, and there is none.",
            "It must be trained again.": "One example of ß is enough: that is the point of the method.",
        },
    ),
    Question(
        "One example a class was added for a typeface that was never seen. What was trained?",
        "Nothing: a row was added to the index for each.", "The encoder stays; the examples say what its vectors mean.",
        {
            "The last layer.": "There is none. A linear head would have to be fitted again.",
            "The encoder, for a few steps.": "It has not changed by a bit.",
            "The distance.": "It is the cosine, before and after.",
        },
    ),
    Question(
        "With every character's true box the reader makes a sixth of its errors on blurred lines. What to improve first?",
        "How characters are found.", "Five errors of six come from boxes that hold two characters, or half of one.",
        {
            "The encoder.": "It reads what it is given: with the right boxes it makes few errors.",
            "The number of examples.": "They do not separate letters that touch.",
            "The loss.": "It shapes the encoder, which is not to blame here.",
        },
    ),
    Question(
        "Why must characters keep their height and place on the line, and not fill the picture?",
        "Else c is C, and a comma is an apostrophe.", "Some characters differ in nothing else.",
        {
            "The network needs a fixed size.": "Pictures that are filled have a fixed size as well.",
            "For speed.": "Both are 32 × 32.",
            "To make blur harmless.": "It blurs either kind.",
        },
    ),
    Question(
        "Words are believed from a cosine of 0.7 on, and names come out as common words. What happened?",
        "Every name is near some word, and 0.7 let it through.",
        "The threshold decides between a word that is known and letters that are read. Too low, and the list of words overrules.",
        {
            "The characters were read wrongly.": "They were not read at all: a word was near enough.",
            "The list of words is too short.": "A longer list has more words that a name is near to.",
            "The word encoder was not trained.": "It may be good: also a good one has a nearest word for a name.",
        },
    ),
]  # fmt: skip
