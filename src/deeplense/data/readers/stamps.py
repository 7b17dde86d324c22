"""Catalogue and stamps: a table with a row per object, and small images of each, found by its id or path."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from jaxtyping import Float32, Int64

from deeplense.core.errors import CorruptFile, DeepLenseError, InvalidDataset
from deeplense.data.catalogue import ColumnRole, Role, Roles, roles_in_file, texts
from deeplense.data.dataset import CANONICAL_LABELS, READERS, Dataset
from deeplense.data.readers.class_labels import class_names, decode_labels, order_labels
from deeplense.data.readers.folders import MAX_DEPTH, UNEQUAL
from deeplense.data.readers.guard import unreadable
from deeplense.data.readers.names import is_text, label_name, split_name, without_split
from deeplense.data.readers.stamp_files import FITS, read_stamp, suffix_of
from deeplense.data.readers.stamp_names import find_stamps, same_size
from deeplense.data.shards import CATALOGUE, MANIFEST
from deeplense.data.tables import FITS_TABLES, TABLES, read_table

TABLE_WORDS = ("classif", "catal", "label", "train", "cat", "table", "")
"""What the name of a catalogue holds, the likelier ones first."""
FLAG = 100.0
"""Value of masked pixels in the lens finding challenge."""
LOOKED_AT = 64
"""Stamps in which masked pixels are counted when a dataset is opened."""
SOME_FILES = 1000
"""Files whose names are compared with the catalogue to recognise the layout."""


@READERS.register("catalogue_and_stamps")  # readers are asked by name: before class folders, which take any folder
class Stamps(Dataset):
    """A table at the top of a folder, and below it a stamp per object, or one per object and band.

    Bands are folders (`Band1/imageSDSS_R-100002.fits`), names (`100002_r.fits`), extensions of a FITS file, or planes
    of a cube. An object without a stamp in every band is left out. Pixels that are not finite or have the flag value
    are filled with the median of their band, 0 where nothing of the band is left.

    Parameters
    ----------
    path
        The folder, or the table itself.
    roles
        Roles of columns (`deeplense.data.catalogue.Role`), where the guess and roles.toml are wrong.
    flag
        Value of masked pixels in floating-point stamps; None for none.
    images
        Folder of the stamps, where they do not lie beside the table.
    part
        Which part of how many, from 1: of rows i, i + N, i + 2N, … of the catalogue nothing else is held.

    Attributes
    ----------
    table, ids, roles_of_table
        The whole catalogue, the id of each of its rows, and the roles of its columns.
    rows
        Which rows of it have their stamps: those of `catalogue`.
    roles
        What each column of `catalogue` is to a learner.

    Raises
    ------
    MissingFile, CorruptFile
        When the table, or none of some stamps of a band, can be read.
    InvalidDataset
        When there is no table, or no object that has all its stamps.
    UnknownName, InvalidOption
        When a role is given to no column, or is none.
    """

    layout: ClassVar[str] = "catalogue and stamps (a .csv, .fits, … table; FITS, .npy or PNG files named by its ids)"

    def __init__(
        self,
        path: Path,
        roles: Mapping[str, str] | None = None,
        flag: float | None = FLAG,
        images: Path | None = None,
        part: tuple[int, int] = (1, 1),
    ) -> None:
        self.path, self._flag, self.problems = path, flag, []
        self._base = images or (path if path.is_dir() else path.parent)
        tables = [path] if path.is_file() else _tables(path)
        if not tables:
            raise InvalidDataset(f"{path} has no table at its top", self.layout, "put the catalogue there")
        if len(tables) > 1:
            self.problems.append(f"The catalogue is {tables[0].name}; other tables were left out: {len(tables) - 1}.")
        table = read_table(tables[0])
        guessed = roles_in_file(tables[0], table, roles)
        ids, found, problems = find_stamps(table, guessed, [*_files(self._base)], tables[0].name)
        bands, shapes, more = same_size(self._base, found)
        rows = sorted(set.intersection(*(set(band.files) for band in bands))) if bands else []
        if not rows:
            raise InvalidDataset(
                f"no row of {tables[0]} has a stamp in every band ({', '.join(band.name for band in bands) or 'none'})",
                "files whose names hold the ids of the catalogue, or a column with their paths",
                "compare the ids with the names of the files",
            )
        first, step = part[0] - 1, part[1]  # after all have found their stamps: some rows are told apart by others
        mine = [row for row in rows if row % step == first]
        if not mine:
            raise InvalidDataset(
                f"no row of part {part[0]} of {part[1]} of {tables[0]} has a stamp", "one at least", "divide it less"
            )
        self.table, self.ids = table.take(np.arange(first, table.num_rows, step)), ids[first::step]
        self.rows, self.roles_of_table = [row // step for row in mine], guessed
        if all(shape[0] == 1 for shape in shapes):  # bands in one file have no names
            self.bands = tuple(band.name for band in bands)
        self._shapes = shapes
        self.image_shape = (sum(shape[0] for shape in shapes), *shapes[0][1:])
        self._paths = [tuple(band.files[row] for band in bands) for row in mine]
        some = len(set().union(*(band.files for band in bands)))
        self.problems += [*problems, *more, *_left_out(table.num_rows, some, len(rows), len(bands))]
        splits = [_split_of(paths[0]) for paths in self._paths]
        self.catalogue, self.roles = _catalogue(
            tables[0], table.take(mine), guessed, [ids[row] for row in mine], splits
        )
        if (group := self.roles.first("group")) is not None:
            self.groups = texts(self.catalogue[group])
        counts = Counter(self.catalogue["label"].to_pylist())
        self.labels = order_labels({label for label in counts if label is not None})
        self.problems += [*_classes(counts), *self._masked(), *guessed.notes()]

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Whether there is a table with ids or paths of which some are those of files below; no image is opened."""
        base, tables = path if path.is_dir() else path.parent, _tables(path)
        if not tables or any((base / name).exists() for name in (MANIFEST, CATALOGUE)):
            return False
        try:
            table = read_table(tables[0])
        except DeepLenseError:  # nobody else reads FITS: let the constructor say what is wrong
            return any(suffix_of(file) in FITS and file != tables[0].name for file in islice(_files(base), SOME_FILES))
        roles = roles_in_file(tables[0], table)
        if roles.first("id") is None and roles.first("path") is None:
            return False
        files = [*islice(_files(base), SOME_FILES)]
        if roles.first("label") is None and any(_in_class(file) for file in files):
            return False  # here the folders know the classes, and the table does not
        return bool(find_stamps(table, roles, files, tables[0].name)[1])

    def images(self, indices: Sequence[int] | Int64[np.ndarray, " B"]) -> Float32[np.ndarray, "B C H W"]:
        """Return the images at `indices`, read from their files in the calling process, masked pixels filled.

        Raises
        ------
        MissingFile
            When a stamp has gone since the dataset was opened.
        CorruptFile
            When it is not an image of the shape of most others, or all of it is masked.
        """
        batch = np.empty((len(indices), *self.image_shape), dtype=np.float32)
        for place, index in enumerate(indices):
            batch[place] = self.stamp(int(index))[0]
        return batch

    def stamp(self, row: int) -> tuple[Float32[np.ndarray, "C H W"], int]:
        """Return an image without masked pixels, and how many there were; raises as `images`."""
        paths = [self._base / path for path in self._paths[row]]
        planes = [read_stamp(path, self._flag) for path in paths]
        for path, plane, shape in zip(paths, planes, self._shapes, strict=True):
            if plane.shape != shape:
                raise CorruptFile(path, f"shape {plane.shape}", f"shape {shape}, as most stamps of its band")
        stamp = np.concatenate(planes)
        masked = np.isnan(stamp)
        if masked.all():
            raise CorruptFile(paths[0], "every pixel is masked", "at least one that is not")
        for band, hidden in zip(stamp, masked, strict=True):
            if hidden.any():
                band[hidden] = 0.0 if hidden.all() else np.median(band[~hidden])
        return stamp, int(masked.sum())

    def _masked(self) -> list[str]:
        """Return a sentence on masked pixels, counted in some stamps from all over the catalogue."""
        rows, counts, damaged = np.linspace(0, len(self) - 1, min(LOOKED_AT, len(self))), [], []
        for row in rows:
            try:
                counts.append(self.stamp(int(row))[1])
            except DeepLenseError as error:
                damaged.append(error.found)
        said = f"Of {len(rows)} stamps that were looked at, "
        problems = [f"{said}{len(damaged)} cannot be read: {damaged[0]}."] if damaged else []
        if any(counts):
            filled = "they are filled with the median of their band, in these stamps and in all others"
            problems.append(f"{said}{np.count_nonzero(counts)} have masked pixels, {sum(counts):,} in all: {filled}.")
        return problems

    def files(self, row: int) -> tuple[Path, ...]:
        """Return the stamps of a row, band by band."""
        return tuple(self._base / path for path in self._paths[row])


def _tables(path: Path) -> list[Path]:
    """Return the tables at the top of a folder, the likeliest catalogue first; of a file, itself if it is one."""
    if not path.is_dir():
        return [path] if path.suffix.lower() in TABLES and path.suffix.lower() not in FITS_TABLES else []
    top = [entry for entry in path.iterdir() if entry.suffix.lower() in TABLES and not entry.name.startswith(".")]
    rank = {entry: next(n for n, word in enumerate(TABLE_WORDS) if word in entry.name.lower()) for entry in top}
    # a FITS file may be a stamp: its name must say that it is a table
    found = [entry for entry in top if entry.suffix.lower() not in FITS_TABLES or rank[entry] < len(TABLE_WORDS) - 1]
    return sorted((entry for entry in found if entry.is_file()), key=lambda entry: (rank[entry], entry.name))


def _files(folder: Path, prefix: str = "") -> Iterator[str]:
    """Yield the image files in and below a folder, names in order, relative to it."""
    below: list[str] = []
    try:
        with os.scandir(folder) as entries:
            found = sorted((entry for entry in entries if is_text(entry.name)), key=lambda entry: entry.name)
            for entry in found:
                if entry.name.startswith((".", "__MACOSX")):
                    continue
                if entry.is_dir():
                    below.append(entry.name)
                elif suffix_of(entry.name):
                    yield prefix + entry.name
    except OSError as error:
        raise unreadable(folder, error) from error
    if prefix.count("/") < MAX_DEPTH:
        for name in below:
            yield from _files(folder / name, f"{prefix}{name}/")


def _in_class(file: str) -> bool:
    return any(label_name(without_split(part)) in CANONICAL_LABELS for part in file.split("/")[:-1])


def _split_of(file: str) -> str | None:
    return next(filter(None, map(split_name, file.split("/")[:-1])), None)


def _left_out(n_rows: int, n_some: int, n_all: int, n_bands: int) -> Iterator[str]:
    if n_rows > n_some:
        yield f"{n_rows - n_some:,} of {n_rows:,} rows of the catalogue have no stamp and were left out."
    if n_some > n_all:
        yield f"{n_some - n_all:,} objects lack a stamp in one of the {n_bands} bands and were left out."


def _catalogue(
    path: Path, table: pa.Table, roles: Roles, ids: list[str], folders: list[str | None]
) -> tuple[pa.Table, Roles]:
    """Return id, label, split, and all columns that are none of these; the roles of these columns."""
    used: dict[Role, str | None] = {role: roles.first(role) for role in ("id", "label", "split")}
    label, split = used["label"], used["split"]
    given = folders if split is None else [text and split_name(text) for text in table[split].to_pylist()]
    values = {
        "id": ids,
        "label": [None] * len(ids) if label is None else _labels(path, label, table[label]),
        "split": given,
    }
    columns: dict[str, Any] = {name: pa.array(content, pa.string()) for name, content in values.items()}
    known: dict[str, ColumnRole] = {}
    for role, name in used.items():
        known[role] = ColumnRole(role, "no column of the catalogue") if name is None else _renamed(roles, name)
    for name in table.column_names:
        if name not in used.values():
            own = f"{name}_of_catalogue" if name in values else name
            columns[own], known[own] = table[name], roles.columns[name]
    return pa.table(columns), Roles(known)


def _renamed(roles: Roles, name: str) -> ColumnRole:
    column = roles.columns[name]
    return replace(column, reason=f"{column.reason}, in the catalogue as '{name}'")


def _labels(path: Path, name: str, values: pa.ChunkedArray[Any]) -> list[str | None]:
    """Return the class of every row; 1 of a column that asks for lenses is a lens."""
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        return decode_labels(path, np.array([text or "" for text in values.to_pylist()], dtype=np.str_), None)
    numbers = np.array([-1 if value is None else value for value in values.to_pylist()], dtype=np.float64)
    yes_or_no = "lens" in name.lower() and np.isin(numbers, (-1, 0, 1)).all()
    return decode_labels(path, numbers, ["nonlens", "lens"] if yes_or_no else class_names(path, None))


def _classes(counts: Counter[str | None]) -> Iterator[str]:
    """Yield a sentence on objects without label, and one on unequal classes."""
    if counts[None]:
        yield f"Objects without a label: {counts[None]:,}."
    known = Counter({label: count for label, count in counts.items() if label is not None})
    if known and max(known.values()) >= UNEQUAL * min(known.values()):
        (most, n_most), *_, (least, n_least) = known.most_common()
        yield f"The classes are unequal: {n_most:,} of {most}, {n_least:,} of {least}."
