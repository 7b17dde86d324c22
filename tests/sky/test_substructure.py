"""Populations: the laws their parameters follow."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from deeplense.core.errors import InvalidOption
from deeplense.sky.cosmology import LensPlane
from deeplense.sky.mass import PointMasses
from deeplense.sky.substructure import AxionVortex, NoSubstructure, PointMassSubhaloes
from deeplense.sky.vortex import Vortex

UNIFORMS = np.random.default_rng(1).random((400, 75))
LIKE = torch.zeros(0, dtype=torch.float64)
PLANE = LensPlane(0.5, 1.0, "deeplense_sim")


def test_a_smooth_lens_has_neither_parameters_nor_profiles() -> None:
    assert NoSubstructure().draw(UNIFORMS[:, :0], PLANE) == {}
    assert NoSubstructure().profiles({}, PLANE, LIKE) == ()


@pytest.mark.parametrize("exponent", [0.1, -0.9, 0.0, 1.0])
def test_subhalo_masses_follow_their_power_law(exponent: float) -> None:
    halo_mass = PointMassSubhaloes(mass_exponent=exponent).draw(UNIFORMS, PLANE)["halo_mass"].ravel()
    assert halo_mass.min() >= 1e6 * (1 - 1e-12)
    assert halo_mass.max() <= 1e10 * (1 + 1e-12)

    def cumulative(mass: np.ndarray) -> np.ndarray:  # of dN/dm ∝ m^(p − 1)
        if exponent == 0:
            return np.log(mass / 1e6) / np.log(1e4)
        return np.asarray((mass**exponent - 1e6**exponent) / (1e10**exponent - 1e6**exponent))

    assert stats.kstest(halo_mass, cumulative).pvalue > 1e-3


def test_subhaloes_are_uniform_in_radius_and_angle() -> None:
    drawn = PointMassSubhaloes().draw(UNIFORMS, PLANE)
    assert {values.shape for values in drawn.values()} == {(400, 25)}
    radius, angle = np.hypot(drawn["halo_x"], drawn["halo_y"]), np.arctan2(drawn["halo_x"], drawn["halo_y"])
    assert stats.kstest(radius.ravel(), stats.uniform(0.25, 1.75).cdf).pvalue > 1e-3
    assert stats.kstest(angle.ravel(), stats.uniform(-np.pi, 2 * np.pi).cdf).pvalue > 1e-3
    assert abs(stats.spearmanr(radius.ravel(), drawn["halo_mass"].ravel()).statistic) < 0.04, "mass depends on radius"


def test_subhaloes_become_point_masses_of_their_einstein_radius() -> None:
    drawn = PointMassSubhaloes(count=3).draw(UNIFORMS[:2, :9], PLANE)
    (points,) = PointMassSubhaloes(count=3).profiles(drawn, PLANE, LIKE)
    assert isinstance(points, PointMasses)
    theta_E2 = PLANE.theta_E2_per_solar_mass * drawn["halo_mass"]
    np.testing.assert_allclose(points.theta_E.numpy() ** 2, theta_E2, rtol=1e-14)
    np.testing.assert_array_equal(points.center_x.numpy(), drawn["halo_x"])
    np.testing.assert_array_equal(points.center_y.numpy(), drawn["halo_y"])


def test_the_vortex_has_its_published_range() -> None:
    drawn = AxionVortex().draw(UNIFORMS[:, :2], PLANE)
    assert stats.kstest(np.log10(drawn["axion_mass"]), stats.uniform(-24, 2).cdf).pvalue > 1e-3
    np.testing.assert_allclose(drawn["vortex_half_length"], 3e-24 / drawn["axion_mass"], rtol=1e-14)
    assert 0.03 * (1 - 1e-12) <= drawn["vortex_half_length"].min() < 0.04
    assert 2.5 < drawn["vortex_half_length"].max() <= 3 * (1 + 1e-12)
    assert stats.kstest(drawn["vortex_angle"], stats.uniform(-np.pi, 2 * np.pi).cdf).pvalue > 1e-3


def test_the_vortex_has_the_mass_it_is_given() -> None:
    population = AxionVortex(mass=2e10, n_beads=50)
    drawn = population.draw(UNIFORMS[:3, :2], PLANE)
    (vortex,) = population.profiles(drawn, PLANE, LIKE)
    assert isinstance(vortex, Vortex)
    assert vortex.theta_E == pytest.approx(math.sqrt(PLANE.theta_E2_per_solar_mass * 2e10), rel=1e-14)
    assert vortex.n_beads == 50
    np.testing.assert_array_equal(vortex.half_length.flatten().numpy(), drawn["vortex_half_length"])
    np.testing.assert_array_equal(vortex.direction_x.flatten().numpy(), np.cos(drawn["vortex_angle"]))
    np.testing.assert_array_equal(vortex.direction_y.flatten().numpy(), np.sin(drawn["vortex_angle"]))


def test_a_line_needs_two_beads() -> None:
    with pytest.raises(InvalidOption, match="n_beads is 1"):
        AxionVortex(n_beads=1)
