"""How long does a procedural room take, and how much memory?

    python -m bench.bench_rooms [--views 24] [--size 224] [--seeds 0 1 2] [--device cpu]
"""

from __future__ import annotations

import argparse
import time

import torch

from bench.report import peak_mb, table, write
from fit3d_lite.rooms import room


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--views", type=int, default=24)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    room(0, views=1, size=32, device=args.device)  # tables and kernels are made once
    before, rows = peak_mb(), []
    for seed in args.seeds:
        for shadows in (True, False):
            start, cpu = time.perf_counter(), time.process_time()
            room(seed, views=args.views, size=args.size, device=args.device, shadows=shadows)
            if args.device.startswith("cuda"):
                torch.cuda.synchronize()
            seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
            cells = [f"{seconds:.1f}", f"{cpu:.1f}", f"{seconds / args.views:.2f}", f"{peak_mb() - before:.0f}"]
            rows.append([seed, "yes" if shadows else "no", *cells])
    header = ["seed", "shadows", "seconds", "processor seconds", "seconds a view", "peak memory above the start, MB"]
    device = torch.cuda.get_device_name(args.device) if args.device.startswith("cuda") else "CPU"
    title = f"# Procedural rooms: {args.views} views of {args.size}², {device} (aim: under 6 seconds and 1000 MB)"
    write("rooms", f"{title}\n\n{table(header, rows)}")


if __name__ == "__main__":
    main()
