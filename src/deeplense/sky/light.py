"""Light profiles: surface brightness, angles in arcsec."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from deeplense.sky.ellipticity import Value

MIN_RADIUS = 1e-3


@dataclass(frozen=True)
class Sersic:
    """Elliptical Sérsic profile with b_n = 1.9992 n − 0.3271 (Capaccioli 1989), as lenstronomy's SERSIC_ELLIPSE has it.

    Parameters
    ----------
    amplitude
        Surface brightness at R_sersic [flux / arcsec²].
    R_sersic
        Half-light radius [arcsec].
    n_sersic
        Sérsic index.
    e1, e2
        Ellipticity, applied as a matrix of determinant one (flux does not depend on it).
    center_x, center_y
        Position [arcsec].
    """

    amplitude: Value
    R_sersic: Value
    n_sersic: Value = 1.0
    e1: Value = 0.0
    e2: Value = 0.0
    center_x: Value = 0.0
    center_y: Value = 0.0

    def surface_brightness(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the surface brightness [flux / arcsec²] at x, y [arcsec]; flat within 0.001 arcsec of the centre."""
        dx, dy = x - self.center_x, y - self.center_y
        norm2 = 1 - self.e1**2 - self.e2**2
        u, v = (1 - self.e1) * dx - self.e2 * dy, (1 + self.e1) * dy - self.e2 * dx
        # log R, not R: one pow becomes one exp, and the gradient is finite at the centre
        log_radius = torch.log(((u**2 + v**2) / norm2).clamp(min=MIN_RADIUS**2)) / 2
        log_scale = math.log(self.R_sersic) if not isinstance(self.R_sersic, Tensor) else torch.log(self.R_sersic)
        exponent = torch.exp((log_radius - log_scale) / self.n_sersic) - 1
        return self.amplitude * torch.exp(-b_n(self.n_sersic) * exponent)


def b_n(n_sersic: Value) -> Value:
    """Return the constant that makes R_sersic the half-light radius (Capaccioli 1989).

    It is 0.02 too small at n = 0.5, 0.006 at n = 1 and right to 0.003 for 2 < n < 10.
    """
    return 1.9992 * n_sersic - 0.3271


def sersic_flux(R_sersic: float, n_sersic: float) -> float:
    """Return the flux at unit amplitude: 2π n R² e^b b^(−2n) Γ(2n) (Graham & Driver 2005, eq. 2)."""
    b = float(b_n(n_sersic))
    return float(2 * math.pi * n_sersic * R_sersic**2 * math.exp(b) * b ** (-2 * n_sersic) * math.gamma(2 * n_sersic))
