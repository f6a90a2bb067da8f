"""One command line: ``python -m fit3d_lite finetune …``, ``figure …`` and so on; each tells its options with ``--help``."""

from __future__ import annotations

import importlib
import sys

COMMANDS = {
    "demo": ("course.demo", "one picture in half a minute: original, lifted and 3D-aware features of a motorcycle"),
    "finetune": ("finetuning.command", "fine-tune a ViT on rooms or captures, on one or several processes"),
    "pipeline": ("finetuning.pipeline", "scenes of any kind to Gaussians, lifted features and a 3D-aware ViT, resumable"),
    "figure": ("viz.paper", "own photos and their features as colors of one basis, original and 3D-aware, for print"),
    "ablate": ("ablations.ablate", "a grid of trainings with controls and repetitions: one table, gains with intervals, figures"),
    "build-gsplat": ("splatting.gpu.gsplat_build", "compile gsplat's CUDA extension and wait for it"),
}


def main(given: list[str] | None = None) -> int:
    given = sys.argv[1:] if given is None else given
    if not given or given[0] not in COMMANDS:
        asked = "" if not given or given[0] in ("-h", "--help") else f"there is no command {given[0]!r}.\n"
        lines = [f"  {name:14}{says}" for name, (_, says) in COMMANDS.items()]
        print(f"{asked}usage: python -m fit3d_lite COMMAND [options]\n\n" + "\n".join(lines), file=sys.stderr if asked else None)
        return 2 if asked or not given else 0
    module = importlib.import_module(f".{COMMANDS[given[0]][0]}", __package__)
    try:
        return module.main(given[1:]) or 0
    except (ValueError, OSError, MemoryError, ArithmeticError, RuntimeError, KeyboardInterrupt) as error:
        print(f"{given[0]}: {str(error) or 'stopped'}", file=sys.stderr)  # what a reader can mend is no traceback
        return 2


if __name__ == "__main__":
    sys.exit(main())
