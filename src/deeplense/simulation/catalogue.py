"""The catalogue of a dataset: a row per image, with every parameter that was drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from deeplense.data import shards
from deeplense.recipes.draw import streams_of
from deeplense.recipes.recipe import Recipe, Sample
from deeplense.recipes.scenes import draw_parameters


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
