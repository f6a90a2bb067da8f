"""Lesson 07, do two views agree: what it asks."""

import torch
import torch.nn.functional as F

from .records import Exercise, Question


def _near_its_mean(feats, share=0.05):
    mean = feats.mean((0, 2, 3), keepdim=True)
    return mean + share * (feats - mean)


def _views():
    drawn = torch.Generator().manual_seed(7)
    found = {}
    for name, (v, c, h, w) in {"two views": (2, 8, 6, 6), "wide photos": (4, 12, 3, 9), "many channels": (2, 40, 5, 5)}.items():
        things = 1 + torch.randn(1, c, h, w, generator=drawn)  # each view shows the same things at the same places
        found[name] = (things + 0.1 * torch.randn(v, c, h, w, generator=drawn),)
    return found


def _agrees_and_finds(given, feats):
    """Whether all patches of two views are alike, and each still finds its own place in the other view."""
    if not isinstance(given, torch.Tensor) or given.shape != feats.shape or not given.isfinite().all():
        return False
    one, other = F.normalize(given[:2].double(), dim=1).flatten(2)
    cosines = one.T @ other
    again = cosines.argmax(1) == torch.arange(len(cosines))
    return bool(cosines.diagonal().mean() > 0.97 and cosines.mean() > 0.97 and again.float().mean() > 0.9)


def _errors():
    drawn = torch.Generator().manual_seed(3)
    return {
        "errors of 50 points": (100 * torch.rand(50, generator=drawn),),
        "all found": (torch.tensor([0.5, 9.0, 3.0]),),
        "just beyond 10 pixels of the photo": (torch.tensor([11.0, 39.0, 41.0, 90.0]),),
        "no point": (torch.zeros(0),),
    }


def _recall(one, other, uv_one, uv_other, patch, radius, unit=True, swapped=False, half=0.5, hidden=True, scale=True):
    """Part of the points found within a radius; the options are the typical mistakes."""
    if hidden:
        seen = uv_other.isfinite().all(1)
        uv_one, uv_other = uv_one[seen], uv_other[seen]
    column, row = (uv_one / patch).long().unbind(1)
    if swapped:
        column, row = row, column
    query = one[:, row, column]
    keys, w = other.flatten(1), other.shape[2]
    if unit:
        query, keys = F.normalize(query, dim=0), F.normalize(keys, dim=0)
    best = (query.T @ keys).argmax(1)
    found = torch.stack([best % w, best // w], 1) + half
    far = (found * patch - uv_other if scale else found - uv_other / patch).norm(dim=1)
    return (far < radius).float().mean()


def _searches():
    drawn = torch.Generator().manual_seed(4)

    def case(h, w, shift, points, radius, patch=8):
        one = torch.randn(6, h, w, generator=drawn)
        noise = torch.randn(6, h, w, generator=drawn)
        other = one.roll(shift, 2) + 0.5 * noise  # the camera moved sideways by whole patches
        uv = torch.rand(points, 2, generator=drawn) * torch.tensor([w * patch - 1.0, h * patch - 1.0])
        there = uv + torch.tensor([float(shift * patch), 0.0])
        there[there[:, 0] >= w * patch] = torch.nan  # out of the picture
        return [one, other, uv, there, patch, radius]

    square, wide, long, many = case(6, 6, 1, 60, 6.0), case(4, 9, 2, 60, 5.0), case(5, 7, 1, 60, 6.0), case(6, 6, 2, 200, 5.0)
    long[1][:, 1, 1] *= 30
    none = case(4, 4, 1, 5, 6.0)
    none[3] = torch.full_like(none[3], torch.nan)
    return {
        "a square photo": tuple(square),
        "a wide photo": tuple(wide),
        "one very long feature": tuple(long),
        "many points, some hidden": tuple(many),
        "no point is seen": tuple(none),
    }


EXERCISES = {
    1: Exercise(
        "a cosine above 0.97 everywhere that means nothing", _near_its_mean,
        {
            "All features are equal now, and nothing can be found any more: some of the difference must stay.":
                lambda feats: feats.mean((0, 2, 3), keepdim=True).expand_as(feats),
            "The length of a feature does not count in a cosine.": lambda feats: F.normalize(feats, dim=1),
            "That takes off what all have in common: cosines fall. You want the opposite.":
                lambda feats: feats - feats.mean((0, 2, 3), keepdim=True),
        },
        "shrink all features towards their common mean, and leave some of the difference.",
        _views, accepts=_agrees_and_finds,
    ),
    2: Exercise(
        "recall within 10 pixels of a photo at a quarter of its size", lambda pixels: (pixels < 40).float().mean(),
        {
            "That is within 10 pixels of the full photo. One pixel of the small photo is four of the large one.":
                lambda pixels: (pixels < 10).float().mean(),
            "The other way round: the small photo's 10 pixels are more of the large one's, not fewer.":
                lambda pixels: (pixels < 2.5).float().mean(),
        },
        "a quarter of the height and of the width: how many pixels of the photo are 10 of the small one's?", _errors,
    ),
    3: Exercise(
        "recall within a radius, from features and true places", _recall,
        {
            "Points that the other view does not see (nan) were counted as missed: leave them out first.":
                lambda *given: _recall(*given, hidden=False),
            "Rows and columns are exchanged: pixels are (u, v) = (column, row), and features are [C, row, column].":
                lambda *given: _recall(*given, swapped=True),
            "The longest feature wins your comparison: cosine looks at directions, so bring all to length 1.":
                lambda *given: _recall(*given, unit=False),
            "A patch is found at its middle: column + 0.5 and row + 0.5, times the patch's pixels.":
                lambda *given: _recall(*given, half=0.0),
            "The radius counts pixels, and yours counts patches.": lambda *given: _recall(*given, scale=False),
        },
        "four steps: keep the points that are seen; the patch of each point; its most similar patch of the other view; the "
        "distance of that patch's middle from the true place.",
        _searches, minutes=15,
    ),
}  # fmt: skip

QUIZ = [
    Question(
        "A point of photo A projects into photo B, 40 cm behind what B's depth map shows there. What is done with it?",
        "It is left out: something hides it in B.", "No feature could find it, and a miss would say nothing.",
        {
            "It counts as missed.": "Then a perfect feature would fail wherever furniture stands in the way.",
            "It counts, with a larger tolerance.": "40 cm is another surface. The tolerance is for noise in the depth.",
            "B's depth is corrected.": "Both depths are right: they belong to two surfaces on one ray.",
        },
    ),
    Question(
        "After fine-tuning, the cosine at true correspondences rose from 0.68 to 0.99. Does the ViT agree more between views?",
        "Unknown, until shuffled pairs, AUC or recall stand beside it.",
        "Features that all point the same way have a cosine of 1 everywhere, and find nothing.",
        {
            "Yes, clearly.": "Shrinking all features to their mean gives that, without learning anything.",
            "No, that is always a collapse.": "It may be both. The other numbers decide.",
            "Yes, if the loss fell as well.": "If that cosine was the loss, its fall says the same thing once more.",
        },
    ),
    Question(
        "On drawn rooms the mean color of a patch finds points well. On a phone's photos it finds few. Why?",
        "A phone changes its exposure from photo to photo; the drawn rooms do not.",
        "Section 3 dims each photo by its own factor, and color loses most of its recall.",
        {
            "Drawn rooms have fewer colors.": "They have many; and fewer would make the search harder, not easier.",
            "A phone's patches are larger.": "The grid is chosen by us and is the same for both.",
            "Color knows the place in the picture.": "The mean color of a patch knows nothing of where it lies.",
        },
    ),
    Question(
        "Random vectors on Gaussians, rendered into every view, agree far better than any ViT's features. What does that show?",
        "That agreement alone does not say that anything was understood.",
        "All views show the same Gaussians, so they agree by construction, whatever the Gaussians carry.",
        {
            "That random features are good features.": "They know nothing of things: no mask and no depth can be read from them.",
            "That the measurement is wrong.": "It is right: the views do agree. It only asks for nothing else.",
            "That the ViT was trained badly.": "It sees one photo at a time. The Gaussians have seen all of them.",
        },
    ),
    Question(
        "One paper reports 60 % recall within 10 pixels, another 25 %. Which model is better?",
        "Unknown: they may count other pixels, other points, other pairs.",
        "A quarter of the resolution alone makes 10 pixels 40, and hidden points or a ratio test change the rest.",
        {
            "The first.": "If its pixels are four times as large, it may well be the worse one.",
            "The second, since its test is harder.": "Harder perhaps, but by how much nobody can say from these numbers.",
            "They are equal.": "Nothing says that either. Measure both by one protocol.",
        },
    ),
]  # fmt: skip
