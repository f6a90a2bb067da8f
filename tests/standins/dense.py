"""The slow, plain rasteriser that everything fast is compared with: every Gaussian at every pixel, float64, autograd.

Written straight from the equations of 3D Gaussian Splatting (eq. 3, 5, 6) with gsplat's constants, and with no code
in common with fit3d_lite.splatting.splat. Memory is pixels × Gaussians: for small pictures only.
"""

import torch


def dense_view_matrix(means, quats, scales, opacities, camera, near=0.2):
    """[H*W, N] float64 blending weights, differentiable in means [N,3], quats [N,4] wxyz, scales [N,3], opacities
    [N].
    """
    dtype = means.dtype
    w2c, K = camera.world_to_camera.to(dtype), camera.K.to(dtype)
    p = means @ w2c[:3, :3].T + w2c[:3, 3]
    x, y, z = p[:, 0], p[:, 1], p[:, 2]
    fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
    width, height = camera.width, camera.height

    q = quats / quats.norm(dim=1, keepdim=True)
    w, i, j, k = q.T
    R = torch.stack([
        1 - 2 * (j * j + k * k), 2 * (i * j - w * k), 2 * (i * k + w * j),
        2 * (i * j + w * k), 1 - 2 * (i * i + k * k), 2 * (j * k - w * i),
        2 * (i * k - w * j), 2 * (j * k + w * i), 1 - 2 * (i * i + j * j),
    ], 1).reshape(-1, 3, 3)  # fmt: skip
    sigma = R @ torch.diag_embed(scales**2) @ R.transpose(1, 2)

    safe = torch.where(z > near, z, torch.ones_like(z))
    tan_x, tan_y = 0.5 * width / fx, 0.5 * height / fy
    tx = safe * torch.clamp(x / safe, -(cx / fx + 0.3 * tan_x), (width - cx) / fx + 0.3 * tan_x)
    ty = safe * torch.clamp(y / safe, -(cy / fy + 0.3 * tan_y), (height - cy) / fy + 0.3 * tan_y)
    J = torch.zeros(len(means), 2, 3, dtype=dtype)
    J[:, 0, 0], J[:, 0, 2] = fx / safe, -fx * tx / safe**2
    J[:, 1, 1], J[:, 1, 2] = fy / safe, -fy * ty / safe**2
    M = J @ w2c[:3, :3]
    cov = M @ sigma @ M.transpose(1, 2) + 0.3 * torch.eye(2, dtype=dtype)
    conic = torch.linalg.inv(cov)
    center = torch.stack([fx * x / safe + cx, fy * y / safe + cy], 1)

    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    pixel = torch.stack([columns, rows], -1).reshape(-1, 1, 2).to(dtype) + 0.5
    d = pixel - center
    power = 0.5 * torch.einsum("pni,nij,pnj->pn", d, conic, d)
    alpha = torch.clamp(opacities * torch.exp(-power), max=0.999)
    alpha = torch.where((alpha >= 1 / 255) & (z > near), alpha, torch.zeros_like(alpha))

    order = torch.argsort(z, stable=True)
    alpha = alpha[:, order]
    passing = torch.cumprod(1 - alpha, 1)
    before = torch.cat([torch.ones_like(passing[:, :1]), passing[:, :-1]], 1)
    weights = torch.where(passing > 1e-4, alpha * before, torch.zeros_like(alpha))
    return weights[:, torch.argsort(order)]
