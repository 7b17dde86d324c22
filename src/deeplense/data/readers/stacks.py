"""Arrays with one image (or label) per row, in `.npy` and `.npz` files: opened by header, read when rows are asked for.

A stack remembers where its rows lie and keeps no file open, so that it can be pickled and used in worker processes.
Rows are read with seek and read, not through a memory map: a file cut short under a map kills the process.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np

from deeplense.core.errors import CorruptFile
from deeplense.data.readers.guard import parsing, unreadable
from deeplense.data.readers.npy import EXPECTED, NpyHeader, read_header, to_array

MAX_IN_MEMORY = 1 << 33
"""Largest array that is unpacked as a whole: 8 GiB."""

KINDS = "biufUS"
"""Numbers for images and labels, texts for labels."""

_NPZ = "a .npz archive of numeric arrays, unencrypted"


class Stack(Protocol):
    """Rows of equal shape and dtype."""

    @property
    def path(self) -> Path:
        """The file that holds them."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of rows, then the shape of a row."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values as stored."""

    def rows(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return the rows at `indices`, in that order; CorruptFile when the file does not yield them."""


@dataclass(frozen=True)
class PlainStack:
    """Rows that lie one behind the other in a file.

    Parameters
    ----------
    path
        The file.
    shape
        Number of rows, then the shape of a row.
    dtype
        Type of the values as stored.
    offset
        Byte at which the first row begins.
    """

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int

    def rows(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return the rows at `indices`, in that order; CorruptFile when the file does not yield them."""
        result = np.empty((len(indices), *self.shape[1:]), self.dtype)
        size = math.prod(self.shape[1:]) * self.dtype.itemsize
        with opened(self.path) as stream, parsing(self.path, f"{self.shape[0]} rows of {size} bytes"):
            for row, index in enumerate(indices):
                stream.seek(self.offset + int(index) * size)
                result[row] = np.frombuffer(stream.read(size), self.dtype).reshape(self.shape[1:])
        return result


@dataclass(frozen=True)
class ArrayStack:
    """Rows that are in memory already.

    Parameters
    ----------
    path
        The file that they came from.
    array
        The rows.
    """

    path: Path
    array: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of rows, then the shape of a row."""
        return self.array.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        return self.array.dtype

    def rows(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return the rows at `indices`, in that order."""
        return self.array[np.asarray(indices, dtype=np.int64)]


@dataclass
class NpzStack:
    """The rows of one member of a `.npz` file, unpacked as a whole at the first call, once per process.

    Parameters
    ----------
    path
        The file.
    member
        Name in the archive.
    header
        Its checked header.
    """

    path: Path
    member: str
    header: NpyHeader
    _array: np.ndarray | None = field(default=None, init=False, repr=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of rows, then the shape of a row."""
        return self.header.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values as stored."""
        return self.header.dtype

    def rows(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return the rows at `indices`, in that order; CorruptFile when the file does not yield them."""
        if self._array is None:
            with opened(self.path) as stream, parsing(self.path, _NPZ), zipfile.ZipFile(stream) as archive:
                self._array = to_array(self.header, archive.read(self.member))
        return self._array[np.asarray(indices, dtype=np.int64)]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_array": None}


def npy_stack(path: Path) -> Stack:
    """Return the rows of a `.npy` file.

    Raises
    ------
    MissingFile
        When the file is not there or cannot be read.
    CorruptFile
        When it is not one numeric (or text) array in C order.
    """
    with opened(path) as stream, parsing(path, EXPECTED):
        header = read_header(path, stream, path.stat().st_size, KINDS)
        if not header.shape:
            raise CorruptFile(path, "a single number", "an array with one row per image")
        if header.fortran_order and len(header.shape) > 1:
            raise CorruptFile(
                path,
                "Fortran order: each row is scattered over the whole file",
                "an array in C order",
                "save it again with numpy.save(path, numpy.ascontiguousarray(array))",
            )
        return PlainStack(path, header.shape, header.dtype, header.offset)


def npz_stacks(path: Path) -> dict[str, Stack]:
    """Return the members of a `.npz` file by name; members that are no arrays of rows are left out.

    Raises
    ------
    MissingFile
        When the file is not there or cannot be read.
    CorruptFile
        When it is not an archive of plain `.npy` files, or a member unpacks to more than `MAX_IN_MEMORY`.
    """
    found: dict[str, Stack] = {}
    with opened(path) as stream, parsing(path, _NPZ), zipfile.ZipFile(stream) as archive:
        for info in archive.infolist():
            if not info.filename.endswith(".npy"):
                continue
            if info.file_size > MAX_IN_MEMORY:
                raise CorruptFile(path, f"{info.filename} unpacks to {info.file_size:,} bytes", "at most 8 GiB each")
            with archive.open(info) as member:
                header = read_header(path, member, info.file_size, KINDS + "O")
            if header.shape and not header.dtype.hasobject:
                found[info.filename.removesuffix(".npy")] = NpzStack(path, info.filename, header)
    return found


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """Yield the file, open for reading; MissingFile when the operating system refuses."""
    try:
        stream = path.open("rb")
    except OSError as error:
        raise unreadable(path, error) from error
    with stream:
        yield stream
