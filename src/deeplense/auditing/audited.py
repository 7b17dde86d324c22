"""All findings on a dataset or on a bare table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Int64
from numpy.typing import NDArray

from deeplense.auditing import arrangement, pixels, twins
from deeplense.auditing.columns import Rows, predictive, shifted
from deeplense.auditing.finding import Finding, ordered
from deeplense.auditing.headers import header_keywords
from deeplense.core.errors import InvalidDataset
from deeplense.data.catalogue import Role, Roles, guess_roles, roles_in_file, texts
from deeplense.data.dataset import Dataset, sort_labels
from deeplense.data.readers.names import split_name
from deeplense.data.splits import assign_splits
from deeplense.data.tables import holds_numbers, read_table

Columns = dict[str, NDArray[Any]]
PREFIX = {"0": "nonlens", "1": "lens"}


@dataclass(frozen=True)
class Audit:
    """What was looked at, and what was found.

    Parameters
    ----------
    path
        Where it lies.
    layout
        What it is, in words.
    rows
        Rows of the catalogue.
    images
        Images that were read; 0 of a bare table.
    labels
        Names of the classes.
    roles
        Column → role, and why.
    findings
        Leaks first.
    """

    path: str
    layout: str
    rows: int
    images: int
    labels: tuple[str, ...]
    roles: Roles
    findings: list[Finding]

    def count(self, severity: str) -> int:
        """Return the number of findings of one severity."""
        return sum(finding.severity == severity for finding in self.findings)


def audit_table(path: Path) -> Audit:
    """Return the audit of a bare table (CSV, Parquet, ECSV, VOTable, FITS).

    Raises
    ------
    MissingFile, CorruptFile, InvalidOption
        As `read_table`.
    InvalidDataset
        When it has no rows.
    """
    table = read_table(path)
    roles = roles_in_file(path, table)
    if not table.num_rows:
        raise InvalidDataset(f"{path} has no rows", "at least one object", "check the file")
    label = roles.first("label")
    names = _class_names(label or "", [None] * table.num_rows if label is None else table[label].to_pylist())
    named = roles.first("id")
    ids = None if named is None else [str(value) for value in table[named].to_pylist()]
    labels = sort_labels({name for name in names if name is not None})
    rows = _rows(names, labels, _splits(table, roles, ids, names))
    findings = [Finding("no_label", "note", "label", "no column is taken for the label")] * (label is None)
    findings += _of_rows(ids or [], rows) + _of_columns(table, roles, rows)
    return Audit(str(path), "a table without images", table.num_rows, 0, labels, roles, ordered(findings))


def audit_dataset(dataset: Dataset, sample: int, advance: Callable[[int], None], seed: int = 0) -> Audit:
    """Return the audit of a dataset: its columns in full, and so many of its images.

    Parameters
    ----------
    dataset
        To be looked at.
    sample
        Largest number of images to read; of more, a random sample.
    advance
        Is told how many more images are read.
    seed
        Of the sample.

    Raises
    ------
    InvalidDataset
        When it is empty.
    DeepLenseError
        When none of the images can be read.
    """
    if not len(dataset):
        raise InvalidDataset(f"{dataset.path} has no images", "at least one", "check the path")
    table = dataset.catalogue
    given: Roles | None = getattr(dataset, "roles", None)
    roles = guess_roles(table.column_names, table) if given is None else given
    ids = [str(name) for name in table["id"].to_pylist()]
    rows = Rows(dataset.targets(), dataset.labels, np.array(dataset.splits(), dtype=object))
    findings = [Finding("reader", "note", "layout", problem) for problem in dataset.problems]
    findings += _of_rows(ids, rows) + _of_columns(table, roles, rows)
    if "path" in table.column_names:
        root = dataset.path if dataset.path.is_dir() else dataset.path.parent
        findings += arrangement.files(root, table["path"].to_pylist(), rows)
    chosen = some_of(len(dataset), sample, seed)
    if len(chosen) < len(dataset):
        words = (
            f"{len(chosen):,} of {len(dataset):,} images, drawn at random, are looked at; the others are not compared"
        )
        findings.append(Finding("sampled", "note", "images", words, {"images": len(chosen), "of": len(dataset)}))
    findings += header_keywords(dataset, rows, chosen)
    findings += of_images(pixels.survey(dataset, chosen, advance), rows, ids)
    return Audit(str(dataset.path), dataset.layout, len(dataset), len(chosen), dataset.labels, roles, ordered(findings))


def some_of(total: int, most: int, seed: int = 0) -> Int64[np.ndarray, " M"]:
    """Return so many of all rows at most, in order, the same ones for the same seed."""
    if total <= most:
        return np.arange(total, dtype=np.int64)
    return np.sort(np.random.default_rng(seed).choice(total, most, replace=False)).astype(np.int64)


def _class_names(column: str, values: list[Any]) -> list[str | None]:
    """Return the class of every row; 0 and 1 in a column that asks for lenses are nonlens and lens."""
    plain = [None if value is None else f"{int(value)}" if isinstance(value, bool) else str(value) for value in values]
    if "lens" in column.lower() and set(plain) <= {*PREFIX, None}:
        return [None if name is None else PREFIX[name] for name in plain]
    return plain


def _splits(table: pa.Table, roles: Roles, ids: list[str] | None, names: list[str | None]) -> list[str]:
    column = roles.first("split")
    given = [None] * table.num_rows if column is None else [split_name(str(one)) for one in table[column].to_pylist()]
    keys = ids if ids and len(set(ids)) == len(ids) else [str(row) for row in range(table.num_rows)]
    group = roles.first("group")
    return assign_splits(keys, names, given, None if group is None else texts(table[group]))


def _rows(names: list[str | None], labels: tuple[str, ...], splits: list[str]) -> Rows:
    number: dict[str | None, int] = {label: index for index, label in enumerate(labels)}
    targets = np.array([number.get(name, -1) for name in names], dtype=np.int64)
    return Rows(targets, labels, np.array(splits, dtype=object))


def _of_rows(ids: list[str], rows: Rows) -> list[Finding]:
    findings = arrangement.class_balance(rows) + arrangement.row_order(rows)
    return findings + (arrangement.repeated_ids(ids) + arrangement.id_numbers(ids, rows) if ids else [])


def _of_columns(table: pa.Table, roles: Roles, rows: Rows) -> list[Finding]:
    """Return findings over the columns, each by its role."""
    truth = list(roles.of("truth"))
    features = arrays(table, [*roles.of("feature"), *truth])
    findings = predictive(features, rows, truth)
    # not an input, but what it tells may be seen in the images: another telescope, another part of the sky
    origins: tuple[Role, ...] = ("position", "group", "weight", "ignored")
    others = [name for role in origins for name in roles.of(role)]
    findings += predictive(arrays(table, others), rows, kind="origin")
    findings += of_groups(table, roles, rows)
    return findings + shifted({name: values for name, values in features.items() if name not in truth}, rows)


def of_groups(table: pa.Table, roles: Roles, rows: Rows) -> list[Finding]:
    """Return findings over objects that belong together, but lie in several splits."""
    findings = []
    for name in (one for one in roles.of("group") if one in table.column_names):
        findings += arrangement.shared_groups(name, table[name].to_pylist(), rows)
    return findings


def of_images(found: pixels.Survey, rows: Rows, ids: list[str]) -> list[Finding]:
    """Return findings over the pixels of the images that were read."""
    seen = rows.take(found.rows)
    findings = pixels.damaged(found, ids) + pixels.background(found.measured, seen)
    findings += pixels.pixel_shift(found.measured, seen)
    return findings + twins.duplicates(found.measured, seen, [ids[row] for row in found.rows])


def arrays(table: pa.Table, names: list[str]) -> Columns:
    """Return columns as numbers with NaN where null, or as words; lists and the like are left out."""
    columns: Columns = {}
    for name in (one for one in names if one in table.column_names):
        kind = table.schema.field(name).type
        if holds_numbers(kind):
            values = table[name].to_pylist()
            columns[name] = np.array([np.nan if value is None else float(value) for value in values])
        elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
            columns[name] = np.array([str(value) for value in table[name].to_pylist()], dtype=object)
    return columns
