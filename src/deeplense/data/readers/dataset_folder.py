"""Our own layout: the dataset folder that `deeplense simulate` writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float32, Int64

from deeplense.core.degradation import Degradation
from deeplense.core.errors import CorruptFile, InvalidDataset, InvalidOption, MissingFile, UnknownName
from deeplense.core.files import read_json
from deeplense.data.bands import band_names
from deeplense.data.dataset import IMAGE, LOW, READERS, TRUTH, Dataset
from deeplense.data.readers.hdf5 import locate, to_stacks
from deeplense.data.readers.stacks import Stack
from deeplense.data.shards import CATALOGUE, FORMAT, FORMAT_VERSION, MANIFEST, damaged, shard_name

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
        self._parse_manifest()
        self._stacks: dict[tuple[int, str], Stack] = {}
        self._answers: dict[int, bytes] = {}
        self.catalogue = self._read_catalogue()

    def _parse_manifest(self) -> None:
        path, manifest = self.path / MANIFEST, self.manifest
        try:
            version = (manifest["format"], manifest["format_version"])
            if version != (FORMAT, FORMAT_VERSION):
                raise CorruptFile(path, f"format {version}", f"{(FORMAT, FORMAT_VERSION)}", "update deeplense")
            self.labels = tuple(map(str, manifest["labels"]))
            channels, height, width = map(int, manifest["image_shape"])
            self._rows_per_shard = int(manifest["rows_per_shard"])
            self._rows = [int(shard["rows"]) for shard in manifest["shards"]]
            files = [(entry["file"], entry["sha256"]) for entry in (manifest["catalogue"], *manifest["shards"])]
            full = [self._rows_per_shard] * (len(self._rows) - 1)
            sound = {
                "labels": isinstance(manifest["labels"], list) and len(set(self.labels)) == len(self.labels) > 0,
                "image_shape": min(channels, height, width) > 0,
                "rows": self._rows[:-1] == full and 0 < self._rows[-1] <= self._rows_per_shard,
                "file": [name for name, _ in files] == [CATALOGUE, *map(shard_name, range(len(self._rows)))],
            }
            if odd := [name for name, good in sound.items() if not good]:
                raise ValueError(odd[0])
            recipe = manifest.get("recipe") or {}
            pair = recipe.get("pair")
            self.bands = band_names(recipe.get("instrument"))
            self.degradation = None if pair is None else Degradation.from_mapping(pair)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, InvalidOption, UnknownName) as error:
            remedy = "restore it, or remove the folder and simulate it again"
            raise CorruptFile(path, f"a field is missing or odd ({error!r})", "a manifest", remedy) from error
        self.image_shape = (channels, height, width)

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Whether the folder has a manifest, or a catalogue that waits for one."""
        return (path / MANIFEST).is_file() or (path / CATALOGUE).is_file()

    @property
    def array_shapes(self) -> dict[str, tuple[int, int, int]]:
        """The shape of each array of an image; of pairs `low` is `factor` times smaller."""
        shapes = {IMAGE: self.image_shape}
        if self.degradation is not None:
            channels, height, width = self.image_shape
            coarse = channels, height // self.degradation.factor, width // self.degradation.factor
            shapes |= {LOW: coarse, TRUTH: self.image_shape}
        return shapes

    def images(self, indices: Sequence[int] | Int64[np.ndarray, " B"]) -> Float32[np.ndarray, "B C H W"]:
        """Return images by row, shard by shard."""
        return self.array(IMAGE, indices)

    def array(self, name: str, indices: Sequence[int] | Int64[np.ndarray, " B"]) -> Float32[np.ndarray, "B C H W"]:
        """Return an array by row, shard by shard."""
        rows = np.asarray(indices, dtype=np.int64)
        result = np.empty((rows.size, *self.array_shapes[name]), dtype=np.float32)
        numbers = rows // self._rows_per_shard
        for number in np.unique(numbers):
            where = np.flatnonzero(numbers == number)
            try:
                result[where] = self._stack(int(number), name).rows(rows[where] % self._rows_per_shard)
            except CorruptFile as error:
                error.remedy = REMEDY
                raise
            if not np.isfinite(result[where]).all():
                raise CorruptFile(
                    self.path / shard_name(int(number)), "a pixel is NaN or infinite", "finite pixels", REMEDY
                )
        return result

    def check(self) -> list[str]:
        """Return the files whose bytes are not those that the manifest vouches for."""
        return damaged(self.path, self.manifest)

    def _stack(self, number: int, name: str) -> Stack:
        """Return the rows of one array of a shard."""
        if (number, name) not in self._stacks:
            path, wanted = self.path / shard_name(number), (self._rows[number], *self.array_shapes[name])
            if not path.is_file():
                raise MissingFile(f"{path} is missing", f"the shard {path.name} of the manifest", REMEDY)
            stack = to_stacks(path, self._answer(number))[0].get(name)
            if stack is None or stack.shape != wanted:
                found = f"no array '{name}'" if stack is None else f"an array '{name}' of shape {stack.shape}"
                raise CorruptFile(path, found, f"one of shape {wanted}", REMEDY)
            self._stacks[number, name] = stack
        return self._stacks[number, name]

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
        if strange := sorted(set(map(str, table["label"].to_pylist())) - set(self.labels)):
            raise CorruptFile(
                self.path / MANIFEST,
                f"the classes {', '.join(self.labels)}",
                f"those of {CATALOGUE}, '{strange[0]}' among them",
                REMEDY,
            )
        return table
