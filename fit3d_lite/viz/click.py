"""Click a patch, see what is similar: computed in the page itself, so it lives on in a saved notebook.

A cosine is a product of two unit vectors. Sent to the page are these vectors along their main directions, as bytes:
with 48 of them some ten kilobytes carry what a table of all pairs would need megabytes for.
"""

import html
import json

import torch
import torch.nn.functional as F
from torch import Tensor

from ..widgets.slider import as_base64, as_picture, jpeg_uri
from .palette import color_map
from .pca import check_features

__all__ = ["ClickMap", "click_similarity"]

# Photos stand in rows, one row a model; the n-th photo of every row is the same view.
SCRIPT = """
document.querySelectorAll('.f3d-click:not([data-on])').forEach(box => {
  box.dataset.on = 1;
  const bytes = text => Uint8Array.from(atob(text), c => c.charCodeAt(0));
  const {views, h, w, row, col, view} = JSON.parse(box.dataset.shape);
  const ramp = bytes(box.dataset.ramp), strength = box.querySelector('input'), said = box.querySelector('output');
  const models = [...box.querySelectorAll('.f3d-model')].map(strip => {
    const codes = new Int8Array(bytes(strip.dataset.codes).buffer), dims = codes.length / (views * h * w);
    const layers = [...strip.querySelectorAll('img')].map(photo => {
      const layer = document.createElement('canvas');
      layer.width = w; layer.height = h;
      layer.style = 'position:absolute;inset:0;width:100%;height:100%;image-rendering:pixelated;cursor:crosshair';
      photo.parentElement.append(layer);
      return layer;
    });
    return {codes, dims, layers};
  });
  const cosine = ({codes, dims}, a, b) => {
    let ab = 0, aa = 0, bb = 0;
    for (let k = 0; k < dims; k++) {
      const x = codes[a * dims + k], y = codes[b * dims + k];
      ab += x * y; aa += x * x; bb += y * y;
    }
    return ab / Math.sqrt(aa * bb || 1);
  };
  let seed = [view, row, col];
  const draw = () => {
    const asked = seed[0] * h * w + seed[1] * w + seed[2];
    models.forEach(model => model.layers.forEach((layer, v) => {
      const context = layer.getContext('2d'), shot = context.createImageData(w, h);
      for (let i = 0; i < h * w; i++) {
        const at = Math.round(255 * Math.max(0, cosine(model, asked, v * h * w + i)));
        shot.data.set([ramp[3 * at], ramp[3 * at + 1], ramp[3 * at + 2], strength.value * 2.55], 4 * i);
      }
      if (v == seed[0]) shot.data.set([255, 0, 80, 255], 4 * (seed[1] * w + seed[2]));
      context.putImageData(shot, 0, 0);
    }));
    said.textContent = `view ${seed[0]}, row ${seed[1]}, col ${seed[2]}`;
  };
  models.forEach(model => model.layers.forEach((layer, v) => layer.onclick = event => {
    const at = layer.getBoundingClientRect();
    const cell = (x, n) => Math.min(n - 1, Math.max(0, Math.floor(x * n)));
    seed = [v, cell((event.clientY - at.top) / at.height, h), cell((event.clientX - at.left) / at.width, w)];
    draw();
  }));
  strength.oninput = draw;
  box.querySelector('.f3d-bar').style.display = 'flex';
  draw();
});
"""


class ClickMap:
    """Photos to click on; ``worst`` is the largest error of a cosine that the short code makes."""

    def __init__(self, markup: str, text: str, worst: float):
        self._markup, self._text, self.worst = markup, text, worst

    def _repr_html_(self) -> str:
        return self._markup

    def __repr__(self) -> str:
        return self._text


def click_similarity(
    images: Tensor,  # [V, 3, H, W] in 0..1
    feats: Tensor | dict[str, Tensor],  # [V, C, h, w]; several models', by name, stand under each other
    at: tuple[int, int, int] = (0, 0, 0),
    dims: int = 48,
    width: int = 380,
) -> ClickMap:
    """HTML in which a click on any photo colours every patch of all photos by its cosine similarity to the clicked one,
    by each model's features.

    Where scripts do not run, the photos alone are seen; ``compare`` with ``similarity`` is the static twin.

    Args:
        at: patch (view, row, col) chosen at first.
        dims: numbers kept per patch.
        width: of one photo, in pixels of the page.

    Raises:
        ValueError: photos and features disagree in number, models on different grids, no such patch, dims below 1.
    """
    models = feats if isinstance(feats, dict) else {"": feats}
    for name, tensor in models.items():
        check_features(tensor, name, channels=1)
        if len(images) != len(tensor):
            raise ValueError(f"{len(images)} photos with features of {len(tensor)}")
    grids = {tuple(tensor.shape[2:]) for tensor in models.values()}
    if len(grids) != 1:
        raise ValueError(f"a click asks all models for one patch, and their grids are {sorted(grids) or 'none'}")
    views, (h, w) = len(images), grids.pop()
    if not (0 <= at[0] < views and 0 <= at[1] < h and 0 <= at[2] < w) or dims < 1:
        raise ValueError(f"patch {tuple(at)} with {dims} numbers; there are {views} views of {h}×{w} patches")
    coded = {name: codes_of(f, min(dims, f.shape[1], views * h * w)) for name, f in models.items()}
    worst = max(error for _, error in coded.values())
    shape = dict(views=views, h=h, w=w, view=at[0], row=at[1], col=at[2])
    ramp = (color_map(torch.linspace(0, 1, 256)[None], 0, 1)[0] * 255).round().to(torch.uint8)
    photos = "".join(
        f'<div style="position:relative;flex:0 1 {width}px"><img src="{jpeg_uri(as_picture(image.movedim(0, -1)))}" '
        f'alt="view {v}, to be clicked" style="width:100%;display:block;margin:0"></div>'
        for v, image in enumerate(images)
    )
    strips = "".join(
        f'{f"<div>{html.escape(name)}</div>" if name else ""}<div class="f3d-model" data-codes="{as_base64(codes)}" '
        f'style="display:flex;flex-wrap:wrap;gap:.5em;margin-bottom:.4em">{photos}</div>'
        for name, (codes, _) in coded.items()
    )
    bar = (
        '<div class="f3d-bar" style="display:none;gap:1em;align-items:center;margin:.3em 0"><b>Click a patch.</b>'
        '<label>overlay <input type="range" min="0" max="100" value="70" style="vertical-align:middle"></label>'
        "<output></output></div>"
    )
    attributes = f'data-shape="{html.escape(json.dumps(shape), True)}" data-ramp="{as_base64(ramp)}"'
    box = f'<div class="f3d-click" style="color:inherit;font-family:system-ui,sans-serif" {attributes}>'
    text = f"{views} photos to click on, {h}×{w} patches; needs a browser. Largest error of a cosine: {worst:.3f}"
    return ClickMap(f"{box}{bar}{strips}</div><script>{SCRIPT}</script>", text, worst)


def codes_of(feats: Tensor, dims: int) -> tuple[Tensor, float]:
    """[patches, dims] int8, whose cosines are those of the features up to the returned largest error."""
    unit = F.normalize(feats.detach().cpu().float(), dim=1).movedim(1, -1).reshape(-1, feats.shape[1])
    # Not centred: the best approximation of all products at once is by the largest singular vectors (Eckart, Young).
    values, vectors = torch.linalg.eigh((unit.T @ unit).double())
    short = unit.double() @ vectors[:, -dims:]
    codes = (short / short.abs().max().clamp_min(1e-12) * 127).round().to(torch.int8)
    some = torch.arange(0, len(unit), max(1, len(unit) // 400))
    exact, coded = unit[some] @ unit.T, F.normalize(codes.float(), dim=1)
    return codes, (coded[some] @ coded.T - exact).abs().max().item()
