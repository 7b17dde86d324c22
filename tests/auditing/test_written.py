"""The audit as the command writes it: the terminal, the CSV file, the page."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest

from deeplense import cli
from deeplense.core.errors import InvalidOption
from deeplense.describe import AuditOptions, audit

LENS = np.arange(200) // 7 % 2


@pytest.fixture
def plain(workplace: Path) -> Path:
    """Return a table; one column gives the label away, and its name is a formula and a tag."""
    noise = np.random.default_rng(0).normal(size=200)
    columns = {"ID": np.arange(200), "is_lens": LENS, "=<b>mag": noise + 9 * LENS, "true_mass": 5.0 * LENS + noise / 9}
    pyarrow.csv.write_csv(pa.table(columns), workplace / "plain.csv")
    return workplace / "plain.csv"


def test_every_option_has_a_test_here() -> None:
    assert {field.name for field in dataclasses.fields(AuditOptions)} == {"dataset", "out", "sample"}


def test_the_command_ends_well_and_says_how_many_leaks(
    plain: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.main(["data", "audit", str(plain), "--out", "found/page.html"]) == 0
    said = capsys.readouterr()
    assert "1 leak, 0 warnings, 1 note; 1 column would be a leak, but known as truth" in said.err
    assert max(map(len, said.out.splitlines())) <= 80
    assert said.out.index("leak") < said.out.index("note")
    assert {path.name for path in (plain.parent / "found").iterdir()} == {"page.html", "page.csv"}


def test_the_table_of_findings_is_inert(plain: Path) -> None:
    found = audit(dataset=str(plain))
    rows = list(csv.DictReader(Path("audit.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["severity"] for row in rows] == [one.severity for one in found.findings]
    assert rows[0]["subject"] == "'=<b>mag" and "auroc=1" in rows[0]["numbers"]


def test_the_page_lies_where_it_is_said(plain: Path) -> None:
    audit(dataset=str(plain))
    page = Path("audit.html").read_text(encoding="utf-8")
    assert "1 leak, 0 warnings, 1 note; 1 column would be a leak" in page and "true_mass" in page


def test_images_and_sample(small_set: Path, workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert audit(dataset=str(small_set), sample=40).images == 40
    assert "0 leaks" in capsys.readouterr().err


def test_what_cannot_be_read_or_written_is_named(workplace: Path) -> None:
    with pytest.raises(InvalidOption, match=r"page\.txt"):
        audit(dataset="model_ii", out=Path("page.txt"))
    (workplace / "table.csv").write_text("")
    assert cli.main(["data", "audit", "table.csv"]) == 2 and cli.main(["data", "audit", "nowhere"]) == 2
    assert [path.name for path in workplace.iterdir()] == ["table.csv"]
