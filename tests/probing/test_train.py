"""The course of the learning rate, the paper's settings, and the lattice."""

import dataclasses

import pytest
import torch

from fit3d_lite.probing.train import LIGHT, PAPER, Training, fit_head, lattice, training_of


def test_the_papers_settings_are_those_of_its_configurations():
    labels, depth = PAPER["segmentation"], PAPER["depth"]
    assert (labels.steps, labels.batch, labels.rate, labels.weight_decay, labels.decay) == (40_000, 16, 1e-3, 1e-4, "poly")
    assert (depth.steps, depth.batch, depth.rate, depth.weight_decay, depth.clip) == (38_400, 16, 1e-4, 0.01, 35.0)
    assert round(labels.warm_up * labels.steps) == 1_500 and round(depth.warm_up * depth.steps) == 12_800
    assert depth.decay == "cosine" and depth.scale_first == 100 and labels.points is depth.points is None


def test_the_rate_rises_then_falls_as_torchs_schedules_do():
    labels = PAPER["segmentation"]
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=labels.rate)
    line = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=labels.steps, power=1.0)
    for done in range(0, 3_001):
        rising = min(1.0, 1e-3 + (1 - 1e-3) * done / 1_500)
        if done % 250 == 0:
            assert labels.rate_at(done) == pytest.approx(line.get_last_lr()[0] * rising, rel=1e-6)
        optimizer.step()
        line.step()
    assert labels.rate_at(0) == pytest.approx(1e-6) and labels.rate_at(39_999) < 1e-7
    depth = PAPER["depth"]
    assert depth.rate_at(19_200) == pytest.approx(depth.rate / 2) and depth.rate_at(38_399) < 1e-12 + depth.rate * 1e-6


def test_warm_up_scales_with_the_steps():
    short = dataclasses.replace(training_of("segmentation", "linear", "paper"), steps=400)
    assert short.rate_at(20) == pytest.approx(PAPER["segmentation"].rate_at(2_000))
    assert training_of("depth", "linear", "light") == LIGHT["depth"]
    mine = Training(3, 2, 0.1, 0.0, 0.0, "poly")
    assert training_of("depth", "linear", mine) is mine


def test_the_loop_is_adamw_with_clipping_and_decay_written_out():
    def steep(layer):
        return lambda done: (layer(torch.full((1, 2), 30.0 + done)) ** 2).sum()

    training = Training(steps=5, batch=1, rate=0.1, weight_decay=0.3, warm_up=0.0, decay="poly", clip=0.5)
    torch.manual_seed(0)
    found, expected = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    expected.load_state_dict(found.state_dict())
    fit_head(found, steep(found), training)
    optimizer = torch.optim.AdamW(expected.parameters(), weight_decay=0.3)
    for done in range(5):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - done / 5)
        optimizer.zero_grad()
        steep(expected)(done).backward()
        torch.nn.utils.clip_grad_norm_(expected.parameters(), 0.5)
        optimizer.step()
    torch.testing.assert_close(found.weight, expected.weight)
    assert not found.training


def test_lattices_are_even_and_reach_every_pixel():
    rng = torch.Generator().manual_seed(0)
    hit = torch.zeros(20, 33)
    for _ in range(200):
        rows, columns = lattice(20, 33, 6, rng)
        assert len(rows) == len(columns) == 6
        assert (rows.diff() - 20 / 6).abs().max() < 1 and (columns.diff() - 33 / 6).abs().max() < 1
        hit[rows[:, None], columns] += 1
    assert (hit > 0).all()
    rows, columns = lattice(4, 3, 6, rng)
    assert rows.tolist() == [0, 1, 2, 3] and columns.tolist() == [0, 1, 2]
