"""Points to turn with the mouse, in one piece of HTML: no kernel, no network, no package, no WebGL.

A browser draws thirty thousand points on a plain canvas many times a second, so this needs some sixty lines of script
where plotly would put its whole library, five megabytes, into the notebook. Sent are positions as 16 bits a number and
colours as 8. Its static twin is the same markup: where scripts do not run, a picture from the first place stands
there, drawn here by the same formulas.
"""

from __future__ import annotations

import html
import json

import numpy as np
import torch
from torch import Tensor

from ..viz.paths import axes_of, ball_around
from .slider import as_base64, as_picture, jpeg_uri

__all__ = ["PointView", "point_view"]

WIDTH, HEIGHT = 720, 460  # pixels of the canvas
FOCAL = 1.1 * HEIGHT
REACH = 1.5  # radii; what lies farther out is left away, since it would make all else small

# The unit of length is the radius of the points; z is up, and the eye looks at the origin from the distance `far`.
SCRIPT = """
document.querySelectorAll('.f3d-points:not([data-on])').forEach(box => {
  box.dataset.on = 1;
  const bytes = text => Uint8Array.from(atob(text), c => c.charCodeAt(0));
  const {W, H, focal, reach, dot, low, high, view} = JSON.parse(box.dataset.shape);
  const codes = new Uint16Array(bytes(box.dataset.places).buffer), count = codes.length / 3;
  const place = Float32Array.from(codes, c => (c / 32767.5 - 1) * reach);
  const buttons = [...box.querySelectorAll('button')], paints = buttons.map(b => bytes(b.dataset.colors));
  const canvas = box.querySelector('canvas'), context = canvas.getContext('2d');
  const shot = context.createImageData(W, H), pixels = new Uint32Array(shot.data.buffer), nearest = new Float32Array(W * H);
  const [front, top] = box.querySelectorAll('input');
  let {yaw, pitch, far} = view, shown = 0, waiting = false;
  const draw = () => {
    waiting = false;
    pixels.fill(0); nearest.fill(1e9);
    const cy = Math.cos(yaw), sy = Math.sin(yaw), cp = Math.cos(pitch), sp = Math.sin(pitch), paint = paints[shown];
    const start = Math.max(0.05, front.value > 0 ? far - 1 + +front.value : 0), roof = high - top.value * (high - low);
    for (let i = 0; i < count; i++) {
      const x = place[3 * i], y = place[3 * i + 1], z = place[3 * i + 2];
      const depth = far - cp * cy * x - cp * sy * y - sp * z;
      if (depth < start || (top.value > 0 && z > roof)) continue;
      const u = W / 2 + focal * (cy * y - sy * x) / depth, v = H / 2 + focal * (sp * (cy * x + sy * y) - cp * z) / depth;
      const half = Math.min(14, Math.max(1, dot * focal / depth)) / 2;
      const l = Math.max(0, Math.round(u - half)), r = Math.min(W, Math.round(u + half));
      const t = Math.max(0, Math.round(v - half)), b = Math.min(H, Math.round(v + half));
      const color = 0xff000000 | paint[3 * i + 2] << 16 | paint[3 * i + 1] << 8 | paint[3 * i];
      for (let q = t; q < b; q++) for (let p = l; p < r; p++)
        if (depth < nearest[q * W + p]) { nearest[q * W + p] = depth; pixels[q * W + p] = color; }
    }
    context.putImageData(shot, 0, 0);
    buttons.forEach((b, i) => b.style.background = i == shown ? 'rgba(128,128,128,.35)' : 'none');
  };
  const soon = () => { if (!waiting) { waiting = true; requestAnimationFrame(draw); } };
  const turn = (a, b) => { yaw += a; pitch = Math.min(1.55, Math.max(-1.55, pitch + b)); soon(); };
  const come = factor => { far = Math.min(12, Math.max(0.1, far * factor)); soon(); };
  canvas.onpointerdown = e => canvas.setPointerCapture(e.pointerId);
  canvas.onpointermove = e => { if (e.buttons) turn(-e.movementX / 150, e.movementY / 150); };
  canvas.onwheel = e => { e.preventDefault(); come(Math.exp(e.deltaY / 900)); };
  canvas.onkeydown = e => {
    const step = {ArrowLeft: [.1, 0], ArrowRight: [-.1, 0], ArrowUp: [0, .1], ArrowDown: [0, -.1]}[e.key];
    if (step) { e.preventDefault(); turn(...step); }
    if (e.key == '+') come(.9);
    if (e.key == '-') come(1.1);
  };
  buttons.forEach((b, i) => b.onclick = () => { shown = i; soon(); });
  front.oninput = top.oninput = soon;
  box.querySelector('img').style.display = 'none';
  canvas.style.display = 'block';
  box.querySelector('.f3d-bar').style.display = 'flex';
  draw();
});
"""


class PointView:
    """Points that turn; a notebook shows it as HTML. ``still`` is the picture [H, W, 3] that stands for it elsewhere."""

    def __init__(self, markup: str, text: str, still: Tensor):
        self._markup, self._text, self.still = markup, text, still

    def _repr_html_(self) -> str:
        return self._markup

    def __repr__(self) -> str:
        return self._text


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
        at_most: points that are kept, a random draw; 25,000 with three sets of colours are half a megabyte.
        cut_front: how much is cut away between the front (0) and the middle (1): it opens the near wall of a room.
        cut_top: how much of the height is cut away from above, 0 to 1: it lifts the ceiling off.
        yaw, pitch: degrees, from where the points are seen at first.
        zoom: 1 fits the points into the picture.
        seed: of the draw.

    Raises:
        ValueError: points that are not [N, 3] or not finite, colours of another length or outside 0..1, numbers out of
        range.
    """
    sets = colors if isinstance(colors, dict) else {"colour": colors}
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
        "dot": 4.6 / len(chosen) ** 0.5,  # as wide as neighbours on a surface are apart, roughly
        "view": {"yaw": np.radians(yaw), "pitch": np.radians(pitch), "far": 1.8 / zoom},
    }  # fmt: skip
    # From the numbers that are sent, so that the still shows what the page will.
    still = _still((codes / 32767.5 - 1) * REACH, next(iter(paints.values())), shape, cut_front, cut_top)
    text = f"{len(chosen):,} points to turn, coloured by {', '.join(sets)}; needs a browser"
    photo = jpeg_uri(as_picture(still), 60)
    markup = _markup(shape, as_base64(codes.numpy().astype("<u2")), paints, photo, text, cut_front, cut_top)
    return PointView(markup, text, still)


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


def _markup(shape: dict, places: str, paints: dict, still: str, text: str, cut_front: float, cut_top: float) -> str:
    style = "background:none;color:inherit;border:1px solid rgba(128,128,128,.6);border-radius:4px;padding:.2em .7em"
    buttons = "".join(
        f'<button type="button" style="{style}" data-colors="{as_base64(paint.numpy())}">{html.escape(name)}</button>'
        for name, paint in paints.items()
    )
    sliders = "".join(
        f'<label>{said} <input type="range" min="0" max="1" step="0.01" value="{value:g}" '
        f'style="vertical-align:middle;width:7em"></label>'
        for said, value in (("cut the front", cut_front), ("cut the top", cut_top))
    )
    said = html.escape(f"{text}. Drag to turn, wheel to come closer.", True)
    return (
        f'<div class="f3d-points" style="color:inherit;font-family:system-ui,sans-serif;max-width:{WIDTH}px" '
        f'data-shape="{html.escape(json.dumps(shape), True)}" data-places="{places}">'
        '<div class="f3d-bar" style="display:none;flex-wrap:wrap;gap:.6em;align-items:center;margin:.3em 0">'
        f'{buttons}{sliders}<span style="opacity:.7">drag · wheel · arrows</span></div>'
        f'<canvas width="{WIDTH}" height="{HEIGHT}" tabindex="0" role="img" aria-label="{said}" '
        'style="display:none;width:100%;touch-action:none;cursor:grab"></canvas>'
        f'<img src="{still}" alt="{said}" style="width:100%;margin:0"></div><script>{SCRIPT}</script>'
    )


def _check(points: Tensor, sets: dict, at_most: int, cut_front: float, cut_top: float, pitch: float, zoom: float) -> None:
    if points.ndim != 2 or points.shape[-1] != 3 or len(points) < 2 or not points.isfinite().all():
        raise ValueError(f"points must be finite and [N, 3] with N ≥ 2, not {list(points.shape)}")
    if not sets:
        raise ValueError("there are no colours: give [N, 3], or a dict of such")
    for name, colors in sets.items():
        if tuple(colors.shape) != tuple(points.shape) or colors.min() < 0 or colors.max() > 1:
            raise ValueError(
                f"the colours {name!r} must be {list(points.shape)} in 0..1, not {list(colors.shape)} "
                f"from {colors.min().item():.3g} to {colors.max().item():.3g}"
            )
    if at_most < 1 or not 0 <= cut_front <= 1 or not 0 <= cut_top <= 1 or abs(pitch) > 89 or zoom <= 0:
        raise ValueError(
            "a point view needs at_most ≥ 1, cuts in 0..1, pitch within ±89 degrees and zoom > 0; "
            f"got {at_most}, {cut_front:g}, {cut_top:g}, {pitch:g} and {zoom:g}"
        )
