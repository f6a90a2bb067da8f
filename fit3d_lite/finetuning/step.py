"""One step of fine-tuning: photos in, features pulled towards their targets patch by patch, weights moved.

Every term of the loss is a map over patches; the loss is its sum over the covered patches, divided by their number in
the *whole* batch. So a batch split into parts, or over processes, gives exactly the gradient of the batch in one piece.
"""

from __future__ import annotations

import copy
import math
import warnings
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..backbones.adapters import prepare
from ..base.machine import out_of_memory
from . import processes
from .recipes import Recipe
from .targets import Targets, TargetScale, enlarged

SAMPLE = 32  # views on which means, spreads and the start of the depth map g are measured
OVERFLOWS = 20  # steps in a row that may overflow in fp16; the scaler starts at 2**16 and halves each time
TERMS = ("l1", "cosine", "geometry", "keep")
RIDGE = 1e-2  # of that start, relative to the mean square of a channel


def patch_terms(
    feats: Tensor,  # [B, C, h, w]
    target: Tensor,  # [B, C, h, w]
    recipe,
) -> dict[str, Tensor]:  # each [B, h, w]
    """The terms of the recipe that compare with the target: "l1" (FiT3D's) and "cosine"."""
    if feats.shape != target.shape:
        raise ValueError(f"features are {list(feats.shape)} and their targets {list(target.shape)}.")
    terms = {}
    if recipe.l1:
        terms["l1"] = (feats - target).abs().mean(1)
    if recipe.cosine:
        terms["cosine"] = 1 - F.cosine_similarity(feats, target, dim=1)
    return terms


@torch.no_grad()
def drift(feats: Tensor, original: Tensor) -> tuple[Tensor, Tensor]:  # each [B, C, h, w] -> [], []
    """(standard-deviation ratio, cosine) of features against the original's on the same images.

    The ratio compares the mean over channels of the standard deviation over patches: towards 0, all patches become
    alike (collapse), which a falling loss does not show. The cosine says how far the features have moved.
    """
    a, b = (f.detach().float().movedim(1, -1).flatten(0, -2) for f in (feats, original))
    ratio = a.std(0).mean() / b.std(0).mean().clamp_min(1e-12)
    return ratio, F.cosine_similarity(a, b).mean()


class Student(nn.Module):
    """The ViT in training, with the linear map from features to log-depth that is thrown away afterwards."""

    def __init__(self, vit):
        super().__init__()
        self.vit, self.to_depth = vit, nn.Conv2d(vit.channels, 1, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:  # [B, 3, H, W] -> [B, C, h, w], [B, 1, h, w]
        feats = self.vit.features(images, checked=True).float()  # a scene's images were checked when it was made
        return feats, self.to_depth(feats)


class Trainer:
    """Student, optimizer and scaler, and what a step does with them."""

    def __init__(
        self, vit, scenes, targets: Targets, recipe: Recipe, dtype: torch.dtype,
        at_once: int | None = None, grad_checkpointing: bool | str = "auto", cache=None,
    ):  # fmt: skip
        self.cache = cache
        self.original, self.scenes, self.targets, self.recipe, self.dtype = vit, scenes, targets, recipe, dtype
        self.device = vit.mean.device
        self.at_once = min(at_once or recipe.batch, recipe.batch)
        self.student = Student(copy.deepcopy(vit)).to(self.device)
        self.may_recompute = grad_checkpointing == "auto"
        if not self.may_recompute:
            self.student.vit.set_grad_checkpointing(grad_checkpointing)
        self.weights = prepare(self.student.vit, recipe)
        self.student.to_depth.requires_grad_(recipe.geometry > 0)
        self.target_scale = TargetScale(vit.channels).to(self.device)
        groups = [{"params": self.weights, "rate": recipe.lr}]
        if recipe.geometry:
            groups.append({"params": list(self.student.to_depth.parameters()), "rate": recipe.head_lr})
        self.optimizer = torch.optim.AdamW(groups, lr=recipe.lr, weight_decay=recipe.weight_decay)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=dtype == torch.float16)
        self.overflows = 0
        self.student.train()
        self.joint = self.student  # what all processes share
        if processes.running():
            # The position embedding's gradient comes with other strides than its weight: a copy more, no error.
            warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
            devices = [self.device] if self.device.type == "cuda" else None
            self.joint = nn.parallel.DistributedDataParallel(self.student, devices, find_unused_parameters=True)

    def parts(self) -> dict:
        """What a checkpoint keeps."""
        return {"student": self.student, "target_scale": self.target_scale, "optimizer": self.optimizer, "scaler": self.scaler}

    @torch.no_grad()
    def begin(self) -> None:
        """Measure the scales, and start g where it is best for the original's features: a ridge regression."""
        views = self.targets.some(SAMPLE)
        if not any(self.targets[v][2].any() for v in views):
            raise ValueError(f"The Gaussians cover no patch of {len(views)} views: there is nothing to learn from.")
        if not self.recipe.restore_spread and not self.recipe.geometry:
            return
        images = torch.stack([self._image(v) for v in views])
        feats = enlarged(self.original.extract(images, cache=self.cache).cpu(), self.targets.grid).movedim(1, -1)
        wanted, depths, masks = map(torch.stack, zip(*(self.targets[v] for v in views), strict=True))
        mine, wanted, depths = (x[masks].double() for x in (feats, wanted.movedim(1, -1), depths))
        if len(mine) < 2:
            raise ValueError(f"The Gaussians cover {len(mine)} patches of {len(views)} views: there is nothing to learn from.")
        if self.recipe.restore_spread:
            (mean, std), (old_mean, old_std) = (processes.moments(x, self.device) for x in (wanted, mine))
            scale = old_std / std.clamp_min(1e-6)
            self.target_scale.scale.copy_(scale[:, None, None])
            self.target_scale.shift.copy_((old_mean - mean * scale)[:, None, None])
        if self.recipe.geometry:
            (mean,), (std,) = processes.moments(depths[:, None], self.device)
            self.target_scale.depth.copy_(torch.tensor([mean, std.clamp_min(1e-6)]))
            inputs = F.pad(mine, (0, 1), value=1.0)
            gram, cross = inputs.T @ inputs, inputs.T @ ((depths - mean) / std)[:, None]
            gram, cross = (processes.summed(x.to(self.device)).cpu() for x in (gram, cross))
            gram.diagonal()[:-1] += RIDGE * gram.diagonal()[:-1].mean()
            found = torch.linalg.solve(gram, cross)
            self.student.to_depth.weight.copy_(found[:-1].view(1, -1, 1, 1))
            self.student.to_depth.bias.copy_(found[-1])

    def step(self, views: list[int], mirrored: list[bool], rate: float, look: bool) -> dict:
        """Move the weights once; what there is to tell of the step. ``rate`` is a factor of the learning rates.

        The numbers are still on the device; a :class:`History` reads them, and gives them to :meth:`accept_or_raise`.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = group["rate"] * rate
        covered, batch = self._batch(views, mirrored)
        patches = batch[3].shape[1:].numel() * len(views)
        covered, patches = processes.total(covered, patches, device=self.device)
        while True:
            try:
                sums = self._backward(batch, max(covered, 1), patches, look)
                break
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
                found = error
            self._halve(found)  # outside the except: the traceback would hold the tensors
        if processes.running():
            sums = dict(zip(sums, processes.summed(torch.stack(tuple(sums.values()))).unbind(), strict=True))
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.weights, self.recipe.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        watched = {"std_ratio": None, "cosine_to_original": None}
        if look:
            watched = {name: sums.pop(name) / processes.world() for name in watched}
        return {**sums, "lr": self.recipe.lr * rate, "grad_norm": norm, **watched, "covered": covered / patches}

    def accept_or_raise(self, row: dict) -> None:
        """Look at the numbers of a step, after they were read: a loss that is not finite ends the run.

        In fp16 a gradient may overflow: the scaler then leaves the weights alone in that step and takes a smaller scale.
        Such a step has no gradient norm (None), and no loss where that overflowed too; the run goes on, but not for ever.
        """
        if not math.isfinite(row["loss"]) and not self.scaler.is_enabled():
            remedy = f"lower the learning rate {self.recipe.lr:g}" if row["step"] else "features or targets are not finite"
            raise FloatingPointError(f"the loss is {row['loss']} in step {row['step']}: {remedy}")
        kept = math.isfinite(row["grad_norm"]) and math.isfinite(row["loss"])
        self.overflows = 0 if kept else self.overflows + 1
        if self.overflows == OVERFLOWS:
            raise FloatingPointError(
                f"{OVERFLOWS} steps in a row overflowed in {self.dtype}: use dtype=torch.float32 or a lower learning rate"
            )
        for name in () if kept else ("loss", *TERMS, "grad_norm", "std_ratio", "cosine_to_original"):
            if row.get(name) is not None and not math.isfinite(row[name]):
                row[name] = None

    def _backward(self, batch, covered: float, patches: float, look: bool) -> dict[str, Tensor]:
        """Gradients of the whole batch, a part at a time; the terms of the loss, each a tensor of one number."""
        self.optimizer.zero_grad(set_to_none=True)
        parts = list(zip(*(x.split(self.at_once) for x in batch), strict=True))
        sums: dict[str, Tensor] = {}
        pairs = []
        for number, (images, wanted, depths, mask) in enumerate(parts):
            last = number + 1 == len(parts)  # processes exchange gradients once a step
            alone = self.joint.no_sync() if processes.running() and not last else nullcontext()
            with alone:
                with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
                    feats, guess = self.joint(images)
                grid = mask.shape[1:]
                near = enlarged(feats, grid)
                terms = {k: (v * mask).sum() / covered for k, v in patch_terms(near, wanted, self.recipe).items()}
                if self.recipe.geometry:
                    off = (enlarged(guess, grid)[:, 0] - depths).abs()
                    terms["geometry"] = (off * mask).sum() / covered
                old = self._original(images) if self.recipe.keep or look else None
                if self.recipe.keep:
                    terms["keep"] = (near - enlarged(old, grid)).abs().mean(1).sum() / patches
                loss = sum(getattr(self.recipe, name) * value for name, value in terms.items())
                # DistributedDataParallel takes the mean over processes where the sum is wanted.
                self.scaler.scale(loss * processes.world()).backward()
            for name, value in {"loss": loss, **terms}.items():
                value = value.detach().double()
                sums[name] = sums[name] + value if name in sums else value
            if look:
                pairs.append((feats.detach(), old))
        if look:
            found = drift(*(torch.cat(x) for x in zip(*pairs, strict=True)))
            sums["std_ratio"], sums["cosine_to_original"] = (x.double() for x in found)
        return sums

    @torch.no_grad()
    def _original(self, images: Tensor) -> Tensor:
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return self.original.features(images, checked=True).float()

    def _batch(self, views, mirrored) -> tuple[int, tuple[Tensor, Tensor, Tensor, Tensor]]:
        """The number of covered patches, counted before they leave the CPU; and on the device images [B, 3, H, W],
        targets [B, C, h, w], standardized log-depths and masks [B, h, w]."""
        rows = []
        for view, mirror in zip(views, mirrored, strict=True):
            row = (self._image(view), *self.targets[view])
            rows.append([x.flip(-1) if mirror else x for x in row])
        images, wanted, depths, masks = (torch.stack(x) for x in zip(*rows, strict=True))
        covered = masks.sum().item()
        images, wanted, depths, masks = (x.to(self.device) for x in (images, wanted, depths, masks))
        return covered, (images, *self.target_scale(wanted, depths), masks)

    def _image(self, view: int) -> Tensor:  # [3, H, W]
        scene, index = self.targets.where[view]
        return self.scenes[scene].images[index]

    def _halve(self, error: Exception) -> None:
        """Out of memory: fewer images at once, the same batch. Several processes cannot do that each for itself."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        if processes.running():
            less = max(1, self.at_once // 2)
            raise MemoryError(f"{self.at_once} images at once do not fit: start again with at_once={less}") from error
        if self.at_once == 1 and self.may_recompute and not self.student.vit.grad_checkpointing:
            self.student.vit.set_grad_checkpointing(True)
            print("out of memory with one image at once: gradient checkpointing from here on, same gradients, more time")
            return
        if self.at_once == 1:
            raise MemoryError(
                f"one image does not fit the memory of {self.device}: use smaller images, grad_checkpointing=True "
                f"or train='lora'"
            ) from error
        self.at_once //= 2
        print(f"out of memory: {self.at_once} images at once from here on; the batch stays {self.recipe.batch}")
