"""Lesson 02, lifting features into 3D: what it asks."""

import torch

from .records import Exercise, Question

LEAST = 1e-3  # as in lifting/lifted.py: seen less than this, a Gaussian gets no feature


def _row_sums(W):
    return W.t() @ (W @ torch.ones(W.shape[1]))


def _matrix(patches, gaussians, drawn, opacity=0.95):
    """A W of few entries, each row summing to at most ``opacity``."""
    W = torch.rand(patches, gaussians, generator=drawn) * (torch.rand(patches, gaussians, generator=drawn) < 0.6)
    return opacity * W / W.sum(1, keepdim=True).clamp_min(1e-6)


def _views():
    drawn = torch.Generator().manual_seed(3)
    thin = _matrix(9, 5, drawn) * torch.rand(9, 1, generator=drawn)
    return {
        "every patch opaque": (_matrix(8, 4, drawn, opacity=1.0),),
        "patches that let light through": (thin,),
        "one Gaussian": (torch.tensor([[0.5], [0.2], [0.0]]),),
        "more Gaussians than patches": (_matrix(3, 12, drawn, opacity=0.6),),
    }


def _mean(matrices, maps, rows=lambda m: m.flatten(1).T, each=False, divide="weight", least=LEAST):
    """Features [N, C]; the options are the typical mistakes."""
    totals = [W.t() @ rows(m) for W, m in zip(matrices, maps)]
    weights = [W.t() @ torch.ones(W.shape[0]) for W in matrices]
    total, weight = sum(totals), sum(weights)
    if each:
        alone = [t / w.clamp_min(1e-9)[:, None] for t, w in zip(totals, weights)]
        return sum(alone) / len(alone) * (weight >= least)[:, None]
    divisor = {"weight": weight, "views": torch.full_like(weight, len(maps)), "nothing": torch.ones_like(weight)}[divide]
    features = total / divisor[:, None]
    return features if least is None else torch.where((weight >= least)[:, None], features, 0.0)


def _photos():
    drawn = torch.Generator().manual_seed(4)

    def view(h, w, gaussians):
        return _matrix(h * w, gaussians, drawn, 0.8), torch.randn(5, h, w, generator=drawn)

    three = [view(3, 4, 7) for _ in range(3)]
    unseen, hardly, empty = ([[W.clone(), m] for W, m in three] for _ in range(3))
    for W, _ in unseen:
        W[:, 2] = 0
    for W, _ in hardly:
        W[:, 4] *= 1e-5
    empty[1][0].zero_()
    sets = {
        "three views": three,
        "a Gaussian that no view sees": unseen,
        "a Gaussian that is hardly seen": hardly,
        "a view that sees nothing": empty,
        "grids of two sizes": [view(3, 4, 6), view(2, 2, 6)],
        "one view, one Gaussian": [view(2, 3, 1)],
    }
    return {name: tuple(map(list, zip(*views))) for name, views in sets.items()}


EXERCISES = {
    1: Exercise(
        "the mean over all views from Wᵀ", _mean,
        {
            "A view that shows a Gaussian in one corner of one patch must count less than one that shows it whole: add up over "
            "all views first, and divide once at the end.":
                lambda Ws, maps: _mean(Ws, maps, each=True),
            "Your map is unrolled in the wrong order: row r of W is patch (r // w, r % w), so the map must become [h·w, C] by "
            "flatten(1).T.":
                lambda Ws, maps: _mean(Ws, maps, rows=lambda m: m.reshape(-1, len(m))),
            "You divide by the number of views; the divisor is Wᵀ 1, added up over the views.":
                lambda Ws, maps: _mean(Ws, maps, divide="views"),
            "Nothing is divided: that is the sum, and a Gaussian seen twice gets twice the feature.":
                lambda Ws, maps: _mean(Ws, maps, divide="nothing"),
            "A Gaussian that no view sees has weight 0, and 0 / 0 is not a feature. Below 0.001 it must get zeros.":
                lambda Ws, maps: _mean(Ws, maps, least=None),
        },
        "two sums over the views, Wᵀ F and Wᵀ 1; one division at the end; zeros where the second sum is below 0.001.",
        _photos, minutes=15,
    ),
    2: Exercise(
        "row sums of WᵀW without WᵀW", _row_sums,
        {
            "These are the row sums of Wᵀ alone. They agree where every patch is opaque, and there only: WᵀW 1 = Wᵀ(W 1).":
                lambda W: W.t() @ torch.ones(W.shape[0]),
            "That is the diagonal of WᵀW. A row has more entries: every Gaussian that shares a patch with this one.":
                lambda W: (W * W).sum(0),
            "That is WWᵀ 1, a number for each patch. Multiply the ones by W first, then by Wᵀ.":
                lambda W: W @ (W.t() @ torch.ones(W.shape[0])),
        },
        "the row sums of a matrix are the matrix times a vector of ones.", _views, minutes=3,
    ),
}  # fmt: skip

QUIZ = [
    Question(
        "F is a photo's feature map with one row for each patch. What does row n of WᵀF hold?",
        "The features of all patches that show Gaussian n, added up by how much they show it.",
        "A row of Wᵀ is a column of W: everywhere that Gaussian n appears in this view.",
        {
            "The feature of patch n, as the Gaussians see it.": "That would be a row of W times features of Gaussians: a render.",
            "The mean feature of the patches that show Gaussian n.":
                "Almost. It is the sum; the mean needs the division by Wᵀ1.",
            "The feature of the patch in which Gaussian n is largest.":
                "No patch is singled out: every patch counts by its weight.",
        },
    ),
    Question(
        "A Gaussian has weight 0.9 in a patch of one photo and 0.1 in a patch of another. Their features are a and b. Which "
        "feature does it get?",
        "0.9 a + 0.1 b", "The weights sum to 1 already, so the division changes nothing.",
        {
            "(a + b) / 2": "That is what you get if each photo is divided by its own weight first.",
            "a": "The larger weight counts more. It does not count alone.",
            "0.45 a + 0.05 b": "That divides by the number of photos; the divisor is the sum of the weights, which is 1.",
        },
    ),
    Question(
        "No photo shows what lies under the table. What do lifted features say of it?",
        "Nothing: its Gaussians have no feature, and the mask says so.",
        "Weight 0 is no feature. Renders leave these Gaussians out, and fine-tuning leaves such patches out.",
        {
            "The mean feature of the room.": "That would be a guess, and later nobody could tell it from a measurement.",
            "The feature of the nearest Gaussian that was seen.": "The mean fills nothing in from neighbors.",
            "Zeros, which are a feature like any other.":
                "The numbers stored are zeros, but they are marked as unseen and never rendered.",
        },
    ),
    Question(
        "Rendered features agree with the ViT's own at a cosine of 0.95 on held-out views. Shuffled patches reach 0.93. How good "
        "is the lifting?",
        "Hardly better than knowing the mean feature.",
        "All features of this network point in nearly the same direction. The margin of 0.02 is what the places add.",
        {
            "Very good: 0.95 of 1.": "Any two patches of this network have 0.93 already.",
            "Perfect but for noise.": "Nothing here tells noise from a wrong place: the shuffled pairs do nearly as well.",
            "Too good: a held-out photo was used.":
                "That would raise the first number. The second explains all of it without that.",
        },
    ),
    Question(
        "On the photos that were lifted, least squares comes closer to the ViT's features than the mean. What follows?",
        "Nothing about which is better: it minimises just that distance.",
        "Judge by views that were held out. There the difference is a small fraction of it.",
        {
            "Least squares is better.": "On these photos it must be: no other features come as close. Other views decide.",
            "The mean was computed wrongly.": "The mean minimises something else, each Gaussian for itself.",
            "The photos have wrong poses.": "With right poses it is just so.",
        },
    ),
]  # fmt: skip
