"""A run's history: a table that can be written, read and drawn, and numbers that are read late."""

import json
import time

import pytest
import torch

from fit3d_lite.base.history import LATEST, History


class Far(torch.Tensor):
    """A number on the CPU that says it lies on a GPU."""

    device = torch.device("cuda")


def far(value: float) -> torch.Tensor:
    return torch.tensor(value).as_subclass(Far)


def test_history_is_a_table_that_survives_a_cut_line(tmp_path):
    history = History({"step": i, "loss": 1.0 - 0.1 * i, "std_ratio": 1.0 if i % 2 else None} for i in range(4))
    history.write(tmp_path / "log.jsonl")
    with open(tmp_path / "log.jsonl", "a") as file:
        file.write('{"step": 4, "lo')
    assert History.read(tmp_path / "log.jsonl") == history
    assert history.column("std_ratio") == ([1, 3], [1.0, 1.0]) and history.last("loss", 2) == pytest.approx(0.75)
    figure = history.plot({"other": history})
    assert [ax.get_title() for ax in figure.axes][0] == "loss" and len(figure.axes[0].lines) == 4  # each smoothed and raw


def test_numbers_on_the_cpu_are_read_at_once_accepted_and_logged(tmp_path):
    def accept_or_raise(row):
        if row["loss"] > 2:
            raise FloatingPointError("too large")
        row["seen"] = True

    history = History([{"step": 0, "loss": 0.5}], accept=accept_or_raise)
    history.log_to(tmp_path / "log.jsonl")
    row = history.add({"step": 1, "loss": torch.tensor(1.5)}, began=time.perf_counter() - 60)
    assert row is history[1] and row["loss"] == 1.5 and type(row["loss"]) is float and row["seen"]
    assert 60 <= row["seconds"] < 120
    assert History.read(tmp_path / "log.jsonl") == history
    with pytest.raises(FloatingPointError, match="too large"):
        history.add({"step": 2, "loss": torch.tensor(3.0)})
    assert len(History.read(tmp_path / "log.jsonl")) == 2


def test_numbers_on_a_gpu_wait_for_the_tenth_row_or_for_whoever_asks():
    accepted = []
    history = History(accept=accepted.append)
    began = time.perf_counter() - 60
    for step in range(LATEST - 1):
        history.add({"step": step, "loss": far(step)}, began + step)
    assert not accepted and isinstance(history[0]["loss"], torch.Tensor)
    history.add({"step": LATEST - 1, "loss": far(1.0)}, began + 9)
    assert accepted == history and all(type(row["loss"]) is float for row in history)
    assert all(60 / LATEST <= row["seconds"] < 12 for row in history)  # since the first, shared by all
    history.add({"step": LATEST, "loss": far(0.25)})
    history.sync()
    history.sync()
    assert len(accepted) == LATEST + 1 and history[-1] == {"step": LATEST, "loss": 0.25}
    json.dumps(history)
