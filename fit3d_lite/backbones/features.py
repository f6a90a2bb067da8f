"""Features of many photos: in batches that fit the memory, without gradients, and never made twice.

    in_batches(vit, images, …)           the work behind ViT.extract
    kept(folder, key, make)              the cache: what was made for a key is found again under it
    FeatureStore(assembly, photos, …)    features of a whole data set in half precision, in memory while they fit it

A probe reads a data set many times and its ViTs once: a FeatureStore runs every ViT over every photo, a chunk at a time,
each chunk an entry of the cache, so a stopped extraction goes on where it stopped. What it holds are tokens *before* the
last LayerNorm: the depth probe reads them as they are, the segmentation probe takes them through the frozen norm when a
batch is read, and one extraction serves both.
"""

from __future__ import annotations

import functools
import hashlib
import tempfile
import warnings
from collections.abc import Callable
from numbers import Number
from pathlib import Path

import safetensors
import torch
from torch import Tensor
from tqdm import tqdm

from ..base import whole
from ..base.inputs import check_whole
from ..base.machine import best_dtype, out_of_memory
from .assembly import Assembly, Tokens, assembled, levels_of

__all__ = ["FeatureStore", "digest_of", "in_batches", "kept", "tokens_of"]

CHUNK = 16  # photos an entry
MEMORY = 2e9  # bytes of features of one data set that are kept in memory unless told otherwise


def kept(folder, key: str, make: Callable[[], dict[str, Tensor]]) -> tuple[dict[str, Tensor], Path | None]:
    """What ``make`` gave when this key was first asked for, and the file that holds it; without a folder it is made anew.

    The key names all that decides the features: weights, photos, options, precision. A damaged file is made again.
    """
    if folder is None:
        return make(), None
    path = Path(folder) / f"features-{hashlib.sha256(key.encode()).hexdigest()[:32]}.safetensors"
    if path.is_file():
        try:
            return whole.load(path, "features", "make it again")[1], path
        except ValueError:
            pass
    tensors = make()
    try:
        return tensors, whole.save(path, "features", {}, tensors)
    except OSError as error:  # a full cache costs the cache, not the features
        warnings.warn(f"features are not kept: {error}", stacklevel=2)
        return tensors, None


def raw_bytes(tensor: Tensor) -> memoryview:
    """The bytes of a tensor, for hashing."""
    return memoryview(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())


def digest_of(image: Tensor) -> str:  # [3, H, W]
    """A hash by which the same photo is known again."""
    return hashlib.sha256(raw_bytes(image)).hexdigest()[:32]


# ---- batches


def in_batches(
    vit,
    images: Tensor,  # [V, 3, H, W] in 0..1, checked
    batch: int | None,
    block: int | list[int],
    norm: bool,
    cls: bool,
    dtype: torch.dtype | None,
    cache,
    quiet: bool = False,
):
    """The work behind ``ViT.extract``, which says what the arguments mean and what is raised."""
    check_whole(1, batch=batch)
    dtype = dtype or best_dtype(vit.mean.device)
    if dtype not in (torch.float32, torch.float16, torch.bfloat16):
        raise ValueError(f"dtype must be torch.float32, torch.float16 or torch.bfloat16, got {dtype!r}.")
    blocks = [block] if isinstance(block, Number) else list(block)
    options = {"block": blocks, "norm": norm, "cls": cls}

    def make() -> dict[str, Tensor]:
        training = vit.training
        vit.eval()
        try:
            parts = _run(vit, images, batch or batch_that_fits(vit, *images.shape[-2:]), options, dtype, quiet)
        finally:
            vit.train(training)
        tensors = {str(i): torch.cat(column) for i, column in enumerate(zip(*parts, strict=True))}
        if not all(tensor.isfinite().all() for tensor in tensors.values()):
            lost = [name for name, weight in vit.named_parameters() if not weight.isfinite().all()]
            reason = f"in {dtype}; use " + ("dtype=torch.float32" if dtype != torch.float32 else "other weights: they overflow")
            if lost:
                reason = f"because {len(lost)} of its weights hold nan or inf, {lost[0]} first: load an earlier checkpoint"
            raise FloatingPointError(f"{vit.name} gave features that are not finite {reason}")
        return tensors

    key = ""
    if cache is not None:  # hashing weights and photos takes time
        photos = f"{tuple(images.shape)} {images.dtype} {[digest_of(image) for image in images]}"
        key = f"{vit.fingerprint()} {photos} {options} {dtype}"
    tensors = kept(cache, key, make)[0]
    flat = [tensors[str(i)].to(images.device) for i in range(len(tensors))]
    by_block = list(zip(flat[::2], flat[1::2], strict=True)) if cls else flat
    return by_block[0] if isinstance(block, Number) else by_block


def _run(vit, images, batch, options, dtype, quiet) -> list[list[Tensor]]:
    """For each batch the maps of every block asked for, each followed by its CLS tokens where these are asked for."""
    device, parts, done = vit.mean.device, [], 0
    with tqdm(total=len(images), desc=f"{vit.name} features", unit="image", delay=2.0, disable=quiet) as bar:
        while done < len(images):
            chunk = images[done : done + batch]
            try:
                with torch.inference_mode(), torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                    out = vit.features(chunk, checked=True, **options)
                out = [tensor for pair in out for tensor in pair] if options["cls"] else out
                out = [tensor.to(images.device, torch.float32) for tensor in out]
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
                out = None
            if out is None:  # only here, outside the except, does the traceback no longer hold the tensors
                if device.type == "cuda":
                    torch.cuda.empty_cache()
                if len(chunk) == 1:
                    size = "×".join(str(n) for n in images.shape[-2:])
                    raise MemoryError(f"one image of {size} does not fit the memory of {device}; use smaller images")
                batch = len(chunk) // 2
                continue
            parts.append(out)
            done += len(chunk)
            bar.update(len(chunk))
    return parts


def batch_that_fits(vit, height: int, width: int) -> int:
    """Images at once for half of the free GPU memory, or for 160 MB on a CPU: with more, the C library gives the memory of
    each product back to the system, and fetching it again takes a fifth of the time."""
    h, w = vit.grid(height, width)
    # The widest moment of a block holds the tokens about a dozen times (q, k, v, the fourfold MLP, residuals); twice
    # that leaves room for the allocator. 5 prefix tokens are the most of the six models.
    one = 24 * 4 * vit.channels * (h * w + 5)
    free = torch.cuda.mem_get_info(vit.mean.device)[0] // 2 if vit.mean.is_cuda else 160_000_000
    return max(1, min(256, free // one))


# ---- a whole data set


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
        size, sides = (photos.height, photos.width), (False, True) if mirrored else (False,)
        per_photo = 0
        for vit in assembly.distinct.values():
            h, w = vit.grid(*size)
            per_photo += 2 * vit.channels * (levels * h * w + 1)
        self.bytes = per_photo * len(photos) * len(sides)
        self.on_disk = self.bytes > memory
        if self.on_disk and cache is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="fit3d_features_")
            cache = self._temporary.name
        self._files: dict[tuple, Path] = {}  # by fingerprint, side and chunk
        self._whole: dict[tuple, Tokens] = {}  # by fingerprint and side
        # On a CPU, and where there is room, a hundred batches are read from what was made float32 and normalised once.
        self._may_hold = assembly.device.type == "cpu" and not self.on_disk and 5 * self.bytes <= memory
        self._ready: dict[tuple[bool, bool], tuple[list[list[Tensor]], Tensor]] = {}  # by norm and side

        options = f"{levels} levels, {best_dtype(assembly.device)}, float16 before the norm"
        with tqdm(total=len(photos), desc="features", unit="photo", delay=5.0, mininterval=1.0) as bar:
            for start in range(0, len(photos), CHUNK):
                numbers = range(start, min(start + CHUNK, len(photos)))
                digests = [photos.digests[i] for i in numbers]
                read = functools.cache(functools.partial(photos.images, numbers))  # at most once, and only when needed
                for side in sides:
                    for fingerprint, vit in assembly.distinct.items():
                        key = f"{fingerprint} {size} {digests} mirrored={side} {options}"
                        tokens, path = kept(
                            cache, key, lambda: tokens_of(vit, read().flip(-1) if side else read(), levels)
                        )
                        self._hold((fingerprint, side), numbers, tokens, path)
                bar.update(len(numbers))

    def __len__(self) -> int:
        return self._count

    def batch(self, indices, norm: bool, mirrored: bool = False) -> tuple[list[list[Tensor]], Tensor]:
        """Features of the photos ``indices`` as ``assembled`` gives them."""
        indices = [int(i) for i in indices]
        if self._may_hold:
            if (norm, mirrored) not in self._ready:
                tokens = {fingerprint: self._whole[fingerprint, mirrored] for fingerprint in self.assembly.distinct}
                self._ready[norm, mirrored] = assembled(self.assembly, tokens, norm)
            levels, cls = self._ready[norm, mirrored]
            some = {id(maps): _of_photos(maps, indices) for level in levels for maps in level}
            return [[some[id(maps)] for maps in level] for level in levels], cls[indices]
        read = self._from_files if self.on_disk else self._from_memory
        tokens = {fingerprint: read((fingerprint, mirrored), indices) for fingerprint in self.assembly.distinct}
        return assembled(self.assembly, tokens, norm)

    def _hold(self, which, numbers: range, tokens: Tokens, path: Path | None) -> None:
        """Remember the file of one chunk, or put its tokens where they belong among those of all photos."""
        if self.on_disk:
            if path is None:
                raise OSError(f"{self.bytes / 2**20:,.0f} MB of features do not fit memory=, and their folder is full.")
            self._files[*which, numbers.start // CHUNK] = path
            return
        if which not in self._whole:
            self._whole[which] = {n: t.new_empty(self._count, *t.shape[1:]) for n, t in tokens.items()}
        for name, tensor in tokens.items():
            self._whole[which][name][numbers.start : numbers.stop] = tensor

    def _from_memory(self, which, indices) -> Tokens:
        chosen = torch.tensor(indices)
        return {name: tensor.index_select(0, chosen) for name, tensor in self._whole[which].items()}

    def _from_files(self, which, indices) -> Tokens:
        rows = []
        for i in indices:
            with safetensors.safe_open(self._files[*which, i // CHUNK], "pt") as file:
                rows.append({name: file.get_slice(name)[i % CHUNK] for name in file.keys()})
        return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


def _of_photos(maps: Tensor, indices: list[int]) -> Tensor:  # [N, C, h, w] -> [B, C, h, w]
    """``maps[indices]``, of which torch copies whole photos at once only where these lie in one piece, as after a norm the
    channels of a patch do: several times faster."""
    chosen = torch.tensor(indices, device=maps.device)
    if maps.is_contiguous():
        return maps.index_select(0, chosen)
    return maps.movedim(1, -1).index_select(0, chosen).movedim(-1, 1)


def tokens_of(vit, images: Tensor, levels: int = 1) -> Tokens:  # images: [B, 3, H, W]
    """What one ViT says about a few photos, before the last norm. The mean patch stands in where there is no CLS token.

    Raises FloatingPointError when a value does not fit half precision (65504).
    """
    has_cls = vit.model is None or vit.has_cls
    by_level = vit.extract(images, block=levels_of(vit, levels), norm=False, cls=has_cls, quiet=True)
    feats = [pair[0] for pair in by_level] if has_cls else by_level
    cls = by_level[-1][1] if has_cls else feats[-1].mean((2, 3))
    tokens = {str(level): f for level, f in enumerate(feats)} | {"cls": cls}
    tokens = {name: tensor.to("cpu", torch.float16).contiguous() for name, tensor in tokens.items()}
    if not all(tensor.isfinite().all() for tensor in tokens.values()):
        raise FloatingPointError(f"{vit.name} gives features beyond ±65504, which half precision cannot keep, or NaN.")
    return tokens
