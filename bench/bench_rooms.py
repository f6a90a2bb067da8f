"""How long does a procedural room take, and how much memory? Prints a markdown table.

python bench/bench_rooms.py [--views 24] [--size 224] [--seeds 0 1 2] [--device cpu]
"""

import argparse
import resource
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from fit3d_lite.rooms import room  # noqa: E402


def peak_mb() -> float:
    """Largest resident memory of this process so far, in MB (Linux counts kilobytes, macOS bytes)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--views", type=int, default=24)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    room(0, views=1, size=32, device=args.device)  # tables and kernels are made once
    before = peak_mb()
    name = (
        torch.cuda.get_device_name(args.device)
        if args.device.startswith("cuda")
        else f"CPU, {torch.get_num_threads()} threads"
    )
    print(f"{args.views} views of {args.size} x {args.size}, {name}, torch {torch.__version__}\n")
    print("| seed | shadows | seconds | seconds per view | processor seconds | peak memory above the start, MB |")
    print("|---:|---|---:|---:|---:|---:|")
    for seed in args.seeds:
        for shadows in (True, False):
            start, cpu = time.perf_counter(), time.process_time()
            room(seed, views=args.views, size=args.size, device=args.device, shadows=shadows)
            if args.device.startswith("cuda"):
                torch.cuda.synchronize()
            seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
            memory = peak_mb() - before
            yes = "yes" if shadows else "no"
            print(f"| {seed} | {yes} | {seconds:.2f} | {seconds / args.views:.3f} | {cpu:.2f} | {memory:.0f} |")


if __name__ == "__main__":
    main()
