"""Our own layout: the dataset folder that `deeplense simulate` writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float32, Int64

from deeplense.core.errors import CorruptFile, InvalidDataset, MissingFile
from deeplense.core.files import read_json, sha256
from deeplense.data.dataset import READERS, Dataset
from deeplense.data.readers.hdf5 import locate, to_stacks
from deeplense.data.readers.stacks import Stack
from deeplense.data.shards import CATALOGUE, FORMAT, FORMAT_VERSION, IMAGE, MANIFEST, shard_name

SHARDS_PER_QUESTION = 64
REMEDY = "simulate it again: `deeplense simulate` finishes or rebuilds the same bytes"


@READERS.register("dataset_folder")
class DatasetFolder(Dataset):
    """A folder with `manifest.json`, `catalogue.parquet` and `shard-*.h5`.

    Parameters
    ----------
    path
        The folder.

    Attributes
    ----------
    manifest
        Recipe, seed, versions, unit, pixel scale and checksums.
    """

    layout: ClassVar[str] = "dataset folder (manifest.json, catalogue.parquet, shard-*.h5)"

    def __init__(self, path: Path) -> None:
        self.path, self.problems = path, []
        if not (path / MANIFEST).is_file():
            raise InvalidDataset(f"{path} is unfinished: it has no {MANIFEST}", "a complete dataset folder", REMEDY)
        self.manifest: dict[str, Any] = read_json(path / MANIFEST)
        try:
            version = (self.manifest["format"], self.manifest["format_version"])
            self.labels = tuple(map(str, self.manifest["labels"]))
            channels, height, width = map(int, self.manifest["image_shape"])
            self._rows_per_shard = int(self.manifest["rows_per_shard"])
            self._rows = [int(shard["rows"]) for shard in self.manifest["shards"]]
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptFile(
                path / MANIFEST, f"a field is missing or odd ({error!r})", "a manifest", REMEDY
            ) from error
        if version != (FORMAT, FORMAT_VERSION):
            raise CorruptFile(path / MANIFEST, f"format {version}", f"{(FORMAT, FORMAT_VERSION)}", "update deeplense")
        self.image_shape = (channels, height, width)
        self._stacks: dict[int, Stack] = {}
        self._answers: dict[int, bytes] = {}
        self.catalogue = self._read_catalogue()

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Whether the folder has a manifest, or a catalogue that waits for one."""
        return (path / MANIFEST).is_file() or (path / CATALOGUE).is_file()

    def images(self, indices: Sequence[int] | Int64[np.ndarray, " B"]) -> Float32[np.ndarray, "B C H W"]:
        """Return images by row, shard by shard."""
        rows = np.asarray(indices, dtype=np.int64)
        result = np.empty((rows.size, *self.image_shape), dtype=np.float32)
        numbers = rows // self._rows_per_shard
        for number in np.unique(numbers):
            where = np.flatnonzero(numbers == number)
            result[where] = self._stack(int(number)).rows(rows[where] % self._rows_per_shard)
        return result

    def check(self) -> list[str]:
        """Return the files whose bytes are not those that the manifest vouches for."""
        files = [self.manifest["catalogue"], *self.manifest["shards"]]
        return [
            entry["file"]
            for entry in files
            if not (self.path / entry["file"]).is_file() or sha256(self.path / entry["file"]) != entry["sha256"]
        ]

    def _stack(self, number: int) -> Stack:
        """Return the rows of a shard."""
        if number not in self._stacks:
            path, wanted = self.path / shard_name(number), (self._rows[number], *self.image_shape)
            if not path.is_file():
                raise MissingFile(f"{path} is missing", f"the shard {path.name} of the manifest", REMEDY)
            stack = to_stacks(path, self._answer(number))[0].get(IMAGE)
            if stack is None or stack.shape != wanted:
                found = "no images" if stack is None else f"images of shape {stack.shape}"
                raise CorruptFile(path, found, f"images of shape {wanted}", REMEDY)
            self._stacks[number] = stack
        return self._stacks[number]

    def _answer(self, number: int) -> bytes:
        """Return what libhdf5 says of a shard; it is asked about many at once, since each question starts a process."""
        if number not in self._answers:
            first = number - number % SHARDS_PER_QUESTION
            block = range(first, min(first + SHARDS_PER_QUESTION, len(self._rows)))
            numbers = [n for n in block if (self.path / shard_name(n)).is_file()]
            answers = locate([self.path / shard_name(n) for n in numbers])
            self._answers |= {n: line for n, line in zip(numbers, answers, strict=False) if line}
        if number not in self._answers:  # a damaged shard before this one may have ended the process
            self._answers[number] = locate([self.path / shard_name(number)])[0]
        return self._answers[number]

    def _read_catalogue(self) -> pa.Table:
        path = self.path / CATALOGUE
        try:
            table = pq.read_table(path)
        except (OSError, pa.ArrowException) as error:
            raise CorruptFile(path, f"not a readable Parquet file ({error})", "the catalogue", REMEDY) from error
        if table.num_rows != sum(self._rows) or not {"id", "label", "split"} <= set(table.column_names):
            raise CorruptFile(path, f"{table.num_rows} rows", f"{sum(self._rows)} rows with id, label, split", REMEDY)
        return table
