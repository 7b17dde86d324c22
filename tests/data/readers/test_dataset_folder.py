"""Our own layout, damaged in every way that a disk or a hand can damage it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest

from deeplense.core.errors import CorruptFile, DeepLenseError, InvalidDataset, MissingFile
from deeplense.data.dataset import open_dataset
from deeplense.data.readers.dataset_folder import DatasetFolder

SHARD, CATALOGUE, MANIFEST = "shard-00000.h5", "catalogue.parquet", "manifest.json"


@pytest.fixture
def folder(small_set: Path, tmp_path: Path) -> Path:
    """Return a copy that may be damaged."""
    return Path(shutil.copytree(small_set, tmp_path / "set"))


def opened(folder: Path) -> DatasetFolder:
    dataset = open_dataset(folder)
    assert isinstance(dataset, DatasetFolder)
    return dataset


def flip_a_byte(path: Path, place: float) -> None:
    content = bytearray(path.read_bytes())
    content[int(place * (len(content) - 1))] ^= 0xFF
    path.write_bytes(content)


def test_a_sound_folder_has_nothing_to_complain_about(folder: Path) -> None:
    dataset = opened(folder)
    assert dataset.check() == [] and dataset.problems == []
    assert len(dataset) == 120 and dataset.image_shape == (1, 64, 64)
    images = dataset.images([119, 0, 0])
    assert images.shape == (3, 1, 64, 64) and images.dtype == np.float32
    assert np.array_equal(images[1], images[2]) and not np.array_equal(images[0], images[1])


def test_rows_come_in_the_order_asked_for_however_many(folder: Path) -> None:
    dataset = opened(folder)
    whole = dataset.images(range(120))
    for rows in ([5], [7, 3, 99], list(range(119, -1, -1))):
        assert np.array_equal(dataset.images(rows), whole[rows])


def test_several_shards_are_one_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_set: Path) -> None:
    from deeplense.simulate import simulate

    monkeypatch.setattr("deeplense.data.shards.ROWS_PER_SHARD", 50)
    split = opened(simulate(recipe="model_ii", train=24, validation=8, test=8, out=tmp_path / "set"))
    assert len(list(split.path.glob("shard-*.h5"))) == 3
    rows = [119, 0, 50, 49, 100, 99]
    assert np.array_equal(split.images(rows), opened(small_set).images(rows))


@pytest.mark.parametrize("name", [SHARD, CATALOGUE])
@pytest.mark.parametrize("place", [0.0, 0.5, 1.0])
def test_the_check_names_a_file_with_a_flipped_byte(folder: Path, name: str, place: float) -> None:
    dataset = opened(folder)
    flip_a_byte(folder / name, place)
    assert dataset.check() == [name]


@pytest.mark.parametrize("name", [SHARD, CATALOGUE])
def test_the_check_names_a_file_that_is_gone(folder: Path, name: str) -> None:
    dataset = opened(folder)
    (folder / name).unlink()
    assert dataset.check() == [name]


@pytest.mark.parametrize("n_bytes", [0, 1, 100, 5000, 100_000, -1])
def test_a_truncated_shard_is_named(folder: Path, n_bytes: int) -> None:
    content = (folder / SHARD).read_bytes()
    (folder / SHARD).write_bytes(content[:n_bytes])
    with pytest.raises(CorruptFile, match=SHARD) as caught:
        opened(folder).images(range(120))
    assert "deeplense simulate" in caught.value.remedy


def test_a_missing_shard_is_named(folder: Path) -> None:
    (folder / SHARD).unlink()
    with pytest.raises(MissingFile, match=SHARD):
        opened(folder).images([0])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_no_numbers_are_an_error(folder: Path, value: float) -> None:
    with h5py.File(folder / SHARD, "r+") as file:
        file["image"][7, 0, 3, 3] = value
    dataset = opened(folder)
    assert len(dataset.images(range(7))) == 7
    for rows in ([7], range(120)):
        with pytest.raises(CorruptFile, match=SHARD) as caught:
            dataset.images(rows)
        assert "finite" in caught.value.expected


def write_shard(path: Path, name: str, images: np.ndarray) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset(name, data=images)


@pytest.mark.parametrize(
    ("name", "images"),
    [
        ("picture", np.zeros((120, 1, 64, 64), np.float32)),
        ("image", np.zeros((119, 1, 64, 64), np.float32)),
        ("image", np.zeros((120, 1, 64, 32), np.float32)),
        ("image", np.zeros((120, 1, 64, 64), "S4")),
        ("image/deeper", np.zeros(1)),
    ],
)
def test_a_shard_of_something_else_is_named(folder: Path, name: str, images: np.ndarray) -> None:
    write_shard(folder / SHARD, name, images)
    for rows in ([0], range(120)):
        with pytest.raises(CorruptFile, match=SHARD):
            opened(folder).images(rows)


def test_without_a_manifest_it_is_unfinished(folder: Path) -> None:
    (folder / MANIFEST).unlink()
    with pytest.raises(InvalidDataset, match="unfinished"):
        open_dataset(folder)


def test_without_a_catalogue_it_is_damaged(folder: Path) -> None:
    (folder / CATALOGUE).unlink()
    with pytest.raises(DeepLenseError, match=CATALOGUE):
        open_dataset(folder)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not parquet at all", b"PAR1" + bytes(100) + b"PAR1"])
def test_a_catalogue_that_is_no_parquet_is_named(folder: Path, content: bytes) -> None:
    (folder / CATALOGUE).write_bytes(content)
    with pytest.raises(CorruptFile, match=CATALOGUE):
        open_dataset(folder)


@pytest.mark.parametrize("change", [lambda t: t.slice(1), lambda t: t.drop_columns(["label"])])
def test_a_catalogue_that_does_not_fit_the_manifest_is_named(folder: Path, change: Callable[[Any], Any]) -> None:
    pq.write_table(change(pq.read_table(folder / CATALOGUE)), folder / CATALOGUE)
    with pytest.raises(CorruptFile, match=CATALOGUE):
        open_dataset(folder)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "3", '"text"'])
def test_a_manifest_that_is_none_is_named(folder: Path, content: str) -> None:
    (folder / MANIFEST).write_text(content)
    with pytest.raises(CorruptFile, match=MANIFEST):
        open_dataset(folder)


def test_a_manifest_of_bytes_is_named(folder: Path) -> None:
    flip_a_byte(folder / MANIFEST, 0.5)
    with pytest.raises(CorruptFile, match=MANIFEST):
        open_dataset(folder)


FIELDS = ("format", "format_version", "labels", "image_shape", "rows_per_shard", "shards", "catalogue")


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("value", ["missing", None, [], {}, -1, "odd", [1, 1], [[]]], ids=repr)
def test_a_manifest_with_an_odd_field_is_named_before_any_image_is_read(folder: Path, field: str, value: Any) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest[field] = value
    if value == "missing":
        del manifest[field]
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(CorruptFile, match=MANIFEST) as caught:
        open_dataset(folder)
    assert caught.value.path.name == MANIFEST


@pytest.mark.parametrize("labels", [["no_sub", "cdm"], ["no_sub", "cdm", "axion", "cdm"], ["a", "b", "c"]])
def test_a_manifest_whose_classes_are_not_those_of_the_catalogue_is_named(folder: Path, labels: list[str]) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest | {"labels": labels}))
    with pytest.raises(CorruptFile, match=MANIFEST):
        open_dataset(folder)


def test_a_manifest_of_a_later_format_asks_for_a_later_version(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest | {"format_version": 2}))
    with pytest.raises(CorruptFile, match="2") as caught:
        open_dataset(folder)
    assert "update deeplense" in caught.value.remedy
