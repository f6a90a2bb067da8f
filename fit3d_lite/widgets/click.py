"""What photos to click on share: features as codes short enough for a page, and the photos' markup.

A cosine is a product of two unit vectors. Sent to the page are these vectors along their main directions, as bytes:
with 48 of them some ten kilobytes carry what a table of all pairs would need megabytes for.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .page import Widget
from .pictures import as_picture, jpeg_uri

__all__ = ["ClickMap", "codes_of", "photo", "ramp"]


class ClickMap(Widget):
    """Photos to click on; ``worst`` is the largest error that the short codes make in what the page shows."""

    def __init__(self, kind: str, controls: str, body: str, text: str, worst: float, **data):
        super().__init__(kind, controls, body, text, width="none", **data)
        self.worst = worst


def codes_of(
    feats: Tensor,  # [V, C, h, w]
    dims: int,
) -> tuple[Tensor, float]:
    """[V·h·w, dims] int8, whose cosines are those of the features up to the returned largest error."""
    unit = F.normalize(feats.detach().cpu().float(), dim=1).movedim(1, -1).reshape(-1, feats.shape[1])
    # Not centered: the best approximation of all products at once is by the largest singular vectors (Eckart, Young).
    values, vectors = torch.linalg.eigh((unit.T @ unit).double())
    short = unit.double() @ vectors[:, -dims:]
    codes = (short / short.abs().max().clamp_min(1e-12) * 127).round().to(torch.int8)
    some = torch.arange(0, len(unit), max(1, len(unit) // 400))
    exact, coded = unit[some] @ unit.T, F.normalize(codes.float(), dim=1)
    return codes, (coded[some] @ coded.T - exact).abs().max().item()


def ramp() -> np.ndarray:
    """[256, 3] uint8, the colors of similarity from low to high."""
    import matplotlib

    return (matplotlib.colormaps["viridis"](np.arange(256))[:, :3] * 255).round().astype(np.uint8)


def photo(
    image: Tensor,  # [3, H, W] in 0..1
    alt: str,
    style: str = "",
) -> str:
    """Markup of a photo on which page.js can lay maps and marks."""
    return (
        f'<div style="position:relative;overflow:hidden;{style}"><img src="{jpeg_uri(as_picture(image.movedim(0, -1)))}" '
        f'alt="{alt}" style="width:100%;display:block;margin:0"></div>'
    )
