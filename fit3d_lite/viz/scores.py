"""Do groups, and single patches, agree with the truth? Four scores of groups from one contingency table, with their spread
over several runs; and the part of the patches that find their own kind again in another view.

    purity   part of the patches that belong to the commonest class of their group, 0..1
    NMI      normalized mutual information, 0..1: what a group tells about the class, over the mean of both entropies
    AMI      the same, less what groups drawn by lot would reach: 0 is chance, 1 is perfect
    ARI      adjusted Rand index: pairs of patches on which both agree, less chance: 0 is chance, 1 is perfect

Purity and NMI rise with the number of groups whatever the groups are (a group a patch has purity 1); AMI and ARI do
not, which is why they are here. NMI, AMI and ARI are scikit-learn's.
"""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from .palette import IGNORE
from .pca import check_features

__all__ = ["ClusterScores", "cluster_scores", "contingency", "control_features", "found_again"]

SCORES = ("NMI", "AMI", "ARI", "purity")


@dataclass(frozen=True)
class ClusterScores:
    """Scores of one or more runs; prints as a row. ``a + b`` pools the runs of two results."""

    runs: dict[str, list[float]] = field(repr=False)  # by score, one number a run
    clusters: int  # most groups of any run
    patches: int  # labelled patches of a run
    name: str = ""

    def mean(self, score: str = "AMI") -> float:
        return sum(self._of(score)) / len(self._of(score))

    def spread(self, score: str = "AMI") -> float:
        """Standard deviation over runs (n - 1); nan for a single one."""
        values = self._of(score)
        return torch.tensor(values, dtype=torch.float64).std().item() if len(values) > 1 else float("nan")

    def _of(self, score: str) -> list[float]:
        if score not in self.runs:
            raise ValueError(f"there is no score {score!r}; there are {', '.join(self.runs)}")
        return self.runs[score]

    def __add__(self, other: "ClusterScores") -> "ClusterScores":
        runs = {score: [*self.runs[score], *other.runs[score]] for score in self.runs}
        return ClusterScores(runs, max(self.clusters, other.clusters), self.patches, self.name)

    def __str__(self) -> str:
        count = len(self.runs[SCORES[0]])
        cells = [f"{s} {self.mean(s):.3f}" + (f" ± {self.spread(s):.3f}" if count > 1 else "") for s in SCORES]
        runs = f"{count} runs" if count > 1 else "1 run"
        return f"{self.name:20} {'  '.join(cells)}   ({self.clusters} groups, {runs})".lstrip()

    __repr__ = __str__


def cluster_scores(
    clusters: Tensor | list[Tensor],  # [V, h, w] whole numbers from 0, or several runs' (other seeds, other rooms)
    labels: Tensor | list[Tensor],  # [V, h, w] whole numbers, 255 = none, left out; one for all runs or one each
    name: str = "",
) -> ClusterScores:
    """NMI, AMI, ARI and purity of groups against labels; of several runs, each by itself.

    Raises:
        ValueError: no run; another number of labels than runs; grids that differ; numbers that are not whole; no
        labelled patch.
    """
    runs = [clusters] if isinstance(clusters, Tensor) else list(clusters)
    truths = [labels] * len(runs) if isinstance(labels, Tensor) else list(labels)
    if not runs or len(runs) != len(truths):
        raise ValueError(f"{len(runs)} runs of clusters with {len(truths)} label maps: give one for all, or one each")
    from sklearn import metrics

    found = {score: [] for score in SCORES}
    for run, truth in zip(runs, truths, strict=True):
        a, b = _labelled(run, truth)
        found["NMI"].append(float(metrics.normalized_mutual_info_score(b, a)))
        found["AMI"].append(float(metrics.adjusted_mutual_info_score(b, a)))
        found["ARI"].append(float(metrics.adjusted_rand_score(b, a)))
        table = contingency(run, truth)
        found["purity"].append((table.max(1).values.sum() / table.sum()).item())
    most = max(len(run.unique()) for run in runs)
    return ClusterScores(found, most, int((truths[0] != IGNORE).sum()), name)


def contingency(
    clusters: Tensor,  # [...] whole numbers from 0
    labels: Tensor,  # [...] whole numbers, 255 = none, left out
) -> Tensor:
    """[K, M] how many patches of each group (row) show each class (column). Raises ValueError as above."""
    a, b = (torch.from_numpy(x) for x in _labelled(clusters, labels))
    rows, cols = a.max().item() + 1, b.max().item() + 1
    return torch.bincount(a * cols + b, minlength=rows * cols).reshape(rows, cols)


def _labelled(clusters: Tensor, labels: Tensor):
    """Both flat, as numpy, where there is a label."""
    if clusters.shape != labels.shape:
        raise ValueError(
            f"the clusters are {list(clusters.shape)} and the labels {list(labels.shape)}: bring the labels to the "
            "patch grid first, with scene.resized(w, h).labels"
        )
    for what, values in (("clusters", clusters), ("labels", labels)):
        if values.is_floating_point() or values.numel() == 0 or values.min() < 0:
            low = f" from {values.min().item():g}" if values.numel() else ", empty"
            raise ValueError(f"{what} must be whole numbers from 0, not {values.dtype}{low}")
    known = (labels != IGNORE).cpu()
    if not known.any():
        raise ValueError(f"there is nothing to score: all {labels.numel()} patches have the label {IGNORE} (none)")
    return clusters.cpu()[known].long().numpy(), labels.cpu()[known].long().numpy()


def found_again(
    feats: Tensor,  # [V, C, h, w]
    labels: Tensor,  # [V, h, w] whole numbers, 255 = none
) -> float:
    """Part of the patches whose most similar patch of another view, by cosine, shows the same class: the mean over all
    pairs of views (the order counts). Patches without a label are neither asked nor an answer, and a pair in which
    nothing is left does not count; nan when none is left.

    Raises:
        ValueError: fewer than two views, or labels on another grid.
    """
    check_features(feats, channels=1)
    views, channels, *grid = feats.shape
    if labels.shape != (views, *grid) or views < 2:
        need = f"labels {[views, *grid]} and two views at least"
        raise ValueError(f"features {list(feats.shape)} need {need}, not {list(labels.shape)}")
    unit, known = F.normalize(feats.float(), dim=1).movedim(1, -1), labels != IGNORE
    kept = [(unit[v][known[v]], labels[v][known[v]]) for v in range(views)]  # [P, C] and [P] of each view
    pairs = [(a, b) for a in kept for b in kept if a is not b and len(a[1]) and len(b[1])]
    found = [(kinds == theirs[(mine @ other.T).argmax(1)]).float().mean() for (mine, kinds), (other, theirs) in pairs]
    return torch.stack(found).mean().item() if found else float("nan")


def control_features(
    images: Tensor,  # [V, 3, H, W] in 0..1
    h: int,
    w: int,
) -> dict[str, Tensor]:
    """What needs no network, on the same patch grid: the mean color of a patch [V, 3, h, w], and its place in the photo
    [V, 2, h, w]. Groups of features that do not beat groups of these show nothing that was learned. Cluster them with
    ``cosine=False``."""
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"photos must be a tensor [V, 3, H, W] in 0..1, not {list(images.shape)}")
    rows, cols = torch.meshgrid((torch.arange(h) + 0.5) / h, (torch.arange(w) + 0.5) / w, indexing="ij")
    return {
        "color": F.adaptive_avg_pool2d(images.detach().cpu().float(), (h, w)),
        "position": torch.stack([rows, cols]).expand(len(images), 2, h, w),
    }
