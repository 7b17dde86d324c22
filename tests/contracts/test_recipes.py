"""What every recipe, instrument and substructure population keeps to, those of tomorrow included."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import resources

import numpy as np
import pytest
import torch

from deeplense.instruments.instrument import load_instrument
from deeplense.recipes.draw import Drawn, draw, draw_parameters, expected_images
from deeplense.recipes.recipe import Recipe, Sample, load_recipe, shipped_recipes
from deeplense.sky.mass import MassProfile
from deeplense.sky.substructure import POPULATIONS

RECIPES = list(shipped_recipes())
INSTRUMENTS = [
    entry.name.removesuffix(".toml")
    for entry in resources.files("deeplense.instruments").iterdir()
    if entry.name.endswith(".toml")
]
SEED, PER_CLASS = 11, 3


def few(recipe: Recipe, split: str = "train") -> list[Sample]:
    """Return some samples of every class."""
    return [Sample(split, label, k) for k in range(PER_CLASS) for label in recipe.labels]


@cache
def drawn(name: str) -> Drawn:
    """Return the first images of a recipe."""
    recipe = load_recipe(name)
    return draw(recipe, SEED, few(recipe))


@contextmanager
def threads(n: int) -> Iterator[None]:
    """Compute with n threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_says_what_it_is(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name, "the file and the recipe have two names"
    assert recipe.version >= 1
    assert recipe.description
    assert recipe.reference
    assert recipe.labels
    assert sum(recipe.counts.as_dict().values()) > 0


@pytest.mark.parametrize("name", RECIPES)
def test_images_are_finite_and_of_the_declared_type(name: str) -> None:
    recipe, images = load_recipe(name), drawn(name)
    n = recipe.n_pixels
    assert images.image.shape == images.expected.shape == images.variance.shape
    assert images.image.shape[0] == PER_CLASS * len(recipe.labels)
    assert images.image.shape[-2:] == (n, n)
    for values in (images.image, images.expected, images.variance):
        assert values.dtype == torch.float32
        assert torch.isfinite(values).all()
    assert (images.variance >= 0).all()
    assert bool(images.variance.any()) == (recipe.observation.noise != "none")
    assert (images.expected.amax((1, 2, 3)) > 0).all(), "an image without any light"
    if recipe.observation.dtype == "uint16":
        stored = images.image.numpy().astype(np.uint16).astype(np.float32)
        np.testing.assert_array_equal(stored, images.image.numpy(), err_msg="uint16 does not hold the pixels exactly")


@pytest.mark.parametrize("name", RECIPES)
def test_expected_image_and_noise_have_one_unit(name: str) -> None:
    images = drawn(name)
    light = images.expected > 0.3 * images.expected.amax((1, 2, 3), keepdim=True)
    residual = (images.image - images.expected)[light]
    assert residual.abs().mean() < 0.6 * images.expected[light].mean(), "noise and expected image differ in unit"
    if images.variance.any():
        assert 0.8 < (residual**2 / images.variance[light]).mean() < 1.2, "the variance is not that of the residuals"
    else:
        assert not residual.any()


@pytest.mark.parametrize("name", RECIPES)
def test_every_drawn_parameter_appears_as_it_was_drawn(name: str) -> None:
    recipe, images = load_recipe(name), drawn(name)
    for sample, row in zip(few(recipe), images.parameters, strict=True):
        columns = draw_parameters(recipe, SEED, [sample])
        assert set(columns) >= set(recipe.priors())
        assert row == {column: values[0].tolist() for column, values in columns.items()}


@pytest.mark.parametrize("name", RECIPES)
def test_parameters_alone_give_the_expected_image_again(name: str) -> None:
    recipe, images = load_recipe(name), drawn(name)
    for row, sample in enumerate(few(recipe)[: len(recipe.labels)]):
        parameters = {column: np.array([value]) for column, value in images.parameters[row].items()}
        expected = expected_images(recipe, sample.label, parameters)
        scale = images.expected[row].max() / expected.max()  # exposure time or factor of the stored unit
        torch.testing.assert_close(scale * expected[0], images.expected[row, 0], rtol=1e-5, atol=1e-6 * float(scale))


@pytest.mark.parametrize("name", RECIPES)
def test_an_image_has_the_same_bits_in_any_company(name: str) -> None:
    recipe, all_images = load_recipe(name), drawn(name)
    samples = few(recipe)
    batches = [[row] for row in range(len(samples))] + [list(range(len(samples)))[::-1], [4, 0, 5], [1, 1]]
    for n_threads, rows in ((n, rows) for n in (1, 3) for rows in (batches if n == 1 else batches[-3:])):
        with threads(n_threads):
            some = draw(recipe, SEED, [samples[row % len(samples)] for row in rows])
        for field in ("image", "expected", "variance"):
            same = torch.equal(getattr(some, field), getattr(all_images, field)[[row % len(samples) for row in rows]])
            assert same, f"{field}: rows {rows} with {n_threads} threads have other bits"


@pytest.mark.parametrize("name", RECIPES)
def test_seed_split_class_and_number_each_give_another_image(name: str) -> None:
    recipe = load_recipe(name)
    label = recipe.labels[-1]
    first = draw(recipe, SEED, [Sample("train", label, 0)])
    others = {
        "seed": draw(recipe, SEED + 1, [Sample("train", label, 0)]),
        "split": draw(recipe, SEED, [Sample("test", label, 0)]),
        "number": draw(recipe, SEED, [Sample("train", label, 1)]),
    }
    if len(recipe.labels) > 1:
        others["class"] = draw(recipe, SEED, [Sample("train", recipe.labels[0], 0)])
    for what, other in others.items():
        assert not torch.equal(first.expected, other.expected), f"another {what} has the same scene"
        assert not torch.equal(first.image, other.image), f"another {what} has the same image"


@pytest.mark.parametrize("name", RECIPES)
def test_a_larger_set_contains_the_smaller(name: str) -> None:
    recipe = load_recipe(name)
    small, large = (
        dataclasses.replace(recipe, counts=dataclasses.replace(recipe.counts, train=n, validation=1, test=n - 1))
        for n in (2, 3)
    )
    assert set(small.samples()) < set(large.samples())
    everything = draw(large, SEED, large.samples())
    position = {sample: row for row, sample in enumerate(large.samples())}
    part = draw(small, SEED, small.samples())
    rows = [position[sample] for sample in small.samples()]
    assert torch.equal(part.image, everything.image[rows])
    assert part.parameters == [everything.parameters[row] for row in rows]


@pytest.mark.parametrize("name", [name for name in RECIPES if f"{name}_noiseless" in RECIPES])
def test_a_noiseless_twin_shows_the_same_scenes(name: str) -> None:
    noisy, clean, scale = drawn(name), drawn(f"{name}_noiseless"), load_recipe(f"{name}_noiseless").observation.scale
    assert noisy.parameters == clean.parameters
    assert torch.equal(noisy.expected * scale, clean.image)
    assert torch.equal(clean.expected, clean.image)


@pytest.mark.parametrize("name", INSTRUMENTS)
def test_an_instrument_says_what_it_is_and_where_its_numbers_come_from(name: str) -> None:
    instrument = load_instrument(name)
    assert instrument.description
    assert len(instrument.reference) > 10, "no source is given for the numbers"
    assert type(instrument).from_mapping(instrument.as_dict()) == instrument
    assert instrument.background_sigma() > 0


@pytest.mark.parametrize("kind", list(POPULATIONS))
def test_a_population_draws_what_it_declares(kind: str) -> None:
    population = POPULATIONS[kind]()
    uniforms = np.random.default_rng(0).random((5, population.n_uniforms))
    parameters = population.draw(uniforms)
    for column, values in parameters.items():
        assert column.replace("_", "").isalnum()
        assert values.dtype == np.float64, column
        assert values.shape[0] == 5, column
        assert values.ndim in (1, 2), column
        assert np.isfinite(values).all(), column
    x = torch.linspace(-1, 1, 6, dtype=torch.float64)[None, :]
    for profile in population.profiles(parameters, 1.6e-12, x):
        assert isinstance(profile, MassProfile)
        for component in profile.deflection(x, x.T):
            assert component.shape == (5, 6, 6)
            assert component.dtype == torch.float64
            assert torch.isfinite(component).all()


@pytest.mark.parametrize("kind", list(POPULATIONS))
def test_a_population_uses_every_random_number_it_asks_for(kind: str) -> None:
    population = POPULATIONS[kind]()
    uniforms = np.full((1, population.n_uniforms), 0.3)
    start = population.draw(uniforms)
    for index in range(population.n_uniforms):
        moved = uniforms.copy()
        moved[0, index] = 0.7
        changed = [not np.array_equal(start[column], values) for column, values in population.draw(moved).items()]
        assert any(changed), f"random number {index} changes nothing"
