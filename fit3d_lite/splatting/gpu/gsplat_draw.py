"""gsplat behind splat.py: the same picture, the same pairs, from gsplat's CUDA kernels.

``ready`` says whether they can be used; asking costs nothing worth mentioning and never starts a compiler. ``render``
and ``pairs`` use them. Our constants are gsplat's, so nothing needs converting but the layout: gsplat wants a batch of
cameras (ours is one, C = 1) and float32.

Imported the plain way, gsplat starts its compiler when it finds no binary. So the binary is loaded here first, from its
path, and given to gsplat under the name ``gsplat.csrc`` that it looks for before it thinks of compiling.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.metadata
import importlib.util
import math
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

from ...base.machine import cache_folder
from ...scenes.camera import Camera
from ..gaussians import Gaussians
from ..projection import EPS2D, check_near

PIP = "pip install gsplat==1.5.3 ninja packaging"
NAME = "gsplat_cuda"  # how a library that is not part of a wheel calls itself; fixed in gsplat's sources
TILE = 16  # pixels; gsplat's own, "other values are not tested"
# The backward kernel holds a tile's Gaussians with all their channels in shared memory: 39,936 bytes at 32 channels,
# 72,704 at 64, and a block of a T4 has 65,536.
CHUNK = 32
EVERY_BATCH = 2**31 - 1  # rasterize_to_indices_in_range lists batches of Gaussians from 0 up to this one
ASK_AGAIN = 10.0  # seconds that a "no" is believed: a build may finish in another process
_believed: tuple[float, str | None] | None = None  # until when (time.monotonic), and why not


def ready() -> bool:
    """Whether gsplat can draw in this process: CUDA is there, its extension is compiled, and one Gaussian came out
    right.

    Never compiles, prints or raises. A yes is remembered for good, a no until a build finishes or ten seconds pass.
    """
    return _why_not() is None


def problem(device: torch.device) -> str | None:
    """Why gsplat cannot draw what lies on ``device``, without a full stop, or None when it can."""
    reason = _why_not()
    if reason is None and torch.device(device).type != "cuda":
        return f"gsplat draws on a CUDA device, and the Gaussians are on {device}"
    return reason


def library_path(arch: str) -> Path:
    """Where build_gsplat keeps the library for these versions of gsplat, torch, Python and this architecture ("7.5")."""
    versions = f"gsplat{importlib.metadata.version('gsplat')}-torch{torch.__version__}"
    python = f"py{sys.version_info.major}{sys.version_info.minor}"
    return cache_folder() / "gsplat" / f"{versions}-{python}-sm{arch.replace('.', '')}" / f"{NAME}.so"


def forget_no() -> None:
    """Look again at the next question, unless gsplat is known to draw."""
    global _believed
    if _believed is not None and _believed[1] is not None:
        _believed = None


def render(
    cloud: Gaussians,
    camera: Camera,
    values: Tensor,  # [N, C]
    near: float,  # metres
    channel_chunk: int = CHUNK,
) -> tuple[Tensor, Tensor]:  # [H, W, C], [H, W]
    """``W @ values`` as a picture, and the opacity of each pixel, both differentiable in the Gaussians and the values.

    C may be any number; more than ``channel_chunk`` (at most 32) are drawn in turn, after one projection and one sort.
    Raises ValueError for other types than float32, the only one that gsplat's kernels know.
    """
    _only_float32(cloud, values)
    check_near(near)
    camera.check()
    height, width, channels = camera.height, camera.width, values.shape[1]
    if not len(cloud):  # gsplat divides by the number of Gaussians
        return values.new_zeros(height, width, channels), values.new_zeros(height, width)
    import gsplat

    pose, K = _batch_of_one(camera, cloud.means)
    image, alpha, _ = gsplat.rasterization(
        cloud.means,
        cloud.quats,
        cloud.scales,
        cloud.opacities,
        # gsplat refuses zero channels; then one is drawn for the opacity and none returned.
        values if channels else values.new_zeros(len(cloud), 1),
        pose,
        K,
        width,
        height,
        near_plane=near,
        eps2d=EPS2D,
        packed=False,
        tile_size=TILE,
        rasterize_mode="classic",
        channel_chunk=min(channel_chunk, CHUNK),
    )
    return image[0, ..., :channels], alpha[0, ..., 0]


@torch.no_grad()
def pairs(cloud: Gaussians, camera: Camera, near: float) -> tuple[Tensor, Tensor]:  # [M], [M] int64
    """The (Gaussian, pixel) pairs that reach the eye, sorted by pixel (row · W + column) and in a pixel from near to
    far.

    Without weights: those are computed from the pairs (blend.PairWeights), so that they carry gradients. Raises
    ValueError for other types than float32.
    """
    _only_float32(cloud)
    none = torch.zeros(0, dtype=torch.int64, device=cloud.means.device)
    if not len(cloud):
        return none, none
    import gsplat

    pose, K = _batch_of_one(camera, cloud.means)
    width, height = camera.width, camera.height
    # Not packed: rasterize_to_indices_in_range finds a Gaussian's number as a row of [1, N].
    radii, means2d, depths, conics, _ = gsplat.fully_fused_projection(
        cloud.means,
        None,
        cloud.quats,
        cloud.scales,
        pose,
        K,
        width,
        height,
        eps2d=EPS2D,
        near_plane=near,
        packed=False,
        opacities=cloud.opacities,
    )
    across, down = math.ceil(width / TILE), math.ceil(height / TILE)
    _, tile_ids, order = gsplat.isect_tiles(means2d, radii, depths, TILE, across, down, packed=False)
    offsets = gsplat.isect_offset_encode(tile_ids, 1, across, down).reshape(1, down, across)
    light = torch.ones(1, height, width, device=cloud.means.device)  # nothing drawn yet: all of it passes
    gaussian, pixel, _ = gsplat.rasterize_to_indices_in_range(
        0, EVERY_BATCH, light, means2d, conics, cloud.opacities[None], width, height, TILE, offsets, order
    )
    return gaussian.long(), pixel.long()


def _batch_of_one(camera: Camera, like: Tensor) -> tuple[Tensor, Tensor]:  # [1, 4, 4], [1, 3, 3]
    return camera.world_to_camera.to(like)[None], camera.K.to(like)[None]


def _only_float32(cloud: Gaussians, values: Tensor | None = None) -> None:
    types = {cloud.means.dtype} | ({values.dtype} if values is not None else set())
    if types != {torch.float32}:
        names = ", ".join(sorted(str(t).removeprefix("torch.") for t in types))
        raise ValueError(f"gsplat computes in float32 only, got {names}: call .float(), or use backend='torch'.")


def _why_not() -> str | None:
    """None when gsplat can draw here, else the reason in one sentence, without its full stop."""
    global _believed
    if _believed is None or time.monotonic() > _believed[0]:
        try:
            reason = _connect()
            if reason is None:
                _draw_one()
        except Exception as error:  # of whatever kind: a broken gsplat must not break a render that can do without
            reason = f"gsplat does not run here: {type(error).__name__}: {error}"
        _believed = (math.inf if reason is None else time.monotonic() + ASK_AGAIN, reason)
    return _believed[1]


def _connect() -> str | None:
    """Find the compiled extension, load it, hand it to gsplat; or say what is missing."""
    if not torch.cuda.is_available():
        return "gsplat draws on a CUDA device, and there is none"
    found = importlib.util.find_spec("gsplat")
    if found is None:
        return f"gsplat is not installed: {PIP}"
    backend = sys.modules.get("gsplat.cuda._backend")
    if backend is not None and backend._C is not None:
        return None  # somebody has used gsplat before
    # A compiled wheel brings its library along; else build_gsplat has made one, or nobody.
    of_wheel = [Path(found.origin).with_name(f"csrc{ending}") for ending in importlib.machinery.EXTENSION_SUFFIXES]
    failures = []
    for path in [*of_wheel, library_path("{}.{}".format(*torch.cuda.get_device_capability()))]:
        if not path.is_file():
            continue
        try:
            _hand_over(_load(path))
            return None
        except ImportError as error:
            failures.append(f"{path} cannot be loaded ({error})")
    return "; ".join(failures) or "gsplat is not compiled yet: f3d.build_gsplat() does it in the background"


def _load(path: Path):
    # The part before the first dot is how the library calls itself inside: csrc in a wheel, else gsplat_cuda.
    spec = importlib.util.spec_from_file_location(path.name.split(".")[0], path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _hand_over(module) -> None:
    gsplat = importlib.import_module("gsplat")
    gsplat.csrc = sys.modules["gsplat.csrc"] = module
    backend = importlib.import_module("gsplat.cuda._backend")
    backend._C = module  # also where it was imported before the library was there, and holds None


def _draw_one() -> None:
    """Draw one Gaussian in the middle of a picture: shows that the library fits this torch and this device."""
    one = torch.ones(1, device="cuda")
    cloud = Gaussians(
        torch.tensor([[0.0, 0.0, 2.0]], device="cuda"),
        torch.tensor([[1.0, 0.0, 0.0, 0.0]], device="cuda"),
        0.1 * one.expand(1, 3),
        0.8 * one,
        one.expand(1, 3),
    )
    camera = Camera(torch.tensor([[16.0, 0, 8.5], [0, 16.0, 8.5], [0, 0, 1]]), torch.eye(4), 17, 17)
    with torch.no_grad():
        image, alpha = render(cloud, camera, cloud.colors, 0.2)
    seen = float(alpha[8, 8]), float(image[8, 8, 0])
    if any(abs(s - 0.8) > 1e-3 for s in seen):
        raise RuntimeError(f"a Gaussian of opacity 0.8 was drawn with {seen[0]:.3f} and {seen[1]:.3f}")
