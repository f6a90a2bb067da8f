"""What can a small head read from frozen features? Labels or depth, measured on photos it has not seen.

Read probe.py first, then what it calls, in this order: labelled.py (photos with maps), heads.py and dpt.py (heads),
depth.py (losses, spans), train.py (the loop), readout.py (what is trained), metrics.py, result.py. Beside it: ridge.py
(a probe in closed form), classify.py (whole photos), seeds.py (several runs, paired differences).

Letters: V photos, B of a batch; C channels, h w patches, H W pixels; M classes, K depth bins.
"""

from .depth import sig_loss
from .heads import bin_probabilities, expected_depth
from .metrics import confusion_matrix, mean_iou
from .probe import ProbeOptions
from .ridge import patch_targets

__all__ = [
    "ProbeOptions", "bin_probabilities", "confusion_matrix", "expected_depth", "mean_iou", "patch_targets", "sig_loss",
]  # fmt: skip
