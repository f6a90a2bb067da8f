"""Stand-ins for gsplat where there is no GPU.

``functions`` is a module with those functions of gsplat 1.5.3 that gsplat_draw.py calls: the same signatures, layouts,
number types and refusals, written in plain torch from the equations (so slow, and with no code of gsplat's nor of
fit3d_lite's). ``tests/splatting/gpu/test_gsplat.py`` compares the signatures with the installed gsplat's.

``package`` writes a gsplat to disk that can be "compiled": a few lines of C++ instead of thirty CUDA files.
"""

from __future__ import annotations

import math
import shutil
import sys
import sysconfig
import types
from pathlib import Path

import pytest
import torch
from torch import Tensor

PYTHON_HEADERS = sysconfig.get_paths()["include"]
CHANNELS_DRAWN: list[int] = []  # what each pass over the pixels was asked for


def _is(tensor: Tensor, shape: tuple, dtype=torch.float32) -> None:
    assert tensor.shape == shape, (tuple(tensor.shape), shape)
    assert tensor.dtype == dtype, tensor.dtype


def fully_fused_projection(
    means, covars, quats, scales, viewmats, Ks, width, height, eps2d=0.3, near_plane=0.01, far_plane=1e10,
    radius_clip=0.0, packed=False, sparse_grad=False, calc_compensations=False, camera_model="pinhole", opacities=None,
):  # fmt: skip
    """-> radii [C, N, 2] int32, means2d [C, N, 2], depths [C, N], conics [C, N, 3], None."""
    assert covars is None and not packed and not calc_compensations and camera_model == "pinhole"
    count, cameras = len(means), len(viewmats)
    assert count > 0, "gsplat's kernels divide by the number of Gaussians"
    for tensor, shape in [(means, (count, 3)), (quats, (count, 4)), (scales, (count, 3)), (opacities, (count,))]:
        _is(tensor, shape)
    _is(viewmats, (cameras, 4, 4))
    _is(Ks, (cameras, 3, 3))

    w, i, j, k = (quats / quats.norm(dim=1, keepdim=True)).unbind(1)
    turn = torch.stack([
        1 - 2 * (j * j + k * k), 2 * (i * j - w * k), 2 * (i * k + w * j),
        2 * (i * j + w * k), 1 - 2 * (i * i + k * k), 2 * (j * k - w * i),
        2 * (i * k - w * j), 2 * (j * k + w * i), 1 - 2 * (i * i + j * j),
    ], 1).reshape(-1, 3, 3)  # fmt: skip
    sigma = turn @ torch.diag_embed(scales**2) @ turn.transpose(1, 2)

    local = torch.einsum("cij,nj->cni", viewmats[:, :3, :3], means) + viewmats[:, None, :3, 3]
    z = local[..., 2]
    seen = (z >= near_plane) & (z <= far_plane) & (opacities >= 1 / 255)
    z = torch.where(seen, z, 1)
    x, y = local[..., 0] / z, local[..., 1] / z
    fx, fy, cx, cy = (Ks[:, a, b, None] for a, b in [(0, 0), (1, 1), (0, 2), (1, 2)])
    tan_x, tan_y = 0.5 * width / fx, 0.5 * height / fy
    slope_x = torch.minimum(torch.maximum(x, -(cx / fx + 0.3 * tan_x)), (width - cx) / fx + 0.3 * tan_x)
    slope_y = torch.minimum(torch.maximum(y, -(cy / fy + 0.3 * tan_y)), (height - cy) / fy + 0.3 * tan_y)
    zero = torch.zeros_like(z)
    J = torch.stack([fx / z, zero, -fx * slope_x / z, zero, fy / z, -fy * slope_y / z], -1).reshape(
        cameras, count, 2, 3
    )
    M = J @ viewmats[:, None, :3, :3]
    cov = M @ sigma @ M.transpose(-1, -2) + eps2d * torch.eye(2)
    means2d = torch.stack([fx * x + cx, fy * y + cy], -1)
    inverse = torch.linalg.inv(cov)
    conics = torch.stack([inverse[..., 0, 0], inverse[..., 0, 1], inverse[..., 1, 1]], -1)

    reach = (2 * (opacities.clamp_min(1 / 255) * 255).log()).sqrt().clamp_max(3.33)
    radii = (reach[None, :, None] * torch.stack([cov[..., 0, 0], cov[..., 1, 1]], -1).sqrt()).ceil()
    size = torch.tensor([width, height])
    outside = ((means2d + radii <= 0) | (means2d - radii >= size)).any(-1)
    radii = torch.where((seen & ~outside)[..., None], radii, 0).int().detach()
    return radii, means2d, z, conics, None


@torch.no_grad()
def isect_tiles(
    means2d, radii, depths, tile_size, tile_width, tile_height, sort=True, segmented=False, packed=False, n_images=None,
    image_ids=None, gaussian_ids=None,
):  # fmt: skip
    """-> tiles_per_gauss [I, N] int32, isect_ids [n] int64 (image | tile | depth's bits), flatten_ids [n] int32."""
    images, count = means2d.shape[:2]
    _is(means2d, (images, count, 2))
    _is(radii, (images, count, 2), torch.int32)
    _is(depths, (images, count))
    tiles_per_gauss = torch.zeros(images, count, dtype=torch.int32)
    found = []
    for image, gaussian in torch.nonzero((radii > 0).all(-1)).tolist():
        (u, v), (ru, rv) = means2d[image, gaussian].tolist(), radii[image, gaussian].tolist()
        left, right = (
            max(0, min(tile_width, f((u + s * ru) / tile_size))) for f, s in [(math.floor, -1), (math.ceil, 1)]
        )
        top, end = (
            max(0, min(tile_height, f((v + s * rv) / tile_size))) for f, s in [(math.floor, -1), (math.ceil, 1)]
        )
        tiles_per_gauss[image, gaussian] = (right - left) * (end - top)
        bits = int(depths[image, gaussian].view(torch.int32))  # of a positive float they sort as the float does
        for tile in (r * tile_width + c for r in range(top, end) for c in range(left, right)):
            found.append(((image * tile_width * tile_height + tile) << 32 | bits, image * count + gaussian))
    if sort:
        found.sort(key=lambda pair: pair[0])
    ids = torch.tensor(found, dtype=torch.int64).reshape(-1, 2)
    return tiles_per_gauss, ids[:, 0], ids[:, 1].int()


@torch.no_grad()
def isect_offset_encode(isect_ids, n_images, tile_width, tile_height):
    """-> [I, tile_height, tile_width] int32: where each tile's part of isect_ids begins."""
    _is(isect_ids, (len(isect_ids),), torch.int64)
    tiles = torch.arange(n_images * tile_height * tile_width)
    return torch.searchsorted(isect_ids >> 32, tiles).int().reshape(n_images, tile_height, tile_width)


@torch.no_grad()
def rasterize_to_indices_in_range(
    range_start, range_end, transmittances, means2d, conics, opacities, image_width, image_height, tile_size,
    isect_offsets, flatten_ids,
):  # fmt: skip
    """-> Gaussian [M], pixel [M], image [M], all int64, pixel by pixel and from near to far."""
    images, count = means2d.shape[:2]
    assert images == 1 and range_start == 0 and 2**20 < range_end < 2**32  # a uint32 in CUDA
    _is(transmittances, (1, image_height, image_width))
    _is(means2d, (1, count, 2))
    _is(conics, (1, count, 3))
    _is(opacities, (1, count))
    _is(isect_offsets, (1, math.ceil(image_height / tile_size), math.ceil(image_width / tile_size)), torch.int32)
    _is(flatten_ids, (len(flatten_ids),), torch.int32)
    ends = isect_offsets.flatten().tolist()[1:] + [len(flatten_ids)]
    listed: list[tuple[int, int]] = []
    for row in range(image_height):
        for column in range(image_width):
            tile = (row // tile_size) * isect_offsets.shape[2] + column // tile_size
            near_to_far = flatten_ids[int(isect_offsets.flatten()[tile]) : ends[tile]].long()
            left = float(transmittances[0, row, column])
            alphas = _alphas(means2d[0], conics[0], opacities[0], near_to_far, column + 0.5, row + 0.5)
            for gaussian, alpha in zip(near_to_far.tolist(), alphas.tolist(), strict=True):
                if alpha < 1 / 255:
                    continue
                left *= 1 - alpha
                if left <= 1e-4:
                    break
                listed.append((gaussian % count, row * image_width + column))
    gaussian, pixel = torch.tensor(listed, dtype=torch.int64).reshape(-1, 2).unbind(1)
    return gaussian, pixel, torch.zeros_like(pixel)


def _alphas(means2d, conics, opacities, who, u, v):
    du, dv = u - means2d[who, 0], v - means2d[who, 1]
    a, b, c = conics[who].unbind(-1)
    return (opacities[who] * torch.exp(-0.5 * (a * du * du + c * dv * dv) - b * du * dv)).clamp_max(0.999)


def rasterization(
    means, quats, scales, opacities, colors, viewmats, Ks, width, height, near_plane=0.01, far_plane=1e10,
    radius_clip=0.0, eps2d=0.3, sh_degree=None, packed=True, tile_size=16, backgrounds=None, render_mode="RGB",
    sparse_grad=False, absgrad=False, rasterize_mode="classic", channel_chunk=32, distributed=False,
    camera_model="pinhole", segmented=False, covars=None, with_ut=False, with_eval3d=False, radial_coeffs=None,
    tangential_coeffs=None, thin_prism_coeffs=None, ftheta_coeffs=None, rolling_shutter=None, viewmats_rs=None,
):  # fmt: skip
    """-> colors [C, H, W, D], alphas [C, H, W, 1] (of the first chunk, as gsplat returns them), dict."""
    assert (rasterize_mode, render_mode, sh_degree, packed) == ("classic", "RGB", None, False)
    _is(colors, (len(means), colors.shape[-1]))
    radii, means2d, depths, conics, _ = fully_fused_projection(
        means, covars, quats, scales, viewmats, Ks, width, height, eps2d, near_plane, far_plane, radius_clip, packed,
        opacities=opacities,
    )  # fmt: skip
    order = depths[0].argsort(stable=True)
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    u, v = columns.reshape(-1, 1) + 0.5, rows.reshape(-1, 1) + 0.5
    alpha = _alphas(means2d[0], conics[0], opacities, order, u, v)
    alpha = torch.where((alpha >= 1 / 255) & (radii[0, order] > 0).all(-1), alpha, 0)
    after = torch.cumprod(1 - alpha, 1)
    before = torch.cat([torch.ones_like(after[:, :1]), after[:, :-1]], 1)
    weights = torch.where(after > 1e-4, alpha * before, 0)
    parts, alphas = [], []
    for part in colors[order].split(channel_chunk, dim=1):
        CHANNELS_DRAWN.append(part.shape[1])
        if not part.shape[1]:
            raise ValueError("Unsupported number of color channels: 0")
        parts.append((weights @ part).reshape(1, height, width, -1))
        alphas.append(weights.sum(1).reshape(1, height, width, 1))
    return torch.cat(parts, -1), alphas[0], {"radii": radii}


def functions() -> types.ModuleType:
    """A module to stand in sys.modules["gsplat"]."""
    module = types.ModuleType("gsplat")
    for function in FUNCTIONS:
        setattr(module, function.__name__, function)
    return module


FUNCTIONS = (
    rasterization, fully_fused_projection, isect_tiles, isect_offset_encode, rasterize_to_indices_in_range,
)  # fmt: skip

# What a Python extension needs, and one attribute.
EXTENSION = """
#include <Python.h>
const char* first();
static PyModuleDef module = {PyModuleDef_HEAD_INIT, "NAME", nullptr, -1, nullptr};
PyMODINIT_FUNC PyInit_NAME() {
    PyObject* made = PyModule_Create(&module);
    PyModule_AddStringConstant(made, "first", first());
    return made;
}
"""
# As gsplat does: a binary, or else the compiler. Here that leaves a mark beside the package.
BACKEND = """
from pathlib import Path
try:
    from gsplat import csrc as _C
except ImportError:
    (Path(__file__).parents[2] / "the compiler was started").touch()
    _C = None
"""


def forget_real(monkeypatch) -> None:
    """Until the test ends, an installed gsplat counts as not imported, so that one from ``package`` is found instead."""
    for name in [n for n in sys.modules if n.split(".")[0] == "gsplat"]:
        monkeypatch.delitem(sys.modules, name)


def need_compiler() -> None:
    """Skip the test where no C++ extension can be compiled at all."""
    if shutil.which("c++") is None or not Path(PYTHON_HEADERS, "Python.h").is_file():
        pytest.skip("no C++ compiler or no Python.h")


def package(folder: Path, name: str = "gsplat_cuda") -> Path:
    """Write a gsplat 1.5.3 under ``folder`` (to be put on sys.path) and return the package's folder."""
    files = {
        "gsplat/__init__.py": "",
        "gsplat/cuda/__init__.py": "",
        "gsplat/cuda/_backend.py": BACKEND,
        "gsplat/cuda/ext.cpp": EXTENSION.replace("NAME", name),
        "gsplat/cuda/csrc/first.cpp": 'const char* first() { return "compiled"; }\n',
        "gsplat-1.5.3.dist-info/METADATA": "Metadata-Version: 2.1\nName: gsplat\nVersion: 1.5.3\n",
    }
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder / "gsplat"
