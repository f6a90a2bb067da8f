"""An encoder that puts pictures of one character close together: the supervised contrastive loss, pictures that are spoiled
anew in each step, and the training.

The loss is that of Khosla et al. (arXiv 2004.11362, equation 2), which EffOCR trains its encoders with.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..base.inputs import check_whole


def supervised_contrastive(z: Tensor, labels: Tensor, temperature: float = 0.1) -> Tensor:
    """−1/|I| Σ_i 1/|P(i)| Σ_{p ∈ P(i)} log( exp(z_i·z_p/τ) / Σ_{a ≠ i} exp(z_i·z_a/τ) ), over all i that have a partner.

    Args:
        z: ``[N, C]``, rows of length 1.
        labels: ``[N]`` whole numbers; P(i) are the others with the label of i.

    Raises ValueError where no two labels are equal: nothing would be drawn together.
    """
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    partners = (labels[:, None] == labels[None, :]) & ~itself
    count = partners.sum(1)
    if not count.any():
        raise ValueError(f"the {len(z)} pictures have {len(z)} different labels; at least two must show the same.")
    log_p = (z @ z.T / temperature).masked_fill(itself, -torch.inf).log_softmax(1)
    return -(log_p.masked_fill(~partners, 0).sum(1) / count.clamp_min(1))[count > 0].mean()


class Encoder(nn.Module):
    """A small residual network of timm: pictures of ink ``[N, 32, W]`` to vectors of length 1 ``[N, C]``."""

    def __init__(self, channels: tuple[int, ...] = (16, 32, 64, 128)):
        import timm

        super().__init__()
        self.body = timm.create_model(
            "resnet10t", pretrained=False, num_classes=0, in_chans=1, channels=channels, stem_width=channels[0] // 2
        )
        self.to(memory_format=torch.channels_last)

    def forward(self, ink: Tensor) -> Tensor:
        return F.normalize(self.body(ink[:, None].contiguous(memory_format=torch.channels_last)), dim=1)

    @torch.no_grad()
    def embed(self, ink: np.ndarray | Tensor) -> np.ndarray:
        """The vectors ``[N, C]`` of pictures ``[N, 32, W]``, any number of them; the encoder is left in eval mode."""
        device = next(self.eval().parameters()).device
        parts = torch.as_tensor(ink, dtype=torch.float32).split(512)
        return torch.cat([self(part.to(device)).cpu() for part in parts]).numpy()


def vary(ink: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Pictures ``[N, H, W]`` as a line might hold them: moved, turned, slanted, thicker or thinner, softer, noisier."""
    n, h, w = ink.shape
    ink = ink[:, None]

    def chance(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=generator)

    across = torch.stack([chance(0.85, 1.18, n), chance(-0.12, 0.12, n) * h / w, chance(-0.1, 0.1, n) * h / w], 1)
    down = torch.stack([chance(-0.07, 0.07, n) * w / h, chance(0.88, 1.12, n), chance(-0.1, 0.1, n)], 1)
    grid = F.affine_grid(torch.stack([across, down], 1), list(ink.shape), align_corners=False)
    fewer = chance(0.4, 1.0).item()  # of the rows and columns: one softness for the batch, that is cheap
    moved = F.grid_sample(ink, grid, align_corners=False)
    soft = F.interpolate(moved, scale_factor=fewer, mode="bilinear", antialias=True)
    soft = F.interpolate(soft, size=(h, w), mode="bilinear")
    clumps = F.interpolate(torch.randn(n, 1, h // 4, w // 4, generator=generator), size=(h, w), mode="bilinear")
    begins = chance(0.25, 0.65, n, 1, 1, 1) + chance(0, 0.2, n, 1, 1, 1) * clumps  # how soft ink may be: thicker or thinner
    pressed = torch.sigmoid(chance(5, 14, n, 1, 1, 1) * (soft - begins)) * (soft > 0.02)
    noise = chance(0, 0.2, n, 1, 1, 1) * torch.randn(soft.shape, generator=generator)
    return (torch.where(chance(0, 1, n, 1, 1, 1) < 0.5, soft, pressed) + noise).clamp(0, 1)[:, 0]


def train_encoder(ink: np.ndarray, steps: int = 150, seed: int = 0, encoder: Encoder | None = None, classes: int = 64,
                  examples: int = 4, lr: float = 1e-2, report=None) -> Encoder:  # fmt: skip
    """An encoder trained on clean pictures ``[faces, labels, H, W]`` (``pictures``), varied anew in every step.

    Args:
        encoder: one to go on with, changed in place; a new one, of the seed, when None.
        classes, examples: a batch shows so many labels, and each so many times, in typefaces drawn by chance.
        report: called with (step, loss) after each step.
    """
    check_whole(1, steps=steps, classes=classes)
    check_whole(2, examples=examples)
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = Encoder() if encoder is None else encoder
    device, source = next(encoder.parameters()).device, torch.as_tensor(ink, dtype=torch.float32)
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=lr, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, pct_start=0.2)
    encoder.train()
    for step in range(steps):
        label = torch.randperm(source.shape[1], generator=generator)[:classes].repeat(examples)
        face = torch.randint(len(source), label.shape, generator=generator)
        loss = supervised_contrastive(encoder(vary(source[face, label], generator).to(device)), label.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if report is not None:
            report(step, loss.item())
    return encoder.eval()
