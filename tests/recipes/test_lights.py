"""Light of a recipe: fluxes and colors, galaxies that may be absent, foreground, pictures, and what lenses them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from astropy.io import fits
from PIL import Image
from scipy import stats

from deeplense.recipes.draw import Drawn, draw, expected_images, streams_of
from deeplense.recipes.recipe import Recipe, Sample, load_recipe
from deeplense.recipes.scenes import draw_parameters

DISC: dict[str, Any] = {"R_sersic": 0.3, "magnitude": 21.0}
FREE = {"center_x": {"uniform": [-0.5, 0.5]}, "center_y": {"uniform": [-0.5, 0.5]}}


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Return a table for each kind of light, in which everything that may vary does."""
    path = tmp_path_factory.mktemp("pictures") / "galaxy.npy"
    np.save(path, np.random.default_rng(0).random((9, 7)))
    shape: dict[str, Any] = {
        **FREE,
        "R_sersic": {"log_uniform": [0.2, 0.4]},
        "magnitude": {"normal": [21.0, 0.3]},
        "e1": {"uniform": [-0.2, 0.2]},
        "e2": {"uniform": [-0.2, 0.2]},
    }
    arms = {"contrast": {"uniform": [0.3, 1.0]}, "pitch": {"uniform": [0.2, 0.6]}, "phase": {"uniform": [0.0, 6.28]}}
    return {
        "sersic": shape | {"n_sersic": {"uniform": [0.8, 1.5]}},
        "spiral": shape | {"kind": "spiral"} | arms,
        "ring": shape | {"kind": "ring", "width": {"uniform": [0.1, 0.3]}},
        "image": FREE
        | {"kind": "image", "file": str(path), "magnitude": {"uniform": [20.0, 22.0]}}
        | {"pixel_scale": {"uniform": [0.05, 0.1]}, "angle": {"uniform": [0.0, 6.28]}},
    }


def recipe_of(lights: dict[str, Any] | None = None, **parts: Any) -> Recipe:
    """Return a noise-free recipe with a class "lens" and a class "field" that has the foreground alone."""
    table = {
        "name": "mine",
        "version": 1,
        "description": "a recipe",
        "reference": "this test",
        "instrument": "published_ii",
        "n_pixels": 24,
        "lens": {"theta_E": 0.7, "e1": 0.1, "gamma2": 0.03},
        "source": DISC | FREE,
        "observation": {"noise": "none"},
        "light": lights or {},
        "classes": {"lens": {}, "field": {"lensed": False}},
    }
    return Recipe.from_mapping(table | parts)


def images(recipe: Recipe, label: str, n: int = 6, dtype: torch.dtype = torch.float64) -> Drawn:
    """Return the first images of a class."""
    return draw(recipe, 0, [Sample("train", label, k) for k in range(n)], dtype)


# flux


@pytest.mark.parametrize("kind", ["sersic", "spiral", "ring", "image"])
def test_the_flux_of_light_is_that_of_its_magnitude(kinds: dict[str, Any], kind: str) -> None:
    recipe = recipe_of({"galaxy": kinds[kind]}, n_pixels=96, observation={"noise": "none", "supersampling": 4})
    drawn = images(recipe, "field")
    rates = [recipe.instruments()[0].electron_rate(row["galaxy_magnitude"]) for row in drawn.parameters]  # type: ignore[arg-type]
    torch.testing.assert_close(drawn.expected.sum((1, 2, 3)), torch.tensor(rates).double(), rtol=0.02, atol=0)


def test_an_amplitude_is_the_brightness_at_the_half_light_radius() -> None:
    galaxy = {"R_sersic": 0.5, "amplitude": 7.0, "n_sersic": 2.0}  # of an instrument without a zero point
    recipe = recipe_of({"galaxy": galaxy}, instrument="published_i", source=galaxy, n_pixels=41)
    image = images(recipe, "field", 1).expected[0, 0]
    assert image[20, 30].item() == pytest.approx(7 * 0.05**2, rel=0.02)


@pytest.mark.parametrize("kind", ["sersic", "spiral", "ring", "image"])
def test_colors_are_magnitudes_of_the_first_band_minus_the_others(kinds: dict[str, Any], kind: str) -> None:
    bands = ("kids_r", "kids_g", "kids_i", "kids_u")
    table = kinds[kind] | {"colors": [-0.5, {"uniform": [0.2, 0.8]}]}  # the last band has none
    fine = {"noise": "none", "supersampling": 4}
    recipe = recipe_of({"galaxy": table}, instrument=bands, n_pixels=64, observation=fine)
    drawn = images(recipe, "field", 3)
    assert drawn.expected.shape == (3, 4, 64, 64)
    for row, image in zip(drawn.parameters, drawn.expected, strict=True):
        magnitude = row["galaxy_magnitude"]
        assert isinstance(magnitude, float)
        magnitudes = [magnitude, magnitude + 0.5, magnitude - row["galaxy_color_2"], magnitude]  # type: ignore[operator]
        rates = [band.electron_rate(m) for band, m in zip(recipe.instruments(), magnitudes, strict=True)]
        torch.testing.assert_close(image.sum((1, 2)), torch.tensor(rates).double(), rtol=0.03, atol=0)


def test_each_band_has_its_own_psf_and_noise() -> None:
    bands = ("rubin_g", "rubin_z")
    recipe = recipe_of(instrument=bands, observation={"noise": "background_and_shot"}, n_pixels=16)
    drawn = images(recipe, "lens", 20)
    for k, name in enumerate(bands):
        alone = images(recipe_of(instrument=name, n_pixels=16), "lens", 20)
        assert torch.equal(drawn.expected[:, k], alone.expected[:, 0])
        sigma, time = recipe.instruments()[k].background_sigma(), recipe.instruments()[k].total_exposure_time
        assert time is not None
        torch.testing.assert_close(drawn.variance[:, k], sigma**2 + drawn.expected[:, k] / time)
        z = ((drawn.image - drawn.expected) / drawn.variance.sqrt())[:, k].flatten()
        assert stats.kstest(z.numpy(), "norm").pvalue > 1e-3
    noise = ((drawn.image - drawn.expected) / drawn.variance.sqrt()).flatten(2)
    correlation = np.corrcoef(noise[:, 0].flatten(), noise[:, 1].flatten())[0, 1]
    assert abs(correlation) < 4.5 / noise[:, 0].numel() ** 0.5, "bands share their noise"


# galaxies that may be absent


@pytest.mark.parametrize("kind", ["sersic", "spiral", "ring", "image"])
def test_an_image_shows_exactly_the_galaxies_that_are_there(kinds: dict[str, Any], kind: str) -> None:
    table = kinds[kind] | {"colors": [{"uniform": [0.0, 1.0]}]}
    bands = {"instrument": ("kids_r", "kids_g")}
    several = recipe_of({"galaxy": table | {"count": 3, "probability": 0.5}}, **bands)
    drawn = images(several, "field", 12)
    assert torch.isfinite(drawn.expected).all()
    seen = set()
    for row, image in zip(drawn.parameters, drawn.expected, strict=True):
        present = np.array(row["galaxy_present"]) == 1
        total = torch.zeros_like(image)
        for slot in range(3):
            values = {name: np.array(column)[slot] for name, column in row.items()}  # type: ignore[index]
            assert all(np.isnan(value) != present[slot] for name, value in values.items() if name != "galaxy_present")
            if present[slot]:
                del values["galaxy_present"]
                one = recipe_of({"galaxy": table}, **bands)
                total += expected_images(one, "field", {k: np.array([v]) for k, v in values.items()}, torch.float64)[0]
        torch.testing.assert_close(image, total, rtol=1e-9, atol=1e-12)
        seen.add(present.sum())
    assert {0, 1, 2} <= seen


def test_the_number_of_galaxies_is_binomial() -> None:
    recipe = recipe_of({"galaxy": DISC | FREE | {"count": 4, "probability": 0.3}})
    n = 5000
    columns = draw_parameters(recipe, "field", streams_of(0, [Sample("train", "field", k) for k in range(n)]))
    assert {name: column.shape for name, column in columns.items()} == dict.fromkeys(
        ("galaxy_center_x", "galaxy_center_y", "galaxy_present"), (n, 4)
    )
    present = columns["galaxy_present"] == 1
    expected = stats.binom(4, 0.3).pmf(range(5)) * n
    assert stats.chisquare(np.bincount(present.sum(1), minlength=5), expected).pvalue > 1e-3
    np.testing.assert_array_equal(np.isnan(columns["galaxy_center_x"]), ~present)
    values = columns["galaxy_center_x"][present]
    assert stats.kstest(values, stats.uniform(-0.5, 1).cdf).pvalue > 1e-3
    correlation = np.corrcoef(present.T)
    assert np.abs(correlation - np.eye(4)).max() < 4.5 / n**0.5


def test_a_source_may_have_several_parts_or_be_absent() -> None:
    recipe = recipe_of(source=DISC | FREE | {"count": 2, "probability": 0.5})
    drawn = images(recipe, "lens", 20)
    for row, image in zip(drawn.parameters, drawn.expected, strict=True):
        assert bool(image.any()) == (1 in row["source_present"])  # type: ignore[operator]


@pytest.mark.parametrize(("probability", "there"), [(0.0, False), (1.0, True)])
def test_never_and_always(probability: float, there: bool) -> None:
    recipe = recipe_of({"galaxy": DISC | {"count": 2, "probability": probability}})
    drawn = images(recipe, "field")
    assert bool(drawn.expected.any()) is there
    assert all(row["galaxy_present"] == [float(there)] * 2 for row in drawn.parameters)


def test_a_class_without_any_light_is_noise_alone() -> None:
    table = {"lens": {}, "field": {"lensed": False, "light": []}}
    recipe = recipe_of({"galaxy": DISC}, classes=table, observation={"noise": "background_and_shot"})
    drawn = images(recipe, "field", 4)
    assert drawn.image.shape == (4, 1, 24, 24)
    assert not drawn.expected.any()
    assert drawn.image.std().item() == pytest.approx(recipe.instruments()[0].background_sigma(), rel=0.1)
    assert drawn.parameters == [{}] * 4


# foreground and lenses


def test_the_foreground_is_added_unlensed(kinds: dict[str, Any]) -> None:
    lights = {"spiral": kinds["spiral"], "companion": kinds["sersic"] | {"count": 2, "probability": 0.7}}
    recipe = recipe_of(lights)
    drawn = images(recipe, "lens")
    for row, image in zip(drawn.parameters, drawn.expected, strict=True):
        columns = {name: np.array([value]) for name, value in row.items()}
        foreground = {name: value for name, value in columns.items() if not name.startswith("source")}
        behind = {name: value for name, value in columns.items() if name.startswith("source")}
        parts = (
            expected_images(recipe, "field", foreground, torch.float64)[0],
            expected_images(recipe_of(), "lens", behind, torch.float64)[0],
        )
        torch.testing.assert_close(image, parts[0] + parts[1], rtol=1e-9, atol=1e-12)
        assert parts[0].any()
        assert parts[1].any()


def test_a_class_has_the_light_it_lists(kinds: dict[str, Any]) -> None:
    classes = {"both": {}, "one": {"light": ["ring"]}, "none": {"light": []}, "field": {"lensed": False}}
    recipe = recipe_of({"spiral": kinds["spiral"], "ring": kinds["ring"]}, classes=classes)
    owners = {
        label: {column.split("_")[0] for column in recipe.priors(label)} for label in ("both", "one", "none", "field")
    }
    assert owners == {
        "both": {"source", "spiral", "ring"},
        "one": {"source", "ring"},
        "none": {"source"},
        "field": {"spiral", "ring"},
    }
    for label in recipe.labels:
        assert set(images(recipe, label, 1).parameters[0]) == set(recipe.priors(label))


def test_a_field_without_lens_does_not_draw_one() -> None:
    recipe = recipe_of({"galaxy": DISC | FREE}, lens={"theta_E": {"uniform": [0.5, 0.8]}})
    assert set(recipe.priors("lens")) == {
        *("lens_theta_E", "source_center_x", "source_center_y", "galaxy_center_x", "galaxy_center_y")
    }
    assert set(recipe.priors("field")) == {"galaxy_center_x", "galaxy_center_y"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_slope_of_two_is_isothermal(dtype: torch.dtype) -> None:
    lens = {"theta_E": 0.7, "e1": 0.15, "e2": -0.1, "center_x": 0.05}
    plain = recipe_of(lens=lens)
    parameters = draw_parameters(plain, "lens", streams_of(0, [Sample("train", "lens", k) for k in range(4)]))
    sie = expected_images(plain, "lens", parameters, dtype)
    tolerance = 2e-5 if dtype == torch.float32 else 1e-7
    for slope in (2.0 + 1e-9, {"uniform": [2.0 - 1e-9, 2.0]}):
        recipe = recipe_of(lens=lens | {"slope": slope})
        assert ("lens_slope" in recipe.priors("lens")) == isinstance(slope, dict)
        drawn = {"lens_slope": np.full(4, 2.0)} if isinstance(slope, dict) else {}
        epl = expected_images(recipe, "lens", parameters | drawn, dtype)
        assert (epl - sie).abs().max() < tolerance * sie.max()
    steep = expected_images(recipe_of(lens=lens | {"slope": 2.3}), "lens", parameters, dtype)
    assert (steep - sie).abs().max() > 0.05 * sie.max()


@pytest.mark.parametrize("field", ["theta_E", "e1", "e2", "slope", "center_x", "center_y", "gamma1", "gamma2"])
def test_a_drawn_lens_and_a_fixed_one_are_the_same_lens(field: str) -> None:
    lens = {"theta_E": 0.7, "e1": 0.1, "e2": -0.05, "center_x": 0.02, "gamma1": 0.03}
    value = 2.2 if field == "slope" else 0.11 if field != "theta_E" else 0.8
    varied = recipe_of(lens=lens | {field: {"uniform": [value, value]}})
    drawn = images(varied, "lens", 2)
    fixed = images(recipe_of(lens=lens | {field: value}), "lens", 2)
    assert drawn.parameters[0][f"lens_{field}"] == value
    columns = {k: np.array([v]) for k, v in drawn.parameters[1].items()}
    again = expected_images(recipe_of(lens=lens | {field: value}), "lens", columns, torch.float64)
    torch.testing.assert_close(again[0], drawn.expected[1], rtol=1e-9, atol=1e-12)
    assert fixed.expected.shape == drawn.expected.shape


# pictures


def lopsided_picture() -> np.ndarray:
    """Return a picture with a bright corner: the last row, the first column."""
    picture = np.ones((6, 8), dtype=np.uint8)
    picture[-1, 0] = 200
    return picture


def write(picture: np.ndarray, path: Path) -> Path:
    """Write a picture whose rows go up the sky."""
    if path.suffix == ".npy":
        np.save(path, picture)
    elif path.suffix == ".fits":
        fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(picture.astype(np.float32))]).writeto(path)
    else:
        Image.fromarray(picture[::-1]).save(path)  # row 0 of a picture is its top
    return path


@pytest.mark.parametrize("suffix", [".npy", ".fits", ".png", ".tif"])
def test_a_picture_is_a_source_whatever_its_file(tmp_path: Path, suffix: str) -> None:
    path = write(lopsided_picture(), tmp_path / f"galaxy{suffix}")
    galaxy = {"kind": "image", "file": str(path), "pixel_scale": 0.2, "magnitude": 21.0}
    image = images(recipe_of({"galaxy": galaxy}, n_pixels=32), "field", 1).expected[0, 0]
    row, column = divmod(int(image.argmax()), 32)
    assert row > 16, "the bright corner is at the top of the sky"
    assert column < 16, "the bright corner is at the left"
    reference = write(lopsided_picture(), tmp_path / "reference.npy")
    same = images(recipe_of({"galaxy": galaxy | {"file": str(reference)}}, n_pixels=32), "field", 1)
    torch.testing.assert_close(image, same.expected[0, 0])
    lensed = images(recipe_of(source=galaxy), "lens", 1).expected
    assert torch.isfinite(lensed).all()
    assert lensed.sum() > same.expected.sum(), "a lens magnifies"


def test_a_picture_turns_counter_clockwise(tmp_path: Path) -> None:
    path = write(np.pad(lopsided_picture(), ((1, 1), (0, 0))), tmp_path / "galaxy.npy")  # square
    galaxy = {"kind": "image", "file": str(path), "pixel_scale": 0.2, "magnitude": 21.0}
    upright, turned = (
        images(recipe_of({"galaxy": galaxy | {"angle": angle}}), "field", 1).expected for angle in (0.0, np.pi / 2)
    )
    torch.testing.assert_close(turned, upright.rot90(-1, (-2, -1)))  # rows go up: the sense of rot90 is the other one


def test_a_recipe_finds_its_files_beside_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sub").mkdir()
    write(lopsided_picture(), tmp_path / "sub" / "galaxy.png")
    camera = 'description = "mine"\nreference = "this test"\npixel_scale = 0.1\npsf_fwhm = 0.2\nzero_point = 25.0\n'
    (tmp_path / "sub" / "camera.toml").write_text(camera, encoding="utf-8")
    (tmp_path / "sub" / "mine.toml").write_text(
        'name = "mine"\nversion = 1\ndescription = "d"\nreference = "r"\ninstrument = "camera.toml"\nn_pixels = 16\n'
        '[lens]\ntheta_E = 0.5\n[source]\nkind = "image"\nfile = "galaxy.png"\npixel_scale = 0.1\nmagnitude = 20.0\n'
        '[observation]\nnoise = "none"\n[classes.lens]\n[light.other]\nkind = "image"\nfile = "galaxy.png"\n'
        "pixel_scale = 0.1\nmagnitude = 20.0\n",
        encoding="utf-8",
    )
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe(Path("sub/mine.toml"))
    assert recipe.source.file == recipe.light["other"].file == tmp_path / "sub" / "galaxy.png"
    assert recipe.instruments()[0].description == "mine"
    assert images(recipe, "lens", 1).expected.sum() > 0
    assert Recipe.from_mapping(recipe.as_dict()) == recipe
