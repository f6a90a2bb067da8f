"""Features whose renders come closest to the photos' features: least squares with a prior, by conjugate gradients.

Rendering is linear, so the best features solve a linear system. With A all views' patch matrices in one, o its row sums
(opacities), F the photos' features, m the weighted mean and d = Aᵀ 1 how much each Gaussian was seen:

    minimize over f   Σ_p ‖(A f)_p − o_p F_p‖²  +  ridge · Σ_n d_n ‖f_n − m_n‖²

The target is o F since a patch of opacity o can show only that part of a feature. The prior is needed: without it the
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
    """The minimizer above, after ``steps`` steps of conjugate gradients from the mean; all C channels at once.

    Letters of the textbook (Saad, Iterative Methods for Sparse Linear Systems, algorithm 9.1), for H x = b with
    H = AᵀA + ridge · M and M = diag(d): x the change from the mean, r = b − H x the residual, z = M⁻¹ r, p the direction
    of a step, α its length, β how much of the last direction stays in the next. The first p is a scaled lifting of the
    residual, Aᵀ(o F − A m) / Aᵀ 1.

    With M as preconditioner all eigenvalues lie between ridge and 1 + ridge: the error shrinks per step by a factor of
    (√k − 1) / (√k + 1) with k = 1 + 1 / ridge, 0.35 for a ridge of 0.3.
    """
    A = torch.sparse_csr_tensor(A.crow_indices(), A.col_indices(), A.values() * seen[A.col_indices()], A.shape)
    At = transposed(A)
    M = torch.where(seen, weight, 1).unsqueeze(1)  # d
    x = torch.zeros_like(mean)
    r = At @ (row_sums(A).unsqueeze(1) * targets - A @ mean)
    p = r / M
    rz = (r * p).sum(0)
    tiny = torch.finfo(rz.dtype).tiny  # a channel that is solved has no residual left; 0 / 0 must not spoil it
    for _ in range(steps):
        Hp = At @ (A @ p)
        Hp.addcmul_(M, p, value=ridge)
        alpha = rz / (p * Hp).sum(0).clamp_min(tiny)
        x.addcmul_(alpha, p)
        r.addcmul_(alpha, Hp, value=-1)
        z = r / M
        before, rz = rz, (r * z).sum(0)
        beta = rz / before.clamp_min(tiny)
        p = z.addcmul_(beta, p)
    return mean + x
