"""Lesson 04, probing for labels: what it asks."""

import torch

from .records import Exercise, Question


def _lazy(pixels):
    """Mean IoU of always saying the most frequent class."""
    return pixels.max() / pixels.sum() / (pixels > 0).sum()


def _pixel_counts():
    return {
        "six classes": (torch.tensor([50.0, 20, 12, 9, 6, 3]),),
        "two classes that do not occur": (torch.tensor([0.0, 30, 10, 0, 60]),),
        "one class only": (torch.tensor([0.0, 7, 0]),),
    }


def _mean_iou(truth, said, classes, absent="out", union=True, unlabelled=True, turned=False):
    """Mean IoU from a confusion matrix; the options are the typical mistakes."""
    if unlabelled:
        truth, said = truth[truth != 255], said[truth != 255]
    counts = torch.bincount(truth.flatten() * classes + said.flatten(), minlength=classes**2)
    confusion = counts.view(classes, classes).double()  # an error where a 255 was counted
    hit, is_it, said_it = confusion.diagonal(), confusion.sum(1), confusion.sum(0)
    iou = hit / ((is_it + said_it - hit) if union else (said_it if turned else is_it))
    if absent == "out":
        return iou[is_it > 0].mean()
    return torch.nan_to_num(iou).mean() if absent == "zero" else iou[(is_it + said_it) > 0].mean()


def _labellings():
    drawn = torch.Generator().manual_seed(11)

    def labelling(classes, absent=(), unlabelled=0.0, wrong=0.4, shape=(2, 12, 15)):
        there = torch.tensor([c for c in range(classes) if c not in absent])
        truth = there[torch.randint(len(there), shape, generator=drawn)]
        dice = torch.rand(shape, generator=drawn)
        said = torch.where(dice < wrong, there[torch.randint(len(there), shape, generator=drawn)], truth)
        return torch.where(torch.rand(shape, generator=drawn) < unlabelled, 255, truth), said, classes

    truth, said, classes = labelling(5, absent=(3,))
    imagined = said.clone()
    imagined[0, :3] = 3  # a class that is nowhere is said all the same
    return {
        "every class occurs": labelling(4),
        "pixels without a label": labelling(4, unlabelled=0.3),
        "a class that neither occurs nor is said": labelling(6, absent=(0, 4)),
        "a class that is said and does not occur": (truth, imagined, classes),
        "nothing right": (torch.zeros(1, 4, 4, dtype=torch.long), torch.ones(1, 4, 4, dtype=torch.long), 2),
    }


EXERCISES = {
    1: Exercise(
        "mean IoU from a confusion matrix, classes that do not occur left out", _mean_iou,
        {
            "A class that does not occur in the truth is left out of the mean; yours counts it as 0.":
                lambda *case: _mean_iou(*case, absent="zero"),
            "A class that is said and does not occur in the truth is left out too, and its pixels are wrong elsewhere already.":
                lambda *case: _mean_iou(*case, absent="said"),
            "hit / is_it is the accuracy of a class. A pixel that was said to be the class, and is not, must cost something too.":
                lambda *case: _mean_iou(*case, union=False),
            "hit / said_it lets a head win that says a class seldom: divide by the union of both.":
                lambda *case: _mean_iou(*case, union=False, turned=True),
            "Pixels of label 255 have no label: leave them out before you count.":
                lambda *case: _mean_iou(*case, unlabelled=False),
        },
        "Rows of the table are truth, columns are what was said; union = row sum + column sum − hit.",
        _labellings, minutes=12,
    ),
    2: Exercise(
        "mean IoU of always saying the most frequent class", _lazy,
        {
            "That is his pixel accuracy. Every other class that occurs has IoU 0, and counts in the mean.":
                lambda pixels: pixels.max() / pixels.sum(),
            "Classes that do not occur are not in the mean: divide by those that do.":
                lambda pixels: pixels.max() / pixels.sum() / len(pixels),
        },
        "For the class he says, the intersection is its own pixels and the union is all pixels.", _pixel_counts,
    ),
}  # fmt: skip

QUIZ = [
    Question(
        "Why is the ViT frozen while the head learns?",
        "So that the score tells what its features hold, and not how well it studies for this exam.",
        "A ViT that may change learns the labels itself; then two ViTs differ by how fast they learn.",
        {
            "To save memory.": "It does, and that is welcome; but the exam would ask another question if it were not.",
            "Because its weights are not known.": "They are: we could train them. We choose not to.",
            "Because a frozen network scores higher.": "It scores lower than one that learns the labels, as a rule.",
        },
    ),
    Question(
        "A test set has 13 classes in its list, 10 of which occur. Over how many does the mean IoU go here?",
        "10", "Classes without a pixel in the truth of the whole test set are left out, here as in the paper.",
        {
            "13": "Three of them have IoU 0/0; to call that 0 would punish the head for what nobody could get right.",
            "Those that the head said": "Then a head could drop a hard class by never saying it.",
            "It depends on each photo": "All pixels of the test set go into one table first.",
        },
    ),
    Question(
        "Original and 3D-aware features side by side beat the original. What is the fairest opponent?",
        "The original twice, and the original beside a network trained with wrong poses.",
        "The first is as wide and holds nothing new; the second holds something new that is not owed to 3D.",
        {
            "The original with a higher learning rate.": "It may be quicker then, and is still half as wide.",
            "Raw pixels.": "They show where the scale begins, not what 3D adds.",
            "An untrained network alone.": "It shows what training gave, and nothing about setting two side by side.",
        },
    ),
    Question(
        "The 90 % interval of a gain over resampled test rooms runs from +1 to +4 points. What follows?",
        "The gain is not the luck of these test rooms.", "What caused it is another question, for which there are controls.",
        {
            "3D made the features better.": "Copies, or wrong poses, might give such an interval too: look at them.",
            "Another fine-tuning would gain as much.": "That draw is not in it: only test rooms were resampled.",
            "Each class gained.": "It is a mean over classes; some may have lost.",
        },
    ),
    Question(
        "The head reads 8 % from features learned with another photo's labels. Why not 0 %?",
        "Floors lie below and ceilings above in every photo, and a patch's place can be read from its features.",
        "That much of any score is no understanding, and the control shows how much.",
        {
            "The shuffling was wrong: some photos kept their labels.": "At most a few would; the score is the same without them.",
            "The features hold the labels.": "The head never saw them together: photo and labels did not belong to each other.",
            "Mean IoU is never 0.": "It is, for a head that gets no pixel right.",
        },
    ),
]  # fmt: skip
