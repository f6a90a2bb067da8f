"""Run the measurements of bench/ one after the other: all of bench/bench_*.py, or the ones named.

python -m tools.bench            # all
python -m tools.bench splat,lift # bench/bench_splat.py, then bench/bench_lift.py
"""

import subprocess
import sys
import time

from .bootstrap import ROOT


def main(arguments: list[str]) -> int:
    there = {p.stem.removeprefix("bench_"): p for p in sorted((ROOT / "bench").glob("bench_*.py"))}
    asked = [n.removeprefix("bench_").removesuffix(".py") for a in arguments for n in a.split(",") if n] or list(there)
    unknown = [n for n in asked if n not in there]
    if unknown:
        print(f"bench: no {', '.join(unknown)} in bench/; there are {', '.join(there) or 'none'}")
        return 2
    failed = []
    for name in asked:
        print(f"bench: {name}", flush=True)
        begin = time.monotonic()
        code = subprocess.run([sys.executable, "-m", f"bench.{there[name].stem}"], cwd=ROOT).returncode
        print(f"bench: {name} {'done' if code == 0 else f'FAILED with code {code}'}, {time.monotonic() - begin:.0f} s")
        failed += [name] if code else []
    tail = f"; failed: {', '.join(failed)}" if failed else ""
    print(f"bench: {len(asked) - len(failed)} of {len(asked)} done{tail}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
