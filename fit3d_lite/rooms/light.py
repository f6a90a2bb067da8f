"""The light that arrives at a point: daylight through windows, sun, lamps, what floor and walls give back and take away.

As in shapes.py only operations whose result IEEE 754 fixes are used, so photos are the same bits everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .raycast import blocked
from .shapes import Primitives, dot


@dataclass
class Window:
    center: tuple[float, float, float]  # on the wall
    normal: tuple[float, float]  # into the room
    width: float
    height: float


@dataclass
class Lights:
    size: tuple[float, float, float]  # room: length, width, height
    windows: list[Window]
    sun: tuple[float, float, float]  # direction towards the sun
    sun_power: float
    sky_power: float
    lamps: list[tuple[float, float, float, float]]  # x, y, z, power
    bounce: tuple[float, float, float]  # color of light reflected by the floor
    exposure: float = 1.0


def corner_shade(point: Tensor, normal: Tensor, size) -> Tensor:
    """Walls near a point take away sky and bounce: a falloff with the distance to each of the six planes."""
    out = torch.ones_like(point[..., 0])
    for axis in range(3):
        for sign, gap in ((-1.0, point[..., axis]), (1.0, size[axis] - point[..., axis])):
            # A plane one stands on does not shade itself: its direction is behind the surface.
            facing = (1.0 + sign * normal[..., axis]) * 0.5
            near = 1.0 - (gap * 2.2).clamp(0.0, 1.0)
            out = out * (1.0 - 0.34 * near * near * facing * (1.0 - (-sign * normal[..., axis]).clamp(min=0.0)))
    return out


def spread(seen: Tensor, traced: Tensor, index: Tensor, normal: Tensor) -> Tensor:
    """Mean of seen [V, H, W, L] over the traced pixels among the 4 x 4 neighbours on the same face.

    The weights (1/2, 1, 1, 1, 1/2) give every residue modulo 4 the same total, so on a flat face each pixel gets every
    sample of the repeating 4 x 4 pattern equally: the pattern cancels instead of leaving noise.
    """
    total, weight = seen * traced, traced
    for axis in (1, 2):
        sums, weights = total.clone(), weight.clone()
        for step, gain in ((1, 1.0), (2, 0.5)):
            low, high = (slice(None),) * axis + (slice(0, -step),), (slice(None),) * axis + (slice(step, None),)
            same = (index[low] == index[high]) & (dot(normal[low], normal[high]) > 0.9)
            same = same.to(seen.dtype)[..., None] * gain
            sums[low] += total[high] * same
            sums[high] += total[low] * same
            weights[low] += weight[high] * same
            weights[high] += weight[low] * same
        total, weight = sums, weights
    return total / weight.clamp(min=1e-3)


class Shadows:
    """Traces shadow rays and remembers the answers, one channel for each light."""

    def __init__(self, prims: Primitives, origin: Tensor, half: tuple[Tensor, Tensor]) -> None:
        self.prims, self.origin, self.half = prims, origin, half
        self.seen: list[Tensor] = []
        self.traced: list[Tensor] = []

    def soft(self, target: Tensor, needed: Tensor) -> None:
        """Every other pixel, in a chequerboard that changes its color from light to light."""
        chosen = self.half[len(self.seen) % 2]
        seen, traced = torch.ones_like(target[..., 0]), torch.zeros_like(target[..., 0])
        hit = blocked(self.prims, self.origin[:, chosen], target[:, chosen], needed[:, chosen])
        seen[:, chosen] = 1.0 - hit.to(seen.dtype)
        traced[:, chosen] = 1.0
        self.seen.append(seen)
        self.traced.append(traced)


def light_at(prims: Primitives, lights: Lights, point: Tensor, normal: Tensor, jitter: Tensor, shadows: Shadows | None):
    """Linear RGB light arriving at points [T, R, 3]: what needs no shadow ray, and a list of lights that do.

    jitter [T, R, 2] in 0..1 chooses the sample of each area light; `spread` averages over neighbours afterwards. The
    list has one [T, R, 3] for each channel of `shadows`.
    """

    def color(*rgb: float) -> Tensor:
        return torch.tensor(rgb, device=point.device)

    up = 0.5 + 0.5 * normal[..., 2:]
    bounce = color(*lights.bounce) * (1.0 - up) + color(0.95, 0.96, 1.0) * up
    open_light = bounce * 0.30 * corner_shade(point, normal, lights.size)[..., None]
    shaded = []
    for window in lights.windows:
        nx, ny = window.normal
        x, y, z = window.center
        a = (jitter[..., 0] - 0.5) * window.width
        b = (jitter[..., 1] - 0.5) * window.height
        target = torch.stack([x + nx * 0.06 - ny * a, y + ny * 0.06 + nx * a, z + b], -1)
        # How much arrives is taken from the middle of the pane: only who is in the way depends on the sample.
        power = pane(point, normal, window) * (window.width * window.height)
        shaded.append(power[..., None] * color(0.86, 0.95, 1.1) * lights.sky_power)
        if shadows:
            shadows.soft(target, power > 0.004)
        # The sun is seen where the line towards it leaves the room through the window.
        toward = -lights.sun[0] * nx - lights.sun[1] * ny
        if lights.sun_power <= 0 or toward < 0.05:
            continue
        sun = color(*lights.sun)
        gap = ((point[..., 0] - x) * nx + (point[..., 1] - y) * ny) * (1.0 / toward)
        out = point + sun * gap[..., None]
        a = (out[..., 0] - x) * -ny + (out[..., 1] - y) * nx
        lit = dot(normal, sun).clamp(min=0.0)
        lit = lit * ((a.abs() < window.width / 2) & ((out[..., 2] - z).abs() < window.height / 2)).to(lit.dtype)
        if shadows:  # a sharp shadow: every pixel asks
            lit = lit * (1.0 - blocked(prims, shadows.origin, out, lit > 0).to(lit.dtype))
        open_light = open_light + lit[..., None] * color(1.0, 0.86, 0.62) * lights.sun_power
    for x, y, z, power in lights.lamps:
        to = color(x, y, z) - point
        d2 = dot(to, to).clamp(min=0.02)
        cos = (dot(to, normal) / d2.sqrt()).clamp(min=0.0)
        # Ends at a finite distance, so that most of the room need not ask about a small lamp.
        amount = (cos * power / (d2 + 0.25) - 0.02).clamp(min=0.0)
        shaded.append(amount[..., None] * color(1.0, 0.78, 0.5))
        if shadows:
            shift = torch.stack([jitter[..., 0] - 0.5, jitter[..., 1] - 0.5, jitter[..., 0] * 0.0], -1) * 0.2
            shadows.soft(color(x, y, z) + shift, amount > 0)
    return open_light, shaded


def pane(point: Tensor, normal: Tensor, window: Window) -> Tensor:
    """Form factor of a window, per area: both cosines over the squared distance, softened near the pane."""
    to = torch.tensor(window.center, device=point.device) - point
    d2 = dot(to, to).clamp(min=0.05)
    r = d2.sqrt()
    here = (dot(to, normal) / r * 0.85 + 0.15).clamp(min=0.0)  # a wide pane is never wholly behind a grazing surface
    there = (-(to[..., 0] * window.normal[0] + to[..., 1] * window.normal[1]) / r).clamp(min=0.0)
    return here * there / (d2 + 0.4)
