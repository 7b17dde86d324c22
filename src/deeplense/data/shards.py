"""The bytes of a dataset folder: HDF5 shards of images, a Parquet catalogue, a manifest that vouches for both."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Shaped

from deeplense.core.errors import CorruptFile, InvalidDataset
from deeplense.core.files import atomic, sha256, write_json

FORMAT = "deeplense-dataset"
FORMAT_VERSION = 1
MANIFEST = "manifest.json"
CATALOGUE = "catalogue.parquet"
ROWS_PER_SHARD = 1024
IMAGE = "image"


def shard_name(number: int) -> str:
    """Return the file name of a shard."""
    return f"shard-{number:05d}.h5"


def write_shard(path: Path, arrays: Mapping[str, Shaped[np.ndarray, "R C H W"]], dtype: str) -> None:
    """Write one shard, whole or not at all: chunk = one image, uncompressed, the same bytes for the same images.

    Parameters
    ----------
    path
        File to write.
    arrays
        The array "image", and others of as many rows.
    dtype
        Pixel type on disk.

    Raises
    ------
    InvalidDataset
        When a pixel does not survive the conversion to `dtype`.
    """
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        for name, images in arrays.items():
            stored = images.astype(dtype, copy=False)
            if stored.dtype != images.dtype and not np.array_equal(stored, images):
                raise InvalidDataset(
                    f"pixels from {images.min():g} to {images.max():g} do not fit {dtype}",
                    f"values that {dtype} holds without loss",
                    'set dtype = "float32" in the recipe\'s [observation]',
                )
            file.create_dataset(name, data=stored, chunks=(1, *stored.shape[1:]))
    with atomic(path) as temporary:  # HDF5 itself may end the process on a full disk
        temporary.write_bytes(content.getbuffer())


def write_catalogue(path: Path, schema: pa.Schema, tables: Iterable[pa.Table]) -> None:
    """Write the catalogue part by part, whole or not at all."""
    with atomic(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        for table in tables:
            writer.write_table(table)


def write_manifest(folder: Path, facts: Mapping[str, Any], n_rows: int) -> None:
    """Write the manifest: `facts`, and the checksum of every file. Its presence says that the dataset is complete."""
    n_shards = -(-n_rows // ROWS_PER_SHARD)
    shards = [
        {
            "file": shard_name(i),
            "rows": min(ROWS_PER_SHARD, n_rows - i * ROWS_PER_SHARD),
            "sha256": sha256(folder / shard_name(i)),
        }
        for i in range(n_shards)
    ]
    catalogue = {"file": CATALOGUE, "rows": n_rows, "sha256": sha256(folder / CATALOGUE)}
    head = {"format": FORMAT, "format_version": FORMAT_VERSION}
    write_json(
        folder / MANIFEST,
        head | dict(facts) | {"rows_per_shard": ROWS_PER_SHARD, "catalogue": catalogue, "shards": shards},
    )


def damaged(folder: Path, manifest: Mapping[str, Any], contents: bool = True) -> list[str]:
    """Return the files that are missing or, with `contents`, not the bytes that the manifest vouches for.

    Raises
    ------
    CorruptFile
        When the manifest does not say.
    """
    try:
        vouched = [(entry["file"], entry["sha256"]) for entry in (manifest["catalogue"], *manifest["shards"])]
    except (KeyError, TypeError) as error:
        remedy = "restore it, or remove the folder and simulate it again"
        raise CorruptFile(folder / MANIFEST, f"a field is missing or odd ({error!r})", "a manifest", remedy) from error
    return [
        name
        for name, digest in vouched
        if not (folder / name).is_file() or (contents and sha256(folder / name) != digest)
    ]
