"""Lesson 08, your own scene: what it asks."""

import torch

from .records import Exercise, Question


def _lengths():
    drawn = torch.Generator().manual_seed(8)
    return {
        "a desk": (torch.tensor([0.1, 0.2, 3.0]), torch.tensor([0.5, 0.5, 3.0]), 1.5),
        "a door, far from the origin": (torch.tensor([10.0, 4.0, 7.0]), torch.tensor([10.0, 4.0, 7.5]), 2.0),
        "already in metres": (torch.zeros(3), torch.tensor([0.0, 0.6, 0.8]), 1.0),
        "any two points": (*torch.randn(2, 3, generator=drawn), 0.7),
    }


def _corrected(render, photo, mask, masked=True, offset=True, own=True, forward=True, apart=False):
    """PSNR after each channel's best gain and offset; the options are the typical mistakes."""
    if not masked:
        mask = torch.ones_like(mask)
    if not mask.any():
        return torch.tensor(torch.nan)
    x, y = render[:, mask], photo[:, mask]
    if not forward:
        x, y = y, x
    middle = x.mean(1, keepdim=True) if offset else torch.zeros(len(x), 1)
    top, bottom = ((x - middle) * y).sum(1, keepdim=True), ((x - middle) ** 2).sum(1, keepdim=True)
    if not own:
        top, bottom = top.sum(0, keepdim=True), bottom.sum(0, keepdim=True)
    fixed = top / bottom.clamp_min(1e-12) * (x - middle) + (y.mean(1, keepdim=True) if offset else 0)
    error = (fixed.clamp(0, 1) - y) ** 2
    return (-10 * torch.log10(error.mean(1))).mean() if apart else -10 * torch.log10(error.mean())


def _renders():
    drawn = torch.Generator().manual_seed(18)

    def case(gain, offset, covered):
        render = torch.rand(3, 6, 8, generator=drawn)
        change = torch.tensor(gain)[:, None, None] * render + torch.tensor(offset)[:, None, None]
        noise = torch.tensor([0.01, 0.03, 0.06])[:, None, None] * torch.randn(3, 6, 8, generator=drawn)
        return render, (change + noise).clamp(0, 1), torch.rand(6, 8, generator=drawn) < covered

    flat = case((1.0, 0.5, 0.8), (0.0, 0.2, 0.1), 0.9)
    flat[0][1] = 0.5
    empty = case((1.0, 1.0, 1.0), (0.0, 0.0, 0.0), 0.5)
    return {
        "a photo that is darker": case((0.5, 0.5, 0.5), (0.05, 0.05, 0.05), 1.1),
        "another white balance, part of it counts": case((0.7, 0.5, 0.9), (0.2, 0.3, 0.0), 0.4),
        "a channel of the render that is all one value": flat,
        "nothing counts": (*empty[:2], torch.zeros(6, 8, dtype=torch.bool)),
    }


EXERCISES = {
    1: Exercise(
        "the factor that brings a scene to metres", lambda a, b, metres: metres / (a - b).norm(),
        {
            "That is the way back, from metres to the scene's own unit.": lambda a, b, metres: (a - b).norm() / metres,
            "A distance is the root of the sum of squares; yours has no root.":
                lambda a, b, metres: metres / ((a - b) ** 2).sum(),
            "Distances along the axes were added up: that is the way around the corners.":
                lambda a, b, metres: metres / (a - b).abs().sum(),
        },
        "the distance of the two points in the scene, times the factor, is the length that you measured.", _lengths,
    ),
    2: Exercise(
        "PSNR after the exposure is taken out", _corrected,
        {
            "Pixels outside the mask took part: keep `render[:, mask]` and `photo[:, mask]` alone.":
                lambda *given: _corrected(*given, masked=False),
            "There is a gain and no offset: subtract the channel's mean before the gain, and add the photo's mean after.":
                lambda *given: _corrected(*given, offset=False),
            "One gain for all three channels: a white balance changes each by its own.":
                lambda *given: _corrected(*given, own=False),
            "The photo was brought to the render. It is the render that must look like the photo.":
                lambda *given: _corrected(*given, forward=False),
            "The mean of three PSNRs is not the PSNR: take the mean of the squared errors first.":
                lambda *given: _corrected(*given, apart=True),
        },
        "the best gain of a channel is Σ (x − x̄) y / Σ (x − x̄)², and the offset brings mean to mean.",
        _renders, minutes=15,
    ),
}  # fmt: skip

QUIZ = [
    Question(
        "Structure from motion gave cameras and points. Which of these can it not know?",
        "How many metres the room is wide.",
        "Photos of a doll's house and of a house look alike: all lengths may have one factor.",
        {
            "Where the cameras stood, relative to each other.": "That is what it finds, up to one common factor.",
            "The focal length.": "It is estimated along with the poses, from the same photos.",
            "Which photos did not fit in.": "It says so: they were not registered, and the scene's report names them.",
        },
    ),
    Question(
        "You stand still and turn around once, taking 40 sharp photos with much overlap. What comes out?",
        "No depth: nothing moves against anything else.", "Depth is seen by parallax alone. Walk, do not turn.",
        {
            "A good scene, since everything was seen.": "Everything was seen from one point: near and far cannot be told apart.",
            "A good scene, but without metres.": "Metres are missing always. Here the shape is missing as well.",
            "A scene with blurred walls.": "There is no scene: two photos from one place triangulate nothing.",
        },
    ),
    Question(
        "Training photos are rendered at 24 dB, held-out ones at 17 dB. What do the 24 dB show?",
        "That Gaussians can fit photos, not that the place is right.",
        "With enough Gaussians each photo can be painted by its own. Held-out views ask for the place.",
        {
            "That the scene is good, and the held-out photos are bad.": "A rule chose them. The gap is the fit's.",
            "That more steps are needed.": "More steps widen the gap as often as they close it.",
            "That poses are right.": "Wrong poses leave this gap as well: each photo is painted where only its camera looks.",
        },
    ),
    Question(
        "Recall is measured with depths that were rendered from Gaussians. What must stand beside it?",
        "That the truth is rendered.",
        "Where the fit is wrong, right matches count as wrong and wrong ones as right. No sensor was asked.",
        {
            "Nothing, depth is depth.": "A sensor's depth knows nothing of your photos. This one was made from them.",
            "The PSNR of the training photos.": "It says nothing of depth: a picture can be right with its surfaces misplaced.",
            "The number of Gaussians.": "More of them are not truer.",
        },
    ),
    Question(
        "Fine-tuned on one scene, recall rose there by 0.08, with right poses and wrong ones alike. What may be claimed?",
        "That training on these photos helped; nothing about 3D.", "What the control gains too is not owed to the poses.",
        {
            "That 3D-aware fine-tuning works on this scene.": "The 3D is what the control lacks, and it gained as much.",
            "Nothing at all.": "Something did change. It is only not owed to what the paper is about.",
            "That wrong poses are right after all.": "No: the gain did not ask which poses they were.",
        },
    ),
]  # fmt: skip
