"""Put the marks of runs into benchmarks/results/runs.csv and the README: `python benchmarks/record.py RUN…`.

Without a run the README's table is made anew from the CSV.
"""

import csv
import sys
from pathlib import Path

from deeplense.core.files import atomic
from deeplense.core.run_folder import RunFolder, find_run

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "runs.csv"
README = HERE.parent / "README.md"
BEGIN, END = "<!-- results: made by benchmarks/record.py -->", "<!-- end of results -->"
COLUMNS = (
    "run", "dataset", "model", "parameters", "n_train", "epochs", "training_seconds",
    "mark", "value", "low", "high", "n", "command", "git_commit", "created",
)  # fmt: skip


def rows_of(run: RunFolder) -> list[dict[str, str]]:
    """Return one row per mark of an evaluated run."""
    config, history = run.config(), run.history()
    head = {
        "run": config["run_id"],
        "dataset": config["dataset"]["name"],
        "model": config["model"]["name"],
        "parameters": config["model"].get("parameters", ""),
        "n_train": config["dataset"]["n_train"],
        "epochs": len(history),
        "training_seconds": round(sum(record["seconds"] for record in history)),
    }
    tail = {key: config[key] for key in ("command", "git_commit", "created")}
    return [
        {key: str(value) for key, value in (head | {"mark": name} | mark | tail).items()}
        for name, mark in run.metrics().items()
    ]


def readme_table(rows: list[dict[str, str]]) -> str:
    """Return the README's tables, by what was asked: one line per run, with 95 % intervals."""
    marks: dict[str, dict[str, dict[str, str]]] = {}
    for row in rows:
        marks.setdefault(row["run"], {})[row["mark"]] = row
    classifiers = [_classifier(found) for found in marks.values() if "auroc_macro" in found]
    finders = [_finder(found) for found in marks.values() if "tpr10" in found]
    detectors = [_detector(found) for found in marks.values() if "auroc" in found]
    upscalers = [_upscaler(found) for found in marks.values() if "psnr" in found]
    lines = _lines(
        ("dataset", "model", "training images, epochs, seconds", "AUROC macro", "accuracy", "test images", "command"),
        classifiers,
    )
    if detectors:
        lines += ["", "Detectors of anomalies, fitted to images without substructure alone:", ""]
        lines += _lines(
            ("dataset", "detector", "normal images", "AUROC", "TPR at 1 % FPR", "test images", "command"), detectors
        )
    if finders:
        lines += [
            "",
            "Lens finding; TPR10: found with fewer than ten false positives in 100,000 images, in proportion:",
            "",
        ]
        lines += _lines(
            (
                *("dataset", "model", "training images, epochs, seconds", "AUROC", "TPR at 1 % FPR", "TPR10"),
                *("ECE, calibrated", "test images", "command"),
            ),
            finders,
        )
    if upscalers:
        lines += ["", "Super-resolution, 75 × 75 pixels to 150 × 150; PSNR in dB, of images from 0 to 1:", ""]
        lines += _lines(
            (
                *("dataset", "model", "training images, epochs, seconds", "PSNR, observed", "its floor"),
                *("PSNR, truth", "χ² per pixel", "within σ", "test images", "command"),
            ),
            upscalers,
        )
    return "\n".join(lines)


def _network(row: dict[str, str]) -> list[str]:
    """Return dataset, model and what its training cost."""
    return [
        row["dataset"],
        f"{row['model']}, {int(row['parameters']):,} parameters",
        f"{int(row['n_train']):,}, {row['epochs']}, {row['training_seconds']}",
    ]


def _upscaler(marks: dict[str, dict[str, str]]) -> list[str]:
    row = marks["psnr"]
    names = {"psnr": 2, "floor": 2, "psnr_truth": 2, "chi2": 3, "coverage_68": 3}
    found = [_interval(marks[name], places) if name in marks else "–" for name, places in names.items()]
    return [*_network(row), *found, f"{int(row['n']):,}", f"`{row['command']}`"]


def _classifier(marks: dict[str, dict[str, str]]) -> list[str]:
    row = marks["accuracy"]
    return [
        *_network(row),
        _interval(marks["auroc_macro"]),
        _interval(row),
        f"{int(row['n']):,}",
        f"`{row['command']}`",
    ]


def _finder(marks: dict[str, dict[str, str]]) -> list[str]:
    row = marks["auroc_lens"]
    names = ("auroc_lens", "completeness_at_1pct_fpr", "tpr10", "ece_scaled")
    return [*_network(row), *(_interval(marks[name]) for name in names), f"{int(row['n']):,}", f"`{row['command']}`"]


def _detector(marks: dict[str, dict[str, str]]) -> list[str]:
    row = marks["auroc"]
    found = [_interval(marks[name]) for name in ("auroc", "tpr_at_1pct_fpr")]
    n_train, n = (f"{int(row[name]):,}" for name in ("n_train", "n"))
    return [row["dataset"], row["model"], n_train, *found, n, f"`{row['command']}`"]


def _lines(titles: tuple[str, ...], rows: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(cells) + " |" for cells in (titles, ["---"] * len(titles), *rows)]


def with_table(text: str, table: str) -> str:
    """Return the README with its table replaced."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def read_results() -> list[dict[str, str]]:
    """Return the rows of the CSV."""
    if not RESULTS.is_file():
        return []
    with RESULTS.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def main(names: list[str]) -> None:
    """Record runs, newest last, each once; then write CSV and README."""
    new = [row for name in names for row in rows_of(find_run(name))]
    rows = [row for row in read_results() if row["run"] not in {entry["run"] for entry in new}] + new
    with atomic(RESULTS) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    with atomic(README) as temporary:
        temporary.write_text(with_table(README.read_text(encoding="utf-8"), readme_table(rows)), encoding="utf-8")


def _interval(mark: dict[str, str], places: int = 4) -> str:
    value, low, high = (float(mark[key]) for key in ("value", "low", "high"))
    return f"{value:.{places}f} ({low:.{places}f}–{high:.{places}f})"


if __name__ == "__main__":
    main(sys.argv[1:])
