"""Mass profiles: deflection and convergence of thin lenses, angles in arcsec.

A profile is a frozen dataclass of numbers or tensors that broadcast against the positions x, y, and its formulas. One
image per batch entry means parameters of shape [B, 1, 1] and positions of shape [H, W].
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from deeplense.sky.ellipticity import Value, axis_ratio_and_angle

TINY = 1e-30


class MassProfile(ABC):
    """A thin lens."""

    @abstractmethod
    def deflection(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return the deflection (α_x, α_y) [arcsec] at the positions x, y [arcsec]."""

    @abstractmethod
    def convergence(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the convergence κ = div α / 2, smooth part only (a point mass has none away from its position)."""


@dataclass(frozen=True)
class SIE(MassProfile):
    """Singular isothermal ellipsoid (Kormann, Schneider & Bartelmann 1994; Keeton 2001, eqs. 34, 35).

    Parameters
    ----------
    theta_E
        Einstein radius [arcsec], such that κ = theta_E √q / (2 √(q² x² + y²)) in the frame of the major axis.
    e1, e2
        Ellipticity.
    center_x, center_y
        Position [arcsec].
    """

    theta_E: Value
    e1: Value = 0.0
    e2: Value = 0.0
    center_x: Value = 0.0
    center_y: Value = 0.0

    def deflection(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return (α_x, α_y) [arcsec]; finite for q → 1 and at the centre."""
        q, phi = (value.to(x) for value in axis_ratio_and_angle(self.e1, self.e2))
        cos, sin = torch.cos(phi), torch.sin(phi)
        major, minor, psi = self._frame(x, y, q, cos, sin)
        scale, eccentricity2 = self.theta_E * torch.sqrt(q), 1 - q**2
        along = scale * major / psi * _arctan_ratio(eccentricity2 * (major / psi) ** 2)
        across = scale * minor / psi * _arctanh_ratio(eccentricity2 * (minor / psi) ** 2)
        return cos * along - sin * across, sin * along + cos * across

    def convergence(self, x: Tensor, y: Tensor) -> Tensor:
        """Return κ."""
        q, phi = (value.to(x) for value in axis_ratio_and_angle(self.e1, self.e2))
        *_, psi = self._frame(x, y, q, torch.cos(phi), torch.sin(phi))
        return self.theta_E * torch.sqrt(q) / (2 * psi)

    def _frame(self, x: Tensor, y: Tensor, q: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        dx, dy = x - self.center_x, y - self.center_y
        major, minor = cos * dx + sin * dy, cos * dy - sin * dx
        return major, minor, torch.sqrt((q * major) ** 2 + minor**2 + TINY)


@dataclass(frozen=True)
class Shear(MassProfile):
    """External shear about the origin.

    Parameters
    ----------
    gamma1, gamma2
        Shear components.
    """

    gamma1: Value
    gamma2: Value = 0.0

    def deflection(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return (γ1 x + γ2 y, γ2 x − γ1 y) [arcsec]."""
        return self.gamma1 * x + self.gamma2 * y, self.gamma2 * x - self.gamma1 * y

    def convergence(self, x: Tensor, y: Tensor) -> Tensor:
        """Return 0: shear has no mass in the field."""
        return torch.zeros_like(x + y)


@dataclass(frozen=True)
class PointMasses(MassProfile):
    """K point masses per image.

    Parameters
    ----------
    theta_E
        Einstein radius of each mass [arcsec].
    center_x, center_y
        Position of each mass [arcsec].
    """

    theta_E: Float[Tensor, "B K"]
    center_x: Float[Tensor, "B K"]
    center_y: Float[Tensor, "B K"]

    def deflection(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return Σ theta_E² d / |d|² [arcsec]."""
        shape = (self.theta_E.shape[0], *torch.broadcast_shapes(x.shape[-2:], y.shape[-2:]))
        alpha_x, alpha_y = x.new_zeros(shape), x.new_zeros(shape)
        masses = (value[:, :, None, None].unbind(1) for value in (self.theta_E**2, self.center_x, self.center_y))
        for theta_E2, center_x, center_y in zip(*masses, strict=True):
            dx, dy = x - center_x, y - center_y
            strength = theta_E2 / (dx**2 + dy**2 + TINY)
            alpha_x = torch.addcmul(alpha_x, strength, dx)
            alpha_y = torch.addcmul(alpha_y, strength, dy)
        return alpha_x, alpha_y

    def convergence(self, x: Tensor, y: Tensor) -> Tensor:
        """Return 0: all mass sits in the points."""
        return x.new_zeros((self.theta_E.shape[0], *torch.broadcast_shapes(x.shape[-2:], y.shape[-2:])))


def _arctan_ratio(z2: Tensor) -> Tensor:
    """Return atan(z) / z as a function of z², smooth at 0."""
    small = z2 < 1e-2
    z = torch.sqrt(torch.where(small, torch.ones_like(z2), z2))
    return torch.where(small, _alternating_series(-z2), torch.atan(z) / z)


def _arctanh_ratio(z2: Tensor) -> Tensor:
    """Return atanh(z) / z as a function of z² < 1, smooth at 0."""
    small = z2 < 1e-2
    z = torch.sqrt(torch.where(small, torch.full_like(z2, 0.25), z2))
    return torch.where(small, _alternating_series(z2), torch.atanh(z) / z)


def _alternating_series(t: Tensor) -> Tensor:
    """Return Σ tᵏ / (2k + 1), which is atanh(√t) / √t, or atan(√−t) / √−t for t < 0; |t| ≤ 0.01."""
    total = torch.zeros_like(t)
    for k in range(8, -1, -1):
        total = total * t + 1 / (2 * k + 1)
    return total
