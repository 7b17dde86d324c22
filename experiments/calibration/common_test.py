"""Difficulty of recipe `common_test`: AUROC of a ResNet18 from scratch.

The published value is .9832 with 30,000 training images (10,000 of each class). The knob is the mass of the
substructure. Run as

    python experiments/calibration/common_test.py --work FOLDER --epochs 6 --crop 100

which takes three quarters of an hour on two cores; --recipe FILE.toml tries another setting of the knob. The light of
these lenses lies within the inner 100 pixels, where a step takes half the time. Everything is seeded; each row is
appended to FOLDER/common_test.csv.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

import deeplense
from deeplense.recipes.recipe import load_recipe

PARTS = {"value": "", "low": "_low", "high": "_high"}


def main() -> None:
    """Simulate, train and evaluate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--recipe", default="common_test")
    parser.add_argument("--train", type=int, default=10000, help="training images of each class")
    parser.add_argument("--test", type=int, default=2500, help="test images of each class")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--crop", type=int, help="central pixels to train on; by default all 150")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    classes = load_recipe(options.recipe).classes
    row = {"cdm_largest_mass": classes["cdm"]["mass"][1], "axion_mass_of_vortex": classes["axion"]["mass"]}
    row |= {name: value for name, value in vars(options).items() if name not in ("work", "recipe")}
    row |= run(options)
    table = options.work / "common_test.csv"
    new = not table.is_file()
    with table.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, row)
        if new:
            writer.writeheader()
        writer.writerow(row)
    print(row)


def run(options: argparse.Namespace) -> dict[str, float]:
    """Return the marks on the test split."""
    name = Path(options.recipe).stem
    counts = {"train": options.train, "validation": max(options.train // 10, 30), "test": options.test}
    data = deeplense.simulate(recipe=options.recipe, out=options.work / name, seed=options.seed, **counts)
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
        out=options.work / f"{name}_run",
    )
    deeplense.evaluate(run_id=str(trained))
    return marks_of(trained)


def marks_of(folder: Path) -> dict[str, float]:
    """Return the AUROCs and the accuracy that `evaluate` wrote, each with its interval."""
    marks = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    kept = {name: mark for name, mark in marks.items() if name.startswith(("auroc", "accuracy"))}
    return {f"{name}{suffix}": mark[key] for name, mark in kept.items() for key, suffix in PARTS.items()}


if __name__ == "__main__":
    main()
