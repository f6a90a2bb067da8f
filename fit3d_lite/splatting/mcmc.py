"""Gaussians as samples: dead ones are moved to where the living are, and all of them tremble a little.

3D Gaussian Splatting as Markov Chain Monte Carlo (Kheradmand et al. 2024) in place of splitting. Nothing is cloned or
reset by rule of thumb, and the number of Gaussians has a fixed cap, which is what one wants on a small GPU:

* a Gaussian whose opacity is at most 0.005 is dead. It moves onto a living one, drawn with the odds of its opacity, and
  all that then lie there share its light so that the picture stays the same (eq. 9);
* while there is room under the cap, at most 5 % new ones are added in the same way;
* after each step every centre is pushed at random, along its own covariance and only if it is nearly transparent, so
  that what is of no use finds a place where it is (eq. 8);
* small opacities and small scales are asked for by two penalties, so that some die.

Splitting stays ``fit``'s default. Measured on a CPU, 200 steps and the same cap, two seeds: from depth maps (a room, the
office) the two end within 0.1 dB of each other on held-out views; from 1,500 bare points splitting is 1 dB ahead.

``strategy`` takes gsplat's own MCMCStrategy where gsplat draws, else ours, which runs on every device and gives the same
numbers (tests/test_mcmc.py). gsplat's DefaultStrategy is not used at all: in 1.5.3 its opacity reset never happens
(Python reads its condition as ``step % reset_every == (0 & step) > 0``), so the number of Gaussians grows without bound.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .densify import Optimizers, Raw, replace_parameters
from .gaussians import Gaussians, rotation_matrices

DEAD = 0.005  # opacity up to which a Gaussian is dead
GROWTH = 1.05  # at most, at one refinement
NOISE = 5e5  # of eq. 8, times the learning rate of the means
GATE = 100.0  # steepness of eq. 8's sigmoid, which lets only Gaussians with an opacity near DEAD tremble
PENALTY = 0.01  # on the mean opacity and on the mean scale in metres
MOST = 51  # Gaussians in one place, as far as eq. 9 is computed


def relocated(
    opacities: Tensor,  # [K] in 0..1, of the Gaussian that lay there alone
    scales: Tensor,  # [K, 3] metres
    count: Tensor,  # [K] int ≥ 1: how many lie there now
) -> tuple[Tensor, Tensor]:  # [K], [K, 3]
    """Opacity and scales of each of ``count`` equal Gaussians in one place that together look as the one did (eq. 9).

    The opacity lets through as much: (1 − o)^count = 1 − opacity. The scales keep the total light: eq. 9's double sum
    over i and k is, by Σᵢ C(i−1, k) = C(count, k+1), the single sum Σₖ C(count, k) (−1)^(k−1) oᵏ / √k. It alternates, so
    it is taken in float64.
    """
    count = count.clamp(1, MOST)
    shared = 1 - (1 - opacities.double()) ** (1 / count.double())
    powers = torch.arange(1, MOST + 1, device=opacities.device)
    terms = _coefficients().to(opacities.device)[count.long()] * shared[:, None] ** powers
    factor = opacities.double() / terms.sum(1)
    return shared.to(opacities.dtype), (factor[:, None] * scales).to(scales.dtype)


def _coefficients() -> Tensor:  # [MOST + 1, MOST]
    """C(n, k) (−1)^(k−1) / √k for n = 0 … MOST and k = 1 … MOST."""
    rows = [[math.comb(n, k) * (-1) ** (k - 1) / math.sqrt(k) for k in range(1, MOST + 1)] for n in range(MOST + 1)]
    return torch.tensor(rows, dtype=torch.float64)


class Mcmc:
    """Relocation, growth and noise in plain torch; methods as in :mod:`fit3d_lite.splatting.densify`."""

    def __init__(self, max_count: int, every: int, until: float, seed: int = 0):
        self.max_count, self.every, self.until, self.seed = max_count, every, until, seed
        self.generator: torch.Generator | None = None

    def penalty(self, cloud: Gaussians) -> Tensor:
        return PENALTY * (cloud.opacities.mean() + cloud.scales.mean())

    def see_gradient(self, raw: Raw) -> None:
        pass  # what moves is a matter of opacity alone

    @torch.no_grad()
    def after_step(self, raw: Raw, optimizers: Optimizers, step: int, lr: float) -> None:
        """``step`` counts from 1; ``lr`` is the learning rate of the means in this step."""
        if step % self.every == 0 and 0 < step < self.until:
            self.relocate(raw, optimizers)
            self.add(raw, optimizers)
        self.tremble(raw, lr)

    def relocate(self, raw: Raw, optimizers: Optimizers) -> None:
        """Move the dead onto the living. Those start anew in Adam's memory, because they have become others."""
        dead = raw["opacities"].sigmoid() <= DEAD
        alive = torch.nonzero(~dead).squeeze(1)
        if not dead.any() or not len(alive):
            return
        chosen = alive[self._draw(raw["opacities"][alive].sigmoid(), int(dead.sum()))]
        values = self._sharing(raw, chosen)
        for value in values.values():
            value[dead] = value[chosen]

        def follow(memory):
            memory[chosen] = 0
            return memory

        replace_parameters(raw, optimizers, values, follow)

    def add(self, raw: Raw, optimizers: Optimizers) -> None:
        """New Gaussians on the places of old ones, up to the cap."""
        count = len(raw["means"])
        room = min(self.max_count, int(GROWTH * count)) - count
        if room <= 0:
            return
        chosen = self._draw(raw["opacities"].sigmoid(), room)
        values = {name: torch.cat([value, value[chosen]]) for name, value in self._sharing(raw, chosen).items()}
        replace_parameters(
            raw, optimizers, values, lambda memory: torch.cat([memory, memory.new_zeros(room, *memory.shape[1:])])
        )

    def tremble(self, raw: Raw, lr: float) -> None:
        """Eq. 8: centres are pushed by lr · NOISE · Σ η, damped to nothing where the opacity is well above DEAD."""
        means = raw["means"]
        noise = torch.randn(means.shape, generator=self._random(means.device), device=means.device, dtype=means.dtype)
        gate = torch.sigmoid(-GATE * (raw["opacities"].sigmoid() - DEAD))
        turn, spread = rotation_matrices(raw["quats"]), (2 * raw["scales"]).exp()
        local = spread * (turn.transpose(1, 2) @ noise[..., None]).squeeze(2)  # Σ η = R S² Rᵀ η
        means += lr * NOISE * gate[:, None] * (turn @ local[..., None]).squeeze(2)

    def _sharing(self, raw: Raw, chosen: Tensor) -> dict[str, Tensor]:
        """All values, with those of the chosen changed as if each were there once more for every time it is chosen."""
        values = {name: value.detach().clone() for name, value in raw.items()}
        times = torch.bincount(chosen, minlength=len(raw["means"]))[chosen] + 1
        opacities, scales = relocated(raw["opacities"][chosen].sigmoid(), raw["scales"][chosen].exp(), times)
        values["opacities"][chosen] = torch.logit(opacities.clamp(DEAD, 1 - torch.finfo(torch.float32).eps))
        values["scales"][chosen] = scales.log()
        return values

    def _draw(self, odds: Tensor, count: int) -> Tensor:
        """``count`` places with replacement. By the running sum, because torch.multinomial ends at 2²⁴ places."""
        ends = odds.double().cumsum(0)
        marks = torch.rand(count, generator=self._random(odds.device), device=odds.device, dtype=torch.float64)
        return torch.searchsorted(ends, marks * ends[-1], right=True).clamp_max(len(odds) - 1)

    def _random(self, device: torch.device) -> torch.Generator:
        if self.generator is None:
            self.generator = torch.Generator(device).manual_seed(self.seed)
        return self.generator


class GsplatMcmc(Mcmc):
    """The same with gsplat's MCMCStrategy, for its kernels. Its random numbers are torch's global ones."""

    def __init__(self, max_count: int, every: int, until: float, seed: int = 0):
        import gsplat

        super().__init__(max_count, every, until, seed)
        self.theirs = gsplat.MCMCStrategy(
            cap_max=max_count,
            noise_lr=NOISE,
            refine_start_iter=0,
            refine_stop_iter=math.ceil(until),
            refine_every=every,
            min_opacity=DEAD,
        )
        self.state = self.theirs.initialize_state()

    @torch.no_grad()
    def after_step(self, raw: Raw, optimizers: Optimizers, step: int, lr: float) -> None:
        self.theirs.step_post_backward(raw, optimizers, self.state, step, info={}, lr=lr)


def strategy(backend: str, *args, **kwargs) -> Mcmc:
    """gsplat's strategy where "gsplat" draws, else ours."""
    return (GsplatMcmc if backend == "gsplat" else Mcmc)(*args, **kwargs)
