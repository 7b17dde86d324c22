"""Distances and Einstein radii, against the constants of the published datasets."""

from __future__ import annotations

import math

import pytest

from deeplense.sky.cosmology import comoving_distance, theta_E2_per_solar_mass


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
