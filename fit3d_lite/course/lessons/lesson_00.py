"""Lesson 00, what a ViT sees: what it asks."""

import torch
import torch.nn.functional as F

from .records import Exercise, Question


def _directions(part, share):
    return int((part.cumsum(0) < share).sum()) + 1


def _parts():
    return {
        "five directions, 80 %": (torch.tensor([0.40, 0.30, 0.20, 0.08, 0.02]), 0.8),
        "one is enough": (torch.tensor([0.90, 0.06, 0.04]), 0.8),
        "all are needed": (torch.tensor([0.30, 0.26, 0.24, 0.20]), 0.95),
    }


def _found_again(one, other, kinds_one, kinds_other, length=True, labelled=True, swapped=False):
    """Part of the patches found again; the options are the typical mistakes."""
    if swapped:
        one, other, kinds_one, kinds_other = other, one, kinds_other, kinds_one
    if labelled:
        one, kinds_one = one[:, kinds_one != 255], kinds_one[kinds_one != 255]
        other, kinds_other = other[:, kinds_other != 255], kinds_other[kinds_other != 255]
    if length:
        one, other = F.normalize(one, dim=0), F.normalize(other, dim=0)
    best = (one.T @ other).argmax(1)
    return (kinds_one == kinds_other[best]).float().mean()


def _views():
    drawn = torch.Generator().manual_seed(2)
    things = torch.randn(4, 6, generator=drawn)  # 4 kinds of things, 6 channels

    def view(patches):
        kinds = torch.arange(patches) % 4
        return (things[kinds] + 0.9 * torch.randn(patches, 6, generator=drawn)).T, kinds

    (a, a_kinds), (b, b_kinds), (c, c_kinds) = view(12), view(12), view(20)
    long = b.clone()
    long[:, 5] *= 40
    some = a_kinds.clone(), c_kinds.clone()
    some[0][::3], some[1][1::3] = 255, 255
    return {
        "two views": (a, b, a_kinds, b_kinds),
        "one very long feature": (a, long, a_kinds, b_kinds),
        "grids of two sizes": (c, a, c_kinds, a_kinds),
        "patches without a label": (a, c, *some),
        "nothing to ask": (a, b, torch.full_like(a_kinds, 255), b_kinds),
    }


EXERCISES = {
    1: Exercise(
        "how many directions hold a share of the variation", _directions,
        {
            "You counted the directions that are not enough: one more reaches the share.":
                lambda part, share: int((part.cumsum(0) < share).sum()),
            "Compare the running sum with the share, part.cumsum(0), not each part by itself.":
                lambda part, share: int((part < share).sum()) + 1,
        },
        "the running sum says how much the first 1, 2, 3 … directions hold together.", _parts,
    ),
    2: Exercise(
        "part of the patches that are found again", _found_again,
        {
            "The longest feature wins your comparison: bring every feature to length 1 first, along the channels.":
                lambda *views: _found_again(*views, length=False),
            "You looked for the patches of the second view in the first: the argmax must run over the second.":
                lambda *views: _found_again(*views, swapped=True),
            "Patches without a label (255) must neither be asked nor be an answer.":
                lambda *views: _found_again(*views, labelled=False),
        },
        "three steps: leave out what has no label, on both sides; the most similar patch of the other view for each; compare "
        "the two labels.",
        _views, minutes=12,
    ),
}  # fmt: skip

QUIZ = [
    Question(
        "Two photos, a PCA for each. In both pictures of features the wall is red. What follows for the features of the walls?",
        "Nothing.", "Each picture has its own three directions; its red has nothing to do with the other's.",
        {
            "They are alike.": "They may be as different as you like: red is another direction in each picture.",
            "They are alike if one network made both.":
                "The network gives the features; what is called red is chosen by the PCA, picture by picture.",
            "Both lie along the strongest direction.":
                "True of both, if red shows it. But the strongest direction of one picture is not that of the other.",
        },
    ),
    Question(
        "A network with random weights shows the outlines of the furniture. Why?",
        "A fixed mix of pixels, even a random one, differs where the pixels differ.",
        "So an outline in a picture of features is no proof that anything was learned.",
        {
            "It learned them while the features were computed.": "Nothing is learned then: the weights stay as they were drawn.",
            "The position embedding holds them.": "That says where a patch is, the same for every photo.",
            "PCA finds objects.": "PCA finds directions in which patches differ, whatever the reason.",
        },
    ),
    Question(
        "The groups of k-means have an AMI of 0 with the objects. What does that mean?",
        "They agree with the objects no better than groups by chance.",
        "AMI takes off what chance reaches, so 0 is chance and 1 is perfect.",
        {
            "No patch is in the right group.": "There is no right group: groups have no names, only members.",
            "All patches are in one group.": "That gives 0 too, as does every other grouping without relation to the objects.",
            "Every group holds exactly one object.": "That would be perfect, an AMI of 1.",
        },
    ),
    Question(
        "Three directions hold 35 % of the variation. Two patches have the same color in the picture. What do you know of them?",
        "That they agree in 35 % of what varies; in the rest they may differ.",
        "The picture is a shadow of the features: what lies along other directions does not show.",
        {
            "That they show the same thing.": "Two things may differ along the directions that are not drawn.",
            "That their cosine similarity is 1.": "Cosine counts all channels, and 65 % of the variation is not in the picture.",
            "That they lie next to each other.": "The colors know nothing of places, except what the features say of them.",
        },
    ),
    Question(
        "One feature is ten times as long as another, and points the same way. What is their cosine similarity?",
        "1", "Cosine is the angle alone. That is why a few very long features do no harm to it.",
        {
            "0.1": "The length does not count: both are brought to length 1 first.",
            "10": "That is the quotient of the lengths. A cosine never passes 1.",
            "It depends on the number of channels.": "For vectors that point the same way it is 1 in any number of channels.",
        },
    ),
]  # fmt: skip
