"""Appendix A1, light 3D features: what it asks."""

import torch

from .records import Exercise, Question


def _joined(own, wide, pool="max", swap=False, own_only=False):
    """[N, A] and [N, B] -> [N, A + B]: each point beside what all of them say; the options are the typical mistakes."""
    view = wide.amax(0) if pool == "max" else wide.mean(0) if pool == "mean" else wide
    view = wide if own_only else view.expand(len(own), -1)
    return torch.cat([view, own] if swap else [own, view], 1)


def _points_of_views():
    drawn = torch.Generator().manual_seed(1)
    return {
        "five points": (torch.rand(5, 2, generator=drawn), torch.rand(5, 3, generator=drawn)),
        "one point": (torch.rand(1, 2, generator=drawn), torch.rand(1, 3, generator=drawn)),
        "numbers below 0": (torch.randn(4, 3, generator=drawn), torch.randn(4, 2, generator=drawn) - 5),
    }


def _nearest(points, K, height, width, order="near", behind=True, bounds=True, rounding=False, swap=False):
    """[N, 3] -> [H, W], the number of the point that each pixel sees, -1 for none."""
    seen = torch.full((height, width), -1)
    numbers = torch.arange(len(points))
    order = {"near": points[:, 2].argsort(descending=True, stable=True), "far": points[:, 2].argsort(stable=True),
             "given": numbers}[order]  # fmt: skip
    for n in order.tolist():
        x, y, z = points[n].tolist()
        if z <= 0 and behind or z == 0:
            continue
        u, v = (K[0, 0] * x / z + K[0, 2]).item(), (K[1, 1] * y / z + K[1, 2]).item()
        u, v = (round(u), round(v)) if rounding else (int(u // 1), int(v // 1))
        if swap:
            u, v = v, u
        if 0 <= u < width and 0 <= v < height:
            seen[v, u] = n
        elif not bounds:
            seen[max(0, min(v, height - 1)), max(0, min(u, width - 1))] = n
    return seen


def _pictures():
    drawn = torch.Generator().manual_seed(2)
    K = torch.tensor([[4.0, 0, 3], [0, 4, 2], [0, 0, 1]])
    spread = torch.rand(40, 3, generator=drawn) * torch.tensor([6.0, 4.0, 3.0]) + torch.tensor([-3.0, -2.0, 0.5])
    return {
        "one point ahead": (torch.tensor([[0.1, -0.1, 1.0]]), K, 4, 6),
        "the nearer of two comes first in the list": (torch.tensor([[0.1, 0.1, 1.0], [0.3, 0.3, 3.0]]), K, 4, 6),
        "the nearer of two comes last": (torch.tensor([[0.3, 0.3, 3.0], [0.1, 0.1, 1.0]]), K, 4, 6),
        "one is behind the camera": (torch.tensor([[0.2, 0.1, -1.0], [-0.4, 0.2, 2.0]]), K, 4, 6),
        "one is beside the picture": (torch.tensor([[5.0, 0.1, 1.0], [-0.4, 0.2, 2.0]]), K, 4, 6),
        "forty points": (spread, K, 4, 6),
    }


EXERCISES = {
    1: Exercise(
        "which point each pixel sees", _nearest,
        {
            "Where two points fall on one pixel, the nearer one is seen: yours lets the one that comes last win.":
                lambda *case: _nearest(*case, order="given"),
            "Where two points fall on one pixel, yours keeps the farther one.": lambda *case: _nearest(*case, order="far"),
            "A point behind the camera (z ≤ 0) falls on a pixel too, upside down: drop it first.":
                lambda *case: _nearest(*case, behind=False),
            "A point beside the picture is not moved to its edge: drop it.": lambda *case: _nearest(*case, bounds=False),
            "Pixel (row r, column c) reaches from (c, r) to (c + 1, r + 1): take the floor, do not round.":
                lambda *case: _nearest(*case, rounding=True),
            "u counts columns and v rows: the map is indexed [v, u].": lambda *case: _nearest(*case, swap=True),
        },
        "u = fx x / z + cx, v = fy y / z + cy; keep z > 0 and pixels inside; write from far to near, so that the nearest stays.",
        _pictures, minutes=15,
    ),
    2: Exercise(
        "each point's own numbers beside the maximum over all points", _joined,
        {
            "The maximum goes over the points, dimension 0, and not their mean.": lambda own, wide: _joined(own, wide, "mean"),
            "First a point's own numbers, then those of the view.": lambda own, wide: _joined(own, wide, swap=True),
            "Every point gets the same second part: the maximum over all of them.":
                lambda own, wide: _joined(own, wide, own_only=True),
        },
        "wide.amax(0) is what all points say; expand it to as many rows as there are points, and join along dimension 1.",
        _points_of_views, minutes=4,
    ),
}  # fmt: skip

QUIZ = [
    Question(
        "Nobody labelled a point. How does PointNet learn?",
        "The loss of the pixels is differentiated through W to the points that they see.",
        "W @ f is linear, so f's gradient is Wᵀ times that of the picture; hidden points learn through the maximum.",
        {
            "It is trained beforehand on labelled points.": "That is what the paper avoids: it starts from random weights.",
            "It does not: its weights are random and fixed.": "Random numbers of the same width are a control.",
            "The ViT passes its own labels to the points.": "The ViT gives features and no labels.",
        },
    ),
    Question(
        "Points are shuffled after PointNet: each gets the numbers of another point of the same view. What can still help?",
        "What the maximum over all points says: which kind of place this is.",
        "Every point's numbers contain the view's 1024, so a shuffle keeps the whole and loses the where.",
        {
            "Nothing at all.": "Then there would be no difference to random numbers; but the view's own 1024 numbers survive.",
            "The distance of each pixel.": "That is exactly what is lost: the numbers belong to other places now.",
            "The normals.": "They belong to a point, and the point is another one.",
        },
    ),
    Question(
        "Why does the ViT's row with points need a row with random numbers beside it?",
        "A wider input may train faster or fit the training views better, whatever it says.",
        "What random numbers of the same width gain as well is not owed to 3D.",
        {
            "To fill the table.": "A control is chosen for what could fool you; here it is width.",
            "Because PointNet is random.": "It is at the start; then it learns from the labels.",
            "Because random numbers help a ViT.": "They should not; that is why they are a good control.",
        },
    ),
    Question(
        "Points of another room: what does this control keep?",
        "The network, its width, and what all rooms have in common, such as a floor below.",
        "It takes away only what is true of this very view; what is left over it is owed to the right points.",
        {
            "Nothing: it equals no points.": "Another room still says how rooms are in general.",
            "The depth of this photo.": "That is what it takes away.",
            "The colors of the other room.": "Points are bare here: x, y, z and no color.",
        },
    ),
    Question(
        "A 3D-aware ViT needs no points when it is used. What do points at hand still have that it cannot have?",
        "Measured places of this very scene.",
        "What was learned in training is knowledge of scenes in general; a measurement says what is there now.",
        {
            "More channels.": "Width is no knowledge; see the control.",
            "Labels in 3D.": "Nobody has any here.",
            "The colors of the scene.": "The photo has them already.",
        },
    ),
]
