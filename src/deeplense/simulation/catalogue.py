"""The catalogue of a dataset: a row per image, with every parameter that was drawn, and what is measured on it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from deeplense.core.errors import CorruptFile
from deeplense.data import shards
from deeplense.data.readers.hdf5 import locate, to_stacks
from deeplense.recipes.draw import streams_of
from deeplense.recipes.recipe import Recipe, Sample
from deeplense.recipes.scenes import draw_parameters
from deeplense.simulation.photometry import Photometer

PER_QUESTION = 64  # shards: each question of where their arrays lie starts a process


def schema(recipe: Recipe) -> pa.Schema:
    """Return the columns: identity, and every parameter that some class draws; a list where an image has several."""
    fields: list[pa.Field[Any]] = [pa.field(name, pa.string()) for name in ("id", "label", "split")]
    parameters: dict[str, pa.Field[Any]] = {}
    for label in recipe.labels:
        for name, values in draw_parameters(recipe, label, streams_of(0, [Sample("probe", label, 0)])).items():
            parameters[name] = pa.field(name, pa.list_(pa.float64()) if values.ndim == 2 else pa.float64())
    return pa.schema([*fields, pa.field("seed", pa.int64()), *parameters.values()])


def tables(recipe: Recipe, seed: int, samples: Sequence[Sample]) -> Iterator[pa.Table]:
    """Yield the catalogue part by part; parameters are drawn again here, since each depends on its image alone."""
    columns = schema(recipe)
    for first in range(0, len(samples), shards.ROWS_PER_SHARD):
        yield _table(recipe, seed, samples[first : first + shards.ROWS_PER_SHARD], columns)


def _table(recipe: Recipe, seed: int, samples: Sequence[Sample], columns: pa.Schema) -> pa.Table:
    values: dict[str, list[Any]] = {name: [None] * len(samples) for name in columns.names}
    values["id"] = [sample.id for sample in samples]
    values["label"] = [sample.label for sample in samples]
    values["split"] = [sample.split for sample in samples]
    values["seed"] = [seed] * len(samples)
    for label in recipe.labels:
        rows = [row for row, sample in enumerate(samples) if sample.label == label]
        drawn = draw_parameters(recipe, label, streams_of(seed, [samples[row] for row in rows])) if rows else {}
        for name, column in drawn.items():
            for row, value in zip(rows, column, strict=True):
                values[name][row] = value[~np.isnan(value)] if column.ndim == 2 else float(value)
    return pa.table(values, schema=columns)


def with_observables(
    parts: Iterator[pa.Table], recipe: Recipe, columns: pa.Schema, folder: Path
) -> tuple[pa.Schema, Iterator[pa.Table]]:
    """Return the columns and the parts of a catalogue, with what is measured on the images in the shards.

    Parameters
    ----------
    parts
        The catalogue shard by shard, as `tables` yields it.
    recipe
        What the images are of.
    columns
        Of the catalogue so far.
    folder
        Of the shards, all of which are there.

    Raises
    ------
    CorruptFile
        When a shard is damaged; raised as the parts are asked for.
    """
    photometer = Photometer.of(recipe)
    wider = pa.schema([*columns, *(pa.field(name, pa.float64()) for name in photometer.columns)])
    return wider, (_measured(part, images, photometer) for part, images in zip(parts, _images(folder), strict=True))


def _measured(part: pa.Table, images: np.ndarray, photometer: Photometer) -> pa.Table:
    found = photometer.measure(torch.from_numpy(images.astype(np.float32)))
    for name, values in found.items():
        part = part.append_column(name, pa.array(values.numpy(), from_pandas=True))  # NaN is null
    return part


def _images(folder: Path) -> Iterator[np.ndarray]:
    """Yield the images of each shard."""
    paths = sorted(folder.glob("shard-*.h5"))
    for first in range(0, len(paths), PER_QUESTION):
        some = paths[first : first + PER_QUESTION]
        answers = locate(some)
        for path, answer in zip(some, answers, strict=False):
            stack = to_stacks(path, answer)[0].get(shards.IMAGE)
            if stack is None:
                raise CorruptFile(path, "no array 'image'", "a shard of images", "remove it, and simulate again")
            yield stack.rows(np.arange(stack.shape[0]))
