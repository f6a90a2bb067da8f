"""A reader's own photo as a batch of one: upright, RGB, of a size that a ViT can take."""

import io
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

__all__ = ["load_image", "uploaded"]


def load_image(
    source,  # path, bytes, or a file opened in binary
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
    if isinstance(source, str | Path) and not Path(source).is_file():
        raise FileNotFoundError(f"there is no picture at {Path(source).absolute()}")
    if isinstance(source, bytes | bytearray | memoryview):
        source = io.BytesIO(bytes(source))
    try:
        with Image.open(source) as picture:
            picture = ImageOps.exif_transpose(picture).convert("RGBA")
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError(f"{name} cannot be read as a picture ({error}); save it as JPEG or PNG first") from error
    flat = Image.new("RGBA", picture.size, "white")
    flat.alpha_composite(picture)
    picture = flat.convert("RGB")
    if size is not None:
        height, width = (size, size) if isinstance(size, int) else size
        if min(height, width) < 1:
            raise ValueError(f"a photo cannot be {height}×{width} pixels")
        fit = isinstance(size, int)
        picture = ImageOps.fit(picture, (width, height), Image.LANCZOS) if fit else picture.resize((width, height))
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 255


def uploaded(value) -> list[tuple[str, bytes]]:
    """(name, content) of each file in an ipywidgets FileUpload's ``value``, oldest first.

    ipywidgets 7, as on Colab, gives a dict by name; ipywidgets 8 a tuple of dicts with a memoryview. An empty value
    gives an empty list.

    Raises:
        ValueError: neither of the two.
    """
    if isinstance(value, dict):
        return [(name, bytes(entry["content"])) for name, entry in value.items()]
    if isinstance(value, tuple | list) and all(isinstance(entry, dict) for entry in value):
        return [(entry["name"], bytes(entry["content"])) for entry in value]
    raise ValueError(f"a FileUpload's value is a dict or a tuple of dicts, not {type(value).__name__}")
