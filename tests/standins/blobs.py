"""Features of which a picture is known beforehand, and a figure as the pixels that it draws."""

import io

import numpy as np
import torch
from PIL import Image


def blobs(views=3, channels=12, h=6, w=8, seed=0):
    """Features with three strong, skewed directions and some noise, as [V, C, h, w]."""
    g = torch.Generator().manual_seed(seed)
    strong = torch.randn(views * h * w, 3, generator=g).exp() * torch.tensor([4.0, 2.0, 1.0])
    mix = torch.linalg.qr(torch.randn(channels, channels, generator=g))[0][:3]
    x = strong @ mix + 0.01 * torch.randn(views * h * w, channels, generator=g) + 5
    return x.reshape(views, h, w, channels).movedim(-1, 1)


def rotated(feats, seed=1):
    channels = feats.shape[1]
    q = torch.linalg.qr(torch.randn(channels, channels, generator=torch.Generator().manual_seed(seed)))[0]
    return torch.einsum("vchw,cd->vdhw", feats, q)


def drawn(figure):
    out = io.BytesIO()
    figure.savefig(out, format="png")
    return np.asarray(Image.open(out).convert("RGB"))
