"""The simplest thin lenses: a point, an isothermal sphere, a sheet; angles in arcsec.

Parameters are numbers or tensors that broadcast against the positions: with positions of shape [H, W] and parameters
of shape [B, 1, 1, 1] the results are [B, 1, H, W].
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from deeplense.sky.ellipticity import Value
from deeplense.sky.mass import MassProfile, Points

CORE = 1e-9  # arcsec: within this distance of its centre a singular profile is regular


def as_tensor(value: Value, like: Tensor) -> Tensor:
    """Return a number or tensor in the dtype and on the device of `like`."""
    return torch.as_tensor(value, dtype=like.dtype, device=like.device)


def squared_radius(dx: Tensor, dy: Tensor) -> Tensor:
    """Return dx² + dy² [arcsec²], at least CORE²; its gradient is 0, not NaN, at the centre."""
    return (dx**2 + dy**2).clamp(min=CORE**2)


@dataclass(frozen=True)
class PointMass(MassProfile):
    """A point mass (Schneider, Ehlers & Falco 1992, § 8.1.2).

    Parameters
    ----------
    theta_E
        Einstein radius [arcsec].
    center_x, center_y
        Position [arcsec].
    """

    theta_E: Value
    center_x: Value = 0.0
    center_y: Value = 0.0

    def deflection(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return θ_E² d / |d|² [arcsec]; it falls linearly to 0 within 1e-9 arcsec of the mass."""
        dx, dy = x - self.center_x, y - self.center_y
        strength = self.theta_E**2 / squared_radius(dx, dy)
        return strength * dx, strength * dy

    def convergence(self, x: Tensor, y: Tensor) -> Tensor:
        """Return 0: all mass sits in the point."""
        return torch.zeros_like(self.theta_E * (x - self.center_x + y - self.center_y))

    def points(self) -> Points | None:
        """Return the mass itself."""
        nothing = 0 * (torch.as_tensor(self.theta_E) + self.center_x + self.center_y)  # in the shape of all three
        theta_E, x, y = ((nothing + value).reshape(-1, 1) for value in (self.theta_E, self.center_x, self.center_y))
        return theta_E**2, x, y


@dataclass(frozen=True)
class SIS(MassProfile):
    """Singular isothermal sphere (Schneider, Ehlers & Falco 1992, § 8.1.4), lenstronomy's SIS.

    Parameters
    ----------
    theta_E
        Einstein radius [arcsec]: κ = θ_E / (2 R).
    center_x, center_y
        Position [arcsec].
    """

    theta_E: Value
    center_x: Value = 0.0
    center_y: Value = 0.0

    def deflection(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return θ_E d / |d| [arcsec]; it falls linearly to 0 within 1e-9 arcsec of the centre."""
        dx, dy = x - self.center_x, y - self.center_y
        strength = self.theta_E * torch.rsqrt(squared_radius(dx, dy))
        return strength * dx, strength * dy

    def convergence(self, x: Tensor, y: Tensor) -> Tensor:
        """Return κ."""
        return self.theta_E / 2 * torch.rsqrt(squared_radius(x - self.center_x, y - self.center_y))


@dataclass(frozen=True)
class ConvergenceSheet(MassProfile):
    """A sheet of constant convergence about the origin (Falco, Gorenstein & Shapiro 1985).

    Parameters
    ----------
    kappa
        Convergence; a negative one takes away the mean of masses that are modelled apart.
    """

    kappa: Value

    def deflection(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return (κ x, κ y) [arcsec], each in the shape of x and y together."""
        zero = torch.zeros_like(x + y)
        return self.kappa * (x + zero), self.kappa * (y + zero)

    def convergence(self, x: Tensor, y: Tensor) -> Tensor:
        """Return κ."""
        return self.kappa + torch.zeros_like(x + y)
