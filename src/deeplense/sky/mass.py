"""Mass profiles: deflection and convergence of thin lenses, angles in arcsec.

A profile is a frozen dataclass of numbers or tensors that broadcast against the positions x, y, and its formulas. One
image per batch entry means parameters of shape [B, 1, 1, 1], positions of shape [H, W] and results [B, 1, H, W].
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from deeplense.sky.ellipticity import TINY, Value, bounded

BLOCK = 25  # point masses that are summed in one formula
Points = tuple[Float[Tensor, "B K"], Float[Tensor, "B K"], Float[Tensor, "B K"]]
SMALL, TERMS = 1e-2, 8  # below SMALL, TERMS terms of a series are exact in float64


class MassProfile(ABC):
    """A thin lens."""

    @abstractmethod
    def deflection(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return the deflection (α_x, α_y) [arcsec] at the positions x, y [arcsec]."""

    @abstractmethod
    def convergence(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the convergence κ = div α / 2, smooth part only (a point mass has none away from its position)."""

    def blocks(self) -> list[MassProfile] | None:
        """Return profiles of one size that add up to this one, where it is a sum too long for one formula."""
        return None

    def points(self) -> Points | None:
        """Return the point masses it consists of, θ_E² [arcsec²] and positions [arcsec]; None of a smooth profile.

        A point has the mass π θ_E² Σ_cr, which `convergence` leaves out.
        """
        return None


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
        """Return (α_x, α_y) [arcsec], smooth in e1 and e2 (also at 0), finite at the centre.

        With ρ = r² / ψ² the axes have the factors f = atan√(ρ−1) / √(ρ−1) and g = atanh√(1−q²ρ) / √(1−q²ρ). Instead of
        rotating by an angle that e = 0 does not have, f + g multiplies z = x + iy, and (f − g) / |e| multiplies e z̄.
        """
        dx, dy, e1, e2, q, psi = self._frame(x, y)
        rho = (dx**2 + dy**2 + TINY) / psi**2
        major, minor = _arctan_ratio(rho - 1), _arctanh_ratio(1 - q**2 * rho, q * torch.sqrt(rho))
        scale = self.theta_E * torch.sqrt(q) / (2 * psi)
        mean, slope = (
            scale * (major + minor),
            scale * (1 + q) ** 2 * rho * _slope(1 - rho, 1 - q**2 * rho, major, minor),
        )
        return mean * dx - slope * (e1 * dx + e2 * dy), mean * dy - slope * (e2 * dx - e1 * dy)

    def convergence(self, x: Tensor, y: Tensor) -> Tensor:
        """Return κ."""
        *_, q, psi = self._frame(x, y)
        return self.theta_E * torch.sqrt(q) / (2 * psi)

    def _frame(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return position from the centre, ellipticity, q and ψ = √(q² x² + y²) (x along the major axis)."""
        e1, e2, modulus = bounded(self.e1, self.e2)
        dx, dy, q = x - self.center_x, y - self.center_y, (1 - modulus) / (1 + modulus)
        u, v = (1 - e1) * dx - e2 * dy, (1 + e1) * dy - e2 * dx
        return dx, dy, e1, e2, q, torch.sqrt(((1 + q) / 2) ** 2 * (u**2 + v**2) + TINY)


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
        alpha_x, alpha_y = self.convergence(x, y), self.convergence(x, y)
        masses = (value[:, :, None, None, None].unbind(1) for value in (self.theta_E**2, self.center_x, self.center_y))
        for theta_E2, center_x, center_y in zip(*masses, strict=True):
            dx, dy = x - center_x, y - center_y
            strength = theta_E2 / (dx**2 + dy**2 + TINY)
            alpha_x = torch.addcmul(alpha_x, strength, dx)
            alpha_y = torch.addcmul(alpha_y, strength, dy)
        return alpha_x, alpha_y

    def blocks(self) -> list[MassProfile] | None:
        """Return blocks of 25 masses where there are more."""
        if self.theta_E.shape[1] <= BLOCK:
            return None
        columns = (self.theta_E, self.center_x, self.center_y)
        return [PointMasses(*part) for part in zip(*(split_columns(column, BLOCK) for column in columns), strict=True)]

    def convergence(self, x: Tensor, y: Tensor) -> Tensor:
        """Return 0: all mass sits in the points."""
        return torch.zeros_like(self.theta_E.sum(1)[:, None, None, None] + x + y)

    def points(self) -> Points | None:
        """Return the masses."""
        return self.theta_E**2, self.center_x, self.center_y


@dataclass(frozen=True)
class Tabulated(MassProfile):
    """A deflection computed before, at the very positions it is asked for: a lens that is the same in every image.

    Parameters
    ----------
    alpha_x, alpha_y
        Deflection [arcsec].
    """

    alpha_x: Tensor
    alpha_y: Tensor

    def deflection(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return the table."""
        return self.alpha_x, self.alpha_y

    def convergence(self, x: Tensor, y: Tensor) -> Tensor:
        """Refuse: only the deflection is kept."""
        raise NotImplementedError("a tabulated deflection has no convergence; ask the profiles it was made of")


def split_columns(column: Float[Tensor, "B K"], size: int, fill: float = 0.0) -> list[Float[Tensor, "B size"]]:
    """Return the columns in blocks of one size, the last one filled up."""
    missing = -column.shape[1] % size
    padded = torch.nn.functional.pad(column, (0, missing), value=fill)
    return list(torch.chunk(padded, padded.shape[1] // size, dim=1)) if column.shape[1] else []


def _arctan_ratio(z2: Tensor) -> Tensor:
    """Return atan(z) / z as a function of z², smooth at 0."""
    small = z2 < SMALL
    z = torch.sqrt(torch.where(small, 1.0, z2))
    return torch.where(small, _series(-z2), torch.atan(z) / z)


def _arctanh_ratio(z2: Tensor, complement: Tensor) -> Tensor:
    """Return atanh(z) / z as a function of z² and √(1 − z²), smooth at 0, finite to the last digit before 1."""
    small = z2 < SMALL
    z = torch.sqrt(torch.where(small, 0.25, z2))
    return torch.where(small, _series(z2), torch.log1p((z + z2 / (1 + complement)) / complement) / z)


def _series(t: Tensor) -> Tensor:
    """Return h(t) = Σ tᵏ / (2k + 1), which is atanh(√t) / √t, or atan(√−t) / √−t for t < 0; |t| ≤ 0.01."""
    total = torch.zeros_like(t)
    for k in range(TERMS, -1, -1):
        total = total * t + 1 / (2 * k + 1)
    return total


def _slope(a: Tensor, b: Tensor, h_a: Tensor, h_b: Tensor) -> Tensor:
    """Return (h(b) − h(a)) / (b − a) for a ≤ 0 ≤ b, smooth at a = b = 0."""
    small = b - a < SMALL
    total, term, power = torch.zeros_like(a), torch.ones_like(a), torch.ones_like(a)
    for k in range(1, TERMS + 1):  # term = Σ aʲ bⁱ over i + j = k − 1
        total, power = total + term / (2 * k + 1), power * a
        term = term * b + power
    return torch.where(small, total, (h_b - h_a) / torch.where(small, 1.0, b - a))
