"""TOML tables that have names: those that lie in a package, and a user's own file."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from deeplense.core.errors import CorruptFile, MissingFile, UnknownName


class NamedTable(NamedTuple):
    """A table, what it is called in an error message, and the folder that its paths start from."""

    content: dict[str, Any]
    where: str
    folder: Path


def key_of(name: str | Path) -> str:
    """Return the name of a table as its file has it: "Model-II" is "model_ii"."""
    return str(name).lower().replace("-", "_")


@cache
def shipped_tables(package: str) -> dict[str, str]:
    """Return the TOML text of every table in a package, by name."""
    return {
        file.name.removesuffix(".toml"): file.read_text(encoding="utf-8")
        for file in sorted(resources.files(package).iterdir(), key=lambda entry: entry.name)
        if file.name.endswith(".toml")
    }


def load_table(name: str | Path, kind: str, package: str, remedy: str = "") -> NamedTable:
    """Return the table of a package by its name, or that of a user's own file.

    Parameters
    ----------
    name
        Name in any spelling, or the path of a TOML file.
    kind
        What the table describes: "recipe", "instrument".
    package
        Where those with names lie.
    remedy
        What to do when the name is unknown.

    Raises
    ------
    UnknownName
        When no table has that name.
    MissingFile
        When the file cannot be read.
    CorruptFile
        When it is not TOML.
    """
    path, what = Path(name), f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"
    if path.suffix == ".toml":
        try:
            text, where = path.read_text(encoding="utf-8"), str(path)
        except (OSError, UnicodeDecodeError) as error:
            raise MissingFile(f"{path} cannot be read: {error}", f"{what} in TOML", "check the path") from error
    else:
        known, key = shipped_tables(package), key_of(name)
        if key not in known:
            raise UnknownName(kind, str(name), known, remedy)
        text, where = known[key], f"{kind} {key}"
    try:
        return NamedTable(tomllib.loads(text), where, path.parent)
    except tomllib.TOMLDecodeError as error:
        raise CorruptFile(path, f"not valid TOML ({error})", what, "correct the line it names") from error
