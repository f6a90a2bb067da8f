"""Lesson 03, 3D-aware fine-tuning: what it asks."""

import torch
from torch import nn

from .records import Exercise, Question


def _mixed(tuned, original, share):
    return {name: (1 - share) * tuned[name] + share * original[name] for name in original}


def _weights():
    drawn = torch.Generator().manual_seed(5)

    def state():
        return {"proj": torch.randn(3, 2, generator=drawn), "norm": torch.randn(3, generator=drawn),
                "bias": torch.randn(3, generator=drawn)}  # fmt: skip

    tuned, original = state(), state()
    return {
        "a quarter of the original": (tuned, original, 0.25),
        "names in another order": ({name: tuned[name] for name in reversed(tuned)}, original, 0.5),
        "nothing of the original": (tuned, original, 0.0),
        "the original alone": (tuned, original, 1.0),
    }


def _by_position(tuned, original, share):
    mixed = [(1 - share) * t + share * o for t, o in zip(tuned.values(), original.values())]
    return dict(zip(original, mixed))


def _step(vit, images, targets, masks, lr, clip, far=torch.abs, channels=torch.mean, everywhere=False, least=1, after=False,
          move=True, clipped=True):  # fmt: skip
    """(loss, norm of the gradient, weights after the step); the options are the typical mistakes."""
    optimizer = torch.optim.AdamW(vit.parameters(), lr=lr, weight_decay=1e-4)
    off = channels(far(vit(images) - targets), 1)
    loss = off.mean() if everywhere else (off * masks).sum() / masks.sum().clamp_min(least)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(vit.parameters(), clip if clipped else torch.inf)
    if after:
        norm = torch.stack([p.grad.norm() for p in vit.parameters()]).norm()
    if move:
        optimizer.step()
    return loss, norm, list(vit.parameters())


def _batches():
    drawn = torch.Generator().manual_seed(6)

    def batch(photos, covered):
        vit = nn.Conv2d(3, 6, 4, 4)  # patches of 4 × 4 pixels, 6 channels: as much of a ViT as a step needs
        for p in vit.parameters():
            p.data = 0.3 * torch.randn(p.shape, generator=drawn)
        images, targets = torch.rand(photos, 3, 12, 16, generator=drawn), torch.randn(photos, 6, 3, 4, generator=drawn)
        masks = torch.rand(photos, 3, 4, generator=drawn) < covered
        return vit, images, targets * masks[:, None], masks, 0.01, 0.1

    return {
        "two photos, all covered": batch(2, 1.1),
        "two photos with holes": batch(2, 0.5),
        "one photo": batch(1, 0.8),
        "nothing is covered": batch(2, 0.0),
    }


EXERCISES = {
    1: Exercise(
        "the masked loss and one step", _step,
        {
            "You divide by all patches. Uncovered ones have no target and must count neither above nor below the line.":
                lambda *batch: _step(*batch, everywhere=True),
            "Where nothing is covered you divide 0 by 0: divide by at least 1, masks.sum().clamp_min(1).":
                lambda *batch: _step(*batch, least=0),
            "The distance is the absolute difference, not its square.": lambda *batch: _step(*batch, far=torch.square),
            "Take the mean over channels, not their sum: else the loss grows with the width of the network.":
                lambda *batch: _step(*batch, channels=torch.sum),
            "You give the norm after clipping; clip_grad_norm_ returns the one before.": lambda *batch: _step(*batch, after=True),
            "The weights have not moved: optimizer.step() is missing.": lambda *batch: _step(*batch, move=False),
        },
        "absolute difference; mean over channels; sum over covered patches / their number; backward; clip; step.",
        _batches, minutes=15,
    ),
    2: Exercise(
        "weights between the original and the fine-tuned network", _mixed,
        {
            "Your share is the fine-tuned network's: share = 1 must give the original.":
                lambda tuned, original, share: _mixed(original, tuned, share),
            "You take the mean whatever the share is.": lambda tuned, original, share: _mixed(tuned, original, 0.5),
            "Match the tensors by their names: the two dicts need not have the same order.": _by_position,
        },
        "one entry for each name: (1 − share) of the fine-tuned tensor and share of the original's.", _weights, minutes=3,
    ),
}  # fmt: skip

QUIZ = [
    Question(
        "Why is a photo's target another than the ViT's own feature of it?",
        "It is the mean of what all photos of the room say about each place.",
        "Each place in the photo gets what the Gaussians there gathered from every view.",
        {
            "It is the feature of a larger network.": "No other network takes part: the ViT learns from its own features.",
            "It is the feature, made sharper.": "It is rendered at the same patch grid, and averaging does not sharpen.",
            "It is the feature of the next photo.": "All photos that see the place count, this one too.",
        },
    ),
    Question(
        "The loss falls from 0.5 to 0.1. The cosine at true pairs is 0.99, at shuffled pairs 0.98. What happened?",
        "A collapse: the network says nearly the same about every patch.",
        "A small spread makes differences small, and any two patches alike, the true pairs too.",
        {
            "The views agree almost perfectly.": "So do any two patches. Only the margin between the two numbers is agreement.",
            "The learning rate was too low.": "With a low rate hardly anything changes. This moved far.",
            "The targets were rendered from the wrong cameras.":
                "That costs agreement; it does not make every patch like every other.",
        },
    ),
    Question(
        "Averaging a feature over all cameras takes one thing away almost by definition. Which?",
        "How far a thing is from this camera.",
        "It is no property of the thing: every camera has another distance. What differs between cameras is averaged out.",
        {
            "What kind of thing it is.": "All cameras see the same thing, so the mean keeps it.",
            "Its color.": "Colors change little between cameras; the mean keeps them.",
            "Where it is in the room.": "Each Gaussian has its own place and its own mean.",
        },
    ),
    Question(
        "Trained with a depth term, the network is better at depth. Trained with the same term on its own 2D features as target, "
        "it is as good. What made it better?",
        "The depth term.",
        "What is reached without the 3D target is no evidence for it. The control must be as strong as the claim.",
        {
            "The features from 3D.": "The control had none.",
            "Both, half and half.": "Then the control, which lacks one, would reach less.",
            "The longer training.": "Possible, and the comparison rules it out only if both took the same steps.",
        },
    ),
    Question(
        "Original and fine-tuned network side by side beat the original beside a copy of itself. A network trained with wrong "
        "poses, side by side with the original, beats it too. What does the first comparison show of 3D?",
        "Nothing by itself: two different networks side by side may help, whatever made them differ.",
        "They are an ensemble. What counts is how far the first pair is ahead of the second, and the fine-tuned network alone.",
        {
            "That 3D helps.": "The control has wrong geometry and gains as well.",
            "That wrong poses are good training.": "Alone, the network trained on them may be far worse than the original.",
            "That the copy has done harm.": "A copy adds nothing and costs nothing, but width.",
        },
    ),
]  # fmt: skip
