"""Catalogues: any table as an Arrow table, and what each of its columns is to a learner, with the reason in words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

import pyarrow as pa
import pyarrow.compute as pc

from deeplense.core.config import Config
from deeplense.core.errors import CorruptFile, InvalidOption, UnknownName
from deeplense.core.named_tables import load_table
from deeplense.data.readers.names import split_name
from deeplense.data.tables import holds_numbers

ROLES = "roles.toml"
Role = Literal["id", "path", "position", "feature", "label", "truth", "weight", "split", "group", "ignored"]

SINGLE: dict[Role, str] = {
    "id": "id objid objectid imageid stampid galaxyid name objname sourceid targetid iauname coaddobjectid",
    "path": "path filepath imagepath imgpath filename file imagename stamp cutout image img fits",
    "label": "islens islensed label labels lens lensed class classname target category",
    "split": "split subset set partition",
}
"""Roles of one column each: names of such columns without case and `_`, those first that are preferred."""
PLAIN: dict[Role, str] = {
    "position": "ra dec rightascension declination raj2000 dej2000 decj2000 alphaj2000 deltaj2000 radeg decdeg "
    "alpha delta glon glat x y ximage yimage xpix ypix xpos ypos",
    "weight": "weight weights sampleweight classweight",
    "group": "group fold tile tileid field fieldid patch plate pointing healpix brick brickid exposure system systemid",
    "ignored": "seed index unnamed0 column1 level0",
    "truth": "thetae zs zl gamma1 gamma2 gammaext",
    "feature": "e1 e2 q ba pa re reff classstar u g r i",
}
"""Other names of columns, without case and `_`."""
WORDS: tuple[tuple[str, Role, str], ...] = (
    ("einstein crit critical caustic kappa shear magnification", "truth", "known of a lens model"),
    ("mass halo subhalo substructure", "truth", "a mass is known of a simulation or a model"),
    ("source sources src lensed", "truth", "of the lensed source, which only a model knows apart"),
    ("lens lenses", "truth", "of the lens alone, which only a model knows apart"),
    ("true truth sim simulated", "truth", "true, by its name"),
    ("prob probability score vote votes prediction grade", "truth", "a verdict, not a measurement"),
    ("mag mags magnitude flux color colour snr sb brightness", "feature", "light of the object, as measured"),
    ("size radius petro kron fwhm area", "feature", "size of the object, as measured"),
    ("ellipticity elongation axis sersic concentration", "feature", "shape of the object, as measured"),
    ("redshift photoz z zphot zspec", "feature", "redshift of the object, as measured"),
)
"""Words in a name, role, reason; the first line that fits counts: the magnitude of a source is no measurement."""
SIMULATED: dict[str, frozenset[str]] = {
    "the lens finding challenge": frozenset(("is_lens", "einstein_area")),
    "the second lens finding challenge": frozenset(("x_crit", "n_pix_source")),
    "a dataset of deeplense": frozenset(("id", "label", "split", "seed")),
}
"""Simulations whose catalogues are known, by columns that they have."""
MEASURED = "measured_"
"""What columns begin with that were measured on the images, beside the truth of a simulation."""
MAX_CLASSES = 100
MOSTLY = 0.8
"""Share of different values from which on a column is an id; whoever uses it must cope with a few that are repeated."""


def texts(column: pa.ChunkedArray[Any]) -> list[str | None]:
    """Return the values of a column as texts."""
    return [None if value is None else str(value) for value in column.to_pylist()]


@dataclass(frozen=True)
class ColumnRole(Config):
    """What a column is to a learner.

    Parameters
    ----------
    role
        id, path (of the image), position (on the sky or in an image), feature (measured on the object: may be learnt
        from), label, truth (known of a simulation or from a model or a person: gives the label away), weight, split,
        group (rows that belong together), ignored.
    reason
        Why, in words.
    sure
        False where the name says nothing, and the role is only the usual one.
    """

    role: Role
    reason: str
    sure: bool = True


@dataclass(frozen=True)
class Roles(Config):
    """The role of every column of a catalogue, in its order.

    Parameters
    ----------
    columns
        Name to role.
    """

    columns: dict[str, ColumnRole]

    def of(self, role: Role) -> tuple[str, ...]:
        """Return the names of the columns that have a role."""
        return tuple(name for name, column in self.columns.items() if column.role == role)

    def first(self, role: Role) -> str | None:
        """Return the first column that has a role; None where none has."""
        return next(iter(self.of(role)), None)

    def notes(self) -> list[str]:
        """Return a sentence on the columns whose role is a guess without a reason; none where all are known."""
        unsure = [name for name, column in self.columns.items() if not column.sure]
        if not unsure:
            return []
        shown = ", ".join(unsure[:12]) + (", …" if len(unsure) > 12 else "")
        return [f"Columns whose names say nothing are taken for features, measured on the object: {shown}."]

    def overridden(self, roles: Mapping[str, str]) -> Self:
        """Return these roles with some given by hand; of id, path, label and split there is one column each.

        Parameters
        ----------
        roles
            Column to role.

        Raises
        ------
        UnknownName
            When there is no such column, or no such role.
        InvalidOption
            When two columns are given one of these roles.
        """
        columns = dict(self.columns)
        for name, role in roles.items():
            if name not in columns:
                raise UnknownName("column of the catalogue", name, columns)
            columns[name] = ColumnRole.from_mapping({"role": role, "reason": "given by hand"})
        for single in SINGLE:
            given = [name for name, role in roles.items() if role == single]
            if len(given) > 1:
                raise InvalidOption(f"{' and '.join(given)} are both the {single}", "one column", "change all but one")
            for name in self.of(single) if given else ():
                if name not in roles:
                    columns[name] = _second(single, given[0])
        return replace(self, columns=columns)


def guess_roles(
    names: Iterable[str], table: pa.Table | None = None, overrides: Mapping[str, str] | None = None
) -> Roles:
    """Return the role of every column, by known catalogues first, then by the words in its name.

    Parameters
    ----------
    names
        Of the columns.
    table
        Their values, where they are at hand: texts are no features, labels have few values, ids are unique.
    overrides
        Column to role, where the user knows better.

    Raises
    ------
    UnknownName, InvalidOption
        As `Roles.overridden`.
    """
    names = list(names)
    lower = {name.strip().lower() for name in names}
    simulation = next((title for title, needed in SIMULATED.items() if needed <= lower), None)
    columns = {name: _guess(name, None if table is None else table[name], simulation) for name in names}
    for role, spellings in SINGLE.items():
        rank = {spelling: number for number, spelling in enumerate(spellings.split())}
        rivals = sorted(Roles(columns).of(role), key=lambda name: rank[_plain(name)])
        columns |= {name: _second(role, rivals[0]) for name in rivals[1:]}
    return Roles(columns).overridden(overrides or {})


def roles_in_file(path: Path, table: pa.Table, overrides: Mapping[str, str] | None = None) -> Roles:
    """Return the role of every column of a table in a file: as roles.toml beside it says, or else as guessed.

    Parameters
    ----------
    path
        Of the table. A file roles.toml in its folder names roles by column: `quality = "ignored"`.
    table
        What it holds.
    overrides
        As of `guess_roles`; over those of the file.

    Raises
    ------
    CorruptFile
        When roles.toml is no TOML, or names a column or a role that does not exist.
    """
    file = path.parent / ROLES
    given = load_table(file, "table of roles", __package__).content if file.is_file() else {}
    try:
        return guess_roles(table.column_names, table, given | dict(overrides or {}))
    except (UnknownName, InvalidOption) as error:
        if not given or overrides:
            raise
        raise CorruptFile(file, error.found, error.expected, error.remedy) from error


def _guess(name: str, values: pa.ChunkedArray[Any] | None, simulation: str | None) -> ColumnRole:
    plain = _plain(name)
    for role, spellings in SINGLE.items():
        if plain in spellings.split() and _serves(role, values):
            return ColumnRole(role, f"called '{name}'")
    known = next((role for role, spellings in PLAIN.items() if plain in spellings.split()), None)
    measured = name.strip().lower().startswith(MEASURED)
    if simulation and not measured and known in (None, "feature", "truth"):
        return ColumnRole("truth", f"an input or a result of {simulation}, not a measurement: it gives the label away")
    if known in ("position", "group", "ignored"):
        return ColumnRole(known, f"called '{name}'")
    if values is not None and not holds_numbers(values.type):
        return ColumnRole("ignored", "not a number")
    if values is not None and pc.count_distinct(values, mode="only_valid").as_py() < 2 <= len(values):
        return ColumnRole("ignored", "the same value in every row")
    if known or measured:
        return ColumnRole(known or "feature", f"called '{name}'")
    words = {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)} | {plain}
    for group, role, reason in WORDS:
        if found := sorted(words & set(group.split())):
            return ColumnRole(role, f"{reason} ('{found[0]}')")
    return ColumnRole("feature", f"'{name}' says nothing; numbers are usually measurements", sure=False)


def _serves(role: Role, values: pa.ChunkedArray[Any] | None) -> bool:
    """Whether the values are fit for one of the roles of one column each."""
    if values is None:
        return True
    distinct = pc.unique(values.drop_null())
    if role == "id":
        return len(distinct) >= MOSTLY * len(values)
    if role == "path":
        return _is_text(values)
    if role == "split":
        return _is_text(values) and all(split_name(str(text)) for text in distinct.to_pylist())
    whole = not pa.types.is_floating(values.type) or all(
        float(str(value)).is_integer() for value in distinct.to_pylist()
    )
    return whole and len(distinct) <= MAX_CLASSES


def _second(role: Role, first: str) -> ColumnRole:
    """Return what becomes of a column that could have a role that another has."""
    # a second label says the same as the first, in other words
    return ColumnRole("truth" if role == "label" else "ignored", f"the {role} is '{first}'")


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _is_text(values: pa.ChunkedArray[Any]) -> bool:
    return bool(pa.types.is_string(values.type) or pa.types.is_large_string(values.type))
