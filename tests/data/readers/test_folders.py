"""Class folders in every layout of the published sets, strays and errors included."""

from __future__ import annotations

import os
import pickle
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.fuzz.seeds import object_array, object_npy

from deeplense.core.errors import CorruptFile, InvalidDataset, MissingFile
from deeplense.data.dataset import open_dataset
from deeplense.data.readers.folders import ClassFolders

RANDOM = np.random.default_rng(5)


def put(root: Path, folder: str, count: int = 3, side: int = 6, suffix: str = ".npy") -> None:
    (root / folder).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        path = root / folder / f"sim_{number}{suffix}"
        pixels = RANDOM.random((side, side)) * 255
        np.save(path, pixels) if suffix == ".npy" else Image.fromarray(pixels.astype(np.uint8)).save(path)


def rows(path: Path) -> set[tuple[str, str | None, str | None]]:
    return {(row["id"], row["label"], row["split"]) for row in open_dataset(path).catalogue.to_pylist()}


LAYOUTS = {
    "Model II": ({"axion": "axion", "cdm": "cdm", "no_sub": "no_sub"}, None),
    "Model IV": ({f"{s}/{c}": c for s in ("train", "val") for c in ("axion", "cdm", "no_sub")}, 3),
    "common test": ({f"dataset/{s}/{c}": c for s in ("train", "val") for c in ("no", "sphere", "vort")}, 3),
    "test 5": ({"lenses/no_sub": "no_sub", "lenses/sub": "sub"}, None),
    "capitals": ({"Train/CDM": "cdm", "Test/No_Sub": "no_sub", "Validation/CDM": "cdm", "Train/NO": "no_sub"}, 3),
    "lens finding": ({f"{s}_{c}": c for s in ("train", "test") for c in ("lenses", "nonlenses")}, 3),
    "others": ({"spiral": "spiral", "elliptical": "elliptical"}, None),
}


@pytest.mark.parametrize("suffix", [".npy", ".png", ".JPG"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_published_layouts(tmp_path: Path, layout: str, suffix: str) -> None:
    folders, _ = LAYOUTS[layout]
    for folder in folders:
        put(tmp_path, folder, suffix=suffix)
    dataset = open_dataset(tmp_path)
    assert isinstance(dataset, ClassFolders) and len(dataset) == 3 * len(folders)
    spelled = {"no": "no_sub", "sphere": "cdm", "vort": "axion", "lenses": "lens", "nonlenses": "nonlens"}
    assert set(dataset.labels) == {spelled.get(label, label) for label in folders.values()}
    assert dataset.image_shape == (1, 6, 6) and dataset.problems == []
    named = {"train": "train", "Train": "train", "val": "validation", "Validation": "validation", "Test": "test"}
    for row in dataset.catalogue.to_pylist():
        split = next((named[s] for s in named if row["path"].startswith((f"{s}/", f"dataset/{s}/", f"{s}_"))), None)
        split = "test" if row["path"].startswith("test_") else split
        assert row["split"] == split and row["id"] == row["path"].rpartition(".")[0]
    batch = dataset.images(range(len(dataset)))
    assert batch.dtype == np.float32 and batch.shape == (len(dataset), 1, 6, 6)


def test_labels_come_in_the_order_of_the_field(tmp_path: Path) -> None:
    for folder in ("vort", "no", "sphere", "zebra", "apple"):
        put(tmp_path, folder)
    dataset = open_dataset(tmp_path)
    assert dataset.labels == ("no_sub", "cdm", "axion", "apple", "zebra")
    assert dataset.targets().tolist() == [dataset.labels.index(row) for row in dataset.catalogue["label"].to_pylist()]


@pytest.mark.parametrize("inside", [True, False])
def test_a_test_set_beside_or_inside_the_model(tmp_path: Path, inside: bool) -> None:
    model = tmp_path / "Model_II"
    for label in ("axion", "cdm"):
        put(model, label)
        put(model if inside else tmp_path, f"Model_II_test/{label}", count=2)
    dataset = open_dataset(model)
    assert dataset.splits().count("test") == 4 and len(dataset) == 10
    assert ("Model_II_test/axion/sim_1", "axion", "test") in rows(model)
    assert ("axion/sim_1", "axion", "train") in rows(model)
    assert dataset.images(range(10)).shape == (10, 1, 6, 6)
    assert rows(tmp_path / "Model_II_test" if not inside else model / "Model_II_test") == {
        (f"{label}/sim_{number}", label, None) for label in ("axion", "cdm") for number in range(2)
    }


def test_a_train_folder_inside_a_model_beside_its_test_set(tmp_path: Path) -> None:
    put(tmp_path, "Model_I/train/cdm")
    put(tmp_path, "Model_I/test/cdm")
    put(tmp_path, "Model_I_test/cdm")
    assert {split for _, _, split in rows(tmp_path / "Model_I")} == {"train", "test"}
    assert len(open_dataset(tmp_path / "Model_I")) == 6, "its own test set counts, not the one beside it"


def test_order_of_files_does_not_matter(tmp_path: Path) -> None:
    for root, numbers in ((tmp_path / "a", range(30)), (tmp_path / "b", reversed(range(30)))):
        for number in numbers:
            put(root, f"cdm/{number}", count=0)
            (root / "cdm" / f"{number}.npy").write_bytes(b"")
            (root / "cdm" / f"{number}").rmdir()
            np.save(root / "cdm" / f"{number}.npy", np.full((4, 4), number))
    first, second = open_dataset(tmp_path / "a"), open_dataset(tmp_path / "b")
    assert first.catalogue.equals(second.catalogue) and first.splits() == second.splits()


def test_strays_are_left_out_and_counted(tmp_path: Path) -> None:
    put(tmp_path, "no_sub", count=2)
    put(tmp_path, "sub", count=2)
    for stray in ("no_sub/.DS_Store", "Thumbs.db", "sub/._sim_0.npy"):
        (tmp_path / stray).write_bytes(b"x")
    for stray in ("sub/notes.txt", "sub/a.fits", "sub/b.fits"):
        (tmp_path / stray).write_bytes(b"x")
    (tmp_path / "sub" / "caf\udce9.npy").write_bytes(b"x")
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / ".git" / "cdm").mkdir(parents=True)
    dataset = open_dataset(tmp_path)
    assert len(dataset) == 4 and dataset.labels == ("no_sub", "sub")
    assert dataset.problems[0] == "2 hidden files (.DS_Store and the like) were left out."
    assert "4 other files, or files with odd names, were left out, 'a.fits' for example." in dataset.problems


def test_the_same_name_twice_keeps_its_suffix(tmp_path: Path) -> None:
    put(tmp_path, "cdm", count=1, suffix=".png")
    put(tmp_path, "cdm", count=2)
    assert open_dataset(tmp_path).catalogue["id"].to_pylist() == ["cdm/sim_0.npy", "cdm/sim_0.png", "cdm/sim_1"]


def test_axion_files_and_numbers_side_by_side(tmp_path: Path) -> None:
    put(tmp_path, "no_sub", count=2)
    (tmp_path / "axion").mkdir()
    image = RANDOM.random((6, 6))
    (tmp_path / "axion" / "axion_sim_1.npy").write_bytes(object_npy(object_array(image, 1e-23)))
    dataset = open_dataset(tmp_path)
    row = dataset.catalogue["label"].to_pylist().index("axion")
    assert np.array_equal(dataset.images([row])[0, 0], image.astype(np.float32))


def test_channels_last_becomes_channels_first(tmp_path: Path) -> None:
    (tmp_path / "cdm").mkdir()
    image = RANDOM.random((64, 64, 3))
    np.save(tmp_path / "cdm" / "sim_1.npy", image)
    dataset = open_dataset(tmp_path)
    assert dataset.image_shape == (3, 64, 64)
    assert np.array_equal(dataset.images([0])[0], image.transpose(2, 0, 1).astype(np.float32))


def test_an_empty_class_is_an_error(tmp_path: Path) -> None:
    put(tmp_path, "train/cdm")
    (tmp_path / "train" / "axion").mkdir()
    with pytest.raises(InvalidDataset, match="'train/axion' holds no image"):
        open_dataset(tmp_path)
    put(tmp_path, "test/axion")
    assert "The folder 'train/axion' holds no image." in open_dataset(tmp_path).problems


def test_a_class_of_other_files_is_an_error_a_folder_of_notes_is_not(tmp_path: Path) -> None:
    put(tmp_path, "cdm")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "readme.txt").write_text("x")
    assert open_dataset(tmp_path).labels == ("cdm",)
    (tmp_path / "vort").mkdir()
    (tmp_path / "vort" / "a.fits").write_text("x")
    with pytest.raises(InvalidDataset, match="'vort' holds no image"):
        open_dataset(tmp_path)


def test_unequal_classes_are_mentioned(tmp_path: Path) -> None:
    put(tmp_path, "lens", count=1)
    put(tmp_path, "nonlens", count=5)
    assert open_dataset(tmp_path).problems == ["The classes are unequal: 5 of nonlens, 1 of lens."]


def test_images_of_another_shape_or_damaged_are_refused_by_name(tmp_path: Path) -> None:
    put(tmp_path, "cdm", count=2)
    dataset = open_dataset(tmp_path)
    np.save(tmp_path / "cdm" / "sim_1.npy", np.ones((5, 6)))
    with pytest.raises(CorruptFile, match=r"sim_1\.npy: shape \(1, 5, 6\)"):
        dataset.images([0, 1])
    (tmp_path / "cdm" / "sim_1.npy").write_bytes(b"junk")
    with pytest.raises(CorruptFile, match=r"sim_1\.npy"):
        dataset.images([1])
    np.save(tmp_path / "cdm" / "sim_0.npy", np.full((6, 6), np.nan))
    with pytest.raises(CorruptFile, match=r"sim_0\.npy: 36 of 36 values"):
        open_dataset(tmp_path)


def test_the_shape_is_that_of_most_images(tmp_path: Path) -> None:
    put(tmp_path, "cdm", count=4)
    np.save(tmp_path / "cdm" / "sim_0.npy", np.ones((5, 5)))
    (tmp_path / "cdm" / "sim_1.npy").write_bytes(b"junk")
    dataset = open_dataset(tmp_path)
    assert dataset.images([2, 3]).shape == (2, 1, 6, 6)
    with pytest.raises(CorruptFile, match=r"sim_0\.npy: shape \(1, 5, 5\)") as caught:
        dataset.images([0])
    assert "(1, 6, 6), as most images" in caught.value.expected


def test_folders_without_images_are_not_recognised(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "top.npy").write_bytes(b"x")
    assert not ClassFolders.recognises(tmp_path)
    with pytest.raises(InvalidDataset, match="no image"):
        ClassFolders(tmp_path / "a")


@pytest.mark.parametrize("hidden", ["", "cdm"])
@pytest.mark.parametrize("mode", [0o000, 0o400, 0o100])
def test_a_folder_that_may_not_be_read_is_missing(hidden: str, mode: int) -> None:
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        root.chmod(0o777)
        put(root, "set/cdm")
        try:
            if user == 0:  # may read everything
                os.chown(root / "set" / hidden, 65534, 65534)
                os.seteuid(65534)
            (root / "set" / hidden).chmod(mode)
            with pytest.raises(MissingFile, match="cannot be read"):
                open_dataset(root / "set")
        finally:
            os.seteuid(user)
            (root / "set" / hidden).chmod(0o700)


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    put(tmp_path, "cdm")
    (tmp_path / "cdm" / "again").symlink_to(tmp_path, target_is_directory=True)
    assert len(open_dataset(tmp_path)) >= 3


def test_a_dataset_survives_pickling_and_another_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, "set/cdm")
    monkeypatch.chdir(tmp_path)
    dataset = open_dataset("set")
    monkeypatch.chdir("/")
    again = pickle.loads(pickle.dumps(dataset))
    assert np.array_equal(dataset.images([2, 0]), again.images([2, 0]))


def test_the_published_test_5_set(test_data: Path) -> None:
    dataset = open_dataset(test_data / "test5")
    assert dataset.labels == ("no_sub", "sub") and dataset.image_shape == (1, 150, 150)
    assert np.bincount(dataset.targets()).tolist() == [3486, 3432]
    splits = dataset.splits()
    assert {split: splits.count(split) for split in set(splits)} == {"train": 4842, "validation": 1038, "test": 1038}
    batch = dataset.images(range(0, len(dataset), 35))
    assert 0 <= batch.min() < batch.max() <= 255 and (batch == np.rint(batch)).all()
