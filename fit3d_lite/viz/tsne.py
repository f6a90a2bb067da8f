"""Hundreds of channels on a flat page: t-SNE of patch features, the same patches and alike maps for every model.

t-SNE (van der Maaten and Hinton 2008; scikit-learn's) keeps neighbors together and nothing else: distances between
islands, their sizes and their order mean little, another seed gives another picture. So a number comes with each map:
``trust``, the trustworthiness of its neighborhoods.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .palette import IGNORE, palette
from .pca import check_features

__all__ = ["Embedding", "show_embedding", "tsne"]

MARKERS = "os^Dv<>"  # by class, since fourteen colors are hard on any eye
NEIGHBORS = 10  # of a point, whose being kept is the trustworthiness


@dataclass(frozen=True)
class Embedding:
    """Patches on a page; :func:`tsne` makes it."""

    points: Tensor  # [P, 2]
    index: Tensor  # [P] int64, which of the V·h·w patches
    grid: tuple[int, int, int]  # V, h, w
    trust: float  # 0..1; how many of the neighbors on the page are neighbors among the features (1: all)

    def pick(
        self,
        values: Tensor,  # [V, h, w, ...]
    ) -> Tensor:
        """[P, ...] the values of the patches that are shown. Raises ValueError for another grid."""
        if tuple(values.shape[:3]) != self.grid:
            raise ValueError(f"values are on a grid {list(values.shape[:3])}, the patches on {list(self.grid)}")
        return values.cpu().flatten(0, 2)[self.index]


def tsne(
    feats: Tensor | dict[str, Tensor],  # [V, C, h, w], or several models' of the same pictures, by name
    patches: int = 800,
    perplexity: float = 30.0,
    cosine: bool = True,
    seed: int = 0,
) -> Embedding | dict[str, Embedding]:
    """Patches on a page, neighbors by feature lying together.

    Of several models the same patches are drawn, and each further map starts from the first one's outcome instead of
    from its own principal components: what stays in place then is what the models agree on.

    Args:
        patches: how many are drawn at random; a thousand take about two seconds a model.
        perplexity: how many neighbors count, roughly; must be below a third of the patches.
        cosine: compare directions (features scaled to length 1).
        seed: of the draw and of the descent.

    Raises:
        ValueError: not [V, C, h, w]; models on different grids; too few patches for the perplexity.
    """
    models = feats if isinstance(feats, dict) else {"": feats}
    grids = {}
    for name, tensor in models.items():
        check_features(tensor, name, channels=2)
        grids[name] = (tensor.shape[0], *tensor.shape[2:])
    if len(set(grids.values())) != 1:
        said = ", ".join(f"{list(grid)} of {name!r}" for name, grid in grids.items()) or "no models"
        raise ValueError(f"the patches to compare must be on one grid, and these are on {said}")
    grid = next(iter(grids.values()))
    count = min(patches, int(np.prod(grid)))
    if not 0 < perplexity < count / 3:
        raise ValueError(f"a perplexity of {perplexity:g} needs more than {3 * perplexity:g} patches, there are {count}")
    drawn = np.sort(np.random.default_rng(seed).permutation(int(np.prod(grid)))[:count])

    found, start = {}, None
    for name, tensor in models.items():
        x = tensor.detach().cpu().float()
        x = (F.normalize(x, dim=1) if cosine else x).movedim(1, -1).flatten(0, 2)[drawn].double().numpy()
        page, trust = _descend(x, start, perplexity, seed)
        start = page if start is None else start
        found[name] = Embedding(torch.from_numpy(page).float(), torch.from_numpy(drawn), grid, trust)
    return found if isinstance(feats, dict) else found[""]


def _descend(x: np.ndarray, start: np.ndarray | None, perplexity: float, seed: int) -> tuple[np.ndarray, float]:
    from sklearn.manifold import TSNE, trustworthiness
    from threadpoolctl import threadpool_limits

    # From the first page at its full size: shrunk to a point, as t-SNE usually starts, it may come out turned or mirrored.
    begin = "pca" if start is None else start.astype(np.float32)
    with threadpool_limits(1):
        page = TSNE(2, perplexity=perplexity, init=begin, random_state=seed).fit_transform(x)
        near = min(NEIGHBORS, (len(x) - 1) // 2)
        return page.astype(np.float64), float(trustworthiness(x, page, n_neighbors=near))


def show_embedding(
    found: Embedding | dict[str, Embedding],
    values: Tensor,  # [V, h, w] whole numbers = labels, or [V, h, w, 3] colors
    classes: tuple[str, ...] = (),
    title: str = "",
    width: float = 8.6,
):
    """One page a model, each patch a mark in the color and shape of its label (with a legend) or in a given color.

    Raises:
        ValueError: values on another grid, or neither labels nor colors.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    pages = found if isinstance(found, dict) else {"": found}
    labels = values.ndim == 3 and not values.is_floating_point()
    if not labels and (values.ndim != 4 or values.shape[-1] != 3):
        raise ValueError(f"values must be labels [V, h, w] or colors [V, h, w, 3], not {list(values.shape)}")
    side = min(width / len(pages), 3.8)
    figure = Figure(figsize=(side * len(pages), side + 0.3), layout="constrained")
    for ax, (name, page) in zip(figure.subplots(1, len(pages), squeeze=False)[0], pages.items(), strict=True):
        picked = page.pick(values)
        kinds = sorted(set(picked.tolist()) - {IGNORE}) if labels else [0]
        for n in kinds:
            these = picked == n if labels else torch.ones(len(picked), dtype=torch.bool)
            colors = [palette(64)[n % 64].tolist()] if labels else picked.float().numpy()
            # A thin dark rim keeps the pale colors of a palette visible on white.
            look = {"marker": MARKERS[n % len(MARKERS)], "s": 14, "linewidths": 0.25, "edgecolors": "0.25"}
            ax.scatter(*page.points[these].T.numpy(), c=colors, **look)
        ax.set(xticks=[], yticks=[], title=f"{name}\ntrust {page.trust:.2f}".strip())
        ax.spines[:].set(visible=True, color="0.8")
    if labels:
        present = sorted(set(next(iter(pages.values())).pick(values).tolist()) - {IGNORE})
        names = [classes[n] if n < len(classes) else str(n) for n in present]
        dots = [
            Line2D([], [], linestyle="", marker=MARKERS[n % len(MARKERS)], color=palette(64)[n % 64].tolist(), label=name,
                   markersize=5, markeredgecolor="0.25", markeredgewidth=0.3)
            for n, name in zip(present, names, strict=True)
        ]  # fmt: skip
        columns = max(1, int(side * len(pages) / 1.05))
        figure.legend(handles=dots, loc="outside lower center", ncols=columns, fontsize=9, frameon=False)
        figure.set_figheight(figure.get_figheight() + 0.24 * -(-len(dots) // columns))
    if title:
        figure.suptitle(title)
    return figure
