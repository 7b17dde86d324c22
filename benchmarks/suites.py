"""Put the table of a suite into benchmarks/results/ and docs/benchmarks.md: `python -m benchmarks.suites FOLDER…`.

A folder is a size's, such as runs/benchmark/substructure/cpu. Without one, the page is made
anew from what is committed.
"""

import csv
import sys
from pathlib import Path

from deeplense.core.files import atomic
from deeplense.suites.results import CSV
from deeplense.suites.suite import load_suite

HERE = Path(__file__).parent
RESULTS = HERE / "results"
PAGE = HERE.parent / "docs" / "benchmarks.md"
HEAD = """# Benchmarks

Made by `python -m benchmarks.suites` from `benchmarks/results/suite_*.csv`, which have all marks, costs and commands.
Every method gets the same images, splits and epochs; the epoch is chosen on validation, the test split is judged once.
Values are followed by their 95 % interval; – was not run, the CSV says why.
"""


def tables() -> list[list[dict[str, str]]]:
    """Return the rows of every committed table."""
    found = []
    for path in sorted(RESULTS.glob("suite_*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            found.append(list(csv.DictReader(file)))
    return found


def page(found: list[list[dict[str, str]]]) -> str:
    """Return the page of all tables."""
    return "\n".join([HEAD, *(line for rows in found for line in _section(rows))]).rstrip() + "\n"


def _section(rows: list[dict[str, str]]) -> list[str]:
    suite, size = load_suite(rows[0]["suite"])[0], rows[0]["size"]
    mark = list(rows[0])[list(rows[0]).index("reason") + 1]  # the one that orders the table
    done = [row for row in rows if row["state"] == "done"]
    datasets = list(dict.fromkeys(row["dataset"] for row in done))
    cells = {(row["dataset"], row["method"]): row for row in done}
    methods = sorted({row["method"] for row in done}, key=lambda name: _order(name, datasets, cells, mark))
    titles = ["method", "parameters", *datasets]
    lines = [f"## {suite.name}, size `{size}`", "", f"{suite.description} {suite.sizes[size].about}", ""]
    lines += [f"`{mark}`:", "", "| " + " | ".join(titles) + " |", "| " + " | ".join(["---"] * len(titles)) + " |"]
    for method in methods:
        known = [cells.get((dataset, method)) for dataset in datasets]
        sizes = {row["parameters"] for row in known if row and row["parameters"]}
        numbers = f"{max(map(int, sizes)):,}" if sizes else "–"
        lines.append("| " + " | ".join([method, numbers, *(_cell(row, mark) for row in known)]) + " |")
    lines.append("")
    for dataset in datasets:
        row = next(row for row in done if row["dataset"] == dataset)
        lines.append(f"- `{dataset}`: {suite.datasets[dataset].about} " + _budget(row))
    return [*lines, ""]


def _order(method: str, datasets: list[str], cells: dict[tuple[str, str], dict[str, str]], mark: str) -> float:
    values = [float(cells[dataset, method][mark]) for dataset in datasets if (dataset, method) in cells]
    return -sum(values) / len(values)


def _cell(row: dict[str, str] | None, mark: str) -> str:
    if row is None:
        return "–"
    value, low, high = (float(row[name]) for name in (mark, f"{mark}_low", f"{mark}_high"))
    places = 2 if value > 2 else 4
    return f"{value:.{places}f} ({low:.{places}f}–{high:.{places}f})"


def _budget(row: dict[str, str]) -> str:
    trained, tested = (f"{int(row[name]):,}" for name in ("n_train", "n_test"))
    return f"{trained} training images, {row['epochs']} epochs; judged on {tested}."


def main(folders: list[str]) -> None:
    """Copy the tables of some folders, then write the page of all."""
    for folder in map(Path, folders):
        with (folder / CSV).open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["state"] != "left out"]
        path = RESULTS / f"suite_{rows[0]['suite']}_{rows[0]['size']}.csv"
        with atomic(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    with atomic(PAGE) as temporary:
        temporary.write_text(page(tables()), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
