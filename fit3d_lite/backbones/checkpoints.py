"""Reading and writing weights of vision transformers without surprises.

Every file is loaded strictly: a checkpoint that does not fit is refused with the keys that differ and the model it was
probably made for, instead of leaving some layers at random.
"""

import argparse
import collections
import functools
import json
import pickle
import sys
from pathlib import Path

import safetensors
import safetensors.torch
import timm
import torch
from torch import Tensor, nn

from ..base import whole
from ..base.inputs import check_vit, existing_file
from ..base.machine import asset
from . import compact
from .wrappings import ANCHOR, refused_by_the_safe_loader, unwrapped

# The six models of FiT3D (paper, section 4; hubconf.py of github.com/ywyue/FiT3D) and their timm names.
NAMES = {
    "dinov2_small": "vit_small_patch14_dinov2.lvd142m",
    "dinov2_base": "vit_base_patch14_dinov2.lvd142m",
    "dinov2_reg_small": "vit_small_patch14_reg4_dinov2.lvd142m",
    "clip_base": "vit_base_patch16_clip_384.laion2b_ft_in12k_in1k",
    "mae_base": "vit_base_patch16_224.mae",
    "deit3_base": "deit3_base_patch16_224.fb_in1k",
}
# Architecture of the embedded ViT: a timm name, and what differs from it.
SMALL = {"timm": NAMES["dinov2_small"], "depth": 8}
BASE = "vit_small.safetensors"  # of which the file of a network may hold the difference alone (compact.py)
# What originals carry beside the network that gives features: a classifier, DINOv2's mask token, MAE's decoder.
BESIDE = ("head.", "mask_token", "decoder_")


def read_weights(path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a state dict and its metadata.

    Knows ``.safetensors``, int8 and differences to an embedded network included (compact.py); a bare state dict saved
    by torch, as FiT3D publishes; and what training programs write: ``{"model": …, "optimizer": …, "args": …}``, as
    FiT3D's does (finetune.py), and the wrappings of DDP, torch.compile, Lightning, DINO and EMA, with a warning that says
    which weights were taken.

    Raises:
        FileNotFoundError. ValueError: no file, truncated, not a checkpoint, without tensors, with several networks, or with
        something that only an unsafe loader opens.
    """
    path = existing_file(path, "checkpoint")
    broken = f"{path} ({path.stat().st_size:,} bytes) cannot be read: it is truncated or no checkpoint. Delete it, get it again"
    if path.suffix == ".safetensors":
        try:
            with safetensors.safe_open(path, "pt") as file:
                state = {key: file.get_tensor(key) for key in file.keys()}
                metadata = file.metadata() or {}
        except safetensors.SafetensorError as error:
            raise ValueError(f"{broken} ({error}).") from error
        whole.refuse_damage(path, metadata.get(whole.DIGEST), state, "get it again, or save it again")
        state = compact.from_int8(state)
        if base := metadata.get("base"):
            if base != json.dumps(BASE):
                raise ValueError(f"{path} is a difference to {base}; only {BASE}, which comes with fit3d_lite, can be its base")
            state = compact.added(read_weights(asset(BASE))[0], state)
        return unwrapped(state, path), metadata
    # FiT3D's training puts its command line (a Namespace) and its schedule (a Counter) beside the weights. Both are
    # plain containers; nothing else that could run code is let in.
    plain = [argparse.Namespace, collections.Counter]
    try:
        with torch.serialization.safe_globals(plain):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError, UnicodeDecodeError) as error:
        if refused := refused_by_the_safe_loader(path, str(error)):
            raise ValueError(f"{path} cannot be read by torch's safe loader: {refused}") from error
        reason = str(error).strip().splitlines()[0][:150] if str(error).strip() else type(error).__name__
        raise ValueError(f"{broken} ({reason}).") from error
    return unwrapped(content, path), {}


def load_strictly(model: nn.Module, state: dict[str, Tensor], name: str, source) -> None:
    """Put ``state`` into ``model``, cast to the model's dtype; every key and shape must fit.

    What originals carry beside it is left out (``BESIDE``), and files with their authors' own names of weights, or
    positions for another size of photos, go through timm's own translation.

    Raises:
        ValueError: weights that are not finite; or weights that do not fit, with the first three differences and, when
            there is one, the model of the six that does fit.
    """
    wanted = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    given, state = state, {key: t for key, t in state.items() if key in wanted or not key.startswith(BESIDE)}
    differences = _differences(wanted, state)
    if differences and (translated := _translated(given, model, wanted)):
        state, differences = translated, []
    if differences:
        fitting = [other for other in (*NAMES, "small") if other != name and not _differences(_shapes(other), state)]
        remedy = f"It fits {' and '.join(fitting)}: use that name." if fitting else "It fits none of our models."
        more = f", and {len(differences) - 3} more" if len(differences) > 3 else ""
        raise ValueError(f"{source} does not fit {name}: {'; '.join(differences[:3])}{more}. {remedy}")
    if whole_numbers := [key for key, tensor in state.items() if not tensor.is_floating_point()]:
        raise ValueError(f"{source} holds {state[whole_numbers[0]].dtype} in {whole_numbers[0]}, where weights are floats")
    # The published files are fp32; a model that was built without memory takes the tensors as they are.
    state = {key: tensor.to(model.state_dict()[key].dtype) for key, tensor in state.items()}
    if lost := [key for key, tensor in state.items() if not tensor.isfinite().all()]:
        raise ValueError(
            f"{source} holds weights that are not finite (nan or inf) in {len(lost)} of {len(state)} tensors, {lost[0]} "
            "first: the run that wrote it diverged; take an earlier checkpoint"
        )
    model.load_state_dict(state, strict=True, assign=any(parameter.is_meta for parameter in model.parameters()))


def _translated(state, model, wanted) -> dict[str, Tensor] | None:
    """The weights under timm's names, as timm translates its models' original files; None where that does not fit."""
    patches = state.get(ANCHOR)
    if patches is not None and tuple(patches.shape) != wanted.get(ANCHOR):
        return None  # timm would resize the patches: that is another network
    translate = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    try:
        found = translate(dict(state), model)
    except Exception:  # whatever a file that is not its own makes of it
        return None
    found = {key: tensor for key, tensor in found.items() if key in wanted or not key.startswith(BESIDE)}
    return None if _differences(wanted, found) else found


def save_vit(vit, path, dtype=torch.float16, **notes) -> Path:
    """Write a ViT as safetensors with its architecture, mean and std as metadata, so that ``load_vit`` can rebuild it.

    Args:
        vit: a ``ViT``.
        path: ends in ``.safetensors``; appears only when whole.
        dtype: of the stored tensors; torch.float16 halves the file, torch.float32 keeps every bit, torch.int8 quarters
            it (matrices as int8 with a scale for each output channel, everything else as fp16).
        notes: more metadata that JSON can hold, e.g. how the weights were made.
    """
    check_vit(vit)
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"dtype must be a type of torch, such as torch.float16, got {dtype!r}.")
    if Path(path).suffix != ".safetensors":
        raise ValueError(f"{path} must end in .safetensors; save_checkpoint writes .pth")
    state = {key: tensor.detach().cpu() for key, tensor in vit.model.state_dict().items()}
    state = compact.to_int8(state) if dtype == torch.int8 else {key: tensor.to(dtype) for key, tensor in state.items()}
    return whole.save(path, "vit", {"config": vit.config} | notes, state)


def save_checkpoint(vit, path) -> Path:
    """Write a ViT in the published FiT3D format: a bare fp32 timm state dict, which timm and FiT3D's own code load.

    Raises ValueError for a ViT with an adapter, which is no part of timm's model.
    """
    check_vit(vit)
    if "adapter" in vit.config:
        raise ValueError("this ViT has an adapter, which timm's model has no place for: use save_vit.")
    state = {key: tensor.detach().to("cpu", torch.float32).clone() for key, tensor in vit.model.state_dict().items()}
    with whole.replace_when_whole(path) as partial:
        torch.save(state, partial)
    return Path(path)


def without_weights(create) -> nn.Module:
    """Build a model whose weights are replaced at once: without memory (a ViT-B takes seconds to fill).

    Built for real where that is not possible: a model with computed buffers, and timm up to 1.0.20, which reads tensors
    while it builds.
    """
    try:
        with torch.device("meta"):
            model = create()
    except RuntimeError:
        return create()
    return model if next(model.buffers(), None) is None else create()


@functools.cache
def _shapes(name) -> dict[str, tuple]:
    timm_name, options = (NAMES[name], {}) if name in NAMES else (SMALL["timm"], {"depth": SMALL["depth"]})
    model = without_weights(lambda: timm.create_model(timm_name, num_classes=0, dynamic_img_size=True, **options))
    return {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}


def _differences(wanted, state) -> list[str]:
    differences = []
    for key in wanted | state:
        if key not in state:
            differences.append(f"{key} is missing")
        elif key not in wanted:
            differences.append(f"{key} is not in the model")
        elif wanted[key] != tuple(state[key].shape):
            differences.append(f"{key} is {list(state[key].shape)} and should be {list(wanted[key])}")
    return differences
