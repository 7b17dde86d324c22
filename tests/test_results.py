"""The README's numbers are those of the committed results."""

import csv
from pathlib import Path

from benchmarks import simulate, suites
from benchmarks.record import BEGIN, END, read_results, readme_table

README = Path(__file__).parents[1] / "README.md"


def test_the_table_in_the_readme_is_made_from_the_results() -> None:
    text = README.read_text(encoding="utf-8")
    table = text.partition(BEGIN)[2].partition(END)[0].strip()
    assert table == readme_table(read_results()), "run `python benchmarks/record.py` and commit the README"


def test_every_result_has_an_interval_around_its_value() -> None:
    rows = read_results()
    assert rows, "no results are committed"
    for row in rows:
        low, value, high = (float(row[key]) for key in ("low", "value", "high"))
        assert low <= value <= high, row
        assert int(row["n"]) > 0, row
        assert row["git_commit"], row


def test_the_speeds_in_the_readme_are_those_of_the_results() -> None:
    with simulate.RESULTS.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    shown = README.read_text(encoding="utf-8").partition(simulate.BEGIN)[2].partition(simulate.END)[0].strip()
    assert shown == simulate.table(rows), "run `python benchmarks/simulate.py` and commit the README"
    for row in rows:
        low, value, high = (float(row[key]) for key in ("lowest", "images_per_second", "highest"))
        assert 0 < low <= value <= high, row
        assert row["git_commit"], row


def test_the_page_of_benchmarks_is_made_from_the_results() -> None:
    found = suites.tables()
    assert suites.PAGE.read_text(encoding="utf-8") == suites.page(found), "run `python -m benchmarks.suites`, commit"
    for row in (row for rows in found for row in rows if row["state"] == "done"):
        for name in (name for name in row if f"{name}_low" in row and row[name]):
            low, value, high = (float(row[key]) for key in (f"{name}_low", name, f"{name}_high"))
            assert low <= value <= high, (row["dataset"], row["method"], name)
        assert int(row["n_test"]) > 0 and row["git_commit"], row
