"""Known lenses, and which objects of a survey are among them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
from jaxtyping import Float64

from deeplense.core.errors import DeepLenseError, InvalidDataset
from deeplense.data.catalogue import guess_roles
from deeplense.data.tables import read_table

LENSCAT = "lenscat"
RIGHT_ASCENSION = ("ra", "radeg", "raj2000", "alpha", "alphaj2000", "rightascension")
DECLINATION = ("dec", "decdeg", "dej2000", "decj2000", "delta", "deltaj2000", "declination", "de")
NAMES = ("name", "objname", "lens", "id", "system")


class MissingCatalogue(DeepLenseError):
    """The package of known lenses is not installed."""


def mark_known(candidates: pa.Table, source: str, radius: float) -> pa.Table:
    """Return a table of candidates with the nearest known lens of each within a radius, and its separation.

    Parameters
    ----------
    candidates
        With a right ascension and a declination [degrees].
    source
        A table with positions and perhaps names, or `lenscat`: the catalogue of that package (Vujeva et al. 2024), read
        from where it is installed.
    radius
        Largest separation [arcsec].

    Raises
    ------
    MissingCatalogue
        When lenscat is not installed.
    InvalidDataset
        When either table has no positions.
    MissingFile, CorruptFile, InvalidOption
        As `read_table`.
    """
    from astropy import units
    from astropy.coordinates import SkyCoord, match_coordinates_sky

    known = read_table(_lenscat() if source == LENSCAT else Path(source))
    there, here = (
        SkyCoord(*_positions(table, what), unit="deg") for table, what in ((known, source), (candidates, "candidates"))
    )
    good_here, good_there = (np.isfinite(one.ra.deg) & np.isfinite(one.dec.deg) for one in (here, there))
    names: list[str | None] = [None] * len(here)
    separations = np.full(len(here), np.nan)
    if good_here.any() and good_there.any():
        nearest, separation, _ = match_coordinates_sky(here[good_here], there[good_there])
        label = _named(known, np.flatnonzero(good_there))
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
    """Return right ascension and declination [degrees], NaN where they are missing."""
    found = []
    for spellings in (RIGHT_ASCENSION, DECLINATION):
        names = [name for name in table.column_names if _plain(name) in spellings]
        if not names:
            raise InvalidDataset(
                f"{what} without positions on the sky (columns {', '.join(table.column_names[:8])}, …)",
                "columns ra and dec, in degrees",
                "add or rename them, or leave out --known-lenses",
            )
        values = [float("nan") if value is None else float(value) for value in table[names[0]].to_pylist()]
        found.append(np.array(values, np.float64))
    return found


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower().partition("[")[0] if letter.isalnum())


def _named(table: pa.Table, rows: np.ndarray) -> list[str]:
    names = [name for name in table.column_names if _plain(name) in NAMES] or list(
        guess_roles(table.column_names, table).of("id")
    )
    return [f"row {row + 1}" if not names else str(table[names[0]][int(row)].as_py()) for row in rows]
