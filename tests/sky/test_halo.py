"""Haloes: their masses, sizes and what warm dark matter does to them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from deeplense.sky import halo
from deeplense.sky.circular import SIS
from deeplense.sky.cosmology import LensPlane
from deeplense.sky.nfw import NFW, TNFW

PLANE = LensPlane(0.5, 1.0)
MASS = np.geomspace(1e6, 1e10, 9)


def projected_mass(profile: NFW | TNFW | SIS, radius: float) -> float:
    """Return the mass [solar masses] projected within a radius [arcsec]: R α(R) / θ_E² (one solar mass)."""
    x, zero = torch.tensor([[radius]], dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    return radius * profile.deflection(x, zero)[0].item() / PLANE.theta_E2_per_solar_mass


def test_concentrations_are_the_published_ones() -> None:
    # the polynomial by hand, ln(0.7e12) = 27.27 and ln(0.7e8) = 18.06:
    # 37.52 − 41.16 + 12.17 + 7.42 − 16.00 + 8.02 and 37.52 − 27.26 + 5.34 + 2.16 − 3.08 + 1.02
    today = LensPlane(0.0, 1.0)
    assert halo.concentration(np.array([1e12, 1e8]), today) == pytest.approx([7.97, 15.70], abs=0.03)
    np.testing.assert_allclose(halo.concentration(MASS, PLANE), halo.concentration(MASS, today) / 1.5, rtol=1e-14)
    assert (np.diff(halo.concentration(MASS, PLANE)) < 0).all()


def test_r200_holds_the_mass_at_200_times_the_critical_density() -> None:
    kpc = halo.radius_200(MASS, PLANE) * PLANE.kpc_per_arcsec
    density = MASS / (4 / 3 * math.pi * kpc**3)
    np.testing.assert_allclose(density, 200 * PLANE.critical_density_of_the_universe, rtol=1e-13)


def test_an_nfw_halo_has_its_mass_within_r200() -> None:
    mass, c200 = np.array([1e9]), np.array([12.0])
    Rs, alpha_Rs = (values[0] for values in halo.nfw_parameters(mass, c200, PLANE))
    rho = alpha_Rs * PLANE.critical_density / (4 * Rs**2 * (1 - math.log(2)))  # solar masses / arcsec³
    r200 = halo.radius_200(mass, PLANE)[0]
    total, _ = quad(lambda r: 4 * math.pi * r**2 * rho / (r / Rs * (1 + r / Rs) ** 2), 0, r200)
    assert r200 / Rs == pytest.approx(12, rel=1e-14)
    assert total == pytest.approx(1e9, rel=1e-10)


@pytest.mark.parametrize("tau", [0.05, 0.999, 1.0, 3.0, 40.0])
def test_a_truncated_halo_has_a_finite_mass(tau: float) -> None:
    mass, c200 = np.array([1e8]), np.array([10.0])
    Rs, alpha_Rs = (values[0] for values in halo.nfw_parameters(mass, c200, PLANE))
    expected = 1e8 / halo.nfw_mass(c200)[0] * halo.tnfw_total_mass(np.array([tau]))[0]
    # what lies beyond R falls as τ² / R
    reach = 1e6 * max(1, tau**2)
    assert projected_mass(TNFW(Rs, alpha_Rs, tau * Rs), reach * Rs) == pytest.approx(expected, rel=1e-5)
    integral, _ = quad(lambda x: x / (1 + x) ** 2 / (1 + (x / tau) ** 2), 0, math.inf)
    assert halo.tnfw_total_mass(np.array([tau]))[0] == pytest.approx(integral, rel=1e-8)


def test_an_isothermal_halo_has_its_mass_within_r200() -> None:
    mass = np.array([1e8])
    theta_E, r200 = halo.sis_theta_E(mass, PLANE)[0], halo.radius_200(mass, PLANE)[0]
    # ρ = σ² / (2π G r²): M(< r) = 2/π of the projected mass
    assert 2 / math.pi * projected_mass(SIS(theta_E), r200) == pytest.approx(1e8, rel=1e-13)


def test_the_truncation_radius() -> None:
    kpc = halo.truncation_radius(np.array([1e7, 8e7]), 50.0, PLANE) * PLANE.kpc_per_arcsec
    np.testing.assert_allclose(kpc, [1.4, 2.8], rtol=1e-13)
    nearer = halo.truncation_radius(np.array([1e7]), 50.0 / 8, PLANE) * PLANE.kpc_per_arcsec
    np.testing.assert_allclose(nearer, 0.35, rtol=1e-13)


def test_warm_dark_matter() -> None:
    assert halo.half_mode_mass(3.0) == pytest.approx(5e8)
    assert halo.half_mode_mass(6.0) == pytest.approx(5e8 * 2 ** (-10 / 3))
    many, few = halo.mass_function_suppression(np.array([1e14, 5e8]), 5e8)
    assert many == pytest.approx(1, abs=1e-6)
    assert few == pytest.approx((1 + 4.2**2.5) ** -0.2, rel=1e-14)
    heavy, light = halo.concentration_suppression(np.array([1e16, 5e8]), 5e8, 0.5)
    assert heavy == pytest.approx(1.5**-0.027, abs=1e-5)
    assert light == pytest.approx(1.5**-0.027 * 61**-0.17, rel=1e-13)
