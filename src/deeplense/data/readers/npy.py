"""One `.npy` file: plain numeric arrays, and the object arrays in which DeepLense keeps an axion image and its mass."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from deeplense.core.errors import CorruptFile
from deeplense.data.readers.guard import MAX_IMAGE_BYTES, parsing, read_bytes
from deeplense.data.readers.object_pickle import read_object_array

EXPECTED = "a .npy file of one numeric array, or of one object array [image, mass]"


@dataclass(frozen=True)
class NpyContent:
    """What one `.npy` file holds.

    Parameters
    ----------
    image
        The array as stored: any numeric dtype, any byte order, any number of dimensions.
    mass
        The number beside it in an axion file, as stored (eV in Models I-III); None where there is none.
    """

    image: np.ndarray
    mass: float | None = None


@dataclass(frozen=True)
class NpyHeader:
    """The header of a `.npy` stream: what follows from byte `offset` on."""

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype[Any]
    offset: int

    @property
    def nbytes(self) -> int:
        """Bytes that the array takes; shapes are Python integers, so that nothing overflows."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_npy(path: Path, max_bytes: int = MAX_IMAGE_BYTES) -> NpyContent:
    """Return the array in a `.npy` file, and the mass beside it if it is an axion file; no pickle is ever run.

    Parameters
    ----------
    path
        The file.
    max_bytes
        Refuse larger files.

    Raises
    ------
    MissingFile
        When the file is not there or cannot be read.
    CorruptFile
        When it is anything but `EXPECTED`; whatever the bytes are, no other exception comes out.
    """
    content = read_bytes(path, max_bytes)
    with parsing(path, EXPECTED):
        header = read_header(path, io.BytesIO(content), len(content), kinds="biufO")
        if not header.dtype.hasobject:
            return _split_flat(to_array(header, content))
        shape, leaves = read_object_array(content[header.offset :])
        if shape != header.shape:
            raise CorruptFile(path, f"the header says {header.shape}, the pickle {shape}", EXPECTED)
        return _image_and_mass(shape, leaves)


def read_header(path: Path, stream: IO[bytes], size: int, kinds: str = "biuf") -> NpyHeader:
    """Return the checked header of a `.npy` stream of `size` bytes; call it inside `guard.parsing`.

    Parameters
    ----------
    path
        Names the file in errors.
    stream
        At the start of the magic string; afterwards at the first byte of the data.
    size
        Length of the whole stream, header included.
    kinds
        The dtype kinds to let through, by NumPy's letters; with "O" the length is not checked.

    Raises
    ------
    CorruptFile
        When the dtype is none of `kinds`, the array is empty, or its length is not what the header says.
    """
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(stream)
    elif version == (2, 0):
        shape, fortran_order, dtype = np.lib.format.read_array_header_2_0(stream)
    else:  # 3.0 differs for structured dtypes only, which are no images
        raise CorruptFile(path, f"format version {version[0]}.{version[1]}", "format version 1.0 or 2.0")
    header = NpyHeader(shape, fortran_order, dtype, stream.tell())
    if dtype.kind not in kinds:
        raise CorruptFile(path, f"values of type {str(dtype)[:60]}", "integers or floating-point numbers")
    if dtype.hasobject:
        return header
    if min(shape, default=1) < 0 or header.nbytes == 0:
        raise CorruptFile(path, f"an array of shape {shape}", "at least one value")
    if header.nbytes != size - header.offset:
        found = f"{size - header.offset:,} bytes follow the header, which promises {header.nbytes:,}"
        raise CorruptFile(path, found, EXPECTED)
    return header


def to_array(header: NpyHeader, content: bytes) -> np.ndarray:
    """Return the array of a whole stream as a read-only view of its bytes."""
    flat = np.frombuffer(content, header.dtype, offset=header.offset)
    return flat.reshape(header.shape, order="F" if header.fortran_order else "C")


def _image_and_mass(shape: tuple[int, ...], leaves: list[float | np.ndarray]) -> NpyContent:
    """Put the pieces of an object array together: an image whole, in rows, flat or pixel by pixel; then the mass.

    What NumPy makes of `[image, mass]` depends on its version and on the shapes of the two: one image and a number,
    rows and numbers (shape (2, H) from an image and a row of masses), or single pixels.
    """
    arrays = [leaf for leaf in leaves if isinstance(leaf, np.ndarray)]
    numbers = np.array([leaf for leaf in leaves if not isinstance(leaf, np.ndarray)])
    if not leaves:
        raise ValueError("an object array with nothing in it")
    if not arrays:
        return _split_flat(numbers.reshape(shape) if numbers.size == math.prod(shape) else numbers)
    count = sum(1 for array in arrays if array.shape == arrays[0].shape)
    rest = arrays[count:]
    if any(array.shape != arrays[0].shape for array in arrays[:count]) or len(rest) > 1:
        raise ValueError("rows of unequal length")
    image = arrays[0] if count == 1 else np.stack(arrays[:count])
    beside = np.concatenate([*(array.ravel() for array in rest), numbers])
    if beside.size == 0 and count > 1 and image.shape == (count, count - 1) and _constant(image[-1]):
        image, beside = image[:-1], image[-1]  # the last row repeats the mass
    return NpyContent(image, float(beside[0]) if _constant(beside) else None)


def _constant(values: np.ndarray) -> bool:
    return values.size > 0 and bool((values == values[0]).all())


def _split_flat(pixels: np.ndarray) -> NpyContent:
    """Take the mass off a flat image that has it as one value more than a square number."""
    if pixels.ndim == 1 and pixels.size > 1 and math.isqrt(pixels.size - 1) ** 2 == pixels.size - 1:
        return NpyContent(pixels[:-1], float(pixels[-1]))
    return NpyContent(pixels)
