"""The settings of one point of an ablation: what is trained, on what, towards what, and who reads it. measured.py does it."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, fields, replace

from ..base.inputs import check_whole
from ..finetuning.recipes import RECIPES, Recipe, named_recipe
from ..finetuning.targets import AgreeingPatches, BlurredFeatures, OwnFeatures, RandomPatches, ShuffledPoses
from ..lifting.methods import METHODS

__all__ = ["Point", "point_of"]

CONTROLS = {  # what stands in the place of the targets; the last two are no controls of 3D but fewer patches
    "none": None, "wrong poses": ShuffledPoses, "blurred in 2D": BlurredFeatures, "own features": OwnFeatures,
    "agreeing half": AgreeingPatches, "random half": RandomPatches,
}  # fmt: skip
HEADS = ("ridge", "linear", "dpt", "k-NN")
STYLES = {  # how rooms can look
    "drawn": "as they are", "recoloured": "red and blue swapped", "long lens": "48° to 56° across instead of 65° to 75°",
    "untextured": "every surface in one color", "empty": "without furniture",
}  # fmt: skip
LARGEST = 28  # patch, in pixels: the smallest photo has one, and one of those that judge 8 × 8
LEARN = 200  # rooms that a repetition may learn from
JUDGES = {"probe_train": 16, "probe_val": 4, "probe_test": 24}  # rooms of a repetition to fit, choose and judge


@dataclass(frozen=True)
class Point:
    """Settings of a point. Any setting of :class:`Recipe` may be changed by ``changes``."""

    network: str = "small"
    weights: str = "original"
    blocks: int = 0  # only the first so many, with a last norm made for them; 0: all, as they are
    patch: int = 0  # pixels a side of what it looks at as one; 0: its own
    recipe: str = "lite"  # "none": not trained, the network as it is
    changes: tuple[tuple[str, object], ...] = ()
    rooms: int = 6  # to learn from
    views: int = 12  # of each
    size: int = 224  # pixels a side
    gaussians: int = 12_000  # of each room, at most
    target: str = "mean"  # how features are lifted
    dim: int = 0  # of "decoder" and "closed": numbers a Gaussian; 0: their own
    robust: bool = False  # of "mean": a view that disagrees with the others counts less
    windows: int = 0  # pixels: lift from two windows of each photo so far apart; 0: from the photo
    samples: int = 4  # pixels along a patch's side of which a target is the mean; 1: the middle alone
    control: str = "none"  # what stands in the place of the targets
    learned: str = "drawn"  # style of the rooms to learn from
    head: str = "ridge"  # that reads labels and depth; "k-NN" names single things by their CLS token
    probe_rooms: int = 16  # to fit it
    test_rooms: int = 24  # to judge on
    style: str = "drawn"  # of the rooms to fit and judge on
    beside: str = ""  # weights of the network that the features stand beside; "": those that the training began with
    scene: str = ""  # a scene whose views should agree as well, as after ``--scene`` of the command line: "office --frames 60:70"

    def __post_init__(self) -> None:
        known = {"recipe": (*RECIPES, "none"), "control": CONTROLS, "target": METHODS, "head": HEADS}
        known |= {"style": STYLES, "learned": STYLES}
        for name, values in known.items():
            if getattr(self, name) not in values:
                raise ValueError(f"{name} must be one of {', '.join(values)}; got {getattr(self, name)!r}.")
        check_whole(0, blocks=self.blocks, patch=self.patch, dim=self.dim, windows=self.windows)
        check_whole(1, rooms=self.rooms, views=self.views, samples=self.samples, probe_rooms=self.probe_rooms)
        check_whole(1, test_rooms=self.test_rooms, gaussians=self.gaussians)
        check_whole(28, size=self.size)
        if self.patch and not 2 <= self.patch <= LARGEST:
            raise ValueError(f"patch must be 0 or 2 to {LARGEST} pixels, got {self.patch}: larger ones leave too few of a photo.")
        most = {"rooms": LEARN, "probe_rooms": JUDGES["probe_train"], "test_rooms": JUDGES["probe_test"]}
        for name, limit in most.items():
            if getattr(self, name) > limit:
                raise ValueError(f"{name} is {getattr(self, name)}, but a repetition has {limit} rooms of its own for that.")
        if self.dim and self.target not in ("decoder", "closed"):
            raise ValueError(f'dim={self.dim} is of the targets "decoder" and "closed"; the target is {self.target!r}.')
        if self.robust and self.target != "mean":
            raise ValueError(f'robust=True is of the target "mean"; the target is {self.target!r}.')
        if self.windows >= self.size:
            raise ValueError(f"Windows {self.windows} pixels apart do not fit a photo of {self.size}.")
        if self.control == "wrong poses" and self.views < 2:
            raise ValueError("Wrong poses need a second camera in each room; views is 1.")
        if self.recipe == "none" and (self.changes or self.control != "none"):
            said = ", ".join(["control"] * (self.control != "none") + [name for name, _ in self.changes])
            raise ValueError(f'Nothing is trained with recipe "none", so {said} would change nothing.')
        if self.recipe != "none":
            recipe = named_recipe(self.recipe, **dict(self.changes))
            if self.rooms * self.views < recipe.batch:
                raise ValueError(f"{self.rooms} rooms of {self.views} views are too few for a batch of {recipe.batch}.")
            for name, _ in self.changes:
                if (way := name.split("_")[0]) in ("lora", "adapter") and way != recipe.train:
                    raise ValueError(f'{name} is of train="{way}"; train is "{recipe.train}".')

    @property
    def key(self) -> dict:
        """The settings that are not the default ones: what names a point, also when later ones are added."""
        plain = Point().settings
        return {name: value for name, value in self.settings.items() if value != plain[name]}

    @property
    def settings(self) -> dict:
        """As JSON can hold it."""
        return asdict(self) | {"changes": {k: list(v) if isinstance(v, tuple) else v for k, v in self.changes}}

    @property
    def original(self) -> Point:
        """The same network before fine-tuning, judged alike: what a gain is counted from."""
        plain = Point(recipe="none")
        return replace(self, **{name: getattr(plain, name) for name in TAUGHT if name not in NETWORK})

    def judged_as(self, other: Point) -> Point:
        """This network, read and judged like the other one."""
        return replace(other, **{name: getattr(self, name) for name in (*TAUGHT, "beside")})

    def of(self, names) -> Point:
        """These settings of it, all others as they are by default: what a step of the work depends on."""
        return Point(**{"recipe": "none"} | {name: getattr(self, name) for name in names})


# Settings of a point by name, with their defaults: its own, and those of a recipe, which it may change.
OWN = {f.name: f.default for f in fields(Point) if f.name != "changes"}
RECIPE = {f.name: f.default for f in fields(Recipe)}
# Which settings decide what.
NETWORK = ("network", "weights", "blocks", "patch")
LIFTED = (*NETWORK, "rooms", "views", "size", "gaussians", "target", "dim", "robust", "windows", "samples", "learned")
TAUGHT = (*LIFTED, "recipe", "changes", "control")


def point_of(**settings) -> Point:
    """A point from settings by name; those of a Recipe go into ``changes``. ValueError for a name that is neither."""
    if unknown := sorted(settings.keys() - OWN.keys() - RECIPE.keys()):
        raise ValueError(f"no setting {', '.join(unknown)}; a point has {', '.join(sorted(OWN | RECIPE))}.")
    for name in {"scene", "weights", "beside"} & settings.keys():  # what a variable names today it may not name tomorrow
        settings[name] = os.path.expandvars(settings[name])
    changes = {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items() if k in RECIPE}
    for name, value in changes.items():
        if isinstance(RECIPE[name], float) and type(value) is int:  # 0 and 0.0 are one setting, and have one name
            changes[name] = float(value)
    point = Point(**{k: v for k, v in settings.items() if k in OWN}, changes=tuple(sorted(changes.items())))
    return point.original if point.recipe == "none" else point  # what nothing is trained on says nothing of it
