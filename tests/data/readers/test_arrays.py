"""Stacked arrays in `.npy`, `.npz` and HDF5: pairing, labels, names, splits, laziness, damage."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from tests.fuzz.seeds import npy, object_array, object_npy

from deeplense.core.errors import CorruptFile, DeepLenseError, InvalidDataset, MissingFile
from deeplense.data.dataset import open_dataset
from deeplense.data.readers.arrays import StackedArrays
from deeplense.data.readers.class_labels import decode_labels

N = 12
IMAGES = np.random.default_rng(2).random((N, 6, 7)).astype(np.float32)
NUMBERS = np.arange(N) % 3
NAMES = ["no", "sphere", "vort"]
TEXTS = np.array(NAMES)[NUMBERS]


def check(path: Path, labels: tuple[str, ...], images: np.ndarray = IMAGES) -> StackedArrays:
    dataset = open_dataset(path)
    assert isinstance(dataset, StackedArrays) and dataset.labels == labels
    order = [5, 0, 11, 5]
    expected = images[order] if images.ndim == 4 else images[order][:, None]
    assert np.array_equal(dataset.images(order), expected)
    assert np.array_equal(pickle.loads(pickle.dumps(dataset)).images(order), expected)
    if labels:
        assert dataset.targets().tolist() == NUMBERS.tolist()
    return dataset


def save_hdf5(path: Path, **datasets: object) -> Path:
    with h5py.File(path, "w") as file:
        for name, values in datasets.items():
            file[name] = values
    return path


@pytest.mark.parametrize(
    ("images", "labels"), [("images", "labels"), ("X", "y"), ("data", "targets"), ("set", "set_y")]
)
def test_npy_with_labels_beside(tmp_path: Path, images: str, labels: str) -> None:
    np.save(tmp_path / f"{images}.npy", IMAGES)
    np.save(tmp_path / f"{labels}.npy", NUMBERS)
    check(tmp_path / f"{images}.npy", ("0", "1", "2"))
    if images != "set":
        check(tmp_path, ("0", "1", "2"))


def test_the_labels_named_after_the_file_come_first(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", IMAGES)
    np.save(tmp_path / "labels.npy", np.zeros(N, int))
    np.save(tmp_path / "a_labels.npy", NUMBERS)
    check(tmp_path / "a.npy", ("0", "1", "2"))


@pytest.mark.parametrize("order", ["list", "object"])
@pytest.mark.parametrize("kind", ["integers", "floats", "one-hot", "column", "bytes"])
def test_labels_in_every_form(tmp_path: Path, kind: str, order: str) -> None:
    np.save(tmp_path / "X.npy", IMAGES)
    forms = {
        "integers": NUMBERS.astype(">i2"),
        "floats": NUMBERS.astype(float),
        "one-hot": np.eye(3)[NUMBERS],
        "column": NUMBERS[:, None],
        "bytes": TEXTS.astype("S"),
    }
    np.save(tmp_path / "y.npy", forms[kind])
    names = NAMES if order == "list" else {name: number for number, name in enumerate(NAMES)}
    (tmp_path / "labels.json").write_text(json.dumps(names))
    check(tmp_path / "X.npy", ("no_sub", "cdm", "axion"))


def test_without_labels(tmp_path: Path) -> None:
    np.save(tmp_path / "cutouts.npy", IMAGES)
    dataset = check(tmp_path / "cutouts.npy", ())
    assert dataset.problems == ["No labels were found beside the images."]
    assert dataset.catalogue["id"].to_pylist()[:2] == ["00", "01"] and dataset.targets().tolist() == [-1] * N


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(tmp_path: Path, save: object) -> None:
    save(tmp_path / "a.npz", images=IMAGES, labels=NUMBERS, class_names=np.array(NAMES))  # type: ignore[operator]
    check(tmp_path / "a.npz", ("no_sub", "cdm", "axion"))
    save(tmp_path / "b.npz", IMAGES, np.eye(3)[NUMBERS])  # type: ignore[operator]
    check(tmp_path / "b.npz", ("0", "1", "2"))
    save(tmp_path / "c.npz", lenses=np.asfortranarray(IMAGES), y=TEXTS)  # type: ignore[operator]
    check(tmp_path / "c.npz", ("no_sub", "cdm", "axion"))


def test_channels_wherever_they_are(tmp_path: Path) -> None:
    colour = np.random.default_rng(0).random((N, 3, 6, 7)).astype(np.float32)
    np.savez(tmp_path / "first.npz", x=colour, y=NUMBERS)
    np.savez(tmp_path / "last.npz", x=colour.transpose(0, 2, 3, 1), y=NUMBERS)
    assert check(tmp_path / "first.npz", ("0", "1", "2"), colour).image_shape == (3, 6, 7)
    assert check(tmp_path / "last.npz", ("0", "1", "2"), colour).image_shape == (3, 6, 7)


def test_splits_in_the_names(tmp_path: Path) -> None:
    for split, rows in (("train", slice(0, 8)), ("test", slice(8, N))):
        np.save(tmp_path / f"X_{split}.npy", IMAGES[rows])
        np.save(tmp_path / f"y_{split}.npy", NUMBERS[rows])
    save_hdf5(
        tmp_path / "a.h5",
        **{"train/images": IMAGES[:8], "train/labels": NUMBERS[:8], "test/x": IMAGES[8:], "test/y": NUMBERS[8:]},
    )
    for path in (tmp_path, tmp_path / "a.h5"):
        dataset = open_dataset(path)
        assert dataset.catalogue["split"].to_pylist() == ["test"] * 4 + ["train"] * 8
        assert dataset.catalogue["id"].to_pylist()[3:5] == ["test/3", "train/0"]
        mixed = [4, 0, 3, 11]
        assert np.array_equal(dataset.images(mixed)[:, 0], np.concatenate([IMAGES[8:], IMAGES[:8]])[mixed])
    assert len(open_dataset(tmp_path / "X_train.npy")) == 8
    assert open_dataset(tmp_path / "X_test.npy").targets().tolist() == NUMBERS[8:].tolist()


@pytest.mark.parametrize("version", ["earliest", "latest"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"chunks": (1, 6, 7)},
        {"chunks": (1, 4, 3), "compression": "gzip", "shuffle": True},
        {"chunks": (5, 4, 7), "compression": "gzip"},
        {"chunks": True},
        {"chunks": (4, 6, 7), "maxshape": (None, 6, 7), "shuffle": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", ["<f4", ">f8", "u1"])
def test_hdf5_layouts(tmp_path: Path, version: str, options: dict[str, object], dtype: str) -> None:
    images = (IMAGES * 200).astype(dtype)
    with h5py.File(tmp_path / "a.h5", "w", libver=version) as file:
        file.create_dataset("images", data=images, **options)
        file["label"] = TEXTS.astype(object)
        file["notes"] = "made for a test"
        file["table"] = np.zeros(3, dtype=[("a", "f4"), ("b", "i4")])
        file["group/deeper/still"] = 1
    check(tmp_path / "a.h5", ("no_sub", "cdm", "axion"), images.astype(np.float32))


def test_hdf5_names_in_an_attribute(tmp_path: Path) -> None:
    for place in ("file", "dataset"):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["x"], file["y"] = IMAGES, np.eye(3)[NUMBERS]
            (file if place == "file" else file["y"]).attrs["class_names"] = NAMES
        check(tmp_path / "a.h5", ("no_sub", "cdm", "axion"))


def test_hdf5_that_points_elsewhere_is_refused(tmp_path: Path) -> None:
    save_hdf5(tmp_path / "other.h5", x=IMAGES)
    (tmp_path / "secret").write_bytes(b"s" * 1000)
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["x"] = h5py.ExternalLink("other.h5", "x")
    with pytest.raises(CorruptFile, match="link to somewhere else"):
        open_dataset(path)
    with h5py.File(path, "w") as file:
        file.create_dataset("x", shape=(4, 5, 5), dtype="u1", external=[(tmp_path / "secret", 0, 100)])
    with pytest.raises(CorruptFile, match="other files"):
        open_dataset(path)
    with h5py.File(path, "w") as file:
        layout = h5py.VirtualLayout(shape=IMAGES.shape, dtype="f4")
        layout[...] = h5py.VirtualSource(tmp_path / "other.h5", "x", shape=IMAGES.shape)
        file.create_virtual_dataset("x", layout)
    with pytest.raises(CorruptFile, match="other files"):
        open_dataset(path)


def test_hdf5_without_all_its_values_is_refused(tmp_path: Path) -> None:
    for number, options in enumerate(({}, {"chunks": (1, 6, 7)}, {"chunks": (4, 6, 7)})):
        path = tmp_path / f"{number}.h5"
        with h5py.File(path, "w") as file:
            file.create_dataset("x", shape=IMAGES.shape, dtype="f4", **options)
        with pytest.raises(CorruptFile, match=path.name):
            open_dataset(path)
    path = save_hdf5(tmp_path / "cut.h5", x=IMAGES)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CorruptFile, match=r"cut\.h5"):
        open_dataset(path)


def test_hdf5_compressed_by_other_means_says_what_to_do(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=IMAGES, compression="lzf")
    with pytest.raises(CorruptFile, match="gzip"):
        open_dataset(tmp_path / "a.h5")


def test_a_file_that_ends_libhdf5_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_hdf5(tmp_path / "a.h5", x=IMAGES)
    for program in ("import os; os.abort()", "import time; time.sleep(60)", "print('half a li', end='')"):
        (tmp_path / "index.py").write_text(program)
        monkeypatch.setattr("deeplense.data.readers.hdf5._INDEX", tmp_path / "index.py")
        monkeypatch.setattr("deeplense.data.readers.hdf5.locate.__defaults__", (0.5,))
        with pytest.raises(CorruptFile, match="libhdf5 crashed"):
            open_dataset(path)


def test_npz_tricks_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    header = npy(IMAGES)[:128].replace(b"(12, 6, 7)", b"(99999999, 6, 7)")
    members = {
        "a shape beyond the member": header + IMAGES.tobytes(),
        "a member cut short": npy(IMAGES)[:-1],
        "no array": b"hello",
    }
    for member in members.values():
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("images.npy", member)
        with pytest.raises(CorruptFile, match=r"a\.npz"):
            open_dataset(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", object_npy(object_array(IMAGES, 1.0)))
        archive.writestr("readme.txt", "x")
    with pytest.raises(InvalidDataset, match="none of which"):
        open_dataset(path)


def test_an_encrypted_or_lying_npz_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x=IMAGES)
    content = bytearray(path.read_bytes())
    central = content.rindex(b"PK\x01\x02")
    local = content.index(b"PK\x03\x04")
    encrypted = content.copy()
    encrypted[central + 8] |= 1
    encrypted[local + 6] |= 1
    huge = content.copy()
    huge[central + 24 : central + 28] = (0xFFFFFFF0).to_bytes(4, "little")
    for changed in (encrypted, huge):
        path.write_bytes(changed)
        with pytest.raises(CorruptFile, match=r"a\.npz"):
            open_dataset(path).images([0])


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deeplense.data.readers.stacks.MAX_IN_MEMORY", 1000)
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros((50, 8, 8)))
    with pytest.raises(CorruptFile, match="unpacks to"):
        open_dataset(tmp_path / "a.npz")


def test_a_file_that_shrinks_after_opening_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", IMAGES)
    dataset = open_dataset(tmp_path / "a.npy")
    content = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(content[:-10])
    assert dataset.images([0]).shape == (1, 1, 6, 7)
    with pytest.raises(CorruptFile, match=r"a\.npy"):
        dataset.images([N - 1])
    (tmp_path / "a.npy").unlink()
    with pytest.raises(MissingFile):
        dataset.images([0])


def test_rows_that_are_not_finite_are_named(tmp_path: Path) -> None:
    images = IMAGES.copy()
    images[7, 0, 0] = np.nan
    np.save(tmp_path / "a.npy", images)
    with pytest.raises(CorruptFile, match=r"a\.npy: row 7: 1 of 42"):
        open_dataset(tmp_path / "a.npy").images([6, 7])


def test_arrays_that_do_not_go_together(tmp_path: Path) -> None:
    cases: dict[str, dict[str, np.ndarray]] = {
        "as many labels": {"x": IMAGES, "y": NUMBERS[:-1]},
        "none of which": {"a": IMAGES, "b": IMAGES},
        "one shape": {"x_train": IMAGES, "x_test": IMAGES[:, :5]},
        "array of images": {"x": TEXTS.reshape(2, 2, 3)},
        "not an image": {"x": np.zeros((4, 2, 3, 6, 6))[:, 0, :, :, 0, None][..., 0:0]},
    }
    for expected, arrays in cases.items():
        np.savez(tmp_path / "a.npz", **arrays)
        with pytest.raises(DeepLenseError, match=expected if expected != "not an image" else "a.npz"):
            open_dataset(tmp_path / "a.npz")


def test_monstrous_images_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        monster = np.zeros((1, 9000, 9000), np.uint8)
        file.create_dataset("x", data=monster, chunks=(1, 3000, 9000), compression="gzip")
    with pytest.raises(InvalidDataset, match="9000 × 9000"):
        open_dataset(tmp_path / "a.h5")


def test_fortran_order_says_what_to_do(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.asfortranarray(IMAGES))
    with pytest.raises(CorruptFile, match="ascontiguousarray"):
        open_dataset(tmp_path / "a.npy")


@pytest.mark.parametrize("content", ['{"a": [1]}', '{"a": 0, "b": 2}', "[1, 2]", "5", '{"a": null}'])
def test_names_that_are_none(tmp_path: Path, content: str) -> None:
    np.save(tmp_path / "x.npy", IMAGES)
    (tmp_path / "labels.json").write_text(content)
    with pytest.raises(InvalidDataset, match=r"labels\.json"):
        open_dataset(tmp_path)
    (tmp_path / "labels.json").write_text("{")
    with pytest.raises(CorruptFile, match=r"labels\.json"):
        open_dataset(tmp_path)


def test_labels_that_are_none() -> None:
    path = Path("y.npy")
    bad = [
        np.array([0.5, 1]),
        np.array([np.nan, 1]),
        np.array([[1, 1], [0, 1]]),
        np.array([[0, 0], [0, 1]]),
        np.zeros((2, 2, 2)),
        np.array([["a", "b"]]),
        np.array([2**40, 1]),
    ]
    for values in bad:
        with pytest.raises(InvalidDataset, match=r"y\.npy"):
            decode_labels(path, values, None)
    with pytest.raises(InvalidDataset, match="the label 5"):
        decode_labels(path, np.array([0, 5]), ["a", "b"])
    assert decode_labels(path, np.array([-1, 1]), ["a", "vort"]) == [None, "axion"]
    assert decode_labels(path, np.array(["", "CDM "]), None) == [None, "cdm"]


def test_texts_that_are_no_texts_are_refused(tmp_path: Path) -> None:
    for code in (0x110000, 0xFFFFFFFF, 0xD800):
        texts = np.full(N, code, dtype=">u4").view(">U1")
        np.savez(tmp_path / "a.npz", x=IMAGES, y=texts)
        with pytest.raises(InvalidDataset, match="not valid Unicode"):
            open_dataset(tmp_path / "a.npz")
        np.savez(tmp_path / "a.npz", x=IMAGES, y=NUMBERS, class_names=texts)
        with pytest.raises(InvalidDataset, match="not valid Unicode"):
            open_dataset(tmp_path / "a.npz")
    np.save(tmp_path / "x.npy", IMAGES)
    (tmp_path / "labels.json").write_text('["\\ud800"]')
    with pytest.raises(InvalidDataset, match="not valid Unicode"):
        open_dataset(tmp_path / "x.npy")


def test_ten_and_more_numbers_keep_their_order(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=IMAGES, y=np.arange(N))
    assert open_dataset(tmp_path / "a.npz").labels == tuple(str(number) for number in range(N))


def test_a_header_alone_opens_a_large_file(tmp_path: Path) -> None:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": (400_000, 64, 64)})
    with (tmp_path / "big.npy").open("wb") as file:
        file.write(stream.getvalue())
        file.truncate(len(stream.getvalue()) + 400_000 * 64 * 64 * 4)  # a sparse file of 6.5 GB
    dataset = open_dataset(tmp_path / "big.npy")
    assert len(dataset) == 400_000 and dataset.images([399_999]).max() == 0
