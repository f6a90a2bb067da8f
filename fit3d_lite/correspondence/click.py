"""Click a point in one photo, see where each model finds it in another, and where it is: computed in the page itself.

    click_match(scene, a, b, {"original": feats, "3D-aware": tuned_feats}, at=(row, col))
    show_match(scene, a, b, {…}, at=(row, col))                # its static twin, a figure

The page gets the features of both photos as short codes (see widgets/click.py), and the true place of every patch of the first
photo in the second one, from depth and poses.
"""

from __future__ import annotations

import html
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..base.inputs import check_kind, feature_maps
from ..scenes.scene import Scene
from ..widgets.click import ClickMap, codes_of, photo, ramp
from ..widgets.page import attributes, slider
from .correspond import TOLERANCE, surface, visible

__all__ = ["click_match", "match_patch", "patch_truth", "show_match"]


def patch_truth(
    scene: Scene, a: int, b: int, h: int, w: int, tolerance: float = TOLERANCE
) -> tuple[Tensor, Tensor]:  # [h*w, 2] pixels, [h*w] bool
    """Where view b shows the middle of every patch of view a, and whether it does."""
    rows, cols = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    middle = torch.stack([(cols + 0.5) * scene.width / w, (rows + 0.5) * scene.height / h], -1).reshape(-1, 2)
    middle = middle.to(scene.depths.device)
    u, v = middle.long().unbind(1)
    uv, seen = visible(scene, b, surface(scene, a, middle), tolerance)
    return uv, seen & (scene.depths[a][v, u] > 0)


def match_patch(
    feats: Tensor,  # [V, C, h, w]
    a: int,
    b: int,
    at: tuple[int, int],  # row, col
) -> tuple[Tensor, tuple[int, int]]:  # [h, w], (row, col)
    """Cosine of a patch of view a with every patch of view b, and the patch where it is highest."""
    unit = F.normalize(feats[[a, b]].float(), dim=1)
    similarity = torch.einsum("c,chw->hw", unit[0][:, at[0], at[1]], unit[1])
    return similarity, divmod(int(similarity.argmax()), similarity.shape[1])


def click_match(
    scene: Scene,
    a: int,
    b: int,
    models: dict[str, Tensor],  # [V, C, h, w] by name
    at: tuple[int, int] = (0, 0),
    dims: int = 48,
    width: int = 270,
) -> ClickMap:
    """HTML in which a click on view ``a`` shows, for each model, how similar every patch of view ``b`` is, the best one
    (orange square) and the true place (white ring).

    Where scripts do not run the photos alone are seen; :func:`show_match` is the static twin.

    Args:
        at: patch (row, col) chosen at first.
        dims: numbers kept per patch; ``.worst`` says what that costs.
        width: of one photo, in pixels of the page.

    Raises:
        ValueError: no depths, no such view or patch, models on different grids or of another number of views.
    """
    h, w = _grid_of(scene, a, b, models, at)
    uv, seen = (t.cpu() for t in patch_truth(scene, a, b, h, w))
    places = [[round(x, 1) for x in p] if s else None for p, s in zip(uv.tolist(), seen.tolist(), strict=True)]
    coded = {name: codes_of(f[[a, b]], min(dims, f.shape[1])) for name, f in models.items()}
    worst = max(error for _, error in coded.values())
    shape = dict(h=h, w=w, height=scene.height, width=scene.width, row=at[0], col=at[1])

    def panel(view, title, more=""):
        picture = photo(scene.images[view], f"view {view}")
        return f'<figure style="margin:0;flex:0 1 {width}px" {more}><figcaption>{title}</figcaption>{picture}</figure>'

    panels = [panel(a, f"view {a}: <b>click here</b>")]
    for name, (codes, _) in coded.items():
        title = f'{html.escape(name)}: <output style="font-weight:600"></output>'
        panels.append(panel(b, title, f'class="f3d-model" {attributes(codes=codes)}'))
    body = f'<div style="display:flex;flex-wrap:wrap;gap:.5em">{"".join(panels)}</div>'
    legend = "<span>white ring: the true place · orange square: the most similar patch</span>"
    text = f"view {a} to click on, view {b} by {', '.join(models)}; needs a browser. Largest error of a cosine: {worst:.3f}"
    controls = legend + slider("overlay", 100, 55)
    return ClickMap("match", controls, body, text, worst, shape=shape, truth=places, ramp=ramp())


def show_match(scene: Scene, a: int, b: int, models: dict[str, Tensor], at: tuple[int, int], width: float = 8.6):
    """One patch of view ``a`` looked for in view ``b`` by each model, as a figure: the static twin of a click."""
    from matplotlib.figure import Figure

    h, w = _grid_of(scene, a, b, models, at)
    uv, seen = patch_truth(scene, a, b, h, w)
    truth = uv[at[0] * w + at[1]].tolist() if seen[at[0] * w + at[1]] else None

    def middle(row, col):
        return (col + 0.5) * scene.width / w, (row + 0.5) * scene.height / h

    columns = 1 + len(models)
    figure = Figure(figsize=(width, width / columns * scene.height / scene.width + 0.35), layout="constrained")
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for ax, name in zip(axes, ["", *models], strict=True):
        view = b if name else a
        ax.imshow(scene.images[view].movedim(0, -1).cpu().numpy(), interpolation="bilinear")
        ax.set(xticks=[], yticks=[], title=f"view {a}: the point asked for")
        ax.spines[:].set_visible(False)
        spot = truth if name else middle(*at)
        if spot is not None:
            for color, line in (("black", 5), ("white", 2.2)):  # seen on any ground
                ax.scatter(*spot, s=110, facecolors="none", edgecolors=color, linewidths=line)
        if not name:
            continue
        similarity, best = match_patch(models[name], a, b, at)
        extent = (0, scene.width, scene.height, 0)
        ax.imshow(similarity.cpu().numpy(), extent=extent, alpha=0.55, cmap="viridis", interpolation="nearest")
        found = middle(*best)
        ax.scatter(*found, s=45, marker="s", color="#D55E00", edgecolors="white", linewidths=1.5)
        off = "not in view" if truth is None else f"{math.dist(found, truth):.0f} px off"
        ax.set_title(f"{name}: {off}")
    return figure


def _grid_of(scene, a, b, models, at) -> tuple[int, int]:
    if scene.depths is None:
        raise ValueError(f"{scene.name} has no depths, and the true place comes from depth")
    if not (0 <= a < len(scene) and 0 <= b < len(scene)):
        raise ValueError(f"views {a} and {b} of a scene with {len(scene)} views")
    check_kind(dict, models=models)
    size = (len(scene), scene.height, scene.width)
    shapes = {feature_maps(f, *size, f"features of {name}").shape[2:] for name, f in models.items()}
    if len(shapes) != 1:
        raise ValueError(f"all models need features on one grid, and there are {len(shapes)}")
    grid = shapes.pop()
    if not (0 <= at[0] < grid[0] and 0 <= at[1] < grid[1]):
        raise ValueError(f"patch {tuple(at)} lies outside the grid of {grid[0]}×{grid[1]}")
    return grid
