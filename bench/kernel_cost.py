"""What drawing costs by count, where no GPU is at hand: instructions of the compiled kernels, and how often they run.

    python -m bench.kernel_cost                      # Triton's kernels for a T4 and an H100
    python -m bench.kernel_cost path/to/gsplat/build # and gsplat's, from the .o files of a build (f3d.build_gsplat)

Counted, not measured: a kernel also waits for memory, and around it run projection, sorting and Python. What the count
can show is whether the kernels are of one class. An alpha is computed with one EX2 instruction for each 32 pixels, so
instructions of the inner loop divided by its EX2 are the price of 32 alphas; the lists of tiles say how many alphas a
picture has.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from fit3d_lite.splatting.projection import ellipses, project

from .bench_splat import camera
from .gpu_draw import scene
from .report import ROOT, table, write

sys.path.insert(0, str(ROOT / "tests" / "standins"))
GSPLAT = {"forward": ("RasterizeToPixels3DGSFwd", "pixels_3dgs_fwd_kernelILj3E"),
          "backward": ("RasterizeToPixels3DGSBwd", "pixels_3dgs_bwd_kernelILj3E")}  # fmt: skip
INSTRUCTION = re.compile(r"^\s*/\*([0-9a-f]{4,})\*/\s+(.*?);", re.MULTILINE)


def tool(name: str) -> str:
    import triton

    return str(Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / name)


def inner_loop(listing: str) -> tuple[int, int]:
    """Instructions and EX2 of the smallest loop that has an EX2: from a backward branch's target to the branch.

    Both ways of writing a target are read, labels (nvdisasm) and addresses (cuobjdump).
    """
    labels, code = {}, []
    for line in listing.splitlines():
        if label := re.match(r"^(\.L_x_\d+):", line):
            labels[label[1]] = len(code)
        elif found := INSTRUCTION.match(line):
            code.append((int(found[1], 16), found[2]))
    place = {address: number for number, (address, _) in enumerate(code)}
    best = None
    for number, (_, text) in enumerate(code):
        if not re.search(r"\bBRA\b(?!\.(DIV|CONV))", text):
            continue
        target = re.search(r"\((\.L_x_\d+)\)|(0x[0-9a-f]+)", text)
        to = labels.get(target[1]) if target[1] else place.get(int(target[2], 16))
        if to is None or to > number:
            continue
        exponentials = sum("MUFU.EX2" in t for _, t in code[to : number + 1])
        if exponentials and (best is None or number + 1 - to < best[0]):
            best = number + 1 - to, exponentials
    if best is None:
        raise ValueError("no loop with an EX2 in this listing")
    return best


def triton_rows() -> list[list]:
    from triton_offline import DRAWING, compile_drawing

    from fit3d_lite.splatting.gpu.triton_draw import MAX_BLOCK

    rows = []
    blocks = {"blend_forward": (4, MAX_BLOCK), "blend_backward": (4, MAX_BLOCK)}  # a photo, and wide features
    named = [(name, block) for name in DRAWING for block in blocks.get(name, (None,))]
    for name, block in named:
        for capability in ((7, 5), (9, 0)):
            made = compile_drawing(name, capability, block or 1)
            with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
                Path(file.name).write_bytes(made.asm["cubin"])
                listing = subprocess.run([tool("nvdisasm"), "-c", file.name], capture_output=True, text=True, check=True)
            size, exponentials = inner_loop(listing.stdout)
            what = f"Triton, {name}" + f", {block} channels" * bool(block)
            rows.append([what, f"sm_{capability[0]}{capability[1]}", made.registers, made.spilled, made.shared,
                         f"{size / exponentials:.0f}"])  # fmt: skip
    return rows


def gsplat_rows(folder: Path) -> list[list]:
    rows = []
    for way, (file, symbol) in GSPLAT.items():
        (path,) = folder.rglob(f"{file}*.o")
        said = subprocess.run([tool("cuobjdump"), "-sass", str(path)], capture_output=True, text=True, check=True).stdout
        body = next(part for part in said.split("Function : ")[1:] if symbol in part.splitlines()[0])
        arch = re.search(r"arch = (sm_\d+)", said)[1]
        size, exponentials = inner_loop(body)
        rows.append([f"gsplat, {way}, 3 channels", arch, "", "", "", f"{size / exponentials:.0f}"])
    return rows


def alphas() -> str:
    """How many alphas a picture has, if no pixel stopped early: list entries times pixels of a tile."""
    from fit3d_lite.splatting.gpu import triton_draw, triton_kernels

    body = []
    for count, size in ((10_000, 256), (100_000, 512), (500_000, 1024)):
        cam, c = camera(size), scene(count, torch.device("cpu"))
        flat = project(c, cam)
        shape, order, found = ellipses(flat).float(), torch.arange(len(flat.index)), []
        for tile in (8, 16):
            triton_kernels.TILE = tile
            found.append(sum(len(x.listed) for x in triton_draw.tile_lists(shape, order, cam)) * tile**2)
        triton_kernels.TILE = 8
        body.append([f"{count:,}", f"{size}²", *(f"{n / 1e6:.1f}" for n in found), f"{found[1] / found[0]:.1f}"])
    return table(["Gaussians", "picture", "million alphas, tiles of 8²", "of 16² (gsplat's)", "ratio"], body)


def main(arguments: list[str]) -> None:
    rows = triton_rows() + [row for folder in arguments for row in gsplat_rows(Path(folder))]
    header = ["kernel", "for", "registers", "spilled, bytes", "shared, bytes", "instructions for 32 alphas"]
    write(
        "kernels",
        "# The kernels, counted and not measured\n\nNo GPU was at hand. The kernels were compiled for a T4 (sm_75) and an "
        "H100 (sm_90), and the inner loop of each was read from the machine code.\n\n" + table(header, rows) + "\n\n" + alphas(),
        "python -m bench.kernel_cost" + " path/to/gsplat/build" * bool(arguments),
    )


if __name__ == "__main__":
    main(sys.argv[1:])
