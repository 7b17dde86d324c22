"""What a dataset folder holds beyond one float32 band, its catalogue, and orders too large for any memory."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pytest
import torch

from deeplense.core.errors import InvalidDataset
from deeplense.data.dataset import open_dataset
from deeplense.data.shards import write_shard
from deeplense.recipes.draw import draw, draw_images
from deeplense.recipes.parts import Counts
from deeplense.recipes.recipe import Recipe, Sample, Samples, load_recipe
from deeplense.simulate import simulate
from deeplense.simulation.order import Order

# recipe → type on disk, and the shape of each array of an image
KINDS: dict[str, tuple[str, dict[str, tuple[int, ...]]]] = {
    "model_i": ("uint16", {"image": (1, 16, 16)}),
    "model_ii": ("float32", {"image": (1, 16, 16)}),
    "lens_finding_4band": ("float32", {"image": (4, 16, 16)}),
    "super_resolution": ("float32", {"image": (1, 16, 16), "low": (1, 8, 8), "truth": (1, 16, 16)}),
}


def read(folder: Path) -> dict[str, Any]:
    """Return every array of a set, its shards one after the other."""
    parts: dict[str, list[Any]] = {}
    for shard in sorted(folder.glob("shard-*.h5")):
        with h5py.File(shard) as file:
            for name, stored in file.items():
                assert stored.chunks == (1, *stored.shape[1:]), "a chunk is an image"
                parts.setdefault(name, []).append(stored[()])
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}


@pytest.fixture
def made(write_recipe: Callable[..., str], small_shards: None, tmp_path: Path) -> Callable[[str], tuple[Recipe, Path]]:
    def make(name: str) -> tuple[Recipe, Path]:
        file = write_recipe(name, counts=(7, 2, 2))
        return load_recipe(file), simulate(recipe=file, out=tmp_path / "set", seed=3)

    return make


@pytest.mark.parametrize("name", KINDS)
def test_every_array_is_stored_as_it_is_drawn_and_read(name: str, made: Callable[[str], tuple[Recipe, Path]]) -> None:
    recipe, folder = made(name)
    dtype, shapes = KINDS[name]
    stored, drawn = read(folder), draw_images(recipe, 3, recipe.samples()[:])
    assert {array: (values.dtype.name, values.shape[1:]) for array, values in stored.items()} == {
        array: (dtype, shape) for array, shape in shapes.items()
    }
    for array, values in drawn.items():
        assert np.array_equal(stored[array], values.numpy()), array
    dataset = open_dataset(folder)
    assert dataset.image_shape == shapes["image"] and dataset.problems == []
    images = dataset.images(range(len(dataset)))
    assert images.dtype == np.float32 and np.array_equal(images, stored["image"])
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["dtype"] == dtype
    assert {array: tuple(shape) for array, shape in manifest["arrays"].items()} == shapes
    bands = [recipe.instrument] if isinstance(recipe.instrument, str) else recipe.instrument
    assert len(manifest["instruments"]) == len(bands) == shapes["image"][0]


def test_bands_differ(made: Callable[[str], tuple[Recipe, Path]]) -> None:
    images = read(made("lens_finding_4band")[1])["image"]
    assert len({float(images[:, band].mean()) for band in range(4)}) == 4


def test_the_arrays_of_a_pair_belong_together(made: Callable[[str], tuple[Recipe, Path]]) -> None:
    recipe, folder = made("super_resolution")
    arrays = read(folder)
    assert recipe.pair is not None
    low = recipe.pair(torch.from_numpy(arrays["image"]))
    np.testing.assert_allclose(arrays["low"], low, atol=1e-6)
    truth = draw(recipe, 3, recipe.samples()[:]).expected.numpy()
    np.testing.assert_allclose(arrays["truth"], truth, atol=1e-6)
    noise = arrays["image"] - arrays["truth"]
    assert 0 < noise.std() < 0.3 and abs(noise.mean()) < noise.std()


def test_rescaled_images_run_from_0_to_1(made: Callable[[str], tuple[Recipe, Path]]) -> None:
    images = read(made("super_resolution")[1])["image"]
    assert np.all(images.min((1, 2, 3)) == 0) and np.all(images.max((1, 2, 3)) == 1)


@pytest.mark.parametrize("pixel", [0.5, -1.0, 65536.0])
def test_a_pixel_that_does_not_fit_is_an_error_and_no_file(pixel: float, tmp_path: Path) -> None:
    with pytest.raises(InvalidDataset, match="uint16"):
        write_shard(tmp_path / "shard-00000.h5", {"image": np.full((1, 1, 2, 2), pixel, np.float32)}, "uint16")
    assert not list(tmp_path.iterdir())


# ---- the catalogue


def test_the_catalogue_has_lists_without_filling(made: Callable[[str], tuple[Recipe, Path]]) -> None:
    """An image may have no companion, or several: as many numbers as there are companions."""
    recipe, folder = made("lens_finding_4band")
    catalogue = open_dataset(folder).catalogue
    lists = [field.name for field in catalogue.schema if pa.types.is_list(field.type)]
    assert {"companion_magnitude", "companion_color_3", "ring_width"} <= set(lists)
    drawn = draw(recipe, 3, recipe.samples()[:]).parameters
    lengths = set()
    for row, parameters in zip(catalogue.to_pylist(), drawn, strict=True):
        n = int(sum(row["companion_present"]))
        lengths.add(n)
        assert len(row["companion_magnitude"]) == len(row["companion_color_3"]) == n
        for name in set(lists) & set(parameters):
            numbers = parameters[name]
            assert isinstance(numbers, list)
            assert row[name] == [value for value in numbers if value == value], name
        assert (row["lens_theta_E"] is None) == (row["label"] == "nonlens")
    assert len(lengths) > 2
    for name in lists:
        assert not np.isnan(catalogue[name].combine_chunks().flatten().to_numpy()).any(), name


# ---- any number of images


def test_a_hundred_million_images_take_no_memory() -> None:
    recipe = load_recipe("model_ii")
    tracemalloc.start()
    samples = Samples(recipe.labels, Counts(10**8, 10**7, 10**7))
    assert len(samples) == 3 * 12 * 10**7
    assert samples[0] == Sample("train", "no_sub", 0) and samples[-1] == Sample("test", "axion", 10**7 - 1)
    assert samples[3 * 10**8] == Sample("validation", "no_sub", 0)
    assert samples[3 * 10**8 - 2] == Sample("train", "cdm", 10**8 - 1)
    assert samples[200_000_000:200_000_003] == [samples[200_000_000 + i] for i in range(3)]
    assert tracemalloc.get_traced_memory()[1] < 100_000
    tracemalloc.stop()
    with pytest.raises(IndexError):
        samples[len(samples)]


def test_samples_are_what_a_loop_would_list() -> None:
    counts = {"train": 3, "validation": 0, "test": 2}
    samples = Samples(("a", "b"), Counts(**counts))
    listed = [Sample(split, label, k) for split, n in counts.items() for k in range(n) for label in ("a", "b")]
    assert list(samples) == listed and samples[::-1] == listed[::-1]
    assert [samples[i] for i in range(-len(samples), 0)] == listed


def test_any_shard_of_a_huge_order_is_at_hand(
    write_recipe: Callable[..., str], small_shards: None, tmp_path: Path
) -> None:
    recipe = load_recipe(write_recipe(counts=(10**8, 0, 0)))
    order = Order(recipe, 0, False, tmp_path)
    assert order.n_shards == 3 * 10**8 // 8
    last = order.simulate(order.n_shards - 1)["image"]
    assert np.array_equal(last, draw_images(recipe, 0, recipe.samples()[-8:])["image"].numpy())
