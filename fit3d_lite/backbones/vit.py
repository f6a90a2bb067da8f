"""Features of vision transformers: one call from images to a patch grid, for the six models of FiT3D and any timm ViT.

    vit = load_vit("dinov2_small", weights="original" | "fit3d" | "random" | path)
    feats = vit(images)             # [V, C, h, w], last block after the norm; gradients flow, so it can be fine-tuned
    feats = vit.extract(images)     # the same for any number of images: batched, no gradients, cached on request

**The grid.** An image of H × W pixels becomes (H // p) × (W // p) patches of p pixels: it is resized (bilinear,
antialiased) to the largest multiple of p below, as FiT3D does, never padded or cropped. So patch (i, j) sees the pixels
from i·H/h to (i+1)·H/h and j·W/w to (j+1)·W/w: the patch grid is the same camera at a coarser size.
"""

import hashlib
import json
import math
from numbers import Integral, Number

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..base.inputs import as_tensor, check_whole
from ..base.machine import usable_device, usual_torch
from .checkpoints import NAMES, save_checkpoint, save_vit
from .features import in_batches, raw_bytes
from .load import build

__all__ = ["NAMES", "ViT", "load_vit", "save_checkpoint", "save_vit"]


class ViT(nn.Module):
    """A timm vision transformer as a feature extractor.

    Attributes:
        model: the timm model; its ``state_dict()`` has the published FiT3D keys.
        name: the name it was loaded by.
        channels: C. patch_size: pixels. blocks: number of transformer blocks.
        config: what is needed to build it again, JSON-able.
    """

    def __init__(self, model: nn.Module, name: str, config: dict):
        super().__init__()
        self.model, self.name, self.config = model, name, config
        # timm's feature_info counts pixels of the photo; a hybrid's patch_size those of its convolutions' map.
        self.channels, self.blocks = model.feature_info[-1]["num_chs"], len(model.blocks)
        self.patch_size = model.feature_info[-1]["reduction"]
        self.register_buffer("mean", torch.tensor(config["mean"]).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(config["std"]).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:  # images: [V, 3, H, W] -> [V, C, h, w]
        return self.features(images)

    @property
    def has_cls(self) -> bool:
        """Whether a token sums up the whole photo."""
        return getattr(self.model, "cls_token", None) is not None

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Patches (h, w) of an image of ``height`` × ``width`` pixels."""
        p = self.patch_size
        if min(height, width) < p:
            raise ValueError(f"an image of {height}×{width} pixels is smaller than one patch of {p}×{p}")
        return height // p, width // p

    def features(
        self,
        images: Tensor,  # [V, 3, H, W] in 0..1
        block: int | list[int] = -1,
        norm: bool = True,
        cls: bool = False,
        checked: bool = False,
    ):
        """Patch features of one block, or of several; differentiable in the weights and the images.

        Args:
            block: index of the transformer block, negative from the end; a list gives a list in the same order.
            norm: apply the model's last LayerNorm, as FiT3D's targets do; its depth probe reads tokens without it.
            cls: also return the CLS token, which FiT3D's depth probe appends.
            checked: the values of the images are known to be good, as a Scene's are; on a GPU a look at them makes the
                CPU wait.

        Returns:
            [V, C, h, w]; with ``cls`` a pair ([V, C, h, w], [V, C]); with a list of blocks a list of these.

        Raises:
            ValueError: wrong shape, values outside 0..1, not-a-number, no such block, a model without a CLS token.
        """
        if not checked:
            check_images(images)
        asked = [block] if isinstance(block, Number) else list(block)
        there = range(-self.blocks, self.blocks)
        if not asked or not all(isinstance(b, Integral) and not isinstance(b, bool) and b in there for b in asked):
            raise ValueError(
                f"block {block} is asked for; {self.name} has blocks 0 to {self.blocks - 1}, or -1 to {-self.blocks}"
            )
        if cls and not self.has_cls:
            raise ValueError(f"{self.name} has no CLS token; call it with cls=False")
        asked = [b % self.blocks for b in asked]

        h, w = self.grid(*images.shape[-2:])
        x = images.to(self.mean.device)
        size = (h * self.patch_size, w * self.patch_size)
        if size != tuple(x.shape[-2:]):
            x = F.interpolate(x, size=size, mode="bilinear", antialias=True, align_corners=False)
        x = (x.to(self.mean.dtype) - self.mean) / self.std
        found = self.model.forward_intermediates(
            x,
            indices=sorted(set(asked)),
            norm=norm,
            stop_early=True,
            output_fmt="NCHW",
            intermediates_only=True,
            return_prefix_tokens=cls,
        )
        found = dict(zip(sorted(set(asked)), found, strict=True))
        # Prefix tokens are CLS first, then registers.
        out = [(found[b][0], found[b][1][:, 0]) if cls else found[b] for b in asked]
        return out[0] if isinstance(block, Number) else out

    def extract(
        self,
        images: Tensor,  # [V, 3, H, W] in 0..1
        batch: int | None = None,
        block: int | list[int] = -1,
        norm: bool = True,
        cls: bool = False,
        dtype: torch.dtype | None = None,
        cache=None,
        quiet: bool = False,
    ):
        """``features`` for any number of images: in batches, without gradients, in evaluation mode.

        Args:
            batch: images at once; by default as many as fit half of the free memory. Halved when memory runs out.
            dtype: precision of the products; by default fp32 on the CPU, and on a GPU bf16 from compute capability
                8.0 on, else fp16 (a T4 has no bf16, whatever torch says).
            cache: folder to keep the result in. It is found again for the same weights, images and options.
            quiet: no progress bar, for callers that show their own.

        Returns:
            As ``features``, float32, on the device of ``images``.

        Raises:
            ValueError: as ``features``. MemoryError: one image alone does not fit. FloatingPointError: the features are
            not finite, which fp16 can cause.
        """
        if isinstance(images, np.ndarray):
            images = as_tensor(images, "images")
        check_images(images)
        return in_batches(self, images, batch, block, norm, cls, dtype, cache, quiet)

    def fingerprint(self) -> str:
        """Hash of weights and configuration: the same for the same features, another after every training step."""
        digest = hashlib.sha256(json.dumps(self.config, sort_keys=True).encode())
        for key, tensor in self.model.state_dict().items():
            digest.update(f"{key} {tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(raw_bytes(tensor))
        return digest.hexdigest()[:32]

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trade time for memory in training: keep each block's input only and compute the rest again backwards."""
        self.model.set_grad_checkpointing(enable)

    @property
    def grad_checkpointing(self) -> bool:
        """Whether :meth:`set_grad_checkpointing` is on."""
        return bool(self.model.grad_checkpointing)


@usual_torch()
def load_vit(
    name: str,
    weights="original",
    device=None,
    dtype: torch.dtype | None = None,
    cache=None,
    grad_checkpointing: bool = False,
    seed: int = 0,
) -> ViT:
    """Load a vision transformer, in evaluation mode.

    Args:
        name: "small" (comes with this package, needs no network: a real ViT-S/14 cut to 8 blocks, assets/README.md), one
            of the six of FiT3D (``NAMES``), or the timm name of any other ViT.
        weights: "original" (pretrained, from timm's hub), "fit3d" (fine-tuned by FiT3D's authors; for "small" by this
            course), "random" (untrained, from ``seed``: a control), "wrong_poses" ("small" alone: fine-tuned like "fit3d",
            but each photo towards what another camera of its room sees: the other control), or the path of a checkpoint
            (``read_weights``).
        device: by default the GPU if there is one.
        dtype: of the weights, by default float32.
        cache: folder of downloaded checkpoints, see ``cache_folder``.
        grad_checkpointing: see ``ViT.set_grad_checkpointing``.

    Raises:
        ValueError: unknown name, weights that do not fit or cannot be read. FileNotFoundError: no such file.
        DownloadError: the weights are not there and cannot be downloaded; says where they are and what works without.
    """
    check_whole(0, seed=seed)
    device = usable_device(device)
    if dtype is not None and not getattr(dtype, "is_floating_point", False):
        raise ValueError(f"dtype must be a float type of torch, such as torch.float16, got {dtype!r}.")
    vit = ViT(*build(name, weights, cache, seed))
    vit.set_grad_checkpointing(grad_checkpointing)
    if name not in ("small", *NAMES):
        _try_out(vit.eval())
    return vit.to(device, dtype).eval()


@torch.no_grad()
def _try_out(vit: ViT) -> None:
    """Refuse a model of timm that does not give what the rest counts on: C channels on a grid of square patches."""
    h, w = 3, 4
    images = vit.mean.new_zeros(1, 3, h * vit.patch_size, w * vit.patch_size)
    try:
        found = list(vit.features(images, checked=True).shape)
    except Exception as error:  # whatever timm raises, deep inside, for sizes or outputs that a model does not know
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:150]
        raise ValueError(f"{vit.name} gives no features of images of any size ({reason}): use another ViT") from error
    if found != [1, vit.channels, h, w]:
        raise ValueError(
            f"{vit.name} gives features {found} of an image of {h * vit.patch_size}×{w * vit.patch_size} pixels, where "
            f"{[1, vit.channels, h, w]} follow from its channels and patch size: use another ViT"
        )


def check_images(
    images: Tensor,  # [V, 3, H, W] in 0..1
) -> None:
    """Refuse what is not a batch of RGB images in 0..1. Raises ValueError."""
    if not isinstance(images, Tensor) or images.ndim != 4 or images.shape[1] != 3 or not len(images):
        shape = list(images.shape) if isinstance(images, Tensor) else type(images).__name__
        remedy = ""
        if isinstance(images, Tensor) and images.ndim == 3 and images.shape[0] == 3:
            remedy = "; for one image write images[None]"
        elif isinstance(images, Tensor) and images.ndim in (3, 4) and images.shape[-1] == 3:
            remedy = "; the channels are last: write images.movedim(-1, -3)"
        raise ValueError(f"images must be a float tensor [V, 3, H, W], not {shape}{remedy}")
    if not images.is_floating_point():
        raise ValueError(f"images must be float in 0..1, not {images.dtype}; write images.float() / 255")
    low, high = torch.stack(images.detach().aminmax()).tolist()
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError("images contain values that are not finite (nan or inf)")
    if low < -0.01 or high > 1.01:  # a hair of overshoot from resizing is harmless
        remedy = "divide by 255" if low >= 0 and high > 2 else "mean and std are handled here, do not normalise before"
        raise ValueError(f"images must lie in 0..1; these range from {low:.3g} to {high:.3g}: {remedy}")
