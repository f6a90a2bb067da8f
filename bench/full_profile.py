"""Is every cell of every lesson feasible at full size on a T4? Estimated from counted work: bench/results/full_profile.md.

    python -m bench.full_profile            # about four minutes on one core; needs no GPU

No T4 has run this: times and memory here are computed, not measured. The sizes are read from the lessons' own settings
cells in the full profile. Work is counted: products of the ViT by torch's FlopCounterMode on fake tensors (a backward
pass counts twice a forward pass), (pixel, Gaussian) pairs by drawing a real room of that size once on the CPU, bytes by
shapes. Work becomes time by a T4's published peaks times a share that real programs reach (RATES; the shares are
assumptions). What runs on the CPU there too (tracing rooms, k-means, t-SNE, reading photos) is timed here on one core.
Downloads are not counted. Such an estimate may be wrong by a factor of two either way.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import nbformat
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from fit3d_lite import Gaussians, load_vit, patch_matrix, room, view_matrix
from fit3d_lite.finetuning.recipes import RECIPES
from fit3d_lite.probing.train import PAPER

from .report import table
from .vit_memory import ALLOWANCE, LIMIT, gigabytes, step_bytes, without_numbers

RESULTS = Path(__file__).parent / "results" / "full_profile.md"
LESSONS = sorted((Path(__file__).parents[1] / "notebooks").glob("0*.ipynb"))
MINUTES = 10
# A T4's peak (NVIDIA's data sheet) and the share of it that we count on.
RATES = {"fp16": (65e12, 0.30), "fp32": (8.1e12, 0.50), "fp64": (0.25e12, 0.50), "bytes": (320e9, 0.60)}
LAUNCH = 10e-6  # s that the CPU needs to ask for one operation; it counts where operations are small
PAIR_BYTES = 400  # moved by the torch path for one pair, forward: a sort, two running sums, a dozen passes
LISTED = 3  # pairs that are listed, for each that reaches the eye
PAIR_BYTES_BACK = 1000  # and with the backward pass


@dataclass
class Work:
    """What one cell does."""

    cell: str
    what: str
    fp16: float = 0  # operations
    fp32: float = 0
    fp64: float = 0
    bytes: float = 0
    launches: float = 0
    cpu: float = 0  # s on one core
    memory: float = 0  # bytes on the GPU beside the allowance

    @property
    def seconds(self) -> float:
        gpu = sum(getattr(self, kind) / (peak * share) for kind, (peak, share) in RATES.items())
        return max(gpu, LAUNCH * self.launches) + self.cpu


@functools.cache
def settings(number: int) -> SimpleNamespace:
    """The names that a lesson's settings cell makes in the full profile."""
    code = [c.source for c in nbformat.read(LESSONS[number], 4).cells if c.cell_type == "code" and "setup(" not in c.source]
    cell = next(source for source in code if "#@param" in source)
    run = SimpleNamespace(pick=lambda quick, full, name="", middle=None: full, tuned=lambda *_: "", profile="full",
                          cache=Path("."), device="cpu", seed=0)  # fmt: skip
    nyu = SimpleNamespace(nyu=lambda **_: "there")
    f3d = SimpleNamespace(captures=nyu, DownloadError=OSError, load_vit=lambda *_, **__: None)
    kept = [line for line in cell.splitlines() if not line.startswith(("import ", "from "))]
    exec("\n".join(kept), names := {"run": run, "f3d": f3d})
    return SimpleNamespace(**names)


@functools.cache
def vit(name: str):
    return load_vit(name, "random", device="cpu")


@functools.cache
def forward(name: str, height: int, width: int) -> float:
    """Operations of one image's forward pass (a product and a sum are two)."""
    model = load_vit(name, "random", device="cpu")
    with FakeTensorMode(allow_non_fake_inputs=True) as fake, torch.no_grad():
        without_numbers(model, fake)
        with FlopCounterMode(display=False) as counter:
            model.features(torch.rand(1, 3, height, width), checked=True)
    # CPU flash attention is not in the counter's table: two products of [N, C] by [C, N], in each block.
    h, w = model.grid(height, width)
    seen = sum(counter.get_flop_counts()["Global"].values())
    names = " ".join(str(k) for k in counter.get_flop_counts()["Global"])
    attention = 0 if "attention" in names else 4 * (h * w + 1) ** 2 * model.channels * model.blocks
    return float(seen + attention)


@functools.cache
def pairs(count: int, height: int, width: int) -> int:
    """Pairs that reach the eye in one view of a room of so many Gaussians."""
    scene = room(7, 4, (height, width), shadows=False)
    return view_matrix(Gaussians.from_depth(scene, count=count), scene.cameras[0]).values().numel()


@functools.cache
def patch_pairs(count: int, size: int, patches: int) -> int:
    scene = room(7, 4, size, shadows=False)
    return patch_matrix(Gaussians.from_depth(scene, count=count), scene.cameras[0], patches, patches).values().numel()


def timed(work) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


@functools.cache
def tracing(size: int) -> float:
    """s for one view of a room on one core."""
    return timed(lambda: room(7, 3, size)) / 3


@functools.cache
def kmeans_seconds(patches: int, channels: int, groups: int, n_init: int) -> float:
    from fit3d_lite import viz

    feats = torch.randn(1, channels, 1, patches, generator=torch.Generator().manual_seed(0))
    return timed(lambda: viz.kmeans(feats, groups, n_init=n_init))


@functools.cache
def tsne_seconds(patches: int, channels: int) -> float:
    from fit3d_lite import viz

    feats = torch.randn(4, channels, 32, 32, generator=torch.Generator().manual_seed(0))
    return timed(lambda: viz.tsne({"a": feats}, patches=patches))


@functools.cache
def photo_seconds(height: int, width: int) -> float:
    """Reading one NYUv2 photo costs mostly its change of size."""
    from fit3d_lite.captures.photoset import Photo, resized

    photo = Photo(torch.rand(3, 480, 640), torch.rand(480, 640), torch.zeros(480, 640, dtype=torch.long), None)
    return timed(lambda: [resized(photo, height, width) for _ in range(3)]) / 3


def looks(pairs_of_views: int, size: int, channels: int, name: str, cell: str, times: int) -> Work:
    """consistency: 100 queries against every fourth pixel, for each ordered pair of views."""
    places = (size // 4) ** 2
    each = 2 * 100 * places * (channels + 2 + 3)
    work = times * pairs_of_views
    return Work(cell, name, fp32=work * each, bytes=work * (places * channels * 4 + 12 * 100 * places * 4),
                launches=work * 60, memory=10 * 100 * places * 4 + places * channels * 8)  # fmt: skip


def lesson_00() -> Iterator[Work]:
    s, size = settings(0), 448
    f, patches = forward("dinov2_small", size, size), s.VIEWS * 32 * 32
    yield Work("room", f"{s.VIEWS} views of {size}² traced", cpu=s.VIEWS * tracing(size))
    yield Work("features", f"3 ViTs, {s.VIEWS} photos", fp16=3 * s.VIEWS * f, memory=1.5e9)
    yield Work("groups", f"k-means of {patches:,} patches, 5 models", cpu=5 * kmeans_seconds(patches, 384, s.GROUPS, 4))


def fit_work(cell: str, steps: int, gaussians: int, height: int, width: int) -> Work:
    m = LISTED * pairs(gaussians, height, width)
    return Work(cell, f"{steps} steps, {gaussians:,} Gaussians, {height}×{width}, {m:,} pairs listed a view",
                bytes=steps * m * PAIR_BYTES_BACK, launches=steps * 250, memory=m * 400)  # fmt: skip


def lesson_01() -> Iterator[Work]:
    s = settings(1)
    yield Work("room", f"{s.views + 4} views of {s.size}² traced", cpu=(s.views + 4) * tracing(s.size))
    yield fit_work("fit", s.steps, s.gaussians, s.size, s.size)
    yield fit_work("fit, office", s.steps, s.gaussians, 180, 270)
    yield fit_work("fit, shuffled poses", s.steps // 2, s.gaussians, s.size, s.size)


def lift_work(cell: str, views: int, size: int, gaussians: int = 40_000, channels: int = 384) -> Work:
    h = size // 14
    m, fine = patch_pairs(gaussians, size, h), LISTED * pairs(gaussians, 4 * h, 4 * h)
    return Work(cell, f"{views} views lifted, {m:,} entries a patch matrix",
                bytes=views * (fine * PAIR_BYTES + m * (channels * 8 + 100)), launches=views * 200,
                memory=2 * gaussians * channels * 4 + fine * 200)  # fmt: skip


def lesson_02() -> Iterator[Work]:
    s = settings(2)
    count, h = s.views + 4, s.size // 14
    f, m = forward(s.backbone, s.size, s.size), patch_pairs(40_000, s.size, s.size // 14)
    yield Work("room and features", f"{count} views of {s.size}² traced and seen", fp16=count * f, memory=2e9,
               cpu=count * tracing(s.size))  # fmt: skip
    yield lift_work("lift, mean", s.views, s.size)
    yield Work("lift, decoder", f"{s.decoder_steps} steps of the paper's", launches=s.decoder_steps * 40,
               fp32=s.decoder_steps * 6 * h * h * 9 * 64 * 384, bytes=s.decoder_steps * (m * 64 * 16 + 40_000 * 64 * 40),
               memory=s.views * m * 40)  # fmt: skip
    yield Work("lift, solve", "4 conjugate-gradient steps, all views", bytes=10 * s.views * m * 384 * 4,
               memory=s.views * m * 24 + 6 * 40_000 * 384 * 4 + s.views * h * h * 384 * 8)  # fmt: skip


def tune_work(cell: str, name: str, size: int, steps: int, batch: int, recipe: str, half: bool, held: float) -> Work:
    each = forward(name, size, size) * batch * (3 + 0.2)  # backward is two; a look at the original every five steps
    kind = "fp16" if half else "fp32"
    peak = step_bytes(vit(name), recipe, batch, torch.float16 if half else torch.float32, size=size)
    what = f"{steps} steps of {batch} photos of {size}², {kind}"
    return Work(cell, what, memory=held + peak, launches=steps * 1500, **{kind: steps * each})


def lesson_03() -> Iterator[Work]:
    s = settings(3)
    photos, h, name = s.rooms * s.views, s.size // 14, s.backbone
    held = photos * s.size**2 * 24 + s.rooms * 40_000 * 384 * 4  # scenes and lifted features
    f = forward(name, s.size, s.size)
    one = lift_work("", photos, s.size)
    yield Work("lift", f"{photos} views of {s.size}² traced, seen and lifted", fp16=photos * f, bytes=one.bytes,
               launches=one.launches, cpu=photos * tracing(s.size), memory=held + one.memory)  # fmt: skip
    yield tune_work("drill", name, s.size, 28, 2, "paper", False, held)
    lite = RECIPES["lite"]
    steps = lite.epochs * photos // lite.batch
    yield tune_work("run", name, s.size, steps, lite.batch, "lite", True, held)
    yield tune_work("controls", name, s.size, 2 * steps, lite.batch, "lite", True, held)
    seen, width = 4 * (20 + 6 + 12), 768
    gram = 2 * 20 * 4 * h * h * (width + 1) ** 2
    look = looks(12 * 12, s.size, width, "", "", 4)
    yield Work("probe", f"4 judgements on {seen} photos: ridge in float64, agreement of views", fp16=2 * seen * f,
               fp64=4 * gram, fp32=look.fp32, bytes=look.bytes + 4 * seen * s.size**2 * 16 * 30, launches=look.launches,
               cpu=seen * tracing(s.size), memory=held + seen * (s.size**2 * 24 + h * h * width * 16) + look.memory)  # fmt: skip


def probe_lesson(number: int, task: str, height: int, width: int, cells: dict[str, tuple[float, int]]) -> Iterator[Work]:
    """Heads on NYUv2; ``cells``: how many heads, and how many ViTs are new and must see all photos."""
    s = settings(number)
    h, w = height // 14, width // 14
    f = forward(s.backbone, height, width)
    photos = 1449 + 795 * PAPER[task].mirror  # mirrored photos are seen as well
    bins, cells_of = (13, height * width) if task == "segmentation" else (256, 16 * h * w)
    scores, tokens = 4 * bins * cells_of, 4 * h * w * 768  # bytes of one photo in float32, two ViTs side by side
    for cell, (heads, vits) in cells.items():
        steps = round(heads * s.steps)
        looked = steps * s.batch + heads * 654 / 2  # photos forward and backward; a test photo goes forward alone
        yield Work(
            cell,
            f"{heads:g} × {s.steps} steps of {s.batch} photos of {height}×{width}; {photos:,} photos seen by {vits} ViTs",
            fp16=vits * photos * f,
            fp32=looked * 6 * h * w * 768 * bins,
            bytes=looked * (10 * scores + 4 * tokens),
            launches=steps * 150,
            cpu=vits * 1449 * photo_seconds(height, width) + looked * tokens / 2 / 4e9,  # fp16, gathered and copied at 4 GB/s
            memory=s.batch * (5 * scores + 3 * tokens) + (1.5e9 if vits else 0),
        )


def lesson_04() -> Iterator[Work]:
    cells = {"train-watched": (1, 1), "train-three": (3, 1), "seeds": (1, 0), "assemblies": (3, 0), "stopped-early": (0.9, 0),
             "train-controls": (3, 1)}  # fmt: skip
    yield from probe_lesson(4, "segmentation", 504, 672, cells)


def lesson_05() -> Iterator[Work]:
    cells = {"train-watched": (1, 1), "train-three": (3, 1), "train-controls": (3, 1)}
    yield from probe_lesson(5, "depth", 480, 640, cells)


def lesson_06() -> Iterator[Work]:
    s, size = settings(6), 448
    f, patches = forward(s.backbone, size, size), s.VIEWS * 32 * 32
    one = kmeans_seconds(patches, 384, s.GROUPS, 4)
    yield Work("rooms", f"{s.rooms} rooms, 2 ViTs, k-means of {patches:,} patches 6 times each", memory=1.5e9,
               fp16=2 * s.rooms * s.VIEWS * f, cpu=s.rooms * (s.VIEWS * tracing(size) + 6 * one))  # fmt: skip
    yield Work("controls", "k-means of 7 kinds of features, 5 seeds", cpu=35 * kmeans_seconds(patches, 384, s.GROUPS, 1))
    many = sum(kmeans_seconds(patches, 384, k, 1) for k in (5, 20, 150, 500, 1000))
    yield Work("curves", "k-means of 3 kinds of features, 5 to 1,000 groups", cpu=3 * 7 / 5 * many)
    yield Work("tsne", "2 pages of 2,000 patches", cpu=2 * tsne_seconds(2000, 384))
    path = 36 * 2 * LISTED * pairs(16_000, 170, 240)
    yield Work("fly", "36 places, two paints", bytes=path * PAIR_BYTES, launches=72 * 120, cpu=72 * 0.05, memory=1e8)


def lesson_07() -> Iterator[Work]:
    s = settings(7)
    rooms, views = len(s.rooms), s.views
    f, ordered = forward(s.backbone, s.size, s.size), views * (views - 1)
    held = rooms * views * (s.size**2 * 24 + 5 * 37 * 37 * 384 * 4)
    yield Work("models", f"{rooms} rooms × {views} views of {s.size}² traced on the GPU, 2 ViTs", fp16=2 * rooms * views * f,
               bytes=rooms * views * s.size**2 * 4 * 60 * 40, memory=held + 2e9)  # fmt: skip
    found = looks(ordered * rooms, s.size, 384, f"5 kinds of features, {ordered * rooms} pairs of views at most", "measure", 5)
    found.memory += held
    yield found
    found = looks(ordered, s.size, 384, "12 blocks of 2 ViTs", "blocks", 24)
    found.fp16, found.memory = 2 * views * f, found.memory + held + 12 * views * 37 * 37 * 384 * 4
    yield found
    many = 5 * rooms * 20
    yield Work("miou", "masks carried between at most 20 pairs a room, 5 kinds", launches=many * 100, memory=held + 1e9,
               bytes=many * 16 * s.size**2 * 4 * 4, fp32=many * 2 * 37**4 * 384)  # fmt: skip
    yield tune_work("collapse", s.backbone, s.size, 15, 2, "paper", False, held)
    yield lift_work("lift", 3 * views, s.size, 20_000)


LESSON = [lesson_00, lesson_01, lesson_02, lesson_03, lesson_04, lesson_05, lesson_06, lesson_07]


def rows() -> list[list]:
    found = []
    for number, lesson in enumerate(LESSON):
        for work in lesson():
            size = gigabytes(work.memory) + ALLOWANCE
            fits = "yes" if work.seconds < 60 * MINUTES and size < LIMIT else "**no**"
            found.append([f"{number:02}", work.cell, work.what, f"{work.cpu:.0f}", f"{work.seconds:.0f}", f"{size:.1f}", fits])
    return found


def main() -> None:
    head = ["lesson", "cell", "work", "of it CPU, s", "T4, s", "memory, GB", f"under {MINUTES} min and {LIMIT:.0f} GB"]
    rates = "\n".join(f"- {kind}: {peak:.3g} a second × {share:.0%}" for kind, (peak, share) in RATES.items())
    flops = "\n".join(
        f"- {name}, {h} × {w}: {forward(name, h, w) / 1e9:.0f} GFLOP forward"
        for name, h, w in (("dinov2_small", 518, 518), ("dinov2_small", 504, 672), ("dinov2_base", 518, 518))
    )
    text = f"""# The full profile on a T4, estimated

**Computed for a T4, not measured.** Made by `python -m bench.full_profile`.

{__doc__.split("needs no GPU")[1].strip()}

Rates:
{rates}
- an operation costs at least {LAUNCH * 1e6:.0f} µs of the CPU's time

The ViT:
{flops}

Memory is what the cell keeps on the GPU and needs at its widest moment, from shapes, and {ALLOWANCE} GB for context, workspaces
and gaps.

{table(head, rows())}
"""
    RESULTS.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
