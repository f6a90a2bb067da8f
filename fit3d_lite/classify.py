"""One vector a photo: which photos does a frozen ViT find alike? k nearest neighbours and a linear classifier.

FiT3D's appendix checks with k-NN that 3D-aware fine-tuning, which only ever looks at patches, has not hurt what a photo
as a whole says. The vector is the CLS token, or the mean of the patches, after the last norm. k-NN is DINO's (arXiv
2104.14294, appendix): the k neighbours of largest cosine vote with weight exp(cosine / 0.07). Both classifiers are
scikit-learn's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from .metrics import confusion_matrix

__all__ = ["Classification", "classify", "photo_vectors"]

TEMPERATURE = 0.07


@dataclass(frozen=True)
class Classification:
    """How well photos were sorted; shares in 0..1."""

    name: str
    accuracy: float  # of all test photos
    chance: float  # of always naming the most frequent class of the test photos
    confusion: Tensor = field(repr=False)  # [M, M] int64: rows truth, columns guess, photos
    guess: Tensor = field(repr=False)  # [V] int64

    def __str__(self) -> str:
        return f"{self.name:24}  accuracy {self.accuracy:.3f}  (most frequent class {self.chance:.3f})"


def photo_vectors(
    vit,
    images: Tensor,  # [V, 3, H, W] in 0..1
    token: str = "cls",
    cache=None,
) -> Tensor:  # [V, C]
    """The CLS token of each photo, or with ``token="mean"`` the mean of its patches, after the last norm."""
    if token not in ("cls", "mean"):
        raise ValueError(f"token must be 'cls' or 'mean', got {token!r}.")
    options = {"cache": cache} if cache is not None else {}
    if token == "mean":
        return vit.extract(images, **options).mean((2, 3))
    return vit.extract(images, cls=True, **options)[1]


def classify(
    vits,
    train: tuple[Tensor, Sequence[int]],  # images [V, 3, H, W], class numbers [V]
    test: tuple[Tensor, Sequence[int]],
    method: str = "knn",
    token: str = "cls",
    k: int = 10,
    name: str | None = None,
    cache=None,
) -> Classification:
    """Sort the test photos into the classes of the training photos.

    Args:
        vits: a ViT, or a list of ViTs whose vectors are concatenated.
        method: "knn" or "linear" (logistic regression on standardised channels).
        token: "cls" or "mean".
        k: neighbours that vote; never more than there are photos.
        cache: folder of features, as in ``ViT.extract``.

    Raises ValueError for an unknown method or token, photos and classes that do not pair up, fewer than two classes,
    and a test class that never occurs in training.
    """
    if method not in ("knn", "linear"):
        raise ValueError(f"method must be 'knn' or 'linear', got {method!r}.")
    vits = list(vits) if isinstance(vits, Sequence) else [vits]
    (seen, classes), (asked, truth) = ((images, np.asarray(numbers)) for images, numbers in (train, test))
    for what, images, numbers in (("training", seen, classes), ("test", asked, truth)):
        if len(images) != len(numbers) or not len(images):
            raise ValueError(f"The {what} set has {len(images)} photos and {len(numbers)} class numbers.")
    if len(set(classes.tolist())) < 2:
        raise ValueError("All training photos are of one class, so there is nothing to tell apart.")
    if unseen := sorted(set(truth.tolist()) - set(classes.tolist())):
        raise ValueError(f"Class {unseen[0]} of the test set never occurs in training.")
    x, y = (torch.cat([photo_vectors(v, i, token, cache) for v in vits], 1).cpu().numpy() for i in (seen, asked))
    guess = torch.from_numpy(_fitted(method, x, classes, k).predict(y)).long()
    known = torch.from_numpy(truth).long()
    chance = known.bincount().max().item() / len(known)
    confusion = confusion_matrix(guess, known, int(classes.max()) + 1)
    said = name or " + ".join(vit.name for vit in vits)
    return Classification(said, (guess == known).double().mean().item(), chance, confusion, guess)


def _fitted(method: str, x: np.ndarray, classes: np.ndarray, k: int):
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if method == "linear":
        return make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000)).fit(x, classes)
    votes = KNeighborsClassifier(min(k, len(x)), metric="cosine", weights=lambda d: np.exp((1 - d) / TEMPERATURE))
    return votes.fit(x, classes)
