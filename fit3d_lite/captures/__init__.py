"""Real data: photos with measured depth and poses, read into a Scene; photos with labels, read when asked for.

    rgbd(folder)     any capture in the plain layout: images/, depth/, poses.txt, K.txt
    colmap(folder)   a COLMAP model with its photos: no depth, but .points; nerfstudio(), scannetpp(), tum() likewise
    photos(folder)   plain photos or a film: structure from motion finds the cameras
    office()         a public capture of an office kitchen, downloaded on demand
    find_office()    where that capture already lies, without touching the network
    stereo()         a motorcycle photographed twice, with measured depth; comes with scikit-image
    nyu()            NYU Depth v2: 1,449 photos with depth and labels, to probe features with
    ade20k(), voc()  labelled photos from far outside of rooms

Each layout has a file of its own. Read rgbd.py, then frames.py (the door where every reader ends); office.py adds a
download. For labelled photos read photoset.py, then nyu.py or folders.py. Letters: V views, H W pixels, M classes.
"""

from ..base.unpack import unpack
from .colmap import colmap
from .folders import ade20k, voc
from .nerfstudio import nerfstudio, scannetpp
from .nyu import nyu
from .office import find_office, office
from .photos import photos
from .rgbd import rgbd
from .stereo import stereo
from .tum import tum

__all__ = [
    "ade20k", "colmap", "find_office", "nerfstudio", "nyu", "office", "photos", "rgbd", "scannetpp", "stereo", "tum", "unpack",
    "voc",
]  # fmt: skip
