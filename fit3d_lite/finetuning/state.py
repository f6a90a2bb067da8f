"""Everything a stopped run needs to go on as if nothing had happened, in one file that is whole or absent."""

from __future__ import annotations

import hashlib
import json
import pickle
import zipfile
import zlib
from pathlib import Path

import torch

from ..backbones.features import digest_of
from ..base.artifacts import ArtifactMismatch, differences
from ..base.history import History
from ..base.inputs import existing_file
from ..base.whole import replace_when_whole
from ..scenes.scene import Scene
from .processes import gathered, rank

DAMAGED = (
    RuntimeError, EOFError, KeyError, TypeError, zipfile.BadZipFile, zlib.error, pickle.UnpicklingError, UnicodeDecodeError,
)  # fmt: skip
FORMAT = "fit3d_lite.finetune.2"


def content_of(scene: Scene) -> str:
    """A hash of a scene's photos, depths, points, masks, K and poses: two folders of one name are two scenes."""
    cameras = [matrix for camera in scene.cameras for matrix in (camera.K, camera.world_to_camera)]
    tensors = [scene.images, *cameras] + ([] if scene.depths is None else [scene.depths])
    tensors += [scene.points.xyz, scene.points.color] if scene.points is not None else []
    tensors += [scene.masks] if scene.masks is not None else []
    made = [f"{tuple(t.shape)} {t.dtype} {digest_of(t)}" for t in tensors]
    return hashlib.sha256(" ".join(made).encode()).hexdigest()[:16]


class Checkpoint:
    """The file of one run. Every process calls its methods; the first one writes.

    Args:
        path: None keeps nothing.
        every: steps from one writing to the next.
        settings: what must be the same for the run to be continued; JSON-able.
        parts: what has a state dict, by name: weights, optimizer, scaler and the like.
        device: of the run, whose random numbers are kept too: dropout and its kind draw from them.
    """

    def __init__(self, path: str | Path | None, every: int, settings: dict, parts: dict, device: torch.device):
        self.path, self.every, self.settings, self.parts, self.device = path, every, settings, parts, device

    def load(self) -> list[dict]:
        """Put the file's content back into the parts and the random states; returns the rows of the run's history.

        Raises:
            ArtifactMismatch: the run was made with other settings; each difference is named.
            ValueError: damaged, or no such file.
        """
        path = existing_file(self.path, "checkpoint")
        try:
            if torn := zipfile.ZipFile(path).testzip():  # torch compares no checksums
                raise KeyError(f"{torn} has another checksum")
            whole = torch.load(path, map_location="cpu", weights_only=True)
            if whole["format"] != FORMAT:
                raise KeyError(whole["format"])
            made = json.loads(whole["settings"])
        except DAMAGED as error:
            raise ValueError(
                f"{self.path} is no checkpoint of a fine-tuning run, or damaged ({error}): delete it."
            ) from None
        said = differences(made, json.loads(json.dumps(self.settings)))
        if said:
            raise ArtifactMismatch(
                f"{self.path} was made with other settings: {said}. Use the same settings, another file, or delete it."
            )
        for name, part in self.parts.items():
            part.load_state_dict(whole[name])
        states = whole["random"][rank() % len(whole["random"])]
        torch.set_rng_state(states["cpu"])
        if self.device.type == "cuda" and "cuda" in states:
            torch.cuda.set_rng_state(states["cuda"], self.device)
        return json.loads(whole["history"])

    def keep_if_due(self, history: History, last: bool) -> None:
        """After a step: write every ``every`` steps, and after the ``last`` step of this process's life."""
        if not last and (self.path is None or len(history) % self.every):
            return
        history.sync()
        if self.path is not None:
            self._write(history)

    def _write(self, history: History) -> None:
        random = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            random["cuda"] = torch.cuda.get_rng_state(self.device)
        states = gathered(random)
        if rank():
            return
        whole = {"format": FORMAT, "settings": json.dumps(self.settings), "random": states, "history": json.dumps(history)}
        whole |= {name: part.state_dict() for name, part in self.parts.items()}
        with replace_when_whole(self.path) as partial:
            torch.save(whole, partial)
