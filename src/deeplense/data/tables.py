"""Any table as an Arrow table: CSV, Parquet, FITS, VOTable, ECSV."""

from __future__ import annotations

import csv
import io
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pcsv
import pyarrow.parquet as pq

from deeplense.core.errors import InvalidOption
from deeplense.core.files import atomic
from deeplense.data.readers.guard import parsing, read_bytes
from deeplense.data.writers import ascii_text

DELIMITED = (".csv", ".tsv")
FITS_TABLES = (".fits", ".fit")
VOTABLES = (".vot", ".votable", ".xml")
TABLES = (*DELIMITED, ".parquet", ".ecsv", *VOTABLES, *FITS_TABLES)
MAX_TABLE_BYTES = 1 << 31
"""Largest table that is read."""
OUTSIDE = re.compile(rb"""<!(DOCTYPE|ENTITY)|STREAM\b([^>"']|"[^"]*"|'[^']*')*?\shref""", re.IGNORECASE)
"""What makes a VOTable depend on something outside it; a LINK may be there, since nobody follows it."""
EXPECTED = f"a table with named columns, in a file ending in {', '.join(TABLES)}"


HEADERS = 100 * 2880  # bytes of a FITS file within which the first extension begins
WRITTEN = (".csv", ".parquet", ".fits", ".vot")


def is_table(path: Path) -> bool:
    """Return whether a path is that of a bare table; of a FITS file, whether a table comes first in it."""
    if path.suffix.lower() not in TABLES or not path.is_file():
        return False
    if path.suffix.lower() not in FITS_TABLES:
        return True
    with path.open("rb") as file:
        begin = file.read(HEADERS)
    without_image = b"NAXIS   =                    0" in begin[:2880]
    extension = re.search(rb"XTENSION= '(\w+)", begin)
    return without_image and extension is not None and extension[1] in (b"BINTABLE", b"TABLE")


def write_table(table: pa.Table, path: Path, facts: Mapping[str, str | float]) -> None:
    """Write a table as CSV, Parquet, FITS or VOTable; what is known of it goes along, but into a CSV.

    FITS knows ASCII alone: in its texts "?" stands for each other letter.

    Parameters
    ----------
    table
        Columns of numbers, truths or text, null where there is nothing.
    path
        Where to; its suffix is one of `WRITTEN`.
    facts
        Name (of at most eight capital letters) → value.

    Raises
    ------
    InvalidOption
        When the suffix is another.
    CannotWrite
        When the disk is full or not writable.
    """
    suffix = path.suffix.lower()
    if suffix not in WRITTEN:
        raise InvalidOption(f"a table {path}", f"a name that ends in {', '.join(WRITTEN)}", "change --out")
    with atomic(path) as temporary:
        if suffix == ".csv":
            pcsv.write_csv(table, temporary)
        elif suffix == ".parquet":
            known = {name: str(value) for name, value in facts.items()}
            pq.write_table(table.replace_schema_metadata(known), temporary)
        else:
            kind, say = ("fits", ascii_text) if suffix == ".fits" else ("votable", str)
            _astronomical(table, facts, say).write(temporary, format=kind, overwrite=True)


def _astronomical(table: pa.Table, facts: Mapping[str, str | float], say: Callable[[str], str]) -> Any:
    """Return the table as astropy has it, masked where there is nothing; its texts go through `say`."""
    from astropy.table import MaskedColumn, Table

    columns = {}
    for name in table.column_names:
        values = table[name].to_pylist()
        empty = [value is None for value in values]
        kind = table.schema.field(name).type
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            filled = np.array(["" if value is None else say(value) for value in values], dtype=str)
        else:
            filled = np.array([0 if value is None else value for value in values])
        columns[name] = MaskedColumn(filled, mask=empty)
    known = {name: say(value) if isinstance(value, str) else value for name, value in facts.items()}
    return Table(columns, meta=known)


def read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Return the table in a CSV, Parquet, ECSV, VOTable or FITS file; nothing in it is run, nothing it names is opened.

    Lines that begin with `#` at the top of a CSV are passed over; where the last of them names the columns, it does.
    Columns of vectors are left out. Of a FITS file or VOTable it is the first table.

    Parameters
    ----------
    path
        The file; its suffix says what it is.
    columns
        Those that are wanted; by default all.

    Raises
    ------
    InvalidOption
        When the suffix is not one of `TABLES`.
    MissingFile
        When the file is not there or cannot be read.
    CorruptFile
        When its content is no table, or lacks one of the columns.
    """
    suffix = path.suffix.lower()
    if suffix not in TABLES:
        raise InvalidOption(f"{path} has the suffix '{path.suffix}'", f"one of {', '.join(TABLES)}", "convert it")
    content = read_bytes(path, MAX_TABLE_BYTES)
    with parsing(path, EXPECTED):
        if suffix in DELIMITED:
            table = _delimited(content)
        elif suffix == ".parquet":
            table = pq.read_table(pa.BufferReader(content))
        else:
            table = _from_astropy(content, suffix)
        names = table.column_names
        if not names or len(set(names)) < len(names):
            raise ValueError(f"columns of the same name, or none: {', '.join(names)[:200]}")
        flat = [name for name in names if not pa.types.is_nested(table.schema.field(name).type)]
        if missing := sorted(set(columns or ()) - set(flat)):
            raise ValueError(f"there is no column '{missing[0]}'")
        return _decoded(table.select(flat if columns is None else list(columns)))


def _decoded(table: pa.Table) -> pa.Table:
    """Return the table with the values of columns that are stored as numbers of a dictionary, and bytes as text."""
    fields = [
        field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else field
        for field in table.schema
    ]
    table = table.cast(pa.schema(fields))
    for place, field in enumerate(table.schema):
        if pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type):  # of a CSV that is no UTF-8
            texts = [None if value is None else _text(value) for value in table[field.name].to_pylist()]
            table = table.set_column(place, field.name, pa.array(texts, pa.string()))
    return table


def _text(value: bytes) -> str:
    """Return the text in UTF-8, or else in Latin-1, in which every byte is a letter."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _delimited(content: bytes) -> pa.Table:
    """Return the table in the bytes of a CSV file, whatever its delimiter."""
    stream, comment, skipped = io.BytesIO(content), "", -1
    for line in stream:
        skipped += 1
        text = line.decode("utf-8-sig", errors="replace").strip()
        if text and not text.startswith("#"):
            break
        comment = text.lstrip("# ") or comment
    else:
        raise ValueError("there is no line that is no comment")
    delimiter = max(",\t;|", key=text.count)
    names, first = (next(csv.reader([part], delimiter=delimiter)) for part in (comment or text, text))
    if comment and len(names) == len(first) and any(map(_is_number, first)) and not any(map(_is_number, names)):
        body = skipped  # the comment names the columns
    else:
        names, body = first, skipped + 1
    names = [name.strip() or f"column_{number}" for number, name in enumerate(names, 1)]
    return pcsv.read_csv(
        io.BytesIO(content),
        read_options=pcsv.ReadOptions(column_names=names, skip_rows=body),
        parse_options=pcsv.ParseOptions(delimiter=delimiter),
        convert_options=pcsv.ConvertOptions(strings_can_be_null=True),
    )


def holds_numbers(kind: pa.DataType) -> bool:
    """Return whether a column of this type holds numbers; yes and no count as such."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _from_astropy(content: bytes, suffix: str) -> pa.Table:
    from astropy.table import Table  # here, because importing it takes longer than `deeplense --help` may

    # astropy would fetch an address; no way round the search: other encodings than ASCII's have zeros
    if suffix in VOTABLES and (b"\0" in content or OUTSIDE.search(content)):
        raise ValueError("data outside the file, entities, or UTF-16")
    format_ = "fits" if suffix in FITS_TABLES else "ascii.ecsv" if suffix == ".ecsv" else "votable"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # units and headers that astropy can mend
        found = Table.read(io.BytesIO(content), format=format_)  # a stream: a name could be a URL
    return pa.table({name: _arrow(found[name]) for name in found.colnames if np.ndim(found[name]) == 1})


def _arrow(column: Any) -> pa.Array[Any]:
    """Return a column of astropy's; what is masked there is null here."""
    values, mask = np.asarray(column), np.ma.getmaskarray(column)
    if values.dtype.kind in "biuf":
        numbers: pa.Array[Any] = pa.array(values.astype(values.dtype.newbyteorder("=")), mask=mask)
        return numbers
    texts = [(text.decode(errors="replace") if isinstance(text, bytes) else str(text)).strip() for text in values]
    shown = [None if hidden else text for text, hidden in zip(texts, mask, strict=True)]
    return pa.array(shown, pa.string())
