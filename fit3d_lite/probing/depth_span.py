"""Which depths count, and where in the photo: by data set, as the papers have it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["SPANS", "DepthSpan", "span_of"]

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
