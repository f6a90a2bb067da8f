"""A ViT for tests that do not care what it sees: random weights, patches of 8 pixels, 192 channels, 6 blocks."""

import timm
import torch

from fit3d_lite.backbones.load import IMAGENET
from fit3d_lite.backbones.vit import ViT

TINY = dict(
    img_size=192,
    patch_size=8,
    embed_dim=192,
    depth=6,
    num_heads=3,
    num_classes=0,
    global_pool="token",
    dynamic_img_size=True,
)


def tiny_vit(seed: int = 0, dtype: torch.dtype | None = None) -> ViT:
    """The same for the same seed, on the CPU, in evaluation mode; no other random number is disturbed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = timm.models.VisionTransformer(**TINY)
    return ViT(model, "tiny", {"arch": TINY} | IMAGENET).to(dtype=dtype).eval()
