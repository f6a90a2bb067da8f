"""One picture of what the course is about, in half a minute on a CPU: ``python -m fit3d_lite demo``.

A real photo of a motorcycle, and its patch features as colors of one basis: as the small ViT sees them in this photo alone,
as two photos agree on them in 3D, and as the 3D-aware ViT sees them in this photo alone.
"""

import argparse
from pathlib import Path

import torch

from ..base.whole import check_writable
from ..captures import stereo
from ..lifting import lift
from ..splatting import Gaussians
from ..viz import compare, pca_basis, save

SIZE = 448, 672  # pixels, multiples of the ViT's patches


def picture():
    """A matplotlib figure of four panels."""
    from ..backbones import load_vit

    pair = stereo(size=SIZE)
    before, after = (load_vit("small", weights).extract(pair.images, quiet=True) for weights in ("original", "fit3d"))
    cloud = Gaussians.from_depth(pair[:1], count=40_000)
    lifted, mask = lift(cloud, pair.cameras, before).render(pair.cameras[0], *before.shape[-2:])
    basis = pca_basis(torch.cat([before, after]))
    in_3d = torch.where(mask[..., None], basis.colors(lifted[None])[0], 0.5)  # grey where depth was not measured
    maps = {"original": basis.colors(before)[:1], "lifted into 3D": in_3d[None], "3D-aware": basis.colors(after)[:1]}
    return compare(pair.images[:1], maps, width=14)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m fit3d_lite demo", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("fit3d_demo.png"), help="where the picture goes (default: %(default)s)")
    path = parser.parse_args(arguments).out
    check_writable(path)
    print(f"demo: {save(picture(), path, width=12, dpi=110)}")
    return 0
