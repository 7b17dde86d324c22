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
from deeplense.recipes.draw import Drawn, draw, draw_images, expected_images, streams_of
from deeplense.recipes.recipe import Recipe, Sample, load_recipe, shipped_recipes
from deeplense.recipes.scenes import draw_parameters
from deeplense.sky.cosmology import LensPlane
from deeplense.sky.mass import MassProfile
from deeplense.sky.substructure import POPULATIONS, Parameters, Population

RECIPES = list(shipped_recipes())
INSTRUMENTS = [
    entry.name.removesuffix(".toml")
    for entry in resources.files("deeplense.instruments").iterdir()
    if entry.name.endswith(".toml")
]
SEED, PER_CLASS = 11, 3
PLANE = LensPlane(0.5, 1.0)


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
    shape = (PER_CLASS * len(recipe.labels), *recipe.image_shape)
    assert images.image.shape == images.expected.shape == images.variance.shape == shape
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
        ratio = residual**2 / images.variance[light]
        assert abs(ratio.mean() - 1) < 5 * ratio.std() / len(ratio) ** 0.5, "the variance is not that of the residuals"
    else:
        assert not residual.any()


@pytest.mark.parametrize("name", RECIPES)
def test_every_drawn_parameter_appears_as_it_was_drawn(name: str) -> None:
    recipe, images = load_recipe(name), drawn(name)
    for sample, row in zip(few(recipe), images.parameters, strict=True):
        columns = draw_parameters(recipe, sample.label, streams_of(SEED, [sample]))
        assert set(columns) >= set(recipe.priors(sample.label))
        assert str(row) == str({column: values[0].tolist() for column, values in columns.items()})  # NaN is not NaN


@pytest.mark.parametrize("name", RECIPES)
def test_parameters_alone_give_the_expected_image_again(name: str) -> None:
    recipe, images = load_recipe(name), drawn(name)
    for row, sample in enumerate(few(recipe)[: len(recipe.labels)]):
        parameters = {column: np.array([value]) for column, value in images.parameters[row].items()}
        one, other = images.expected[row], expected_images(recipe, sample.label, parameters)[0]
        if recipe.observation.rescale != "none":
            one, other = one - one.amin((-2, -1), keepdim=True), other - other.amin((-2, -1), keepdim=True)
        scale = one.amax((-2, -1), keepdim=True) / other.amax((-2, -1), keepdim=True)  # exposure, factor, rescaling
        torch.testing.assert_close(scale * other, one, rtol=1e-5, atol=1e-6 * one.max().item())


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
    assert str(part.parameters) == str([everything.parameters[row] for row in rows])


@pytest.mark.parametrize("name", RECIPES)
def test_stored_images_are_the_drawn_ones(name: str) -> None:
    recipe, images = load_recipe(name), drawn(name)
    stored = draw_images(recipe, SEED, few(recipe))
    assert {key: value.shape[1:] for key, value in stored.items()} == recipe.array_shapes()
    assert torch.equal(stored["image"], images.image)
    if "truth" in stored:
        assert torch.equal(stored["truth"], images.expected)
    assert all(torch.isfinite(values).all() for values in stored.values())
    if recipe.observation.rescale == "min_max":
        assert (stored["image"].amin((-2, -1)) == 0).all()
        assert (stored["image"].amax((-2, -1)) == 1).all()


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


def population_of(kind: str, images: int) -> tuple[Population, np.ndarray, Parameters]:
    """Return a population with its default settings, the random numbers of images, and what it draws from them."""
    population = POPULATIONS[kind]()
    uniforms = np.random.default_rng(0).random((images, population.n_uniforms(PLANE)))
    return population, uniforms, population.draw(uniforms, PLANE)


@pytest.mark.parametrize("kind", list(POPULATIONS))
def test_a_population_draws_what_it_declares(kind: str) -> None:
    _, _, parameters = population_of(kind, 5)
    several = [values for values in parameters.values() if values.ndim == 2]
    for column, values in parameters.items():
        assert column.replace("_", "").isalnum()
        assert values.dtype == np.float64, column
        assert values.shape[0] == 5, column
        assert values.ndim in (1, 2), column
        assert not np.isinf(values).any(), column
        if values.ndim == 1:
            assert np.isfinite(values).all(), column
        else:
            np.testing.assert_array_equal(np.isnan(values), np.isnan(several[0]), err_msg="padding of two kinds")
            assert (np.diff(np.isnan(values).astype(int), axis=1) >= 0).all(), "padding stands before a value"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", list(POPULATIONS))
def test_a_population_becomes_profiles(kind: str, dtype: torch.dtype) -> None:
    population, _, parameters = population_of(kind, 5)
    x = torch.linspace(-1, 1, 6, dtype=dtype)[None, :]
    y = torch.linspace(-1.1, 1, 7, dtype=dtype)[:, None]
    for profile in population.profiles(parameters, PLANE, x):
        assert isinstance(profile, MassProfile)
        for component in (*profile.deflection(x, y), profile.convergence(x, y)):
            assert component.expand(5, 1, 7, 6).shape == (5, 1, 7, 6)
            assert component.dtype == dtype
            assert torch.isfinite(component).all()


@pytest.mark.parametrize("kind", list(POPULATIONS))
def test_blocks_of_a_population_add_up_to_it(kind: str) -> None:
    population, _, parameters = population_of(kind, 3)
    x = torch.linspace(-1, 1, 6, dtype=torch.float64)[None, :]
    for profile in population.profiles(parameters, PLANE, x):
        if (blocks := profile.blocks()) is None:
            continue
        parts = [block.deflection(x, x.T) for block in blocks]
        for axis, whole in enumerate(profile.deflection(x, x.T)):
            torch.testing.assert_close(sum(part[axis] for part in parts), whole, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("kind", list(POPULATIONS))
def test_a_population_draws_each_image_by_itself(kind: str) -> None:
    population, uniforms, parameters = population_of(kind, 4)
    x = torch.linspace(-1, 1, 6)[None, :]
    together = [profile.deflection(x, x.T) for profile in population.profiles(parameters, PLANE, x)]
    for image in range(4):
        alone = population.draw(uniforms[image : image + 1], PLANE)
        for column, values in parameters.items():
            np.testing.assert_array_equal(alone[column][0], values[image], err_msg=column)
        for profile, (all_x, all_y) in zip(population.profiles(alone, PLANE, x), together, strict=True):
            one_x, one_y = profile.deflection(x, x.T)
            assert torch.equal(one_x[0], all_x[image])
            assert torch.equal(one_y[0], all_y[image])


@pytest.mark.parametrize("kind", list(POPULATIONS))
def test_more_padding_changes_no_deflection(kind: str) -> None:
    population, _, parameters = population_of(kind, 2)
    if not any(np.isnan(values).any() for values in parameters.values()):
        pytest.skip("no padding")
    wider = {
        column: np.pad(values, ((0, 0), (0, 7)), constant_values=np.nan) if values.ndim == 2 else values
        for column, values in parameters.items()
    }
    x = torch.linspace(-1, 1, 6)[None, :]
    pairs = zip(*(population.profiles(drawn, PLANE, x) for drawn in (parameters, wider)), strict=True)
    for one, other in pairs:
        assert all(map(torch.equal, one.deflection(x, x.T), other.deflection(x, x.T)))


@pytest.mark.parametrize("kind", list(POPULATIONS))
def test_a_population_uses_every_random_number_it_asks_for(kind: str) -> None:
    population = POPULATIONS[kind]()
    n = population.n_uniforms(PLANE)
    used = np.zeros(n, dtype=bool)
    for others in (0.3, 1 - 2.0**-53):  # the largest numbers fill every slot of a population that has some
        moved = np.full((n + 1, n), others)
        np.fill_diagonal(moved[1:], 0.7)
        for values in population.draw(moved, PLANE).values():
            same = (values[1:] == values[:1]) | (np.isnan(values[1:]) & np.isnan(values[:1]))
            used |= ~same.reshape(n, -1).all(1)
    assert used.all(), f"random numbers {np.flatnonzero(~used)} change nothing"
