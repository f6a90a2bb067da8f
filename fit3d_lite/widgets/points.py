"""Points to turn with the mouse.

A browser draws thirty thousand points on a plain canvas many times a second, so this needs some fifty lines of script
where plotly would put its whole library, five megabytes, into the notebook. Sent are positions as 16 bits a number and
colors as 8. Where scripts do not run, a picture from the first place stands there, drawn here by the same formulas.
"""

from __future__ import annotations

import html

import numpy as np
import torch
from torch import Tensor

from ..scenes.space import axes_of, ball_around
from .page import Widget, attributes, slider
from .pictures import as_picture, jpeg_uri

__all__ = ["PointView", "point_view"]

WIDTH, HEIGHT = 720, 460  # pixels of the canvas
FOCAL = 1.1 * HEIGHT
REACH = 1.5  # radii; what lies farther out is left away, since it would make all else small


class PointView(Widget):
    """Points that turn, made by :func:`point_view`. ``still`` is the picture [H, W, 3] that stands for it elsewhere."""

    still: Tensor


def point_view(
    points: Tensor,  # [N, 3] metres
    colors: Tensor | dict[str, Tensor],  # [N, 3] in 0..1; several, by name, get a button each
    up=(0.0, 0.0, 1.0),
    at_most: int = 25_000,
    cut_front: float = 0.0,
    cut_top: float = 0.0,
    yaw: float = 35.0,
    pitch: float = 35.0,
    zoom: float = 1.0,
    seed: int = 0,
) -> PointView:
    """Points in a page: drag to turn, wheel to come closer, arrows, + and - by keyboard, two sliders to cut them open.

    Args:
        at_most: points that are kept, a random draw; 25,000 with three sets of colors are half a megabyte.
        cut_front: how much is cut away between the front (0) and the middle (1): it opens the near wall of a room.
        cut_top: how much of the height is cut away from above, 0 to 1: it lifts the ceiling off.
        yaw, pitch: degrees, from where the points are seen at first.
        zoom: 1 fits the points into the picture.
        seed: of the draw.

    Raises:
        ValueError: points that are not [N, 3] or not finite, colors of another length or outside 0..1, numbers out of
        range.
    """
    sets = colors if isinstance(colors, dict) else {"color": colors}
    _check(points, sets, at_most, cut_front, cut_top, pitch, zoom)
    middle, radius = ball_around(points)
    local = (points.detach().cpu().double() - middle) @ axes_of(up).T / max(radius, 1e-9)
    inside = np.flatnonzero((local.abs().max(1).values <= REACH).numpy())
    chosen = np.sort(np.random.default_rng(seed).permutation(inside)[:at_most])
    codes = ((local[chosen] / REACH + 1) * 32767.5).round()
    paints = {name: (c.detach().cpu()[chosen] * 255).round().to(torch.uint8) for name, c in sets.items()}
    heights = torch.quantile(local[chosen, 2], torch.tensor([0.01, 0.99]).double()).tolist()
    shape = {
        "W": WIDTH, "H": HEIGHT, "focal": FOCAL, "reach": REACH, "low": heights[0], "high": heights[1],
        "dot": 4.6 / len(chosen) ** 0.5,  # as wide as neighbors on a surface are apart, roughly
        "view": {"yaw": np.radians(yaw), "pitch": np.radians(pitch), "far": 1.8 / zoom},
    }  # fmt: skip
    # From the numbers that are sent, so that the still shows what the page will.
    still = _still((codes / 32767.5 - 1) * REACH, next(iter(paints.values())), shape, cut_front, cut_top)
    text = f"{len(chosen):,} points to turn, colored by {', '.join(sets)}; needs a browser"
    said = html.escape(f"{text}. Drag to turn, wheel to come closer.", True)
    look = "background:none;color:inherit;border:1px solid rgba(128,128,128,.6);border-radius:4px;padding:.2em .7em"
    buttons = "".join(
        f'<button type="button" style="{look}" {attributes(colors=paint)}>{html.escape(name)}</button>'
        for name, paint in paints.items()
    )
    sliders = slider("cut the front", 1, cut_front, 0.01) + slider("cut the top", 1, cut_top, 0.01)
    body = (
        f'<canvas width="{WIDTH}" height="{HEIGHT}" tabindex="0" role="img" aria-label="{said}" '
        'style="display:none;width:100%;touch-action:none;cursor:grab"></canvas>'
        f'<img src="{jpeg_uri(as_picture(still), 60)}" alt="{said}" style="width:100%;margin:0">'
    )
    controls = f'{buttons}{sliders}<span style="opacity:.7">drag · wheel · arrows</span>'
    places = codes.numpy().astype("<u2")
    view = PointView("points", controls, body, text, width=f"{WIDTH}px", shape=shape, places=places)
    view.still = still
    return view


def _still(places: Tensor, paint: Tensor, shape: dict, cut_front: float, cut_top: float) -> Tensor:  # [H, W, 3]
    """What the script draws at first, on white. places: [N, 3] radii, paint: [N, 3] uint8."""
    yaw, pitch, far = shape["view"].values()
    cy, sy, cp, sp = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch)
    x, y, z = places.numpy().T
    depth = far - cp * cy * x - cp * sy * y - sp * z
    start = max(0.05, far - 1 + cut_front if cut_front > 0 else 0.0)
    seen = (depth >= start) & ((cut_top == 0) | (z <= shape["high"] - cut_top * (shape["high"] - shape["low"])))
    order = np.flatnonzero(seen)
    order = order[np.argsort(-depth[order], kind="stable")]  # from far to near: the nearest is painted last
    x, y, z, depth, colors = x[order], y[order], z[order], depth[order], paint.numpy()[order]
    u = WIDTH / 2 + FOCAL * (cy * y - sy * x) / depth
    v = HEIGHT / 2 + FOCAL * (sp * (cy * x + sy * y) - cp * z) / depth
    half = np.clip(shape["dot"] * FOCAL / depth, 1, 14) / 2
    (left, right), (top, bottom) = ((np.floor(c - half + 0.5), np.floor(c + half + 0.5)) for c in (u, v))
    cells, owners = [], []
    widest = range(int(2 * half.max(initial=0)) + 2)
    for dq in widest:
        for dp in widest:
            q, p = (top + dq).astype(int), (left + dp).astype(int)
            hit = (q < bottom) & (p < right) & (q >= 0) & (q < HEIGHT) & (p >= 0) & (p < WIDTH)
            cells.append((q * WIDTH + p)[hit])
            owners.append(np.flatnonzero(hit))
    cells, owners = np.concatenate(cells), np.concatenate(owners)
    nearest = np.full(HEIGHT * WIDTH, -1)
    np.maximum.at(nearest, cells, owners)
    picture = np.where((nearest >= 0)[:, None], colors[nearest] if len(colors) else 255, 255)
    return torch.from_numpy(picture.reshape(HEIGHT, WIDTH, 3)).float() / 255


def _check(points: Tensor, sets: dict, at_most: int, cut_front: float, cut_top: float, pitch: float, zoom: float) -> None:
    if points.ndim != 2 or points.shape[-1] != 3 or len(points) < 2 or not points.isfinite().all():
        raise ValueError(f"points must be finite and [N, 3] with N ≥ 2, not {list(points.shape)}")
    if not sets:
        raise ValueError("there are no colors: give [N, 3], or a dict of such")
    for name, colors in sets.items():
        if tuple(colors.shape) != tuple(points.shape) or colors.min() < -1e-6 or colors.max() > 1 + 1e-6:  # a file rounds
            raise ValueError(
                f"the colors {name!r} must be {list(points.shape)} in 0..1, not {list(colors.shape)} "
                f"from {colors.min().item():.3g} to {colors.max().item():.3g}"
            )
    if at_most < 1 or not 0 <= cut_front <= 1 or not 0 <= cut_top <= 1 or abs(pitch) > 89 or zoom <= 0:
        raise ValueError(
            "a point view needs at_most ≥ 1, cuts in 0..1, pitch within ±89 degrees and zoom > 0; "
            f"got {at_most}, {cut_front:g}, {cut_top:g}, {pitch:g} and {zoom:g}"
        )
