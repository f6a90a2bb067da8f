"""Everything that needs a GPU, in one table: torch, Triton and gsplat drawing; lifting; fitting; fine-tuning; memory.

    make bench-gpu                      # what is there; about ten minutes
    make bench-gpu BUILD=1              # builds gsplat first, if it is installed (a quarter of an hour on Colab)
    python -m bench.gpu --try           # the same code on tiny sizes and any device, to see that it runs; writes nothing

Writes bench/results/gpu.md with the GPU's name, anew after each part; parts measured earlier on the same GPU stay in it.
"""

from __future__ import annotations

import argparse
import json
import sys

import torch

from fit3d_lite import backend, set_backend
from fit3d_lite.base.whole import replace_when_whole

from . import gpu_draw, gpu_learn, gpu_lift
from .report import ROOT, write

KEPT = ROOT / "cache" / "gpu.json"


def usable(device: torch.device) -> list[str]:
    """The backends that can draw here, torch first."""
    found = ["torch"]
    for name in ("triton", "gsplat"):
        problem = backend.module(name).problem(device)
        if problem:
            print(f"without {name}: {problem}", flush=True)
        else:
            found.append(name)
    return found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--try", dest="tiny", action="store_true", help="tiny sizes, any device, writes nothing")
    parser.add_argument("--build", action="store_true", help="build gsplat's extension first")
    parser.add_argument("--only", default="", help="some of draw,lift,fit,finetune,memory")
    given = parser.parse_args(arguments)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type != "cuda" and not given.tiny:
        print("bench-gpu: no CUDA device here. On Colab choose Runtime, Change runtime type, T4 GPU; --try runs anywhere.")
        return 2
    if given.build:
        from fit3d_lite.splatting.gpu import BuildError, build_gsplat

        try:
            build_gsplat(wait=True)
        except BuildError as problem:
            print(f"bench-gpu: {problem}")
            return 2
    backends = usable(device)
    parts = {
        "draw": lambda: gpu_draw.report(device, backends, given.tiny),
        "lift": lambda: gpu_lift.report(device, backends, given.tiny),
        "fit": lambda: gpu_learn.fitting(device, backends, given.tiny),
        "finetune": lambda: gpu_learn.finetuning(device, given.tiny),
        "memory": lambda: gpu_learn.memory(device, given.tiny),
    }
    asked = given.only.split(",") if given.only else list(parts)
    if unknown := [name for name in asked if name not in parts]:
        print(f"bench-gpu: no part {', '.join(unknown)}; there are {', '.join(parts)}")
        return 2
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    known = json.loads(KEPT.read_text()) if KEPT.is_file() and not given.tiny else {}
    known = known.get(name, {})
    for part in asked:
        known[part] = parts[part]()
        set_backend("auto")
        text = "# On a GPU, measured\n\n" + "\n\n".join(known[part] for part in parts if part in known)
        if not given.tiny:  # at once, so that a session that ends early leaves what it measured
            with replace_when_whole(KEPT) as partial:
                partial.write_text(json.dumps({name: known}))
            write("gpu", text, "make bench-gpu")
    if given.tiny:
        print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
