"""Pictures in and out: a reader's own photo as a tensor, and tensors and figures as pictures for a page."""

import io
from contextlib import nullcontext
from numbers import Integral, Number
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..base.inputs import check_whole, existing_file
from .page import as_base64

__all__ = ["as_picture", "jpeg_uri", "load_image", "picture_uri", "tile", "uploaded"]


def load_image(
    source,  # path, bytes, a file opened in binary, a PIL image, or an array [H, W, 3] of 0..255
    size: int | tuple[int, int] | None = None,
) -> Tensor:
    """Read a photo: [1, 3, H, W] float in 0..1, turned upright as the camera noted, without transparency (on white).

    Args:
        size: one number scales the shorter side to it and cuts a square from the middle; (height, width) resizes.

    Raises:
        FileNotFoundError. ValueError: not a picture that can be read, or a size below 1.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    name = str(source) if isinstance(source, str | Path) else "the upload"
    if source is None or isinstance(source, list | tuple | dict | Number | Tensor):
        raise ValueError(f"a picture is a path, bytes, an open file, a PIL image or an array, not {type(source).__name__}")
    if isinstance(source, str | Path):
        source = existing_file(source, "picture")
    if isinstance(source, bytes | bytearray | memoryview):
        source = io.BytesIO(bytes(source))
    try:
        if isinstance(source, np.ndarray):
            source = Image.fromarray(source)
        with nullcontext(source) if isinstance(source, Image.Image) else Image.open(source) as picture:
            if picture.mode[0] in "IF":  # Pillow would clip these, not scale them
                raise ValueError(f"{name} has more than 8 bits a color (mode {picture.mode}); save it with 8 bits first")
            picture = ImageOps.exif_transpose(picture).convert("RGBA")
    except Image.DecompressionBombError as error:
        raise ValueError(f"{name} has too many pixels to be read safely ({error}); shrink it first") from error
    except (UnidentifiedImageError, OSError, SyntaxError, TypeError) as error:
        raise ValueError(f"{name} cannot be read as a picture ({error}); save it as JPEG or PNG first") from error
    flat = Image.new("RGBA", picture.size, "white")
    flat.alpha_composite(picture)
    picture = flat.convert("RGB")
    if size is not None:
        height, width = size if isinstance(size, tuple | list) and len(size) == 2 else (size, size)
        check_whole(1, height=height, width=width)
        fit = isinstance(size, Integral)
        picture = ImageOps.fit(picture, (width, height), Image.LANCZOS) if fit else picture.resize((width, height))
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 255


def uploaded(value) -> list[tuple[str, bytes]]:
    """(name, content) of each file in an ipywidgets FileUpload's ``value`` or of Colab's ``files.upload()``, oldest first.

    ipywidgets 7, as on Colab, gives a dict by name; ipywidgets 8 a tuple of dicts with a memoryview. An empty value
    gives an empty list.

    Raises:
        ValueError: neither of the two.
    """
    if isinstance(value, dict):
        files = [(name, entry["content"] if isinstance(entry, dict) else entry) for name, entry in value.items()]
    elif isinstance(value, tuple | list) and all(isinstance(entry, dict) for entry in value):
        files = [(entry["name"], entry["content"]) for entry in value]
    else:
        raise ValueError(f"a FileUpload's value is a dict or a tuple of dicts, not {type(value).__name__}")
    for name, content in files:
        if not isinstance(content, bytes | bytearray | memoryview):
            raise ValueError(f"an uploaded file is bytes; {name} is {type(content).__name__}")
    return [(name, bytes(content)) for name, content in files]


def tile(
    rows: list,  # of lists of pictures [h, w, 3] in 0..1, all of one size
    gap: int = 1,
) -> Tensor:
    """Pictures in rows and columns as one picture, with ``gap`` white pixels between them."""
    sizes = {tuple(picture.shape) for row in rows for picture in row}
    if len(sizes) != 1 or len({len(row) for row in rows}) != 1:
        raise ValueError(f"tiles must have one size and fill the grid; sizes {sorted(sizes)}, rows {[len(r) for r in rows]}")
    h, w, _ = sizes.pop()
    whole = torch.ones(len(rows) * (h + gap) - gap, len(rows[0]) * (w + gap) - gap, 3)
    for i, row in enumerate(rows):
        for j, picture in enumerate(row):
            whole[i * (h + gap) :, j * (w + gap) :][:h, :w] = picture
    return whole


def as_picture(frame):
    """A PIL picture of an array [H, W, 3] in 0..1, of a figure, or of what is one already; tiny ones are enlarged.

    Raises ValueError for other shapes and values.
    """
    from PIL import Image

    if isinstance(frame, Image.Image):
        return frame.convert("RGB")
    if hasattr(frame, "savefig"):
        out = io.BytesIO()
        frame.savefig(out, format="png", dpi=96)
        return Image.open(out).convert("RGB")
    array = frame.detach().cpu().float().numpy() if isinstance(frame, Tensor) else np.asarray(frame)
    if array.ndim != 3 or array.shape[-1] != 3 or array.min() < -0.01 or array.max() > 1.01:
        span = f" from {array.min():.3g} to {array.max():.3g}" if array.size else ""
        raise ValueError(f"a frame must be [H, W, 3] in 0..1, a PIL image or a figure, not {list(array.shape)}{span}")
    picture = Image.fromarray((array.clip(0, 1) * 255 + 0.5).astype(np.uint8))
    return picture.resize((8 * picture.width, 8 * picture.height), Image.NEAREST) if max(picture.size) < 128 else picture


def jpeg_uri(picture, quality: int = 82) -> str:
    """A PIL image as a data URI, JPEG in it."""
    # Halved chroma would blur the edges of colors.
    return "data:image/jpeg;base64," + _encoded(picture, "JPEG", quality=quality, subsampling=0)


def picture_uri(picture, quality: int = 82) -> str:
    """A PIL image as a data URI: JPEG, or PNG where that is smaller."""
    lossless = "data:image/png;base64," + _encoded(picture, "PNG", optimize=True)
    return min(jpeg_uri(picture, quality), lossless, key=len)


def _encoded(picture, form: str, **options) -> str:
    out = io.BytesIO()
    picture.save(out, form, **options)
    return as_base64(out.getvalue())
