"""Several frozen ViTs read as one: the original and the fine-tuned side by side, summed, or mixed by a learned map.

    Assembly([vit, tuned], "concat")     # the paper's: channels beside each other
    Assembly([vit, tuned], "add")        # the sum: no wider than one
    Assembly([vit, tuned], "fusion")     # a learned linear map from all channels to as many as the first ViT has
    Assembly([vit, vit], "concat")       # the duplicated control: as wide as concat, and nothing new in it

A linear head on "fusion" is a matrix on a matrix, so it can express nothing that a head on "concat" cannot: what
differs is how it is trained, and the paper finds it a little worse. All this is section 4 and the ablations of FiT3D.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..base.inputs import check_vit, check_whole

__all__ = ["WAYS", "Assembly", "Combine", "RawPixels", "assembled", "levels_of"]

WAYS = ("concat", "add", "fusion")

# Tokens of one ViT before its last norm: "cls" [B, C], and "0", "1", … for each level a head reads [B, C, h, w].
Tokens = dict[str, Tensor]


class Assembly:
    """ViTs whose features go to one probe together.

    Args:
        vits: any number of ViTs (or other feature makers such as :class:`RawPixels`); one may occur several times.
            They need one patch size, since features are put together patch by patch. The CLS token of the depth probe
            is the first one's, as in the paper, where the first is the original.
        way: "concat", "add" or "fusion"; one ViT alone is the same in all three except for fusion's extra matrix.

    Attributes:
        fingerprints: hashes of the weights as they are when the assembly is made, by which features are kept.

    Raises ValueError for no ViT, an unknown way, patch sizes that differ, "add" with widths that differ, and ViTs on
    several devices.
    """

    def __init__(self, vits, way: str = "concat"):
        self.vits = tuple(vits) if isinstance(vits, Sequence) else (vits,)
        for vit in self.vits:
            check_vit(vit)
        self.way = way
        if not self.vits:
            raise ValueError("An assembly needs at least one ViT.")
        if way not in WAYS:
            raise ValueError(f"way must be one of {', '.join(WAYS)}, got {way!r}.")
        sizes = [vit.patch_size for vit in self.vits]
        if len(set(sizes)) > 1:
            raise ValueError(
                f"Patch sizes differ ({_said(self.vits, sizes)}): features are put together patch by patch, so take "
                "ViTs of one patch size."
            )
        widths = [vit.channels for vit in self.vits]
        if way == "add" and len(set(widths)) > 1:
            raise ValueError(f"Features of different width cannot be added ({_said(self.vits, widths)}): use 'concat'.")
        if len({vit.mean.device for vit in self.vits}) > 1:
            raise ValueError("The ViTs of an assembly must be on one device.")
        self.fingerprints = tuple(vit.fingerprint() for vit in self.vits)

    @property
    def device(self) -> torch.device:
        return self.vits[0].mean.device

    @property
    def distinct(self) -> dict[str, object]:
        """Fingerprint to ViT, each once: a ViT that occurs twice runs once."""
        return dict(zip(self.fingerprints, self.vits, strict=True))

    @property
    def widths(self) -> list[int]:
        return [vit.channels for vit in self.vits]

    @property
    def name(self) -> str:
        names = [vit.name for vit in self.vits]
        return names[0] if len(names) == 1 else f"{self.way}({', '.join(names)})"


def levels_of(vit, count: int) -> list[int]:
    """The blocks a head reads: the last one, or ``count`` of them evenly spaced and the last among them (3, 6, 9 and 12
    of 12 for four, counted from 1)."""
    if vit.blocks < count:
        return [vit.blocks - 1] * count  # a feature maker with one level gives it everywhere
    return [math.ceil((k + 1) * vit.blocks / count) - 1 for k in range(count)]


class Combine(nn.Module):
    """Feature maps of several ViTs to one map; learned for "fusion" only, where it starts as the mean."""

    def __init__(self, way: str, widths: Sequence[int]):
        super().__init__()
        self.way = way
        self.channels = sum(widths) if way == "concat" else widths[0]
        if way == "fusion":
            self.mix = nn.Conv2d(sum(widths), self.channels, 1)
            with torch.no_grad():
                start = torch.cat([torch.eye(self.channels, width) for width in widths], 1) / len(widths)
                self.mix.weight.copy_(start[:, :, None, None])
                self.mix.bias.zero_()

    def forward(self, parts: Sequence[Tensor]) -> Tensor:  # each [B, C_i, h, w] -> [B, C, h, w]
        if self.way == "add":
            return torch.stack(tuple(parts)).sum(0)
        together = torch.cat(tuple(parts), 1)
        return self.mix(together) if self.way == "fusion" else together


def assembled(
    assembly: Assembly,
    tokens: dict[str, Tokens],  # by fingerprint of the ViT
    norm: bool,
) -> tuple[list[list[Tensor]], Tensor]:  # [level][ViT] of [B, C, h, w], and the first ViT's CLS token [B, C]; float32
    """Tokens as heads take them: on the assembly's device, for each level the maps of all its ViTs in their order."""
    ready = {}
    for fingerprint, vit in assembly.distinct.items():
        # First over to the GPU, then to float32: half the bytes to move, and a GPU converts in no time.
        maps = {name: t.to(assembly.device).float() for name, t in tokens[fingerprint].items()}
        layer = getattr(vit.model, "norm", None) if norm else None
        if layer is not None:
            with torch.no_grad():
                maps = {n: layer(m.movedim(1, -1).to(vit.mean.dtype)).movedim(-1, 1).float() for n, m in maps.items()}
        ready[fingerprint] = maps
    first = ready[assembly.fingerprints[0]]
    levels = [[ready[f][str(level)] for f in assembly.fingerprints] for level in range(len(first) - 1)]
    return levels, first["cls"]


class RawPixels:
    """The control below every ViT: the RGB values of a patch as its features, with a ViT's methods.

    [V, 3, H, W] -> [V, 3 p², h, w]; a patch of 14 pixels gives 588 channels. The mean over patches stands for the CLS token.
    """

    blocks, name, model = 1, "raw RGB", None

    def __init__(self, patch_size: int = 8, device=None):
        check_whole(1, patch_size=patch_size)
        self.patch_size, self.channels = patch_size, 3 * patch_size**2
        self.mean = torch.full((1, 3, 1, 1), 0.5, device=device)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """As ``ViT.grid``."""
        if min(height, width) < self.patch_size:
            raise ValueError(f"an image of {height}×{width} pixels is smaller than a patch of {self.patch_size}")
        return height // self.patch_size, width // self.patch_size

    def extract(self, images: Tensor, block: int | list[int] = -1, norm: bool = True, cls: bool = False, quiet=True):
        """As ``ViT.extract``; every block is the same, and there is no norm to apply."""
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"images must be [V, 3, H, W] in 0..1, not {list(images.shape)}.")
        h, w = self.grid(*images.shape[-2:])
        size = (h * self.patch_size, w * self.patch_size)
        if size != tuple(images.shape[-2:]):
            images = F.interpolate(images, size=size, mode="bilinear", antialias=True, align_corners=False)
        feats = F.pixel_unshuffle((images - self.mean.to(images)) / 0.25, self.patch_size)
        found = (feats, feats.mean((2, 3))) if cls else feats
        return found if isinstance(block, int) else [found for _ in block]

    def fingerprint(self) -> str:
        return hashlib.sha256(f"raw RGB, patches of {self.patch_size}".encode()).hexdigest()[:32]


def _said(vits, numbers) -> str:
    return ", ".join(f"{vit.name} {number}" for vit, number in zip(vits, numbers, strict=True))
