"""Relocation, growth and noise of 3DGS-MCMC: against the equations, and against gsplat's own Python code."""

import math

import pytest
import torch
from boxes import painted_box

from fit3d_lite import Gaussians, fit, photo_psnr
from fit3d_lite.splatting.densify import Split
from fit3d_lite.splatting.gaussians import rotation_matrices
from fit3d_lite.splatting.mcmc import DEAD, NOISE, GsplatMcmc, Mcmc, relocated, strategy

NAMES = ("means", "quats", "scales", "opacities", "colors")


def eq9(opacity, count):
    """New opacity, and factor of the scales, by the paper's double sum."""
    new = 1 - (1 - opacity) ** (1 / count)
    total = sum(
        math.comb(i - 1, k) * (-1) ** k / math.sqrt(k + 1) * new ** (k + 1)
        for i in range(1, count + 1)
        for k in range(i)
    )
    return new, opacity / total


def setting(count=200, seed=0, dead=40):
    """Raw parameters, and one Adam for each that has taken a step."""
    g = torch.Generator().manual_seed(seed)
    values = {
        "means": torch.randn(count, 3, generator=g),
        "quats": torch.randn(count, 4, generator=g),
        "scales": torch.randn(count, 3, generator=g) * 0.3 - 3,
        "opacities": torch.randn(count, generator=g),
        "colors": torch.randn(count, 3, generator=g),
    }
    values["opacities"][:dead] = -8
    raw = {n: torch.nn.Parameter(v.clone()) for n, v in values.items()}
    optimizers = {n: torch.optim.Adam([p], lr=1e-4) for n, p in raw.items()}
    (sum((p * torch.randn(p.shape, generator=g)).sum() for p in raw.values())).backward()
    for optimizer in optimizers.values():
        optimizer.step()
    return raw, optimizers


@pytest.mark.parametrize("opacity", [0.006, 0.3, 0.9, 1 - 1e-6])
@pytest.mark.parametrize("count", [1, 2, 5, 20])
def test_relocated_follows_equation_9(opacity, count):
    axes = torch.tensor([[1.0, 2.0, 3.0]])
    new, scales = relocated(torch.tensor([opacity], dtype=torch.float64), axes, torch.tensor([count]))
    expected, factor = eq9(opacity, count)
    assert float(new) == pytest.approx(expected, rel=1e-9)
    torch.testing.assert_close(scales, axes * factor, rtol=1e-5, atol=0)


def test_sharing_keeps_the_light_on_a_line_through_the_middle():
    """What eq. 9 is made for: along a line, 1 − Π (1 − alpha) integrates to the same before and after."""
    x = torch.linspace(-8, 8, 20001).double()
    opacity, count = torch.tensor([0.8]).double(), 7
    new, scale = relocated(opacity, torch.ones(1, 3).double(), torch.tensor([count]))
    before = opacity * torch.exp(-0.5 * x**2)
    after = 1 - (1 - new * torch.exp(-0.5 * (x / scale[0, 0]) ** 2)) ** count
    assert float(after.sum()) == pytest.approx(float(before.sum()), rel=1e-6)
    assert float(scale[0, 0]) < 0.95


def test_counts_above_the_table_are_cut_and_stay_finite():
    new, scales = relocated(torch.full((2,), 0.999999), torch.ones(2, 3), torch.tensor([51, 500]))
    assert torch.isfinite(scales).all() and (scales > 0).all()
    assert torch.equal(new[0], new[1]) and torch.equal(scales[0], scales[1])


def test_the_dead_move_to_the_living_and_forget_as_the_living_do():
    raw, optimizers = setting(dead=40)
    old = {n: p.detach().clone() for n, p in raw.items()}
    Mcmc(1000, every=1, until=2).relocate(raw, optimizers)
    assert len(raw["means"]) == 200
    same_place = (raw["means"][:40, None] == old["means"][None, 40:]).all(2)
    assert (same_place.sum(1) == 1).all()  # each dead lies on one that lived
    host = same_place.int().argmax(1) + 40
    torch.testing.assert_close(raw["opacities"][:40], raw["opacities"][host])
    assert (raw["opacities"].sigmoid() >= DEAD * 0.999).all()
    untouched = torch.tensor([n for n in range(40, 200) if n not in set(host.tolist())])
    for name in NAMES:
        assert torch.equal(raw[name][untouched], old[name][untouched])
        memory = optimizers[name].state[raw[name]]["exp_avg"]
        assert float(memory[host].abs().max()) == 0 and float(memory[untouched].abs().min()) > 0


def test_the_host_is_drawn_by_opacity():
    raw, optimizers = setting(count=1002, dead=1000)
    with torch.no_grad():
        raw["opacities"][1000], raw["opacities"][1001] = 0.0, torch.logit(torch.tensor(0.125))  # 0.5 and 0.125
    place = raw["means"][1000].detach().clone()
    Mcmc(2000, every=1, until=2).relocate(raw, optimizers)
    share = float((raw["means"][:1000] == place).all(1).float().mean())
    assert share == pytest.approx(0.8, abs=0.05)


def test_growth_is_five_percent_up_to_the_cap():
    raw, optimizers = setting()
    shaping = Mcmc(215, every=1, until=10)
    shaping.add(raw, optimizers)
    assert len(raw["means"]) == 210
    memory = optimizers["means"].state[raw["means"]]["exp_avg"]
    assert memory.shape == (210, 3) and float(memory[200:].abs().max()) == 0
    for _ in range(3):
        shaping.add(raw, optimizers)
    assert all(len(raw[n]) == 215 for n in NAMES)
    assert optimizers["quats"].param_groups[0]["params"][0] is raw["quats"]


def test_noise_has_the_covariance_of_equation_8():
    raw, _ = setting(count=1, dead=0)
    with torch.no_grad():
        raw = {n: torch.nn.Parameter(p.repeat(40_000, *[1] * (p.ndim - 1))) for n, p in raw.items()}
        raw["opacities"].fill_(float(torch.logit(torch.tensor(0.01))))
        before = raw["means"].clone()
        Mcmc(1, every=1, until=1).tremble(raw, lr=1e-4)
        moved = (raw["means"] - before).double()
        one = Gaussians(before[:1], raw["quats"][:1], raw["scales"][:1].exp(), torch.ones(1), torch.ones(1, 3))
        sigma = one.covariances()[0]
    gate = 1 / (1 + math.exp(100 * (0.01 - 0.005)))
    expected = (1e-4 * NOISE * gate) ** 2 * (sigma @ sigma).double()  # of Σ η
    torch.testing.assert_close(
        moved.T @ moved / len(moved), expected, rtol=0.05, atol=0.03 * float(expected.abs().max())
    )


def test_what_can_be_seen_hardly_trembles():
    raw, _ = setting(dead=0)
    with torch.no_grad():
        raw["opacities"].fill_(0.0)
    before = raw["means"].detach().clone()
    with torch.no_grad():
        Mcmc(1, every=1, until=1).tremble(raw, lr=1e-4)
        assert float((raw["means"] - before).abs().max()) < 1e-12


def test_steps_of_refinement_are_those_of_splitting():
    for shaping in (Mcmc(10_000, every=3, until=8.0), Split(200, 10_000, 0.05, every=3, until=8.0)):
        raw, optimizers = setting(dead=0)
        shaping.pull = torch.rand(200, 2)
        counts = []
        for step in range(1, 11):
            shaping.after_step(raw, optimizers, step, lr=1e-4)
            counts.append(len(raw["means"]))
        assert [n for n in range(1, 10) if counts[n] > counts[n - 1]] == [2, 5], type(shaping)  # steps 3 and 6


# Against gsplat's own Python. Its two CUDA calls are replaced by the equations.


@pytest.fixture
def gsplat(monkeypatch):
    real = pytest.importorskip("gsplat")
    import gsplat.strategy.ops as ops

    def compute_relocation(opacities, scales, ratios, binoms):
        pairs = [eq9(float(o), int(r)) for o, r in zip(opacities, ratios.clamp(1, len(binoms)), strict=True)]
        new, factor = torch.tensor(pairs).unbind(1)
        return new, factor[:, None] * scales

    def covariances(quats, scales, compute_covar, compute_preci, triu):
        half = rotation_matrices(quats) * scales[:, None]
        return half @ half.transpose(1, 2), None

    monkeypatch.setattr(ops, "compute_relocation", compute_relocation)
    monkeypatch.setattr(ops, "quat_scale_to_covar_preci", covariances)
    return real


@pytest.fixture
def two_settings():
    """Twice the same, made before same_draws takes torch's random numbers away."""
    return setting(), setting()


@pytest.fixture
def same_draws(gsplat, monkeypatch):
    """Both draw the same hosts and the same noise: of a running number, not of a generator."""
    import gsplat.strategy.ops as ops

    def hosts(weights, count, replacement=True):
        return (torch.arange(count) * 7) % len(weights)  # some of them more than once

    def noise(shape, **kwargs):
        return torch.sin(torch.arange(math.prod(shape)).float()).reshape(shape)

    monkeypatch.setattr(ops, "_multinomial_sample", hosts)
    monkeypatch.setattr(Mcmc, "_draw", lambda self, odds, count: hosts(odds, count))
    monkeypatch.setattr(torch, "randn", noise)
    monkeypatch.setattr(torch, "randn_like", lambda like: noise(like.shape))


def test_a_refinement_equals_gsplats_strategy(two_settings, same_draws):
    ours, theirs = (kind(205, every=2, until=5.0) for kind in (Mcmc, GsplatMcmc))
    (raw, optimizers), (raw2, optimizers2) = two_settings
    for step in (1, 2):
        ours.after_step(raw, optimizers, step, lr=1e-4)
        theirs.after_step(raw2, optimizers2, step, lr=1e-4)
    assert len(raw["means"]) == 205
    for name in NAMES:
        torch.testing.assert_close(raw[name], raw2[name], rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")
        for key in ("exp_avg", "exp_avg_sq"):
            mine, other = optimizers[name].state[raw[name]][key], optimizers2[name].state[raw2[name]][key]
            assert torch.equal(mine, other), (name, key)


def test_gsplats_strategy_accepts_our_parameters(gsplat):
    raw, optimizers = setting()
    gsplat.MCMCStrategy().check_sanity(raw, optimizers)


def test_fit_takes_gsplats_strategy_where_gsplat_draws(gsplat, monkeypatch):
    assert type(strategy("torch", 10, 1, 1.0)) is Mcmc
    assert type(strategy("gsplat", 10, 1, 1.0)) is GsplatMcmc
    from fit3d_lite import backend

    scene = painted_box(3)
    start = Gaussians.from_depth(scene, count=200)
    plain, asked = backend.choose, []
    # gsplat's strategy on the CPU, drawn by torch.
    monkeypatch.setattr(
        "fit3d_lite.splatting.fit.backends.choose", lambda b, c, v=None: asked.append(b) or plain("torch", c, v)
    )
    monkeypatch.setattr("fit3d_lite.splatting.fit.mcmc.strategy", lambda b, *a: GsplatMcmc(*a))
    fitted = fit(start, scene, 10, densify="mcmc", refine_every=3, progress=False, backend="gsplat")
    assert len(start) < len(fitted) <= 1.3 * len(start) and "gsplat" in asked
    fitted.check()


# In a fit.


def test_fit_with_mcmc_improves_held_out_views_under_its_cap():
    train, held = painted_box().split(3)
    start = Gaussians.from_depth(train, count=500)
    history = []
    fitted = fit(start, train, 60, refine_every=10, densify="mcmc", max_count=520, history=history, progress=False)
    before, after = (sum(photo_psnr(c, held)) / len(held) for c in (start, fitted))
    assert after > before + 1
    assert len(fitted) == 520 == max(h["count"] for h in history)
    again = fit(start, train, 3, densify="mcmc", split_share=0, refine_every=1, progress=False)
    assert len(again) == len(start)


def test_fit_with_mcmc_is_repeatable_with_a_seed():
    scene = painted_box(3)
    start = Gaussians.from_depth(scene, count=150)
    start.opacities[:30] = 0.004
    a, b, c = (fit(start, scene, 4, densify="mcmc", seed=s, progress=False, refine_every=2) for s in (0, 0, 1))
    assert torch.equal(a.means, b.means) and not torch.equal(a.means, c.means)


def test_the_penalties_are_the_papers():
    cloud = Gaussians(
        torch.zeros(2, 3), torch.ones(2, 4), torch.full((2, 3), 0.4), torch.tensor([0.2, 0.6]), torch.ones(2, 3)
    )
    assert float(Mcmc(2, 1, 1.0).penalty(cloud)) == pytest.approx(0.01 * 0.4 + 0.01 * 0.4)
    assert Split(2, 2, 0.0, 1, 1.0).penalty(cloud) == 0


def test_a_fit_with_mcmc_descends_on_the_penalties_too():
    scene = painted_box(2)
    start = Gaussians.from_depth(scene, count=100)
    losses = {}
    for way in ("split", "mcmc"):
        history = []
        fit(start, scene, 1, densify=way, history=history, progress=False)
        losses[way] = history[0]["loss"]
    expected = 0.01 * float(start.opacities.mean() + start.scales.mean())
    assert losses["mcmc"] - losses["split"] == pytest.approx(expected, rel=1e-3)


def test_an_unknown_way_is_refused():
    scene = painted_box(2)
    with pytest.raises(ValueError, match='"split" or "mcmc", got \'clone\''):
        fit(Gaussians.from_depth(scene, count=50), scene, 1, densify="clone")
