"""A lens bends straight lines; Gaussians are drawn by a pinhole. So photos are undistorted once, when they are read.

The pinhole view keeps the photo's size, its principal point and the ratio of its focal lengths. Its focal length is the
shortest at which every pixel still looks into the photo, so that no border is made up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

# Focal lengths that are tried, as parts of the given one. A view needing more than twice of it is no view of the photo.
FOCALS = np.concatenate([np.geomspace(20, 2, 40, endpoint=False), np.geomspace(2, 0.2, 230)])


@dataclass(frozen=True)
class Lens:
    """Intrinsics of a photo with its distortion, by OpenCV's formulas or by a function of one's own."""

    K: np.ndarray  # [3, 3] pixels, pixel centers at +0.5
    width: int
    height: int
    distortion: tuple[float, ...] = ()  # k1 k2 p1 p2 k3 k4 k5 k6, or k1 k2 k3 k4 of a fisheye
    fisheye: bool = False
    bend: Callable | None = None  # rays [P, 2] (x/z, y/z) to pixels [P, 2]; instead of ``distortion``

    @property
    def straight(self) -> bool:
        return self.bend is None and not self.fisheye and not any(self.distortion)

    def scaled(self, width: int, height: int) -> Lens:
        """The lens of the same photo at another size."""
        scale = np.array([[width / self.width], [height / self.height], [1.0]])
        bend = self.bend and (lambda rays: self.bend(rays) * scale[:2, 0])
        return replace(self, K=scale * self.K, width=width, height=height, bend=bend)

    def pixels(self, rays: np.ndarray) -> np.ndarray:  # [P, 2] (x/z, y/z) -> [P, 2] pixels of the distorted photo
        if self.bend is not None:
            return self.bend(rays)
        if self.straight:
            return rays * self.K.diagonal()[:2] + self.K[:2, 2]
        cv2 = need_cv2()
        if self.fisheye:
            found = cv2.fisheye.distortPoints(rays[:, None].astype(np.float64), self.K, np.array(self.distortion))
            return found[:, 0]
        rays = np.concatenate([rays, np.ones_like(rays[:, :1])], 1).astype(np.float64)
        return cv2.projectPoints(rays, np.zeros(3), np.zeros(3), self.K, np.array(self.distortion))[0][:, 0]

    def pinhole(self) -> np.ndarray:  # [3, 3]
        """K of the undistorted photo, of the same size. Raises ValueError where no pinhole view fits inside."""
        if self.straight:
            return self.K
        center, around = self.K[:2, 2], _border(self.width, self.height)
        K, found, reached = self.K.copy(), None, 0.0
        # From a narrow view outwards, as long as the border moves outwards too: further out a polynomial may bend back.
        for focal in FOCALS:
            K[0, 0], K[1, 1] = self.K[0, 0] * focal, self.K[1, 1] * focal
            bent = self.pixels((around - center) / K.diagonal()[:2])
            radius = np.linalg.norm(bent - center, axis=1)
            if not ((radius > reached).all() and (bent >= 0).all() and (bent <= (self.width, self.height)).all()):
                break
            found, reached = (K.copy() if focal <= 2 else None), radius
        if found is None:
            raise ValueError(
                f"The distortion {tuple(round(float(k), 4) for k in self.distortion)} leaves no pinhole view inside "
                f"{self.width}×{self.height} pixels (W×H): it belongs to another lens, or is in another order."
            )
        return found

    def sources(self, K: np.ndarray) -> np.ndarray | None:  # [H, W, 2] float32, or None for a straight lens
        """Where in the photo each pixel of the pinhole camera K looks: what :func:`undistort` takes. Made once a lens."""
        if self.straight:
            return None
        u, v = np.meshgrid(np.arange(self.width) + 0.5, np.arange(self.height) + 0.5)
        rays = (np.stack([u, v], -1).reshape(-1, 2) - K[:2, 2]) / K.diagonal()[:2]
        return self.pixels(rays).astype(np.float32).reshape(self.height, self.width, 2)


def undistort(pixels: np.ndarray, sources: np.ndarray | None, nearest: bool = False) -> np.ndarray:  # [H, W(, C)]
    """A photo, or with ``nearest`` its depth or mask, as the pinhole camera sees it."""
    if sources is None:
        return pixels
    cv2 = need_cv2()
    how = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR
    where = sources - np.float32(0.5)  # OpenCV has pixel centers at whole numbers
    return cv2.remap(pixels, where, None, how, borderMode=cv2.BORDER_REPLICATE)


def need_cv2():
    """OpenCV, loaded late: few read a distorted photo. ModuleNotFoundError says how to get it."""
    try:
        import cv2
    except ImportError:
        raise ModuleNotFoundError(
            "Photos are undistorted by OpenCV, which is not installed: pip install opencv-python-headless."
        ) from None
    return cv2


def _border(width: int, height: int) -> np.ndarray:  # [P, 2] along the edge of a photo
    u, v = np.linspace(0, width, 65), np.linspace(0, height, 65)
    sides = [(u, 0 * u), (u, 0 * u + height), (0 * v, v), (0 * v + width, v)]
    return np.concatenate([np.stack(side, 1) for side in sides])
