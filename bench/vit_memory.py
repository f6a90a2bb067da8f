"""Memory of one fine-tuning step at full size, computed without a GPU: table in bench/results/memory.md.

    python -m bench.vit_memory

The step that finetune takes (Trainer of fit3d_lite/finetuning: forward, look at the drift, backward, clipping, AdamW)
runs on fake tensors, which have a shape and a type but no numbers. Every storage that is alive is counted, in blocks of
512 bytes as CUDA's allocator hands them out, and the highest sum is the peak: weights of the original and of the copy
in training, gradients, both moments of AdamW, activations, temporaries. Not counted, since shapes do not tell it: what
lies inside one operation (workspaces), the gaps between blocks, and the CUDA context. ALLOWANCE stands for these; it is
an assumption.
Attention is the kind that never stores its N × N table (CPU flash attention here, memory-efficient attention on a T4).
"""

from __future__ import annotations

import copy
import warnings
import weakref
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fit3d_lite import load_vit
from fit3d_lite.finetuning.recipes import named_recipe
from fit3d_lite.finetuning.step import Trainer

RESULTS = Path(__file__).parent / "results" / "memory.md"
SIZE = 518
LIMIT = 12.0  # GB, the course's promise for a T4
ALLOWANCE = 1.5  # GB beside the tensors: CUDA context, cuBLAS and attention workspaces, gaps
MODELS = ("dinov2_small", "dinov2_base")
NAMES = {torch.float32: "fp32", torch.float16: "fp16"}


class Peak(TorchDispatchMode):
    """Counts the bytes of all storages that are alive, and the most there ever were."""

    def __init__(self):
        super().__init__()
        self.alive = self.peak = 0
        self.known = weakref.WeakKeyDictionary()

    def note(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage in self.known:
            return
        size = -(-storage.nbytes() // 512) * 512
        self.known[storage] = size
        self.alive += size
        self.peak = max(self.peak, self.alive)
        weakref.finalize(storage, self._freed, size)

    def _freed(self, size: int) -> None:
        self.alive -= size

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        out = operation(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self.note(leaf)
        return out


def without_numbers(module: nn.Module, fake: FakeTensorMode) -> None:
    """Weights and buffers replaced by fake ones, in place."""
    for part in module.modules():
        for name, weight in part._parameters.items():
            if weight is not None:
                part._parameters[name] = nn.Parameter(fake.from_tensor(weight.data), weight.requires_grad)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = fake.from_tensor(buffer)


def step_bytes(
    vit, recipe: str = "paper", batch: int = 2, dtype=torch.float32, checkpointing=False, at_once=None, size: int = SIZE
) -> int:
    """Peak of one step of fine-tuning ``vit`` (its weights are not touched), in bytes of tensors."""
    vit = copy.deepcopy(vit)
    vit.set_grad_checkpointing(checkpointing)
    with FakeTensorMode(allow_non_fake_inputs=True) as fake:
        without_numbers(vit, fake)
        with mock.patch.object(nn.Module, "to", lambda module, *_, **__: module), warnings.catch_warnings():
            # All are in place already; and copying a fake tensor asks for an address that nobody uses.
            warnings.simplefilter("ignore", UserWarning)
            trainer = Trainer(vit, [], SimpleNamespace(), named_recipe(recipe, batch=batch), dtype, at_once)
        h, w = vit.grid(size, size)
        patches = batch * h * w
        images, mask = torch.rand(batch, 3, size, size), torch.ones(batch, h, w, dtype=torch.bool)
        given = (images, torch.rand(batch, vit.channels, h, w), torch.rand(batch, h, w), mask)
        with Peak() as peak:
            for tensor in (*vit.parameters(), *trainer.student.parameters(), *trainer.target_scale.buffers(), *given):
                peak.note(tensor)
            for _ in range(2):  # the moments are there from the second step on
                trainer._backward(given, patches, patches, look=True)
                nn.utils.clip_grad_norm_(trainer.weights, 1.0)
                trainer.optimizer.step()
        return peak.peak


def extract_bytes(vit, batch: int, dtype=torch.float32, size: int = SIZE) -> int:
    """Peak of one batch of ViT.extract, in bytes of tensors."""
    vit = copy.deepcopy(vit)
    with FakeTensorMode(allow_non_fake_inputs=True) as fake, torch.no_grad():
        without_numbers(vit, fake)
        images = torch.rand(batch, 3, size, size)
        with Peak() as peak:
            for tensor in (*vit.parameters(), images):
                peak.note(tensor)
            with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
                vit.features(images, checked=True).float()
        return peak.peak


def gigabytes(size: int) -> float:
    return size / 1e9


def table() -> str:
    """All rows, as Markdown."""
    rows = ["| ViT | recipe | images a step (at once) | type | checkpointing | tensors, GB | with allowance | under 12 GB |",
            "|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for name in MODELS:
        vit = load_vit(name, "random", device="cpu")
        for recipe in ("paper", "lite"):
            for batch, at_once in ((2, 2), (4, 4), (4, 2)):
                for dtype in (torch.float32, torch.float16):
                    for checkpointing in (False, True):
                        size = gigabytes(step_bytes(vit, recipe, batch, dtype, checkpointing, at_once))
                        fits = "yes" if size + ALLOWANCE < LIMIT else "**no**"
                        rows.append(
                            f"| {name} | {recipe} | {batch} ({at_once}) | {NAMES[dtype]} | {'on' if checkpointing else 'off'} "
                            f"| {size:.2f} | {size + ALLOWANCE:.2f} | {fits} |"
                        )
    return "\n".join(rows)


def extraction_table() -> str:
    rows = ["| ViT | images at once | type | tensors, GB |", "|---|---|---|---|"]
    for name in MODELS:
        vit = load_vit(name, "random", device="cpu")
        for batch in (16, 64):
            for dtype in (torch.float32, torch.float16):
                rows.append(f"| {name} | {batch} | {NAMES[dtype]} | {gigabytes(extract_bytes(vit, batch, dtype)):.2f} |")
    return "\n".join(rows)


def main() -> None:
    text = f"""# Memory of the ViT at full size

**Computed, not measured** (measured on an H100: gpu.md). `python -m bench.vit_memory` made these tables; `make bench-gpu`
measures the same with `torch.cuda.max_memory_allocated` (bench/gpu_memory.py), and whoever runs it should put the two
side by side.

{__doc__.split("    python -m bench.vit_memory")[1].strip()}

## One step of fine-tuning, photos of {SIZE} × {SIZE}

Allowance {ALLOWANCE} GB; the look at the drift, which costs a pass of the original, is included.

{table()}

## Features in bulk (ViT.extract), photos of {SIZE} × {SIZE}

{extraction_table()}
"""
    RESULTS.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
