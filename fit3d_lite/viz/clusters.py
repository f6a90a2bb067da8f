"""Which patches are alike? Cosine similarity to one patch, and groups whose numbers agree between models: k-means, and
merging from the bottom up (agglomerative)."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..base.inputs import check_whole
from .pca import check_features

__all__ = ["agglomerative", "kmeans", "match_clusters", "similarity"]


def similarity(
    feats: Tensor,  # [V, C, h, w]
    view: int,
    row: int,
    col: int,
) -> Tensor:
    """Cosine similarity of the patch (view, row, col) to every patch of every picture: [V, h, w] in -1..1.

    Raises:
        ValueError: not [V, C, h, w], or no such patch.
    """
    check_features(feats, channels=1)
    check_whole(0, view=view, row=row, col=col)
    views, _, h, w = feats.shape
    if not (0 <= view < views and 0 <= row < h and 0 <= col < w):
        raise ValueError(
            f"there is no patch (view {view}, row {row}, col {col}): "
            f"views run 0 to {views - 1}, rows 0 to {h - 1}, columns 0 to {w - 1}"
        )
    unit = F.normalize(feats.detach().float(), dim=1)
    return torch.einsum("vchw,c->vhw", unit, unit[view, :, row, col]).clamp(-1, 1)


def kmeans(
    feats: Tensor | dict[str, Tensor],  # [V, C, h, w], or several models' of the same pictures, by name
    clusters: int = 8,
    cosine: bool = True,
    n_init: int = 4,
    seed: int = 0,
) -> Tensor | dict[str, Tensor]:
    """k-means over all patches of all pictures (scikit-learn's): the cluster of each patch, [V, h, w] int64.

    Cluster 0 is the largest. With several models the clusters of each are renumbered to overlap most with the first
    model's, so that one number, and one color, means one place.

    Args:
        cosine: cluster directions (features scaled to length 1), so that a few long features do not draw all clusters.
        n_init: starts, of which the tightest wins.

    Raises:
        ValueError: not [V, C, h, w]; fewer patches than clusters; models with different patch grids.
    """
    from sklearn.cluster import KMeans

    def group(x: np.ndarray) -> np.ndarray:
        return KMeans(clusters, n_init=n_init, random_state=seed).fit(x).labels_

    return _grouped(feats, clusters, cosine, group)


def agglomerative(
    feats: Tensor | dict[str, Tensor],  # [V, C, h, w], or several models' of the same pictures, by name
    clusters: int = 8,
    cosine: bool = True,
    linkage: str = "ward",
    at_most: int = 4000,
    seed: int = 0,
) -> Tensor | dict[str, Tensor]:
    """Groups by merging, from single patches upwards, always the two that are closest (scikit-learn's).

    Nothing is drawn by lot, so there is no seed to average over, and groups may be of any size and shape, where those of
    k-means are round. The price is memory: every pair of patches is compared. So no more than ``at_most`` patches are
    merged, a random draw, and each other patch joins the group whose mean is nearest. Numbers as for :func:`kmeans`.

    Args:
        cosine: group directions (features scaled to length 1).
        linkage: which two are closest: "ward" (least growth of the variance), "average", "complete" or "single".
        at_most: patches merged; 4,000 take 64 MB.
        seed: of the draw, where there are more patches than that.

    Raises:
        ValueError: as :func:`kmeans`; an unknown linkage; ``at_most`` below the number of clusters.
    """
    if linkage not in ("ward", "average", "complete", "single"):
        raise ValueError(f'linkage is "ward", "average", "complete" or "single", not {linkage!r}')
    if at_most < max(2, clusters):
        raise ValueError(f"{at_most} patches cannot be merged into {clusters} clusters: raise at_most")
    from sklearn.cluster import AgglomerativeClustering

    def group(x: np.ndarray) -> np.ndarray:
        merge = AgglomerativeClustering(clusters, linkage=linkage)
        if len(x) <= at_most:
            return merge.fit(x).labels_ if len(x) > 1 else np.zeros(1, dtype=np.int64)
        drawn = np.random.default_rng(seed).choice(len(x), at_most, replace=False)
        labels = merge.fit(x[drawn]).labels_
        means = np.stack([x[drawn][labels == c].mean(0) for c in range(clusters)])
        found = ((means**2).sum(1) - 2 * x @ means.T).argmin(1)  # nearest mean; |x|² is the same for all of them
        found[drawn] = labels
        return found

    return _grouped(feats, clusters, cosine, group)


def _grouped(feats, clusters: int, cosine: bool, group):
    """Apply ``group`` (rows [P, C] to numbers [P]) to one model or to each of several, and settle the numbers."""
    if isinstance(feats, dict):
        found = {name: _grouped(tensor, clusters, cosine, group) for name, tensor in feats.items()}
        first = next(iter(found.values()), None)
        return {name: labels if labels is first else match_clusters(labels, first) for name, labels in found.items()}
    from threadpoolctl import threadpool_limits

    check_features(feats, channels=1)
    check_whole(1, clusters=clusters)
    views, channels, h, w = feats.shape
    if not 1 <= clusters <= views * h * w:
        raise ValueError(f"{clusters} clusters of {views}×{h}×{w} = {views * h * w} patches: ask for 1 to that many")
    x = feats.detach().cpu().float()
    x = (F.normalize(x, dim=1) if cosine else x).movedim(1, -1).reshape(-1, channels).numpy()
    # One BLAS thread: torch's and scikit-learn's thread pools wait for each other on a machine with few cores.
    with threadpool_limits(1):
        labels = group(x)
    order = np.argsort(-np.bincount(labels, minlength=clusters), kind="stable")
    rank = np.empty(clusters, dtype=np.int64)
    rank[order] = np.arange(clusters)
    return torch.from_numpy(rank[labels]).reshape(views, h, w)


def match_clusters(
    labels: Tensor,  # [V, h, w] int64, to be renumbered
    reference: Tensor,  # [V, h, w] int64
) -> Tensor:
    """The same clusters with other numbers: those that share most patches with ``reference``'s (Hungarian method).

    One to one; where ``labels`` has more clusters than the reference, the rest get the next free numbers.

    Raises:
        ValueError: different shapes, or not whole numbers from 0.
    """
    if labels.shape != reference.shape:
        raise ValueError(
            f"the clusters to match are on grids {list(labels.shape)} and {list(reference.shape)}: "
            "bring the features to one grid first"
        )
    for what in (labels, reference):
        if what.is_floating_point() or what.min() < 0:
            raise ValueError(f"clusters must be whole numbers from 0, not {what.dtype} from {what.min().item():g}")
    from scipy.optimize import linear_sum_assignment

    mine, theirs = labels.max().item() + 1, reference.max().item() + 1
    overlap = torch.bincount((labels * theirs + reference).flatten(), minlength=mine * theirs).reshape(mine, theirs)
    rows, cols = linear_sum_assignment(overlap.cpu().numpy(), maximize=True)
    number = dict(zip(rows.tolist(), cols.tolist(), strict=True))
    free = iter(n for n in range(mine + theirs) if n not in set(number.values()))
    lookup = torch.tensor([number[c] if c in number else next(free) for c in range(mine)], device=labels.device)
    return lookup[labels]
