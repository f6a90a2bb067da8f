"""The same matrix on a GPU, twice: by Triton kernels of our own, and by gsplat, the rasterizer that most papers use.

Read triton_draw (which Gaussians reach which tile of 8 × 8 pixels), then triton_kernels (a tile goes through its
Gaussians); gsplat_draw (find gsplat's compiled library, call it), then gsplat_build (compile it in the background).
Nothing here is imported until a GPU wants it: backend.py finds triton_draw and gsplat_draw by name and asks both for
``problem``, ``render`` and the entries of W. Letters as in splatting; tiles are counted row by row.
"""

from .gsplat_build import Build, BuildError, build_gsplat

__all__ = ["Build", "BuildError", "build_gsplat"]
