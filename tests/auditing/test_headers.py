"""Header keywords that give the label away."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from deeplense.auditing.audited import audit_dataset
from deeplense.auditing.columns import Rows
from deeplense.auditing.finding import Finding
from deeplense.auditing.headers import header_keywords, keywords
from deeplense.data.dataset import Dataset, open_dataset

N = 120
Header = dict[str, object]
GENERATOR = np.random.default_rng(2)
NUMBERS = GENERATOR.normal(size=N).tolist()


def harmless(row: int, lens: bool) -> Header:
    return {
        "EXPTIME": 100.0 + NUMBERS[row],
        "OBJECT": f"galaxy {row}",
        "FILTER": "r / i",
        "DATE": f"2020-01-{row % 28 + 1:02d}",
    }


def leaks(row: int, lens: bool) -> Header:
    return {
        "GAIN": 1.0 + lens + 0.1 * NUMBERS[row],
        "TELESCOP": "O'Brien" if lens else "other",
        "OBJECT": f"{'lens' if lens else 'galaxy'} {row}",
        "DATE": f"2020-{1 + lens:02d}-{row % 28 + 1:02d}T00:00:00",
    } | ({"THETA": 1.0} if lens else {})


def stamps(folder: Path, header_of: Callable[[int, bool], Header], extension: bool = False) -> Dataset:
    folder.mkdir(exist_ok=True)
    lines = ["ID,is_lens"]
    for row in range(N):
        lens = row % 2 == 0
        lines.append(f"{1000 + row},{int(lens)}")
        pixels = np.random.default_rng(row).normal(size=(8, 8)).astype(np.float32)
        unit = fits.ImageHDU(pixels) if extension else fits.PrimaryHDU(pixels)
        unit.header.update(header_of(row, lens))
        unit.header["HISTORY"] = "a lens" if lens else "no lens"
        units = [fits.PrimaryHDU(), unit] if extension else [unit]
        fits.HDUList(units).writeto(folder / f"stamp-{1000 + row}.fits", checksum=True)
    (folder / "catalogue.csv").write_text("\n".join(lines) + "\n")
    return open_dataset(folder)


def found_in(dataset: Dataset) -> dict[str, Finding]:
    rows = Rows(dataset.targets(), dataset.labels, np.array(dataset.splits(), dtype=object))
    return {one.subject: one for one in header_keywords(dataset, rows, np.arange(len(dataset)))}


def test_headers_that_say_nothing_are_passed_over(tmp_path: Path) -> None:
    assert found_in(stamps(tmp_path, harmless)) == {}


@pytest.mark.parametrize("extension", [False, True])
def test_keywords_that_tell_the_label_are_found(extension: bool, tmp_path: Path) -> None:
    dataset = stamps(tmp_path, leaks, extension)
    found = found_in(dataset)
    assert set(found) == {f"header {name}" for name in ("GAIN", "TELESCOP", "OBJECT", "DATE", "THETA")}
    assert {one.severity for one in found.values()} == {"leak"} and {one.kind for one in found.values()} == {"origin"}
    assert "it is known" in found["header THETA"].words
    assert keywords(dataset, 0)["header TELESCOP"] == "O'Brien"
    audit = audit_dataset(dataset, 1000, lambda n: None)
    assert audit.count("leak") == 5


def test_numbers_may_be_written_with_a_small_d(tmp_path: Path) -> None:
    dataset = stamps(tmp_path, leaks)
    for row in range(N):
        path = dataset.files(row)[0]
        content = path.read_bytes()
        at = content.index(b"GAIN    =")
        number = f"{1.0 + (row % 2 == 0)}d{'+' if row % 3 else ''}5".rjust(20).encode()
        path.write_bytes(content[: at + 10] + number.ljust(70) + content[at + 80 :])
    assert keywords(dataset, 0)["header GAIN"] == "2.0d5"
    assert found_in(dataset)["header GAIN"].severity == "leak"


def test_damaged_files_are_no_error(tmp_path: Path) -> None:
    dataset = stamps(tmp_path, harmless)
    contents = [b"", b"SIMPLE", b"\xff" * 9000, gzip.compress(b"x")[:9]]
    for row, content in enumerate(contents):
        dataset.files(row)[0].write_bytes(content)
    dataset.files(len(contents))[0].unlink()
    assert found_in(dataset) == {}


def test_other_layouts_have_no_headers(small_set: Path) -> None:
    dataset = open_dataset(small_set)
    assert dataset.files(0) == () and found_in(dataset) == {}
