"""From a name and a kind of weights to a timm model: the six of FiT3D, the embedded ViT, any other timm ViT.

Everything is built through timm's public calls with ``num_classes=0, dynamic_img_size=True``, as FiT3D does
(hubconf.py), and loaded strictly, so that timm 1.0.20 and the newest give the same features.
"""

import os
from pathlib import Path

import huggingface_hub
import timm
import torch
from torch import nn

from ..base import download
from ..base.inputs import check_kind
from ..base.machine import asset, cache_folder
from . import checkpoints
from .adapters import add_adapter
from .checkpoints import NAMES, SMALL

PUBLISHED = "yuanwenyue/FiT3D"  # on huggingface.co: <name>_finetuned.pth
SMALL_FILES = {
    "original": "vit_small.safetensors",
    "fit3d": "vit_small_fit3d.safetensors",
    "wrong_poses": "vit_small_wrong_poses.safetensors",  # the control: fine-tuned likewise, each photo with another's camera
}
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
KINDS = ("original", "fit3d", "random", "wrong_poses")


def build(name: str, weights="original", cache=None, seed: int = 0) -> tuple[nn.Module, str, dict]:
    """Model, name and configuration for ``ViT``; the arguments and what is raised are those of ``load_vit``."""
    check_kind(str, name=name)
    if weights not in KINDS and not (isinstance(weights, str | Path) and Path(weights).suffix):
        raise ValueError(f'weights must be "original", "fit3d", "random", "wrong_poses" or the path of a file, not {weights!r}')
    options = {"depth": SMALL["depth"]} if name == "small" else {}
    timm_name = SMALL["timm"] if name == "small" else NAMES.get(name, name)
    if not timm.is_model(timm_name):
        close = timm.list_models(f"*{timm_name.split('.')[0]}*")[:3]
        hint = f" Did you mean {', '.join(close)}?" if close else ""
        raise ValueError(
            f'there is no model {name!r}; use "small", {", ".join(NAMES)}, or the name of a timm ViT.{hint}'
        )

    def create():
        try:
            model = timm.create_model(timm_name, num_classes=0, dynamic_img_size=True, **options)
        except TypeError as error:  # no such option: not a ViT
            raise ValueError(f"{timm_name} is not a vision transformer that takes images of any size") from error
        if not hasattr(model, "forward_intermediates") or not hasattr(model, "blocks"):
            raise ValueError(f"{timm_name} is a {type(model).__name__}, not a vision transformer of patches and blocks")
        return model

    config = configuration(timm_name) | options
    if weights == "random":
        model = _seeded(create, seed)
    else:
        file = _file(name, timm_name, weights, cache)
        state, _ = checkpoints.read_weights(file)
        adapter = len(state["norm.down.weight"]) if "norm.down.weight" in state else None
        model = checkpoints.without_weights(lambda: _adapted(create(), adapter))
        checkpoints.load_strictly(model, state, name, file)
        if adapter:
            config |= {"adapter": adapter}
    return model, name, config


def configuration(timm_name: str) -> dict:
    """What ``ViT`` needs beside the model: how to build it again, and the mean and std of its images.

    FiT3D uses ImageNet's mean and std for all six, CLIP too (utils/model_utils.py:18-19); other models have their own.
    """
    config = {"timm": timm_name} | IMAGENET
    pretrained = timm.get_pretrained_cfg(timm_name)
    if timm_name not in NAMES.values() and pretrained is not None:
        config |= {"mean": list(pretrained.mean), "std": list(pretrained.std)}
    return config


def _adapted(model: nn.Module, width: int | None) -> nn.Module:
    """With the residual block on top that fine-tuning with train="adapter" adds."""
    if width:
        add_adapter(model, width)
    return model


def _seeded(create, seed) -> nn.Module:
    with torch.random.fork_rng(devices=[]):  # the same in every run, and no other random number is disturbed
        torch.manual_seed(seed)
        return create()


def _file(name, timm_name, weights, cache) -> Path:
    """Where the weights lie; those of the hub are downloaded once."""
    if weights not in KINDS:
        return Path(weights)
    if name == "small":
        return asset(SMALL_FILES[weights])
    if weights == "wrong_poses":
        raise ValueError(f'weights="wrong_poses", a control, exists for "small" alone, not for {name!r}')
    if weights == "fit3d":
        if name not in NAMES:
            raise ValueError(
                f'FiT3D published no checkpoint for {name!r}, only for {", ".join(NAMES)} (and "small" here)'
            )
        return _from_hub(PUBLISHED, f"{name}_finetuned.pth", cache)
    pretrained = timm.get_pretrained_cfg(timm_name)
    if pretrained is None or not pretrained.hf_hub_id:
        raise ValueError(f"timm has no pretrained weights for {timm_name}; give weights=path or 'random'")
    return _from_hub(pretrained.hf_hub_id, pretrained.hf_hub_filename or "model.safetensors", cache)


def _from_hub(repository: str, file: str, cache) -> Path:
    """A file of huggingface.co: found where other programs left it or in our cache, else downloaded to our cache."""
    ours = cache_folder(cache) / "hub"
    for folder in (None, ours):
        found = huggingface_hub.try_to_load_from_cache(repository, file, cache_dir=folder)
        if isinstance(found, str):
            return Path(found)
    hub = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    try:
        if download.offline():
            raise OSError("FIT3D_OFFLINE=1 forbids the network")
        return Path(huggingface_hub.hf_hub_download(repository, file, cache_dir=ours, endpoint=hub))
    except Exception as error:  # OSError, or whatever the library of HTTP raises that this version of the hub uses
        first = error
        while first.__cause__ is not None:  # what the network or the server said
            first = first.__cause__
        reason = (str(first).strip() or type(first).__name__).splitlines()[0]
        raise download.DownloadError(
            f"{file} of {repository} is not here and cannot be downloaded ({reason.rstrip('.')}). Get "
            f'{hub}/{repository}/resolve/main/{file} elsewhere and give it as weights="…/{file}"; load_vit("small") needs '
            "no download and works now."
        ) from error
