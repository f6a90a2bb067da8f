"""The kernels of triton_project.py: Gaussians to ellipses, forward and backward. One thread for each Gaussian.

Everything follows from two 3-vectors. b_u and b_v are the rows of J R R_g (Jacobian, camera's rotation, Gaussian's
rotation): how the three axes of the Gaussian move u and v. With S the squared scales, and a = √S b,

    uu = Σ S b_u² + ε,   uv = Σ S b_u b_v,   vv = Σ S b_v² + ε,   slope = uv / vv,
    var_u|v = uu − slope · uv = det / vv,   det = |a_u × a_v|² + ε (Σ S b_u² + Σ S b_v²) + ε².

As a difference, var_u|v loses its digits for a needle that lies across the picture; det is the same by Lagrange's
identity, and a sum of positive numbers loses none.

Backward, with c = b_u − slope · b_v, what is left of b_u when v is known, and the arriving gradients g:

    h = g_slope / vv,   k = −g_{1/σ_u|v} / σ_u|v³,   l = g_{1/σ_v} / σ_v³,
    Y_ij = h (c_i b_vj + b_vi c_j) + k c_i c_j − l b_vi b_vj,
    ∂scale_i = s_i Y_ii,   torque about the own axis 0 = (S_1 − S_2) Y_12, and so on around.

That k meets c alone is the envelope theorem: slope is the number that makes var_u|v least, so its own change does not
count. For a needle c too is a small difference of long vectors; from N = b_u × b_v it comes without loss, as
vv · c_0 = S_1 b_v1 N_2 − S_2 b_v2 N_1 + ε b_u0.
"""

import triton
import triton.language as tl


@triton.jit
def _load3(rows, index, inside):
    at = rows + 3 * index
    return (
        tl.load(at, mask=inside, other=0.0),
        tl.load(at + 1, mask=inside, other=0.0),
        tl.load(at + 2, mask=inside, other=0.0),
    )


@triton.jit
def _load_quaternion(rows, index, inside):
    """Unit quaternion w, x, y, z and one over its length, as torch's F.normalize: 0 stays 0, which is no rotation."""
    at = rows + 4 * index
    w = tl.load(at, mask=inside, other=0.0)
    x = tl.load(at + 1, mask=inside, other=0.0)
    y = tl.load(at + 2, mask=inside, other=0.0)
    z = tl.load(at + 3, mask=inside, other=0.0)
    shrink = 1.0 / tl.maximum(tl.sqrt(w * w + x * x + y * y + z * z), 1e-12)
    return w * shrink, x * shrink, y * shrink, z * shrink, shrink


@triton.jit
def _turn(v0, v1, v2, w, x, y, z):
    """The row vector v times the rotation matrix of a unit quaternion."""
    return (
        v0 * (1 - 2 * (y * y + z * z)) + v1 * (2 * (x * y + w * z)) + v2 * (2 * (x * z - w * y)),
        v0 * (2 * (x * y - w * z)) + v1 * (1 - 2 * (x * x + z * z)) + v2 * (2 * (y * z + w * x)),
        v0 * (2 * (x * z + w * y)) + v1 * (2 * (y * z - w * x)) + v2 * (1 - 2 * (x * x + y * y)),
    )


@triton.jit
def _locate(
    means, opacities, index, inside,
    m00, m01, m02, m10, m11, m12, m20, m21, m22, eye0, eye1, eye2, low0, low1, low2, near, ALPHA_MIN: tl.constexpr,
):  # fmt: skip
    """Whether a Gaussian is seen, its opacity, its depth (1 when it is not seen) and its pixel less (cx, cy)."""
    p0, p1, p2 = _load3(means, index, inside)
    d0, d1, d2 = p0 - eye0 - low0, p1 - eye1 - low1, p2 - eye2 - low2
    z = m20 * d0 + m21 * d1 + m22 * d2
    opacity = tl.load(opacities + index, mask=inside, other=0.0)
    seen = (z > near) & (opacity >= ALPHA_MIN)
    z = tl.where(seen, z, 1.0)
    return seen, opacity, z, (m00 * d0 + m01 * d1 + m02 * d2) / z, (m10 * d0 + m11 * d1 + m12 * d2) / z


@triton.jit
def _rows(
    z, u, v, qw, qx, qy, qz, m00, m01, m02, m10, m11, m12, m20, m21, m22, left, right, top, bottom
):  # fmt: skip
    """b_u, b_v and the row M_2 R_g, along which the clamped u and v enter them: b_u = (M_0 − u M_2) R_g / z."""
    u, v = tl.minimum(tl.maximum(u, left), right), tl.minimum(tl.maximum(v, top), bottom)
    r0, r1, r2 = _turn(m20, m21, m22, qw, qx, qy, qz)
    u0, u1, u2 = _turn(m00, m01, m02, qw, qx, qy, qz)
    v0, v1, v2 = _turn(m10, m11, m12, qw, qx, qy, qz)
    return (
        (u0 - u * r0) / z, (u1 - u * r1) / z, (u2 - u * r2) / z,
        (v0 - v * r0) / z, (v1 - v * r1) / z, (v2 - v * r2) / z,
        r0, r1, r2,
    )  # fmt: skip


@triton.jit
def _spread(u0, u1, u2, v0, v1, v2, S0, S1, S2, EPS: tl.constexpr):
    """N = b_u × b_v, slope, vv and var_u|v of the rows b_u, b_v and the squared scales S."""
    n0, n1, n2 = u1 * v2 - u2 * v1, u2 * v0 - u0 * v2, u0 * v1 - u1 * v0
    uu = S0 * u0 * u0 + S1 * u1 * u1 + S2 * u2 * u2
    uv = S0 * u0 * v0 + S1 * u1 * v1 + S2 * u2 * v2
    vv = S0 * v0 * v0 + S1 * v1 * v1 + S2 * v2 * v2
    det = S1 * S2 * n0 * n0 + S2 * S0 * n1 * n1 + S0 * S1 * n2 * n2 + EPS * (uu + vv + EPS)
    vv += EPS
    return n0, n1, n2, uv / vv, vv, det / vv


@triton.jit(do_not_specialize=["count"])
def project_kernel(
    means, quats, scales, opacities, ellipses, depths, count,
    m00, m01, m02, m10, m11, m12, m20, m21, m22, eye0, eye1, eye2, low0, low1, low2,
    cx, cy, left, right, top, bottom, near,
    EPS: tl.constexpr, ALPHA_MIN: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    index = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = index < count
    seen, opacity, z, u, v = _locate(
        means, opacities, index, inside,
        m00, m01, m02, m10, m11, m12, m20, m21, m22, eye0, eye1, eye2, low0, low1, low2, near, ALPHA_MIN,
    )  # fmt: skip
    qw, qx, qy, qz, _ = _load_quaternion(quats, index, inside)
    s0, s1, s2 = _load3(scales, index, inside)
    u0, u1, u2, v0, v1, v2, _, _, _ = _rows(
        z, u, v, qw, qx, qy, qz, m00, m01, m02, m10, m11, m12, m20, m21, m22, left, right, top, bottom
    )
    _, _, _, slope, vv, var = _spread(u0, u1, u2, v0, v1, v2, s0 * s0, s1 * s1, s2 * s2, EPS)
    # Fixed numbers where nothing is seen: the row stays finite whatever the Gaussian holds.
    at = ellipses + 6 * index
    tl.store(at, tl.where(seen, u + cx, 0.0), mask=inside)
    tl.store(at + 1, tl.where(seen, v + cy, 0.0), mask=inside)
    tl.store(at + 2, tl.where(seen, slope, 0.0), mask=inside)
    tl.store(at + 3, tl.where(seen, tl.rsqrt(vv), 1.0), mask=inside)
    tl.store(at + 4, tl.where(seen, tl.rsqrt(var), 1.0), mask=inside)
    tl.store(at + 5, tl.where(seen, opacity, 0.0), mask=inside)
    tl.store(depths + index, tl.where(seen, z, float("inf")), mask=inside)


@triton.jit(do_not_specialize=["count"])
def project_backward_kernel(
    means, quats, scales, opacities, grad, d_means, d_quats, d_scales, d_opacities, count,
    m00, m01, m02, m10, m11, m12, m20, m21, m22, eye0, eye1, eye2, low0, low1, low2,
    cx, cy, left, right, top, bottom, near,
    EPS: tl.constexpr, ALPHA_MIN: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    index = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = index < count
    seen, _, z, u, v = _locate(
        means, opacities, index, inside,
        m00, m01, m02, m10, m11, m12, m20, m21, m22, eye0, eye1, eye2, low0, low1, low2, near, ALPHA_MIN,
    )  # fmt: skip
    qw, qx, qy, qz, shrink = _load_quaternion(quats, index, inside)
    s0, s1, s2 = _load3(scales, index, inside)
    S0, S1, S2 = s0 * s0, s1 * s1, s2 * s2
    u0, u1, u2, v0, v1, v2, r0, r1, r2 = _rows(
        z, u, v, qw, qx, qy, qz, m00, m01, m02, m10, m11, m12, m20, m21, m22, left, right, top, bottom
    )
    n0, n1, n2, slope, vv, var = _spread(u0, u1, u2, v0, v1, v2, S0, S1, S2, EPS)
    c0 = (S1 * v1 * n2 - S2 * v2 * n1 + EPS * u0) / vv
    c1 = (S2 * v2 * n0 - S0 * v0 * n2 + EPS * u1) / vv
    c2 = (S0 * v0 * n1 - S1 * v1 * n0 + EPS * u2) / vv

    # Where nothing is seen the arriving gradient may hold anything; it is dropped here and once more at the end.
    seen = seen & inside
    at = grad + 6 * index
    g_u, g_v = tl.load(at, mask=seen, other=0.0), tl.load(at + 1, mask=seen, other=0.0)
    h = tl.load(at + 2, mask=seen, other=0.0) / vv
    l = tl.load(at + 3, mask=seen, other=0.0) * tl.rsqrt(vv) / vv
    k = -tl.load(at + 4, mask=seen, other=0.0) * tl.rsqrt(var) / var
    tl.store(d_opacities + index, tl.load(at + 5, mask=seen, other=0.0), mask=inside)

    y00 = c0 * (2 * h * v0 + k * c0) - l * v0 * v0
    y11 = c1 * (2 * h * v1 + k * c1) - l * v1 * v1
    y22 = c2 * (2 * h * v2 + k * c2) - l * v2 * v2
    at = d_scales + 3 * index
    tl.store(at, tl.where(seen, s0 * y00, 0.0), mask=inside)
    tl.store(at + 1, tl.where(seen, s1 * y11, 0.0), mask=inside)
    tl.store(at + 2, tl.where(seen, s2 * y22, 0.0), mask=inside)

    # A turn by a small angle θ about the own axes is q (1, θ/2), so a torque t pushes q by 2 q (0, t) / |q|.
    t0 = 2 * shrink * (S1 - S2) * (h * (c1 * v2 + v1 * c2) + k * c1 * c2 - l * v1 * v2)
    t1 = 2 * shrink * (S2 - S0) * (h * (c2 * v0 + v2 * c0) + k * c2 * c0 - l * v2 * v0)
    t2 = 2 * shrink * (S0 - S1) * (h * (c0 * v1 + v0 * c1) + k * c0 * c1 - l * v0 * v1)
    at = d_quats + 4 * index
    tl.store(at, tl.where(seen, -qx * t0 - qy * t1 - qz * t2, 0.0), mask=inside)
    tl.store(at + 1, tl.where(seen, qw * t0 + qy * t2 - qz * t1, 0.0), mask=inside)
    tl.store(at + 2, tl.where(seen, qw * t1 + qz * t0 - qx * t2, 0.0), mask=inside)
    tl.store(at + 3, tl.where(seen, qw * t2 + qx * t1 - qy * t0, 0.0), mask=inside)

    # ∂b_u = S (h b_v + k c), ∂b_v = S ((h − k slope) c − (h slope + l) b_v); the clamped u and v enter along M_2 R_g.
    slide, turn = h - k * slope, h * slope + l
    push_u = S0 * r0 * (h * v0 + k * c0) + S1 * r1 * (h * v1 + k * c1) + S2 * r2 * (h * v2 + k * c2)
    push_v = (
        S0 * r0 * (slide * c0 - turn * v0) + S1 * r1 * (slide * c1 - turn * v1) + S2 * r2 * (slide * c2 - turn * v2)
    )
    g_u -= tl.where((u >= left) & (u <= right), push_u / z, 0.0)
    g_v -= tl.where((v >= top) & (v <= bottom), push_v / z, 0.0)
    # Both the pixel and the rows shrink as 1/z.
    g_z = -(u * g_u + v * g_v + S0 * y00 + S1 * y11 + S2 * y22)
    at = d_means + 3 * index
    tl.store(at, tl.where(seen, (m00 * g_u + m10 * g_v + m20 * g_z) / z, 0.0), mask=inside)
    tl.store(at + 1, tl.where(seen, (m01 * g_u + m11 * g_v + m21 * g_z) / z, 0.0), mask=inside)
    tl.store(at + 2, tl.where(seen, (m02 * g_u + m12 * g_v + m22 * g_z) / z, 0.0), mask=inside)
