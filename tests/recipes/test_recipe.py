"""Recipes: reading them, refusing what cannot work, drawing from them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deeplense.core.errors import CorruptFile, InvalidOption, MissingFile, UnknownName
from deeplense.core.seeding import Streams, normal_quantile, stable_key
from deeplense.recipes.draw import draw, expected_images, streams_of
from deeplense.recipes.parts import Counts
from deeplense.recipes.recipe import Recipe, Sample, Samples, load_recipe, shipped_recipes
from deeplense.recipes.scenes import draw_parameters
from deeplense.sky.substructure import Parameters

TABLE: dict[str, Any] = {
    "name": "mine",
    "version": 1,
    "description": "a recipe",
    "reference": "this test",
    "instrument": "published_ii",
    "n_pixels": 16,
    "lens": {"theta_E": 1.0},
    "source": {"R_sersic": 0.2, "magnitude": 20.0},
    "observation": {"noise": "background_and_shot"},
    "classes": {"no_sub": {"kind": "none"}},
}


# source_center_x and six pixels of the middle row of train/<class>/000000, seed 0, version 2
PINNED: dict[tuple[str, str], tuple[float, list[float]]] = {
    ("model_i", "no_sub"): (0.23300134703132747, [0.0, 50.0, 12.0, 0.0, 11.0, 9.0]),
    ("model_i", "cdm"): (0.32157465507730465, [19.0, 110.0, 6.0, 13.0, 7.0, 50.0]),
    ("model_i", "axion"): (0.30017104566947517, [23.0, 266.0, 15.0, 11.0, 56.0, 164.0]),
    ("model_ii", "no_sub"): (0.23300134703132747, [0.00648, 0.065412, 0.464671, 0.022727, 0.222839, 0.117957]),
    ("model_ii", "cdm"): (0.32157465507730465, [0.00737, 0.096733, 0.894344, 0.006149, 0.369745, 0.326972]),
    ("model_ii", "axion"): (0.30017104566947517, [0.00615, 0.108435, 0.667104, -0.003594, 0.275336, 0.292438]),
    ("model_iii", "no_sub"): (0.23300134703132747, [0.045041, 0.789339, 1.194626, 0.033137, 0.318906, 1.401064]),
    ("model_iii", "cdm"): (0.32157465507730465, [0.059008, 1.520976, 1.912187, 0.012969, 0.33936, 8.304072]),
    ("model_iii", "axion"): (0.30017104566947517, [0.054021, 1.606533, 1.16267, -0.001425, 0.267902, 4.269678]),
}


def with_(table: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Return the table with one entry changed; None removes it."""
    head, _, rest = path.partition(".")
    inner = with_(dict(table.get(head, {})), rest, value) if rest else value
    return {k: v for k, v in (table | {head: inner}).items() if v is not None}


@pytest.mark.parametrize("name", ["model_ii", "Model_II", "model-ii", "MODEL-II"])
def test_a_recipe_has_one_name_in_any_spelling(name: str) -> None:
    assert load_recipe(name).name == "model_ii"


def test_an_unknown_recipe_lists_the_nearest() -> None:
    with pytest.raises(UnknownName) as caught:
        load_recipe("modell_2")
    assert "model_i" in caught.value.expected


def test_a_recipe_of_the_users_own_is_read_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(shipped_recipes()["model_ii"].replace("n_pixels = 64", "n_pixels = 32"), encoding="utf-8")
    assert load_recipe(path).n_pixels == load_recipe(str(path)).n_pixels == 32


@pytest.mark.parametrize(
    ("content", "error", "word"),
    [
        (b"name = ", CorruptFile, "not valid TOML"),
        (b"\xff\xfe", MissingFile, "cannot be read"),
        (b"nam = 'x'", UnknownName, "'nam'"),
        (b"name = 'x'", InvalidOption, "lacks"),
        (None, MissingFile, "cannot be read"),
    ],
)
def test_a_bad_file_is_named_with_what_is_wrong(
    tmp_path: Path, content: bytes | None, error: type[Exception], word: str
) -> None:
    path = tmp_path / "mine.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(error) as caught:
        load_recipe(path)
    assert "mine.toml" in str(caught.value)
    assert word in str(caught.value)


@pytest.mark.parametrize(
    ("path", "value", "word"),
    [
        ("n_pixels", 7, "n_pixels is 7"),
        ("n_pixels", 5000, "n_pixels is 5000"),
        ("classes", {}, "without classes"),
        ("classes.no_sub.light", ["bulge"], "no light of class no_sub is called 'bulge'"),
        ("classes.no_sub.light", [["bulge"]], "no light of class no_sub is called"),
        ("classes.no_sub.light", "bulge", "odd settings"),
        ("classes.no_sub.lensed", "no", "odd settings"),
        ("classes.no_sub", {"kind": "point_masses", "lensed": False}, "nothing to lens"),
        ("classes.no_sub", {"kind": "subhaloes", "mass": [1e3, 1e10]}, "on average"),
        ("classes.no_sub.kind", "point_mass", "no substructure is called 'point_mass'"),
        ("classes.no_sub.count", 3, "'count'"),
        ("instrument", "published_9", "no instrument is called"),
        ("instrument", [], "at least one band"),
        ("instrument", ["published_ii", "published_iii"], "bands with pixels of 0.101, 0.08 arcsec"),
        ("lens.z_source", 0.5, "not behind"),
        ("lens.e1", 1.0, "ellipticity of the lens"),
        ("lens.e1", {"uniform": [-1.2, 0.1]}, "ellipticity of the lens may be 1.2"),
        ("source.e2", -1.5, "source: the ellipticity of the light"),
        ("lens.theta_E", {"uniform": [0.5, 1.0], "log_uniform": [0.5, 1.0]}, "theta_E"),
        ("lens.theta_E", {}, "theta_E"),
        ("lens.theta_E", {"normal": [0.5, 1.0]}, "theta_E"),
        ("lens.theta_E", {"log_uniform": [0.0, 1.0]}, "theta_E"),
        ("lens.theta_E", float("nan"), "theta_E"),
        ("lens.theta_E", -0.1, "theta_E may be -0.1"),
        ("lens.theta_E", {"normal": [1.0, 0.3]}, "theta_E may be -0.5"),
        ("lens.theta_E", {"uniform": [1.2, 0.8]}, "the smaller bound first"),
        ("lens.theta_E", {"uniform": [0.5, 1.0], "within": [0.6, 0.8]}, "a normal distribution to cut"),
        ("lens.theta_E", {"normal": [0.5, 0.01], "within": [0.9, 0.7]}, "the smaller bound first"),
        ("lens.theta_E", {"normal": [0.5, 0.01], "within": [0.7, 0.9]}, "within"),
        ("lens.theta_E", {"normal": [0.5, 0.0]}, "theta_E"),
        ("lens.theta_E", {"power_law": [0.0, 1.0, 2.0]}, "theta_E"),
        ("lens.slope", 3.0, "slope may be 3"),
        ("lens.slope", {"normal": [2.0, 0.2]}, "slope may be"),
        ("source.R_sersic", 0.0, "R_sersic may be 0"),
        ("source.R_sersic", None, "lacks 'R_sersic'"),
        ("source.n_sersic", {"uniform": [0.1, 1.0]}, "n_sersic may be 0.1"),
        ("source.kind", "blob", "'blob'"),
        ("source.kind", "image", "lacks 'file'"),
        ("source.contrast", 0.9, "contrast with light of kind 'sersic'"),
        ("source.width", 0.9, "width with light of kind 'sersic'"),
        ("source.colors", [0.1], "1 colors of 'source' in 1 bands"),
        ("source.count", 0, "count is 0"),
        ("source.probability", 1.5, "probability is 1.5"),
        ("light.source", {"R_sersic": 0.5, "magnitude": 20.0}, "called 'source'"),
        ("light.lens", {"R_sersic": 0.5, "magnitude": 20.0}, "called 'lens'"),
        ("light.vortex", {"R_sersic": 0.5, "magnitude": 20.0}, "called 'vortex'"),
        ("light.bulge", {"R_sersic": 0.5}, "no brightness"),
        ("light.bulge", {"R_sersic": 0.5, "magnitude": 20.0, "e1": 1.1}, "ellipticity of the light"),
        ("light.disc", {"kind": "spiral", "R_sersic": 0.5, "amplitude": 20.0}, "a magnitude"),
        ("light.disc", {"kind": "spiral", "R_sersic": 0.5, "magnitude": 20.0, "pitch": 0.0}, "pitch may be 0"),
        ("light.disc", {"kind": "spiral", "R_sersic": 0.5, "magnitude": 20.0, "n_sersic": 4.0}, "n_sersic with light"),
        ("light.ring", {"kind": "ring", "R_sersic": 0.5, "magnitude": 20.0, "width": 0.0}, "width may be 0"),
        ("pair.factor", 1, "factor is 1"),
        ("pair.factor", 3, "16 pixels at a factor of 3"),
        ("pair.method", "nearest", "'nearest'"),
        ("observation.supersampling", 0, "supersampling is 0"),
        ("observation.supersampling", 17, "supersampling is 17"),
        ("observation.rescale", "max", "'max'"),
        ("observation", {"noise": "double_shot_counts", "dtype": "uint16", "rescale": "min_max"}, "as uint16"),
        ("source.magnitude", None, "no brightness"),
        ("source.amplitude", 1.0, "two values of its brightness"),
        ("observation.noise", "poisson", "no value of noise is called 'poisson'"),
        ("observation.exposure_time", -5.0, "exposure_time"),
        ("observation.exposure_time", {"uniform": [0.0, 10.0]}, "exposure_time may be 0 s"),
        ("observation.dtype", "uint16", "as uint16"),
        ("counts.train", 2.5, "train is 2.5"),
        ("counts.train", -1, "train is -1"),
    ],
)
def test_what_cannot_work_is_refused_when_it_is_read(path: str, value: Any, word: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        Recipe.from_mapping(with_(TABLE, path, value), "recipe mine")
    assert word in str(caught.value), str(caught.value)
    assert all(caught.value.args), "an error has three clauses"
    assert min(map(len, (caught.value.found, caught.value.expected, caught.value.remedy))) > 3


def test_scaled_counts_do_not_fit_an_integer() -> None:
    recipe = load_recipe("model_i")
    with pytest.raises(InvalidOption, match="scale 2 as uint16"):
        dataclasses.replace(recipe.observation, scale=2.0)


@pytest.mark.parametrize(
    ("path", "value", "word"),
    [("instrument", "published_i", "no zero_point"), ("observation.exposure_time", None, "no exposure time")],
)
def test_an_instrument_that_lacks_a_number_is_noticed_when_the_recipe_is_read(path: str, value: Any, word: str) -> None:
    table = TABLE
    if word == "no exposure time":
        source = {"R_sersic": 0.2, "amplitude": 20.0}
        table = with_(with_(TABLE, "instrument", "published_i"), "source", source)
        table = with_(table, "source.magnitude", None)
    with pytest.raises(InvalidOption, match=word):
        Recipe.from_mapping(with_(table, path, value))


def test_a_recipe_survives_its_own_dictionary() -> None:
    for name in shipped_recipes():
        recipe = load_recipe(name)
        assert Recipe.from_mapping(recipe.as_dict()) == recipe


@pytest.mark.parametrize(("name", "label"), list(PINNED))
def test_the_first_image_is_pinned(name: str, label: str) -> None:
    # a change here changes every dataset: raise the version of the recipe with it
    recipe = load_recipe(name)
    drawn = draw(recipe, 0, [Sample("train", label, 0)])
    center, values = PINNED[name, label]
    middle = recipe.n_pixels // 2
    pixels = drawn.image[0, 0, middle, middle // 2 :: middle // 5][:6].numpy()
    assert recipe.version == 2
    assert drawn.parameters[0]["source_center_x"] == pytest.approx(center, rel=1e-14)
    np.testing.assert_allclose(pixels, values, rtol=0, atol=0 if name == "model_i" else 1e-4 * max(values))


@pytest.mark.parametrize("name", ["model_ii", "model_iii"])
def test_the_noiseless_recipes_store_twice_the_expected_image(name: str) -> None:
    clean = load_recipe(f"{name}_noiseless")
    assert (clean.observation.noise, clean.observation.scale) == ("none", 2.0)
    assert (clean.lens, clean.source, clean.classes) == (
        load_recipe(name).lens,
        load_recipe(name).source,
        load_recipe(name).classes,
    )


def test_noise_does_not_reuse_the_numbers_of_the_scene() -> None:
    recipe, sample = load_recipe("model_ii"), Sample("train", "no_sub", 0)
    drawn = draw(recipe, 3, [sample], torch.float64)
    noise = ((drawn.image - drawn.expected) / drawn.variance.sqrt()).flatten()
    streams = Streams.of([stable_key(3, "train", "no_sub")], [0])
    scene, other = (normal_quantile(streams.words(64 * 64, purpose)[0], torch.float64) for purpose in (0, 1))
    np.testing.assert_allclose(noise, other, atol=1e-9)
    assert not np.isclose(noise, scene).any(), "scene and noise come from one stream"


def test_samples_come_split_by_split_with_classes_in_turn() -> None:
    recipe = load_recipe("model_ii")
    recipe = dataclasses.replace(recipe, counts=dataclasses.replace(recipe.counts, train=2, validation=0, test=1))
    assert [sample.id for sample in recipe.samples()] == [
        "train/no_sub/000000",
        "train/cdm/000000",
        "train/axion/000000",
        "train/no_sub/000001",
        "train/cdm/000001",
        "train/axion/000001",
        "test/no_sub/000000",
        "test/cdm/000000",
        "test/axion/000000",
    ]


def test_samples_are_made_when_they_are_asked_for() -> None:
    many = Samples(("a", "b"), Counts(train=10**12, validation=0, test=2))
    assert len(many) == 2 * 10**12 + 4
    assert many[2 * 10**12 - 1] == Sample("train", "b", 10**12 - 1)
    assert many[2 * 10**12] == Sample("test", "a", 0)
    assert many[-1] == Sample("test", "b", 1)
    assert many[-len(many)] == many[0] == Sample("train", "a", 0)
    assert many[-2:] == [Sample("test", "a", 1), Sample("test", "b", 1)]
    assert many[5:0:-2] == [many[5], many[3], many[1]]
    for index in (len(many), -len(many) - 1):
        with pytest.raises(IndexError):
            many[index]


def test_every_macro_quantity_may_vary() -> None:
    recipe = Recipe.from_mapping(
        with_(
            with_(with_(TABLE, "lens.e1", {"uniform": [-0.2, 0.2]}), "lens.theta_E", {"log_uniform": [0.8, 1.2]}),
            "source.e2",
            {"uniform": [-0.3, 0.3]},
        )
    )
    drawn = draw(recipe, 0, [Sample("train", "no_sub", k) for k in range(50)])
    columns = {name: np.array([row[name] for row in drawn.parameters]) for name in drawn.parameters[0]}
    assert set(columns) == {"lens_theta_E", "lens_e1", "source_e2"}
    assert 0.8 <= columns["lens_theta_E"].min() < columns["lens_theta_E"].max() <= 1.2
    assert len({tuple(image.flatten().tolist()) for image in drawn.expected}) == 50


def test_a_recipe_in_which_nothing_varies_but_the_noise() -> None:
    recipe = Recipe.from_mapping(TABLE)
    drawn = draw(recipe, 0, [Sample("train", "no_sub", k) for k in range(3)])
    assert drawn.image.shape == (3, 1, 16, 16)
    assert torch.equal(drawn.expected[0], drawn.expected[2])
    assert not torch.equal(drawn.image[0], drawn.image[2])
    assert drawn.parameters == [{}, {}, {}]


def test_no_sample_is_no_image() -> None:
    drawn = draw(load_recipe("model_i"), 0, [])
    assert drawn.image.shape == (0, 1, 150, 150)


def test_an_unknown_class_lists_the_nearest() -> None:
    with pytest.raises(UnknownName, match="no class is called 'cmd'") as caught:
        draw(load_recipe("model_ii"), 0, [Sample("train", "cmd", 0)])
    assert "cdm" in caught.value.expected


def moved(parameters: Parameters, quarter_turns: int, mirror: bool = False) -> Parameters:
    """Return the parameters of the same sky, mirrored at the x axis or not, then turned counter-clockwise."""
    after = dict(parameters)
    for name in parameters:
        if name.endswith("_x"):
            x, y = parameters[name], parameters[f"{name[:-1]}y"] * (-1) ** mirror
            for _ in range(quarter_turns):
                x, y = -y, x
            after |= {name: x, f"{name[:-1]}y": y}
        elif name.endswith(("_e1", "_gamma1")):
            after[name] = after[name] * (-1) ** quarter_turns
        elif name.endswith(("_e2", "_gamma2")):
            after[name] = after[name] * (-1) ** (quarter_turns + mirror)
        elif name.endswith("_angle"):
            after[name] = after[name] * (-1) ** mirror + quarter_turns * np.pi / 2
    return after


@pytest.mark.parametrize("name", list(shipped_recipes()))
def test_the_declared_symmetry_is_one_of_the_images(name: str) -> None:
    recipe = load_recipe(name)
    group = {"half_turn": [(2, False)], "d4": [(1, False), (0, True), (3, True)], "none": []}[recipe.symmetry]
    for label in recipe.labels:
        parameters = draw_parameters(recipe, label, streams_of(0, [Sample("train", label, k) for k in range(2)]))
        image = expected_images(recipe, label, parameters, torch.float64)
        for quarter_turns, mirror in group:
            other = expected_images(recipe, label, moved(parameters, quarter_turns, mirror), torch.float64)
            turned = (image.flip(-2) if mirror else image).rot90(-quarter_turns, (-2, -1))
            torch.testing.assert_close(other, turned, rtol=1e-8, atol=1e-11 * image.max().item())


@pytest.mark.parametrize("name", list(shipped_recipes()))
def test_the_declared_symmetry_is_one_of_the_priors(name: str) -> None:
    recipe = load_recipe(name)
    for label in recipe.labels:
        priors = {column: prior for column, (prior, _) in recipe.priors(label).items()}
        for column, prior in priors.items():
            if recipe.symmetry != "none" and column.endswith(("_x", "_y")):
                assert prior.bounds[0] == -prior.bounds[1], f"{column} prefers a side"
            if recipe.symmetry != "d4":
                continue
            for first, second in (("_x", "_y"), ("_e1", "_e2"), ("_gamma1", "_gamma2")):
                if column.endswith((first, second)):
                    assert prior.bounds[0] == -prior.bounds[1], f"{column} prefers a side"
                    assert priors[column.replace(first, second)] == priors[column.replace(second, first)]
        if recipe.symmetry == "d4":
            assert all(light.kind != "spiral" for light in recipe.lights(label).values()), "spirals wind one way"


@pytest.mark.parametrize("name", ["model_i", "model_ii", "model_iii"])
def test_the_published_models_have_no_mirror(name: str) -> None:
    recipe = load_recipe(name)
    parameters = draw_parameters(recipe, "no_sub", streams_of(0, [Sample("train", "no_sub", k) for k in range(2)]))
    image = expected_images(recipe, "no_sub", parameters, torch.float64)
    for axis, column in ((-1, "source_center_x"), (-2, "source_center_y")):
        mirrored = expected_images(recipe, "no_sub", parameters | {column: -parameters[column]}, torch.float64)
        assert (mirrored - image.flip(axis)).abs().max() > 0.01 * image.max(), "the population has a mirror too"
