"""What is particular to depth: which depths count, and the two losses of the depth probe, on logarithms of depth.

With d = log(prediction + ε) − log(truth + ε) at the pixels whose truth is known:
- SigLoss, the scale-invariant loss of Eigen et al. 2014 (eq. 4) as the root that AdaBins (Bhat et al. 2021, eq. 6)
  and FiT3D use: sqrt(var(d) + 0.15 mean(d)²). The variance does not see a common factor, so a map that is wrong by one
  scale pays only for 0.15 of its square.
- Gradient loss (MegaDepth, Li and Snavely 2018, eq. 5): the mean |difference of d between neighbours|, across and
  down, on the map and on three coarser ones. It asks for edges where the truth has them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["SPANS", "DepthSpan", "gradient_loss", "sig_loss", "span_of"]

EPSILON = 1e-3  # metres; keeps the logarithm finite
SCALES = (1, 2, 4, 8)  # every how many pixels the gradient loss looks
GRADIENT_WEIGHT = 0.5  # beside SigLoss (FiT3D's depth configuration)
FRAME_TOLERANCE = 0.01  # relative, in the ratio of height to width: resizing to whole patches moves it a little


@dataclass(frozen=True)
class DepthSpan:
    """Depths in ``low`` to ``high`` metres count, in training and in testing; bins and predictions lie between them.

    ``crop`` is (top, bottom, left, right) in pixels of a ``frame`` (height, width): tests count pixels inside only. It
    follows photos that are the same frame at another size.
    """

    low: float
    high: float
    crop: tuple[int, int, int, int] | None = None
    frame: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high:
            raise ValueError(f"A depth span needs 0 < low < high, got {self.low} and {self.high} metres.")
        if (self.crop is None) != (self.frame is None):
            raise ValueError("A crop needs the frame it is measured in, and a frame is there for a crop.")

    def check_frame(self, height: int, width: int) -> None:
        """Raise ValueError when photos of this size are not the whole frame that the crop is for."""
        if self.frame is None:
            return
        H, W = self.frame
        if abs(height / width * W / H - 1) > FRAME_TOLERANCE:
            raise ValueError(
                f"The test crop is for whole frames of {H}×{W} and these photos are {height}×{width} (H×W): give whole "
                f"frames, or, if they are cropped already, span=DepthSpan({self.low}, {self.high})."
            )

    def inside(self, height: int, width: int) -> Tensor:  # [H, W] bool: the pixels that tests count
        mask = torch.ones(height, width, dtype=torch.bool)
        if self.crop is None:
            return mask
        self.check_frame(height, width)
        top, bottom, left, right = self.crop
        down, across = height / self.frame[0], width / self.frame[1]
        mask[:] = False
        mask[round(top * down) : round(bottom * down), round(left * across) : round(right * across)] = True
        return mask


SPANS = {
    "rooms": DepthSpan(0.1, 8.0),  # procedural rooms; what 240 of them show lies between 0.2 and 6.4 m
    "nyu": DepthSpan(0.001, 10.0, (45, 471, 41, 601), (480, 640)),  # Eigen et al. 2014's crop
    "scannet": DepthSpan(0.001, 10.0),
    "scannetpp": DepthSpan(0.001, 20.0),
}


def span_of(span: str | DepthSpan) -> DepthSpan:
    """A span by the name of its data set, or as given. Raises ValueError for an unknown name."""
    if isinstance(span, DepthSpan):
        return span
    if span not in SPANS:
        raise ValueError(f"span must be one of {', '.join(SPANS)} or a DepthSpan, got {span!r}.")
    return SPANS[span]


def sig_loss(
    prediction: Tensor,  # [B, H, W] metres, > 0
    truth: Tensor,  # [B, H, W] metres, 0 = unknown
    warm_up: bool = False,
) -> Tensor:  # []
    """sqrt(var(d) + 0.15 mean(d)²) over all known pixels of the batch; ``warm_up`` leaves the variance out.

    In the first 100 steps FiT3D's configuration warms up: the root of the mean alone brings the scale of the maps
    right before their shape is asked for.
    """
    known = truth > 0
    d = torch.log(prediction[known] + EPSILON) - torch.log(truth[known] + EPSILON)
    scale = 0.15 * d.mean().square()
    # The root has no derivative at 0; the tiny number is far below any error of a real map.
    return (scale if warm_up else d.var() + scale).clamp(min=1e-12).sqrt()


def gradient_loss(
    prediction: Tensor,  # [B, H, W] metres, > 0
    truth: Tensor,  # [B, H, W] metres, 0 = unknown
) -> Tensor:  # []
    """Sum over scales 1, 2, 4, 8 of (Σ |∂x d| + Σ |∂y d|) / known pixels; a difference counts where both pixels are
    known. Scales that leave fewer than two pixels a side are left out."""
    known = truth > 0
    d = torch.log(prediction + EPSILON) - torch.log(truth.where(known, prediction.detach()) + EPSILON)
    total = prediction.new_zeros(())
    for step in SCALES:
        part, there = d[:, ::step, ::step], known[:, ::step, ::step]
        if min(part.shape[1:]) < 2:
            break
        down = (part.diff(dim=1).abs() * (there[:, 1:] & there[:, :-1])).sum()
        across = (part.diff(dim=2).abs() * (there[:, :, 1:] & there[:, :, :-1])).sum()
        total = total + (down + across) / there.sum().clamp(min=1)
    return total
