"""Our own layout: the dataset folder that `deeplense simulate` writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float32, Int64

from deeplense.core.errors import CorruptFile, InvalidDataset, MissingFile
from deeplense.core.files import read_json, sha256
from deeplense.data.dataset import READERS, Dataset
from deeplense.data.shards import CATALOGUE, FORMAT, FORMAT_VERSION, IMAGE, MANIFEST, shard_name

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
            result[where] = self._read_shard(int(number), rows[where] % self._rows_per_shard)
        return result

    def check(self) -> list[str]:
        """Return the files whose bytes are not those that the manifest vouches for."""
        files = [self.manifest["catalogue"], *self.manifest["shards"]]
        return [
            entry["file"]
            for entry in files
            if not (self.path / entry["file"]).is_file() or sha256(self.path / entry["file"]) != entry["sha256"]
        ]

    def _read_shard(self, number: int, rows: Int64[np.ndarray, " R"]) -> Float32[np.ndarray, "R C H W"]:
        path = self.path / shard_name(number)
        try:
            with h5py.File(path, "r") as file:
                images = file[IMAGE]
                if images.shape != (self._rows[number], *self.image_shape):
                    raise ValueError(f"images of shape {images.shape}")
                if rows.size > 64:
                    return np.take(np.asarray(images[:], dtype=np.float32), rows, axis=0)
                # h5py's fancy indexing is far slower than single reads
                return np.stack([np.asarray(images[int(row)], dtype=np.float32) for row in rows])
        except FileNotFoundError as error:
            raise MissingFile(f"{path} is missing", f"the shard {path.name} of the manifest", REMEDY) from error
        except (OSError, KeyError, ValueError, RuntimeError, IndexError, TypeError) as error:
            expected = f"{self._rows[number]} images of shape {self.image_shape}"
            raise CorruptFile(path, f"not a readable shard ({error})", expected, REMEDY) from error

    def _read_catalogue(self) -> pa.Table:
        path = self.path / CATALOGUE
        try:
            table = pq.read_table(path)
        except (OSError, pa.ArrowException) as error:
            raise CorruptFile(path, f"not a readable Parquet file ({error})", "the catalogue", REMEDY) from error
        if table.num_rows != sum(self._rows) or not {"id", "label", "split"} <= set(table.column_names):
            raise CorruptFile(path, f"{table.num_rows} rows", f"{sum(self._rows)} rows with id, label, split", REMEDY)
        return table
