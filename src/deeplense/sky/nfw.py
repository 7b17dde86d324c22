"""Haloes: the NFW profile, whole and truncated; angles in arcsec.

With x = R / Rs everything is written in two smooth functions of t = 1 − x²,

    h(t) = Σ tᵏ / (2k + 1), which is artanh(√t) / √t for t > 0 and arctan(√−t) / √−t for t < 0,
    k(t) = (h(t) − 1) / t,

so that nothing happens at R = Rs, and what cancels at R ≪ Rs or R ≫ Rs, r_trunc is cancelled on paper: in float32 the
deflections are right to 1e-6 and the convergences to 4e-6 for 1e-4 ≤ R / Rs ≤ 1e3, 0.01 ≤ r_trunc / Rs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from deeplense.sky.circular import as_tensor, squared_radius
from deeplense.sky.ellipticity import Value
from deeplense.sky.mass import MassProfile

MASS_WITHIN_RS = 1 - math.log(2)  # projected mass within Rs, in units of 4π ρ_s Rs³
H_SERIES, K_SERIES = 0.01, 0.25  # |t| below which the series are taken
H_TERMS, K_TERMS = 9, 26  # right to the last digit of float64


@dataclass(frozen=True)
class NFW(MassProfile):
    """NFW halo, ρ = ρ_s / (r/Rs (1 + r/Rs)²) (Navarro, Frenk & White 1997; Wright & Brainerd 2000), lenstronomy's NFW.

    Parameters
    ----------
    Rs
        Scale radius [arcsec], positive.
    alpha_Rs
        Deflection at Rs [arcsec]: 4 (1 − ln 2) ρ_s Rs² / Σ_cr in angles; 0 is no halo.
    center_x, center_y
        Position [arcsec].
    """

    Rs: Value
    alpha_Rs: Value
    center_x: Value = 0.0
    center_y: Value = 0.0

    def deflection(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return (α_x, α_y) = α_Rs / (1 − ln 2) · g(R/Rs) / (R/Rs)² · d / Rs [arcsec] (Wright & Brainerd, eq. 13)."""
        dx, dy = x - self.center_x, y - self.center_y
        strength = _amplitude(self.Rs, self.alpha_Rs, dx) * _enclosed(
            squared_radius(dx, dy) / as_tensor(self.Rs, dx) ** 2
        )
        return strength * dx, strength * dy

    def convergence(self, x: Tensor, y: Tensor) -> Tensor:
        """Return κ (Wright & Brainerd, eq. 11); logarithmically infinite at the centre, where it is cut."""
        dx, dy = x - self.center_x, y - self.center_y
        x2 = squared_radius(dx, dy) / as_tensor(self.Rs, dx) ** 2
        return _amplitude(self.Rs, self.alpha_Rs, dx) / 2 * _k(1 - x2, torch.sqrt(x2))


@dataclass(frozen=True)
class TNFW(MassProfile):
    """NFW halo times r_t² / (r² + r_t²) (Baltz, Marshall & Oguri 2009, appendix A), lenstronomy's TNFW.

    Parameters
    ----------
    Rs
        Scale radius [arcsec], positive.
    alpha_Rs
        Deflection at Rs [arcsec] of the halo *without* truncation; 0 is no halo.
    r_trunc
        Truncation radius r_t [arcsec], positive; the NFW profile where it is large.
    center_x, center_y
        Position [arcsec].
    """

    Rs: Value
    alpha_Rs: Value
    r_trunc: Value
    center_x: Value = 0.0
    center_y: Value = 0.0

    def deflection(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return (α_x, α_y) [arcsec]."""
        dx, dy, x2, tau = self._frame(x, y)
        strength = _amplitude(self.Rs, self.alpha_Rs, dx) * _truncated_enclosed(x2, tau)
        return strength * dx, strength * dy

    def convergence(self, x: Tensor, y: Tensor) -> Tensor:
        """Return κ; it falls as R⁻⁴ outside the truncation."""
        dx, _, x2, tau = self._frame(x, y)
        far = x2 > 2
        near_value = _truncated_near(torch.where(far, 1.0, x2), tau)
        far_value = _truncated_far(torch.where(far, x2, 4.0), tau)
        return (
            _amplitude(self.Rs, self.alpha_Rs, dx) / 2 * tau**2 / (tau**2 + 1) * torch.where(far, far_value, near_value)
        )

    def _frame(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        dx, dy = x - self.center_x, y - self.center_y
        scale = as_tensor(self.Rs, dx)
        return dx, dy, squared_radius(dx, dy) / scale**2, as_tensor(self.r_trunc, dx) / scale


def _amplitude(Rs: Value, alpha_Rs: Value, like: Tensor) -> Tensor:
    """Return α_Rs / ((1 − ln 2) Rs) = 4 ρ_s Rs / Σ_cr."""
    return as_tensor(alpha_Rs, like) / (MASS_WITHIN_RS * as_tensor(Rs, like))


def _enclosed(x2: Tensor) -> Tensor:
    """Return g(x) / x² with g = ln(x/2) + h(1 − x²): the projected mass of an NFW halo over its area.

    For x² < ½ with s = √(1 − x²) and m = x² / (2 (1 + s)): g / x² = (ln(2/x) + ln(1 − m) / (2m)) / (s (1 + s)).
    """
    inner = x2 < 0.5
    low, high = torch.where(inner, x2, 0.25), torch.where(inner, 1.0, x2)
    s = torch.sqrt(1 - low)
    m = low / (2 * (1 + s))
    small = (math.log(2) - torch.log(low) / 2 + torch.log1p(-m) / (2 * m)) / (s * (1 + s))
    large = (torch.log(high) / 2 - math.log(2) + _h(1 - high, torch.sqrt(high))) / high
    return torch.where(inner, small, large)


def _truncated_enclosed(x2: Tensor, tau: Tensor) -> Tensor:
    """Return the same of the truncated halo, Baltz et al. (2009) with the terms in ln τ and π τ cancelled.

    With S = √(τ² + x²), L = ln(x / (S + τ)) and y = x² / (2τ (S + τ)) it is τ² / (τ² + 1)² times
    (τ² − 1) (g/x² + L / (τ (S + τ)) − ln(1 + y) / x²) + 2 h(1 − x²) − π / (S + τ).
    """
    s, log = _truncation(x2, tau)
    norm = tau**2 + 1
    y = x2 / (2 * tau * (s + tau))
    tiny = y < 1e-8
    log_ratio = torch.where(tiny, 1 - y / 2, torch.log1p(y) / torch.where(tiny, 1.0, y))
    first = _enclosed(x2) + (log - log_ratio / 2) / (tau * (s + tau))
    far = x2 > 2
    near, w = torch.where(far, 1.0, x2), torch.sqrt(torch.where(far, x2, 4.0) - 1)
    near_second = 2 * _h(1 - near, torch.sqrt(near)) - math.pi / (s + tau)
    far_second = (math.pi * (tau + norm / (s + w)) / (s + tau) - 2 * torch.atan(1 / w)) / w  # π/x has dropped out
    second = torch.where(far, far_second, near_second)
    return tau**2 / norm * ((tau**2 - 1) / norm * first + second / norm)


def _truncated_near(x2: Tensor, tau: Tensor) -> Tensor:
    """Return κ of the truncated halo in units of 2 ρ_s Rs τ² / (τ² + 1) (Baltz et al. 2009)."""
    s, log = _truncation(x2, tau)
    norm, t, x = tau**2 + 1, 1 - x2, torch.sqrt(x2)
    return _k(t, x) + (2 * _h(t, x) - math.pi / s) / norm + (tau**2 - 1) / norm * log / (tau * s)


def _truncated_far(x2: Tensor, tau: Tensor) -> Tensor:
    """Return the same for x² > 2, where x⁻² and x⁻³ have dropped out and x⁻⁴ remains.

    With w = √(x² − 1), v = τ / S and T = τ² + 1 the terms odd in 1/x are −π T (S + 2w) / (2 w³ S (S + w)²), the even
    ones (τ² − 1) / (w S)² + (h(−w⁻²) + 2 k(−w⁻²) / T) / w⁴ − (τ² − 1) / T · v² k(v²) / S².
    """
    s, _ = _truncation(x2, tau)
    w2, norm, v2 = x2 - 1, tau**2 + 1, tau**2 / s**2
    w = torch.sqrt(w2)
    odd = -math.pi * norm * (s + 2 * w) / (2 * w * w2 * s * (s + w) ** 2)
    reach = torch.sqrt(1 + 1 / w2)
    even = (_h(-1 / w2, reach) + 2 * _k(-1 / w2, reach) / norm) / w2**2
    rest = (tau**2 - 1) / s**2 * (1 / w2 - v2 / norm * _k(v2, torch.sqrt(x2) / s))
    return odd + even + rest


def _truncation(x2: Tensor, tau: Tensor) -> tuple[Tensor, Tensor]:
    """Return S = √(τ² + x²) and L = ln(x / (S + τ)) = −arsinh(τ / x)."""
    s, x = torch.sqrt(tau**2 + x2), torch.sqrt(x2)
    return s, -torch.log1p((tau + tau**2 / (s + x)) / x)


def _h(t: Tensor, root: Tensor) -> Tensor:
    """Return h(t) for t < 1, where root = √(1 − t) is known without cancellation."""
    small = t.abs() < H_SERIES
    z = torch.sqrt(torch.where(small, 0.25, t.abs()))
    artanh = torch.log1p((z + z**2 / (1 + root)) / root)
    value = torch.where(t > 0, artanh, torch.atan(z)) / z
    return torch.where(small, _series(t, 0, H_TERMS), value)


def _k(t: Tensor, root: Tensor) -> Tensor:
    """Return k(t) for t < 1; parameters as in `_h`."""
    small = t.abs() < K_SERIES
    return torch.where(small, _series(t, 1, K_TERMS), (_h(t, root) - 1) / torch.where(small, 1.0, t))


def _series(t: Tensor, first: int, n: int) -> Tensor:
    """Return Σ tᵏ / (2 (k + first) + 1) over k < n; 0 where |t| is too large for it."""
    t = torch.where(t.abs() < K_SERIES, t, 0.0)  # no overflow, which the gradient would turn into NaN
    total = torch.zeros_like(t)
    for k in range(n - 1, -1, -1):
        total = total * t + 1 / (2 * (k + first) + 1)
    return total
