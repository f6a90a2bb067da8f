"""The GPU measurements run to their end on tiny sizes, and refuse to write a table where there is no GPU."""

import pytest
import torch

from bench import gpu, gpu_draw
from bench.gpu_clock import Took

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="`make bench-gpu` is the test there")


def test_every_part_runs_on_tiny_sizes_and_prints_its_table(monkeypatch, capsys):
    monkeypatch.setattr(gpu, "usable", lambda device: ["torch"])  # the interpreter would take a minute
    assert gpu.main(["--try"]) == 0
    said = capsys.readouterr().out
    for part in ("## Drawing", "## Lifting 20 channels", "## Fitting 60 Gaussians", "## Fine-tuning at 56²", "## Memory"):
        assert part in said
    assert "| 60 | 24² |" in said and "aims (torch within 5 times, Triton within 2 times its time) are open" in said


def test_without_a_gpu_nothing_is_measured(capsys):
    assert gpu.main([]) == 2
    assert "no CUDA device here" in capsys.readouterr().out
    assert gpu.main(["--try", "--only", "drow"]) == 2
    assert "no part drow; there are draw, lift" in capsys.readouterr().out


def test_the_verdict_names_met_and_missed_aims():
    at = (100_000, 512, 3)
    found = {(*at, "gsplat"): Took(2.0, 0), (*at, "torch"): Took(11.0, 0), (*at, "triton"): Took(3.0, 0)}
    said = gpu_draw.verdict(found, at)
    assert "torch takes 5.50 times gsplat's time (aim: 5; MISSED)" in said
    assert "triton takes 1.50 times gsplat's time (aim: 2; met)" in said
    assert "MISSED" not in gpu_draw.verdict(found | {(*at, "torch"): Took(9.0, 0)}, at)
