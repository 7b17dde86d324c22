"""No dead knobs: every field of a recipe and of what it names changes the images, or else the stored facts.

A new field fails here until someone writes down what turning it must change.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
import torch
from astropy.io import fits

from deeplense.core.config import Config
from deeplense.core.degradation import Degradation
from deeplense.core.errors import InvalidOption
from deeplense.instruments.instrument import Instrument, load_instrument
from deeplense.recipes.draw import Drawn, draw, draw_images
from deeplense.recipes.parts import Counts, Lens, Light, Observation, Prior
from deeplense.recipes.recipe import Recipe, Sample, load_recipe
from deeplense.sky.substructure import POPULATIONS

SAMPLES = [Sample("train", "cdm", k) for k in range(2)] + [Sample("train", "axion", 0)]

LENS: dict[str, Any] = {
    "theta_E": 1.25,
    "e1": 0.12,
    "e2": 0.03,
    "slope": 2.1,
    "center_x": 0.02,
    "center_y": -0.02,
    "gamma1": 0.06,
    "gamma2": 0.01,
    "z_lens": 0.45,
    "z_source": 1.1,
    "distance_convention": "angular_diameter",
    "deflection_scale": 0.7,
}
# of each kind of light: what it has from the start, and the fields to turn
SHARED: dict[str, Any] = {
    "R_sersic": 0.27,
    "e1": -0.12,
    "e2": 0.12,
    "center_x": Prior(uniform=(-0.35, 0.4)),
    "center_y": Prior(uniform=(-0.3, 0.35)),
    "magnitude": 20.1,
    "colors": (0.3,),
    "count": 2,
    "probability": 0.5,
}
LIGHT: dict[str, dict[str, Any]] = {
    "sersic": SHARED | {"n_sersic": 1.1, "amplitude": 50.0},
    "spiral": SHARED | {"contrast": 0.8, "pitch": 0.5, "phase": 1.0},
    "ring": SHARED | {"width": 0.3},
    "image": {name: SHARED[name] for name in ("center_x", "center_y", "magnitude", "colors", "count", "probability")}
    | {"pixel_scale": 0.07, "angle": 0.3},
}
OBSERVATION: dict[str, Any] = {
    "noise": "none",
    "exposure_time": 2000.0,
    "scale": 1.5,
    "rescale": "min_max",
    "supersampling": 2,
}
PRIOR = ("uniform", "log_uniform", "normal", "power_law", "within")
PAIR: dict[str, dict[str, Any]] = {
    "factor": {"factor": 4},
    "method": {"method": "area"},
    "blur": {"method": "gaussian", "blur": 2.0},
}
CLASS: dict[str, Any] = {"light": [], "lensed": False}
POPULATION: dict[str, dict[str, Any]] = {
    "none": {},
    "point_masses": {"count": 24, "mass": (2e6, 1e10), "mass_exponent": 0.2, "radius": (0.25, 1.9)},
    "axion_vortex": {"axion_mass": (2e-24, 1e-22), "length_times_mass": 4e-24, "mass": 2e10, "n_beads": 90},
    "subhaloes": {
        "profile": "nfw",
        "slope": -1.8,
        "mass": (2e8, 1e10),
        "sigma_sub": 0.1,
        "radius": 2.5,
        "wdm_mass": 3.0,
        "host_distance": 40.0,
        "mass_sheet": "none",
    },
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
PSF = ("psf", "moffat_beta", "psf_file", "psf_supersampling", "psf_sha256")  # not to be turned one by one: see below
RECIPE: dict[str, Any] = {"instrument": "published_iii", "n_pixels": 60}
# fields that change no pixel: they must stand in what is stored with the images
FACTS: dict[type[Config], dict[str, Any]] = {
    Recipe: {
        "name": "other",
        "version": 9,
        "description": "other",
        "reference": "other",
        "symmetry": "none",
        "quirks": ("other",),
        "counts": Counts(train=1, validation=1, test=1),
        "observables": True,
    },
    Observation: {"unit": "other"},
    Instrument: {"description": "other", "reference": "other"},
    Counts: {"train": 7, "validation": 8, "test": 9},
}
PARTS = {"lens", "source", "observation", "classes", "light", "pair"}  # parts whose own fields are turned one by one


def pixels(recipe: Recipe) -> Drawn:
    """Return the images of a recipe."""
    return draw(recipe, 5, SAMPLES)


def with_camera(monkeypatch: pytest.MonkeyPatch, *cameras: Instrument) -> None:
    """Let a recipe see the sky with these cameras, whatever it names."""
    monkeypatch.setattr(Recipe, "instruments", lambda recipe: cameras)


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
        (Light, {"kind": None, "file": None} | {name: None for turned in LIGHT.values() for name in turned}),
        (Prior, dict.fromkeys(PRIOR)),
        (Degradation, PAIR),
        (Observation, OBSERVATION | {"dtype": "uint16"}),
        (Instrument, CAMERA | dict.fromkeys(PSF)),
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


@pytest.fixture(scope="module")
def lights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Light]:
    """Return one galaxy of each kind of light."""
    path = tmp_path_factory.mktemp("pictures") / "galaxy.npy"
    np.save(path, np.random.default_rng(0).random((9, 7)))
    disc: dict[str, Any] = {"R_sersic": 0.25, "e1": 0.1, "magnitude": 20.0}
    return {
        "sersic": Light(**disc),
        "spiral": Light(kind="spiral", **disc),
        "ring": Light(kind="ring", **disc),
        "image": Light(kind="image", magnitude=20.0, file=path, pixel_scale=0.08),
    }


def test_every_kind_of_light_has_its_knobs_here(lights: Mapping[str, Light]) -> None:
    assert set(get_args(get_type_hints(Light)["kind"])) == set(LIGHT) == set(lights)


@pytest.mark.parametrize("kind", list(LIGHT))
def test_light_refuses_the_knobs_of_other_kinds(lights: Mapping[str, Light], kind: str) -> None:
    given = {"kind", "magnitude"} | ({"file", "pixel_scale"} if kind == "image" else {"R_sersic"})
    turned = {knob: value for others in LIGHT.values() for knob, value in others.items()} | {"file": Path("x.npy")}
    for knob in {field.name for field in dataclasses.fields(Light)} - set(LIGHT[kind]) - given:
        brightness = {"magnitude": None} if knob == "amplitude" else {}
        with pytest.raises(InvalidOption, match=knob):
            dataclasses.replace(lights[kind], **{knob: turned[knob]}, **brightness)


@pytest.mark.parametrize("place", ["source", "foreground"])
@pytest.mark.parametrize(("kind", "knob"), [(kind, knob) for kind, knobs in LIGHT.items() for knob in knobs])
def test_light(
    recipe: Recipe,
    lights: Mapping[str, Light],
    kind: str,
    knob: str,
    place: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    camera = load_instrument("published_ii")
    with_camera(monkeypatch, camera, camera)
    brightness = {"magnitude": None} if knob == "amplitude" else {}
    turned = dataclasses.replace(lights[kind], **{knob: LIGHT[kind][knob]}, **brightness)
    images = []
    for light in (lights[kind], turned):
        part: dict[str, Any] = {"source": light} if place == "source" else {"light": {"galaxy": light}}
        images.append(pixels(dataclasses.replace(recipe, **part)))
    assert_changed(*images, knob)
    if knob == "colors":
        assert torch.equal(images[0].expected[:, 0], images[1].expected[:, 0]), "a color moves the first band"


def test_the_kind_and_the_file_of_light(recipe: Recipe, lights: Mapping[str, Light], tmp_path: Path) -> None:
    np.save(tmp_path / "other.npy", np.eye(7))
    other = dataclasses.replace(lights["image"], file=tmp_path / "other.npy")
    images = [pixels(dataclasses.replace(recipe, source=light)) for light in (*lights.values(), other)]
    for k, one in enumerate(images):
        for another in images[:k]:
            assert_changed(one, another, "kind or file")


@pytest.mark.parametrize("knob", PRIOR)
def test_prior(recipe: Recipe, knob: str) -> None:
    law: dict[str, Any] = {
        "uniform": (0.1, 0.3),
        "log_uniform": (0.1, 0.3),
        "normal": (0.2, 0.02),
        "power_law": (0.1, 0.3, 1.5),
        "within": (0.19, 0.21),
    }
    other: dict[str, Any] = {"uniform": (0.1, 0.2), "log_uniform": (0.2, 0.3), "power_law": (0.1, 0.3, 2.0)}
    start = Prior(uniform=(0.15, 0.3)) if knob != "within" else Prior(normal=(0.2, 0.02))
    turned = Prior(**{knob: law[knob]}) if knob != "within" else Prior(normal=(0.2, 0.02), within=law[knob])
    priors = [start, turned] + ([Prior(**{knob: other[knob]})] if knob in other else [])
    images = [
        pixels(dataclasses.replace(recipe, source=dataclasses.replace(recipe.source, R_sersic=prior)))
        for prior in priors
    ]
    for one, another in pairwise(images):
        assert_changed(one, another, knob)


@pytest.mark.parametrize("knob", PAIR)
def test_pair(recipe: Recipe, knob: str) -> None:
    pairs = Degradation(method="gaussian", blur=1.0) if knob == "blur" else Degradation(), Degradation(**PAIR[knob])
    before, after = (draw_images(dataclasses.replace(recipe, pair=pair), 5, SAMPLES) for pair in pairs)
    assert torch.equal(before["image"], after["image"])
    assert before["low"].shape != after["low"].shape or not torch.equal(before["low"], after["low"]), f"{knob} is dead"
    assert "low" not in draw_images(recipe, 5, SAMPLES)


@pytest.mark.parametrize("knob", CLASS)
def test_settings_of_a_class(recipe: Recipe, lights: Mapping[str, Light], knob: str) -> None:
    lit = dataclasses.replace(recipe, light={"galaxy": dataclasses.replace(lights["sersic"], R_sersic=0.8)})
    classes = lit.classes | {"cdm": lit.classes["cdm"] | {knob: CLASS[knob]}}
    if knob == "lensed":
        classes["cdm"] = {"kind": "none", knob: CLASS[knob]}
    before, after = pixels(lit), pixels(dataclasses.replace(lit, classes=classes))
    assert_changed(before, after, knob)
    others = [row for row, sample in enumerate(SAMPLES) if sample.label != "cdm"]
    assert torch.equal(before.image[others], after.image[others]), f"{knob} of one class changes others"


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
def test_population(recipe: Recipe, kind: str, knob: str) -> None:
    label = "axion" if kind == "axion_vortex" else "cdm"
    table = recipe.classes[label]
    if kind == "subhaloes":
        table = {"kind": kind, "mass": (1e8, 1e10), "radius": 2.0}
    assert table["kind"] == kind
    before, after = (
        pixels(dataclasses.replace(recipe, classes=recipe.classes | {label: table | turned}))
        for turned in ({}, {knob: POPULATION[kind][knob]})
    )
    assert_changed(before, after, knob)
    assert not torch.equal(before.expected, after.expected), f"{knob} does not reach the scene"
    others = [row for row, sample in enumerate(SAMPLES) if sample.label != label]
    assert torch.equal(before.image[others], after.image[others]), f"{knob} of {label} changes other classes"


@pytest.mark.parametrize("knob", CAMERA)
def test_instrument(recipe: Recipe, before: Drawn, knob: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with_camera(monkeypatch, dataclasses.replace(load_instrument("published_ii"), **{knob: CAMERA[knob]}))
    assert_changed(before, pixels(recipe), knob)


@pytest.mark.parametrize("knob", PSF)
def test_psf(recipe: Recipe, knob: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = load_instrument("published_ii")
    moffat = dataclasses.replace(plain, psf="moffat", moffat_beta=3.0)
    for side in (3, 5):
        fits.writeto(tmp_path / f"{side}.fits", np.ones((side, side)))
    pixels_of_file = dataclasses.replace(plain, psf="kernel", psf_fwhm=None, psf_file=tmp_path / "5.fits")
    before, after = {
        "psf": (plain, moffat),
        "moffat_beta": (moffat, dataclasses.replace(moffat, moffat_beta=2.0)),
        "psf_file": (pixels_of_file, dataclasses.replace(pixels_of_file, psf_file=tmp_path / "3.fits")),
        "psf_supersampling": (pixels_of_file, dataclasses.replace(pixels_of_file, psf_supersampling=2)),
        "psf_sha256": (pixels_of_file, dataclasses.replace(pixels_of_file, psf_sha256="0" * 64)),
    }[knob]
    assert before.as_dict()[knob] != after.as_dict()[knob]
    if knob == "psf_sha256":  # a fact
        return
    images = []
    for camera in (before, after):
        with_camera(monkeypatch, camera)
        images.append(pixels(recipe))
    assert_changed(*images, knob)


@pytest.mark.parametrize(("kind", "knob"), [(kind, knob) for kind, facts in FACTS.items() for knob in facts])
def test_facts_are_stored(recipe: Recipe, kind: type[Config], knob: str) -> None:
    owners = {
        Recipe: recipe,
        Observation: recipe.observation,
        Instrument: recipe.instruments()[0],
        Counts: recipe.counts,
    }
    owner = owners[kind]
    changed = dataclasses.replace(owner, **{knob: FACTS[kind][knob]})
    assert changed.as_dict() != owner.as_dict()
    assert changed.as_dict()[knob] != owner.as_dict().get(knob)


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
    background = recipe.instruments()[0].background_sigma() ** 2
    ratio = pixels(recipe).variance - background
    quarter = pixels(dataclasses.replace(recipe, observation=longer)).variance - background
    bright = ratio > ratio.max() / 10
    torch.testing.assert_close(quarter[bright] * 4, ratio[bright], rtol=1e-3, atol=0)
