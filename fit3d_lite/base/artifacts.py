"""What one stage of the course hands to the next: tensors or JSON, with the settings that made them.

Written to a temporary name and renamed, so an artifact is whole or not there; read back only under the settings it
was made with, so that no notebook shows results of a run that the reader has since changed.
"""

import json
import re
from pathlib import Path

from torch import Tensor

from . import whole
from .inputs import read_text


class ArtifactMismatch(ValueError):
    """The artifact that lies there was made with other settings than the ones asked for."""


def path(folder: Path, name: str, suffix: str = ".safetensors") -> Path:
    """Where the artifact ``name`` lies, whether it is there or not; ValueError for a name that is no plain name."""
    if not re.fullmatch(r"[A-Za-z0-9][\w-]*", name):
        raise ValueError(f"an artifact is named by letters, digits, _ and -, without a suffix; got {name!r}")
    return Path(folder) / f"{name}{suffix}"


def save(folder: Path, name: str, content, settings: dict | None = None) -> Path:
    """Write a stage's result together with the settings that made it; whole or not at all.

    Args:
        content: a dict of tensors (kept as safetensors), or anything JSON can hold.
        settings: what made it, as JSON can hold it; :func:`load` compares them.

    Raises:
        ValueError: when the content or the settings can be kept in neither form.
    """
    kept = _as_json(settings or {}, f"settings of {name!r}")
    tensors = isinstance(content, dict) and content and all(isinstance(v, Tensor) for v in content.values())
    target = path(folder, name, ".safetensors" if tensors else ".json")
    if tensors:
        whole.save(target, "artifact", {"settings": kept}, content)
    else:
        text = json.dumps({"settings": kept, "content": _as_json(content, repr(name))})
        with whole.replace_when_whole(target) as partial:
            partial.write_text(text)
    # An artifact has one form; one of the other form would be an older result under the same name.
    path(folder, name, ".json" if tensors else ".safetensors").unlink(missing_ok=True)
    return target


def load(folder: Path, name: str, settings: dict | None = None, stale: str = "refuse"):
    """What :func:`save` wrote, tensors on the CPU; None when nothing is there, so that a notebook can make it.

    Args:
        settings: what it must have been made with; None takes it whatever made it.
        stale: "refuse" raises when the settings differ; "remake" prints the difference and returns None.

    Raises:
        ArtifactMismatch: when the settings differ; the message names each difference.
        ValueError: when the file is damaged.
    """
    if stale not in ("refuse", "remake"):
        raise ValueError(f"stale is {stale!r}; it must be 'refuse' or 'remake'")
    forms = (path(folder, name), path(folder, name, ".json"))
    found = next((p for p in forms if p.exists()), None)
    if found is None:
        return None
    made, content = _read(found)
    asked = made if settings is None else _as_json(settings, f"settings of {name!r}")
    said = differences(made, asked)
    if not said:
        return content
    if stale == "remake":
        print(f"{name} was made with other settings and is made again: {said}")
        return None
    raise ArtifactMismatch(f"{name} was made with other settings: {said}; run its notebook again or delete {found}")


def differences(made: dict, asked: dict) -> str:
    """Which settings differ, as one phrase; empty when none does."""
    differing = sorted(k for k in made.keys() | asked.keys() if made.get(k, ...) != asked.get(k, ...))
    return "; ".join(f"{k} is {made.get(k, 'unset')!r}, asked is {asked.get(k, 'unset')!r}" for k in differing)


def _as_json(value, what: str):
    """``value`` as it comes back from JSON (tuples are lists there), so that kept and asked settings compare equal."""
    try:
        return json.loads(json.dumps(value))
    except TypeError as error:
        raise ValueError(f"{what} must be numbers, texts, lists and dicts, or a dict of tensors: {error}") from None


def _read(file: Path):
    remedy = "delete it and run its notebook again"
    if file.suffix == ".safetensors":
        made, content = whole.load(file, "artifact", remedy)
        return made["settings"], content
    try:
        kept = json.loads(read_text(file, "artifact"))
        return kept["settings"], kept["content"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{file} is damaged ({error}): {remedy}.") from None
