"""Do two views agree? Depth and poses know where a point of one photo lies in another; features are asked to find it.

Read correspond.py (the true place) and match.py (features at places), then consistency.py (recall, margin, AUC). Beside
it: cosine.py (one number), masks.py (labels carried over), probe3d.py (Probe3D's own recall), click.py (for the page).

Letters: V views, a and b two of them; Q queries, G places looked at; C channels, h w patches, H W pixels, M classes.
"""

from .click import click_match, show_match
from .masks import propagate_labels
from .match import features_at

__all__ = ["click_match", "features_at", "propagate_labels", "show_match"]
