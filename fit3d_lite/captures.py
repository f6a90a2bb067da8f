"""Real data: photos with measured depth and poses, read into a Scene.

    rgbd(folder)     any capture in the plain layout: images/, depth/, poses.txt, K.txt
    office()         a public capture of an office kitchen, downloaded on demand
    find_office()    where that capture already lies, without touching the network

Each layout has a file of its own and a function here; all of them give the same Scene.
"""

from .office import find_office, office
from .rgbd import rgbd

__all__ = ["find_office", "office", "rgbd"]
