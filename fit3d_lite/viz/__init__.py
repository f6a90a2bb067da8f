"""Looking at features: colours, clusters, similarity, and pictures of them. The entrance to:

    pca.py           features as colours, one basis for what is compared
    foreground.py    what stands out: the first component as a threshold
    clusters.py      cosine similarity to a patch; groups whose numbers agree between models
    clusterscore.py  do groups agree with labels: NMI, AMI, ARI, purity, over several runs
    tokennoise.py    long tokens, the pattern of the place, grain
    embed.py         t-SNE of patches
    palette.py       labels, depths and numbers as colours for any colour vision
    show.py          photos and maps side by side, with titles and legends
    judge.py         maps of errors, mistakes and confidence
    sheet.py         contact sheets
    frames.py        frames under a slider, as HTML that needs no kernel and no network
    click.py         click a patch, see what is similar: the same, computed in the page
    clickbins.py     click a photo, see which depths a head considers there
    flythrough.py    camera paths, and Gaussians seen along them
    movie.py         frames as GIF or MP4
    liveplot.py      a curve that renews itself while a cell runs
    pointview.py     points to turn with the mouse
    pictures.py      a reader's own photo: from a file, an address in memory, or an upload

Nothing here knows how the features were made.
"""

from ..widgets.live import LivePlot
from ..widgets.movie import find_ffmpeg, save_gif, save_mp4
from ..widgets.pictures import load_image, uploaded
from ..widgets.points import PointView, point_view
from ..widgets.sheet import Sheet, contact_sheet
from ..widgets.slider import Frames, frames_slider, tile
from .click import ClickMap, click_similarity
from .click_bins import click_distribution
from .clusters import agglomerative, kmeans, match_clusters, similarity
from .figures import compare, show_depth, show_images, show_labels
from .foreground import Foreground, foreground, otsu
from .judge import show_confidence, show_error, show_mistakes
from .noise import local_noise, outlier_tokens, position_share, token_norms
from .palette import color_depth, color_labels, color_map, color_mistakes, color_position, palette
from .paths import between, fly, orbit, under_roof, up_of
from .pca import Basis, pca_basis, pca_colors
from .scores import ClusterScores, cluster_scores, contingency, control_features
from .tsne import Embedding, show_embedding, tsne

__all__ = [
    "Basis", "ClickMap", "ClusterScores", "Embedding", "Foreground", "Frames", "LivePlot", "PointView", "Sheet",
    "agglomerative", "between", "click_distribution", "click_similarity", "cluster_scores", "color_depth",
    "color_labels", "color_map", "color_mistakes", "color_position", "compare", "contact_sheet", "contingency",
    "control_features", "find_ffmpeg", "fly", "foreground", "frames_slider", "kmeans", "load_image", "local_noise",
    "match_clusters", "orbit", "otsu", "outlier_tokens", "palette", "pca_basis", "pca_colors", "point_view",
    "position_share", "save_gif", "save_mp4", "show_confidence", "show_depth", "show_embedding", "show_error",
    "show_images", "show_labels", "show_mistakes", "similarity", "tile", "token_norms", "tsne", "under_roof", "up_of",
    "uploaded",
]  # fmt: skip
