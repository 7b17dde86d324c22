"""Findings over the headers of FITS stamps: keywords that give the label away, as another telescope or date would."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64
from numpy.typing import NDArray

from deeplense.auditing.columns import Rows, predictive
from deeplense.auditing.finding import Finding
from deeplense.data.dataset import Dataset
from deeplense.data.readers.stamp_files import BLOCK, CARD, FITS, suffix_of

MOST = 500
"""Stamps whose headers are read."""
BYTES = 64 * BLOCK
"""Of a file, at most: 2,304 lines of headers."""
STRUCTURE = re.compile(
    r"SIMPLE|BITPIX|NAXIS\d*|EXTEND|XTENSION|[PG]COUNT|CHECKSUM|DATASUM|COMMENT|HISTORY|CONTINUE|END|"
)
"""Keywords that say how the file is built, or are free text."""
DATE = re.compile(r"\d{4}-\d\d-\d\d")
MANY = 50
"""Different words from which on their digits do not count: `lens_17` and `lens_18` say the same."""


def header_keywords(dataset: Dataset, rows: Rows, chosen: Int64[np.ndarray, " M"]) -> list[Finding]:
    """Return a finding for every keyword in the headers of FITS stamps that tells the label.

    A network does not see headers; but where they differ between the classes, so may telescopes, depths and pixels.

    Parameters
    ----------
    dataset
        Whose reader knows the files of its rows; of others nothing is said.
    rows
        What is known of all rows.
    chosen
        Rows that may be looked at; of many, some from all over.
    """
    if not len(chosen) or not _stamps(dataset, int(chosen[0])):
        return []
    places = np.unique(np.linspace(0, len(chosen) - 1, min(MOST, len(chosen))).astype(np.int64))
    some = chosen[places]
    found = [keywords(dataset, int(row)) for row in some]
    names = dict.fromkeys(name for values in found for name in values)
    columns = {name: _column([values.get(name) for values in found]) for name in names}
    return predictive(columns, rows.take(some), kind="origin")


def keywords(dataset: Dataset, row: int) -> dict[str, str]:
    """Return the header keywords of a row's FITS stamps with their values as text; none of a file that is damaged."""
    files = _stamps(dataset, row)
    found: dict[str, str] = {}
    for number, path in enumerate(files, 1):
        suffix = f", band {number}" if len(files) > 1 else ""
        found |= {f"header {keyword}{suffix}": value for keyword, value in _cards(_beginning(path))}
    return found


def _stamps(dataset: Dataset, row: int) -> list[Path]:
    return [path for path in dataset.files(row) if suffix_of(path.name) in FITS]


def _beginning(path: Path) -> bytes:
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            return file.read(BYTES)
    except (OSError, EOFError, zlib.error):
        return b""


def _cards(content: bytes) -> Iterator[tuple[str, str]]:
    """Yield keywords and values of the first header that describes pixels; HIERARCH ones are passed over."""
    empty = False  # a primary header without pixels, whose first extension counts too
    start = 0
    while start + CARD <= len(content):
        card = content[start : start + CARD].decode("ascii", "replace")
        start += CARD
        keyword = card[:8].strip()
        if keyword == "END":
            if not empty:
                return
            empty, start = False, -(-start // BLOCK) * BLOCK
        elif card[8:10] == "= ":
            value = _value(card[10:])
            empty |= keyword == "NAXIS" and value == "0"
            if not STRUCTURE.fullmatch(keyword):
                yield keyword, value


def _value(text: str) -> str:
    """Return the value of a card without quotes and comment."""
    if match := re.match(r"\s*'((?:[^']|'')*)'", text):
        return match[1].replace("''", "'").strip()
    return text.partition("/")[0].strip()


def _column(values: list[str | None]) -> NDArray[Any]:
    """Return the values as numbers, NaN where there is none; dates by their order; others as words."""
    given = [value for value in values if value]
    if all(map(_is_number, given)):
        return np.array([float(value.upper().replace("D", "E")) if value else np.nan for value in values])
    if all(map(DATE.match, given)):
        order = {value: float(place) for place, value in enumerate(sorted(set(given)))}
        return np.array([order[value] if value else np.nan for value in values])
    if len(set(given)) > MANY:
        values = [re.sub(r"\d+", "#", value) if value else value for value in values]
    return np.array([value or "" for value in values], dtype=object)


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([EDed][+-]?\d+)?", text) is not None
