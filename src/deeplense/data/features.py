"""What a network may read of an object beside its image: columns of the catalogue, as numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float32, Int64

from deeplense.core.errors import InvalidDataset, InvalidOption, UnknownName
from deeplense.data.catalogue import Role, Roles, guess_roles
from deeplense.data.dataset import Dataset
from deeplense.data.tables import holds_numbers


def roles_of(dataset: Dataset) -> Roles:
    """Return what each column of a dataset's catalogue is to a learner."""
    known: Roles | None = getattr(dataset, "roles", None)
    return guess_roles(dataset.catalogue.column_names, dataset.catalogue) if known is None else known


def choose_features(dataset: Dataset, asked: Sequence[str], allow_truth: bool) -> tuple[str, ...]:
    """Return the columns that a network shall read.

    Parameters
    ----------
    dataset
        Whose catalogue it is.
    asked
        Columns by name; none for all that were measured on the object.
    allow_truth
        Whether columns may be read that only a simulation or a model can know; without names, these too.

    Raises
    ------
    UnknownName
        When there is no such column.
    InvalidOption
        When a column says what is to be found out, or is no number.
    InvalidDataset
        When nothing is left to read.
    """
    roles, table = roles_of(dataset), dataset.catalogue
    allowed: tuple[Role, ...] = ("feature", "truth") if allow_truth else ("feature",)
    for name in asked:
        if name not in table.column_names:
            raise UnknownName("column of the catalogue", name, table.column_names)
        column = roles.columns.get(name)
        if column is not None and column.role == "truth" and not allow_truth:
            raise InvalidOption(
                f"the feature '{name}', which is {column.role}: {column.reason}",
                f"what is measured on every object: {_some(roles.of('feature'))}",
                "leave it out; --allow-truth-features lets it in, and says so with every answer",
            )
        if column is not None and column.role in ("label", "split", "id", "path"):
            raise InvalidOption(f"the feature '{name}', which is the {column.role}", "a measurement", "leave it out")
        if not holds_numbers(table.schema.field(name).type):
            raise InvalidOption(f"the feature '{name}', which is {table.schema.field(name).type}", "numbers", "drop it")
    found = tuple(asked) or tuple(
        name
        for role in allowed
        for name in roles.of(role)
        if name in table.column_names and holds_numbers(table.schema.field(name).type)
    )
    if not found:
        raise InvalidDataset(
            f"the catalogue of {dataset.path} has no column that was measured on the objects",
            "magnitudes, colours, sizes or other numbers that every object of a survey has",
            "train on the images alone: --fusion none",
        )
    return found


def feature_values(table: pa.Table, names: Sequence[str]) -> Float32[np.ndarray, "N F"]:
    """Return columns of a catalogue as numbers, NaN where a value is missing or infinite.

    Raises
    ------
    InvalidDataset
        When a column is not there, or is no number.
    """
    values = np.empty((table.num_rows, len(names)), np.float32)
    for place, name in enumerate(names):
        if name not in table.column_names or not holds_numbers(table.schema.field(name).type):
            raise InvalidDataset(
                f"a catalogue without numbers in the column '{name}'",
                f"the columns that were trained on: {', '.join(names)}",
                "add the column (empty values may be missing), or use a run that reads images alone",
            )
        column = np.array(pc.cast(table[name], pa.float32(), safe=False).to_numpy())
        values[:, place] = np.where(np.isfinite(column), column, np.nan)
    return values


def weights_of(dataset: Dataset, rows: Int64[np.ndarray, " M"]) -> Float32[np.ndarray, " M"]:
    """Return how much the images of some rows count by the catalogue's column of weights, 1 on average.

    Raises
    ------
    InvalidDataset
        When there is no such column, or a value that is no weight.
    """
    name = next((name for name in roles_of(dataset).of("weight") if name in dataset.catalogue.column_names), None)
    if name is None:
        raise InvalidDataset(
            f"the catalogue of {dataset.path} has no column of weights",
            "a column called weight, or one that roles.toml beside the catalogue calls so",
            "add it, or leave out --balance catalogue",
        )
    weights = feature_values(dataset.catalogue.take(rows), [name])[:, 0]
    if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.any()):
        raise InvalidDataset(
            f"the weights in the column '{name}' of {dataset.path}: missing, negative, or all 0",
            "numbers from 0 up, some of them above it",
            "correct the column, or leave out --balance catalogue",
        )
    relative: Float32[np.ndarray, " M"] = weights / weights.mean()
    return relative


def _some(names: Sequence[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (", …" if len(names) > most else "") or "none here"
