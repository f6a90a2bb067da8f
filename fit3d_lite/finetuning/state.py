"""Everything a stopped run needs to go on as if nothing had happened, in one file that is whole or absent."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import torch

from ..base.artifacts import ArtifactMismatch, differences
from ..base.whole import replace_when_whole
from .processes import gathered, rank

FORMAT = "fit3d_lite.finetune.1"


def random_states(device: torch.device) -> dict:
    """What dropout and the like draw from."""
    states = {"cpu": torch.get_rng_state()}
    return states | ({"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def save_state(path: str | Path, settings: dict, parts: dict, device: torch.device, **content) -> None:
    """Write the state dicts of ``parts`` (weights, optimiser, scaler …), the random states of every process and
    ``content``. Every process calls it; the first one writes."""
    states = gathered(random_states(device))
    if rank():
        return
    whole = {"format": FORMAT, "settings": json.dumps(settings), "random": states, **content}
    whole |= {name: part.state_dict() for name, part in parts.items()}
    with replace_when_whole(path) as partial:
        torch.save(whole, partial)


def load_state(path: str | Path, settings: dict, parts: dict, device: torch.device) -> dict:
    """Put what :func:`save_state` wrote back into ``parts`` and the random states; returns the whole content.

    Raises:
        ArtifactMismatch: the run was made with other settings; each difference is named.
        ValueError: damaged, or no such file.
    """
    try:
        whole = torch.load(path, map_location="cpu", weights_only=True)
        if whole["format"] != FORMAT:
            raise KeyError(whole["format"])
        made = json.loads(whole["settings"])
    except (RuntimeError, EOFError, KeyError, TypeError, pickle.UnpicklingError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no checkpoint of a fine-tuning run, or damaged ({error}): delete it.") from None
    said = differences(made, json.loads(json.dumps(settings)))
    if said:
        raise ArtifactMismatch(
            f"{path} was made with other settings: {said}. Use the same settings, another file, or delete it."
        )
    for name, part in parts.items():
        part.load_state_dict(whole[name])
    states = whole["random"][rank() % len(whole["random"])]
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
    return whole
