"""How far from the ceiling is each method? `axion` against `no_sub` by the runs' own predictions, beside ceiling.csv.

    python experiments/ceiling_gap.py runs/model_i runs/benchmark/substructure/cpu/model_i/*

The score is log p(axion) − log p(no_sub), of the test images of these two classes: what the evidence ratio of
`experiments/ceiling.py` is to the best of all methods. No method is above the ceiling, so that the best one's area is a
lower end of it. Rows replace those of the same runs in benchmarks/results/ceiling_gap.csv.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from deeplense.core.errors import InvalidDataset
from deeplense.core.files import atomic, read_json
from deeplense.core.run_folder import RunFolder
from deeplense.data.shards import MANIFEST
from deeplense.metrics.marks import auroc_mark

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
TINY = np.finfo(np.float32).tiny


def row_of(run: RunFolder, ceilings: dict[str, dict[str, str]]) -> dict[str, object]:
    """Return the area of one run beside the ceiling of its recipe.

    Raises
    ------
    InvalidDataset
        When the recipe's ceiling is not known.
    """
    config = run.config()
    recipe = read_json(Path(config["dataset"]["path"]) / MANIFEST)["recipe"]
    version = f"{recipe['name']} v{recipe['version']}"
    if version not in ceilings:
        raise InvalidDataset(f"{run.path} of {version}", f"one of {', '.join(ceilings)}", "run experiments/ceiling.py")
    table = pq.read_table(run.predictions)
    labels = np.array(table["label"].to_pylist())
    ours = np.isin(labels, ("no_sub", "axion"))
    lumpy, smooth = (np.log(np.maximum(table[f"p_{label}"].to_numpy(), TINY)) for label in ("axion", "no_sub"))
    area = auroc_mark((lumpy - smooth)[ours], labels[ours] == "axion")
    best = ceilings[version]
    return {
        "recipe": version,
        "run": run.path.as_posix(),
        "model": config["model"]["name"],
        "n_train": config["dataset"]["n_train"],
        "images": int(ours.sum()),
        "auroc": round(area.value, 6),
        "low": round(area.low, 6),
        "high": round(area.high, 6),
        "ceiling": best["auroc"],
        "ceiling_low": best["low"],
        "ceiling_images": best["images"],
        "gap": round(float(best["auroc"]) - area.value, 6),
    }


def main(paths: list[str]) -> None:
    """Write a row for every run."""
    with (RESULTS / "ceiling.csv").open(newline="", encoding="utf-8") as file:
        ceilings = {row["recipe"]: row for row in csv.DictReader(file)}  # the last level of each
    rows = {str(row["run"]): row for row in (row_of(RunFolder(Path(path)), ceilings) for path in paths)}
    results = RESULTS / "ceiling_gap.csv"
    known: dict[str, dict[str, object]] = {}
    if results.is_file():
        with results.open(newline="", encoding="utf-8") as file:
            known = {row["run"]: dict(row) for row in csv.DictReader(file)}
    with atomic(results) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, next(iter(rows.values())))
        writer.writeheader()
        writer.writerows((known | rows).values())
    for row in rows.values():
        print(f"{row['recipe']} {row['run']}: {row['auroc']} [{row['low']}, {row['high']}], gap {row['gap']}")


if __name__ == "__main__":
    main(sys.argv[1:])
