"""Which patches are alike? Cosine similarity to one patch, and k-means clusters whose numbers agree between models."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .pca import check_features

__all__ = ["kmeans", "match_clusters", "similarity"]


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
    model's, so that one number, and one colour, means one place.

    Args:
        cosine: cluster directions (features scaled to length 1), so that a few long features do not draw all clusters.
        n_init: starts, of which the tightest wins.

    Raises:
        ValueError: not [V, C, h, w]; fewer patches than clusters; models with different patch grids.
    """
    if isinstance(feats, dict):
        found = {name: kmeans(tensor, clusters, cosine, n_init, seed) for name, tensor in feats.items()}
        first = next(iter(found.values()), None)
        return {name: labels if labels is first else match_clusters(labels, first) for name, labels in found.items()}

    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    check_features(feats, channels=1)
    views, channels, h, w = feats.shape
    if not 1 <= clusters <= views * h * w:
        raise ValueError(f"{clusters} clusters of {views}×{h}×{w} = {views * h * w} patches: ask for 1 to that many")
    x = feats.detach().cpu().float()
    x = (F.normalize(x, dim=1) if cosine else x).movedim(1, -1).reshape(-1, channels).numpy()
    # One BLAS thread: torch's and scikit-learn's thread pools wait for each other on a machine with few cores.
    with threadpool_limits(1):
        labels = KMeans(clusters, n_init=n_init, random_state=seed).fit(x).labels_
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
