"""Features in bulk: batches that fit the memory there is, no gradients, and a cache that is never half written."""

import hashlib
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor
from tqdm import tqdm

from ..base.machine import best_dtype
from ..base.whole import replace_when_whole


def in_batches(
    vit,
    images: Tensor,  # [V, 3, H, W] in 0..1
    batch: int | None,
    options: dict,  # keyword arguments of ViT.features
    dtype: torch.dtype | None,
    cache,
    quiet: bool = False,
):
    """The work behind ``ViT.extract``, which says what the arguments mean and what is raised."""
    if batch is not None and batch < 1:
        raise ValueError(f"batch is {batch} and must be at least 1, or None to fit the memory")
    device = vit.mean.device
    dtype = dtype or best_dtype(device)
    if cache is not None:
        path = Path(cache) / f"features-{_key(vit, images, options, dtype)}.safetensors"
        if (found := _read(path)) is not None:
            return _nest([tensor.to(images.device) for tensor in found], options)

    training = vit.training
    vit.eval()
    try:
        parts = _run(vit, images, batch or batch_that_fits(vit, *images.shape[-2:]), options, dtype, quiet)
    finally:
        vit.train(training)
    whole = [torch.cat(column) for column in zip(*parts, strict=True)]
    if not all(tensor.isfinite().all() for tensor in whole):
        raise FloatingPointError(f"{vit.name} gave features that are not finite in {dtype}; use dtype=torch.float32")
    if cache is not None:
        tensors = {str(i): tensor.cpu().contiguous() for i, tensor in enumerate(whole)}
        with replace_when_whole(path) as partial:
            safetensors.torch.save_file(tensors, partial)
    return _nest(whole, options)


def _run(vit, images, batch, options, dtype, quiet) -> list[list[Tensor]]:
    device, parts, done = vit.mean.device, [], 0
    with tqdm(total=len(images), desc=f"{vit.name} features", unit="image", delay=2.0, disable=quiet) as bar:
        while done < len(images):
            chunk = images[done : done + batch]
            try:
                with torch.inference_mode(), torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                    out = _flat(vit.features(chunk, checked=True, **options), options)
                out = [tensor.to(images.device, torch.float32) for tensor in out]
            except RuntimeError as error:  # torch.OutOfMemoryError is one; the CPU's has no class of its own
                if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
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
    """Images at once for half of the free GPU memory, or for 1 GB on a CPU, which more would not make faster."""
    h, w = vit.grid(height, width)
    # The widest moment of a block holds the tokens about a dozen times (q, k, v, the fourfold MLP, residuals); twice
    # that leaves room for the allocator. 5 prefix tokens are the most of the six models.
    one = 24 * 4 * vit.channels * (h * w + 5)
    free = torch.cuda.mem_get_info(vit.mean.device)[0] // 2 if vit.mean.is_cuda else 2**30
    return max(1, min(256, free // one))


def raw_bytes(tensor: Tensor) -> memoryview:
    """The bytes of a tensor, for hashing."""
    return memoryview(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())


def _key(vit, images, options, dtype) -> str:
    digest = hashlib.sha256(f"{vit.fingerprint()} {tuple(images.shape)} {images.dtype} {options} {dtype}".encode())
    for image in images:
        digest.update(raw_bytes(image))
    return digest.hexdigest()[:32]


def _read(path) -> list[Tensor] | None:
    if not path.is_file():
        return None
    try:
        found = safetensors.torch.load_file(path)
    except safetensors.SafetensorError:  # damaged on disk: compute it again
        return None
    return [found[str(i)] for i in range(len(found))]


def _flat(found, options) -> list[Tensor]:
    found = [found] if isinstance(options["block"], int) else found
    return [tensor for pair in found for tensor in pair] if options["cls"] else found


def _nest(tensors, options):
    found = list(zip(tensors[::2], tensors[1::2], strict=True)) if options["cls"] else tensors
    return found[0] if isinstance(options["block"], int) else found
