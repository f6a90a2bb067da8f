"""Drawing: forward, forward and backward, and the view matrix, by backend, number of Gaussians, picture and width."""

from __future__ import annotations

from functools import partial

import torch

from fit3d_lite import Gaussians, render, view_matrix

from .bench_splat import camera, cloud, leaves
from .gpu_clock import Took, bandwidth, measure
from .report import table

COUNTS, SIZES, WIDTHS = (10_000, 100_000, 500_000), (256, 512, 1024), (3, 64, 384)
AIM = (100_000, 512, 3)  # where the backends are held against each other
FACTORS = {"torch": 5, "triton": 2}  # of gsplat's time forward and backward, at most


def scene(count: int, device: torch.device) -> Gaussians:
    """Gaussians shrink as their number grows, as they do in a scene: about as many overlap in every pixel."""
    shrink = (10_000 / count) ** 0.5
    return cloud(count, (0.01 * shrink, 0.05 * shrink)).to(device)


def draw(c: Gaussians, cam, values, push, name: str, backward: bool) -> None:
    if not backward:
        with torch.no_grad():
            render(c, cam, values, backend=name)
        return
    parts = leaves(c)[:4]
    wanted = values.clone().requires_grad_()
    image, _ = render(Gaussians(*parts, c.colors), cam, wanted, backend=name)
    (image * push).sum().backward()


def report(device: torch.device, backends: list[str], tiny: bool) -> str:
    counts, sizes, widths, aim = (COUNTS, SIZES, WIDTHS, AIM) if not tiny else ((60,), (24,), (3, 20), (60, 24, 3))
    roof = bandwidth(device)
    rows, found = [], {}
    for count in counts:
        c = scene(count, device)
        for size in sizes:
            cam = camera(size)
            pairs = view_matrix(c, cam, backend="torch")._nnz()
            for name in backends:
                W = measure(device, partial(view_matrix, c, cam, backend=name), 3 if tiny else 7)
                for width in widths:
                    values = torch.randn(count, width, device=device)
                    push = torch.randn(size, size, width, device=device)
                    times = [measure(device, partial(draw, c, cam, values, push, name, b), 2 if tiny else 7)
                             for b in (False, True)]  # fmt: skip
                    found[count, size, width, name] = times[1]
                    rows.append([f"{count:,}", f"{size}²", f"{pairs:,}", width, name, *map(_ms, [*times, W]),
                                 _mb(times[1]), _share(least_bytes(count, size, width), times[1], roof)])  # fmt: skip
                    print(" · ".join(map(str, rows[-1])), flush=True)
    header = ["Gaussians", "picture", "pairs", "channels", "backend", "forward, ms", "forward and backward, ms",
              "view matrix, ms", "peak, MB", "of the roof"]  # fmt: skip
    return (
        "## Drawing\n\n" + table(header, rows) + "\n\n"
        f"The roof: a plain copy moves {roof / 1e9:.0f} GB/s here. The last column divides the bytes that forward and "
        "backward cannot do without (Gaussians and values read twice and their gradients written, picture and its "
        "gradient once each) at that rate by the time taken.\n\n" + verdict(found, aim)
    )


def least_bytes(count: int, size: int, width: int) -> int:
    """Bytes that must cross the memory bus in forward and backward, whatever the method, in float32."""
    gaussian = 11 + width  # mean 3, quaternion 4, scale 3, opacity 1, values
    return 4 * (3 * count * gaussian + 2 * size * size * width)


def verdict(found: dict, aim: tuple[int, int, int]) -> str:
    """Each backend against gsplat at the size that the aims name."""
    gsplat = found.get((*aim, "gsplat"))
    if gsplat is None:
        return "gsplat was not built here, so the aims (torch within 5 times, Triton within 2 times its time) are open."
    lines = []
    for name, most in FACTORS.items():
        took = found.get((*aim, name))
        if took is not None:
            ratio = took.ms / gsplat.ms
            lines.append(f"{name} takes {ratio:.2f} times gsplat's time (aim: {most}; {'met' if ratio <= most else 'MISSED'})")
    count, size, width = aim
    return f"At {count:,} Gaussians, {size}², {width} channels, forward and backward: " + ", ".join(lines) + "."


def _ms(took: Took | None) -> str:
    return "out of memory" if took is None else f"{took.ms:.2f}"


def _mb(took: Took | None) -> str:
    return "" if took is None else f"{took.mb:.0f}"


def _share(moved: int, took: Took | None, roof: float) -> str:
    return "" if took is None else f"{moved / roof / (took.ms / 1000):.0%}"
