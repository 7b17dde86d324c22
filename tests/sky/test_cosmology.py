"""Distances and Einstein radii, against the constants of the published datasets."""

from __future__ import annotations

import math

import pytest

from deeplense.sky.cosmology import LensPlane, comoving_distance, theta_E2_per_solar_mass


def test_both_conventions_have_their_known_values() -> None:
    published = theta_E2_per_solar_mass(0.5, 1.0, "deeplense_sim")
    physical = theta_E2_per_solar_mass(0.5, 1.0, "angular_diameter")
    assert published == pytest.approx(1.6422180748920957e-12, rel=1e-13)
    assert math.sqrt(1e12 * published) == pytest.approx(1.2814905676172945, rel=1e-13)
    assert math.sqrt(1e12 * physical) == pytest.approx(1.6645, abs=5e-5)
    assert math.sqrt(published / physical) == pytest.approx(0.770, abs=5e-4)


def test_the_deflection_scale_of_models_ii_and_iii_is_a_ratio_of_distances() -> None:
    # reduced deflections for a source at z = 2.5, seen with a source at z = 1, in the flat ΛCDM with Ω_m = 0.2814 that
    # the published generator takes for its rays
    def reach(z: float) -> float:
        lens, source = (comoving_distance(redshift, 69.7, 0.2814) for redshift in (0.5, z))
        return (source - lens) / source

    assert reach(1.0) / reach(2.5) == pytest.approx(0.6343147665739444, rel=1e-9)


def test_distances_have_their_limits() -> None:
    assert comoving_distance(1e-4) == pytest.approx(299792.458 / 70 * 1e-4, rel=1e-4), "Hubble's law"
    einstein_de_sitter = 2 * 299792.458 / 70 * (1 - 1 / math.sqrt(4))
    assert comoving_distance(3.0, 70.0, 1.0) == pytest.approx(einstein_de_sitter, rel=1e-12)
    assert comoving_distance(1.0, H0=35.0) == pytest.approx(2 * comoving_distance(1.0, H0=70.0), rel=1e-14)


@pytest.mark.parametrize("convention", ["angular_diameter", "deeplense_sim"])
def test_a_source_at_the_lens_is_not_lensed(convention: str) -> None:
    near, far = (theta_E2_per_solar_mass(0.5, z, convention) for z in (0.5 + 1e-9, 1.0))  # type: ignore[arg-type]
    assert 0 < near < 1e-7 * far


@pytest.mark.parametrize(("z_lens", "z_source", "H0", "Omega_m"), [(0.5, 1.0, 70.0, 0.3), (0.2, 2.5, 67.4, 0.315)])
def test_a_lens_plane_has_the_lengths_and_densities_of_astropy(
    z_lens: float, z_source: float, H0: float, Omega_m: float
) -> None:
    astropy_cosmology = pytest.importorskip("astropy.cosmology")
    from astropy import constants, units

    universe = astropy_cosmology.FlatLambdaCDM(H0=H0, Om0=Omega_m)
    plane = LensPlane(z_lens, z_source, "angular_diameter", H0, Omega_m)
    kpc_per_arcsec = universe.kpc_proper_per_arcmin(z_lens).to_value(units.kpc / units.arcsec)
    assert plane.kpc_per_arcsec == pytest.approx(kpc_per_arcsec, rel=1e-12)
    density = universe.critical_density(z_lens).to_value(units.Msun / units.kpc**3)
    assert plane.critical_density_of_the_universe == pytest.approx(density, rel=2e-6), "astropy's G M_sun has 6 digits"
    d_l, d_s = (universe.angular_diameter_distance(z) for z in (z_lens, z_source))
    d_ls = universe.angular_diameter_distance(z_lens, z_source)
    sigma = (constants.c**2 / (4 * math.pi * constants.G) * d_s / (d_l * d_ls)).to_value(units.Msun / units.kpc**2)
    assert plane.critical_density == pytest.approx(sigma * kpc_per_arcsec**2, rel=2e-6)


@pytest.mark.parametrize("convention", ["angular_diameter", "deeplense_sim"])
def test_the_einstein_radius_holds_the_critical_density(convention: str) -> None:
    plane = LensPlane(0.5, 1.0, convention)  # type: ignore[arg-type]
    assert plane.theta_E2_per_solar_mass == theta_E2_per_solar_mass(0.5, 1.0, convention)  # type: ignore[arg-type]
    theta_E2 = 1e12 * plane.theta_E2_per_solar_mass
    assert 1e12 / (math.pi * theta_E2) == pytest.approx(plane.critical_density, rel=1e-14)
    assert plane.kpc_per_arcsec == LensPlane(0.5, 1.0).kpc_per_arcsec, "a convention of deflections changes no length"
