"""From the scene to what is stored: groups, rescaling, pairs, samples per pixel, exposure."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from deeplense.core.degradation import Degradation, Method
from deeplense.recipes import draw as drawing
from deeplense.recipes.draw import draw, draw_images, group_size, rescaled
from deeplense.recipes.parts import Observation
from deeplense.recipes.recipe import Recipe, Sample, load_recipe, shipped_recipes

TABLE: dict[str, Any] = {
    "name": "mine",
    "version": 1,
    "description": "a recipe",
    "reference": "this test",
    "instrument": "published_ii",
    "n_pixels": 17,  # odd: the last numbers of a tensor are those a processor may compute in another way
    "lens": {"theta_E": 0.6, "slope": {"uniform": [1.8, 2.2]}, "e1": {"uniform": [-0.2, 0.2]}},
    "source": {"R_sersic": 0.2, "magnitude": 20.0, "center_x": {"uniform": [-0.2, 0.2]}},
    "light": {
        "spiral": {"kind": "spiral", "R_sersic": 0.3, "magnitude": 22.0, "center_y": {"uniform": [-0.5, 0.5]}},
        "ring": {"kind": "ring", "R_sersic": {"uniform": [0.4, 0.6]}, "magnitude": 22.0, "probability": 0.5},
    },
    "observation": {"noise": "poisson_and_background"},
    "classes": {
        "cdm": {"kind": "subhaloes", "mass": [1e8, 1e10], "radius": 1.0},
        "axion": {"kind": "axion_vortex"},
        "points": {"kind": "point_masses", "count": 30},
        "field": {"lensed": False},
    },
}


def recipe_of(**parts: Any) -> Recipe:
    """Return the recipe with some parts changed."""
    return Recipe.from_mapping(TABLE | parts)


def some(recipe: Recipe, n: int) -> list[Sample]:
    """Return the first samples, classes alternating."""
    return [Sample("train", label, k) for k in range(n) for label in recipe.labels]


# groups


@pytest.mark.parametrize("noise", ["none", "background_and_shot", "poisson_and_background", "double_shot_counts"])
def test_images_do_not_know_how_they_are_grouped(noise: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = recipe_of(observation={"noise": noise})
    samples = some(recipe, 7)
    together = draw(recipe, 0, samples)
    for size in (1, 2, 3, 7):
        monkeypatch.setattr(drawing, "group_size", lambda recipe, size=size: size)
        order = np.random.default_rng(size).permutation(len(samples))
        again = draw(recipe, 0, [samples[row] for row in order])
        for field in ("image", "expected", "variance"):
            assert torch.equal(getattr(again, field), getattr(together, field)[torch.from_numpy(order)]), field
        assert str(again.parameters) == str([together.parameters[row] for row in order])


@pytest.mark.parametrize("name", list(shipped_recipes()))
def test_groups_take_little_memory(name: str) -> None:
    recipe = load_recipe(name)
    channels, height, width = recipe.image_shape
    n = group_size(recipe)
    assert 1 <= n * channels * height * width * recipe.observation.supersampling**2 <= 8 * drawing.GROUP_PIXELS
    assert n * height * width > 60_000, "so few that the work is mostly overhead"


@pytest.mark.parametrize("n_pixels", [16, 17, 18, 20, 33, 75, 150, 333, 1001, 4095])
@pytest.mark.parametrize("supersampling", [1, 2, 3])
@pytest.mark.parametrize("bands", [1, 3])
def test_a_group_is_whole_vectors_of_pixels_or_one_image(n_pixels: int, supersampling: int, bands: int) -> None:
    # what is left over after the last whole vector is compiled to other instructions, which may round otherwise
    observation = {"noise": "none", "supersampling": supersampling}
    recipe = recipe_of(n_pixels=n_pixels, instrument=("rubin_g",) * bands, observation=observation)
    n = group_size(recipe)
    assert n == 1 or n * n_pixels**2 % 16 == 0
    assert n == 1 or n * bands * (n_pixels * supersampling) ** 2 <= 8 * drawing.GROUP_PIXELS


def test_the_precision_is_the_one_asked_for() -> None:
    recipe = recipe_of()
    single, double = (draw(recipe, 0, some(recipe, 2), dtype) for dtype in (torch.float32, torch.float64))
    assert single.image.dtype == torch.float32
    assert double.image.dtype == torch.float64
    peak = double.expected.amax((1, 2, 3), keepdim=True)
    assert ((single.expected - double.expected).abs() / peak).max() < 1e-4
    assert str(single.parameters) == str(double.parameters)


# rescaling


@pytest.mark.parametrize("noise", ["none", "background_and_shot"])
def test_min_max_maps_every_band_to_zero_and_one(noise: str) -> None:
    bands = ("rubin_g", "rubin_r")
    plain = recipe_of(instrument=bands, observation={"noise": noise})
    scaled = recipe_of(instrument=bands, observation={"noise": noise, "rescale": "min_max"})
    before, after = (draw(recipe, 0, some(recipe, 2)) for recipe in (plain, scaled))
    assert (after.image.amin((-2, -1)) == 0).all()
    assert (after.image.amax((-2, -1)) == 1).all()
    low, high = before.image.amin((-2, -1), keepdim=True), before.image.amax((-2, -1), keepdim=True)
    torch.testing.assert_close(after.image, (before.image - low) / (high - low))
    torch.testing.assert_close(after.expected, (before.expected - low) / (high - low))
    torch.testing.assert_close(after.variance, before.variance / (high - low) ** 2)
    assert str(before.parameters) == str(after.parameters)


def test_a_dark_image_is_rescaled_to_zero() -> None:
    recipe = recipe_of(classes={"dark": {"lensed": False, "light": []}}, observation={"noise": "none"})
    recipe = dataclasses.replace(recipe, observation=Observation(noise="none", rescale="min_max"))
    drawn = draw(recipe, 0, some(recipe, 2))
    for values in (drawn.image, drawn.expected, drawn.variance):
        assert not values.any()


def test_without_rescaling_nothing_is_touched() -> None:
    image, expected, variance = torch.rand(3, 2, 1, 4, 4)
    assert all(
        one is other
        for one, other in zip(
            rescaled(recipe_of(), image, expected, variance), (image, expected, variance), strict=True
        )
    )


# pairs


@pytest.mark.parametrize("method", ["bicubic", "area"])
@pytest.mark.parametrize("rescale", ["none", "min_max"])
def test_a_pair_is_the_image_the_coarser_image_and_the_truth(method: Method, rescale: str) -> None:
    observation = {"noise": "background_and_shot", "rescale": rescale}
    recipe = recipe_of(n_pixels=18, pair={"factor": 3, "method": method}, observation=observation)
    stored, drawn = draw_images(recipe, 0, some(recipe, 2)), draw(recipe, 0, some(recipe, 2))
    assert {name: values.shape[1:] for name, values in stored.items()} == {
        "image": (1, 18, 18),
        "low": (1, 6, 6),
        "truth": (1, 18, 18),
    }
    assert torch.equal(stored["image"], drawn.image)
    assert torch.equal(stored["truth"], drawn.expected)
    assert torch.equal(stored["low"], Degradation(3, method)(drawn.image))
    alone = draw_images(recipe, 0, some(recipe, 2)[3:4])
    for name, values in alone.items():
        assert torch.equal(values[0], stored[name][3])


def test_a_pair_must_fit_the_pixels() -> None:
    assert recipe_of(n_pixels=18).array_shapes() == {"image": (1, 18, 18)}
    shapes = dataclasses.replace(recipe_of(n_pixels=18), pair=Degradation(factor=9)).array_shapes()
    assert shapes["low"] == (1, 2, 2)


# samples and exposure


def test_more_samples_approach_the_integral_over_each_pixel() -> None:
    images = {
        s: draw(recipe, 0, some(recipe, 2), torch.float64).expected
        for s in (1, 2, 4, 16)
        for recipe in [recipe_of(observation={"noise": "none", "supersampling": s})]
    }
    errors = {s: (images[s] - images[16]).abs().max().item() for s in (1, 2, 4)}
    assert errors[1] > 3 * errors[2] > 6 * errors[4] > 0


def test_a_fixed_lens_is_the_same_whether_tabulated_or_computed() -> None:
    lens = {"theta_E": 0.6, "e1": 0.1, "gamma1": 0.05}
    for supersampling in (1, 3):
        observation = {"noise": "none", "supersampling": supersampling}
        table = recipe_of(lens=lens, observation=observation, classes={"no_sub": {}})
        varied = recipe_of(lens=lens | {"e1": {"uniform": [0.1, 0.1]}}, observation=observation, classes={"no_sub": {}})
        drawn = draw(varied, 0, some(varied, 2), torch.float64)
        parameters = {name: np.array([row[name] for row in drawn.parameters]) for name in drawn.parameters[0]}
        parameters.pop("lens_e1")
        again = drawing.expected_images(table, "no_sub", parameters, torch.float64)
        torch.testing.assert_close(again, drawn.expected, rtol=1e-10, atol=1e-13)


def test_a_drawn_exposure_reaches_every_band() -> None:
    observation = {"noise": "background_and_shot", "exposure_time": {"log_uniform": [10.0, 1e4]}}
    recipe = recipe_of(instrument=("rubin_g", "rubin_r"), observation=observation)
    drawn = draw(recipe, 0, some(recipe, 3), torch.float64)
    seconds = torch.tensor([row["exposure_time"] for row in drawn.parameters], dtype=torch.float64)
    assert seconds.min() < 100 < 1000 < seconds.max()
    for k, band in enumerate(recipe.instruments()):
        shot = (drawn.variance[:, k] - band.background_sigma() ** 2) * seconds[:, None, None]
        torch.testing.assert_close(shot, drawn.expected[:, k], rtol=1e-6, atol=1e-9)


def test_an_image_stores_counts_that_fit_its_type() -> None:
    observation = {"noise": "double_shot_counts", "dtype": "uint16", "exposure_time": 100.0}
    stored = draw_images(recipe_of(observation=observation), 0, some(recipe_of(), 2))["image"]
    assert torch.equal(stored, stored.round())
    assert stored.min() >= 0
    assert stored.max() > 10
