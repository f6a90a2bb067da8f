"""What training programs wrap a state dict in, and what torch's safe loader refuses to open beside it."""

from __future__ import annotations

import pickletools
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor

# Every ViT of timm has this key, so what stands before it in a file is the wrapping of a training program.
ANCHOR = "patch_embed.proj.weight"


def refused_by_the_safe_loader(path: Path, error: str) -> str:
    """What a whole file holds that the safe loader does not open, and how to keep its weights alone; "" if it is broken."""
    keep = 'if you trust its author, found = torch.{}; torch.save(found{}, "weights.pth"), and give that file'
    if "TorchScript" in error:
        return "it is a TorchScript archive, code and weights; " + keep.format("jit.load(path)", ".state_dict()")
    if not (named := re.search(r"GLOBAL ([\w.]+)", error)):
        return ""
    outermost = ""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as file:
            pickled = next((name for name in file.namelist() if name.endswith("data.pkl")), None)
            if pickled:  # after the protocol's number, a dict opens with "}", an object with its class
                operations = pickletools.genops(file.read(pickled))
                next(operations)
                outermost = str(next(operations)[1]).replace(" ", ".")
    unsafe = "load(path, weights_only=False)"
    if outermost == named[1]:
        return f"it is a whole pickled {named[1]}, not its state dict; {keep.format(unsafe, '.state_dict()')}"
    return f"it holds {named[1]} beside the weights; {keep.format(unsafe, '[KEY of the weights]')}"


def unwrapped(content, path: Path) -> dict[str, Tensor]:
    """The state dict in what a training program wrote: dicts opened, one common prefix taken off."""
    flat = dict(_tensors(content)) if isinstance(content, Mapping) else {}
    prefixes = {key.removesuffix(ANCHOR) for key in flat if key == ANCHOR or key.endswith("." + ANCHOR)}
    if not prefixes or "" in prefixes:
        if isinstance(content, dict) and isinstance(content.get("model"), dict):
            content = content["model"]
        if not isinstance(content, dict) or not content or not all(isinstance(t, Tensor) for t in content.values()):
            held = f"keys {list(content)[:3]}" if isinstance(content, dict) else type(content).__name__
            raise ValueError(f'{path} holds no state dict (a dict of tensors, or such a dict under "model") but {held}')
        return content
    averaged = [prefix for prefix in prefixes if re.search(r"(^|[._])(teacher|ema)[._]", prefix)]
    if len(prefixes) > 1 and len(averaged) != 1:
        raise ValueError(
            f"{path} holds {len(prefixes)} networks, under the prefixes {', '.join(sorted(prefixes))}: save one of them "
            "alone, as a dict of tensors without its prefix"
        )
    prefix = (averaged if len(prefixes) > 1 else list(prefixes))[0]
    if prefix != "model.":
        others = f", the averaged weights; not {', '.join(sorted(prefixes - {prefix}))}" if len(prefixes) > 1 else ""
        warnings.warn(f"{path}: the weights under {prefix!r} are taken{others}", stacklevel=2)
    return {key.removeprefix(prefix): tensor for key, tensor in flat.items() if key.startswith(prefix)}


def _tensors(content: Mapping, prefix: str = "", depth: int = 3) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a dict of dicts, under names with dots."""
    for key, value in content.items():
        if isinstance(value, Tensor):
            yield f"{prefix}{key}", value
        elif isinstance(value, Mapping) and depth:
            yield from _tensors(value, f"{prefix}{key}.", depth - 1)
