"""From the name of a scene on a command line to its lifted features: read, fitted, lifted, each kept by its content.

A file's name holds a hash of all that made it: photos, cameras, depths or points, settings, the ViT's weights. So a run
that was stopped goes on, two runs share what is alike in both, and no two scenes of one name are taken for one another.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

from .. import captures
from ..base import whole
from ..lifting.lifted import Lifted
from ..lifting.methods import lift
from ..rooms.make import room
from ..scenes.scene import Scene
from ..splatting.fitting import fit
from ..splatting.gaussians import Gaussians
from .state import content_of

KINDS = ("colmap", "nerfstudio", "photos", "rgbd", "scannetpp", "tum")
FIT_STEPS = 400  # of a scene without depth: points alone are no picture


def makers_of(a: argparse.Namespace) -> list[Callable[[], Scene]]:
    """One function for each scene that the arguments name, in their order. ValueError where there is none."""
    makers = [lambda seed=seed: room(seed, a.views, a.size) for seed in range(a.first_room, a.first_room + a.rooms)]
    makers += [_maker(a, *name.partition(":")[::2]) for name in [*a.scene, *(f"rgbd:{folder}" for folder in a.rgbd)]]
    if not makers:
        raise ValueError("name scenes: --scene colmap:my/scan, --rooms 6, or --rgbd with one or more folders")
    return makers


def _maker(a: argparse.Namespace, kind: str, where: str) -> Callable[[], Scene]:
    if kind == "room" and where.isdigit():
        return lambda: room(int(where), a.views, a.size)
    if kind in ("stereo", "office") and not where:
        options = {} if kind == "stereo" else {"frames": a.frames}
        return lambda: _square(getattr(captures, kind)(size=a.size, **options), a.size)
    if kind not in KINDS or not where:
        known = ", ".join(f"{k}:PATH" for k in KINDS)
        raise ValueError(f"a scene is {known}, room:SEED, stereo or office; got {kind + (':' + where if where else '')!r}")
    options = {"depth_scale": a.depth_scale} if kind == "rgbd" else {}
    return lambda: _square(getattr(captures, kind)(where, frames=a.frames, size=a.size, **options), a.size)


def _square(scene: Scene, size: int) -> Scene:
    """The middle of every photo: the proportions stay, and all scenes have one size."""
    return scene.cropped((scene.width - size) // 2, (scene.height - size) // 2, size, size)


def lifted_features(a: argparse.Namespace, vit, scene: Scene) -> Lifted | Path:
    """The ViT's features on the scene's Gaussians; made once when there is a folder to keep them in."""

    def make() -> Lifted:
        here = scene.to(vit.mean.device)
        return lift(fitted(a, here), here.cameras, vit.extract(here.images), method=a.lift)

    if a.work is None:
        return make()
    path = _kept(a, "lifted", vit.fingerprint(), *_made(a, scene), a.lift)
    return path if path.is_file() else make().save(path)


def fitted(a: argparse.Namespace, scene: Scene) -> Gaussians:
    """Gaussians of a scene: from its depths, or from its points; fitted to its photos where steps are asked for."""
    content, steps, exposure, count = _made(a, scene)
    path = None if a.work is None else _kept(a, "cloud", content, steps, exposure, count)
    if path is not None and path.is_file():
        _, tensors = whole.load(path, "cloud", "delete it, and it is made again")
        return Gaussians(**tensors).to(scene.images.device)
    cloud = Gaussians.from_points(scene) if scene.depths is None else Gaussians.from_depth(scene, count=count)
    if steps:
        cloud = fit(cloud, scene, steps, exposure=exposure)
        if path is not None:
            tensors = {f.name: getattr(cloud, f.name) for f in fields(cloud)}
            whole.save(path, "cloud", {"scene": scene.name, "steps": steps, "exposure": exposure}, tensors)
    return cloud


def _made(a: argparse.Namespace, scene: Scene) -> tuple:
    """What a scene's Gaussians depend on."""
    steps = a.fit_steps if a.fit_steps is not None else FIT_STEPS if scene.depths is None else 0
    return content_of(scene), steps, a.exposure, a.gaussians


def _kept(a: argparse.Namespace, kind: str, *made) -> Path:
    return a.work / f"{kind}_{hashlib.sha256(json.dumps(made).encode()).hexdigest()[:16]}.safetensors"
