"""Where rays enter and leave boxes, ellipsoids and cones, and which comes first: loops that numba compiles.

Every primitive is a unit shape moved by an anisotropic scale, a yaw about the vertical and a shift. A ray taken into
the unit frame keeps its parameter t, so three short formulas serve every size and pose.

Only +, -, *, /, sqrt and comparisons of float32 touch a ray, and nothing is fused or reordered: IEEE 754 fixes their
results, so a picture is the same to the last bit on every processor and with any number of threads.
"""

from __future__ import annotations

import math

import numpy as np

from ..base.loops import PLACES, PLACES2, SINGLE2, SINGLE3, YES1, YES2, compiled, inner

BOX, BALL = 0, 1  # the rest are cones: see shapes.py
ZERO, HALF, ONE = np.float32(0), np.float32(0.5), np.float32(1)
FAR = np.float32(1e6)
TINY = np.float32(1e-12)  # added to a divisor that may be zero; below the last digit of every other value it takes
BEGIN, END = np.float32(1e-4), np.float32(0.999)  # a ray leaves its surface, and stops short of its light
BEYOND = np.float32(30)  # metres: beyond any room
GROWN = np.float32(1e-3)  # boxes are tried a millimetre larger, so that rounding never loses one


@inner
def _box(ox, oy, oz, dx, dy, dz):
    """Entry and exit parameter of the cube [-1, 1]^3 by the slab method; entry > exit means a miss."""
    x, y, z = ONE / (dx + TINY), ONE / (dy + TINY), ONE / (dz + TINY)
    mx, my, mz, x, y, z = ox * x, oy * y, oz * z, abs(x), abs(y), abs(z)  # minus the middles of the slabs, their widths
    return -min(min(mx + x, my + y), mz + z), min(min(x - mx, y - my), z - mz)


@inner
def _ball(ox, oy, oz, dx, dy, dz):
    """Entry and exit parameter of the unit sphere."""
    a = dx * dx + dy * dy + dz * dz
    # The distance of the line from the center, taken at its nearest point, loses no digits when the eye is far away.
    t = -(ox * dx + oy * dy + oz * dz) / a
    x, y, z = ox + t * dx, oy + t * dy, oz + t * dz
    room = ONE - (x * x + y * y + z * z)
    width = math.sqrt(max(room, ZERO) / a)
    return (FAR, -FAR) if room < ZERO else (t - width, t + width)


@inner
def _cone(ox, oy, oz, dx, dy, dz, taper):
    """Entry and exit parameter of |z| <= 1, x^2 + y^2 <= r(z)^2, with r(-1) = 1 and r(1) = taper in [0, 1]."""
    mid, slope = HALF * (taper + ONE), HALF * (taper - ONE)
    r, dr = mid + slope * oz, slope * dz
    a = dx * dx + dy * dy - dr * dr + TINY
    b = ox * dx + oy * dy - r * dr
    c = ox * ox + oy * oy - r * r
    disc = b * b - a * c
    root = math.sqrt(max(disc, ZERO))
    first, second = (-b - root) / a, (-b + root) / a
    low, high = min(first, second), max(first, second)
    z = ONE / (dz + TINY)
    middle, width = -oz * z, abs(z)
    # a < 0: the ray is steeper than the side, so inside is before the first root or after the second. Between the
    # end planes the mirrored half of the double cone is out of reach, so one of the two intervals is the right one.
    steep = a < ZERO
    late = dz * slope > ZERO  # the radius grows along the ray: it enters late; otherwise it leaves early
    start = (high if late else -FAR) if steep else low
    stop = (FAR if late else low) if steep else high
    near, far = max(start, middle - width), min(stop, middle + width)
    miss = disc < ZERO and not steep
    return (FAR, -FAR) if miss else (near, far)


@inner
def _interval(kind, o, d, taper):
    if kind == BOX:
        return _box(o[0], o[1], o[2], d[0], d[1], d[2])
    if kind == BALL:
        return _ball(o[0], o[1], o[2], d[0], d[1], d[2])
    return _cone(o[0], o[1], o[2], d[0], d[1], d[2], taper)


@inner
def _turned(f, x, y, z):
    """A direction in the unit frame of a primitive."""
    return x * f[3] + y * f[4], x * f[5] + y * f[6], z * f[7]


@inner
def _around(points, asked):
    """Center and half extents of the upright box around those points [3, R] that are asked for."""
    low_x, low_y, low_z, high_x, high_y, high_z = FAR, FAR, FAR, -FAR, -FAR, -FAR
    for r in range(len(asked)):
        if asked[r]:
            x, y, z = points[0, r], points[1, r], points[2, r]
            low_x, low_y, low_z = min(low_x, x), min(low_y, y), min(low_z, z)
            high_x, high_y, high_z = max(high_x, x), max(high_y, y), max(high_z, z)
    x, y, z = HALF * (low_x + high_x), HALF * (low_y + high_y), HALF * (low_z + high_z)
    return x, y, z, high_x - x, high_y - y, high_z - z


@inner
def _may_meet(boxes, start, end, met):
    """Write the numbers of those boxes [N, 6] (center, half extents) to ``met`` that rays from box ``start`` to box
    ``end`` may meet; how many there are.

    At parameter s every ray lies within half extents e(s) = e0 + s (e1 - e0) of c(s) = c0 + s (c1 - c0), so
    |c(s) - p| <= half + e(s) must hold along x, y and z for one s in 0..1: six linear inequalities a s <= b. A box can
    only be kept needlessly, never missed, so rounding here does not reach the picture.
    """
    count = 0
    for n in range(len(boxes)):
        near, far = ZERO, ONE
        for k in range(3):
            gap, size = boxes[n, k] - start[k], boxes[n, 3 + k] + start[3 + k] + GROWN
            move, grow = end[k] - start[k], end[3 + k] - start[3 + k]
            for side in (ONE, -ONE):
                a = side * move - grow + TINY
                bound = (size + side * gap) / a
                if a > ZERO:
                    far = min(far, bound)
                else:
                    near = max(near, bound)
            if near > far:
                break
        if near <= far:
            met[count] = n
            count += 1
    return count


@compiled(PLACES2, SINGLE2, SINGLE2, SINGLE2, SINGLE3, YES1, PLACES, SINGLE2, PLACES2)
def nearest(prims, boxes, frames, eyes, rays, asked, met, depth, index):
    """For tiles of rays [T, 3, R] from eyes [T, 3] write the parameter [T, R] and the number [T, R] of what is met first.

    prims [N, 2]: number and kind of each primitive; boxes [N, 6]; frames [N, 9]: center, inverse, taper; asked [R] says
    yes; met [N]: room to work in. Of several at once the first counts; where nothing is met, depth and index stay.
    """
    for tile in range(len(rays)):
        eye, x, y, z, best, which = eyes[tile], rays[tile, 0], rays[tile, 1], rays[tile, 2], depth[tile], index[tile]
        cx, cy, cz, hx, hy, hz = _around(rays[tile], asked)
        end = eye[0] + BEYOND * cx, eye[1] + BEYOND * cy, eye[2] + BEYOND * cz, BEYOND * hx, BEYOND * hy, BEYOND * hz
        for m in range(_may_meet(boxes, (eye[0], eye[1], eye[2], ZERO, ZERO, ZERO), end, met)):
            f, number, kind = frames[met[m]], prims[met[m], 0], prims[met[m], 1]
            o = _turned(f, eye[0] - f[0], eye[1] - f[1], eye[2] - f[2])
            for r in range(len(asked)):
                near, far = _interval(kind, o, _turned(f, x[r], y[r], z[r]), f[8])
                if near <= far and near > BEGIN and near < best[r]:
                    best[r], which[r] = near, number


@compiled(PLACES2, SINGLE2, SINGLE2, SINGLE3, SINGLE3, YES2, PLACES, YES2)
def blocked(prims, boxes, frames, points, targets, needed, met, hit):
    """Write to ``hit`` [T, R] which of the needed segments, from points [T, 3, R] to targets [T, 3, R], meet something."""
    for tile in range(len(points)):
        p, q, asked, found = points[tile], targets[tile], needed[tile], hit[tile]
        for m in range(_may_meet(boxes, _around(p, asked), _around(q, asked), met)):
            f, kind = frames[met[m]], prims[met[m], 1]
            for r in range(len(asked)):
                if asked[r] and not found[r]:
                    o = _turned(f, p[0, r] - f[0], p[1, r] - f[1], p[2, r] - f[2])
                    d = _turned(f, q[0, r] - p[0, r], q[1, r] - p[1, r], q[2, r] - p[2, r])
                    near, far = _interval(kind, o, d, f[8])
                    found[r] = near <= far and far > BEGIN and near < END
