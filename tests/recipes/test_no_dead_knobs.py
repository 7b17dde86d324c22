"""No dead knobs: every field of a recipe and of what it names changes the images, or else the stored facts.

A new field fails here until someone writes down what turning it must change.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from deeplense.core.config import Config
from deeplense.instruments.instrument import Instrument, load_instrument
from deeplense.recipes.draw import Drawn, draw
from deeplense.recipes.parts import Counts, Lens, Observation, Prior, Source
from deeplense.recipes.recipe import Recipe, Sample, load_recipe
from deeplense.sky.substructure import POPULATIONS

SAMPLES = [Sample("train", "cdm", k) for k in range(2)] + [Sample("train", "axion", 0)]

LENS: dict[str, Any] = {
    "theta_E": 1.25,
    "e1": 0.12,
    "e2": 0.03,
    "center_x": 0.02,
    "center_y": -0.02,
    "gamma1": 0.06,
    "gamma2": 0.01,
    "z_lens": 0.45,
    "z_source": 1.1,
    "distance_convention": "angular_diameter",
    "deflection_scale": 0.7,
}
SOURCE: dict[str, Any] = {
    "R_sersic": 0.27,
    "n_sersic": 1.1,
    "e1": -0.12,
    "e2": 0.12,
    "center_x": Prior(uniform=(-0.35, 0.4)),
    "center_y": Prior(uniform=(-0.3, 0.35)),
    "magnitude": 20.1,
    "amplitude": 50.0,
}
OBSERVATION: dict[str, Any] = {"noise": "none", "exposure_time": 2000.0, "scale": 1.5}
POPULATION: dict[str, dict[str, Any]] = {
    "none": {},
    "point_masses": {"count": 24, "mass": (2e6, 1e10), "mass_exponent": 0.2, "radius": (0.25, 1.9)},
    "axion_vortex": {"axion_mass": (2e-24, 1e-22), "length_times_mass": 4e-24, "mass": 2e10, "n_beads": 90},
}
CAMERA: dict[str, Any] = {
    "pixel_scale": 0.1,
    "psf_fwhm": 0.2,
    "psf_truncation": 2.0,
    "zero_point": 24.1,
    "sky_brightness": 22.0,
    "read_noise": 5.0,
    "exposure_time": 600.0,
    "num_exposures": 3,
    "background_rms": 0.02,
}
RECIPE: dict[str, Any] = {"instrument": "published_iii", "n_pixels": 60}
# fields that change no pixel: they must stand in what is stored with the images
FACTS: dict[type[Config], dict[str, Any]] = {
    Recipe: {
        "name": "other",
        "version": 2,
        "description": "other",
        "reference": "other",
        "symmetry": "none",
        "quirks": ("other",),
        "counts": Counts(train=1, validation=1, test=1),
    },
    Observation: {"unit": "other"},
    Instrument: {"description": "other", "reference": "other"},
    Counts: {"train": 7, "validation": 8, "test": 9},
}
PARTS = {"lens", "source", "observation", "classes"}  # fields of a recipe whose own fields are turned one by one


def pixels(recipe: Recipe) -> Drawn:
    """Return the images of a recipe."""
    return draw(recipe, 5, SAMPLES)


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    """Return the recipe whose knobs are turned."""
    return load_recipe("model_ii")


@pytest.fixture(scope="module")
def before(recipe: Recipe) -> Drawn:
    """Return its images."""
    return pixels(recipe)


def assert_changed(before: Drawn, after: Drawn, knob: str) -> None:
    assert before.image.shape != after.image.shape or not torch.equal(before.image, after.image), f"{knob} is dead"
    assert torch.isfinite(after.image).all(), f"{knob} breaks the images"


@pytest.mark.parametrize(
    ("kind", "turned"),
    [
        (Lens, LENS),
        (Source, SOURCE),
        (Observation, OBSERVATION | {"dtype": "uint16"}),
        (Instrument, CAMERA),
        (Recipe, RECIPE | dict.fromkeys(PARTS)),
        (Counts, {}),
    ],
)
def test_every_field_has_its_knob_here(kind: type[Config], turned: dict[str, Any]) -> None:
    fields = {field.name for field in dataclasses.fields(kind)}
    assert fields == set(turned) | set(FACTS.get(kind, {})), f"write down what the fields of {kind.__name__} change"


def test_every_population_has_its_knobs_here() -> None:
    fields = {kind: {field.name for field in dataclasses.fields(POPULATIONS[kind])} for kind in POPULATIONS}
    assert fields == {kind: set(turned) for kind, turned in POPULATION.items()}


@pytest.mark.parametrize("knob", LENS)
def test_lens(recipe: Recipe, before: Drawn, knob: str) -> None:
    lens = dataclasses.replace(recipe.lens, **{knob: LENS[knob]})
    assert_changed(before, pixels(dataclasses.replace(recipe, lens=lens)), knob)


@pytest.mark.parametrize("knob", SOURCE)
def test_source(recipe: Recipe, before: Drawn, knob: str) -> None:
    brightness = {"magnitude": None} if knob == "amplitude" else {}
    source = dataclasses.replace(recipe.source, **{knob: SOURCE[knob]}, **brightness)
    assert_changed(before, pixels(dataclasses.replace(recipe, source=source)), knob)


@pytest.mark.parametrize("knob", OBSERVATION)
def test_observation(recipe: Recipe, before: Drawn, knob: str) -> None:
    observation = dataclasses.replace(recipe.observation, **{knob: OBSERVATION[knob]})
    after = pixels(dataclasses.replace(recipe, observation=observation))
    assert_changed(before, after, knob)
    assert not torch.equal(before.variance, after.variance), f"{knob} does not reach the variance"


@pytest.mark.parametrize("knob", RECIPE)
def test_recipe(recipe: Recipe, before: Drawn, knob: str) -> None:
    assert_changed(before, pixels(dataclasses.replace(recipe, **{knob: RECIPE[knob]})), knob)


@pytest.mark.parametrize(("kind", "knob"), [(kind, knob) for kind, knobs in POPULATION.items() for knob in knobs])
def test_population(recipe: Recipe, before: Drawn, kind: str, knob: str) -> None:
    label = next(label for label in recipe.labels if recipe.classes[label]["kind"] == kind)
    classes = recipe.classes | {label: recipe.classes[label] | {knob: POPULATION[kind][knob]}}
    after = pixels(dataclasses.replace(recipe, classes=classes))
    assert_changed(before, after, knob)
    others = [row for row, sample in enumerate(SAMPLES) if sample.label != label]
    assert torch.equal(before.image[others], after.image[others]), f"{knob} of {label} changes other classes"


@pytest.mark.parametrize("knob", CAMERA)
def test_instrument(recipe: Recipe, before: Drawn, knob: str, monkeypatch: pytest.MonkeyPatch) -> None:
    camera = dataclasses.replace(load_instrument(recipe.instrument), **{knob: CAMERA[knob]})
    for reader in ("recipe", "draw"):
        monkeypatch.setattr(f"deeplense.recipes.{reader}.load_instrument", lambda name: camera)
    assert_changed(before, pixels(recipe), knob)


@pytest.mark.parametrize(("kind", "knob"), [(kind, knob) for kind, facts in FACTS.items() for knob in facts])
def test_facts_are_stored(recipe: Recipe, kind: type[Config], knob: str) -> None:
    owners = {
        Recipe: recipe,
        Observation: recipe.observation,
        Instrument: load_instrument(recipe.instrument),
        Counts: recipe.counts,
    }
    owner = owners[kind]
    changed = dataclasses.replace(owner, **{knob: FACTS[kind][knob]})
    assert changed.as_dict() != owner.as_dict()
    assert changed.as_dict()[knob] != owner.as_dict()[knob]


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_counts_decide_how_many_samples_there_are(recipe: Recipe, split: str) -> None:
    counts = dataclasses.replace(Counts(1, 1, 1), **{split: 4})
    samples = dataclasses.replace(recipe, counts=counts).samples()
    assert sum(sample.split == split for sample in samples) == 4 * len(recipe.labels)
    assert len(samples) == 6 * len(recipe.labels)


def test_the_pixel_type_is_that_of_the_law() -> None:
    # dtype changes no drawn pixel: it says that uint16 keeps them, which the contract tests hold it to
    assert load_recipe("model_i").observation.dtype == "uint16"
    assert load_recipe("model_ii").observation.dtype == "float32"


def test_scale_is_a_change_of_unit(recipe: Recipe, before: Drawn) -> None:
    after = pixels(dataclasses.replace(recipe, observation=dataclasses.replace(recipe.observation, scale=3.0)))
    torch.testing.assert_close(after.image, 3 * before.image)
    torch.testing.assert_close(after.expected, 3 * before.expected)
    torch.testing.assert_close(after.variance, 9 * before.variance)


def test_exposure_time_of_the_recipe_wins_over_the_instruments(recipe: Recipe) -> None:
    longer = dataclasses.replace(recipe.observation, exposure_time=4 * 2260.0)
    ratio = pixels(recipe).variance - load_instrument(recipe.instrument).background_sigma() ** 2
    quarter = pixels(dataclasses.replace(recipe, observation=longer)).variance
    quarter = quarter - load_instrument(recipe.instrument).background_sigma() ** 2
    bright = ratio > ratio.max() / 10
    torch.testing.assert_close(quarter[bright] * 4, ratio[bright], rtol=1e-3, atol=0)
