"""Lesson 05, probing for depth: what it asks."""

import math

import torch

from .records import Exercise, Question


def _expected_depth(scores, bins, cut=True, floor=0.1, softmax=False, peak=False, squared=False):
    """The mean of the bins, [V, h, w]; the options are the typical mistakes."""
    positive = (scores.clamp(min=0) if cut else scores) + floor
    p = scores.softmax(1) if softmax else positive / positive.sum(1, keepdim=True)
    if peak:
        return bins[scores.argmax(1)]
    if squared:
        return torch.einsum("vkhw,k->vhw", positive, bins) / len(bins)
    return torch.einsum("vkhw,k->vhw", p, bins)


def _scores():
    drawn = torch.Generator().manual_seed(5)
    bins = torch.linspace(0.1, 8.0, 32)
    table, wall = (torch.exp(-(((bins - at) / 0.4) ** 2)) for at in (1.5, 4.5))
    edge = (3 * table + 2 * wall - 0.2)[None, :, None, None].expand(1, 32, 2, 3)
    return {
        "two photos": (torch.randn(2, 32, 4, 5, generator=drawn), bins),
        "a patch at an edge": (edge, bins),
        "no opinion: every score below 0": (-1 - torch.rand(1, 32, 3, 3, generator=drawn), bins),
        "bins that are not evenly spaced": (torch.randn(1, 8, 2, 2, generator=drawn), torch.logspace(-0.5, 1, 8)),
        "one very sure patch": (100 * torch.eye(16)[None, :, 3][..., None, None], torch.linspace(0.5, 6, 16)),
    }


EXERCISES = {
    1: Exercise(
        "metres from the scores of the bins", _expected_depth,
        {
            "Negative scores are cut at 0 first; yours pull the mean about.": lambda s, b: _expected_depth(s, b, cut=False),
            "Add 0.1 to every bin before you divide: without it a patch with no opinion is 0 / 0.":
                lambda s, b: _expected_depth(s, b, floor=0.0),
            "That is a softmax. This head normalizes linearly: cut, add 0.1, divide by the sum.":
                lambda s, b: _expected_depth(s, b, softmax=True),
            "The depth is the mean of all bins under their probabilities, not the likeliest bin.":
                lambda s, b: _expected_depth(s, b, peak=True),
            "Probabilities sum to 1: divide by their sum, not by their number.": lambda s, b: _expected_depth(s, b, squared=True),
        },
        "Three steps: cut at 0 and add 0.1; divide by the sum over the bins, dimension 1; sum probability times bin.",
        _scores, minutes=10,
    ),
    2: Exercise(
        "SigLoss of a map that is twice too far", lambda: math.sqrt(0.15) * math.log(2),
        {
            "Half forgiven, but not all: the squared mean of δ has the weight 0.15, and its root is taken.": lambda: 0.0,
            "0.15 stands under the root: the square of the mean is weighed, not the mean.": lambda: 0.15 * math.log(2),
            "δ is a difference of logarithms: twice too far is log 2, whatever the depth.": lambda: math.sqrt(0.15) * 2,
        },
        "δ is the same at every pixel: what is its variance, and what is its mean?", tol=2e-3,
    ),
    3: Exercise(
        "least squares with a ridge", lambda X, d, ridge: torch.linalg.solve(X.T @ X + ridge, X.T @ d),
        {
            "The ridge is left out: without it the matrix may have no inverse.":
                lambda X, d, ridge: torch.linalg.solve(X.T @ X, X.T @ d),
            "The ridge is a matrix of its own for every channel, not 1 on the diagonal: add `ridge`.":
                lambda X, d, ridge: torch.linalg.solve(X.T @ X + torch.eye(X.shape[1]), X.T @ d),
        },
        "torch.linalg.solve(A, b) solves A w = b; which A and b does the formula have?",
        lambda: {
            name: (X, X @ torch.arange(1.0, 5.0) + 0.3 * torch.randn(n, generator=g), ridge)
            for name, n, ridge, g in (
                ("50 patches", 50, torch.diag(torch.tensor([0.5, 2.0, 9.0, 0.1])), torch.Generator().manual_seed(0)),
                ("a heavy ridge", 50, 200 * torch.eye(4), torch.Generator().manual_seed(1)),
                ("fewer patches than channels", 3, 0.7 * torch.eye(4), torch.Generator().manual_seed(2)),
            )
            for X in [torch.randn(n, 4, generator=g)]
        },
    ),
}  # fmt: skip

QUIZ = [
    Question(
        "At the edge of a table the head answers 3.1 m. Table and wall are at 1.5 and 4.5 m. Why?",
        "It answers with the mean of a distribution that knows of both.",
        "Half of the patch is table and half is wall; the mean lies between, in empty air.",
        {
            "The head has not learned yet.": "A perfect distribution over both surfaces has this mean, too.",
            "There is no bin at 1.5 m.": "There are 256, a few centimetres apart.",
            "The depth map is enlarged wrongly.": "Enlarging blurs edges as well, but one patch alone shows the same.",
        },
    ),
    Question(
        "A map has the right shape, and everything is 20 % too far. What does SigLoss say?",
        "Little: one factor for the whole photo is mostly forgiven.",
        "The variance of the log difference is 0, and the squared mean counts 0.15.",
        {
            "The same as for 20 % of noise from pixel to pixel.": "Noise is variance, which counts in full.",
            "0.": "That would be the loss with weight 0 on the mean; here it is 0.15.",
            "It depends on how far things are.": "Logarithms make 20 % the same at 1 m and at 5 m.",
        },
    ),
    Question(
        "Most probability lies more than a metre from the truth, and the mean is close. What are the 256 numbers?",
        "A way to compute one number: the loss asked for their mean only.",
        "A belief would need a loss on the distribution itself.",
        {
            "A belief with honest doubts.": "Then most of it would lie where the truth is.",
            "An error in the program.": "They sum to 1, and their mean is the answer that was trained.",
            "A sign that the bins are too coarse.": "They are centimetres apart; the mass lies metres away.",
        },
    ),
    Question(
        "A table reports an RMSE of 0.60 m. What do you ask first?",
        "What one constant depth gets on the same photos.",
        "In a small room a constant is already good, and in a hall 0.6 m is excellent.",
        {
            "How many bins were used.": "It changes little here; first one must know where the scale begins.",
            "Which optimizer was used.": "Both could be good or bad with any; the floor is unknown.",
            "Whether photos were mirrored in training.": "A detail of training. Without a floor the number says nothing.",
        },
    ),
    Question(
        "Near things are said too far and far things too near. What does it tell?",
        "That an unsure answer retreats to the middle, whatever the features.",
        "Every prediction of a mean does it; it is no property of 3D-aware features.",
        {
            "That the camera's focal length is wrong.": "That would scale all depths one way.",
            "That depths are in millimetres.": "Then everything would be off by a thousand.",
            "That fine-tuning removed the sense of distance.": "The original does the same.",
        },
    ),
]  # fmt: skip
