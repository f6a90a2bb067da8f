"""Click a pixel, see which depths the head considers there: bars drawn in the page itself, as click.py does.

The page gets the probabilities of every patch, in groups of neighbouring bins and as bytes: 24×24 patches with 64 groups
are 37 kB.
"""

import base64
import html
import json

import torch
import torch.nn.functional as F
from torch import Tensor

from ..widgets.slider import as_picture, jpeg_uri
from .click import ClickMap

__all__ = ["click_distribution"]

SCRIPT = """
document.querySelectorAll('.f3d-bins:not([data-on])').forEach(box => {
  box.dataset.on = 1;
  const bytes = text => Uint8Array.from(atob(text), c => c.charCodeAt(0));
  const {h, w, groups, edges, row, col} = JSON.parse(box.dataset.shape);
  const codes = bytes(box.dataset.codes), [mean, truth] = JSON.parse(box.dataset.depths);
  const photo = box.querySelector('img'), said = box.querySelector('output'), chart = box.querySelector('canvas');
  const spot = document.createElement('div');
  spot.style = 'position:absolute;border:2px solid #fff;outline:2px solid #000;pointer-events:none;box-sizing:border-box';
  spot.style.width = 100 / w + '%'; spot.style.height = 100 / h + '%';
  photo.parentElement.append(spot);
  const draw = (r, c) => {
    spot.style.left = 100 * c / w + '%'; spot.style.top = 100 * r / h + '%';
    const at = r * w + c, pen = chart.getContext('2d'), W = chart.width, H = chart.height - 22;
    const x = depth => (depth - edges[0]) / (edges[groups] - edges[0]) * W;
    pen.fillStyle = '#fff'; pen.fillRect(0, 0, W, chart.height);
    let top = 1;
    for (let g = 0; g < groups; g++) top = Math.max(top, codes[at * groups + g]);
    pen.fillStyle = '#56B4E9';
    for (let g = 0; g < groups; g++) {
      const high = H * 0.9 * codes[at * groups + g] / top;
      pen.fillRect(x(edges[g]) + 0.5, H - high, x(edges[g + 1]) - x(edges[g]) - 1, high);
    }
    const line = (depth, colour, dash) => {
      if (depth <= 0) return;
      pen.strokeStyle = colour; pen.lineWidth = 2.5; pen.setLineDash(dash); pen.beginPath();
      pen.moveTo(x(depth), 0); pen.lineTo(x(depth), H); pen.stroke();
    };
    line(mean[at], '#D55E00', []); line(truth[at], '#000', [7, 4]);
    pen.fillStyle = '#000'; pen.font = '13px system-ui, sans-serif'; pen.textAlign = 'center';
    const whole = Math.floor(edges[groups]), step = Math.max(1, Math.round(whole / 6));
    for (let m = Math.ceil(edges[0]); m <= whole; m += step)
      pen.fillText(m + ' m', Math.min(W - 16, Math.max(14, x(m))), H + 17);
    const known = truth[at] > 0 ? truth[at].toFixed(2) + ' m' : 'unknown';
    said.textContent = `row ${r}, col ${c}: mean ${mean[at].toFixed(2)} m (orange), truth ${known} (dashed)`;
  };
  photo.onclick = event => {
    const at = photo.getBoundingClientRect();
    const cell = (x, n) => Math.min(n - 1, Math.max(0, Math.floor(x * n)));
    draw(cell((event.clientY - at.top) / at.height, h), cell((event.clientX - at.left) / at.width, w));
  };
  box.querySelector('.f3d-bar').style.display = 'block';
  chart.style.display = 'block';
  draw(row, col);
});
"""


def click_distribution(
    image: Tensor,  # [3, H, W] in 0..1
    probabilities: Tensor,  # [K, h, w], sums to 1 over K
    bins: Tensor,  # [K] metres, increasing
    truth: Tensor | None = None,  # [H, W] metres, 0 = unknown
    at: tuple[int, int] = (0, 0),
    grid: tuple[int, int] = (24, 24),
    groups: int = 64,
    width: int = 380,
) -> ClickMap:
    """HTML in which a click on the photo shows the distribution over depths there, its mean, and the true depth.

    Where scripts do not run, the photo alone is seen: draw the distribution of one pixel as its static twin.

    Args:
        at: patch (row, col) chosen at first.
        grid: patches (rows, columns) that can be clicked; probabilities are averaged over each, depths taken at its
            centre.
        groups: bars; neighbouring bins are added up.
        width: of the photo, in pixels of the page.

    Raises:
        ValueError: shapes that disagree, probabilities that do not sum to 1, a patch outside the grid.
    """
    count = len(bins)
    if probabilities.ndim != 3 or len(probabilities) != count:
        raise ValueError(f"probabilities must be [{count}, h, w] for {count} bins, not {list(probabilities.shape)}")
    probabilities = probabilities.detach().cpu().float()
    if (off := (probabilities.sum(0) - 1).abs().max().item()) > 1e-3:
        raise ValueError(f"probabilities sum to 1 ± {off:.2g} over the bins; are these the scores?")
    h, w = grid
    if not (0 <= at[0] < h and 0 <= at[1] < w):
        raise ValueError(f"patch {tuple(at)} lies outside the grid of {h}×{w}")
    groups, bins = min(groups, count), bins.detach().cpu().float()
    small = F.adaptive_avg_pool2d(probabilities, grid)
    mean = (small * bins[:, None, None]).sum(0)
    middle = torch.zeros(h, w) if truth is None else _centres(truth.detach().cpu().float(), h, w)
    # Every bin belongs to the group it falls into; bars stand on equal parts of the range.
    edges = torch.linspace(bins[0].item(), bins[-1].item(), groups + 1)
    member = torch.bucketize(bins, edges[1:-1], right=True)
    bars = torch.zeros(groups, h, w).index_add_(0, member, small).movedim(0, -1)  # [h, w, groups]
    # Each patch is scaled to its own highest bar, as it is drawn, so bytes lose nothing that could be seen.
    bars = bars / bars.amax(-1, keepdim=True).clamp_min(1e-12)
    codes = (bars * 255).round().to(torch.uint8)
    worst = (codes / 255 - bars).abs().max().item()
    shape = dict(h=h, w=w, groups=groups, edges=[round(e, 4) for e in edges.tolist()], row=at[0], col=at[1])
    depths = [[round(v, 3) for v in values.flatten().tolist()] for values in (mean, middle)]
    data = {
        "shape": html.escape(json.dumps(shape), True),
        "depths": html.escape(json.dumps(depths), True),
        "codes": base64.b64encode(codes.numpy().tobytes()).decode(),
    }
    attributes = " ".join(f'data-{key}="{value}"' for key, value in data.items())
    photo = (
        f'<div style="position:relative;flex:0 1 {width}px;align-self:flex-start">'
        f'<img src="{jpeg_uri(as_picture(image.detach().movedim(0, -1)))}" alt="the photo, to be clicked" '
        f'style="width:100%;display:block;margin:0;cursor:crosshair"></div>'
    )
    bar = '<div class="f3d-bar" style="display:none;margin:.3em 0"><b>Click the photo.</b> <output></output></div>'
    style = "display:none;flex:0 1 420px;min-width:0;align-self:flex-start;height:auto"
    chart = f'<canvas width="420" height="260" style="{style}"></canvas>'
    box = f'<div class="f3d-bins" style="color:inherit;font-family:system-ui,sans-serif" {attributes}>'
    strip = f'<div style="display:flex;flex-wrap:wrap;gap:.8em">{photo}{chart}</div>'
    text = f"a photo to click on, {h}×{w} patches, {groups} bars each; needs a browser. Largest error of a bar: {worst:.3f}"
    return ClickMap(f"{box}{bar}{strip}</div><script>{SCRIPT}</script>", text, worst)


def _centres(depth: Tensor, h: int, w: int) -> Tensor:  # [H, W] -> [h, w]
    rows, columns = ((torch.arange(n) + 0.5) / n * size for n, size in zip((h, w), depth.shape))
    return depth[rows.long()][:, columns.long()]
