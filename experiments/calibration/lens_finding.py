"""Difficulty of the lens-finding recipes: AUROC of HOG features with a logistic regression.

The published values, which the recipes are set to, are .735 in one band and .837 in four (Metcalf et al. 2019, A&A 625,
A119, after Avestruz et al. 2019, ApJ 877, 58). Run as

    python experiments/calibration/lens_finding.py lens_finding
    python experiments/calibration/lens_finding.py lens_finding_4band

It takes some minutes on one core and needs scikit-image. Images: half of each class, the first of the recipe's training
and test splits. Features: arcsinh of the pixels over twice the background's sigma, then `skimage.feature.hog` with nine
orientations, cells of 12 pixels, blocks of two by two cells, for every band.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from skimage.feature import hog
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from deeplense.recipes.draw import draw_images
from deeplense.recipes.recipe import Recipe, Sample, load_recipe

BATCH = 100


def main() -> None:
    """Print the AUROC and its standard error (Hanley & McNeil 1982)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe")
    parser.add_argument("--train", type=int, default=4000)
    parser.add_argument("--test", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    recipe = load_recipe(options.recipe)
    train, test = (features(recipe, options.seed, s, n) for s, n in (("train", options.train), ("test", options.test)))
    model = make_pipeline(StandardScaler(), LogisticRegression(C=1e-3, max_iter=2000))
    scores = model.fit(*train).predict_proba(test[0])[:, 1]
    auroc = roc_auc_score(test[1], scores)
    error = standard_error(auroc, options.test // 2)
    print(f"{recipe.name}: AUROC {auroc:.4f} +- {error:.4f}, {options.train} training and {options.test} test images")


def features(recipe: Recipe, seed: int, split: str, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the features and targets of n images, half of each class."""
    samples = [Sample(split, label, k) for k in range(n // 2) for label in recipe.labels]
    sigma = np.array([instrument.background_sigma() for instrument in recipe.instruments()])[:, None, None]
    rows = []
    for first in range(0, n, BATCH):
        images = draw_images(recipe, seed, samples[first : first + BATCH])["image"].numpy()
        rows.append(hog_features(images, sigma))
    return np.concatenate(rows), np.array([sample.label == "lens" for sample in samples])


def hog_features(images: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Return the features of images [B, C, H, W], given the background's sigma of each band [C, 1, 1]."""
    return np.stack(
        [
            np.concatenate(
                [hog(band, orientations=9, pixels_per_cell=(12, 12), cells_per_block=(2, 2)) for band in image]
            )
            for image in np.arcsinh(images / (2 * sigma))
        ]
    )


def standard_error(auroc: float, n: int) -> float:
    """Return the standard error of an AUROC of n images per class (Hanley & McNeil 1982, eq. 1)."""
    q1, q2 = auroc / (2 - auroc), 2 * auroc**2 / (1 + auroc)
    return float(np.sqrt((auroc * (1 - auroc) + (n - 1) * (q1 + q2 - 2 * auroc**2)) / n**2))


if __name__ == "__main__":
    main()
