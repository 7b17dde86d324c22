"""What a catalogue alone tells in the lens-finding recipes, against HOG features of the images: AUROC of each.

No column, colour or global statistic should come near the images: a finder would then learn the priors. Run as

    python experiments/calibration/lens_finding_catalogue.py lens_finding
    python experiments/calibration/lens_finding_catalogue.py data/lens_finding_4band

with a recipe or a dataset folder made of one; it needs scikit-image for HOG, whose features and classifier are those of
lens_finding.py beside this file. Images: half of each class, the first of the training and of the test split.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from lens_finding import hog_features, standard_error
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from deeplense.data.dataset import Dataset, open_dataset
from deeplense.models.global_statistics import statistics
from deeplense.recipes.recipe import Recipe
from deeplense.simulate import ensure
from deeplense.simulation.photometry import Photometer

BATCH = 250


def main() -> None:
    """Print a line per method, and the columns that tell most."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset")
    parser.add_argument("--train", type=int, default=3000)
    parser.add_argument("--test", type=int, default=2000)
    parser.add_argument("--no-hog", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    dataset = open_dataset(ensure(options.dataset))
    recipe = Recipe.from_mapping(dataset.manifest["recipe"])  # type: ignore[attr-defined]
    rows = [first(dataset, split, n) for split, n in (("train", options.train), ("test", options.test))]
    truths = [dataset.targets()[part] == dataset.labels.index("lens") for part in rows]
    names, tables, numbers = zip(*(measured(dataset, recipe, part) for part in rows), strict=True)
    for name, area in best_columns(names[0], tables[1], truths[1])[:8]:
        print_area(f"column {name}", area, truths[1])
    linear = make_pipeline(SimpleImputer(add_indicator=True), StandardScaler(), LogisticRegression(max_iter=5000))
    trees = HistGradientBoostingClassifier(max_iter=150, learning_rate=0.06, random_state=0)
    for what, parts in (("all columns", tables), ("nine global statistics", numbers)):
        print_area(f"{what}, logistic regression", fitted(linear, parts, truths), truths[1])
        print_area(f"{what}, gradient boosting", fitted(trees, parts, truths), truths[1])
    if not options.no_hog:
        sigma = np.array([one.background_sigma() for one in recipe.instruments()])[:, None, None]
        hogs = [np.concatenate([hog_features(dataset.images(some), sigma) for some in batches(part)]) for part in rows]
        model = make_pipeline(StandardScaler(), LogisticRegression(C=1e-3, max_iter=2000))
        print_area("HOG, logistic regression", fitted(model, hogs, truths), truths[1])


def first(dataset: Dataset, split: str, n: int) -> np.ndarray:
    """Return the rows of the first n images of a split, half of each class."""
    rows, targets = dataset.indices(split), dataset.targets()
    return np.sort(np.concatenate([rows[targets[rows] == k][: n // 2] for k in range(len(dataset.labels))]))


def measured(dataset: Dataset, recipe: Recipe, rows: np.ndarray) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """Return the names of the columns, their values measured anew, and the nine statistics of the images."""
    photometer, columns, numbers = Photometer.of(recipe), [], []
    for some in batches(rows):
        images = torch.from_numpy(dataset.images(some))
        found = photometer.measure(images)
        columns.append(np.stack([found[name].numpy() for name in photometer.columns], axis=1))
        numbers.append(statistics(images).numpy())
    return photometer.columns, np.concatenate(columns), np.concatenate(numbers)


def batches(rows: np.ndarray) -> list[np.ndarray]:
    """Return the rows in batches."""
    return np.split(rows, range(BATCH, len(rows), BATCH))


def best_columns(names: tuple[str, ...], table: np.ndarray, truth: np.ndarray) -> list[tuple[str, float]]:
    """Return the columns with the AUROC of whichever direction is above one half, best first; NaN is the mean."""
    filled = np.where(np.isnan(table), np.nanmean(table, axis=0), table)
    areas = [float(roc_auc_score(truth, column)) for column in filled.T]
    return sorted(
        ((name, max(area, 1 - area)) for name, area in zip(names, areas, strict=True)), key=lambda one: -one[1]
    )


def fitted(model: object, parts: list[np.ndarray], truths: list[np.ndarray]) -> float:
    """Return the AUROC on the test images of a model that is fitted on the training images."""
    model.fit(parts[0], truths[0])  # type: ignore[attr-defined]
    return float(roc_auc_score(truths[1], model.predict_proba(parts[1])[:, 1]))  # type: ignore[attr-defined]


def print_area(what: str, area: float, truth: np.ndarray) -> None:
    """Print an AUROC with its 95 % interval (Hanley & McNeil 1982)."""
    error = 1.96 * standard_error(area, int(truth.sum()))
    print(f"{what}: {area:.4f} [{area - error:.4f}, {min(1.0, area + error):.4f}]", flush=True)


if __name__ == "__main__":
    main()
