"""Stacks of rows in HDF5 files: libhdf5 says, in a process of its own, where the values lie; they are read here."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from deeplense.core.errors import CorruptFile
from deeplense.data.readers.guard import parsing
from deeplense.data.readers.stacks import MAX_IN_MEMORY, ArrayStack, PlainStack, Stack, opened

EXPECTED = "an HDF5 file of plain datasets, contiguous or in chunks, without compression or with gzip"
TIME_LIMIT = 120.0
MAX_CHUNK_BYTES = 1 << 29
_INDEX = Path(__file__).with_name("hdf5_index.py")
_DEFLATE, _SHUFFLE = 1, 2


@dataclass
class ChunkedStack:
    """Rows in chunks: read one by one where a chunk is one row (or part of it), else unpacked whole, once per process.

    Parameters
    ----------
    path
        The file.
    shape
        Number of rows, then the shape of a row.
    dtype
        Type of the values as stored.
    chunk
        Shape of a chunk.
    filters
        Numbers of the HDF5 filters, in the order in which they were applied.
    table
        [K, D + 3]: coordinates of each chunk's first value, offset and length in the file, mask of skipped filters;
        sorted.
    """

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunk: tuple[int, ...]
    filters: tuple[int, ...]
    table: np.ndarray
    _array: np.ndarray | None = field(default=None, init=False, repr=False)

    def rows(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return the rows at `indices`, in that order; CorruptFile when the file does not yield them."""
        with opened(self.path) as stream, parsing(self.path, EXPECTED):
            if self.chunk[0] == 1:
                result = np.empty((len(indices), *self.shape[1:]), self.dtype)
                for row, index in enumerate(indices):
                    self._fill(stream, result[row : row + 1], int(index), 1)
                return result
            if self._array is None:
                whole = np.empty(self.shape, self.dtype)
                self._fill(stream, whole, 0, self.shape[0])
                self._array = whole
        return self._array[np.asarray(indices, dtype=np.int64)]

    def _fill(self, stream: IO[bytes], target: np.ndarray, first: int, count: int) -> None:
        """Copy the chunks that begin in rows `first` … `first + count` to `target`, whose row 0 is `first`."""
        begin, end = np.searchsorted(self.table[:, 0], (first, first + count))
        for *corner, offset, size, mask in self.table[begin:end].tolist():
            corner[0] -= first
            place = tuple(slice(at, at + length) for at, length in zip(corner, self.chunk, strict=True))
            part = target[place]
            values = self._decode(stream, offset, size, mask)
            part[...] = values[tuple(slice(length) for length in part.shape)]

    def _decode(self, stream: IO[bytes], offset: int, size: int, mask: int) -> np.ndarray:
        length = math.prod(self.chunk) * self.dtype.itemsize
        stream.seek(offset)
        raw = stream.read(size)
        for position, number in reversed(list(enumerate(self.filters))):
            if mask >> position & 1:
                continue
            if number == _DEFLATE:
                raw = zlib.decompressobj().decompress(raw, length + 1)
            elif len(raw) == length:  # shuffle; a wrong length is reported below
                raw = np.frombuffer(raw, np.uint8).reshape(self.dtype.itemsize, -1).T.tobytes()
        return np.frombuffer(raw, self.dtype).reshape(self.chunk)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_array": None}


def hdf5_stacks(path: Path) -> tuple[dict[str, Stack], list[str] | None]:
    """Return the datasets of an HDF5 file by name, down to one group deep, and class names if an attribute has them.

    Raises
    ------
    MissingFile
        When the file is not there or cannot be read.
    CorruptFile
        When it is not an HDF5 file of whole, plain datasets.
    """
    with opened(path):
        return to_stacks(path, locate([path])[0])


def locate(paths: Sequence[Path], time_limit: float = TIME_LIMIT) -> list[bytes]:
    """Return what `hdf5_index.py` says of each file, as long as it lives: a damaged file can end it.

    Parameters
    ----------
    paths
        The files, asked in this order.
    time_limit
        Seconds for each of them.

    Returns
    -------
    list of bytes
        One line of JSON per file; an empty one for the file that ended the process, none for those behind it.
    """
    command = [sys.executable, "-I", str(_INDEX), str(time_limit), *(str(path.absolute()) for path in paths)]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "HDF5_USE_FILE_LOCKING": "FALSE"}
    patience = time_limit * len(paths) + 1
    try:
        done = subprocess.run(
            command, env=environment, timeout=patience, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False
        )
        said = done.stdout
    except subprocess.TimeoutExpired as expired:
        said = expired.output or b""
    lines = said.split(b"\n")[:-1]
    return lines if len(lines) == len(paths) else [*lines, b""]


def to_stacks(path: Path, line: bytes) -> tuple[dict[str, Stack], list[str] | None]:
    """Return the stacks that one line of `locate` describes, everything in it checked against the file.

    Raises
    ------
    CorruptFile
        When the line is empty, is an error, or describes what the file cannot hold.
    """
    if not line:
        raise CorruptFile(path, "libhdf5 crashed or ran into the time limit on this file", EXPECTED)
    with parsing(path, EXPECTED):
        answer = json.loads(line)
        if "error" in answer:
            raise CorruptFile(path, " ".join(answer["error"].split())[:200], EXPECTED)
        size = path.stat().st_size
        stacks = {name: _stack(path, size, described) for name, described in answer["datasets"].items()}
        return {name: stack for name, stack in stacks.items() if stack is not None}, answer["names"]


def _stack(path: Path, size: int, described: dict[str, Any]) -> Stack | None:
    """Return one dataset as a stack; None when its values are neither numbers nor texts."""
    if not described:
        return None
    if "texts" in described:
        return ArrayStack(path, np.array(described["texts"], dtype=np.str_))
    dtype, shape = np.dtype(described["dtype"]), tuple(described["shape"])
    nbytes = math.prod(shape) * dtype.itemsize
    if "offset" in described:
        if described["offset"] is None or described["offset"] + nbytes > size:
            raise ValueError(f"{nbytes:,} bytes of values are not in the file")
        return PlainStack(path, shape, dtype, described["offset"])
    chunk, filters = tuple(described["chunk"]), tuple(described["filters"])
    if not set(filters) <= {_DEFLATE, _SHUFFLE}:
        raise CorruptFile(path, f"HDF5 filters {filters}", EXPECTED, "write the dataset anew with compression='gzip'")
    at_once = nbytes if chunk[0] > 1 else nbytes // max(shape[0], 1)
    if math.prod(chunk) * dtype.itemsize > MAX_CHUNK_BYTES or at_once > MAX_IN_MEMORY:
        raise CorruptFile(path, f"chunks of {chunk}", EXPECTED, "write the dataset anew with one image per chunk")
    grid = [-(-length // step) for length, step in zip(shape, chunk, strict=True)]
    table = np.array(sorted(described["table"]), dtype=np.int64).reshape(-1, len(shape) + 3)
    corners, (offsets, sizes) = table[:, : len(shape)], table[:, -3:-1].T
    complete = len(table) == math.prod(grid) and np.array_equal(
        corners, np.indices(grid).reshape(len(grid), -1).T * np.array(chunk)
    )
    if not complete or bool((offsets < 0).any() or (sizes < 0).any() or (offsets > size - sizes).any()):
        raise ValueError("some chunks of values are not in the file")
    return ChunkedStack(path, shape, dtype, chunk, filters, table)
