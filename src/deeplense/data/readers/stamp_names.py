"""Which file is a stamp of which object and band: by the path in a catalogue, or by an id in the file's name."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any

import pyarrow as pa

from deeplense.data.catalogue import Roles
from deeplense.data.readers.folders import usual_shape
from deeplense.data.readers.names import split_name
from deeplense.data.readers.stamp_files import FITS, KINDS, read_stamp, suffix_of

BAND_COVERS = 0.5
"""Files of one folder and name are a band if so many of all objects have one, and strays otherwise."""
BREAK = re.compile(r"[-_.]")
Named = tuple[int, str]
"""The row that a part of a file's name names, and the rest of the name."""


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
    """Return row to file: the one at a row's path, or the only one of its name if no path fits that one as well."""
    texts = [(path or "").replace("\\", "/").removeprefix("./") for path in paths]
    there = set(files) & set(texts)
    names = Counter(map(_last_part, files))
    free = {_last_part(file): file for file in files if names[_last_part(file)] == 1 and file not in there}
    claims: dict[str, set[str]] = {}
    for text in set(texts) - there:
        if file := free.get(_last_part(text)):
            claims.setdefault(file, set()).add(text)
    known = {file: file for file in there}
    for file, claiming in claims.items():
        depths = Counter({text: _agreeing_parts(text, file) for text in claiming})
        (best, most), *others = depths.most_common(2)
        if not others or most > others[0][1]:
            known[best] = file
    return {row: known[text] for row, text in enumerate(texts) if row in rows and text in known}


def _last_part(path: str) -> str:
    return path.rpartition("/")[2]


def _agreeing_parts(path: str, file: str) -> int:
    """Return how many parts at the end of two paths are the same."""
    pairs = zip(reversed(path.split("/")), reversed(file.split("/")), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _by_id(rows: Mapping[str, int], files: Sequence[str]) -> tuple[list[Band], list[str]]:
    """Return the bands with the file of each row in them, and sentences on files that were left out."""
    groups: dict[str, dict[int, str]] = {}
    folders: dict[str, str] = {}  # without the splits among them
    strangers = doubled = 0
    named = [_named(_stem(_last_part(file)), rows) for file in files]
    doubtful = [(tail[0], head[0]) for tail, head in named if tail and head and tail[0] != head[0]]
    # what stands at the other end of all names, a band or a size, is an id of few rows
    heads_first = len({head for _, head in doubtful}) > len({tail for tail, _ in doubtful})
    for file, (tail, head) in zip(files, named, strict=True):
        folder = file.rpartition("/")[0]
        found = (head or tail) if heads_first else (tail or head)
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


def _named(stem: str, rows: Mapping[str, int]) -> tuple[Named | None, Named | None]:
    """Return what the tail and the head of a file's name name; None where they are no id."""
    if (key := _plain_id(stem)) in rows:
        return (rows[key], ""), (rows[key], "")
    breaks = [match.start() for match in BREAK.finditer(stem)]
    tails = ((stem[at + 1 :], stem[:at]) for at in breaks)
    heads = ((stem[:at], stem[at + 1 :]) for at in reversed(breaks))
    tail, head = (
        next(((rows[key], rest) for part, rest in parts if (key := _plain_id(part)) in rows), None)
        for parts in (tails, heads)
    )
    digits = stem[len(stem.rstrip("0123456789")) :]
    if tail is None and head is None and digits and (key := _plain_id(digits)) in rows:
        tail = rows[key], stem.removesuffix(digits)
    return tail, head


def same_size(base: Path, bands: list[Band]) -> tuple[list[Band], list[tuple[int, int, int]], list[str]]:
    """Return the bands of the largest size in pixels, the shape of each, and a sentence on others."""
    read = partial(read_stamp, flag=None)
    shapes = [usual_shape(base, [band.files[row] for row in sorted(band.files)], read) for band in bands]
    largest = max((shape[1:] for shape in shapes), default=None)
    kept = [number for number, shape in enumerate(shapes) if shape[1:] == largest]
    others = [band.name for number, band in enumerate(bands) if number not in kept]
    problems = [f"Bands of other sizes than {largest} were left out: {', '.join(others)}."] if others else []
    return [bands[number] for number in kept], [shapes[number] for number in kept], problems
