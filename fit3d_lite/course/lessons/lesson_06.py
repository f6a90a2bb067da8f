"""Lesson 06, PCA and groups: what it asks."""

import torch

from .records import Exercise, Question


def _pairs(counts):
    counts = counts.double()
    return (counts * (counts - 1) / 2).sum()


def _adjusted_rand(n, less_chance=True, pairs=_pairs, within=True):
    a, b, c = pairs(n), pairs(n.sum(1)), pairs(n.sum(0))
    e = b * c / pairs(n.sum()) if less_chance else 0.0
    return (a - e) / ((b + c) / 2 - e if within else pairs(n.sum()) - e)


def _tables():
    return {
        "three groups, two classes": (torch.tensor([[8, 1], [2, 9], [5, 5]]),),
        "perfect groups, in another order": (torch.tensor([[0, 6, 0], [0, 0, 3], [4, 0, 0]]),),
        "groups that know nothing": (torch.tensor([[10, 20], [10, 20]]),),
        "a group without members": (torch.tensor([[7, 2], [0, 0], [1, 6]]),),
    }


def _grids():
    return {f"{v} photos of {h}×{w} patches": (v, h, w) for v, h, w in ((3, 6, 8), (1, 9, 5), (2, 4, 4))}


def _vote(groups, views, h, w):
    """Purity of groups against five classes that their maker has not seen; 0 where they are no groups of these patches."""
    if not isinstance(groups, torch.Tensor) or groups.shape != (views, h, w) or groups.is_floating_point():
        return 0.0
    truth = torch.randint(0, 5, (views, h, w), generator=torch.Generator().manual_seed(views * h * w))
    right = sum(truth[groups == g].bincount().max().item() for g in groups.unique())
    return right / truth.numel()


def _colors(pictures, together=True, one_mean=True, one_range=True, percentiles=(0.01, 0.99), signs=True, clamp=True):
    """PCA colors of pictures; the options are the typical mistakes."""
    if not together:
        return [_colors([picture], True, True, True, percentiles, signs, clamp)[0] for picture in pictures]
    rows = [picture.flatten(1).T for picture in pictures]
    pooled = torch.cat(rows)
    mean = pooled.mean(0)
    axes = torch.linalg.svd(pooled - mean, full_matrices=False)[2][:3].T
    if signs:
        axes = axes * torch.where(axes.sum(0) < 0, -1.0, 1.0)
    scores = [(row - (mean if one_mean else row.mean(0))) @ axes for row in rows]
    at, found = torch.tensor(percentiles), []
    for picture, score in zip(pictures, scores, strict=True):
        low, high = torch.quantile(torch.cat(scores) if one_range else score, at, dim=0)
        color = (score - low) / (high - low)
        found.append((color.clamp(0, 1) if clamp else color).reshape(*picture.shape[1:], 3))
    return found


def _pictures():
    drawn = torch.Generator().manual_seed(6)
    kinds = 3 * torch.randn(5, 7, generator=drawn) + 1  # five kinds of things, 7 channels

    def picture(h, w, things):
        which = torch.tensor(things)[torch.randint(0, len(things), (h * w,), generator=drawn)]
        return (kinds[which] + torch.randn(h * w, 7, generator=drawn)).T.reshape(7, h, w)

    long = picture(5, 6, [1, 2, 3])
    long[:, 2, 2] *= 15
    return {
        "two pictures": ([picture(4, 6, [0, 1, 2]), picture(4, 6, [1, 3, 4])],),
        "grids of two sizes": ([picture(3, 5, [0, 2, 4]), picture(8, 6, [0, 1, 2, 3])],),
        "a wall that fills a picture": ([picture(5, 5, [0, 1, 2, 3, 4]), picture(5, 5, [3])],),
        "one very long feature": ([long, picture(5, 6, [0, 1, 4])],),
        "one picture": ([picture(6, 6, [0, 1, 2, 4])],),
    }


EXERCISES = {
    1: Exercise(
        "the adjusted Rand index from the contingency table", _adjusted_rand,
        {
            "Chance is not taken off: subtract e above and below the line.": lambda n: _adjusted_rand(n, less_chance=False),
            "Below the line stands the mean of b and c, less e, and not the number of all pairs.":
                lambda n: _adjusted_rand(n, within=False),
            "You counted patches where pairs are asked for: pairs(n), pairs(n.sum(1)), pairs(n.sum(0)), pairs(n.sum()).":
                lambda n: _adjusted_rand(n, pairs=lambda counts: counts.double().sum()),
        },
        "a is pairs(n), b is pairs(n.sum(1)), c is pairs(n.sum(0)), and all pairs are pairs(n.sum()).", _tables, minutes=5,
    ),
    2: Exercise(
        "groups that know nothing, and are purer than any model's",
        lambda views, h, w: torch.arange(views * h * w).reshape(views, h, w),
        {
            "All patches in one group: it votes for the commonest class, and every other patch is wrong.":
                lambda views, h, w: torch.zeros(views, h, w, dtype=torch.long),
            "A group for each place, the same in every photo, still holds one patch of each photo. Make it smaller.":
                lambda views, h, w: torch.arange(h * w).reshape(h, w).expand(views, h, w),
            "A group for each photo is far too large: how small may a group be?":
                lambda views, h, w: torch.arange(views)[:, None, None].expand(views, h, w),
        },
        "give a tensor [views, h, w] of whole numbers. What is the purity of a group that holds one patch?",
        _grids, accepts=lambda groups, *grid: _vote(groups, *grid) > 0.99,
    ),
    3: Exercise(
        "PCA colors of several pictures in one basis", _colors,
        {
            "You fitted each picture by itself: put the patches of all pictures into one tensor first.":
                lambda pictures: _colors(pictures, together=False),
            "The directions are shared, the range is not: take the two percentiles over the scores of all pictures.":
                lambda pictures: _colors(pictures, one_range=False),
            "Each picture is centered by its own mean, so a wall that fills a picture becomes grey: one mean for all.":
                lambda pictures: _colors(pictures, one_mean=False),
            "The smallest and the largest value set your range, so one long feature takes all the contrast: 1 % and 99 %.":
                lambda pictures: _colors(pictures, percentiles=(0.0, 1.0)),
            "The sign of a direction is arbitrary: turn each so that the sum of its C numbers is positive.":
                lambda pictures: _colors(pictures, signs=False),
            "What lies beyond 1 % and 99 % must be cut off at 0 and 1.": lambda pictures: _colors(pictures, clamp=False),
        },
        "four steps: the patches of all pictures as rows of one tensor; its mean and first three directions; the scores; one "
        "range for all.",
        _pictures, minutes=15, tol=1e-3,
    ),
}  # fmt: skip

QUIZ = [
    Question(
        "Two panels, each with a PCA of its own, show one photo before and after fine-tuning in quite different colors. What "
        "follows?",
        "Nothing, before both are drawn in one basis.",
        "Another basis alone moves the colors of features that have not changed at all; this lesson measured how far.",
        {
            "The features changed much.": "They may have: but two drawings of the same features differ like this, too.",
            "The features changed little.": "That does not follow either: the two panels have nothing in common.",
            "One of the two panels is drawn wrongly.":
                "Both are right by themselves. They only cannot be compared with each other.",
        },
    ),
    Question(
        "Patches get 1,000 groups by chance instead of 5. Which score rises although nothing is known?",
        "NMI", "Many small groups agree with any classes by accident, and NMI counts that. AMI takes it off.",
        {
            "AMI": "It subtracts what chance reaches, and stays at 0.",
            "ARI": "It is adjusted too: pairs, less the pairs that chance would give.",
            "None": "NMI and purity both rise: the curve in section 3 shows it.",
        },
    ),
    Question(
        "A model's AMI is 0.02 ahead in one room, and the spread over seeds of k-means is 0.01. What may you say?",
        "That it is ahead in this room; of other rooms nothing is known.",
        "Seeds of k-means say how much k-means varies, not how much rooms do. Compare within rooms, over several.",
        {
            "That it is better: twice the spread.": "The spread belongs to the seeds. Rooms differ far more than seeds do.",
            "That they are equal.": "In this room they differ by more than seeds do; the question is the next room.",
            "That k-means needs more seeds.": "More seeds make this one room's number sharper, and tell of no other room.",
        },
    ),
    Question(
        "Why does the lesson also blur the original's features and group them again?",
        "Smooth features give smooth groups, so a gain could be smoothness alone.",
        "A claim is worth what it leaves over the cheapest thing that could explain it.",
        {
            "Blurring removes noise and is a good method.": "It might, and is then the one to beat: it costs one line.",
            "k-means needs smooth features.": "It groups any vectors.",
            "To make the original's patches as large as the 3D-aware ones.": "Both have the same grid.",
        },
    ),
    Question(
        "On a t-SNE page two islands lie far apart. What does the distance between them say?",
        "Next to nothing.", "t-SNE keeps neighbors, not distances: another seed puts the islands elsewhere.",
        {
            "Their features are far apart.": "They are not neighbors. How far apart they are is not kept.",
            "They belong to different classes.": "One class may have several islands, for example one for each wall.",
            "The perplexity is too high.": "It changes the islands, and distances mean little at any value of it.",
        },
    ),
]  # fmt: skip
