"""Click a pixel, see which depths the head considers there: bars drawn in the page itself, as click.py does.

The page gets the probabilities of every patch, in groups of neighboring bins and as bytes: 24×24 patches with 64 groups
are 37 kB.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..widgets.click import ClickMap, photo

__all__ = ["click_distribution"]


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
            center.
        groups: bars; neighboring bins are added up.
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
    middle = torch.zeros(h, w) if truth is None else _centers(truth.detach().cpu().float(), h, w)
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
    chart_style = "display:none;flex:0 1 420px;min-width:0;align-self:flex-start;height:auto"
    body = (
        '<div style="display:flex;flex-wrap:wrap;gap:.8em">'
        f"{photo(image, 'the photo, to be clicked', f'flex:0 1 {width}px;align-self:flex-start')}"
        f'<canvas width="420" height="260" style="{chart_style}"></canvas></div>'
    )
    controls = "<b>Click the photo.</b> <output></output>"
    text = f"a photo to click on, {h}×{w} patches, {groups} bars each; needs a browser. Largest error of a bar: {worst:.3f}"
    return ClickMap("bins", controls, body, text, worst, shape=shape, depths=depths, codes=codes)


def _centers(depth: Tensor, h: int, w: int) -> Tensor:  # [H, W] -> [h, w]
    rows, columns = ((torch.arange(n) + 0.5) / n * size for n, size in zip((h, w), depth.shape))
    return depth[rows.long()][:, columns.long()]
