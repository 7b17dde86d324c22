"""Dark-matter haloes: from the mass and the particle to the numbers of a mass profile.

Masses are M200 [solar masses], the mass within the radius r200 of 200 times the critical density of the universe at
the lens. NumPy, float64.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float64

from deeplense.sky.cosmology import LensPlane

Values = Float64[np.ndarray, "*shape"]
CONCENTRATION = (37.5153, -1.5093, 1.636e-2, 3.66e-4, -2.89237e-5, 5.32e-7)  # Sánchez-Conde & Prada (2014), eq. 1
SUBHALO_SUPPRESSION = (4.2, 2.5, -0.2)  # a, b, c of Lovell (2020), fitted to subhaloes


def concentration(mass: Values, plane: LensPlane) -> Values:
    """Return c200 of field haloes without warm dark matter: the median, no scatter.

    Sánchez-Conde & Prada (2014, MNRAS 442, 2271), eq. 1, a polynomial in ln(M h) fitted to simulations at z = 0 from
    1e-6 to 1e15 solar masses, times the (1 + z)⁻¹ of Bullock et al. (2001), as they advise.
    """
    log_mass = np.log(mass * plane.H0 / 100)
    return np.asarray(np.polyval(CONCENTRATION[::-1], log_mass) / (1 + plane.z_lens))


def radius_200(mass: Values, plane: LensPlane) -> Values:
    """Return r200 [arcsec]: 200 ρ_cr · 4π/3 · r200³ = M200."""
    density = 200 * plane.critical_density_of_the_universe
    return np.asarray(np.cbrt(3 * mass / (4 * math.pi * density)) / plane.kpc_per_arcsec)


def nfw_parameters(mass: Values, c200: Values, plane: LensPlane) -> tuple[Values, Values]:
    """Return Rs = r200 / c200 and alpha_Rs [arcsec] of NFW haloes (Navarro, Frenk & White 1997).

    The mass projected within Rs is M200 (1 − ln 2) / m(c200), with m as in `nfw_mass`, and deflects by θ_E² / Rs.
    """
    Rs = radius_200(mass, plane) / c200
    projected = mass * (1 - math.log(2)) / nfw_mass(c200)
    return Rs, plane.theta_E2_per_solar_mass * projected / Rs


def nfw_mass(x: Values) -> Values:
    """Return m(x) = ln(1 + x) − x / (1 + x): the mass of an NFW halo within x Rs in units of 4π ρ_s Rs³."""
    return np.asarray(np.log1p(x) - x / (1 + x))


def tnfw_total_mass(tau: Values) -> Values:
    """Return the whole mass of a truncated halo in units of 4π ρ_s Rs³, tau = r_trunc / Rs (Baltz et al. 2009)."""
    shape = (tau**2 - 1) * np.log(tau) + tau * math.pi - (tau**2 + 1)
    return np.asarray(tau**2 / (tau**2 + 1) ** 2 * shape)


def truncation_radius(mass: Values, distance: float, plane: LensPlane) -> Values:
    """Return where tides truncate a subhalo [arcsec]: 1.4 kpc (M200 / 1e7)^(1/3) (r / 50 kpc)^(2/3).

    Cyr-Racine et al. (2016); Gilman et al. (2020, MNRAS 491, 6077): the tidal radius in an isothermal host.

    Parameters
    ----------
    mass
        M200 [solar masses].
    distance
        Distance r from the centre of the host in three dimensions [kpc].
    plane
        The lens plane.
    """
    return np.asarray(1.4 * np.cbrt(mass / 1e7) * math.pow(distance / 50, 2 / 3) / plane.kpc_per_arcsec)


def sis_theta_E(mass: Values, plane: LensPlane) -> Values:
    """Return θ_E [arcsec] of isothermal spheres that hold M200 within r200.

    An SIS projects π/2 times the mass of a sphere into the cylinder of the same radius, and M_projected(R) deflects by
    θ_E = θ_E² (M_projected) / R at every R.
    """
    return np.asarray(plane.theta_E2_per_solar_mass * math.pi / 2 * mass / radius_200(mass, plane))


def half_mode_mass(wdm_mass: float) -> float:
    """Return the half-mode mass 5e8 (m / 3 keV)^(−10/3) [solar masses] of a thermal relic of mass m [keV].

    Nadler et al. (2021, PRL 126, 091101), after Schneider et al. (2012, MNRAS 424, 684).
    """
    return 5e8 * math.pow(wdm_mass / 3, -10 / 3)


def mass_function_suppression(mass: Values, half_mode: float) -> Values:
    """Return the number of subhaloes in warm over cold dark matter: (1 + (4.2 m_hm / m)^2.5)^(−0.2).

    Lovell (2020, ApJ 897, 147), the fit to subhaloes.
    """
    a, b, c = SUBHALO_SUPPRESSION
    return np.asarray((1 + (a * half_mode / mass) ** b) ** c)


def concentration_suppression(mass: Values, half_mode: float, redshift: float) -> Values:
    """Return the concentration in warm over cold dark matter: (1 + z)^(0.026 z − 0.04) (1 + 60 m_hm / m)^(−0.17).

    Bose et al. (2016, MNRAS 455, 318), eq. 17.
    """
    return np.asarray((1 + redshift) ** (0.026 * redshift - 0.04) * (1 + 60 * half_mode / mass) ** -0.17)
