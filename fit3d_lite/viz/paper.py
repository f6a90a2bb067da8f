"""Figures for print: any figure at the width of a column with fonts that journals take, and the figure that a reader came
for: many own photos, their patch features as colors of one basis, original and 3D-aware in one grid.

    viz.save(figure, "figure.pdf", width="column")
    python -m fit3d_lite figure my/*.jpg --vit dinov2_small --out figure.pdf
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from ..base.whole import check_writable, replace_when_whole
from ..scenes.scene import resize_photos
from ..widgets.pictures import load_image
from .pca import pca_colors

__all__ = ["feature_grid", "main", "save"]

WIDTHS = {"column": 3.25, "page": 6.875}  # inches of a two-column page (CVPR's and ICML's)
FORMATS = (".pdf", ".png", ".svg", ".eps", ".jpg", ".tif")
POINTS = 6.0, 8.0  # smallest and largest text in print
NAMES = {"fit3d": "3D-aware", "wrong_poses": "wrong poses", "random": "untrained"}
PHOTOS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
PRINTED = 1600  # pixels of a photo's longer side in print
GAP, LABEL, TALLEST = 0.03, 0.2, 2.4  # inches between panels, of the names at the left, of a row at most


def save(figure, path: str | Path, width: str | float = "column", dpi: int = 300) -> Path:
    """Write a matplotlib figure for print; whole or not at all, and the figure itself stays as it is.

    It is as wide as asked, so LaTeX need not scale it: its height follows, text is brought to 6 to 8 points, and fonts
    are embedded as outlines that can be searched and edited (TrueType: many publishers refuse matplotlib's default).

    Args:
        path: .pdf, .svg and .eps keep lines and text as such; .png, .jpg and .tif are pixels.
        width: "column" (3.25 inches), "page" (6.875), or a number of inches.
        dpi: of pixels, those of photos within a .pdf too.

    Raises:
        ValueError: another ending or width, or fewer than 72 dpi. OSError: the folder cannot be written.
    """
    from matplotlib import rc_context
    from matplotlib.text import Text

    path, inches = Path(path), WIDTHS.get(width, width)
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"a figure is kept as {', '.join(FORMATS)}; {path.name!r} ends in {path.suffix or 'nothing'!r}")
    if isinstance(inches, str) or not 0.5 <= inches <= 40 or dpi < 72:
        raise ValueError(f'width is "column", "page" or 0.5 to 40 inches, dpi at least 72; got {width!r} and {dpi}')
    check_writable(path)
    before, scale = figure.get_size_inches().copy(), inches / figure.get_figwidth()
    sizes = {text: text.get_fontsize() for text in figure.findobj(Text)}
    try:
        for text, size in sizes.items():
            text.set_fontsize(min(max(size * scale, POINTS[0]), POINTS[1]))
        figure.set_size_inches(before * scale)
        # "tight", which notebooks set, would change the width; the font size is that of ticks which are made now.
        fonts = {"pdf.fonttype": 42, "ps.fonttype": 42, "svg.fonttype": "none", "font.size": POINTS[1]}
        with rc_context(fonts | {"savefig.bbox": None}):
            with replace_when_whole(path) as partial:
                figure.savefig(partial, dpi=dpi)
    finally:
        figure.set_size_inches(before)
        for text, size in sizes.items():
            text.set_fontsize(size)
    return path


def feature_grid(
    photos: Sequence[Tensor],  # each [1, 3, H, W] or [3, H, W] in 0..1; sizes may differ
    feats: dict[str, list[Tensor]],  # by name of the network: of each photo [1, C, h, w]
    across: int = 6,
    width: str | float = "page",
):
    """Photos side by side, below each what every network sees of it as colors; more than ``across`` go on below.

    One basis holds for the whole figure (:func:`pca_colors`): equal colors are features that are alike, in every panel.
    Photos keep their proportions. Returns a matplotlib figure of the width in which :func:`save` writes it.

    Raises:
        ValueError: no photo, a photo without its features, ``across`` below 1, or as :func:`pca_colors`.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import PlaceHolderLayoutEngine

    photos = [photo[0] if photo.ndim == 4 else photo for photo in photos]
    if not photos or across < 1 or any(len(some) != len(photos) for some in feats.values()):
        counts = ", ".join(f"{len(some)} of {name}" for name, some in feats.items())
        raise ValueError(f"{len(photos)} photos, features {counts}, {across} across: each photo needs its features")
    panels = {"photo": [photo.movedim(0, -1) for photo in photos]}
    panels |= {name: [one[0] for one in some] for name, some in pca_colors(feats).items()}
    inches = WIDTHS.get(width, width)
    blocks = [range(i, min(i + across, len(photos))) for i in range(0, len(photos), across)]
    aspect = [photo.shape[2] / photo.shape[1] for photo in photos]
    room = [(inches - LABEL - GAP * (len(block) - 1)) / sum(aspect[i] for i in block) for block in blocks]
    tall = [min(height, TALLEST, *room[:1]) for height in room]  # the last, shorter block is no larger than the first
    total = sum(len(panels) * (height + GAP) for height in tall) + GAP * (len(blocks) - 1)
    # Panels are placed by hand. Without any engine a notebook that shows the figure would leave it with the one of rcParams.
    figure, top = Figure(figsize=(inches, total), layout=PlaceHolderLayoutEngine(True, True)), total
    for block, height in zip(blocks, tall, strict=True):
        for name, shown in panels.items():
            left, top = LABEL, top - height
            figure.text(LABEL / 2 / inches, (top + height / 2) / total, name, rotation=90, ha="center", va="center", fontsize=7)
            for i in block:
                place = [left / inches, top / total, aspect[i] * height / inches, height / total]
                axis = figure.add_axes(place)
                smooth = "antialiased" if name == "photo" else "nearest"  # patches stay squares, in every viewer
                axis.imshow(shown[i].cpu().clamp(0, 1).numpy(), aspect="auto", interpolation=smooth)
                axis.set_axis_off()
                left += aspect[i] * height + GAP
            top -= GAP
        top -= GAP
    return figure


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m fit3d_lite figure", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", nargs="+", help="pictures, or folders of them")
    parser.add_argument("--vit", default="small", help="small, which is embedded; one of FiT3D's six; or any ViT of timm")
    parser.add_argument(
        "--weights", nargs="+", default=["original", "fit3d"],
        help="one row each: original, fit3d, random, wrong_poses (small alone), or the path of a checkpoint",
    )  # fmt: skip
    parser.add_argument("--size", type=int, default=518, help="pixels of a photo's longer side, as the ViT sees it")
    parser.add_argument("--across", type=int, default=6, help="photos side by side")
    parser.add_argument("--width", default="page", help="column, page, or inches")
    parser.add_argument("--dpi", type=int, default=300)
    parser.add_argument("--device", help="by default the GPU if there is one")
    parser.add_argument("--out", type=Path, required=True, help=f"figure, {', '.join(FORMATS)}")
    return parser.parse_args(given)


def main(given: list[str] | None = None) -> None:
    """The command ``figure``."""
    a = arguments(given)
    width = a.width if a.width in WIDTHS else float(a.width)
    if a.out.suffix.lower() not in FORMATS:
        raise ValueError(f"--out must end in one of {', '.join(FORMATS)}, got {a.out}")
    check_writable(a.out)
    read = [load_image(path) for path in listed(a.photos)]
    photos = [_longest(photo, a.size) for photo in read]
    from ..backbones.vit import load_vit

    feats = {}
    for weights in dict.fromkeys(a.weights):
        vit = load_vit(a.vit, weights, device=a.device)
        name = NAMES.get(weights, weights if not Path(weights).suffix else Path(weights).stem)
        feats[name] = [vit.extract(photo, quiet=True).cpu() for photo in photos]
    shown = [_longest(photo, PRINTED) if max(photo.shape) > PRINTED else photo for photo in read]
    save(feature_grid(shown, feats, a.across, width), a.out, width, a.dpi)
    print(f"{a.out}: {len(photos)} photos, {a.vit}: {', '.join(feats)}; one basis of colors")


def listed(given: Sequence[str | Path]) -> list[Path]:
    """The photos that are named, and those of the folders that are, by name. ValueError for a folder without any."""
    found = []
    for path in map(Path, given):
        inside = sorted(p for p in path.iterdir() if p.suffix.lower() in PHOTOS) if path.is_dir() else [path]
        if not inside:
            raise ValueError(f"there is no picture ({', '.join(PHOTOS)}) in the folder {path}")
        found += inside
    return found


def _longest(photo: Tensor, size: int) -> Tensor:  # [1, 3, H, W], the longer side ``size``
    if size < 28:
        raise ValueError(f"--size is the longer side in pixels, at least 28; got {size}")
    scale = size / max(photo.shape[-2:])
    height, width = (max(28, round(scale * side)) for side in photo.shape[-2:])
    return resize_photos(photo, height, width)
