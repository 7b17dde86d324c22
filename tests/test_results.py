"""The README's numbers are those of the committed results."""

from pathlib import Path

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
