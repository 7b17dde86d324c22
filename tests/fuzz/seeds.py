"""Small sound files of every kind that a binary reader takes: what the fuzzer damages."""

from __future__ import annotations

import functools
import io
import pickle
import zipfile
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

SIDE = 6


def image(dtype: str = "<f8") -> np.ndarray:
    """Return a small image of positive values."""
    return (np.random.default_rng(1).random((SIDE, SIDE)) * 200).astype(dtype)


def object_array(*items: object, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """Return an object array of `items`, exactly these."""
    array = np.empty(len(items), dtype=object)
    array[:] = [None] * len(items)
    for position, item in enumerate(items):
        array[position] = item
    return array if shape is None else array.reshape(shape)


def object_npy(array: np.ndarray, protocol: int = 3, numpy_1: bool = False) -> bytes:
    """Return the `.npy` bytes of an object array, with a pickle of that protocol; as NumPy 1 names its modules."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, np.lib.format.header_data_from_array_1_0(array))
    return stream.getvalue() + (as_numpy_1(pickle.dumps(array, protocol)) if numpy_1 else pickle.dumps(array, protocol))


def as_numpy_1(pickled: bytes) -> bytes:
    """Return a pickle with the modules of NumPy 2 renamed as in NumPy 1, lengths and frames put right."""
    for name in (b"numpy._core.multiarray", b"numpy._core.numeric"):
        short = name.replace(b"._core", b".core")
        lengthy, shorter = bytes([0x8C, len(name)]) + name, bytes([0x8C, len(short)]) + short
        if pickled[2:3] == b"\x95":  # the frame tells its length
            frame = int.from_bytes(pickled[3:11], "little") - pickled.count(lengthy)
            pickled = pickled[:3] + frame.to_bytes(8, "little") + pickled[11:]
        pickled = pickled.replace(lengthy, shorter).replace(b"c" + name, b"c" + short)
    return pickled


def npy(array: np.ndarray) -> bytes:
    """Return the `.npy` bytes of a numeric array."""
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


def npy_seeds() -> list[bytes]:
    """Return plain `.npy` files of several dtypes, orders and shapes."""
    arrays = [image(dtype) for dtype in ("<f8", ">f4", "<i4", "|u1", "<f2", "|b1")]
    arrays += [np.asfortranarray(image()), image()[None], np.stack([image()] * 3, -1), image().ravel()]
    stream = io.BytesIO()
    np.lib.format.write_array(stream, image(), version=(2, 0))
    return [npy(array) for array in arrays] + [stream.getvalue()]


def object_seeds() -> list[bytes]:
    """Return object arrays as NumPy 1 and 2 write them, in all pickle protocols and shapes that circulate."""
    arrays = [
        object_array(image(), 1e-24),
        object_array(image("<f4")[None], np.float64(1e-24)),
        object_array(*image(), *[1e-24] * SIDE, shape=(2, SIDE)),
        object_array(image().ravel(), np.full(SIDE, 1e-24)),
        object_array(*image().ravel().tolist(), 1e-24),
    ]
    return [object_npy(array, protocol, old) for array in arrays for protocol in range(6) for old in (False, True)]


def picture_seeds() -> list[bytes]:
    """Return PNG and JPEG files of several colour modes."""
    grey = Image.fromarray(np.tile(image("|u1"), (3, 3)))
    seeds = []
    for mode, kind in [(m, "PNG") for m in ("1", "L", "P", "RGB", "RGBA", "LA", "I;16")] + [
        ("L", "JPEG"),
        ("RGB", "JPEG"),
    ]:
        stream = io.BytesIO()
        picture = Image.fromarray(np.asarray(grey).astype("<u2") * 200) if mode == "I;16" else grey.convert(mode)
        picture.save(stream, kind)
        seeds.append(stream.getvalue())
    return seeds


def npz_seeds() -> list[bytes]:
    """Return archives of images and labels, stored and deflated."""
    images, seeds = np.stack([image("<f4")] * 4), []
    for save in (np.savez, np.savez_compressed):
        for labels in (np.arange(4) % 2, np.eye(2)[np.arange(4) % 2], np.array(["no", "vort", "no", "vort"])):
            stream = io.BytesIO()
            save(stream, images=images, labels=labels)
            seeds.append(stream.getvalue())
    return seeds


@functools.cache
def stack_seeds() -> tuple[list[bytes], list[bytes]]:
    """Return `.npy` files of stacked images, and of labels for them."""
    images, numbers = np.stack([image("<f4")] * 4), np.arange(4) % 2
    labels = [numbers, np.eye(2)[numbers], numbers.astype(float)[:, None], np.array(["no", "vort"])[numbers]]
    return [npy(images), npy(images[:, None].astype(">i2"))], [npy(array) for array in labels]


def npz_of(members: list[bytes]) -> bytes:
    """Return an archive of images and labels whose own structure is sound, whatever the two members are."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in zip(("images.npy", "labels.npy"), members, strict=True):
            archive.writestr(name, content)
    return stream.getvalue()


def hdf5_seeds(folder: Path) -> list[bytes]:
    """Return HDF5 files, contiguous and chunked, plain and compressed, in the oldest and the newest format."""
    images, seeds, path = np.stack([image("<f4")] * 4), [], folder / "seed.h5"
    options = [{}, {"chunks": (1, SIDE, SIDE)}, {"chunks": (1, 4, SIDE), "compression": "gzip", "shuffle": True}]
    options += [{"chunks": (3, 4, SIDE), "compression": "gzip"}, {"chunks": (4, 2, 2)}]
    for number, option in enumerate(options):
        for version in ("earliest", "latest"):
            with h5py.File(path, "w", libver=version) as file:
                file.create_dataset("images", data=images, **option)
                file["labels"] = np.arange(4) % 2 if number % 2 else ["no", "vort", "no", "vort"]
                file.attrs["classes"] = ["no", "vort"]
                if number == 1:
                    file.create_dataset("test/x", data=images)
            seeds.append(path.read_bytes())
    return seeds
