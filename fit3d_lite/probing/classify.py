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
import torch.nn.functional as F
from torch import Tensor

from ..backbones.assembly import Assembly
from ..backbones.features import FeatureStore, digest_of
from ..base.inputs import check_whole
from ..scenes.scene import Scene
from .metrics import confusion_matrix

__all__ = ["Classification", "classifier", "classify", "photo_vectors", "photos_of_things"]

TEMPERATURE = 0.07
AT_ONCE = 64  # photos


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
) -> Tensor:  # [V, C] float32 on the CPU
    """The CLS token of each photo, or with ``token="mean"`` the mean of its patches, after the last norm. ``cache`` is
    the folder of a FeatureStore, which the probes share."""
    if token not in ("cls", "mean"):
        raise ValueError(f"token must be 'cls' or 'mean', got {token!r}.")
    store = FeatureStore(Assembly(vit), Images(images), cache=cache)
    found = []
    for start in range(0, len(images), AT_ONCE):
        levels, cls = store.batch(range(start, min(start + AT_ONCE, len(images))), norm=True)
        found.append((cls if token == "cls" else levels[0][0].mean((2, 3))).cpu())
    return torch.cat(found)


class Images:
    """A tensor of images as a FeatureStore reads photos."""

    def __init__(self, images: Tensor):
        self._images, (self.height, self.width) = images, images.shape[-2:]
        self.digests = [digest_of(image) for image in images]

    def __len__(self) -> int:
        return len(self._images)

    def images(self, indices) -> Tensor:
        return self._images[list(indices)]


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
        cache: folder where features are kept and found again, the probes' own.

    Raises ValueError for an unknown method or token, photos and classes that do not pair up, fewer than two classes,
    and a test class that never occurs in training.
    """
    classifier(method, 1)  # an unknown one is refused before any work
    vits = list(vits) if isinstance(vits, Sequence) else [vits]
    (seen, classes), (asked, truth) = ((images, np.asarray(numbers)) for images, numbers in (train, test))
    for what, images, numbers in (("training", seen, classes), ("test", asked, truth)):
        if len(images) != len(numbers) or not len(images):
            raise ValueError(f"The {what} set has {len(images)} photos and {len(numbers)} class numbers.")
    check_whole(1, k=k)
    for numbers in (classes, truth):
        if numbers.dtype.kind not in "iub" or numbers.min() < 0:
            raise ValueError(f"Classes are whole numbers from 0, got {numbers.tolist()[:3]} of {numbers.dtype}.")
    if len(set(classes.tolist())) < 2:
        raise ValueError("All training photos are of one class, so there is nothing to tell apart.")
    if unseen := sorted(set(truth.tolist()) - set(classes.tolist())):
        raise ValueError(f"Class {unseen[0]} of the test set never occurs in training.")
    x, y = (torch.cat([photo_vectors(v, i, token, cache) for v in vits], 1).numpy() for i in (seen, asked))
    guess = torch.from_numpy(classifier(method, min(k, len(x))).fit(x, classes).predict(y)).long()
    known = torch.from_numpy(truth).long()
    chance = known.bincount().max().item() / len(known)
    confusion = confusion_matrix(guess, known, int(classes.max()) + 1)
    said = name or " + ".join(vit.name for vit in vits)
    return Classification(said, (guess == known).double().mean().item(), chance, confusion, guess)


def classifier(method: str, k: int):
    """scikit-learn's classifier for a method, not fitted yet. ValueError for an unknown one."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if method == "linear":
        return make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
    if method == "knn":
        return KNeighborsClassifier(k, metric="cosine", weights=lambda d: np.exp((1 - d) / TEMPERATURE))
    raise ValueError(f"method must be 'knn' or 'linear', got {method!r}.")


def photos_of_things(
    scene: Scene,
    side: int,
    least: int = 32,
    without: Sequence[str] = ("wall", "floor", "ceiling"),
) -> tuple[Tensor, Tensor]:  # [N, 3, side, side], [N] int64
    """Photos of single things, cut out of a labelled scene, and their classes.

    A thing is a connected region of one class, at least ``least`` pixels along one side and half of that along the other;
    the photo is the square around it, as far as the scene's photo goes. Classes of ``without`` are none.

    Raises ValueError for a scene without labels.
    """
    from scipy.ndimage import find_objects, label

    if scene.labels is None:
        raise ValueError(f"{scene.name} has no labels, so nothing tells its things apart.")
    photos, classes = [], []
    for image, labels in zip(scene.images, scene.labels.cpu().numpy(), strict=True):
        for number, name in enumerate(scene.classes):
            for rows, columns in find_objects(label(labels == number)[0]) if name not in without else ():
                sides = rows.stop - rows.start, columns.stop - columns.start
                if max(sides) < least or min(sides) < least // 2:
                    continue
                edge = min(max(sides), *image.shape[-2:])
                top, left = (
                    min(max((part.start + part.stop - edge) // 2, 0), whole - edge)
                    for part, whole in zip((rows, columns), image.shape[-2:], strict=True)
                )
                photos.append(F.interpolate(
                    image[None, :, top : top + edge, left : left + edge], (side, side), mode="bilinear", antialias=True
                ))  # fmt: skip
                classes.append(number)
    found = torch.cat(photos) if photos else scene.images.new_zeros(0, 3, side, side)
    return found, torch.tensor(classes, dtype=torch.int64)
