"""Difficulty of recipe `common_test`: AUROC of a ResNet18 from scratch, as a function of the exposure time.

The published value is .9832 with 30,000 training images (10,000 of each class). The knob is the exposure time. Run as

    python experiments/calibration/common_test.py --work FOLDER

which takes about a day on two cores; or with smaller numbers and several exposure times, to see the slope:

    python experiments/calibration/common_test.py --work FOLDER --train 1000 --epochs 8 --exposure-time 60 120 240

Everything is seeded; each row is appended to FOLDER/common_test.csv. The exposure time is the recipe's
unless others are given.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
from pathlib import Path

import deeplense
from deeplense.recipes.recipe import shipped_recipes

NAME = "common_test"


def main() -> None:
    """Simulate, train and evaluate for each exposure time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--train", type=int, default=10000, help="training images of each class")
    parser.add_argument("--test", type=int, default=2500, help="test images of each class")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--exposure-time", type=float, nargs="+", help="seconds; by default the recipe's")
    parser.add_argument("--crop", type=int, help="central pixels to train on; by default all 150")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    default = float(re.search(r"^exposure_time = ([0-9.]+)", shipped_recipes()[NAME], re.M)[1])
    for seconds in options.exposure_time or [default]:
        marks = run(seconds, options)
        row = {"exposure_time": seconds, "train": options.train, "test": options.test, "epochs": options.epochs}
        row |= {"seed": options.seed} | marks
        table = options.work / f"{NAME}.csv"
        new = not table.is_file()
        with table.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, row)
            if new:
                writer.writeheader()
            writer.writerow(row)
        print(row)


def run(seconds: float, options: argparse.Namespace) -> dict[str, float]:
    """Return the marks on the test split."""
    name = f"{NAME}_{seconds:g}s_{options.train}"
    recipe = options.work / f"{name}.toml"
    text = re.sub(r"^exposure_time = [0-9.]+", f"exposure_time = {seconds}", shipped_recipes()[NAME], flags=re.M)
    recipe.write_text(text, encoding="utf-8")
    counts = {"train": options.train, "validation": max(options.train // 10, 30), "test": options.test}
    data = deeplense.simulate(recipe=str(recipe), out=options.work / name, seed=options.seed, **counts)
    trained = deeplense.train(
        dataset=str(data),
        model_source="timm",
        model_name="resnet18",
        epochs=options.epochs,
        batch_size=64,
        optimizer="adamw",
        lr=1e-3,
        normalise="none",
        symmetry="d4",
        crop=options.crop,
        precision="bf16",
        seed=options.seed,
        out=options.work / f"{name}_e{options.epochs}_c{options.crop or 150}_run",
    )
    deeplense.evaluate(run_id=str(trained))
    return marks_of(trained)


def marks_of(folder: Path) -> dict[str, float]:
    """Return the AUROCs and the accuracy that `evaluate` wrote."""
    marks = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return {name: mark["value"] for name, mark in marks.items() if name.startswith(("auroc", "accuracy"))}


if __name__ == "__main__":
    main()
