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
    return [_rows(path) for path in sorted(RESULTS.glob("suite_*.csv"))]


def page(found: list[list[dict[str, str]]]) -> str:
    """Return the page of all tables."""
    sections = [line for rows in found for line in _section(rows)]
    return "\n".join([HEAD, *sections, *_ceiling(_rows(RESULTS / "ceiling_gap.csv"))]).rstrip() + "\n"


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _ceiling(rows: list[dict[str, str]]) -> list[str]:
    """Return how far from the best of all methods each is, where that is known."""
    titles = ("recipe", "run", "training images", "AUROC", "the ceiling, of images")
    lines = [
        "## How far from the ceiling",
        "",
        "`axion` against `no_sub` alone: there the likelihood can be integrated, and the ratio of evidences is the",
        "best that any method can do (`experiments/ceiling.py`, `experiments/ceiling_gap.py`). No method is above it,",
        "so the best one is a lower end of it. For `cdm` nobody knows it: its haloes are too many to integrate over.",
        "",
        "| " + " | ".join(titles) + " |",
        "| " + " | ".join(["---"] * len(titles)) + " |",
    ]
    for row in sorted(rows, key=lambda row: (row["recipe"], float(row["gap"]), row["run"])):
        trained = f"{int(row['n_train']):,}"
        best = f"{float(row['ceiling']):.4f} (from {float(row['ceiling_low']):.4f}), {int(row['ceiling_images']):,}"
        lines.append("| " + " | ".join([row["recipe"], f"`{row['run']}`", trained, _cell(row, "auroc"), best]) + " |")
    return lines


def _section(rows: list[dict[str, str]]) -> list[str]:
    suite, size = load_suite(rows[0]["suite"])[0], rows[0]["size"]
    done = [row for row in rows if row["state"] == "done"]
    datasets = list(dict.fromkeys(row["dataset"] for row in done))
    lines = [f"## {suite.name}, size `{size}`", "", f"{suite.description} {suite.sizes[size].about}", ""]
    marks = list(suite.kind_of(datasets[0]).terminal)
    for mark in marks:
        lines += [f"`{mark}`:", "", *_table(done, datasets, mark, marks[0]), ""]
    for dataset in datasets:
        some = [row for row in done if row["dataset"] == dataset]
        lines.append(f"- `{dataset}`: {suite.datasets[dataset].about} {_budget(some)}")
    return [*lines, ""]


def _table(done: list[dict[str, str]], datasets: list[str], mark: str, by: str) -> list[str]:
    """Return a table of one mark; the methods stand in the order of another, the best first."""
    cells = {(row["dataset"], row["method"]): row for row in done}
    methods = sorted({row["method"] for row in done}, key=lambda name: _order(name, datasets, cells, by))
    titles = ["method", "parameters", *datasets]
    lines = ["| " + " | ".join(titles) + " |", "| " + " | ".join(["---"] * len(titles)) + " |"]
    for method in methods:
        known = [cells.get((dataset, method)) for dataset in datasets]
        sizes = {row["parameters"] for row in known if row and row["parameters"]}
        numbers = f"{max(map(int, sizes)):,}" if sizes else "–"
        lines.append("| " + " | ".join([method, numbers, *(_cell(row, mark) for row in known)]) + " |")
    return lines


def _order(method: str, datasets: list[str], cells: dict[tuple[str, str], dict[str, str]], mark: str) -> float:
    values = [float(cells[dataset, method][mark]) for dataset in datasets if (dataset, method) in cells]
    return -sum(values) / len(values)


def _cell(row: dict[str, str] | None, mark: str) -> str:
    if row is None or not row[mark]:
        return "–"
    ends = (f"{mark}_low", f"{mark}_high") if f"{mark}_low" in row else ("low", "high")
    value, low, high = (float(row[name]) for name in (mark, *ends))
    places = 2 if value > 2 else 4
    return f"{value:.{places}f} ({low:.{places}f}–{high:.{places}f})"


def _budget(rows: list[dict[str, str]]) -> str:
    """Return how much the methods on a dataset were given: of images what the least and the most of them saw."""
    seen = sorted({int(row["n_train"]) for row in rows})
    trained = " to ".join(f"{n:,}" for n in dict.fromkeys((seen[0], seen[-1])))
    epochs, seeds = (max(int(row[name]) for row in rows) for name in ("epochs", "seeds"))
    several = f", {seeds} seeds" if seeds > 1 else ""
    return f"{trained} training images, {epochs} epochs{several}; judged on {int(rows[0]['n_test']):,}."


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
