"""Fewer weights to train: low-rank updates that melt into the ViT afterwards, or a residual block on top of it.

LoRA (Hu et al. 2021, arXiv 2106.09685): a linear map W x becomes W x + (alpha / r) B A x with A [r, in], B [out, r];
W stays as it is, and B starts at zero, so that training starts at the original. Afterwards W + (alpha / r) B A is a
plain weight again: the result is an ordinary timm state dict.

The adapter is the alternative that FiT3D compares its fine-tuning with (section 4.4): the ViT stays frozen, and one
residual block maps its features. It cannot melt into the ViT, so it only travels in this package's own file format.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["LoRALinear", "NormWithAdapter", "add_adapter", "add_lora", "merge_lora", "prepare"]


class LoRALinear(nn.Module):
    """A frozen linear layer and a low-rank update of it."""

    def __init__(self, base: nn.Linear, rank: int, alpha: float):
        super().__init__()
        self.base, self.scale = base.requires_grad_(False), alpha / rank
        self.down = nn.Parameter(base.weight.new_empty(rank, base.in_features))  # A
        self.up = nn.Parameter(base.weight.new_zeros(base.out_features, rank))  # B
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    @property
    def weight(self) -> Tensor:  # [out, in]; EVA-02's and DINOv3's attention reads it instead of calling the layer
        return self.base.weight + self.scale * (self.up @ self.down)

    @property
    def bias(self) -> Tensor | None:
        return self.base.bias

    def forward(self, x: Tensor) -> Tensor:  # [..., in] -> [..., out]
        return self.base(x) + self.scale * (x @ self.down.T) @ self.up.T

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """The one linear layer that does the same."""
        self.base.weight += self.scale * (self.up @ self.down)
        return self.base.requires_grad_(True)


class NormWithAdapter(nn.Module):
    """The ViT's last LayerNorm with a residual bottleneck after it, the same for every token; zero at the start."""

    def __init__(self, norm: nn.Module, channels: int, width: int):
        super().__init__()
        self.norm, self.down, self.up = norm, nn.Linear(channels, width), nn.Linear(width, channels)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor) -> Tensor:  # [..., C] -> [..., C]
        x = self.norm(x)
        return x + self.up(nn.functional.gelu(self.down(x)))


def add_lora(model: nn.Module, rank: int, alpha: float, layers: Sequence[str], blocks: Sequence[int] | None) -> None:
    """Freeze a timm ViT and put LoRA on the attention's ``layers`` ("qkv", "proj") of some blocks, or of all.

    Raises ValueError when there is no such block, or when a block has no such layer.
    """
    chosen = range(len(model.blocks)) if blocks is None else blocks
    for block in chosen:
        if not -len(model.blocks) <= block < len(model.blocks):
            raise ValueError(f"lora_blocks names block {block}; this ViT has blocks 0 to {len(model.blocks) - 1}.")
    attentions = [getattr(model.blocks[b], "attn", None) for b in sorted({b % len(model.blocks) for b in chosen})]
    for layer in layers:
        if not all(isinstance(getattr(attention, layer, None), nn.Linear) for attention in attentions):
            raise ValueError(
                f'train="lora" needs blocks with a linear attn.{layer}, and those of this ViT '
                f'({type(model.blocks[0]).__name__}) have none: use train="full" or "adapter".'
            )
    model.requires_grad_(False)
    for attention in attentions:
        for layer in layers:
            setattr(attention, layer, LoRALinear(getattr(attention, layer), rank, alpha))


def merge_lora(model: nn.Module) -> None:
    """Melt every LoRA of a timm ViT into the weights it updates; the state dict has timm's keys again."""
    for parent in list(model.modules()):  # whatever the blocks are made of
        for name, layer in list(parent.named_children()):
            if isinstance(layer, LoRALinear):
                setattr(parent, name, layer.merged())
    model.requires_grad_(True)


def add_adapter(model: nn.Module, width: int) -> None:
    """Put a residual bottleneck after the last norm of a timm ViT, in place; EVA-02 has none there, and an identity
    stands for it. Raises ValueError where there is an adapter, or no place for one."""
    if not isinstance(getattr(model, "norm", None), nn.Module):
        raise ValueError(f'train="adapter" needs a ViT with a last norm, and {type(model).__name__} has none.')
    if isinstance(model.norm, NormWithAdapter):
        raise ValueError("this ViT has an adapter already: train that one, or start from the original.")
    weight = next(model.parameters())
    model.norm = NormWithAdapter(model.norm, model.embed_dim, width).to(weight)


def prepare(vit, recipe) -> list[nn.Parameter]:
    """Make a ViT trainable in place as the recipe says; the weights to train."""
    if recipe.train == "lora":
        add_lora(vit.model, recipe.lora_rank, recipe.lora_alpha, recipe.lora_layers, recipe.lora_blocks)
    elif recipe.train == "adapter":
        vit.model.requires_grad_(False)
        add_adapter(vit.model, recipe.adapter_width)
        vit.config = {**vit.config, "adapter": recipe.adapter_width}
    else:
        vit.model.requires_grad_(True)
    return [p for p in vit.model.parameters() if p.requires_grad]
