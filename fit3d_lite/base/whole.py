"""Files that are whole or absent: write under another name, rename at the end. And the one form of our own tensor files.

A file that :func:`save` writes is a .safetensors file whose header says what it is and what made it, so that nothing is
ever read as something else: ``format`` is "fit3d_lite.KIND.1", every setting is JSON under its own name.
"""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from .inputs import existing_file

DIGEST = "digest of the tensors"


@contextmanager
def replace_when_whole(path: str | Path):
    """``with replace_when_whole(path) as partial:`` write to ``partial``; it becomes ``path`` only if nothing was
    raised.
    """
    path = check_writable(path)
    # The process number keeps two writers apart; the ending stays, because some libraries choose the format by it.
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    _sweep(path)
    try:
        yield partial
        os.replace(partial, path)
    except Exception as error:  # torch and safetensors have errors of their own for a full disk
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)
        if not full and "file write failed" not in str(error):
            raise
        free = shutil.disk_usage(path.parent).free
        raise OSError(
            errno.ENOSPC,
            f"{path} could not be written: {path.parent.absolute()} has {free / 2**20:,.0f} MB free; make room or choose "
            f"another folder",
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def _sweep(path: Path) -> None:
    """Delete what writers of ``path`` that were killed have left."""
    for left in path.parent.glob(f".{glob.escape(path.stem)}.*.partial{glob.escape(path.suffix)}"):
        number = left.name[len(path.stem) + 2 :].split(".")[0]
        if os.name == "nt" or not number.isdigit():  # there os.kill(number, 0) would not ask but interrupt
            continue
        try:
            os.kill(int(number), 0)
        except ProcessLookupError:
            left.unlink(missing_ok=True)
        except (OSError, OverflowError):
            pass  # somebody else's, and alive


def check_writable(path: str | Path) -> Path:
    """The path, with its folder made; raises OSError, in a sentence, where no file could be written there."""
    if not isinstance(path, str | os.PathLike):
        raise ValueError(f"A file to be written is named by its path, not by {type(path).__name__}.")
    path = Path(path).expanduser()
    if path.exists() and not path.is_file():
        raise OSError(f"{path} is a folder or a device, where a file is to be written.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise OSError(f"{path} cannot be written: {error.strerror}.") from None
    return path


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
    header = {"format": f"fit3d_lite.{kind}.1"} | {name: json.dumps(value, default=_plain) for name, value in settings.items()}
    # Clones, since safetensors refuses tensors that share memory, as slices of one result do.
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    header[DIGEST] = digest(tensors)
    with replace_when_whole(path) as partial:
        save_file(tensors, partial, header)
    return path


def _plain(value):
    """What JSON takes instead of a path or another library's number."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "item") and getattr(value, "size", 1) == 1:
        return value.item()
    raise TypeError(f"settings must be numbers, texts, lists and dicts, not {type(value).__name__}.")


def digest(tensors: dict[str, Tensor]) -> str:
    """A hash of the names, types, shapes and bytes of tensors that lie on the CPU."""
    hashed = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(tensors.items()):
        hashed.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        hashed.update(memoryview(tensor.contiguous().flatten().view(torch.uint8).numpy()))
    return hashed.hexdigest()


def refuse_damage(path: Path, written: str | None, tensors: dict[str, Tensor], remedy: str) -> None:
    """Raise ValueError where the tensors are not those of the digest; older and foreign files have None."""
    if written is not None and written != digest(tensors):
        raise ValueError(f"{path} is damaged (its tensors are not those that were written): {remedy}.")


def load(path: str | Path, kind: str, remedy: str) -> tuple[dict, dict[str, Tensor]]:
    """Settings and tensors (on the CPU) of a file that :func:`save` wrote.

    Args:
        remedy: what to do when the file is damaged, as an order: "lift again".

    Raises:
        FileNotFoundError. ValueError: damaged, or a file of another kind; the message says which.
    """
    from safetensors import SafetensorError, safe_open

    path = existing_file(path, f"{kind} file")
    try:
        with safe_open(path, framework="pt") as file:
            header, tensors = file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}
        held = header.pop("format", "no format of ours")
        if held != f"fit3d_lite.{kind}.1":
            raise ValueError(f"{path} is no {kind} file: its header says {held!r}, not 'fit3d_lite.{kind}.1'.")
        refuse_damage(path, header.pop(DIGEST, None), tensors, remedy)
        return {name: json.loads(value) for name, value in header.items()}, tensors
    except (SafetensorError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is damaged ({error}): {remedy}.") from None
