"""Gaussians: the 3D scene as N colored, soft ellipsoids.

One dataclass holds the *activated* values (metres, opacities and colors in 0..1), so that what you read is what is
drawn; the logarithms and logits that optimizers and .ply files use appear only where those are written and read
(ply.py, fitting.py).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..base.inputs import as_tensor, check_kind, check_whole
from ..scenes.scene import Scene

SH0 = 0.28209479177387814  # the constant spherical harmonic, 1 / (2 √π): 3DGS stores (color − ½) / SH0
NEIGHBOURS = 3  # 3DGS takes a Gaussian's first size from its three nearest neighbours
# Standard deviation in units of the spacing. Fits end alike from 0.35 to 0.6; smaller starts with holes, larger blurred.
COVER = 0.5
FLAT = 0.2  # thickness of a Gaussian whose surface normal is known, in units of its width


@dataclass(frozen=True, eq=False)
class Gaussians:
    """N Gaussians. Shapes are checked when made, values by :meth:`check`. ``cloud[mask]`` selects some of them."""

    means: Tensor  # [N, 3] metres, world
    quats: Tensor  # [N, 4] wxyz, of any length > 0
    scales: Tensor  # [N, 3] metres, standard deviations along the own axes
    opacities: Tensor  # [N] in 0..1
    colors: Tensor  # [N, 3] in 0..1

    def __post_init__(self) -> None:
        for f in fields(self):
            object.__setattr__(self, f.name, as_tensor(getattr(self, f.name), f"Gaussians.{f.name}"))
        count = self.means.shape[0] if self.means.ndim else 0
        widths = {"means": (3,), "quats": (4,), "scales": (3,), "opacities": (), "colors": (3,)}
        for name, width in widths.items():
            shape = (count, *width)
            if tuple(getattr(self, name).shape) != shape:
                raise ValueError(f"Gaussians.{name} must be {list(shape)}, got {list(getattr(self, name).shape)}.")

    def __len__(self) -> int:
        return len(self.means)

    def __getitem__(self, index) -> Gaussians:
        return self._map(lambda value: value[index])

    def _map(self, change) -> Gaussians:
        return replace(self, **{f.name: change(getattr(self, f.name)) for f in fields(self)})

    def to(self, *args, **kwargs) -> Gaussians:
        """On another device or in another float type, as ``Tensor.to``."""
        return self._map(lambda value: value.to(*args, **kwargs))

    def detach(self) -> Gaussians:
        """The same numbers without gradient: what features are rendered with, so that they never move the geometry."""
        return self._map(Tensor.detach)

    def check(self) -> Gaussians:
        """Raise ValueError, with the numbers, for NaN, scales ≤ 0, opacities outside 0..1 or zero quaternions; else
        self.
        """
        if not len(self):
            return self
        if self.means.dtype not in (torch.float32, torch.float64):
            raise ValueError(f"Gaussians are drawn in float32 or float64, not {self.means.dtype}: use cloud.to(torch.float32).")
        with torch.no_grad():
            # All that is asked, as one small tensor, so that a GPU is waited for once.
            columns = {f.name: getattr(self, f.name).reshape(len(self), -1) for f in fields(self)}
            columns["length"] = self.quats.norm(dim=1, keepdim=True)
            every = torch.cat(list(columns.values()), 1)
            limits = torch.stack([every.sum(0, dtype=torch.float64), every.amin(0).double(), every.amax(0).double()])
            widths = [part.shape[1] for part in columns.values()]
            sums, lows, highs = (dict(zip(columns, row.split(widths), strict=True)) for row in limits.cpu())
        for f in fields(self):
            if not torch.isfinite(sums[f.name]).all():  # a sum is finite only if all it adds are
                rows = int((~torch.isfinite(columns[f.name])).any(1).sum())
                raise ValueError(
                    f"{rows} of {len(self)} Gaussians have NaN or infinite {f.name}: drop them with cloud[mask]."
                )
        thin, shortest = float(lows["scales"].min()), float(lows["length"])
        low, high = float(lows["opacities"]), float(highs["opacities"])
        if thin <= 0:
            raise ValueError(f"Scales are standard deviations in metres and must be > 0, got {thin:.3g}.")
        if low < 0 or high > 1:
            raise ValueError(f"Opacities must lie in 0..1, got {low:.3g}..{high:.3g}: apply a sigmoid to logits first.")
        if shortest < 1e-12:
            raise ValueError("Some quaternions are zero; use (1, 0, 0, 0) for no rotation.")
        return self

    def covariances(self) -> Tensor:  # [N, 3, 3] metres²
        """Σ = R S Sᵀ Rᵀ (3DGS, eq. 6)."""
        half = rotation_matrices(self.quats) * self.scales.unsqueeze(1)
        return half @ half.transpose(1, 2)

    @classmethod
    def from_points(
        cls,
        points: Tensor | Scene,  # [N, 3] metres, or a scene with sparse points
        colors: Tensor | None = None,  # [N, 3] in 0..1; grey when left out
        opacity: float = 0.1,  # as 3DGS starts
        min_track: int = 3,
        max_error: float = 2.0,  # pixels
    ) -> Gaussians:
        """Round Gaussians, each as wide as the mean distance to its three nearest neighbours (3DGS's start from
        COLMAP points).

        Of a scene's sparse points those that :meth:`ScenePoints.sound` keeps. Raises ValueError for fewer than two
        points, NaN, colors outside 0..1, or a scene without points.
        """
        if isinstance(points, Scene):
            if points.points is None:
                raise ValueError(f"{points!r} has no sparse points: use Gaussians.from_depth, or give points [N, 3].")
            sound = points.points.sound(min_track, max_error)
            points, colors = (values.to(points.images.device) for values in (sound.xyz, sound.color))
        points = as_tensor(points, "points").float()
        if points.ndim != 2 or points.shape[1] != 3 or len(points) < 2:
            raise ValueError(f"points must be [N, 3] with N ≥ 2, got {list(points.shape)}.")
        if not torch.isfinite(points).all():
            raise ValueError(f"{int((~torch.isfinite(points)).any(1).sum())} of {len(points)} points are NaN or infinite.")
        colors = torch.full_like(points, 0.5) if colors is None else as_tensor(colors, "colors").to(points)
        if colors.shape != points.shape or float(colors.min()) < 0 or float(colors.max()) > 1:
            said = f"got {list(colors.shape)} up to {colors.max():.3g}"
            raise ValueError(f"colors must be {list(points.shape)} in 0..1, {said}.")
        quats = points.new_tensor([1.0, 0, 0, 0]).repeat(len(points), 1)
        scales = spacing(points).unsqueeze(1).repeat(1, 3)
        return cls(points, quats, scales, points.new_full((len(points),), opacity), colors)

    @classmethod
    def from_depth(
        cls,
        scene: Scene,
        count: int = 30_000,
        voxel: float | None = None,  # metres
        opacity: float = 0.9,
        flatten: bool = True,
    ) -> Gaussians:
        """One Gaussian per occupied voxel of what the depth maps saw, with the mean color, place and normal of its
        pixels.

        ``voxel`` fixes the resolution; when left out it is chosen so that at most ``count`` Gaussians result. With
        ``flatten`` the Gaussians are discs that lie on the surface. Raises ValueError when the scene has no depth,
        or none above 0.
        """
        check_kind(Scene, scene=scene)
        if scene.depths is None or not bool((scene.depths > 0).any()):
            raise ValueError(f"{scene!r} has no depth above 0: use Gaussians.from_points, or a scene with depth maps.")
        check_whole(2, count=count)
        if not 0 < opacity <= 1 or not (voxel is None or voxel > 0):
            raise ValueError(f"Need 0 < opacity ≤ 1 and voxel > 0; got {opacity} and {voxel}.")
        points, normals, colors = (torch.cat(parts) for parts in zip(*map(_surface, scene), strict=True))
        cell, voxel = _voxels(points, count, voxel)
        total = int(cell.max()) + 1
        if total < 2:
            raise ValueError(
                f"All {len(points)} points with a depth lie in one voxel of {voxel:.3g} m: take a smaller voxel, or more depths."
            )
        ones = points.new_zeros(total).index_add_(0, cell, torch.ones_like(points[:, 0]))

        def mean(values):
            return values.new_zeros(total, 3).index_add_(0, cell, values) / ones.unsqueeze(1)

        means, colors = mean(points), mean(colors)
        # A cell may hold both sides of a thin board; then its normals cancel and the Gaussian stays round.
        normals = mean(normals)
        certain = normals.norm(dim=1).unsqueeze(1)
        scales = (COVER * spacing(means).clamp(0.5 * voxel, 2 * voxel)).unsqueeze(1).repeat(1, 3)
        if flatten:
            scales[:, 2:] *= 1 - (1 - FLAT) * certain.clamp(0, 1) ** 2
        quats = _facing(F.normalize(normals, dim=1))
        return cls(means, quats, scales, means.new_full((total,), opacity), colors.clamp(0, 1))


def rotation_matrices(quats: Tensor) -> Tensor:  # [N, 4] wxyz -> [N, 3, 3]
    """Rotation of a quaternion, which need not be normalised."""
    w, x, y, z = F.normalize(quats, dim=1).unbind(1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, 1).reshape(-1, 3, 3)


def spacing(points: Tensor) -> Tensor:  # [N, 3] -> [N] metres
    """Mean distance of each point to its three nearest neighbours, never 0."""
    from scipy.spatial import cKDTree  # here, because importing it takes half a second

    array = points.detach().cpu().numpy()
    near = cKDTree(array).query(array, min(NEIGHBOURS + 1, len(array)))[0][:, 1:]
    return torch.from_numpy(np.maximum(near.mean(1), 1e-7)).to(points)


def _surface(view) -> tuple[Tensor, Tensor, Tensor]:
    """World points, unit normals and colors, [P, 3] each, of the pixels of one view that have a depth."""
    points = view.camera.unproject(view.depth)
    # Differences to the next pixel on either side; at a depth edge the shorter one lies on the surface.
    across, down = (_shorter_step(points, dim) for dim in (1, 0))
    normals = F.normalize(torch.linalg.cross(across, down), dim=-1)
    toward_eye = ((view.camera.center.to(points) - points) * normals).sum(-1, keepdim=True)
    normals = torch.where(toward_eye < 0, -normals, normals)
    known = view.depth > 0
    return points[known], normals[known], view.image.permute(1, 2, 0)[known]


def _shorter_step(points: Tensor, dim: int) -> Tensor:  # [H, W, 3]
    step = points.diff(dim=dim)
    edge = torch.full_like(points.narrow(dim, 0, 1), 1e6)
    ahead, behind = torch.cat([step, edge], dim), torch.cat([edge, step], dim)
    return torch.where(ahead.norm(dim=-1, keepdim=True) <= behind.norm(dim=-1, keepdim=True), ahead, behind)


def _voxels(points: Tensor, count: int, voxel: float | None) -> tuple[Tensor, float]:
    """Cell number [P] of each point on a grid, and the edge of a cell: the finest that leaves at most ``count``
    cells.
    """
    low = points.min(0).values
    size = points.max(0).values - low

    def cells(edge):
        i, j, k = ((points - low) / edge).floor().long().unbind(1)
        _, ny, nz = (size / edge).floor().long().tolist()
        return torch.unique((i * (ny + 1) + j) * (nz + 1) + k, return_inverse=True)

    if voxel is None:
        # A surface has about 1 / edge² cells, so one look at a coarse grid nearly gives the answer; then close in
        # from above.
        voxel = float(size.max()) / 32
        for _ in range(8):
            found = len(cells(voxel)[0])
            if 0.9 * count <= found <= count:
                break
            voxel *= max(0.2, (found / (0.95 * count)) ** 0.5)
        while len(cells(voxel)[0]) > count:
            voxel *= 1.05
    return cells(voxel)[1], voxel


def _facing(normals: Tensor) -> Tensor:  # [N, 3] unit -> [N, 4] wxyz
    """The shortest rotation that turns the z axis into ± the normal (a disc has no front, so the nearer one is
    taken).
    """
    normals = torch.where(normals[:, 2:] < 0, -normals, normals)
    x, y, z = normals.unbind(1)
    return F.normalize(torch.stack([1 + z, -y, x, torch.zeros_like(x)], 1), dim=1)
