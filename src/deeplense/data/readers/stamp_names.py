"""Which file is a stamp of which object and band: by the path in a catalogue, or by an id in the file's name."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from deeplense.data.catalogue import Roles
from deeplense.data.readers.names import split_name
from deeplense.data.readers.stamp_files import FITS, KINDS, read_stamp, suffix_of

BAND_COVERS = 0.5
"""Files of one folder and name are a band if so many of all objects have one, and strays otherwise."""
BREAK = re.compile(r"[-_.]")


@dataclass(frozen=True)
class Band:
    """The stamps of one band.

    Parameters
    ----------
    name
        Folder and what the names of its files have in common.
    files
        Row of the table to file, relative to the folder.
    """

    name: str
    files: dict[int, str]


def _stem(name: str) -> str:
    return name[: len(name) - len(suffix_of(name) or "")]


def find_stamps(table: pa.Table, roles: Roles, files: list[str], own: str) -> tuple[list[str], list[Band], list[str]]:
    """Return the id of every row, the bands with their files, and sentences on what was left out."""
    files = [file for file in files if file != own]
    key, address = roles.first("id"), roles.first("path")
    paths = [None] * table.num_rows if address is None else table[address].to_pylist()
    ids = [_text(value) for value in (table[key].to_pylist() if key else paths)]
    if key is None:
        ids = [_stem(text) for text in ids]
    first: dict[str, int] = {}
    for row, text in enumerate(ids):
        if text:
            first.setdefault(_plain_id(text), row)
    repeated = sum(map(bool, ids)) - len(first)
    problems = [f"{repeated:,} rows of the catalogue repeat an id and were left out."] if repeated else []
    if by_path := _by_path(paths, files, set(first.values())):
        return ids, [Band("stamps", by_path)], problems
    kind = next((kind for kind in KINDS if any(suffix_of(file) in kind for file in files)), FITS)
    bands, more = _by_id(first, [file for file in files if suffix_of(file) in kind])
    return ids, bands, problems + more


def _text(value: Any) -> str:
    """Return an id as text, the same for 7, 7.0 and "7"."""
    if value is None:
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


def _plain_id(text: str) -> str:
    """Return an id without the zeros in front of a number, which tables and names of files write as they like."""
    return text.lstrip("0") or "0" if text.isdecimal() else text


def _by_path(paths: Sequence[str | None], files: Sequence[str], rows: set[int]) -> dict[int, str]:
    """Return row to file, where a path, or its last part if only one file has it, is that of a file below."""
    names = Counter(file.rpartition("/")[2] for file in files)
    last = {file.rpartition("/")[2]: file for file in files}
    known = {name: file for name, file in last.items() if names[name] == 1} | {file: file for file in files}
    found = {}
    for row, path in enumerate(paths):
        text = (path or "").replace("\\", "/").removeprefix("./")
        file = known.get(text) or known.get(text.rpartition("/")[2])
        if file is not None and row in rows:
            found[row] = file
    return found


def _by_id(rows: Mapping[str, int], files: Sequence[str]) -> tuple[list[Band], list[str]]:
    """Return the bands with the file of each row in them, and sentences on files that were left out."""
    groups: dict[str, dict[int, str]] = {}
    folders: dict[str, str] = {}  # without the splits among them
    strangers = doubled = 0
    for file in files:
        folder, _, name = file.rpartition("/")
        found = _parse(_stem(name), rows)
        if found is None:
            strangers += 1
            continue
        row, rest = found
        if folder not in folders:
            folders[folder] = "/".join(part for part in folder.split("/") if split_name(part) is None)
        group = groups.setdefault(f"{folders[folder]}/{rest}", {})
        doubled += row in group
        group.setdefault(row, file)
    covered = len(set().union(*groups.values()))
    if groups and sum(map(len, groups.values())) == covered:  # parts of one band, in several folders
        groups = {min(groups): {row: file for group in groups.values() for row, file in group.items()}}
    bands = [Band(name.strip("-_./"), group) for name, group in groups.items() if len(group) >= BAND_COVERS * covered]
    strays = sum(map(len, groups.values())) - sum(len(band.files) for band in bands)
    counts = {
        f"{strangers:,} files that no row of the catalogue names": strangers,
        f"{doubled:,} files of an object that has one of the same name": doubled,
        f"{strays:,} files in folders that hold no band of most objects": strays,
    }
    return sorted(bands, key=lambda band: band.name), [f"Left out: {what}." for what, count in counts.items() if count]


def _parse(stem: str, rows: Mapping[str, int]) -> tuple[int, str] | None:
    """Return the row that a file's name belongs to, and the rest of the name; None where it holds no id."""
    if (key := _plain_id(stem)) in rows:
        return rows[key], ""
    breaks = [match.start() for match in BREAK.finditer(stem)]
    for at in breaks:
        if (key := _plain_id(stem[at + 1 :])) in rows:
            return rows[key], stem[:at]
    for at in reversed(breaks):
        if (key := _plain_id(stem[:at])) in rows:
            return rows[key], stem[at + 1 :]
    digits = stem[len(stem.rstrip("0123456789")) :]
    return (rows[key], stem.removesuffix(digits)) if digits and (key := _plain_id(digits)) in rows else None


def same_size(base: Path, bands: list[Band]) -> tuple[list[Band], list[tuple[int, int, int]], list[str]]:
    """Return the bands of the largest size in pixels, the shape of each, and a sentence on others."""
    shapes: list[tuple[int, int, int]] = []
    for band in bands:
        channels, height, width = read_stamp(base / band.files[min(band.files)], None).shape
        shapes.append((channels, height, width))
    largest = max((shape[1:] for shape in shapes), default=None)
    kept = [number for number, shape in enumerate(shapes) if shape[1:] == largest]
    others = [band.name for number, band in enumerate(bands) if number not in kept]
    problems = [f"Bands of other sizes than {largest} were left out: {', '.join(others)}."] if others else []
    return [bands[number] for number in kept], [shapes[number] for number in kept], problems
