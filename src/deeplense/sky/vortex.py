"""The axion vortex of DeepLenseSim: a line of N equal point masses, summed in closed form."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from deeplense.sky.ellipticity import TINY, Value
from deeplense.sky.mass import MassProfile

DIGAMMA_SERIES = (1 / 12, -1 / 120, 1 / 252, -1 / 240, 1 / 132, -691 / 32760, 1 / 12)
SHIFT, TERMS = {torch.float32: 3, torch.float64: 7}, {torch.float32: 4, torch.float64: 7}  # both right to rounding
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
    angle
        Direction of the line from the x axis [rad].
    center_x, center_y
        Middle of the line [arcsec].
    n_beads
        N.
    """

    theta_E: Value
    half_length: Tensor
    angle: Tensor
    center_x: Value = 0.0
    center_y: Value = 0.0
    n_beads: int = 100

    def deflection(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return (α_x, α_y) [arcsec]."""
        cos, sin = torch.cos(self.angle), torch.sin(self.angle)
        spacing = 2 * self.half_length / (self.n_beads - 1)
        dx, dy = (x - self.center_x) / spacing, (y - self.center_y) / spacing
        re, im = _inverse_sum(cos * dx + sin * dy, cos * dy - sin * dx, self.n_beads)
        strength = self.theta_E**2 / (self.n_beads * spacing)
        along, across = strength * re, -strength * im
        return cos * along - sin * across, sin * along + cos * across

    def convergence(self, x: Tensor, y: Tensor) -> Tensor:
        """Return 0: all mass sits in the beads."""
        return torch.zeros_like(self.half_length * (x + y))


def _inverse_sum(u_re: Tensor, u_im: Tensor, n: int) -> Complex:
    """Return Σ_k 1 / (u − k) over the n half-integers or integers k from −(n−1)/2 to (n−1)/2 (real and imaginary)."""
    half = (n + 1) / 2
    sign = torch.where(u_re < 0, -1.0, 1.0).to(u_re)  # the sum is odd in u: keep Re u ≥ 0
    u_re, u_im = sign * u_re, sign * u_im
    outside = u_re > half - 0.5
    near_re = torch.where(outside, 1 - half + u_re, half - u_re)
    near_im = torch.where(outside, u_im, -u_im)
    far_re, far_im = half + u_re, u_im
    re, im = _digamma_difference((far_re, far_im), (near_re, near_im))
    cot_re, cot_im = _pi_cot(u_re + (n - 1) / 2, u_im)
    zero = torch.zeros_like(cot_re)
    return sign * (re + torch.where(outside, zero, cot_re)), sign * (im + torch.where(outside, zero, cot_im))


def _digamma_difference(far: Complex, near: Complex) -> Complex:
    """Return ψ(far) − ψ(near) for Re far ≥ Re near ≥ ½, without cancellation where both are large.

    The recurrence shifts both arguments up to where the asymptotic series holds, and its logarithms are merged into one
    log1p.
    """
    near_shifted, near_terms = _shifted(near)
    far_shifted, far_terms = _shifted(far)
    inverse = _inverse(*near_shifted)
    tail_near, tail_far = _asymptotic_tail(inverse), _asymptotic_tail(_inverse(*far_shifted))
    ratio = _product((far[0] - near[0], far[1] - near[1]), inverse)  # far / near − 1
    log_modulus = torch.log1p(2 * ratio[0] + ratio[0] ** 2 + ratio[1] ** 2) / 2
    argument = torch.atan2(ratio[1], 1 + ratio[0])
    re, im = near_terms[0] - far_terms[0], near_terms[1] - far_terms[1]
    return re + log_modulus + (tail_far[0] - tail_near[0]), im + argument + (tail_far[1] - tail_near[1])


def _shifted(z: Complex) -> tuple[Complex, Complex]:
    """Return z + S and Σ 1 / (z + k) for k = 0 … S − 1, as one fraction."""
    shift = SHIFT[z[0].dtype]
    denominator, numerator = z, (torch.ones_like(z[0]), torch.zeros_like(z[0]))
    for k in range(1, shift):
        term = z[0] + k, z[1]
        product = _product(numerator, term)
        numerator = product[0] + denominator[0], product[1] + denominator[1]
        denominator = _product(denominator, term)
    return (z[0] + shift, z[1]), _product(numerator, _inverse(*denominator))


def _asymptotic_tail(inverse: Complex) -> Complex:
    """Return ψ(z) − log z = −1/(2z) − Σ B_2k / (2k z^2k) for large z, given 1/z."""
    square = _product(inverse, inverse)
    total: Complex = (torch.zeros_like(inverse[0]), torch.zeros_like(inverse[0]))
    for coefficient in reversed(DIGAMMA_SERIES[: TERMS[inverse[0].dtype]]):
        total = _product((total[0] + coefficient, total[1]), square)
    return -inverse[0] / 2 - total[0], -inverse[1] / 2 - total[1]


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
