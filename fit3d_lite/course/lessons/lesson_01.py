"""Lesson 01, Gaussian splatting: what it asks."""

import torch

from .records import Exercise, Question


def _weights(alphas):
    before = torch.cat([torch.ones(1), torch.cumprod(1 - alphas, 0)])[: len(alphas)]
    return alphas * before


def _rays():
    return {
        "four blobs": (torch.tensor([0.3, 0.5, 0.2, 0.9]),),
        "a blob that lets nothing through": (torch.tensor([0.4, 1.0, 0.7]),),
        "one blob": (torch.tensor([0.6]),),
        "no blob": (torch.zeros(0),),
    }


EXERCISES = {
    1: Exercise(
        "the weight α·T of each blob on a ray", _weights,
        {
            "T of a blob is what reaches it: the blob itself must not dim it. Shift the product by one, starting with 1.":
                lambda a: a * torch.cumprod(1 - a, 0),
            "The opacity alone is not the weight: what lies in front takes light away.": lambda a: a.clone(),
        },
        "T of the first blob is 1, of the second 1 − α₁; it never grows along the ray.", _rays,
    ),
}  # fmt: skip

QUIZ: list[Question] = []
