"""From a name and a kind of weights to a timm model: the six of FiT3D, the embedded tiny ViT, any other timm ViT.

Everything is built through timm's public calls with ``num_classes=0, dynamic_img_size=True``, as FiT3D does
(hubconf.py), and loaded strictly, so that timm 1.0.20 and the newest give the same features.
"""

import json
import os
from pathlib import Path

import huggingface_hub
import timm
import torch
from torch import nn

from ..base import download
from ..base.machine import asset, cache_folder
from . import checkpoints
from .adapters import add_adapter
from .checkpoints import NAMES, TINY

# Bytes of the published fine-tuned checkpoints; dinov2_base was added later and its size is not on record.
PUBLISHED = "yuanwenyue/FiT3D/resolve/main/{name}_finetuned.pth"
PUBLISHED_SIZES = {
    "dinov2_small": 88_278_421,
    "dinov2_base": None,
    "dinov2_reg_small": 88_283_296,
    "clip_base": 344_411_672,
    "mae_base": 343_240_909,
    "deit3_base": 343_318_933,
}
TINY_FILES = {"original": "vit_tiny.safetensors", "fit3d": "vit_tiny_fit3d.safetensors"}
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
KINDS = ("original", "fit3d", "random")


def build(name: str, weights="original", cache=None, seed: int = 0) -> tuple[nn.Module, str, dict]:
    """Model, name and configuration for ``ViT``; the arguments and what is raised are those of ``load_vit``."""
    if weights not in KINDS and not Path(weights).suffix:
        raise ValueError(f'weights must be "original", "fit3d", "random" or the path of a file, not {weights!r}')
    if name == "tiny":
        return _tiny(weights, seed)
    timm_name = NAMES.get(name, name)
    if not timm.is_model(timm_name):
        close = timm.list_models(f"*{timm_name.split('.')[0]}*")[:3]
        hint = f" Did you mean {', '.join(close)}?" if close else ""
        raise ValueError(
            f'there is no model {name!r}; use "tiny", {", ".join(NAMES)}, or the name of a timm ViT.{hint}'
        )

    def create():
        try:
            model = timm.create_model(timm_name, num_classes=0, dynamic_img_size=True)
        except TypeError as error:  # no such option: not a ViT
            raise ValueError(f"{timm_name} is not a vision transformer that takes images of any size") from error
        if not hasattr(model, "forward_intermediates") or not hasattr(model, "blocks"):
            raise ValueError(f"{timm_name} is a {type(model).__name__}, not a vision transformer of patches and blocks")
        return model

    if weights == "random":
        model = _seeded(create, seed)
    else:
        file = _file(name, timm_name, weights, cache)
        state, metadata = checkpoints.read_weights(file)
        adapter = json.loads(metadata.get("config", "{}")).get("adapter")
        model = checkpoints.without_weights(lambda: _adapted(create(), adapter))
        checkpoints.load_strictly(model, state, name, file)
        if adapter:
            return model, name, configuration(timm_name) | {"adapter": adapter}
    return model, name, configuration(timm_name)


def configuration(timm_name: str) -> dict:
    """What ``ViT`` needs beside the model: how to build it again, and the mean and std of its images.

    FiT3D uses ImageNet's mean and std for all six, CLIP too (utils/model_utils.py:18-19); other models have their own.
    """
    config = {"timm": timm_name} | IMAGENET
    pretrained = timm.get_pretrained_cfg(timm_name)
    if timm_name not in NAMES.values() and pretrained is not None:
        config |= {"mean": list(pretrained.mean), "std": list(pretrained.std)}
    return config


def _tiny(weights, seed):
    config = {"arch": TINY} | IMAGENET
    if weights == "random":
        return _seeded(lambda: timm.models.VisionTransformer(**TINY), seed), "tiny", config
    path = asset(TINY_FILES[weights]) if weights in TINY_FILES else Path(weights)
    state, metadata = checkpoints.read_weights(path)
    config = json.loads(metadata.get("config", "null")) or config
    if "arch" not in config:
        raise ValueError(f"{path} holds {config['timm']}, not a tiny ViT: load it by that name")
    model = checkpoints.without_weights(
        lambda: _adapted(timm.models.VisionTransformer(**config["arch"]), config.get("adapter"))
    )
    checkpoints.load_strictly(model, state, "tiny", path)
    return model, "tiny", config


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
    """Where the weights lie; those of the hub are downloaded once, and found too where other programs left them."""
    if weights not in KINDS:
        return Path(weights)
    if weights == "fit3d":
        if name not in NAMES:
            raise ValueError(
                f'FiT3D published no checkpoint for {name!r}, only for {", ".join(NAMES)} (and "tiny" here)'
            )
        address, size = PUBLISHED.format(name=name), PUBLISHED_SIZES[name]
        path = cache_folder(cache) / "vit" / f"{name}_finetuned.pth"
    else:
        pretrained = timm.get_pretrained_cfg(timm_name)
        if pretrained is None or not pretrained.hf_hub_id:
            raise ValueError(f"timm has no pretrained weights for {timm_name}; give weights=path or 'random'")
        file = pretrained.hf_hub_filename or "model.safetensors"
        found = huggingface_hub.try_to_load_from_cache(pretrained.hf_hub_id, file)
        if isinstance(found, str):
            return Path(found)
        address, size = f"{pretrained.hf_hub_id}/resolve/main/{file}", None
        path = cache_folder(cache) / "vit" / f"{timm_name}{Path(file).suffix}"
    hub = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    try:
        return download.fetch(f"{hub}/{address}", path, size=size)
    except download.DownloadError as error:
        raise download.DownloadError(f'{error} load_vit("tiny") needs no download and works now.') from error
