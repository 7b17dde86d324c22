"""The elliptical power law: a mass profile of any slope, angles in arcsec."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from deeplense.sky.circular import as_tensor, squared_radius
from deeplense.sky.ellipticity import Value, bounded
from deeplense.sky.mass import MassProfile

TERMS = {torch.float64: 72}  # of the angular series, which falls faster than |e|ⁿ; other dtypes:
SINGLE_TERMS = 32


@dataclass(frozen=True)
class EPL(MassProfile):
    """Elliptical power law (Tessore & Metcalf 2015), lenstronomy's EPL; slope 2 is the SIE.

    κ = (3 − γ) / 2 · (θ_E / √(q x² + y² / q))^(γ − 1) in the frame of the major axis.

    The series has 72 terms in float64 and 32 in float32. Against the hypergeometric function, for slopes from 1.2 to
    2.8, the error relative to the deflection is below 1e-14 (float32: 2e-6) for |e| ≤ 0.6, that is axis ratios
    q ≥ 0.25; 1e-11 (1e-5) at |e| = 0.7, q = 0.18; 1e-7 (1e-3) at |e| = 0.8, q = 0.11.

    Parameters
    ----------
    theta_E
        Einstein radius [arcsec], positive.
    slope
        γ of the density ρ ∝ r^−γ; between 1 (a sheet) and 3 (a point), not at the ends. 2 is isothermal.
    e1, e2
        Ellipticity.
    center_x, center_y
        Position [arcsec].
    """

    theta_E: Value
    slope: Value = 2.0
    e1: Value = 0.0
    e2: Value = 0.0
    center_x: Value = 0.0
    center_y: Value = 0.0

    def deflection(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return (α_x, α_y) [arcsec], smooth in e1 and e2 (also at 0), finite at the centre.

        Tessore & Metcalf, eqs. 22 and 23, without their rotation: w = z − e z̄ is 2 / (1 + q) times their R e^iφ turned
        back to the sky, and f e^2iφ, turned back, is ē w / w̄, so that α = (b / R)^t w F(−ē w / w̄) knows no angle.
        """
        u, v, radius2, e1, e2 = self._frame(x, y)
        cos, sin = (u**2 - v**2) / radius2, 2 * u * v / radius2
        real, imaginary = _angular_series(
            -(e1 * cos + e2 * sin), e2 * cos - e1 * sin, e1**2 + e2**2, as_tensor(self.slope, u) - 1
        )
        strength = self._strength(radius2, e1, e2)
        return strength * (real * u - imaginary * v), strength * (real * v + imaginary * u)

    def convergence(self, x: Tensor, y: Tensor) -> Tensor:
        """Return κ."""
        _, _, radius2, e1, e2 = self._frame(x, y)
        return (3 - self.slope) / 2 * self._strength(radius2, e1, e2)

    def _frame(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return w = u + iv, |w|², e1 and e2."""
        dx, dy = x - self.center_x, y - self.center_y
        e1, e2, _ = bounded(as_tensor(self.e1, dx), as_tensor(self.e2, dx))
        u, v = (1 - e1) * dx - e2 * dy, (1 + e1) * dy - e2 * dx
        return u, v, squared_radius(u, v), e1, e2

    def _strength(self, radius2: Tensor, e1: Tensor, e2: Tensor) -> Tensor:
        """Return (b / R)^t with b = θ_E √q, R = |w| (1 + q) / 2, that is b / R = θ_E √(1 − |e|²) / |w|."""
        ratio = as_tensor(self.theta_E, radius2) * torch.sqrt((1 - e1**2 - e2**2) / radius2)
        # not torch.pow, which rounds the last few of a tensor otherwise: an image would depend on those beside it
        return torch.exp((as_tensor(self.slope, radius2) - 1) * torch.log(ratio))


def _angular_series(real: Tensor, imaginary: Tensor, modulus2: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Return F = ₂F₁(1, t/2; 2 − t/2; s) = Σ Aₙ sⁿ at the complex s, A₀ = 1, Aₙ / Aₙ₋₁ = (2n − 2 + t) / (2n + 2 − t).

    The coefficients are real, so the sum needs no complex product until its end: bₙ = Aₙ + 2 Re(s) bₙ₊₁ − |s|² bₙ₊₂,
    F = 1 + s b₁ − |s|² b₂ (Knuth, The Art of Computer Programming, § 4.6.4).
    """
    coefficients = [torch.ones_like(t)]
    for n in range(1, TERMS.get(real.dtype, SINGLE_TERMS) + 1):
        coefficients.append(coefficients[-1] * (2 * n - 2 + t) / (2 * n + 2 - t))
    first, second = torch.zeros_like(real), torch.zeros_like(real)
    for coefficient in reversed(coefficients[1:]):
        first, second = coefficient + 2 * real * first - modulus2 * second, first
    return 1 + real * first - modulus2 * second, imaginary * first
