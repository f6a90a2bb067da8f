"""Features whose renders come closest to the photos' features: least squares with a prior, by conjugate gradients.

Rendering is linear, so the best features solve a linear system. With A all views' patch matrices in one, α its row sums
(opacities), F the photos' features, m the weighted mean and d = Aᵀ 1 how much each Gaussian was seen:

    minimise over f   Σ_p ‖(A f)_p − α_p F_p‖²  +  ridge · Σ_n d_n ‖f_n − m_n‖²

The target is α F since a patch of opacity α can show only that part of a feature. The prior is needed: without it the
fit reproduces what the photos disagree on, and held-out views get worse with every step (bench/results/lift.md).
Because AᵀA ≤ diag(d), a ridge of 1 counts as much as the photos can at most, whatever the scene.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .grid import row_sums, transposed


@torch.no_grad()
def least_squares(
    A: Tensor,  # sparse CSR [P, N], the patches of all views
    targets: Tensor,  # [P, C]
    mean: Tensor,  # [N, C], the prior and the start
    weight: Tensor,  # [N], column sums of A; > 0 where ``seen``
    seen: Tensor,  # [N] bool; the others stay as they are in ``mean`` and take no part
    ridge: float,
    steps: int,
) -> Tensor:  # [N, C]
    """The minimiser above, after ``steps`` conjugate-gradient steps from the mean; all C channels at once.

    Preconditioned by d, with which all eigenvalues lie between ridge and 1 + ridge: the error shrinks per step by a
    factor of (√k − 1) / (√k + 1) with k = 1 + 1 / ridge, 0.35 for a ridge of 0.3. A first step is a scaled lifting of
    the residual, Aᵀ(α F − A m) / Aᵀ 1.
    """
    A = torch.sparse_csr_tensor(A.crow_indices(), A.col_indices(), A.values() * seen[A.col_indices()], A.shape)
    At = transposed(A)
    scale = torch.where(seen, weight, 1).unsqueeze(1)  # d
    residual = At @ (row_sums(A).unsqueeze(1) * targets - A @ mean)
    change = torch.zeros_like(mean)
    toward = residual / scale
    power = (residual * toward).sum(0)
    for _ in range(steps):
        bent = At @ (A @ toward)
        bent.addcmul_(scale, toward, value=ridge)
        # A channel that is solved has no residual left; 0 / 0 must not spoil it.
        length = power / (toward * bent).sum(0).clamp_min(torch.finfo(power.dtype).tiny)
        change.addcmul_(length, toward)
        residual.addcmul_(length, bent, value=-1)
        fresh = residual / scale
        before, power = power, (residual * fresh).sum(0)
        toward = fresh.addcmul_(power / before.clamp_min(torch.finfo(power.dtype).tiny), toward)
    return mean + change
