"""Subhaloes with a mass function: the laws of their number, masses and places."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from deeplense.core.errors import InvalidOption
from deeplense.sky import halo
from deeplense.sky.circular import SIS, ConvergenceSheet
from deeplense.sky.cosmology import LensPlane
from deeplense.sky.mass_function import SubhaloPopulation
from deeplense.sky.nfw import NFW, TNFW
from deeplense.sky.subhaloes import Subhaloes
from deeplense.sky.substructure import POPULATIONS, Parameters

PLANE = LensPlane(0.5, 1.0)
FEW: dict[str, Any] = {"mass": (1e8, 1e10), "radius": 2.0}  # about 12 per image
LIKE = torch.zeros(0, dtype=torch.float64)
AXIS = torch.linspace(-2, 2, 12, dtype=torch.float64)


def drawn(population: SubhaloPopulation, images: int, seed: int = 0) -> Parameters:
    """Return the parameters of images."""
    uniforms = np.random.default_rng(seed).random((images, population.n_uniforms(PLANE)))
    return population.draw(uniforms, PLANE)


def present(values: np.ndarray) -> np.ndarray:
    """Return what is not padding."""
    return np.asarray(values[np.isfinite(values)])


def test_it_is_registered() -> None:
    assert POPULATIONS["subhaloes"] is SubhaloPopulation


def test_the_expected_count_is_the_integral_of_the_mass_function() -> None:
    population = SubhaloPopulation(mass=(1e6, 1e10), slope=-1.9, sigma_sub=0.02, radius=1.5)
    area = math.pi * (1.5 * PLANE.kpc_per_arcsec) ** 2
    exact = area * 0.02 / 0.9 * ((1e6 / 1e8) ** -0.9 - (1e10 / 1e8) ** -0.9)
    assert population.expected_count(PLANE) == pytest.approx(exact, rel=1e-6)
    flat = SubhaloPopulation(mass=(1e6, 1e10), slope=-1.0, sigma_sub=0.02, radius=1.5)
    assert flat.expected_count(PLANE) == pytest.approx(area * 0.02 * math.log(1e4), rel=1e-12)


def test_the_number_is_poisson() -> None:
    population = SubhaloPopulation(**FEW)
    mean = population.expected_count(PLANE)
    counts = np.isfinite(drawn(population, 20000)["halo_mass"]).sum(1)
    assert 8 < mean < 16
    assert counts.mean() == pytest.approx(mean, abs=4 * math.sqrt(mean / 20000))
    assert counts.var() == pytest.approx(mean, rel=4 * math.sqrt(2 / 20000))
    bins = np.arange(4, 25)
    seen, expected = np.array([(counts == n).mean() for n in bins]), stats.poisson(mean).pmf(bins)
    np.testing.assert_allclose(seen, expected, atol=4 * np.sqrt(expected.max() / 20000))


@pytest.mark.parametrize("sigma_sub", [0.0, 1e-4, 0.025, 1.0])
def test_slots_are_enough_and_not_many_more(sigma_sub: float) -> None:
    population = SubhaloPopulation(**FEW, sigma_sub=sigma_sub)
    law, slots = stats.poisson(population.expected_count(PLANE)), population.slots(PLANE)
    assert population.n_uniforms(PLANE) == 1 + 3 * slots
    assert law.sf(slots) < 1e-12
    assert slots == 0 or law.sf(slots - 1) >= 1e-12
    most = population.draw(np.full((1, 1 + 3 * slots), 1 - 2**-53), PLANE)
    assert np.isfinite(most["halo_mass"]).all(), "the largest uniform number fills every slot"


def test_too_many_subhaloes_are_refused() -> None:
    with pytest.raises(InvalidOption, match="on average"):
        SubhaloPopulation(mass=(1e4, 1e10)).slots(PLANE)


@pytest.mark.parametrize("slope", [-1.9, -1.0, -0.5])
def test_masses_follow_their_power_law(slope: float) -> None:
    population = SubhaloPopulation(**FEW, slope=slope)
    mass = present(drawn(population, 400, seed=1)["halo_mass"])
    assert mass.min() >= 1e8
    assert mass.max() <= 1e10

    def cumulative(m: np.ndarray) -> np.ndarray:
        if slope == -1:
            return np.log(m / 1e8) / math.log(1e2)
        return np.asarray((m ** (slope + 1) - 1e8 ** (slope + 1)) / (1e10 ** (slope + 1) - 1e8 ** (slope + 1)))

    assert len(mass) > 2000
    assert stats.kstest(mass, cumulative).pvalue > 1e-3
    # and without chance: the first slot of an image inverts the law
    u = np.full((101, population.n_uniforms(PLANE)), 0.99)
    u[:, 1] = np.linspace(0, 1, 101)
    np.testing.assert_allclose(cumulative(population.draw(u, PLANE)["halo_mass"][:, 0]), u[:, 1], atol=1e-6)


def test_places_are_uniform_in_area() -> None:
    parameters = drawn(SubhaloPopulation(**FEW), 400)
    x, y = present(parameters["halo_x"]), present(parameters["halo_y"])
    assert stats.kstest(np.hypot(x, y) ** 2 / 4, "uniform").pvalue > 1e-3
    assert stats.kstest(np.arctan2(y, x) / (2 * math.pi) + 0.5, "uniform").pvalue > 1e-3
    assert abs(stats.spearmanr(np.hypot(x, y), present(parameters["halo_mass"])).statistic) < 0.06


def test_warm_dark_matter_has_fewer_small_subhaloes() -> None:
    cold, warm = (SubhaloPopulation(mass=(1e7, 1e10), wdm_mass=keV) for keV in (None, 4.0))
    few, many = (present(drawn(population, 400)["halo_mass"]) for population in (warm, cold))
    half_mode = halo.half_mode_mass(4.0)
    for low, high in ((1e7, 2e7), (1e8, 2e8), (1e9, 1e10)):
        seen = [((masses > low) & (masses < high)).sum() for masses in (few, many)]
        suppression = halo.mass_function_suppression(np.geomspace(low, high, 200), half_mode)
        weight = np.geomspace(low, high, 200) ** -0.9
        expected = (suppression * weight).sum() / weight.sum()
        assert seen[0] / seen[1] == pytest.approx(expected, rel=4 * math.sqrt(1 / seen[0] + 1 / seen[1]))


def test_an_image_is_a_function_of_its_own_numbers() -> None:
    population = SubhaloPopulation(**FEW)
    uniforms = np.random.default_rng(3).random((5, population.n_uniforms(PLANE)))
    together, again = population.draw(uniforms, PLANE), population.draw(uniforms, PLANE)
    for image in range(5):
        alone = population.draw(uniforms[image : image + 1], PLANE)
        for name, column in together.items():
            np.testing.assert_array_equal(column[image], alone[name][0])
            np.testing.assert_array_equal(column, again[name])


def test_padding_stands_at_the_end_of_every_column() -> None:
    parameters = drawn(SubhaloPopulation(**FEW), 50)
    gaps = np.isnan(parameters["halo_mass"])
    assert gaps.any()
    assert (np.diff(gaps.astype(int), axis=1) >= 0).all(), "a subhalo after a gap"
    assert all(np.array_equal(np.isnan(column), gaps) for column in parameters.values())


@pytest.mark.parametrize("profile", ["point_mass", "sis", "nfw", "tnfw"])
def test_profiles_add_up_image_by_image(profile: Any) -> None:
    population = SubhaloPopulation(**FEW, profile=profile)
    parameters = drawn(population, 3)
    haloes, sheet = population.profiles(parameters, PLANE, LIKE)
    assert isinstance(haloes, Subhaloes)
    assert isinstance(sheet, ConvergenceSheet)
    alpha_x, alpha_y = haloes.deflection(AXIS[None, :], AXIS[:, None])
    assert alpha_x.dtype == torch.float64
    assert torch.isfinite(alpha_x).all()
    for image in range(3):
        own = {name: column[image : image + 1] for name, column in parameters.items()}
        alone, _ = population.profiles(own, PLANE, LIKE)
        one_x, one_y = alone.deflection(AXIS[None, :], AXIS[:, None])
        assert torch.equal(alpha_x[image], one_x[0])
        assert torch.equal(alpha_y[image], one_y[0])


def test_each_subhalo_is_the_profile_of_its_mass() -> None:
    mass = {"halo_mass": np.array([[1e9]]), "halo_x": np.array([[0.3]]), "halo_y": np.array([[-0.2]])}
    x, y = AXIS[None, :], AXIS[:, None]
    one = np.array([1e9])
    Rs, alpha_Rs = (v[0] for v in halo.nfw_parameters(one, halo.concentration(one, PLANE), PLANE))
    r_trunc = halo.truncation_radius(one, 50.0, PLANE)[0]
    expected = {
        "sis": SIS(halo.sis_theta_E(one, PLANE)[0], 0.3, -0.2),
        "nfw": NFW(Rs, alpha_Rs, 0.3, -0.2),
        "tnfw": TNFW(Rs, alpha_Rs, r_trunc, 0.3, -0.2),
    }
    for name, profile in expected.items():
        population = SubhaloPopulation(**FEW, profile=name, mass_sheet="none")  # type: ignore[arg-type]
        (haloes,) = population.profiles(mass, PLANE, LIKE)
        torch.testing.assert_close(haloes.deflection(x, y)[0][0, 0], profile.deflection(x, y)[0], rtol=1e-13, atol=0)
    warm, cold = (SubhaloPopulation(**FEW, profile="nfw", wdm_mass=keV) for keV in (2.0, None))
    (diffuse, _), (dense, _) = (population.profiles(mass, PLANE, LIKE) for population in (warm, cold))
    assert diffuse.parameters["Rs"] > dense.parameters["Rs"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("profile", ["point_mass", "tnfw"])
def test_the_sheet_takes_away_the_mean_mass_of_the_disc(profile: Any) -> None:
    population = SubhaloPopulation(**FEW, profile=profile)
    _, sheet = population.profiles(drawn(population, 2), PLANE, LIKE)
    assert isinstance(sheet, ConvergenceSheet)
    mass = present(drawn(population, 20000)["halo_mass"])
    if profile == "tnfw":
        c200 = halo.concentration(mass, PLANE)
        Rs, _ = halo.nfw_parameters(mass, c200, PLANE)
        tau = halo.truncation_radius(mass, 50.0, PLANE) / Rs
        mass = mass / halo.nfw_mass(c200) * halo.tnfw_total_mass(tau)
    kappa = mass.sum() / 20000 / (math.pi * 2.0**2) / PLANE.critical_density
    assert torch.as_tensor(sheet.kappa).shape == (2, 1, 1, 1)
    spread = math.sqrt((mass**2).sum()) / mass.sum()  # of a sum of a Poisson number of masses
    assert -torch.as_tensor(sheet.kappa)[0].item() == pytest.approx(kappa, rel=4 * spread)
    assert len(SubhaloPopulation(**FEW, mass_sheet="none").profiles(drawn(population, 2), PLANE, LIKE)) == 1


def test_no_subhalo_at_all_is_possible() -> None:
    population = SubhaloPopulation(**FEW, sigma_sub=0.0)
    assert population.n_uniforms(PLANE) == 1
    haloes, sheet = population.profiles(drawn(population, 2), PLANE, LIKE)
    assert not haloes.deflection(AXIS[None, :], AXIS[:, None])[0].any()
    assert not sheet.deflection(AXIS[None, :], AXIS[:, None])[0].any()


def test_masses_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(InvalidOption, match=r"mass is \[1e\+10, 1e\+06\]"):
        SubhaloPopulation(mass=(1e10, 1e6))
