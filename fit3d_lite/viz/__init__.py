"""Looking at features: colors, clusters, similarity, and pictures of them. Nothing here knows how features were made.

Read palette and figures first, then pca and clusters; scores, noise and tsne ask how good groups and features are; paths
flies through Gaussians; click and click_bins answer in the page itself; paper writes figures for print. Sliders, points and
live plots come from widgets.
Letters: V views, C channels, h × w patches, H × W pixels; features are [V, C, h, w], colors [V, h, w, 3] in 0..1.
"""

from ..widgets.live import LivePlot
from ..widgets.pictures import load_image, tile, uploaded
from ..widgets.points import point_view
from ..widgets.slider import frames_slider
from .click import click_similarity
from .click_bins import click_distribution
from .clusters import agglomerative, kmeans, match_clusters, similarity
from .figures import compare, show_depth, show_error, show_images, show_labels, show_mistakes
from .foreground import foreground
from .noise import local_noise, outlier_tokens, position_share, token_norms
from .palette import color_depth, color_labels, color_position
from .paper import feature_grid, save
from .paths import fly, orbit, under_roof
from .pca import pca_basis, pca_colors
from .scores import cluster_scores, contingency, control_features, found_again
from .tsne import show_embedding, tsne

__all__ = [
    "LivePlot", "agglomerative", "click_distribution", "click_similarity", "cluster_scores", "color_depth",
    "color_labels", "color_position", "compare", "contingency", "control_features", "feature_grid", "fly",
    "foreground", "found_again", "frames_slider", "kmeans", "load_image", "local_noise", "match_clusters", "orbit",
    "outlier_tokens", "pca_basis", "pca_colors", "point_view", "position_share", "save", "show_depth",
    "show_embedding", "show_error", "show_images", "show_labels", "show_mistakes", "similarity", "tile",
    "token_norms", "tsne", "under_roof", "uploaded",
]  # fmt: skip
