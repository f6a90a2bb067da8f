"""Features of vision transformers: from a name to a network, from photos to patch grids, kept once they are made.

Read vit.py first, then load.py and checkpoints.py (weights; in few bytes: compact.py; as other programs wrap them:
wrappings.py), features.py (many photos, and the one cache), assembly.py (several ViTs read as one), adapters.py (fewer
weights to train), shorten.py (fewer blocks, other patches).

Letters: V photos, H W pixels, p the side of a patch, h w patches, C channels.
"""

from .assembly import Assembly, RawPixels

__all__ = ["NAMES", "Assembly", "RawPixels", "ViT", "load_vit", "save_checkpoint", "save_vit"]


def __getattr__(name: str):
    if name not in __all__:
        raise AttributeError(f"fit3d_lite.backbones has no {name!r}")
    from . import vit  # late: it needs timm, which takes seconds to import

    return getattr(vit, name)
