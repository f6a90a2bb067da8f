"""Run lessons in the middle and the full profile without a GPU, shrunk: ``make profiles``, or ``python -m tools.profiles 02``.

Every cell takes the path that it takes on a GPU; what it computes is worth nothing. DINOv2 has two blocks and random weights,
numbers are the quick profile's, NYUv2 is a file of few frames, and the GPU is the one that only pretends (tests/standins).
"""

import argparse
import sys
import tempfile
from pathlib import Path

import nbformat

from .bootstrap import ROOT
from .execute import execute
from .notebooks import all_notebooks

FRAMES = 140  # of NYUv2: 85 to learn from, the first 40 of which validate, and 55 to test
PRETENDED = []
FIRST = """\
import sys; sys.path[:0] = [{root!r}, {standins!r}]
from tools.profiles import shrink; shrink({profile!r}, {cache!r}, gpu={gpu})
"""


def smaller(quick, picked):
    """What a shrunk profile takes: the quick one's number for a number, the profile's own word for a word."""
    return quick if isinstance(quick, (int, float, tuple)) and not isinstance(quick, bool) else picked


def shrink(profile: str, cache: str, gpu: bool = True) -> None:
    """Change this process so that lessons run in ``profile`` within minutes on a CPU."""
    import os

    os.environ |= {"FIT3D_PROFILE": profile, "FIT3D_CACHE": cache, "FIT3D_OFFLINE": "1"}
    if gpu:
        from pretend_cuda import pretend_cuda

        PRETENDED.append(pretend_cuda())  # kept: a context that nobody holds ends
        PRETENDED[-1].__enter__()
    import timm

    from fit3d_lite.backbones import load, vit
    from fit3d_lite.backbones.checkpoints import NAMES
    from fit3d_lite.captures import nyu
    from fit3d_lite.course.setup import Run

    create, build, pick = timm.create_model, load.build, Run.pick
    published = set(NAMES.values())

    def create_model(name, **options):
        return create(name, **({"depth": 2} if name in published else {}) | options)

    def random_of_published(name, weights="original", cache=None, seed=0):
        if name in NAMES and weights in ("original", "fit3d"):
            weights, seed = "random", seed + (weights == "fit3d")
        return build(name, weights, cache, seed)

    def shrunk(self, quick, full, name="", middle=None):
        return smaller(quick, pick(self, quick, full, name, middle))

    timm.create_model, vit.build, Run.pick = create_model, random_of_published, shrunk
    sys.modules[nyu.__module__]._find = lambda path, cache: small_nyu(Path(os.environ["FIT3D_CACHE"]) / "few_frames.mat")


def small_nyu(path: Path) -> Path:
    """A file of the data set's form with :data:`FRAMES` frames of noise; made once."""
    import h5py
    import numpy as np

    if path.is_file():
        return path
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        coarse = rng.integers(0, 256, (FRAMES, 3, 20, 15), dtype=np.uint8)
        labels = rng.integers(1, 895, (FRAMES, 20, 15), dtype=np.uint16)
        file["images"] = coarse.repeat(32, 2).repeat(32, 3)
        file["labels"] = labels.repeat(32, 1).repeat(32, 2)
        depths = rng.uniform(1, 9, (FRAMES, 20, 15)).astype(np.float32).repeat(32, 1).repeat(32, 2)
        file["depths"], file["rawDepths"] = depths, depths
    return path


def run(profile: str, names: list[str], gpu: bool) -> int:
    """Run the lessons in that profile; the number that failed."""
    failed = 0
    with tempfile.TemporaryDirectory() as cache:
        for path in [p for p in all_notebooks() if not names or p.name.startswith(tuple(names))]:
            nb = nbformat.read(path, as_version=4)
            first = FIRST.format(root=str(ROOT), standins=str(ROOT / "tests" / "standins"), profile=profile, cache=cache, gpu=gpu)
            nb.cells.insert(0, nbformat.v4.new_code_cell(first))
            copy = Path(cache) / path.name
            nbformat.write(nb, copy)
            ran = execute(copy, timeout=1800)
            bad = ran.failed_cell is not None
            verdict = f"FAILED in cell {ran.failed_cell - 1}: {ran.error}" if bad else "done"
            print(f"profiles: {path.name}, {profile}, {verdict}, {ran.seconds:.0f} s", flush=True)
            failed += bad
    return failed


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.profiles", description="Run lessons in the larger profiles, shrunk.")
    parser.add_argument("only", nargs="*", help="beginnings of notebook names, such as 00 or 04; all when none")
    parser.add_argument("--profile", choices=("middle", "full"), help="one of the two; both when not given")
    parser.add_argument("--cpu", action="store_true", help="without the pretended GPU")
    given = parser.parse_args(arguments)
    profiles = (given.profile,) if given.profile else ("middle", "full")
    return 1 if sum(run(profile, given.only, not given.cpu) for profile in profiles) else 0


if __name__ == "__main__":
    sys.exit(main())
