"""Bands are found by name or number, in the order that is asked for; what is not there is an error."""

from __future__ import annotations

import pytest

from deeplense.core.errors import InvalidOption
from deeplense.data.bands import band_names, band_places


def test_bands_have_names_that_differ() -> None:
    assert band_names("euclid_vis") == ("vis",) and band_names(None) == ()
    assert band_names(("kids_r", "rubin_r")) == ("kids_r", "rubin_r")
    assert band_names(("a/my.toml", "b/my.toml")) == ("1", "2")


@pytest.mark.parametrize(
    ("asked", "places"), [((), None), (("u", "g"), (3, 2)), (("4", "3", "1", "2"), (3, 2, 0, 1)), (("r", "2"), (0, 1))]
)
def test_they_are_found_by_name_and_number(asked: tuple[str, ...], places: tuple[int, ...] | None) -> None:
    assert band_places(asked, ("r", "i", "g", "u"), 4, "here") == places


def test_a_name_is_told_from_a_number() -> None:
    assert band_places(("2", "1"), ("2", "1"), 2, "here") == (0, 1), "bands that are called 2 and 1"


@pytest.mark.parametrize(
    ("asked", "names", "message"),
    [
        (("z",), ("g", "r"), "1 to 2, or their names: g, r"),
        (("3",), ("g", "r"), "the band '3'"),
        (("0",), (), "the band '0'"),
        (("g",), (), "they have no names"),
        (("g", "1"), ("g", "r"), "the band 'g' twice"),
    ],
)
def test_what_is_not_there_is_an_error(asked: tuple[str, ...], names: tuple[str, ...], message: str) -> None:
    with pytest.raises(InvalidOption) as raised:
        band_places(asked, names, 2, "here")
    assert message in str(raised.value)
