"""The axion vortex of DeepLenseSim: a line of N equal point masses, summed in closed form."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from deeplense.sky.ellipticity import TINY, Value, polar_angle
from deeplense.sky.mass import MassProfile, Points

# of ψ(z + ½) − log z in 1/z²: −B_2k(½) / (2k)
SERIES = (1 / 24, -7 / 960, 31 / 8064, -127 / 30720, 511 / 67584, -1414477 / 67092480, 8191 / 98304)
SHIFT, TERMS = {torch.float32: 3, torch.float64: 8}, {torch.float32: 3, torch.float64: 7}  # both right to rounding
Complex = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Vortex(MassProfile):
    """N equal point masses, evenly spaced from −L to L along a line through a centre.

    With u = (x + iy) / h in the frame of the line, spacing h = 2L / (N − 1), the sum over the beads is a difference of
    digamma functions, so the cost does not depend on N (reflection and recurrence: DLMF 5.5.3, 5.5.4, 5.11.2).

    Parameters
    ----------
    theta_E
        Einstein radius of the whole mass [arcsec].
    half_length
        L [arcsec].
    direction_x, direction_y
        Unit vector along the line.
    center_x, center_y
        Middle of the line [arcsec].
    n_beads
        N.
    """

    theta_E: Value
    half_length: Tensor
    direction_x: Tensor
    direction_y: Tensor
    center_x: Value = 0.0
    center_y: Value = 0.0
    n_beads: int = 100

    def deflection(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return (α_x, α_y) [arcsec]."""
        cos, sin = self.direction_x, self.direction_y
        per_spacing = (self.n_beads - 1) / (2 * self.half_length)
        dx, dy = (x - self.center_x) * per_spacing, (y - self.center_y) * per_spacing
        re, im = _inverse_sum(cos * dx + sin * dy, cos * dy - sin * dx, self.n_beads)
        strength = self.theta_E**2 / self.n_beads * per_spacing
        along, across = strength * re, -strength * im
        return cos * along - sin * across, sin * along + cos * across

    def convergence(self, x: Tensor, y: Tensor) -> Tensor:
        """Return 0: all mass sits in the beads."""
        return torch.zeros_like(self.half_length * (x + y))

    def points(self) -> Points | None:
        """Return the beads."""
        length, cos, sin = (v.reshape(-1, 1) for v in (self.half_length, self.direction_x, self.direction_y))
        along = length * torch.linspace(-1, 1, self.n_beads, dtype=length.dtype, device=length.device)
        center_x, center_y, theta_E = (
            torch.as_tensor(v, dtype=length.dtype, device=length.device).reshape(-1, 1)
            for v in (self.center_x, self.center_y, self.theta_E)
        )
        strength = (theta_E**2 / self.n_beads).expand_as(along)
        return strength, center_x + along * cos, center_y + along * sin


def _inverse_sum(u_re: Tensor, u_im: Tensor, n: int) -> Complex:
    """Return Σ_k 1 / (u − k) over the n half-integers or integers k from −(n−1)/2 to (n−1)/2 (real and imaginary)."""
    half = (n + 1) / 2
    sign = torch.where(u_re < 0, -1.0, 1.0).to(u_re)  # the sum is odd in u: keep Re u ≥ 0
    u_re, u_im = sign * u_re, sign * u_im
    outside = u_re > half - 0.5
    near = torch.where(outside, 1 - half + u_re, half - u_re), torch.where(outside, u_im, -u_im)
    re, im = _digamma_difference((half + u_re, u_im), near, half)
    cot_re, cot_im = _pi_cot(u_re + (n - 1) / 2, u_im)
    zero = torch.zeros_like(cot_re)
    return sign * (re + torch.where(outside, zero, cot_re)), sign * (im + torch.where(outside, zero, cot_im))


def _digamma_difference(far: Complex, near: Complex, least: float) -> Complex:
    """Return ψ(far) − ψ(near) for Re near ≥ ½, Re far ≥ `least`: ψ(z + ½) = log z + series, and one logarithm for both.

    The recurrence shifts an argument up to where the series holds.
    """
    enough = SHIFT[near[0].dtype]
    (near, near_tail), (far, far_tail) = _shifted(near, enough), _shifted(far, max(0, math.ceil(enough + 0.5 - least)))
    log_modulus = torch.log((far[0] ** 2 + far[1] ** 2) / (near[0] ** 2 + near[1] ** 2)) / 2
    argument = polar_angle(far[1] * near[0] - far[0] * near[1], far[0] * near[0] + far[1] * near[1])
    return log_modulus + (far_tail[0] - near_tail[0]), argument + (far_tail[1] - near_tail[1])


def _shifted(z: Complex, shift: int) -> tuple[Complex, Complex]:
    """Return y = z + shift − ½, and ψ(z) − log y: the series at y less Σ 1 / (z + k) for k < shift, as one fraction."""
    shifted = z[0] + (shift - 0.5), z[1]
    inverse = _inverse(*_product(shifted, shifted))
    tail: Complex = (torch.zeros_like(z[0]), torch.zeros_like(z[0]))
    for coefficient in reversed(SERIES[: TERMS[z[0].dtype]]):
        tail = _product((tail[0] + coefficient, tail[1]), inverse)
    if not shift:
        return shifted, tail
    denominator, numerator = z, (torch.ones_like(z[0]), torch.zeros_like(z[0]))
    for k in range(1, shift):
        term = z[0] + k, z[1]
        product = _product(numerator, term)
        numerator = product[0] + denominator[0], product[1] + denominator[1]
        denominator = _product(denominator, term)
    below = _product(numerator, _inverse(*denominator))
    return shifted, (tail[0] - below[0], tail[1] - below[1])


def _pi_cot(re: Tensor, im: Tensor) -> Complex:
    """Return π cot(π z): accurate near the poles, finite far from the real axis, where it goes to ∓iπ."""
    angle = math.pi * (re - torch.round(re))
    sign = torch.where(im < 0, -1.0, 1.0).to(im)  # not torch.sign, whose 0 at 0 would lose the derivative in Im z
    sin, fall = torch.sin(angle), -torch.expm1(-2 * math.pi * sign * im)
    rest = 1 - fall
    scale = math.pi / (fall**2 + 4 * rest * sin**2 + TINY)
    return 4 * scale * rest * sin * torch.cos(angle), -scale * sign * fall * (1 + rest)


def _inverse(re: Tensor, im: Tensor) -> Complex:
    norm = 1 / (re**2 + im**2)
    return re * norm, -im * norm


def _product(a: Complex, b: Complex) -> Complex:
    return a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]
