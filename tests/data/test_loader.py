"""The loader: the same batches from memory, from disk and from worker processes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from deeplense.core.errors import InvalidDataset, InvalidOption, MissingFile
from deeplense.data.dataset import Dataset, open_dataset
from deeplense.data.loader import Batch, Loader
from deeplense.data.transforms import centre_crop

POSITIONS = [np.array([5, 0, 17]), np.array([71, 3]), np.array([4])]


@pytest.fixture(scope="module")
def dataset(small_set: Path) -> Dataset:
    return open_dataset(small_set)


def assert_same(first: list[Batch], second: list[Batch]) -> None:
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        for name, value in vars(a).items():
            if value is not None:
                assert torch.equal(value, getattr(b, name)), f"{name} differs"


@pytest.mark.parametrize("crop", [None, 33])
@pytest.mark.parametrize("workers", [0, 2])
def test_memory_disk_and_workers_give_the_same_batches(dataset: Dataset, crop: int | None, workers: int) -> None:
    rows = dataset.indices("train")
    in_memory = Loader(dataset, rows, crop=crop)
    from_disk = Loader(dataset, rows, crop=crop, workers=workers)
    from_disk.memory = 0
    read_by_workers = Loader(dataset, rows, crop=crop, workers=workers)
    assert (in_memory.fits, from_disk.fits, read_by_workers.fits) == (True, False, True)
    expected = list(in_memory.batches(POSITIONS))
    assert_same(list(from_disk.batches(POSITIONS)), expected)
    assert_same(list(read_by_workers.batches(POSITIONS)), expected)


def test_a_batch_holds_the_images_targets_and_places_that_were_asked_for(dataset: Dataset) -> None:
    rows = dataset.indices("test")
    for batch, where in zip(Loader(dataset, rows).batches([np.array([3, 1])]), [[3, 1]], strict=True):
        assert np.array_equal(batch.image.numpy(), dataset.images(rows[where]))
        assert batch.target.tolist() == [dataset.targets()[rows[i]] for i in where]
        assert batch.index.tolist() == where
        assert (batch.image.dtype, batch.target.dtype) == (torch.float32, torch.int64)


def test_the_limit_on_memory_counts_what_is_kept(dataset: Dataset) -> None:
    rows, kept = dataset.indices("train"), 72 * 4 * 20 * 20
    for crop, memory, fits in ((20, kept, True), (20, kept - 1, False), (None, kept, False)):
        loader = Loader(dataset, rows, crop=crop)
        loader.memory = memory
        assert loader.fits == fits


@pytest.mark.parametrize("n_processes", [1, 2, 3, 7])
@pytest.mark.parametrize("memory", [None, 0])
def test_the_shares_of_several_processes_make_the_whole(dataset: Dataset, n_processes: int, memory: int | None) -> None:
    loader = Loader(dataset, dataset.indices("validation"))
    loader.memory = memory
    shares = [list(loader.in_order(5, (i, n_processes))) for i in range(n_processes)]
    places = [batch.index for share in shares for batch in share]
    assert sorted(torch.cat(places).tolist()) == list(range(24)), "an image is missing or comes twice"
    assert max(map(len, places)) <= 5
    if n_processes == 1:
        assert torch.cat(places).tolist() == list(range(24)), "not in order"


def test_more_processes_than_images_leave_some_without_a_share(dataset: Dataset) -> None:
    loader = Loader(dataset, dataset.indices("validation")[:2])
    assert [len(list(loader.in_order(5, (i, 4)))) for i in range(4)] == [1, 1, 0, 0]


def test_the_crop_is_the_centre(dataset: Dataset) -> None:
    loader = Loader(dataset, [0, 1], crop=10)
    assert loader.image_shape == (1, 10, 10)
    assert np.array_equal(loader.in_memory().numpy(), dataset.images([0, 1])[:, :, 27:37, 27:37])


@pytest.mark.parametrize(("height", "width", "size"), [(5, 5, 5), (5, 8, 2), (6, 6, 3)])
def test_a_centre_crop_is_off_by_half_a_pixel_at_most(height: int, width: int, size: int) -> None:
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    cropped = centre_crop(torch.stack([rows, columns])[None].float(), size)
    assert cropped.shape == (1, 2, size, size)
    off_centre = cropped.mean((2, 3))[0] - torch.tensor([(height - 1) / 2, (width - 1) / 2])
    assert off_centre.abs().max() <= 0.5


@pytest.mark.parametrize("crop", [0, 65, -1])
def test_a_crop_that_does_not_fit_says_what_does(dataset: Dataset, crop: int) -> None:
    with pytest.raises(InvalidOption, match=str(crop)) as caught:
        Loader(dataset, [0], crop=crop)
    assert "1 to 64" in caught.value.expected and "--crop" in caught.value.remedy


def test_targets_follow_the_labels_that_are_asked_for(dataset: Dataset) -> None:
    rows = dataset.indices("test")
    own, other = Loader(dataset, rows).targets, Loader(dataset, rows, labels=("axion", "no_sub", "cdm")).targets
    assert torch.equal(torch.tensor([1, 2, 0])[own], other)
    with pytest.raises(InvalidDataset, match="axion"):
        Loader(dataset, rows, labels=("no_sub", "cdm"))


@pytest.mark.parametrize(("n", "places"), [(1, [0]), (3, [0, 35, 71]), (100, list(range(72)))])
def test_a_sample_is_spread_over_all_rows(dataset: Dataset, n: int, places: list[int]) -> None:
    rows = dataset.indices("train")
    for memory in (None, 0):
        loader = Loader(dataset, rows)
        loader.memory = memory
        assert np.array_equal(loader.sample(n).numpy(), dataset.images(rows[places]))


def test_images_are_read_once(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    loader = Loader(dataset, dataset.indices("test"))
    first = loader.in_memory()
    monkeypatch.setattr(type(dataset), "images", lambda *_: pytest.fail("the images were read again"))
    assert loader.in_memory() is first and torch.equal(next(loader.in_order(24)).image, first)


def test_an_error_in_a_worker_reaches_the_user(small_set: Path, tmp_path: Path) -> None:
    dataset = open_dataset(small_set)
    dataset.path = tmp_path  # as if the shards were gone
    for workers in (0, 1):
        loader = Loader(dataset, [0], workers=workers)
        loader.memory = 0
        with pytest.raises(MissingFile, match="shard-00000"):
            list(loader.in_order(1))
