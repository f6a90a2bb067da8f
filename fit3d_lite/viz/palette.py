"""Numbers as colors: labels, depths and similarities, in colors that people with any color vision tell apart."""

import functools
import math

import numpy as np
import torch
from torch import Tensor

__all__ = ["color_depth", "color_labels", "color_map", "color_mistakes", "color_position", "palette"]

# Okabe and Ito's colors, told apart with any color vision; yellow is last, being faint on white.
COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#F0E442"]
IGNORE = 255  # the label of a pixel that belongs to no class
# Color vision deficiency as a matrix on linear RGB, severity 1.0: Machado, Oliveira, Fernandes 2009, table 1.
VISIONS = np.array([
    np.eye(3),
    [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
])  # fmt: skip
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
WHITE = np.array([0.9505, 1.0, 1.089])
# One map for one kind of number, so that a reader knows the kind by its colors. All rise evenly in lightness.
MAPS = {"similarity": "viridis", "depth": "viridis_r", "error": "magma", "confidence": "cividis"}
# Corners of a sheet of colors: dark and bright, blue and orange. Blue against yellow is what red-green blind eyes keep.
CORNERS = torch.tensor([[[0.05, 0.16, 0.50], [0.42, 0.19, 0.0]], [[0.55, 0.84, 1.0], [1.0, 0.85, 0.30]]])
RIGHT, WRONG = (0.80, 0.80, 0.80), (0.84, 0.37, 0.0)


def seen(
    rgb: np.ndarray,  # [n, 3] sRGB in 0..1
) -> np.ndarray:
    """[4, n, 3] CIELAB colors as normal, protan, deutan and tritan eyes see them; distances there are what is seen."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = np.clip(np.einsum("kij,nj->kni", VISIONS, linear), 0, 1) @ TO_XYZ.T / WHITE
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], -1)


@functools.lru_cache
def _palette(n: int) -> np.ndarray:
    # Okabe and Ito's first (not their black, which reads as "nothing"); then, one by one, the color that lies
    # farthest from all chosen so far for the eye that tells them apart worst.
    start = [tuple(int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)) for c in COLORS if c != "#000000"]
    steps = np.linspace(0, 1, 13)
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
    lightness = seen(grid)[0, :, 0]
    grid = grid[(lightness > 25) & (lightness < 92)]  # neither black nor white: both are backgrounds
    lab, chosen = seen(grid), np.array(start)
    nearest = np.linalg.norm(lab[:, :, None] - seen(chosen)[:, None], axis=-1).min((0, 2))
    while len(chosen) < n:
        best = nearest.argmax()
        chosen = np.concatenate([chosen, grid[best : best + 1]])
        nearest = np.minimum(nearest, np.linalg.norm(lab - lab[:, best : best + 1], axis=-1).min(0))
    return chosen[:n]


def palette(n: int) -> Tensor:
    """[n, 3] distinct colors in 0..1: the first seven are Okabe and Ito's, and every longer one begins with a shorter.

    Raises:
        ValueError: n is not from 1 to 64, more than eyes can tell apart.
    """
    if not 1 <= n <= 64:
        raise ValueError(f"a palette of {n} colors is asked for; 1 to 64 can be told apart")
    return torch.from_numpy(_palette(n).copy()).float()


def color_labels(
    labels: Tensor,  # [..., H, W] whole numbers; 255 = none
) -> Tensor:
    """[..., H, W, 3] colors of labels or clusters; a pixel without a label is light grey."""
    if labels.is_floating_point() or labels.min() < 0:
        raise ValueError(f"labels must be whole numbers from 0, not {labels.dtype} from {labels.min().item():g}")
    labels = labels.cpu().long()
    none = labels == IGNORE
    shown = labels.masked_fill(none, 0)
    colors = palette(shown.max().item() + 1)[shown]
    return torch.where(none[..., None], torch.tensor(0.85), colors)


def color_map(
    values: Tensor,  # [..., H, W]
    low: float | None = None,
    high: float | None = None,
    name: str = "viridis",
) -> Tensor:
    """[..., H, W, 3] colors of numbers, perceptually even; the limits are the smallest and largest unless given."""
    import matplotlib

    values = values.detach().cpu().float()
    finite = values[values.isfinite()]
    if not len(finite):
        raise ValueError(f"there is nothing to color: none of {values.numel()} values is finite")
    low = finite.min().item() if low is None else low
    high = finite.max().item() if high is None else high
    span = high - low if high > low else math.inf
    scaled = ((values.nan_to_num(low) - low) / span).clamp(0, 1)
    return torch.from_numpy(matplotlib.colormaps[name](scaled.numpy())[..., :3]).float()


def color_depth(
    depths: Tensor,  # [..., H, W] metres, 0 = unknown
    near: float | None = None,
    far: float | None = None,
) -> Tensor:
    """[..., H, W, 3] colors of depths, near bright and far dark; unknown is light grey. Limits: 1 and 99 %."""
    depths = depths.detach().cpu().float()
    known = depths > 0
    if not known.any():
        raise ValueError(f"there is nothing to color: none of {depths.numel()} depths is known (above 0)")
    some = depths[known][:: max(1, known.sum().item() // 1_000_000)]
    near = torch.quantile(some, 0.01).item() if near is None else near
    far = torch.quantile(some, 0.99).item() if far is None else far
    return torch.where(known[..., None], color_map(depths, near, far, MAPS["depth"]), torch.tensor(0.85))


def color_mistakes(
    guess: Tensor,  # [..., H, W] whole numbers
    truth: Tensor,  # [..., H, W] whole numbers, 255 = none
) -> Tensor:
    """[..., H, W, 3] grey where the guess is right, vermilion where it is wrong, white where there is no truth."""
    if guess.shape != truth.shape or guess.is_floating_point() or truth.is_floating_point():
        raise ValueError(
            f"guess and truth must be whole numbers of one shape, not {guess.dtype} {list(guess.shape)} "
            f"and {truth.dtype} {list(truth.shape)}"
        )
    guess, truth = guess.cpu(), truth.cpu()
    colors = torch.where((guess == truth)[..., None], torch.tensor(RIGHT), torch.tensor(WRONG))
    return torch.where((truth == IGNORE)[..., None], torch.tensor(1.0), colors)


def color_position(
    points: Tensor,  # [..., 3] metres
) -> Tensor:
    """[..., 3] colors of places: blue to orange along one direction of the scene, dark to bright along the other.

    The two directions are those in which the points spread most, for a room usually its floor plan; the third is not
    shown. Two directions are what colors can carry for every color vision: a third would need red against green.

    Raises:
        ValueError: not [..., 3], fewer than three points, or points that are not finite.
    """
    flat = points.detach().cpu().double().reshape(-1, points.shape[-1])
    if points.shape[-1] != 3 or len(flat) < 3 or not flat.isfinite().all():
        raise ValueError(f"places must be finite points [..., 3], at least three, not {list(points.shape)}")
    flat = flat - flat.mean(0)
    axes = torch.linalg.eigh(flat.T @ flat).eigenvectors.flip(1)[:, :2]
    axes = axes * torch.where(axes.abs().max(0).values == axes.max(0).values, 1.0, -1.0)  # the sign of the larger part
    x = flat @ axes
    some = x[:: max(1, len(x) // 1_000_000)]
    low, high = torch.quantile(some, torch.tensor([0.02, 0.98]).double(), dim=0)
    u, v = ((x - low) / (high - low).clamp_min(1e-9)).clamp(0, 1).float().unbind(1)
    u, v = u[:, None], v[:, None]
    rows = [row[0] * (1 - u) + row[1] * u for row in CORNERS]
    return (rows[0] * (1 - v) + rows[1] * v).reshape(points.shape)
