"""Do two views agree? Depth and poses know where a point of one photo lies in another; features are asked to find it.

Read correspond.py (the true place) and match.py (features at places), then consistency.py (recall, margin, AUC). Beside
it: cosine.py (one number), masks.py (labels carried over), probe3d.py (Probe3D's own recall), click.py (for the page).

Letters: V views, a and b two of them; Q queries, G places looked at; C channels, h w patches, H W pixels, M classes.
"""

from .click import click_match, show_match
from .consistency import Consistency, consistency, consistency_by_block
from .correspond import view_pairs
from .cosine import cross_view_cosine
from .masks import mask_propagation, propagate_labels
from .match import features_at
from .probe3d import probe3d_recall

__all__ = [
    "Consistency", "click_match", "consistency", "consistency_by_block", "cross_view_cosine", "features_at",
    "mask_propagation", "probe3d_recall", "propagate_labels", "show_match", "view_pairs",
]  # fmt: skip
