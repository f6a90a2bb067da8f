"""Photos beside maps of features, depths, labels, errors and mistakes: figures on white, which read in light and dark themes.

Every function returns a matplotlib Figure, never left open: the last line of a cell shows it, ``display(figure)`` any other line.
"""

import numpy as np
import torch
from torch import Tensor

from ..base.inputs import as_tensor, check_kind, check_whole
from .palette import IGNORE, MAPS, RIGHT, WRONG, color_depth, color_labels, color_mistakes, palette

__all__ = ["compare", "show_depth", "show_error", "show_images", "show_labels", "show_mistakes"]

WIDTH = 8.6  # inches of a full figure: 830 pixels, which fit the text width of a notebook


def compare(
    images: Tensor,  # [V, 3, H, W] in 0..1
    maps: dict[str, Tensor],  # by title: [V, h, w, 3] colors, [V, h, w] numbers, or [V, h, w] whole numbers = labels
    titles: list[str] | None = None,  # of the views
    upsample: str = "nearest",
    marks: list[tuple[int, int, int]] = (),  # patches (view, row, col) to outline
    limits: tuple[float, float] | None = None,
    photo: str = "photo",
    width: float = WIDTH,
    kind: str = "similarity",
    unit: str = "",
):
    """Each photo with its maps; maps of numbers share one color bar, maps of labels one palette.

    The maps may have any resolution: they are drawn over the extent of the photo, so a patch lies on its pixels. Views
    run down the page when there are fewer of them than panels, and across it otherwise.

    Args:
        upsample: "nearest" shows the patches as they are, "bilinear" smooths between them.
        limits: of the color bar; by default the smallest and largest number of all maps.
        kind: of numbers, which settles their colors: "similarity", "depth", "error" or "confidence".
        unit: what the color bar counts.

    Raises:
        ValueError: another number of maps than of photos, another number of titles, an unknown ``upsample`` or
        ``kind``, or a mark outside the grid.
    """
    _check_photos(images)
    check_kind(dict, maps=maps)
    views, _, height, width_px = images.shape
    for name, values in maps.items():
        if len(values) != views or values.ndim not in (3, 4) or (values.ndim == 4 and values.shape[-1] != 3):
            raise ValueError(
                f"the map {name!r} is {list(values.shape)} beside {views} photos; "
                f"it must be [{views}, h, w] or [{views}, h, w, 3]"
            )
    if titles is not None and len(titles) != views:
        raise ValueError(f"{len(titles)} titles for {views} photos")
    if upsample not in ("nearest", "bilinear"):
        raise ValueError(f'upsample must be "nearest" or "bilinear", not {upsample!r}')
    if kind not in MAPS:
        raise ValueError(f"kind must be one of {', '.join(MAPS)}, not {kind!r}")
    panels = {photo: images.movedim(1, -1), **maps}
    down = views < len(panels)  # views are rows
    rows, cols = (views, len(panels)) if down else (len(panels), views)
    numbers = [m for m in maps.values() if m.ndim == 3 and m.is_floating_point()]
    if numbers and limits is None:
        limits = min(m.min().item() for m in numbers), max(m.max().item() for m in numbers)
    figure, axes = _grid(rows, cols, height / width_px, width, bar=0.8 if numbers else 0.0)
    drawn = None
    for p, (name, values) in enumerate(panels.items()):
        for v in range(views):
            row, col = (v, p) if down else (p, v)
            ax = axes[row, col]
            smooth = "bilinear" if p == 0 else upsample  # a small photo enlarged to blocks would read as patches
            drawn = _draw(ax, values[v], height, width_px, smooth, limits, MAPS[kind]) or drawn
            _mark(ax, values[v].shape, height, width_px, [m[1:] for m in marks if m[0] == v], maps, v)
            if row == 0 and (down or titles):
                ax.set_title(name if down else titles[v])
            if col == 0 and (not down or titles):
                ax.set_ylabel(titles[v] if down else name)
    if drawn is not None:
        figure.colorbar(drawn, ax=axes, shrink=0.8, aspect=30, pad=0.01).set_label(unit)
    return figure


def show_images(
    images: Tensor,  # [V, 3, H, W] in 0..1, or [V, H, W, 3]
    titles: list[str] | None = None,
    columns: int = 6,
    width: float = WIDTH,
):
    """Photos in rows of ``columns``."""
    images = as_tensor(images, "photos")
    if images.ndim == 4 and images.shape[1] != 3 and images.shape[-1] == 3:
        images = images.movedim(-1, 1)
    _check_photos(images)
    if titles is not None and len(titles) != len(images):
        raise ValueError(f"{len(titles)} titles for {len(images)} photos")
    check_whole(1, columns=columns)
    columns = min(columns, len(images))
    figure, axes = _grid(-(-len(images) // columns), columns, images.shape[2] / images.shape[3], width)
    for ax in axes.flat[len(images) :]:
        ax.set_visible(False)
    for index, ax in enumerate(axes.flat[: len(images)]):
        ax.imshow(_array(images[index].movedim(0, -1)), interpolation="bilinear")
        if titles is not None:
            ax.set_title(titles[index])
    return figure


def show_depth(
    images: Tensor,  # [V, 3, H, W] in 0..1
    depths: Tensor,  # [V, H, W] metres, 0 = unknown
    titles: list[str] | None = None,
    width: float = WIDTH,
):
    """Photos above their depths, with a scale in metres; what is unknown is grey."""
    if depths is None or not (depths > 0).any():
        raise ValueError("there is no depth to show: depths is None, or none of them is above 0")
    known = depths[depths > 0].float()
    near, far = torch.quantile(known[:: max(1, len(known) // 1_000_000)], known.new_tensor([0.01, 0.99])).tolist()
    figure = compare(images, {"depth": color_depth(depths, near, far)}, titles, width=width)
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    bar = figure.colorbar(ScalarMappable(Normalize(near, far), MAPS["depth"]), ax=figure.axes, shrink=0.6, pad=0.01)
    bar.set_label("metres")
    bar.ax.invert_yaxis()
    return figure


def show_labels(
    images: Tensor,  # [V, 3, H, W] in 0..1
    labels: Tensor | dict[str, Tensor],  # [V, H, W] whole numbers, 255 = none; or several, by title
    classes: tuple[str, ...] = (),
    titles: list[str] | None = None,
    width: float = WIDTH,
):
    """Photos with their label maps, and a legend of the classes that occur; without ``classes`` these are numbers."""
    maps = labels if isinstance(labels, dict) else {"labels": labels}
    maps = {name: as_tensor(one, f"the labels {name!r}") for name, one in maps.items()}
    for one in maps.values():
        if one.is_floating_point() or one.min() < 0:
            raise ValueError(f"labels must be whole numbers from 0, not {one.dtype} from {one.min():.3g}")
    present = sorted(set().union(*(m.unique().tolist() for m in maps.values())) - {IGNORE})
    if classes and present and present[-1] >= len(classes):
        raise ValueError(f"label {present[-1]} occurs, and there are names for {len(classes)} classes only")
    figure = compare(images, maps, titles, width=width)
    colors = palette(present[-1] + 1).tolist() if present else []
    _legend(figure, [(classes[n] if classes else str(n), colors[n]) for n in present])
    return figure


def show_error(
    images: Tensor,  # [V, 3, H, W] in 0..1
    errors: Tensor | dict[str, Tensor],  # [V, h, w] from 0 up, nan = not known; or several, by title
    worst: float | None = None,
    unit: str = "error",
    titles: list[str] | None = None,
    width: float = WIDTH,
):
    """Photos with maps of errors, black for none and bright for large, on one scale from 0.

    Args:
        worst: where the scale ends; by default 99 % of the known errors lie below.
        unit: what the color bar counts: "metres".

    Raises:
        ValueError: negative errors, none that is known, or as :func:`compare`.
    """
    maps = errors if isinstance(errors, dict) else {"error": errors}
    known = torch.cat([m.detach().cpu().float().flatten() for m in maps.values()] or [torch.zeros(0)])
    known = known[known.isfinite()]
    if not len(known) or known.min() < 0:
        said = f"the smallest is {known.min().item():.3g}: take .abs()" if len(known) else "none of them is known"
        raise ValueError(f"errors must be numbers from 0 up, and {said}")
    if worst is None:
        worst = torch.quantile(known[:: max(1, len(known) // 1_000_000)], 0.99).item() or 1.0
    return compare(images, maps, titles, limits=(0.0, worst), width=width, kind="error", unit=unit)


def show_mistakes(
    images: Tensor,  # [V, 3, H, W] in 0..1
    guesses: Tensor | dict[str, Tensor],  # [V, h, w] whole numbers; or several, by title
    truth: Tensor,  # [V, h, w] whole numbers, 255 = none
    titles: list[str] | None = None,
    width: float = WIDTH,
):
    """Photos with the places where a guess is wrong; the share of them stands in the title.

    Raises:
        ValueError: guesses and truth of different shapes, nothing to judge, or as :func:`compare`.
    """
    known = truth != IGNORE
    if not known.any():
        raise ValueError(f"there is nothing to judge: all {truth.numel()} pixels have the label {IGNORE} (none)")
    maps = {}
    for title, guess in (guesses if isinstance(guesses, dict) else {"mistakes": guesses}).items():
        colors, wrong = color_mistakes(guess, truth), (guess != truth)[known].float().mean().item()
        maps[f"{title}: {100 * wrong:.0f} % wrong"] = colors
    figure = compare(images, maps, titles, width=width)
    _legend(figure, [("wrong", WRONG), ("right", RIGHT)] + ([] if known.all() else [("no label", "white")]))
    return figure


def _legend(figure, entries: list) -> None:
    """Names with their colors under a figure, which grows by them."""
    from matplotlib.patches import Patch

    handles = [Patch(facecolor=color, edgecolor="0.7" if color == "white" else None, label=name) for name, color in entries]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(8, len(handles) or 1), fontsize=9, frameon=False)
    figure.set_figheight(figure.get_figheight() + 0.22 * -(-len(handles) // 8))


def _grid(rows: int, cols: int, ratio: float, width: float, bar: float = 0.0):
    """A figure outside pyplot, with room for a color ``bar``: nothing stays open, and nothing is shown twice."""
    from matplotlib.figure import Figure

    width = min(width, 2.8 * cols + bar)
    figure = Figure(figsize=(width, rows * (width - bar) / cols * ratio + 0.3), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01)
    axes = figure.subplots(rows, cols, squeeze=False)
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    return figure, axes


def _draw(ax, values: Tensor, height: int, width: int, upsample: str, limits, name: str):
    """Draw one map over the photo's extent; returns what a color bar needs, for a map of numbers."""
    place = {"extent": (0, width, height, 0), "interpolation": upsample}
    if values.ndim == 3:
        ax.imshow(_array(values), **place)
    elif not values.is_floating_point():
        ax.imshow(_array(color_labels(values)), **place | {"interpolation": "nearest"})  # there is no label between two
    else:
        return ax.imshow(values.detach().cpu().float().numpy(), vmin=limits[0], vmax=limits[1], cmap=name, **place)
    return None


def _mark(ax, shape, height: int, width: int, patches, maps: dict, view: int) -> None:
    if not patches:
        return
    h, w = next(iter(maps.values())).shape[1:3] if maps else shape[:2]
    for row, col in patches:
        if not (0 <= row < h and 0 <= col < w):
            raise ValueError(f"the mark (view {view}, row {row}, col {col}) lies outside the grid of {h}×{w} patches")
        from matplotlib.patches import Rectangle

        corner, size = (col * width / w, row * height / h), (width / w, height / h)
        for color, line in (("black", 3.5), ("white", 1.5)):  # seen on any ground
            ax.add_patch(Rectangle(corner, *size, fill=False, edgecolor=color, linewidth=line))


def _check_photos(images) -> None:
    if not isinstance(images, Tensor) or images.ndim != 4 or images.shape[1] != 3 or not len(images):
        shape = list(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise ValueError(f"photos must be a tensor [V, 3, H, W] in 0..1, not {shape}")
    if images.max() > 2:  # a little beyond 1 is drawn as 1
        raise ValueError(f"photos must lie in 0..1, and these go up to {images.max():.3g}: divide by 255")


def _array(colors: Tensor) -> np.ndarray:
    return colors.detach().cpu().float().clamp(0, 1).numpy()
