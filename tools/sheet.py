"""A contact sheet: many pictures of any size on one page, small and numbered, as one JPEG of some hundred kilobytes."""

import io

from torch import Tensor

from fit3d_lite.widgets.pictures import as_picture

__all__ = ["Sheet", "contact_sheet"]

GAP = 6  # white pixels around a picture
LINE = 16  # height of a title


class Sheet:
    """A page of pictures; a notebook shows it as JPEG. ``image`` is the PIL image."""

    def __init__(self, image, count: int):
        self.image, self.count = image, count

    def _repr_jpeg_(self) -> bytes:
        out = io.BytesIO()
        self.image.save(out, "JPEG", quality=85, subsampling=0)
        return out.getvalue()

    def __repr__(self) -> str:
        return f"contact sheet of {self.count} pictures, {self.image.width}×{self.image.height} pixels"


def contact_sheet(
    pictures,  # Tensor [V, 3, H, W] or [V, H, W, 3] in 0..1, or a list of [H, W, 3], PIL images and figures, of any sizes
    titles: list[str] | None = None,
    columns: int = 8,
    width: int = 830,
    beneath=None,  # as many pictures again, each to stand under its own: features under photos
) -> Sheet:
    """Pictures in rows of ``columns``, every one whole, with its title or its number under it.

    Args:
        width: pixels of the whole page.

    Raises:
        ValueError: no pictures, another number of titles or of pictures beneath, a picture of another kind, or columns
        too many for the width.
    """
    from PIL import Image, ImageDraw, ImageFont

    tops, lows = _all(pictures), _all(beneath) if beneath is not None else None
    titles = [str(n) for n in range(len(tops))] if titles is None else [str(t) for t in titles]
    if not tops or len(titles) != len(tops) or (lows is not None and len(lows) != len(tops)):
        under = "" if lows is None else f" and {len(lows)} pictures beneath them"
        raise ValueError(f"{len(tops)} pictures with {len(titles)} titles{under}: give one each, at least one")
    columns = min(columns, len(tops))
    side = (width - GAP) // columns - GAP if columns >= 1 else 0
    if side < 16:
        raise ValueError(f"{columns} columns in {width} pixels leave {side} for a picture: at least 16 show something")
    rows = [tops] if lows is None else [tops, lows]
    fitted = [[_fit(picture, side) for picture in row] for row in rows]
    heights = [max(picture.height for picture in row) for row in fitted]
    block = sum(heights) + (len(rows) - 1) * 2 + LINE + GAP
    page = Image.new("RGB", (columns * (side + GAP) + GAP, -(-len(tops) // columns) * block + GAP), "white")
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(11)
    for n, title in enumerate(titles):
        x, y = GAP + n % columns * (side + GAP), GAP + n // columns * block
        for row, height in zip(fitted, heights, strict=True):
            page.paste(row[n], (x + (side - row[n].width) // 2, y + (height - row[n].height) // 2))
            y += height + 2
        while pen.textlength(title, font) > side and len(title) > 1:
            title = title[:-2] + "…" if len(title) > 2 else "…"
        pen.text((x + (side - pen.textlength(title, font)) / 2, y), title, "black", font)
    return Sheet(page, len(tops))


def _all(pictures) -> list:
    if isinstance(pictures, Tensor) and pictures.ndim == 4 and pictures.shape[1] == 3 and pictures.shape[-1] != 3:
        pictures = pictures.movedim(1, -1)
    return [as_picture(picture) for picture in pictures]


def _fit(picture, side: int):
    from PIL import Image

    scale = min(side / picture.width, 1.0 * side / picture.height)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    # Patches stay sharp when a small map grows; photos shrink smoothly.
    return picture.resize(size, Image.NEAREST if scale > 1 else Image.LANCZOS)
