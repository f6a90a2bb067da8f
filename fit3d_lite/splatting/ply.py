"""Gaussians in the .ply layout of 3D Gaussian Splatting, which splat viewers open.

The format holds the numbers that the original optimizer works on: logits of opacities, logarithms of scales, colors
as the constant spherical harmonic, all float32. We convert in float64 and round once. What is loaded is exactly what
the file says, and saving it again gives the same values to the last bit; ``stored`` rounds a cloud to what a file
can hold beforehand, and everything this package makes has been through it.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..base.inputs import check_kind, existing_file
from ..base.whole import replace_when_whole
from .gaussians import SH0, Gaussians

OPAQUE = 1 - 2**-24  # the largest float32 below 1: an opacity of 1 has no logit
FIELDS = (
    ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", "opacity"]
    + ["scale_0", "scale_1", "scale_2"]
    + ["rot_0", "rot_1", "rot_2", "rot_3"]
)
NEEDED = [name for name in FIELDS if name not in ("nx", "ny", "nz")]


def _encode(cloud: Gaussians) -> dict[str, Tensor]:
    opacities = cloud.opacities.detach().double().clamp(1e-12, OPAQUE)
    raw = {
        "means": cloud.means.detach(),
        "quats": cloud.quats.detach(),
        "colors": (cloud.colors.detach().double() - 0.5) / SH0,
        "opacities": torch.log(opacities) - torch.log1p(-opacities),
        "scales": cloud.scales.detach().double().log(),
    }
    return {name: value.cpu().float() for name, value in raw.items()}


def _decode(raw: dict[str, Tensor]) -> Gaussians:
    return Gaussians(
        means=raw["means"],
        quats=raw["quats"],
        scales=raw["scales"].double().exp().float(),
        opacities=raw["opacities"].double().sigmoid().float(),
        colors=(raw["colors"].double() * SH0 + 0.5).float(),
    )


def stored(cloud: Gaussians) -> Gaussians:
    """The same cloud, each number moved (by a relative 1e-6 at most) to the nearest one that a .ply file can hold."""
    return _decode(_encode(cloud)).to(cloud.means.device)


def save_ply(cloud: Gaussians, path: str | Path) -> Path:
    """Write ``cloud`` as a binary 3DGS .ply (spherical harmonics of degree 0). The file appears only when it is whole.

    Raises ValueError for a cloud that ``Gaussians.check`` refuses.
    """
    from plyfile import PlyData, PlyElement

    check_kind(Gaussians, cloud=cloud)
    cloud.check()
    raw = {name: value.numpy() for name, value in _encode(cloud).items()}
    columns = [
        raw["means"],
        np.zeros_like(raw["means"]),
        raw["colors"],
        raw["opacities"][:, None],
        raw["scales"],
        raw["quats"],
    ]
    rows = np.empty(len(cloud), dtype=[(name, "<f4") for name in FIELDS])
    for name, column in zip(FIELDS, np.concatenate(columns, 1).T, strict=True):
        rows[name] = column
    with replace_when_whole(path) as partial:
        PlyData([PlyElement.describe(rows, "vertex")]).write(str(partial))
    return Path(path)


def load_ply(path: str | Path) -> Gaussians:
    """Read a 3DGS .ply, from this package or any other. View-dependent color (f_rest_*) is left out.

    Gaussians with NaN, a scale of 0 or a zero quaternion are left out, with a warning that counts them. Where the file
    has Mip-Splatting's ``filter_3D``, sizes and opacities are those after that filter.

    Raises FileNotFoundError, or ValueError when the path is no file, the file is not a .ply, is cut short or lacks a
    field of the 3DGS layout; the message then says what it is instead.
    """
    from plyfile import PlyData, PlyParseError

    path = existing_file(path, ".ply file")
    try:
        vertex = PlyData.read(str(path))["vertex"]
    except (PlyParseError, KeyError, ValueError, MemoryError) as error:  # UnicodeDecodeError is a ValueError
        raise ValueError(f"{path} is not a whole .ply file with a vertex list: {error}.") from None
    missing = [name for name in NEEDED if name not in vertex.data.dtype.names]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}: {_kind(vertex.data.dtype.names, missing)}.")

    def columns(*names):
        stacked = np.stack([np.asarray(vertex[name], dtype=np.float32) for name in names], 1)
        return torch.from_numpy(np.ascontiguousarray(stacked))

    raw = {
        "means": columns("x", "y", "z"),
        "quats": columns("rot_0", "rot_1", "rot_2", "rot_3"),
        "scales": columns("scale_0", "scale_1", "scale_2"),
        "opacities": columns("opacity")[:, 0],
        "colors": columns("f_dc_0", "f_dc_1", "f_dc_2"),
    }
    cloud = _decode(raw)
    if "filter_3D" in vertex.data.dtype.names:
        cloud = _filtered(cloud, columns("filter_3D"))
    numbers = torch.cat([cloud.means, cloud.quats, cloud.scales, cloud.opacities[:, None], cloud.colors], 1)
    sound = numbers.isfinite().all(1) & (cloud.scales > 0).all(1) & (cloud.quats.norm(dim=1) > 1e-12)
    if not sound.all():
        bad = int((~sound).sum())
        if bad == len(cloud):
            raise ValueError(f"None of the {bad} Gaussians of {path} can be drawn: all have NaN, no size or no rotation.")
        said = f"{bad} of {len(cloud)} Gaussians of {path} have NaN, no size or no rotation and are left out."
        warnings.warn(said, stacklevel=2)
        cloud = cloud[sound]
    return cloud.check()


def _kind(names: tuple[str, ...], missing: list[str]) -> str:
    """What a .ply without the 3DGS fields is, and the way on."""
    if "packed_position" in names:
        return "it is a compressed .ply; export it as an uncompressed .ply first"
    if missing == ["scale_2"]:
        return "it holds 2D Gaussians (2DGS), flat discs; write a thin third axis as scale_2, such as log(1e-4), first"
    if "x" in names and "f_dc_0" not in names:
        return "it holds points and is not of 3D Gaussians; read them and start from Gaussians.from_points"
    return "it is a .ply, but not of 3D Gaussians"


def _filtered(cloud: Gaussians, size: Tensor) -> Gaussians:  # size: [N, 1] metres
    """Widened by Mip-Splatting's 3D smoothing filter, each opacity lowered so that the Gaussian weighs the same."""
    before = cloud.scales.double()
    after = (before.square() + size.double().square()).sqrt()
    opacities = cloud.opacities.double() * (before / after).prod(1)
    return Gaussians(cloud.means, cloud.quats, after.float(), opacities.float(), cloud.colors)
