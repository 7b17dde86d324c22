"""Distances in a flat ΛCDM universe, and the Einstein radius of a mass in each convention."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

SPEED_OF_LIGHT = 299792.458  # km / s, exact
GRAVITY = 6.6743e-11 * 1e-9  # km³ / (kg s²), CODATA 2018
SOLAR_MASS = 1.3271244e20 / 6.6743e-11  # kg: IAU 2015 nominal G M_sun over CODATA 2018 G
MEGAPARSEC = 648000 / math.pi * 149597870.7 * 1e6  # km, IAU 2015
ARCSEC = math.pi / 648000  # rad
NODES, WEIGHTS = np.polynomial.legendre.leggauss(64)
DEEPLENSE_SIM_ARCSEC = 1 / 206265  # rad, as rounded in the published generator

DistanceConvention = Literal["angular_diameter", "deeplense_sim"]


def comoving_distance(z: float, H0: float = 70.0, Omega_m: float = 0.3) -> float:
    """Return the line-of-sight comoving distance [Mpc] to redshift z: flat ΛCDM, no radiation (Hogg 1999, eq. 15)."""
    redshifts = z * (NODES + 1) / 2
    integrand = 1 / np.sqrt(Omega_m * (1 + redshifts) ** 3 + 1 - Omega_m)
    return float(SPEED_OF_LIGHT / H0 * z / 2 * (WEIGHTS @ integrand))


def theta_E2_per_solar_mass(
    z_lens: float, z_source: float, convention: DistanceConvention, H0: float = 70.0, Omega_m: float = 0.3
) -> float:
    """Return θ_E² = 4 G M D_ls / (c² D_l D_s) of one solar mass [arcsec²].

    Parameters
    ----------
    z_lens, z_source
        Redshifts, z_lens < z_source.
    convention
        "angular_diameter" is the physical one. "deeplense_sim" reproduces the published generator, which takes
        luminosity distances, D_ls = D_s − D_l and 206265 arcsec per radian: its θ_E is 0.770 of the physical one at
        z = 0.5, 1.0.
    H0
        Hubble constant [km / s / Mpc].
    Omega_m
        Matter density.
    """
    lens, source = (comoving_distance(z, H0, Omega_m) for z in (z_lens, z_source))
    arcsec = ARCSEC if convention == "angular_diameter" else DEEPLENSE_SIM_ARCSEC
    if convention == "angular_diameter":
        d_l, d_s, d_ls = lens / (1 + z_lens), source / (1 + z_source), (source - lens) / (1 + z_source)
    else:
        d_l, d_s = lens * (1 + z_lens), source * (1 + z_source)
        d_ls = d_s - d_l
    return 4 * GRAVITY * SOLAR_MASS / SPEED_OF_LIGHT**2 * d_ls / (d_l * d_s * MEGAPARSEC) / arcsec**2


@dataclass(frozen=True)
class LensPlane:
    """A lens plane in front of a source plane: what turns masses and lengths into angles.

    The convention says how masses deflect; lengths and the density of the universe are always physical.

    Parameters
    ----------
    z_lens, z_source
        Redshifts, z_lens < z_source.
    convention
        See `theta_E2_per_solar_mass`.
    H0
        Hubble constant [km / s / Mpc].
    Omega_m
        Matter density; the universe is flat.
    """

    z_lens: float
    z_source: float
    convention: DistanceConvention = "angular_diameter"
    H0: float = 70.0
    Omega_m: float = 0.3

    @property
    def theta_E2_per_solar_mass(self) -> float:
        """Squared Einstein radius of one solar mass [arcsec²]."""
        return theta_E2_per_solar_mass(self.z_lens, self.z_source, self.convention, self.H0, self.Omega_m)

    @property
    def critical_density(self) -> float:
        """Σ_cr [solar mass / arcsec²], the mean surface density within the Einstein radius: θ_E² = M / (π Σ_cr)."""
        return 1 / (math.pi * self.theta_E2_per_solar_mass)

    @property
    def kpc_per_arcsec(self) -> float:
        """Proper length that one arcsec spans in the lens plane [kpc]."""
        return comoving_distance(self.z_lens, self.H0, self.Omega_m) / (1 + self.z_lens) * 1e3 * ARCSEC

    @property
    def critical_density_of_the_universe(self) -> float:
        """ρ_cr = 3 H² / (8π G) at z_lens [solar mass / kpc³]."""
        hubble2 = self.H0**2 * (self.Omega_m * (1 + self.z_lens) ** 3 + 1 - self.Omega_m)  # km² / s² / Mpc²
        return 3 * hubble2 / (8 * math.pi * GRAVITY) * MEGAPARSEC / SOLAR_MASS / 1e9
