"""Looking at features: colours, clusters, similarity, and pictures of them. The entrance to:

    pca.py       features as colours, one basis for what is compared
    clusters.py  cosine similarity to a patch; k-means whose numbers agree between models
    palette.py   labels, depths and numbers as colours for any colour vision
    show.py      photos and maps side by side, with titles and legends
    frames.py    frames under a slider, as HTML that needs no kernel and no network
    click.py     click a patch, see what is similar: the same, computed in the page
    pictures.py  a reader's own photo: from a file, an address in memory, or an upload

Nothing here knows how the features were made.
"""

from .click import ClickMap, click_similarity
from .clusters import kmeans, match_clusters, similarity
from .frames import Frames, frames_slider, tile
from .palette import color_depth, color_labels, color_map, palette
from .pca import Basis, pca_basis, pca_colors
from .pictures import load_image, uploaded
from .show import compare, show_depth, show_images, show_labels

__all__ = [
    "Basis", "ClickMap", "Frames", "click_similarity", "color_depth", "color_labels", "color_map", "compare",
    "frames_slider", "kmeans", "load_image", "match_clusters", "palette", "pca_basis", "pca_colors", "show_depth",
    "show_images", "show_labels", "similarity", "tile", "uploaded",
]  # fmt: skip
