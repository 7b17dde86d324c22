"""Truth: the substructure is where and as heavy as it was drawn, and as visible as a matched filter says."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import deeplense.recipes
from deeplense.data.dataset import Dataset, open_dataset
from deeplense.recipes.draw import expected_images, moments, observe, streams_of
from deeplense.recipes.recipe import Recipe, Sample, load_recipe
from deeplense.recipes.scenes import draw_parameters
from deeplense.simulate import simulate
from deeplense.simulation import truth as truth_module
from deeplense.simulation.fresh import RecipeDataset
from deeplense.simulation.truth import Truth, source_signal, substructure_convergence, substructure_signal
from deeplense.sky import halo

SAMPLES = {label: [Sample("test", label, k) for k in range(6)] for label in ("no_sub", "cdm", "axion")}


def drawn(recipe: Recipe, label: str) -> dict[str, np.ndarray]:
    return draw_parameters(recipe, label, streams_of(3, SAMPLES[label]))


def snr(recipe: Recipe, label: str, parameters: dict[str, np.ndarray]) -> np.ndarray:
    return np.asarray(substructure_signal(recipe, label, parameters).square().sum((1, 2, 3)).sqrt().numpy())


def with_class(recipe: Recipe, label: str, **settings: Any) -> Recipe:
    return replace(recipe, classes=recipe.classes | {label: recipe.classes[label] | settings})


@pytest.fixture(scope="module")
def model_ii() -> Recipe:
    return load_recipe("model_ii")


# ---- where the mass is


@pytest.mark.parametrize("label", ["cdm", "axion"])
def test_the_map_of_point_masses_holds_their_mass(model_ii: Recipe, label: str) -> None:
    parameters = drawn(model_ii, label)
    plane, pixel = model_ii.lens.plane, model_ii.instruments()[0].pixel_scale
    map_ = substructure_convergence(model_ii, label, parameters)
    mass = map_.double().sum((1, 2, 3)).numpy() * pixel**2 / (math.pi * plane.theta_E2_per_solar_mass)
    wanted = parameters["halo_mass"].sum(1) if label == "cdm" else np.full(6, 3e10)
    np.testing.assert_allclose(mass, wanted, rtol=1e-4)  # all of Model II's masses lie within the field


def test_a_point_mass_is_in_the_pixel_that_holds_it(model_ii: Recipe) -> None:
    one = with_class(model_ii, "cdm", count=1)
    parameters = {"halo_mass": np.array([[1e9]]), "halo_x": np.array([[1.02]]), "halo_y": np.array([[-0.52]])}
    row, column = divmod(int(substructure_convergence(one, "cdm", parameters).flatten().argmax()), 64)
    assert abs((column - 31.5) * 0.101 - 1.02) <= 0.0505
    assert abs((row - 31.5) * 0.101 + 0.52) <= 0.0505


@pytest.mark.parametrize("profile", ["point_mass", "tnfw"])
def test_the_map_of_haloes_integrates_to_their_mass(profile: str) -> None:
    recipe = load_recipe("model_ii_physical")
    recipe = with_class(recipe, "cdm", profile=profile, mass_sheet="compensated", radius=1.0)
    plane, pixel = recipe.lens.plane, recipe.instruments()[0].pixel_scale
    mass = np.array([[1e9, 3e8, np.nan]])
    x, y = np.array([[0.3, -0.7, np.nan]]), np.array([[0.1, 0.4, np.nan]])
    parameters = {"halo_mass": mass, "halo_x": x, "halo_y": y}
    wanted = np.nansum(mass)
    if profile == "tnfw":
        m = mass[0, :2]
        Rs, alpha_Rs = halo.nfw_parameters(m, halo.concentration(m, plane), plane)
        tau = halo.truncation_radius(m, 50.0, plane) / Rs
        projected = alpha_Rs * Rs / (1 - math.log(2)) / plane.theta_E2_per_solar_mass
        wanted = float((projected * halo.tnfw_total_mass(tau)).sum())
    total = float(substructure_convergence(recipe, "cdm", parameters).sum()) * pixel**2
    assert total / (math.pi * plane.theta_E2_per_solar_mass) == pytest.approx(wanted, rel=0.04)


def test_a_smooth_lens_has_no_map_and_no_signal(model_ii: Recipe) -> None:
    parameters = drawn(model_ii, "no_sub")
    assert not substructure_convergence(model_ii, "no_sub", parameters).any()
    assert not substructure_signal(model_ii, "no_sub", parameters).any()


# ---- how much of it can be seen


@pytest.mark.parametrize("label", ["cdm", "axion"])
def test_the_ratio_is_what_a_matched_filter_finds_in_noisy_images(model_ii: Recipe, label: str) -> None:
    n = 400
    one = {name: column[:1] for name, column in drawn(model_ii, label).items()}
    source = {name: column for name, column in one.items() if name.startswith("source_")}
    smooth, lumpy = expected_images(model_ii, "no_sub", source), expected_images(model_ii, label, one)
    many = {name: np.repeat(column, n, axis=0) for name, column in one.items()}
    streams = streams_of(0, [Sample("noise", label, k) for k in range(n)])
    observed = observe(model_ii, lumpy.expand(n, -1, -1, -1).contiguous(), many, streams)
    variance = moments(model_ii, lumpy, one)[1]
    template = substructure_signal(model_ii, label, one)
    filtered = ((observed - smooth) / variance.sqrt() * template).sum((1, 2, 3)) / template.square().sum().sqrt()
    assert float(filtered.std()) == pytest.approx(1, abs=0.12)
    assert float(filtered.mean()) == pytest.approx(float(snr(model_ii, label, one)[0]), abs=4 / n**0.5)


def test_the_signal_scales_with_the_noise(model_ii: Recipe) -> None:
    parameters = drawn(model_ii, "cdm")
    short, long = (
        replace(model_ii, observation=replace(model_ii.observation, exposure_time=time)) for time in (1e-3, 4e-3)
    )  # so short that shot noise is all the noise
    np.testing.assert_allclose(snr(long, "cdm", parameters), 2 * snr(short, "cdm", parameters), rtol=0.02)
    scaled = replace(model_ii, observation=replace(model_ii.observation, scale=7.0))
    np.testing.assert_allclose(snr(scaled, "cdm", parameters), snr(model_ii, "cdm", parameters), rtol=1e-4)


def test_heavier_substructure_is_easier_to_see(model_ii: Recipe) -> None:
    parameters = drawn(model_ii, "cdm")
    heavier = parameters | {"halo_mass": parameters["halo_mass"] * 1.3}
    light = parameters | {"halo_mass": parameters["halo_mass"] * 1e-9}
    assert (snr(model_ii, "cdm", heavier) > snr(model_ii, "cdm", parameters)).all()
    assert (snr(model_ii, "cdm", light) < 0.01).all()


@pytest.fixture(scope="module")
def finding() -> Recipe:
    return replace(load_recipe("lens_finding"), n_pixels=33)


def lenses(recipe: Recipe) -> dict[str, np.ndarray]:
    return draw_parameters(recipe, "lens", streams_of(3, [Sample("test", "lens", k) for k in range(4)]))


def test_the_signal_of_arcs_is_their_light_alone_in_units_of_all_the_noise(finding: Recipe) -> None:
    parameters = lenses(finding)
    alone = with_class(finding, "lens", light=[])
    light = moments(alone, expected_images(alone, "lens", parameters), parameters)[0]
    noise = moments(finding, expected_images(finding, "lens", parameters), parameters)[1].sqrt()
    signal = source_signal(finding, "lens", parameters)
    np.testing.assert_allclose(signal, light / noise, atol=2e-4 * float(signal.max()))
    assert float(signal.square().sum((1, 2, 3)).sqrt().min()) > 1


def test_faint_arcs_have_a_signal_in_proportion_to_their_flux(finding: Recipe) -> None:
    parameters = lenses(finding)
    ratios = []
    for fainter in (3.0, 4.0):
        some = parameters | {"source_magnitude": parameters["source_magnitude"] + fainter}
        ratios.append(source_signal(finding, "lens", some).double().square().sum((1, 2, 3)).sqrt().numpy())
    np.testing.assert_allclose(ratios[0] / ratios[1], 10**0.4, rtol=0.05)


def test_arcs_of_a_lumpy_lens_have_a_signal_and_those_without_noise_none(finding: Recipe) -> None:
    lumpy = with_class(finding, "lens", kind="point_masses", count=1)
    parameters = draw_parameters(lumpy, "lens", streams_of(3, [Sample("test", "lens", 0)]))
    assert bool((source_signal(lumpy, "lens", parameters) > 1).any())
    clean = replace(finding, observation=replace(finding.observation, noise="none"))
    assert bool(source_signal(clean, "lens", lenses(clean)).isnan().all())


def test_what_makes_lenses_easy_is_of_the_catalogue_and_of_lenses_alone(tmp_path: Path) -> None:
    text = (Path(deeplense.recipes.__file__).parent / "lens_finding.toml").read_text()
    (tmp_path / "small.toml").write_text(text.replace("n_pixels = 101", "n_pixels = 33"))
    dataset = open_dataset(
        simulate(recipe=str(tmp_path / "small.toml"), train=0, validation=0, test=3, out=tmp_path / "set")
    )
    truth = Truth.of(dataset)
    assert truth is not None
    rows = dataset.indices("test")[::-1].copy()
    found, cropped = truth.lenses(rows), truth.lenses(rows, 9)
    table = dataset.catalogue.take(rows)
    is_lens = np.array(table["label"].to_pylist()) == "lens"
    for name, column in (("theta_E", "lens_theta_E"), ("source_magnitude", "source_magnitude")):
        np.testing.assert_array_equal(found[name][is_lens], table[column].to_numpy()[is_lens])
    for name in found:
        assert np.isnan(found[name][~is_lens]).all() and np.isfinite(found[name][is_lens]).all()
    assert (cropped["arc_snr"][is_lens] < found["arc_snr"][is_lens]).all()


def test_the_same_images_are_measured_once(small_set: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = Truth.of(open_dataset(small_set))
    assert truth is not None
    rows = truth.dataset.indices("test")
    first = truth.substructure(rows, 40)
    expected = {name: column.copy() for name, column in first.items()}
    first["substructure_snr"][:] = 0  # the caller's own
    with monkeypatch.context() as patched:
        patched.setattr(truth_module, "substructure_signal", lambda *_: pytest.fail("it was measured again"))
        again = Truth.of(open_dataset(small_set))
        assert again is not None
        np.testing.assert_equal(again.substructure(rows, 40), expected)
        for others, crop in ((rows[1:], 40), (rows, 41)):
            with pytest.raises(pytest.fail.Exception, match="again"):
                again.substructure(others, crop)


def test_bands_share_the_signal_among_them() -> None:
    truth = Truth.of(RecipeDataset("lens_finding_gri", compiled=False))
    assert truth is not None
    rows = np.flatnonzero(truth.dataset.targets() == 1)[:2]
    each = [truth.lenses(rows, 32, (band,))["arc_snr"] for band in range(3)]
    assert min(ratio.min() for ratio in each) > 0
    np.testing.assert_allclose(np.sqrt(np.square(each).sum(0)), truth.lenses(rows, 32)["arc_snr"], rtol=1e-6)


def test_images_without_noise_have_no_ratio() -> None:
    recipe = load_recipe("model_ii_noiseless")
    assert np.isnan(snr(recipe, "cdm", drawn(recipe, "cdm"))).all()


# ---- of a dataset


def test_stored_and_drawn_datasets_have_the_same_truth(write_recipe: Callable[..., str], tmp_path: Path) -> None:
    recipe = write_recipe(name="model_ii_physical", counts=(2, 2, 4))
    stored = open_dataset(simulate(recipe=recipe, out=tmp_path / "set"))
    rows = stored.indices("test")
    first, second = (Truth.of(dataset) for dataset in (stored, RecipeDataset(recipe, compiled=False)))
    assert first is not None and second is not None
    one, other = first.substructure(rows), second.substructure(rows)
    for name, column in one.items():
        np.testing.assert_allclose(column, other[name], rtol=1e-5, err_msg=name)
    labels = np.array(stored.catalogue["label"].take(rows).to_pylist())
    ratio = one["substructure_snr"]
    assert (ratio[labels == "no_sub"] == 0).all() and (ratio[labels != "no_sub"] > 0).all()
    assert np.isfinite(one["axion_mass"]).tolist() == (labels == "axion").tolist()
    table = stored.catalogue.take(rows).to_pylist()
    assert [row["axion_mass"] for row in table if row["axion_mass"]] == one["axion_mass"][labels == "axion"].tolist()
    np.testing.assert_allclose(
        [sum(row["halo_mass"]) for row in table if row["halo_mass"]], one["subhalo_mass"][labels == "cdm"]
    )
    assert first.lumpy == second.lumpy == ("cdm", "axion")


def test_the_maps_are_in_the_order_asked_for_and_cropped_like_the_images(small_set: Path) -> None:
    truth = Truth.of(open_dataset(small_set))
    assert truth is not None
    rows = truth.dataset.indices("test")
    convergence, signal = truth.maps(rows)
    assert convergence.shape == signal.shape == (24, 1, 64, 64)
    again, _ = truth.maps(rows[::-1].copy(), crop=32)
    torch.testing.assert_close(again.flip(0), convergence[:, :, 16:48, 16:48])
    ratio = signal.double().square().sum((1, 2, 3)).sqrt().numpy()
    np.testing.assert_allclose(ratio, truth.substructure(rows)["substructure_snr"], rtol=1e-5)
    assert (truth.substructure(rows, crop=16)["substructure_snr"] <= ratio * (1 + 1e-6)).all()


def test_the_blurred_map_is_empty_where_no_mass_is_near(small_set: Path) -> None:
    truth = Truth.of(open_dataset(small_set))
    assert truth is not None
    labels = np.array(truth.dataset.catalogue["label"].to_pylist())
    rows = np.flatnonzero(labels == "axion")[:12]
    convergence, _ = truth.maps(rows)
    (group,) = truth.known(rows)
    sharp = substructure_convergence(truth.recipe, group.label, group.parameters)
    near = torch.nn.functional.max_pool2d((sharp > 0).float(), 7, stride=1, padding=3) > 0  # the PSF reaches 3 pixels
    assert not convergence[~near].any()
    torch.testing.assert_close(convergence.sum((1, 2, 3)), sharp.sum((1, 2, 3)), rtol=1e-3, atol=0)


def test_galaxies_that_may_be_absent_keep_their_slot(tmp_path: Path) -> None:
    text = """
name = "mine"
version = 1
description = "two companions, each there in half of the images"
reference = "none"
instrument = "published_ii"
n_pixels = 24
[lens]
theta_E = 1.0
[source]
R_sersic = 0.25
magnitude = 20.0
[light.companion]
R_sersic = { uniform = [0.1, 0.3] }
magnitude = { uniform = [18.0, 22.0] }
center_x = { uniform = [-1.0, 1.0] }
count = 2
probability = 0.5
[classes.no_sub]
kind = "none"
[classes.cdm]
kind = "point_masses"
count = 2
[observation]
noise = "background_and_shot"
"""
    (tmp_path / "mine.toml").write_text(text)
    folder = simulate(recipe=str(tmp_path / "mine.toml"), train=0, validation=0, test=30, out=tmp_path / "set")
    truth = Truth.of(open_dataset(folder))
    assert truth is not None
    rows = truth.dataset.indices("test")
    for group in truth.known(rows):
        samples = [Sample("test", group.label, k) for k in range(30)]
        drawn_again = draw_parameters(truth.recipe, group.label, streams_of(0, samples))
        assert set(drawn_again) == set(group.parameters)
        for name, column in drawn_again.items():
            part = column[: len(group.places)] if group.places[0] < 2 else column[-len(group.places) :]
            np.testing.assert_array_equal(group.parameters[name], part, err_msg=name)


def test_a_foreign_dataset_has_no_truth(small_tree: Path) -> None:
    assert Truth.of(open_dataset(small_tree)) is None


def test_a_manifest_of_another_time_has_no_truth(small_set: Path) -> None:
    dataset: Dataset = open_dataset(small_set)
    dataset.manifest["recipe"] = {"name": "model_ii", "galaxy": 3}  # type: ignore[attr-defined]
    assert Truth.of(dataset) is None
