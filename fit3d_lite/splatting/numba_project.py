"""Gaussians to the image plane and the gradient of that, one Gaussian at a time.

projection.py says what is computed and why. Here the same equations stand once more, with their derivatives, in float64.
base/loops.py says how numba is asked to compile.
"""

from __future__ import annotations

import math

import numpy as np

from ..base.loops import COUNT, DOUBLE2, LENS, NUMBER, PLACES, PLACES2, SINGLE1, SINGLE2, VIEW, YES, compiled, inner


@inner
def _dot(x, y):
    return x[0] * y[0] + x[1] * y[1] + x[2] * y[2]


@inner
def _cross(x, y):
    return x[1] * y[2] - x[2] * y[1], x[2] * y[0] - x[0] * y[2], x[0] * y[1] - x[1] * y[0]


@inner
def _mix(a, x, b, y, c, z):
    """a · x + b · y + c · z of three vectors."""
    return a * x[0] + b * y[0] + c * z[0], a * x[1] + b * y[1] + c * z[1], a * x[2] + b * y[2] + c * z[2]


@inner
def _axes(quat):
    """A Gaussian's three axes (the columns of its rotation), its unit quaternion and that one's length before."""
    w, x, y, z = np.float64(quat[0]), np.float64(quat[1]), np.float64(quat[2]), np.float64(quat[3])
    length = math.sqrt(w * w + x * x + y * y + z * z)
    w, x, y, z = w / length, x / length, y / length, z / length
    first = 1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y)
    second = 2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x)
    third = 2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)
    return first, second, third, (w, x, y, z), length


@inner
def _seen(mean, view, lens):
    """Place in the camera's frame, clamped slopes, and the rows of Jacobian times rotation; see projection.project."""
    fx, fy, _, _, low_x, high_x, low_y, high_y, _ = lens
    right, down, ahead, coarse, fine = view
    away = mean[0] - coarse[0] - fine[0], mean[1] - coarse[1] - fine[1], mean[2] - coarse[2] - fine[2]
    x, y, z = _dot(right, away), _dot(down, away), _dot(ahead, away)
    slope_x, slope_y = min(max(x / z, low_x), high_x), min(max(y / z, low_y), high_y)
    of_u = _mix(fx / z, right, 0.0, down, -fx / z * slope_x, ahead)
    of_v = _mix(0.0, right, fy / z, down, -fy / z * slope_y, ahead)
    return x, y, z, of_u, of_v


@inner
def _spread(quat, scale, of_u, of_v):
    """How a Gaussian's three axes move u and v, and what :func:`_axes` found."""
    first, second, third, unit, length = _axes(quat)
    s = np.float64(scale[0]), np.float64(scale[1]), np.float64(scale[2])
    along_u = s[0] * _dot(of_u, first), s[1] * _dot(of_u, second), s[2] * _dot(of_u, third)
    along_v = s[0] * _dot(of_v, first), s[1] * _dot(of_v, second), s[2] * _dot(of_v, third)
    return along_u, along_v, (first, second, third), s, unit, length


@compiled(*[SINGLE2] * 3 + [SINGLE1, PLACES, VIEW, LENS, NUMBER, COUNT, COUNT, COUNT, COUNT, DOUBLE2, PLACES2])
def project(means, quats, scales, opacities, index, view, lens, alpha_min, height, width, begin, end, ellipses, rows):
    """For Gaussians ``begin`` to ``end`` of ``index`` [K] write the ellipse [K, 6] and its first and last row [K, 2].

    view: the rows of the camera's rotation, then its center as two numbers. lens: fx, fy, cx, cy, the bounds of both
    slopes, and what is added to the covariance. A Gaussian that reaches no pixel gets last < first.
    """
    fx, fy, cx, cy, _, _, _, _, eps = lens
    for k in range(begin, end):
        n = index[k]
        x, y, z, of_u, of_v = _seen(means[n], view, lens)
        along_u, along_v, _, _, _, _ = _spread(quats[n], scales[n], of_u, of_v)
        uu, uv, vv = _dot(along_u, along_u), _dot(along_u, along_v), _dot(along_v, along_v) + eps
        area = _cross(along_u, along_v)
        given_v = (_dot(area, area) + eps * (uu + vv)) / vv
        u, v = fx * x / z + cx, fy * y / z + cy
        ellipses[k, 0], ellipses[k, 1], ellipses[k, 2] = u, v, uv / vv
        ellipses[k, 3], ellipses[k, 4], ellipses[k, 5] = 1 / math.sqrt(vv), 1 / math.sqrt(given_v), opacities[n]

        reach = 2 * max(math.log(opacities[n] / alpha_min), 0.0)
        tall, wide = math.sqrt(reach * vv), math.sqrt(reach * (uu + eps)) + 1e-3
        rows[k, 0], rows[k, 1] = 0, -1
        if u + wide >= 0.5 and u - wide <= width - 0.5 and v + tall >= 0.5 and v - tall <= height - 0.5:
            rows[k, 0] = int(math.ceil(max(v - tall - 0.5, 0.0)))
            rows[k, 1] = int(math.floor(min(v + tall - 0.5, height - 1.0)))


@compiled(*[SINGLE2] * 3 + [PLACES, VIEW, LENS, DOUBLE2, DOUBLE2, PLACES, COUNT, COUNT, YES] + [SINGLE2] * 3 + [SINGLE1, SINGLE2])
def project_back(
    means, quats, scales, index, view, lens, ellipses, received, starts, begin, end, geometry,
    d_means, d_quats, d_scales, d_opacities, d_values,
):  # fmt: skip
    """Gradients of Gaussians ``begin`` to ``end`` of ``index``, from what each received in each of its bands:
    ``received`` [S, 6 + C], in which Gaussian k has the rows from ``starts[k]`` to ``starts[k + 1]``."""
    fx, fy, _, _, low_x, high_x, low_y, high_y, eps = lens
    right, down, ahead, _, _ = view
    channels = received.shape[1] - 6
    for k in range(begin, end):
        n = index[k]
        for place in range(starts[k] + 1, starts[k + 1]):
            for c in range(6 + channels):
                received[starts[k], c] += received[place, c]
        if starts[k] == starts[k + 1]:
            continue
        total = received[starts[k]]
        for c in range(channels):
            d_values[n, c] = total[6 + c]
        if not geometry:
            continue
        d_u, d_v, d_slope, d_inv_v, d_inv_u, d_opacities[n] = total[0], total[1], total[2], total[3], total[4], total[5]

        # slope = uv / vv, inv_v = vv^-½, inv_u = given_v^-½, given_v = (|area|² + eps · (uu + vv)) / vv; vv includes eps.
        x, y, z, of_u, of_v = _seen(means[n], view, lens)
        along_u, along_v, axes, s, unit, length = _spread(quats[n], scales[n], of_u, of_v)
        slope, inv_v, inv_u = ellipses[k, 2], ellipses[k, 3], ellipses[k, 4]
        per_vv = inv_v * inv_v
        d_given = -0.5 * inv_u**3 * d_inv_u
        d_uv, d_uu = d_slope * per_vv, d_given * eps * per_vv
        d_vv = d_uu - slope * d_uv - 0.5 * inv_v**3 * d_inv_v - d_given * per_vv / (inv_u * inv_u)
        area = _cross(along_u, along_v)
        pull = 2 * d_given * per_vv
        turn_u, turn_v = _cross(along_v, area), _cross(area, along_u)
        d_along_u = _mix(pull, turn_u, 2 * d_uu, along_u, d_uv, along_v)
        d_along_v = _mix(pull, turn_v, 2 * d_vv, along_v, d_uv, along_u)

        # along_u[j] = s[j] · (of_u · axis j), and the same for v.
        for j in range(3):
            d_scales[n, j] = d_along_u[j] * _dot(of_u, axes[j]) + d_along_v[j] * _dot(of_v, axes[j])
        d_of_u = _mix(d_along_u[0] * s[0], axes[0], d_along_u[1] * s[1], axes[1], d_along_u[2] * s[2], axes[2])
        d_of_v = _mix(d_along_v[0] * s[0], axes[0], d_along_v[1] * s[1], axes[1], d_along_v[2] * s[2], axes[2])
        a = _mix(s[0] * d_along_u[0], of_u, s[0] * d_along_v[0], of_v, 0.0, of_v)
        b = _mix(s[1] * d_along_u[1], of_u, s[1] * d_along_v[1], of_v, 0.0, of_v)
        c = _mix(s[2] * d_along_u[2], of_u, s[2] * d_along_v[2], of_v, 0.0, of_v)
        qw, qx, qy, qz = unit
        d_w = 2 * (qz * (a[1] - b[0]) + qy * (c[0] - a[2]) + qx * (b[2] - c[1]))
        d_x = 2 * (qy * (a[1] + b[0]) + qz * (a[2] + c[0]) + qw * (b[2] - c[1]) - 2 * qx * (b[1] + c[2]))
        d_y = 2 * (qx * (a[1] + b[0]) + qz * (b[2] + c[1]) + qw * (c[0] - a[2]) - 2 * qy * (a[0] + c[2]))
        d_z = 2 * (qx * (a[2] + c[0]) + qy * (b[2] + c[1]) + qw * (a[1] - b[0]) - 2 * qz * (a[0] + b[1]))
        radial = qw * d_w + qx * d_x + qy * d_y + qz * d_z
        d_quats[n, 0], d_quats[n, 1] = (d_w - radial * qw) / length, (d_x - radial * qx) / length
        d_quats[n, 2], d_quats[n, 3] = (d_y - radial * qy) / length, (d_z - radial * qz) / length

        # of_u = fx / z · (right − slope_x · ahead) and u = fx · x / z + cx, with slope_x = x / z where it is not clamped.
        d_x, d_y = d_u * fx / z, d_v * fy / z
        if low_x <= x / z <= high_x:
            d_x -= fx / (z * z) * _dot(ahead, d_of_u)
        if low_y <= y / z <= high_y:
            d_y -= fy / (z * z) * _dot(ahead, d_of_v)
        d_z = -(d_x * x + d_y * y + _dot(of_u, d_of_u) + _dot(of_v, d_of_v)) / z
        d_means[n, 0], d_means[n, 1], d_means[n, 2] = _mix(d_x, right, d_y, down, d_z, ahead)
