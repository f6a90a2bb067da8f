"""Features of a whole data set, extracted once, kept in half precision: in memory while they fit it, else on disk.

Every ViT runs once over every photo, a chunk at a time. A chunk's features are one file, whole or absent, whose name
is a hash of the weights, the photos and the options. So a stopped extraction goes on where it stopped, and a second
probe on the same photos starts at once. What is kept are tokens *before* the last LayerNorm: the depth probe reads
them as they are, the segmentation probe takes them through the frozen norm when a batch is read, and one extraction
serves both.
"""

from __future__ import annotations

import functools
import hashlib
import tempfile
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor
from tqdm import tqdm

from ..base.machine import best_dtype
from ..base.whole import replace_when_whole
from .assembly import Assembly, levels_of

__all__ = ["FeatureStore", "assembled", "tokens_of"]

CHUNK = 16  # photos a file
MEMORY = 2e9  # bytes of features of one data set that are kept in memory unless told otherwise

# Tokens of one ViT: "cls" [B, C], and "0", "1", … for each level a head reads [B, C, h, w]; float16 on the CPU.
Tokens = dict[str, Tensor]


def tokens_of(vit, images: Tensor, levels: int = 1) -> Tokens:  # images: [B, 3, H, W]
    """What one ViT says about a few photos, before the last norm. The mean patch stands in where there is no CLS token.

    Raises FloatingPointError when a value does not fit half precision (65504).
    """
    has_cls = vit.model is None or getattr(vit.model, "cls_token", None) is not None
    found = vit.extract(images, block=levels_of(vit, levels), norm=False, cls=has_cls, quiet=True)
    feats = [pair[0] for pair in found] if has_cls else found
    cls = found[-1][1] if has_cls else feats[-1].mean((2, 3))
    tokens = {str(level): f for level, f in enumerate(feats)} | {"cls": cls}
    tokens = {name: tensor.to("cpu", torch.float16).contiguous() for name, tensor in tokens.items()}
    if not all(tensor.isfinite().all() for tensor in tokens.values()):
        raise FloatingPointError(f"{vit.name} gives features beyond ±65504, which half precision cannot keep.")
    return tokens


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


class Chunk:
    """A few photos, which are read only if their features are not there yet."""

    def __init__(self, photos, numbers: range):
        self.photos, self.numbers = photos, numbers
        size = (photos.height, photos.width)
        self.digest = hashlib.sha256(f"{size} {[photos.digests[i] for i in numbers]}".encode()).hexdigest()

    @functools.cached_property
    def images(self) -> Tensor:
        return self.photos.images(self.numbers)


class FeatureStore:
    """The features of one data set, read in batches.

    Args:
        photos: has a length, ``height``, ``width``, ``digests`` (a hash of each photo) and ``images(indices)``
            [B, 3, H, W], which is asked for one chunk at a time, and only for features that are not in ``cache``.
        levels: how many blocks a head reads, 1 or 4.
        mirrored: also keep the features of the mirrored photos.
        cache: folder of the files, which stay there; without it nothing is left on disk.
        memory: bytes of features kept in memory. Above it they are read from files, which lie in ``cache``, or in a
            temporary folder that goes when the store goes.

    Attributes: bytes (of all features), on_disk.
    """

    def __init__(
        self, assembly: Assembly, photos, levels: int = 1, mirrored: bool = False, cache=None, memory: float = MEMORY
    ):
        self.assembly, self._count = assembly, len(photos)
        sides = (False, True) if mirrored else (False,)
        per_photo = 0
        for vit in assembly.distinct.values():
            h, w = vit.grid(photos.height, photos.width)
            per_photo += 2 * vit.channels * (levels * h * w + 1)
        self.bytes = per_photo * len(photos) * len(sides)
        self.on_disk = self.bytes > memory
        if self.on_disk and cache is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="fit3d_features_")
            cache = self._temporary.name
        self._files: dict[tuple, Path] = {}  # by fingerprint, side and chunk
        self._whole: dict[tuple, Tokens] = {}  # by fingerprint and side

        with tqdm(total=len(photos), desc="features", unit="photo", delay=5.0, mininterval=1.0) as bar:
            for start in range(0, len(photos), CHUNK):
                chunk = Chunk(photos, range(start, min(start + CHUNK, len(photos))))
                for side in sides:
                    for fingerprint, vit in assembly.distinct.items():
                        self._take(vit, (fingerprint, side), chunk, levels, cache)
                bar.update(len(chunk.numbers))

    def __len__(self) -> int:
        return self._count

    def batch(self, indices, norm: bool, mirrored: bool = False) -> tuple[list[list[Tensor]], Tensor]:
        """Features of the photos ``indices`` as :func:`assembled` gives them."""
        indices = [int(i) for i in indices]
        read = self._from_files if self.on_disk else self._from_memory
        tokens = {fingerprint: read((fingerprint, mirrored), indices) for fingerprint in self.assembly.distinct}
        return assembled(self.assembly, tokens, norm)

    def _take(self, vit, which, chunk: Chunk, levels, cache) -> None:
        """Find or make one chunk of one ViT, and keep it where it belongs."""
        tokens = path = None
        if cache is not None:
            key = f"{which} {chunk.digest} {levels} {best_dtype(self.assembly.device)}"
            path = Path(cache) / f"tokens-{hashlib.sha256(key.encode()).hexdigest()[:32]}.safetensors"
            tokens = _read(path)
        if tokens is None:
            tokens = tokens_of(vit, chunk.images.flip(-1) if which[1] else chunk.images, levels)
            if path is not None:
                with replace_when_whole(path) as partial:
                    safetensors.torch.save_file(tokens, partial)
        if self.on_disk:
            self._files[*which, chunk.numbers[0] // CHUNK] = path
            return
        if which not in self._whole:
            self._whole[which] = {n: t.new_empty(self._count, *t.shape[1:]) for n, t in tokens.items()}
        for name, tensor in tokens.items():
            self._whole[which][name][chunk.numbers.start : chunk.numbers.stop] = tensor

    def _from_memory(self, which, indices) -> Tokens:
        return {name: tensor[indices] for name, tensor in self._whole[which].items()}

    def _from_files(self, which, indices) -> Tokens:
        rows = []
        for i in indices:
            with safetensors.safe_open(self._files[*which, i // CHUNK], "pt") as file:
                rows.append({name: file.get_slice(name)[i % CHUNK] for name in file.keys()})
        return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


def _read(path: Path) -> Tokens | None:
    if not path.is_file():
        return None
    try:
        return safetensors.torch.load_file(path)
    except safetensors.SafetensorError:  # damaged on disk: compute it again
        return None
