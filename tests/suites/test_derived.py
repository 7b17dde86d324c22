"""Derived recipes: the noise is what is said, several bands and any recipe are served, and nothing else changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from deeplense.core.degradation import Degradation
from deeplense.core.errors import InvalidOption, UnknownName
from deeplense.recipes.draw import moments
from deeplense.recipes.recipe import Recipe, load_recipe, shipped_recipes
from deeplense.suites.declared import Data
from deeplense.suites.derived import recipe_for


def derived(folder: Path, recipe: str, **changes: Any) -> Recipe:
    return load_recipe(recipe_for("derived", Data(recipe, **changes), Path(), folder))


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_the_noise_of_any_recipe_is_scaled_and_its_scenes_are_kept(name: str, tmp_path: Path) -> None:
    before = load_recipe(name)
    after = derived(tmp_path, name, noise=2.0)
    kept = [part for part in before.as_dict() if part not in ("instrument", "observation", "description")]
    assert {part: after.as_dict()[part] for part in kept} == {part: before.as_dict()[part] for part in kept}
    if before.observation.noise == "none":
        return
    for old, new in zip(before.instruments(), after.instruments(), strict=True):
        assert new.background_sigma() == pytest.approx(2 * old.background_sigma())
        times = [recipe.observation.seconds(band) for recipe, band in ((before, old), (after, new))]
        bounds = [getattr(time, "bounds", (time, time)) for time in times]
        assert [high / low for high, low in zip(*bounds, strict=True)] == pytest.approx([4, 4])


@pytest.mark.parametrize("name", ["model_ii", "model_iii_physical", "common_test"])
def test_the_variance_is_that_of_the_factor_squared(name: str, tmp_path: Path) -> None:
    rate = torch.rand(2, 1, 4, 4, dtype=torch.float64) + 0.5
    plain, noisy = (moments(recipe, rate, {})[1] for recipe in (load_recipe(name), derived(tmp_path, name, noise=3.0)))
    assert torch.allclose(noisy / plain, torch.tensor(9.0, dtype=torch.float64))


def test_counts_keep_their_signal_to_noise_over_the_factor(tmp_path: Path) -> None:
    rate, time = torch.full((1, 1, 2, 2), 5.0, dtype=torch.float64), 1600.0
    means, variances = [], []
    for recipe, seconds in ((load_recipe("model_i"), time), (derived(tmp_path, "model_i", noise=2.0), time / 4)):
        mean, variance = moments(recipe, rate, {"exposure_time": torch.tensor([seconds], dtype=torch.float64).numpy()})
        means.append(mean)
        variances.append(variance)
    ratio = (means[0] / variances[0].sqrt()) / (means[1] / variances[1].sqrt())
    assert torch.allclose(ratio, torch.tensor(2.0, dtype=torch.float64), rtol=1e-3)


def test_any_setting_can_be_changed(tmp_path: Path) -> None:
    recipe = derived(tmp_path, "model_ii", change={"lens.e1": 0.3, "classes.cdm.count": 50, "n_pixels": 32})
    assert recipe.lens.e1 == 0.3 and recipe.classes["cdm"]["count"] == 50 and recipe.n_pixels == 32
    assert "lens.e1 = 0.3" in recipe.description


@pytest.mark.parametrize("name", ["model_ii", "super_resolution"])
def test_any_recipe_becomes_one_of_pairs(name: str, tmp_path: Path) -> None:
    pair = {"factor": 4, "method": "gaussian", "blur": 1.5}
    before, after = load_recipe(name), derived(tmp_path, name, change={"pair": pair, "n_pixels": 64})
    assert after.pair == Degradation(4, "gaussian", 1.5) and after.lens == before.lens
    assert 'pair = { "factor" = 4, "method" = "gaussian", "blur" = 1.5 }' in after.description


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"lens.e3": 0.3}, InvalidOption, "e1"),
        ({"lenz.e1": 0.3}, UnknownName, "lens"),
        ({"n_pixel": 3}, UnknownName, "n_pixels"),
        ({"lens.e1": "x"}, InvalidOption, "derived"),
        ({"pair": {"factor": 3}}, InvalidOption, "64 pixels"),
        ({"pair.factor": 2}, UnknownName, "pair"),
    ],
)
def test_a_setting_that_cannot_be(change: dict[str, Any], kind: type[Exception], words: str, tmp_path: Path) -> None:
    with pytest.raises(kind) as caught:
        derived(tmp_path, "model_ii", change=change)
    assert words in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_recipe_that_is_not_changed_is_taken_as_it_is(tmp_path: Path) -> None:
    assert recipe_for("x", Data("model_ii"), Path(), tmp_path) == "model_ii"
    assert not list(tmp_path.iterdir())


def test_deriving_twice_writes_once(tmp_path: Path) -> None:
    derived(tmp_path, "model_ii", noise=2.0)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    derived(tmp_path, "model_ii", noise=2.0)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before
