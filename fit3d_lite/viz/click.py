"""Click a patch, see what is similar: computed in the page itself, so it lives on in a saved notebook."""

import html

from torch import Tensor

from ..widgets.click import ClickMap, codes_of, photo, ramp
from ..widgets.page import attributes, slider
from .pca import check_features

__all__ = ["click_similarity"]


def click_similarity(
    images: Tensor,  # [V, 3, H, W] in 0..1
    feats: Tensor | dict[str, Tensor],  # [V, C, h, w]; several models', by name, stand under each other
    at: tuple[int, int, int] = (0, 0, 0),
    dims: int = 48,
    width: int = 380,
) -> ClickMap:
    """HTML in which a click on any photo colors every patch of all photos by its cosine similarity to the clicked one,
    by each model's features.

    Where scripts do not run, the photos alone are seen; ``compare`` with ``similarity`` is the static twin.

    Args:
        at: patch (view, row, col) chosen at first.
        dims: numbers kept per patch.
        width: of one photo, in pixels of the page.

    Raises:
        ValueError: photos and features disagree in number, models on different grids, no such patch, dims below 1.
    """
    models = feats if isinstance(feats, dict) else {"": feats}
    for name, tensor in models.items():
        check_features(tensor, name, channels=1)
        if len(images) != len(tensor):
            raise ValueError(f"{len(images)} photos with features of {len(tensor)}")
    grids = {tuple(tensor.shape[2:]) for tensor in models.values()}
    if len(grids) != 1:
        raise ValueError(f"a click asks all models for one patch, and their grids are {sorted(grids) or 'none'}")
    views, (h, w) = len(images), grids.pop()
    if not (0 <= at[0] < views and 0 <= at[1] < h and 0 <= at[2] < w) or dims < 1:
        raise ValueError(f"patch {tuple(at)} with {dims} numbers; there are {views} views of {h}×{w} patches")
    coded = {name: codes_of(f, min(dims, f.shape[1], views * h * w)) for name, f in models.items()}
    worst = max(error for _, error in coded.values())
    shape = dict(views=views, h=h, w=w, view=at[0], row=at[1], col=at[2])
    photos = "".join(photo(image, f"view {v}, to be clicked", f"flex:0 1 {width}px") for v, image in enumerate(images))
    rows = "".join(
        f'{f"<div>{html.escape(name)}</div>" if name else ""}<div class="f3d-model" {attributes(codes=codes)} '
        f'style="display:flex;flex-wrap:wrap;gap:.5em;margin-bottom:.4em">{photos}</div>'
        for name, (codes, _) in coded.items()
    )
    controls = f"<b>Click a patch.</b>{slider('overlay', 100, 70)}<output></output>"
    text = f"{views} photos to click on, {h}×{w} patches; needs a browser. Largest error of a cosine: {worst:.3f}"
    return ClickMap("click", controls, rows, text, worst, shape=shape, ramp=ramp())
