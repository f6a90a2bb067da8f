"""Files that are whole or absent: write under another name, rename at the end. And the one form of our own tensor files.

A file that :func:`save` writes is a .safetensors file whose header says what it is and what made it, so that nothing is
ever read as something else: ``format`` is "fit3d_lite.KIND.1", every setting is JSON under its own name.
"""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor


@contextmanager
def replace_when_whole(path: str | Path):
    """``with replace_when_whole(path) as partial:`` write to ``partial``; it becomes ``path`` only if nothing was
    raised.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The process number keeps two writers apart; the ending stays, because some libraries choose the format by it.
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def save(path: str | Path, kind: str, settings: dict, tensors: dict[str, Tensor]) -> Path:
    """Write ``tensors`` and what made them to a .safetensors file; whole or not at all.

    Args:
        kind: what it is, one word: "vit", "lifted", "probe", "artifact"; :func:`load` asks for it.
        settings: JSON by name.

    Raises:
        ValueError: a path that does not end in .safetensors. TypeError: settings that JSON cannot hold.
    """
    from safetensors.torch import save_file

    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"{path} must end in .safetensors.")
    header = {"format": f"fit3d_lite.{kind}.1"} | {name: json.dumps(value) for name, value in settings.items()}
    # Clones, since safetensors refuses tensors that share memory, as slices of one result do.
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    with replace_when_whole(path) as partial:
        save_file(tensors, partial, header)
    return path


def load(path: str | Path, kind: str, remedy: str) -> tuple[dict, dict[str, Tensor]]:
    """Settings and tensors (on the CPU) of a file that :func:`save` wrote.

    Args:
        remedy: what to do when the file is damaged, as an order: "lift again".

    Raises:
        FileNotFoundError. ValueError: damaged, or a file of another kind; the message says which.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no {kind} file at {path.absolute()}")
    try:
        with safe_open(path, framework="pt") as file:
            header, tensors = file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}
        held = header.pop("format", "no format of ours")
        if held != f"fit3d_lite.{kind}.1":
            raise ValueError(f"{path} is no {kind} file: its header says {held!r}, not 'fit3d_lite.{kind}.1'.")
        return {name: json.loads(value) for name, value in header.items()}, tensors
    except (SafetensorError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is damaged ({error}): {remedy}.") from None
