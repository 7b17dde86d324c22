"""Known lenses, and which objects of a survey are among them."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
from jaxtyping import Float64

from deeplense.core.errors import DeepLenseError, InvalidDataset
from deeplense.data.catalogue import guess_roles
from deeplense.data.tables import holds_numbers, read_table

LENSCAT = "lenscat"
RIGHT_ASCENSION = ("ra", "radeg", "raj2000", "alpha", "alphaj2000", "rightascension")
DECLINATION = ("dec", "decdeg", "dej2000", "decj2000", "delta", "deltaj2000", "declination", "de")
NAMES = ("name", "objname", "lens", "id", "system")


class MissingCatalogue(DeepLenseError):
    """The package of known lenses is not installed."""


@dataclass(frozen=True)
class KnownLenses:
    """Lenses that are known.

    Parameters
    ----------
    table
        As it was read.
    right_ascension, declination
        Of each [degrees]; NaN where it has none.
    """

    table: pa.Table
    right_ascension: Float64[np.ndarray, " N"]
    declination: Float64[np.ndarray, " N"]

    @classmethod
    def read(cls, source: str) -> Self:
        """Return the lenses of a source.

        Parameters
        ----------
        source
            A table with positions and perhaps names, or `lenscat`: the catalogue of that package (Vujeva et al. 2024),
            read from where it is installed.

        Raises
        ------
        MissingCatalogue
            When lenscat is not installed.
        InvalidDataset
            When the table has no positions.
        MissingFile, CorruptFile, InvalidOption
            As `read_table`.
        """
        table = read_table(_lenscat() if source == LENSCAT else Path(source))
        return cls(table, *_positions(table, source))

    @staticmethod
    def require_positions(objects: pa.Table) -> None:
        """Check that objects have positions; raises InvalidDataset where they have none."""
        _positions(objects, "the survey's catalogue")

    def mark(self, candidates: pa.Table, radius: float) -> pa.Table:
        """Return a table of candidates with the nearest known lens of each within a radius, and its separation.

        Parameters
        ----------
        candidates
            With a right ascension and a declination.
        radius
            Largest separation [arcsec].

        Raises
        ------
        InvalidDataset
            When the candidates have no positions.
        """
        from astropy import units
        from astropy.coordinates import SkyCoord, match_coordinates_sky

        there = SkyCoord(self.right_ascension, self.declination, unit="deg")
        here = SkyCoord(*_positions(candidates, "candidates"), unit="deg")
        good_here, good_there = (np.isfinite(one.ra.deg) & np.isfinite(one.dec.deg) for one in (here, there))
        names: list[str | None] = [None] * len(here)
        separations = np.full(len(here), np.nan)
        if good_here.any() and good_there.any():
            nearest, separation, _ = match_coordinates_sky(here[good_here], there[good_there])
            label = _named(self.table, np.flatnonzero(good_there))
            for row, place, apart in zip(
                np.flatnonzero(good_here), nearest, separation.to_value(units.arcsec), strict=True
            ):
                if apart <= radius:
                    names[row], separations[row] = label[place], apart
        place = candidates.column_names.index("unlike")
        candidates = candidates.add_column(place, "known_lens", pa.array(names, pa.string()))
        return candidates.add_column(place + 1, "separation_arcsec", pa.array(separations, mask=np.isnan(separations)))


def _lenscat() -> Path:
    spec = find_spec(LENSCAT)
    if spec is None or spec.origin is None:
        raise MissingCatalogue(
            "the package lenscat is not installed",
            "the catalogue of known lenses that it brings",
            "pip install --no-deps lenscat (its catalogue alone is read), or name a table: --known-lenses FILE",
        )
    return Path(spec.origin).parent / "data" / "catalog.csv"


def _positions(table: pa.Table, what: str) -> list[Float64[np.ndarray, " N"]]:
    """Return right ascension and declination [degrees], NaN where they are missing or out of range."""
    found = []
    for spellings, unit, low, high in ((RIGHT_ASCENSION, "hourangle", -360, 720), (DECLINATION, "deg", -90, 90)):
        names = [name for name in table.column_names if _plain(name) in spellings]
        if not names:
            raise InvalidDataset(
                f"{what} without positions on the sky (columns {', '.join(table.column_names[:8])}, …)",
                "columns ra and dec, in degrees",
                "add or rename them, or leave out --known-lenses",
            )
        column = table[names[0]]
        try:
            angles = _numbers(column) if holds_numbers(column.type) else _sexagesimal(column, unit)
        except ValueError as error:
            raise InvalidDataset(
                f"{what}, whose column {names[0]} holds no angles ({str(error)[:120]})",
                "degrees, or hours and degrees as 10 21 03.4 and -05 12 44",
                "mend the column, or leave out --known-lenses",
            ) from error
        found.append(np.where((angles >= low) & (angles <= high), angles, np.nan))
    return found


def _numbers(column: pa.ChunkedArray[Any]) -> Float64[np.ndarray, " N"]:
    return np.array([np.nan if value is None else float(value) for value in column.to_pylist()], np.float64)


def _sexagesimal(column: pa.ChunkedArray[Any], unit: str) -> Float64[np.ndarray, " N"]:
    """Return texts as degrees: numbers are degrees, sexagesimal ones of the given unit."""
    from astropy.coordinates import Angle

    degrees = np.full(len(column), np.nan)
    for row, text in enumerate(str(value or "").strip() for value in column.to_pylist()):
        try:
            degrees[row] = float(text or "nan")
        except ValueError:
            degrees[row] = Angle(text, unit=unit).deg
    return degrees


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower().partition("[")[0] if letter.isalnum())


def _named(table: pa.Table, rows: np.ndarray) -> list[str]:
    names = [name for name in table.column_names if _plain(name) in NAMES] or list(
        guess_roles(table.column_names, table).of("id")
    )
    return [f"row {row + 1}" if not names else str(table[names[0]][int(row)].as_py()) for row in rows]
