"""Folders of fine and coarse images, and batches of pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from deeplense.core.degradation import Degradation
from deeplense.core.errors import CorruptFile, InvalidDataset
from deeplense.data.dataset import Dataset, open_dataset
from deeplense.data.loader import PairLoader
from deeplense.simulate import simulate


def write_pairs(home: Path, n: int, fine: int = 12, method: str = "bicubic", first: int = 0) -> None:
    generator = torch.Generator().manual_seed(first)
    for folder in ("HR", "LR"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    for k in range(first, first + n):
        image = torch.rand(1, 1, fine, fine, generator=generator)
        np.save(home / "HR" / f"sample{k}.npy", image[0].numpy())
        np.save(home / "LR" / f"sample{k}.npy", Degradation(2, method)(image)[0].numpy())  # type: ignore[arg-type]


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    write_pairs(tmp_path / "pairs", 20)
    return tmp_path / "pairs"


def test_pairs_are_matched_by_name(pairs: Path) -> None:
    np.save(pairs / "HR" / "lonely.npy", np.zeros((1, 12, 12), np.float32))
    dataset = open_dataset(pairs)
    assert len(dataset) == 20 and dataset.array_shapes == {"image": (1, 12, 12), "low": (1, 6, 6)}
    assert dataset.problems == ["Left out, since no image of the other folder has the same name: 1."]
    ids = dataset.catalogue["id"].to_pylist()
    row = ids.index("sample7")
    np.testing.assert_array_equal(dataset.array("image", [row])[0], np.load(pairs / "HR" / "sample7.npy"))
    np.testing.assert_array_equal(dataset.array("low", [row])[0], np.load(pairs / "LR" / "sample7.npy"))
    assert {split: len(dataset.indices(split)) for split in ("train", "validation", "test")} == {
        "train": 14,
        "validation": 3,
        "test": 3,
    }


def test_the_folder_above_is_the_split(tmp_path: Path) -> None:
    for split, n, first in (("train", 5, 0), ("val", 2, 5), ("test", 3, 7)):
        write_pairs(tmp_path / split, n, first=first)
    dataset = open_dataset(tmp_path)
    assert [len(dataset.indices(split)) for split in ("train", "validation", "test")] == [5, 2, 3]


def test_folders_without_partners_are_refused(tmp_path: Path) -> None:
    for folder, name in (("HR", "a"), ("LR", "b")):
        (tmp_path / folder).mkdir()
        np.save(tmp_path / folder / f"{name}.npy", np.zeros((4, 4), np.float32))
    with pytest.raises(InvalidDataset, match=r"no image in .* has a partner"):
        open_dataset(tmp_path)


def test_a_pair_of_another_shape_is_named(pairs: Path) -> None:
    np.save(pairs / "LR" / "sample3.npy", np.zeros((1, 5, 5), np.float32))
    dataset = open_dataset(pairs)
    with pytest.raises(CorruptFile, match=r"sample3\.npy"):
        dataset.array("low", range(20))


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    out = tmp_path_factory.mktemp("pairs") / "set"
    return open_dataset(simulate(recipe="super_resolution", train=6, validation=2, test=2, out=out))


@pytest.mark.parametrize("workers", [0, 2])
def test_pairs_are_batched_from_memory_and_from_disk_alike(simulated: Dataset, workers: int) -> None:
    rows = simulated.indices("train")
    where = [np.array([5, 0]), np.array([3])]
    memory = list(PairLoader(simulated, rows).batches(where))
    from_disk = PairLoader(simulated, rows, workers=workers)
    from_disk.memory = 0
    disk = list(from_disk.batches(where))
    for one, other in zip(memory, disk, strict=True):
        for name in ("image", "fine", "truth", "target", "index"):
            assert torch.equal(getattr(one, name), getattr(other, name)), name
    assert memory[0].image.shape == (2, 1, 75, 75)
    assert memory[0].fine is not None and memory[0].fine.shape == (2, 1, 150, 150)
    torch.testing.assert_close(Degradation()(memory[0].fine), memory[0].image, atol=1e-6, rtol=0)


def test_a_change_is_that_of_every_image(simulated: Dataset) -> None:
    batch = PairLoader(simulated, simulated.indices("test")).sample_batch(2)
    turned = batch.changed(lambda image: image.flip(2, 3))
    assert turned.fine is not None and batch.fine is not None and turned.truth is not None and batch.truth is not None
    for one, other in ((turned.image, batch.image), (turned.fine, batch.fine), (turned.truth, batch.truth)):
        assert torch.equal(one, other.flip(2, 3))
    assert torch.equal(turned.target, batch.target)


def test_a_patch_is_the_same_place_in_every_image(simulated: Dataset) -> None:
    batch = PairLoader(simulated, simulated.indices("test")).sample_batch(2)
    numbers = torch.tensor([[0.0, 0.999], [0.5, 0.0]])
    patch = batch.cut(32, numbers)
    assert patch.fine is not None and batch.fine is not None and patch.truth is not None and batch.truth is not None
    for k, (y, x) in enumerate([(0, 43), (22, 0)]):
        assert torch.equal(patch.image[k], batch.image[k, :, y : y + 32, x : x + 32])
        for cut, whole in ((patch.fine, batch.fine), (patch.truth, batch.truth)):
            assert torch.equal(cut[k], whole[k, :, 2 * y : 2 * y + 64, 2 * x : 2 * x + 64])
    again = Degradation()(patch.fine)[..., 2:-2, 2:-2]  # at its edges a patch does not know what is beside it
    torch.testing.assert_close(again, patch.image[..., 2:-2, 2:-2], atol=1e-6, rtol=0)
    assert torch.equal(batch.cut(75, numbers).image, batch.image)


def test_a_dataset_without_pairs_is_refused(small_set: Path) -> None:
    dataset = open_dataset(small_set)
    with pytest.raises(InvalidDataset, match="holds no pairs"):
        PairLoader(dataset, dataset.indices("train"))


def test_pairs_that_are_not_stored_say_so(small_set: Path) -> None:
    with pytest.raises(KeyError):
        open_dataset(small_set).array("low", [0])
