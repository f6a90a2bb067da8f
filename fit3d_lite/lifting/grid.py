"""The view matrix at the size of a patch grid, where features live.

A patch of a feature map is a block of pixels, so its weights are the mean of theirs: ``patch_matrix`` folds that mean
into the view matrix once, P @ W with P the area average, and the product has h·w rows instead of H·W. At 8 to 14
pixels a patch it is some twenty times smaller than W, loses nothing a ViT has (it gives one feature a patch), and
serves both ways: ``W @ features`` renders, its transpose lifts. Features of any width cost next to nothing after
that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from ..base.inputs import as_tensor, check_grid, check_kind, check_whole
from ..base.machine import quiet_sparse
from ..scenes.camera import Camera, cameras_of
from ..splatting.gaussians import Gaussians
from ..splatting.splat import folded_matrix

SAMPLES = 4  # pixels along each side of a patch; more did not raise held-out cosine, see bench/results/lift.md


def patch_matrix(
    cloud: Gaussians,
    camera: Camera,
    h: int,
    w: int,
    samples: int | None = SAMPLES,
) -> Tensor:  # sparse CSR [h*w, N]
    """The blending weights of every patch of an h × w grid over the picture of ``camera``. Row sums are opacities in
    0..1.

    The picture is drawn with ``samples`` × ``samples`` pixels a patch, so that patches are whole blocks of pixels
    whatever h and w; never with more than the camera has, and None means as many as it has. No gradient.
    Raises ValueError for h, w or samples < 1, and for what :func:`view_matrix` refuses.
    """
    check_whole(1, h=h, w=w, samples=samples)
    down, across = (max(1, round(size / cells)) for size, cells in ((camera.height, h), (camera.width, w)))
    if samples is not None:
        down, across = min(down, samples), min(across, samples)
    return folded_matrix(cloud, camera.scaled(w * across, h * down), down, across)


def transposed(W: Tensor) -> Tensor:  # sparse CSR [P, N] -> sparse CSR [N, P]
    """The transpose in row order, which is what fast products need."""
    quiet_sparse()
    return W.t().to_sparse_csr()


def row_sums(W: Tensor) -> Tensor:  # sparse [P, N] -> [P]
    """Opacity of each patch."""
    return (W @ W.values().new_ones(W.shape[1], 1)).squeeze(1)


def stacked(matrices: Sequence[Tensor]) -> Tensor:  # V of sparse CSR [P, N] -> sparse CSR [V*P, N]
    """All views as one matrix."""
    ends = torch.tensor([0] + [len(m.values()) for m in matrices]).cumsum(0).tolist()
    starts = [m.crow_indices()[:-1] + end for m, end in zip(matrices, ends, strict=False)]
    starts.append(starts[0].new_tensor([ends[-1]]))
    size = (sum(m.shape[0] for m in matrices), matrices[0].shape[1])
    columns, values = (
        torch.cat(parts) for parts in zip(*((m.col_indices(), m.values()) for m in matrices), strict=True)
    )
    return torch.sparse_csr_tensor(torch.cat(starts), columns, values, size)


class FeatureViews:
    """Cameras with their feature maps, checked, as (patch matrix [h*w, N], features [h*w, C]) one view after the other.

    Nothing is kept between views, so memory does not grow with their number. Iterating again builds the matrices again;
    maps that come from a generator can be gone through once.
    """

    def __init__(
        self, cloud: Gaussians, cameras: Sequence[Camera], feats: Tensor | Iterable[Tensor], samples: int | None
    ):
        check_kind(Gaussians, cloud=cloud)
        self.cloud, self.cameras, self.samples = cloud.detach(), cameras_of(cameras), samples
        if not len(cloud):
            raise ValueError("There are no Gaussians (N = 0) to lift features to.")
        if not self.cameras:
            raise ValueError("There are no cameras to lift features from.")
        if isinstance(feats, np.ndarray) or not isinstance(feats, Iterable):
            feats = as_tensor(feats, "feats")
        if isinstance(feats, Tensor) and (feats.ndim != 4 or 0 in feats.shape):
            raise ValueError(f"feats must be [V, C, h, w] and not empty, got {list(feats.shape)}.")
        if hasattr(feats, "__len__") and len(feats) != len(self.cameras):
            raise ValueError(f"{len(feats)} feature maps but {len(self.cameras)} cameras: each map needs its own.")
        if isinstance(feats, Tensor):  # all at once, before any work
            _check_finite(feats, "feats")
        cloud.check()
        self.feats = feats
        self.grid: tuple[int, int] | None = None  # h, w; known when the first map has come

    def __len__(self) -> int:
        return len(self.cameras)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        maps, shape = iter(self.feats), None
        for index, camera in enumerate(self.cameras):
            one = next(maps, None)
            if one is None:
                raise ValueError(f"{index} feature maps but {len(self)} cameras: each map needs its own.")
            one = as_tensor(one, f"Feature map {index}")
            shape = shape or one.shape
            self.grid = tuple(shape[1:])
            if one.ndim != 3 or one.shape != shape or 0 in shape:
                raise ValueError(
                    f"Feature map {index} must be [C, h, w] like the first, {list(shape)}; got {list(one.shape)}."
                )
            check_grid(shape, camera.height, camera.width, f"Feature map {index}")
            if not isinstance(self.feats, Tensor):
                _check_finite(one, f"Feature map {index}")
            W = patch_matrix(self.cloud, camera, *shape[1:], self.samples)
            if not len(W.values()):
                raise ValueError(
                    f"camera {index} is outside the scene: it sees none of the {len(self.cloud)} Gaussians"
                )
            # Sums over views in half precision would lose digits; float64 stays, for references.
            kind = torch.promote_types(one.dtype, torch.float32)
            rows = one.detach().to(W.device, kind).flatten(1).T.contiguous()
            yield W.to(kind), rows
        if next(maps, None) is not None:
            raise ValueError(f"More than {len(self)} feature maps but {len(self)} cameras: each map needs its own.")


def _check_finite(feats: Tensor, what: str) -> None:
    bad = int((~torch.isfinite(feats)).sum())
    if bad:
        raise ValueError(
            f"{what} has {bad} of {feats.numel()} values that are NaN or infinite; extract features in float32."
        )
