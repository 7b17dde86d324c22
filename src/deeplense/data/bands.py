"""Which bands of images are looked at, and in which order: two surveys seldom agree."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from deeplense.core.errors import InvalidOption


def band_names(instrument: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return a short name of each band of a recipe: the last word of its instrument's, where that tells them apart."""
    names = [instrument] if isinstance(instrument, str) else instrument or []
    stems = tuple(Path(name).stem.lower() for name in names)
    short = tuple(stem.replace("-", "_").rpartition("_")[2] for stem in stems)
    if len(set(short)) == len(short):
        return short
    return stems if len(set(stems)) == len(stems) else tuple(f"{number}" for number in range(1, len(stems) + 1))


def band_places(asked: Sequence[str], names: Sequence[str], n_bands: int, where: Path | str) -> tuple[int, ...] | None:
    """Return the places, from 0, of the bands that are asked for; None where none is: all, as they lie.

    Parameters
    ----------
    asked
        Names, or numbers from 1.
    names
        Of the bands that there are; empty where they have none.
    n_bands
        How many there are.
    where
        Whose they are, for the message.

    Raises
    ------
    InvalidOption
        When there is no such band, or one is asked for twice.
    """
    if not asked:
        return None
    known = {name: place for place, name in enumerate(names)}
    known |= {str(number): number - 1 for number in range(1, n_bands + 1) if str(number) not in known}
    there = f"1 to {n_bands}" + (f", or their names: {', '.join(names)}" if names else "; they have no names")
    if strange := [band for band in asked if band not in known]:
        raise InvalidOption(f"the band '{strange[0]}' of {where}", there, "name its bands in order by --bands")
    places = tuple(known[band] for band in asked)
    if twice := [band for band, place in zip(asked, places, strict=True) if places.count(place) > 1]:
        raise InvalidOption(f"the band '{twice[0]}' twice", "each band once", "leave one out of --bands")
    return places
