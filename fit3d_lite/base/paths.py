"""Where the files that come with the course lie: in a checkout, or inside an installed package."""

from pathlib import Path

_HERE = Path(__file__).resolve().parents[1]
# A checkout has assets/ beside the package, for readers; an install carries it inside (see pyproject.toml).
ASSET_FOLDERS = (_HERE.parent / "assets", _HERE / "assets")


def asset(name: str) -> Path:
    """Path of a file that comes with fit3d_lite, such as ``tiny_vit.safetensors``.

    Raises:
        FileNotFoundError: when neither the checkout nor the install has it; the message names both folders.
    """
    for folder in ASSET_FOLDERS:
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(
        f"the asset {name!r} is in neither {ASSET_FOLDERS[0]} nor {ASSET_FOLDERS[1]}; "
        "install fit3d_lite again from its repository, or work in a full checkout"
    )
