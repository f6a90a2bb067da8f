"""What lifting gives back: a feature for every Gaussian, and how to render, save and load them."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ..base import whole
from ..scenes.camera import Camera
from ..splatting.gaussians import Gaussians
from .grid import SAMPLES, patch_matrix, row_sums

MIN_WEIGHT = 1e-3  # patches; a Gaussian seen less than this, summed over all views, gets no feature
MIN_OPACITY = 0.5  # a patch at least half covered by Gaussians with a feature has one itself


@dataclass(frozen=True, eq=False)
class Lifted:
    """Features in 3D: one row per Gaussian, or one short row per Gaussian and a decoder (FiT3D's form).

    Gaussians that no view saw (``weight`` < MIN_WEIGHT) have a row of zeros and are left out of renders.
    """

    cloud: Gaussians
    features: Tensor  # [N, C], or [N, D] with a decoder
    weight: Tensor  # [N] patches: the sum of its blending weights over all views
    decoder: Tensor | None = None  # [C, D, 3, 3] weights of one convolution without bias
    settings: dict = field(default_factory=dict)  # how it was made; JSON-able

    def __post_init__(self) -> None:
        count = len(self.cloud)
        if self.features.ndim != 2 or len(self.features) != count or tuple(self.weight.shape) != (count,):
            raise ValueError(
                f"Lifted needs features [N, C] and weight [N] of its N = {count} Gaussians, got {list(self.features.shape)} "
                f"and {list(self.weight.shape)}."
            )

    @property
    def seen(self) -> Tensor:  # [N] bool
        """Which Gaussians have a feature."""
        return self.weight >= MIN_WEIGHT

    @property
    def channels(self) -> int:
        """C, the width of what :meth:`render` gives."""
        return self.features.shape[1] if self.decoder is None else self.decoder.shape[0]

    @property
    def bytes(self) -> int:
        """What the features take: rows of the Gaussians that have one, and the decoder. The geometry is not counted."""
        rows = int(self.seen.sum()) * self.features.shape[1] * self.features.element_size()
        return rows + (0 if self.decoder is None else self.decoder.numel() * self.decoder.element_size())

    @torch.no_grad()
    def render(
        self,
        camera: Camera,
        h: int,
        w: int,
    ) -> tuple[Tensor, Tensor]:  # [C, h, w], [h, w] bool
        """The features as ``camera`` sees them on an h × w grid (its own size, the patch grid, any), and where there
        are any.

        Each cell is the weighted mean of the Gaussians seen there, W f / W 1, so that an opacity of 0.9 does not
        shrink a feature. The mask is True where those with a feature make up an opacity of at least 0.5; elsewhere
        features are 0.
        """
        return self.gather(*self.weights(camera, h, w), h, w)

    @torch.no_grad()
    def weights(
        self, camera: Camera, h: int, w: int
    ) -> tuple[Tensor, Tensor]:  # sparse [h*w, N], [h*w] bool
        """The matrix behind :meth:`render`: rows over the Gaussians that have a feature, summing to 1 where the mask is
        True and empty elsewhere. One matrix serves features, depth (``W @ z``) and anything else a Gaussian has."""
        W = patch_matrix(self.cloud, camera, h, w, self.settings.get("samples", SAMPLES)).to(self.features.dtype)
        return normalized_weights(W, self.seen)

    @torch.no_grad()
    def gather(
        self, W: Tensor, mask: Tensor, h: int, w: int
    ) -> tuple[Tensor, Tensor]:  # [C, h, w], [h, w] bool
        """Features through a matrix of :meth:`weights`."""
        values = (W @ self.features).T.reshape(-1, h, w)
        if self.decoder is not None:
            values = F.conv2d(values[None], self.decoder, padding=1)[0]
        mask = mask.reshape(h, w)
        return values * mask, mask

    def to(self, *args, **kwargs) -> Lifted:
        """On another device or in another float type, as ``Tensor.to``."""
        decoder = None if self.decoder is None else self.decoder.to(*args, **kwargs)
        tensors = (self.features.to(*args, **kwargs), self.weight.to(*args, **kwargs), decoder)
        return Lifted(self.cloud.to(*args, **kwargs), *tensors, self.settings)

    def save(self, path: str | Path) -> Path:
        """Write features, weights, decoder, Gaussians and settings as one .safetensors file, whole or not at all."""
        tensors = {f"cloud.{f.name}": getattr(self.cloud, f.name) for f in fields(self.cloud)}
        tensors |= {"features": self.features, "weight": self.weight}
        tensors |= {} if self.decoder is None else {"decoder": self.decoder}
        return whole.save(path, "lifted", {"settings": self.settings}, tensors)

    @classmethod
    def load(cls, path: str | Path) -> Lifted:
        """What :meth:`save` wrote, on the CPU. Raises FileNotFoundError, or ValueError for any other or damaged
        file."""
        made, tensors = whole.load(path, "lifted", "lift again")
        try:
            cloud = Gaussians(**{f.name: tensors[f"cloud.{f.name}"] for f in fields(Gaussians)})
            return cls(cloud, tensors["features"], tensors["weight"], tensors.get("decoder"), made["settings"])
        except KeyError as error:
            raise ValueError(f"{path} lacks {error}: lift again.") from None

    def __repr__(self) -> str:
        form = "" if self.decoder is None else f", decoded to {self.channels}"
        return (
            f"Lifted({self.settings.get('method')}: {int(self.seen.sum())} of {len(self.cloud)} Gaussians "
            f"with {self.features.shape[1]} channels{form}, {self.bytes / 1e6:.1f} MB)"
        )


def normalized_weights(W: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:  # sparse [P, N], [N] bool -> same, [P] bool
    """Rows of W over the seen Gaussians alone, summing to 1; empty where these cover less than MIN_OPACITY; and where
    not."""
    columns, values = W.col_indices(), W.values() * seen[W.col_indices()]
    kept = torch.sparse_csr_tensor(W.crow_indices(), columns, values, W.shape)
    opacity = row_sums(kept)
    mask = opacity >= MIN_OPACITY
    factor = mask / opacity.clamp_min(MIN_OPACITY)
    values = values * torch.repeat_interleave(factor, W.crow_indices().diff(), output_size=len(values))
    return torch.sparse_csr_tensor(W.crow_indices(), columns, values, W.shape), mask
