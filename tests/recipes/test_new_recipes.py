"""The recipes whose constants are ours keep to the statistics that they claim."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from deeplense.recipes.draw import Drawn, draw, draw_images, streams_of
from deeplense.recipes.recipe import Recipe, Sample, load_recipe
from deeplense.recipes.scenes import draw_parameters

PHYSICAL = ("model_i_physical", "model_ii_physical", "model_iii_physical")
COLUMNS = {  # of the catalogue, by class: those that tell the classes apart, and some of those that all have
    **{
        name: {
            "no_sub": {"source_center_x", "source_center_y"},
            "cdm": {"source_center_x", "halo_mass", "halo_x", "halo_y"},
            "axion": {"source_center_x", "axion_mass", "vortex_angle", "vortex_half_length"},
        }
        for name in PHYSICAL
    },
    "galaxy_scale": {
        "no_sub": {"lens_theta_E", "lens_slope", "lens_galaxy_magnitude", "companion_present"},
        "cdm": {"lens_theta_E", "halo_mass"},
        "wdm": {"lens_theta_E", "halo_mass"},
    },
    "super_resolution": {"lens": {"source_center_x", "halo_mass"}},
    "common_test": {
        "no_sub": {"lens_e1", "source_e1"},
        "cdm": {"lens_e1", "halo_mass"},
        "axion": {"lens_e1", "axion_mass"},
    },
    "test5": {"no_sub": {"source_magnitude", "lens_gamma1"}, "sub": {"source_magnitude", "lens_gamma1", "halo_mass"}},
    "lens_finding": {
        "nonlens": {"galaxy_magnitude", "spiral_present", "ring_present", "companion_present"},
        "lens": {"galaxy_magnitude", "lens_theta_E", "source_magnitude", "companion_present"},
    },
    "lens_finding_4band": {
        "nonlens": {"galaxy_color_3", "spiral_color_1"},
        "lens": {"galaxy_color_1", "source_color_3", "lens_theta_E"},
    },
    "lens_finding_gri": {
        "nonlens": {"galaxy_color_2", "satellite_magnitude"},
        "lens": {"galaxy_color_1", "source_color_2", "lens_theta_E"},
    },
}
SEED = 0


def some(recipe: Recipe, n: int) -> list[Sample]:
    """Return the first n training images of every class."""
    return [Sample("train", label, k) for label in recipe.labels for k in range(n)]


def drawn(name: str, n: int) -> Drawn:
    """Return the first n training images of every class."""
    recipe = load_recipe(name)
    return draw(recipe, SEED, some(recipe, n))


@pytest.mark.parametrize("name", COLUMNS)
def test_it_draws_what_it_describes(name: str) -> None:
    recipe = load_recipe(name)
    assert set(recipe.labels) == set(COLUMNS[name])
    assert recipe.quirks, "nothing says which numbers are ours"
    images = drawn(name, 2)
    assert images.image.shape[1:] == recipe.image_shape
    assert torch.isfinite(images.image).all()
    for sample, row in zip(some(recipe, 2), images.parameters, strict=True):
        assert set(row) >= COLUMNS[name][sample.label]


@pytest.mark.parametrize("name", COLUMNS)
def test_the_same_seed_gives_the_same_pixels(name: str) -> None:
    recipe = load_recipe(name)
    samples = some(recipe, 1)
    first, again = draw_images(recipe, 3, samples), draw_images(recipe, 3, samples)
    other = draw_images(recipe, 4, samples)
    for key in first:
        assert torch.equal(first[key], again[key])
        assert not torch.equal(first[key], other[key])


@pytest.mark.parametrize("name", PHYSICAL)
def test_the_physical_models_have_physical_lenses(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.lens.deflection_scale == 1
    assert recipe.lens.theta_E == pytest.approx(math.sqrt(1e12 * recipe.lens.plane.theta_E2_per_solar_mass), rel=1e-4)
    assert recipe.n_pixels == load_recipe(name.removesuffix("_physical")).n_pixels
    images = drawn(name, 4)
    assert ((images.image - images.expected) ** 2 / images.variance).mean().item() == pytest.approx(1, abs=0.02)


def test_the_physical_subhaloes_are_a_poisson_number_of_a_steep_law() -> None:
    recipe = load_recipe("model_ii_physical")
    streams = streams_of(SEED, [Sample("train", "cdm", k) for k in range(2000)])
    mass = draw_parameters(recipe, "cdm", streams)["halo_mass"]
    count = np.isfinite(mass).sum(1)
    assert count.mean() == pytest.approx(29.2, abs=0.6)
    assert count.var() == pytest.approx(count.mean(), rel=0.15)
    found = mass[np.isfinite(mass)]
    assert 1e8 <= found.min() < 1.01e8
    assert found.max() <= 1e10
    low, high = found.min(), 1e10  # maximum-likelihood exponent, by the median of a truncated power law
    half = ((low**-0.9 + high**-0.9) / 2) ** (1 / -0.9)
    assert np.median(found) == pytest.approx(half, rel=0.02)


def test_warm_dark_matter_has_fewer_small_subhaloes() -> None:
    recipe = load_recipe("galaxy_scale")
    plane = recipe.lens.plane
    counts = {label: recipe.population(label).expected_count(plane) for label in ("cdm", "wdm")}  # type: ignore[attr-defined]
    assert counts["wdm"] < 0.6 * counts["cdm"]


@pytest.mark.parametrize(
    ("name", "n", "mean", "sigma", "variance"),
    [("super_resolution", 40, 0.062, 0.121, 7.7e-5), ("common_test", 14, 0.0617, 0.117, None)],
)
def test_scaled_recipes_have_the_published_mean_spread_and_noise(
    name: str, n: int, mean: float, sigma: float, variance: float | None
) -> None:
    images = drawn(name, n)
    assert images.image.amin((1, 2, 3)).unique().tolist() == [0.0]
    assert images.image.amax((1, 2, 3)).unique().tolist() == [1.0]
    assert images.image.mean().item() == pytest.approx(mean, rel=0.05)
    assert images.image.std().item() == pytest.approx(sigma, rel=0.05)
    if variance is not None:
        assert images.variance.mean().item() == pytest.approx(variance, rel=0.07)


def test_super_resolution_pairs_keep_mean_and_noise() -> None:
    recipe = load_recipe("super_resolution")
    arrays = draw_images(recipe, SEED, some(recipe, 30))
    fine, coarse, truth = arrays["image"], arrays["low"], arrays["truth"]
    assert coarse.shape[-2:] == (75, 75)
    assert coarse.mean().item() == pytest.approx(fine.mean().item(), rel=1e-5)
    assert (coarse.std() / fine.std()).item() == pytest.approx(1.0005, abs=5e-4)
    up = torch.nn.functional.interpolate(coarse, scale_factor=2, mode="bicubic", align_corners=False)
    noisy, clean = (-10 * torch.log10(((up - other) ** 2).mean((1, 2, 3))).mean().item() for other in (fine, truth))
    assert noisy == pytest.approx(41.45, abs=0.3)
    assert clean == pytest.approx(44.8, abs=0.4)


def test_test5_has_the_statistics_of_the_published_images() -> None:
    # published, 1,000 images: mean 0.0223, sigma 0.060, sky 0.0044 of the peak; the peak is the centre of the lens
    recipe = load_recipe("test5")
    images = draw(recipe, SEED, [Sample("train", "no_sub", k) for k in range(60)]).image[:, 0]
    assert images.mean().item() == pytest.approx(0.0223, rel=0.1)
    assert images.std().item() == pytest.approx(0.060, rel=0.1)
    assert images[:, :15, :15].mean().item() == pytest.approx(0.0042, abs=0.0006)
    peaks = images.flatten(1).argmax(1)
    central = ((peaks // 150 - 74.5).abs() < 1.6) & ((peaks % 150 - 74.5).abs() < 1.6)
    assert central.float().mean() > 0.9
    profile = images.mean(0)
    assert profile[74:76].mean(0)[98:106].mean() > 1.4 * profile[:, 74:76].mean(1)[98:106].mean(), (
        "the ring is wider in x"
    )


def test_test5_has_wider_rings_with_substructure() -> None:
    # published, smooth lenses fitted: 1.198 ± 0.010 and 1.289 ± 0.011 arcsec
    recipe = load_recipe("test5")
    streams = streams_of(SEED, [Sample("train", "sub", k) for k in range(500)])
    columns = draw_parameters(recipe, "sub", streams)
    smooth, added = recipe.lens.theta_E, recipe.lens.plane.theta_E2_per_solar_mass * columns["halo_mass"].sum(1)
    assert np.hypot(columns["halo_x"], columns["halo_y"]).max() < 0.8 * smooth, "none among the arcs"
    ring = smooth / 2 + np.sqrt(smooth**2 / 4 + added)  # where θ = θ_E + added / θ
    assert ring.mean() == pytest.approx(1.289, abs=0.004)
    assert ring.std() < 0.005
    assert np.percentile(columns["lens_gamma1"], [5, 95]) == pytest.approx([0.02, 0.27], abs=0.03)


@pytest.mark.parametrize("name", ["lens_finding", "lens_finding_4band", "lens_finding_gri"])
def test_only_lenses_have_arcs_and_only_others_have_spirals(name: str) -> None:
    recipe = load_recipe(name)
    assert set(recipe.lights("lens")) == {"source", "galaxy", "companion"}
    satellites = {"satellite"} if "_" in name.removeprefix("lens_") else set()
    assert set(recipe.lights("nonlens")) == {"galaxy", "spiral", "ring", "companion"} | satellites
    assert recipe.image_shape == ({"4band": 4, "gri": 3}.get(name.rpartition("_")[2], 1), 101, 101)
    rows = drawn(name, 16).parameters
    present = [row["spiral_present"] for row in rows if "spiral_present" in row]
    assert 0 < np.mean(present) < 1


def test_three_bands_are_those_of_four_without_the_first() -> None:
    four, three = load_recipe("lens_finding_4band"), load_recipe("lens_finding_gri")
    assert three.instruments() == four.instruments()[1:]
    magnitudes = {name: [colour_means(recipe, name) for recipe in (four, three)] for name in three.light}
    magnitudes["source"] = [colour_means(recipe, "source") for recipe in (four, three)]
    for one, other in magnitudes.values():
        assert one[1:] == pytest.approx(other), "the middle of every prior, band by band"


def colour_means(recipe: Recipe, name: str) -> list[float]:
    """Return the middle of the prior of a component's magnitude in every band."""
    component = recipe.as_dict()["source"] if name == "source" else recipe.as_dict()["light"][name]
    first = sum(component["magnitude"]["uniform"]) / 2
    return [first, *(first - colour["normal"][0] for colour in component["colors"])]


def test_lensed_sources_are_blue_and_lens_galaxies_red() -> None:
    recipe = load_recipe("lens_finding_4band")
    source, galaxy = (
        np.array(
            [[row[f"{who}_color_{k}"] for k in (1, 2, 3)] for row in drawn("lens_finding_4band", 3).parameters[3:]]
        )
        for who in ("source", "galaxy")
    )
    assert (source < galaxy).all(), recipe.labels
