"""A ViT cut short after some of its blocks or looking at other patches, and a last norm for features that it was not made for."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from ..base.inputs import check_whole
from .vit import ViT

__all__ = ["first_blocks", "other_patches", "standardise"]


def first_blocks(vit: ViT, blocks: int) -> ViT:
    """A new ViT of the first ``blocks`` blocks and the last norm. ValueError where it has fewer."""
    if not 1 <= blocks <= vit.blocks:
        raise ValueError(f"{vit.name} has {vit.blocks} blocks, not {blocks}.")
    model = copy.deepcopy(vit.model)
    model.blocks = model.blocks[:blocks]
    short = ViT(model, vit.name, vit.config | {"depth": blocks}).eval()
    return short.to(vit.mean.device)


def other_patches(vit: ViT, pixels: int) -> ViT:
    """A new ViT of the same weights that looks at patches of ``pixels`` a side.

    Its first layer is resampled so that an enlarged patch gives the token that the patch gave (FlexiViT, arXiv 2212.08013,
    section 3.4, by timm), and the embedding of places is stretched to the new grid. ValueError for less than two pixels.
    """
    check_whole(2, pixels=pixels)
    model = copy.deepcopy(vit.model)
    model.set_input_size(patch_size=(pixels, pixels))
    for info in model.feature_info:
        info["reduction"] = pixels
    other = ViT(model, vit.name, vit.config | {"patch_size": pixels}).eval()
    return other.to(vit.mean.device)


@torch.no_grad()
def standardise(vit: ViT, photos: Tensor) -> None:  # [V, 3, H, W]
    """Give the last norm the gain and bias with which each channel has mean 0 and standard deviation 1 on ``photos``.
    ValueError for a ViT without such a norm."""
    norm = vit.model.norm
    if getattr(norm, "weight", None) is None or getattr(norm, "bias", None) is None:
        raise ValueError(f"{vit.name} has no last norm with a gain and a bias, so its features cannot be standardised by it.")
    norm.weight.fill_(1)
    norm.bias.zero_()
    feats = torch.cat([vit.extract(photo[None], quiet=True, dtype=torch.float32) for photo in photos])
    mean, std = feats.mean((0, 2, 3)), feats.std((0, 2, 3))
    norm.weight.copy_(1 / std)
    norm.bias.copy_(-mean / std)
