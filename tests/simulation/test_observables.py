"""Catalogues with what is measured on the images: the same bytes however they are made, and nothing in other sets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from deeplense.core.errors import CorruptFile, InvalidOption
from deeplense.core.files import sha256
from deeplense.data.dataset import Dataset, open_dataset
from deeplense.data.features import choose_features, roles_of
from deeplense.recipes.recipe import load_recipe, shipped_recipes
from deeplense.simulate import simulate
from deeplense.simulation.photometry import Photometer


def digests(folder: Path) -> dict[str, str]:
    return {path.name: sha256(path) for path in folder.iterdir()}


@pytest.fixture(scope="module")
def small(write_recipe: Callable[..., str]) -> str:
    """Return a recipe of 18 images that are measured: three shards of eight."""
    return write_recipe("lens_finding_4band", n_pixels=24, supersampling=1)


@pytest.fixture
def made(small: str, small_shards: None, tmp_path: Path) -> Path:
    return simulate(recipe=small, out=tmp_path / "made")


def test_the_columns_are_those_of_the_stored_images(small: str, made: Path) -> None:
    dataset = open_dataset(made)
    camera = Photometer.of(load_recipe(small))
    found = camera.measure(torch.from_numpy(dataset.images(range(len(dataset)))))
    for name in camera.columns:
        values = [np.nan if value is None else value for value in dataset.catalogue[name].to_pylist()]
        np.testing.assert_array_equal(values, found[name].numpy(), name)
    assert choose_features(dataset, (), allow_truth=False) == camera.columns


def test_what_was_drawn_stays_truth(made: Path) -> None:
    dataset: Dataset = open_dataset(made)
    roles = roles_of(dataset)
    assert {"lens_theta_E", "source_magnitude", "galaxy_magnitude"} <= set(roles.of("truth"))
    assert not any(name.startswith("measured_") for name in roles.of("truth"))
    with pytest.raises(InvalidOption, match="truth"):
        choose_features(dataset, ("galaxy_magnitude",), allow_truth=False)


@pytest.mark.parametrize("parts", [("1/3", "2/3", "3/3"), ("2/2", "1/2")], ids=" ".join)
def test_parts_make_the_same_bytes(parts: tuple[str, ...], small: str, made: Path, tmp_path: Path) -> None:
    for part in parts:
        simulate(recipe=small, out=tmp_path / "parts", shard=part)
    assert digests(tmp_path / "parts") == digests(made)


@pytest.mark.parametrize("name", ["catalogue.parquet", "shard-00001.h5"])
def test_a_damaged_set_is_mended(name: str, small: str, made: Path) -> None:
    before = digests(made)
    (made / name).write_bytes(b"")
    simulate(recipe=small, out=made)
    assert digests(made) == before


def test_a_damaged_shard_of_an_unfinished_set_is_named(small: str, small_shards: None, tmp_path: Path) -> None:
    simulate(recipe=small, out=tmp_path, shard="1/3")
    (tmp_path / "shard-00000.h5").write_bytes(b"no shard")
    with pytest.raises(CorruptFile, match=r"shard-00000\.h5"):
        simulate(recipe=small, out=tmp_path)
    assert not (tmp_path / "manifest.json").exists()
    (tmp_path / "shard-00000.h5").unlink()
    assert "measured_mag_r" in open_dataset(simulate(recipe=small, out=tmp_path)).catalogue.column_names


def test_other_recipes_are_as_they_were() -> None:
    asked = {name for name in shipped_recipes() if "observables" in load_recipe(name).as_dict()}
    assert asked == {"lens_finding", "lens_finding_4band", "lens_finding_gri"}


def test_rescaled_images_cannot_be_measured(write_recipe: Callable[..., str]) -> None:
    path = Path(write_recipe("lens_finding"))
    path.write_text(path.read_text().replace("[observation]", '[observation]\nrescale = "min_max"'))
    with pytest.raises(InvalidOption, match="rescaled"):
        load_recipe(path)
