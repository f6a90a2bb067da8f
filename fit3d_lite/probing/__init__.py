"""What can a small head read from frozen features? Labels or depth, measured on photos it has not seen.

Read probe.py first, then what it calls, in this order: labelled.py (photos with maps), heads.py and dpt.py (heads),
depth.py (losses, spans), train.py (the loop), readout.py (what is trained), metrics.py, result.py. Beside it: ridge.py
(a probe in closed form), classify.py (whole photos), seeds.py (several runs, paired differences).

Letters: V photos, B of a batch; C channels, h w patches, H W pixels; M classes, K depth bins.
"""

from .classify import classify, photos_of_things
from .depth import DepthSpan, sig_loss
from .heads import bin_probabilities, expected_depth
from .labelled import LabelledPhotos
from .metrics import confusion_matrix, mean_iou
from .probe import ProbeOptions, probe_depth, probe_segmentation
from .result import load_probe
from .ridge import patch_targets, quick_probe
from .seeds import over_seeds, paired
from .train import Training

__all__ = [
    "DepthSpan", "LabelledPhotos", "ProbeOptions", "Training", "bin_probabilities", "classify", "confusion_matrix",
    "expected_depth", "load_probe", "mean_iou", "over_seeds", "paired", "patch_targets", "photos_of_things", "probe_depth",
    "probe_segmentation", "quick_probe", "sig_loss",
]  # fmt: skip
