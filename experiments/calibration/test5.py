"""Recipe `test5` beside the published images: simple statistics, radial profiles, and a linear discriminant.

Run as `python experiments/calibration/test5.py FOLDER`; FOLDER holds no_sub/ and sub/ with the published JPEGs. The
discriminant has nine statistics of each image: mean, standard deviation, largest pixel, median, 90th, 99th and 99.9th
percentile, and the second moments of the light along both axes. The published value is an AUROC near .70.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import roc_auc_score

from deeplense.recipes.draw import draw_images
from deeplense.recipes.recipe import Sample, load_recipe

AXIS = np.arange(150) - 74.5
RADIUS = np.hypot(AXIS[None], AXIS[:, None])
LABELS = ("no_sub", "sub")


def main() -> None:
    """Print both columns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=1000, help="of each class")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    theirs = {label: published(options.folder / label, options.images) for label in LABELS}
    ours = {label: drawn(label, options.images, options.seed) for label in LABELS}
    for label in LABELS:
        print(f"{label}: published, ours")
        pair = theirs[label], ours[label]
        for name, values in ((name, [measure(images) for images in pair]) for name, measure in MEASURES.items()):
            print(f"  {name:34s}" + "".join(f" {value:9.4f}" for value in values))
        for low in range(0, 60, 6):
            ring = (low <= RADIUS) & (low + 6 > RADIUS)
            print(
                f"  mean, scatter at {low:2d}-{low + 6:2d} px       ",
                *(f" {x[:, ring].mean():.4f} {x[:, ring].std():.4f} " for x in pair),
            )
    print(f"discriminant: published {discriminant(theirs):.3f}, ours {discriminant(ours):.3f}")


def published(folder: Path, n: int) -> np.ndarray:
    """Return the first n published images, from 0 to 1."""
    return np.stack([np.asarray(Image.open(file), dtype=np.float32) for file in sorted(folder.glob("*.jpg"))[:n]]) / 255


def drawn(label: str, n: int, seed: int) -> np.ndarray:
    """Return the first n images of our recipe, rounded to the 8 bits of the published ones."""
    samples = [Sample("train", label, k) for k in range(n)]
    images = draw_images(load_recipe("test5"), seed, samples)["image"][:, 0].numpy()
    return np.round(images * 255) / 255


MEASURES = {
    "mean": lambda x: x.mean(),
    "sigma": lambda x: x.std(),
    "scatter of the images' means": lambda x: x.mean((1, 2)).std(),
    "median of the corners": lambda x: np.mean(x[:, :15, :15]),
    "scatter in the corners": lambda x: x[:, :15, :15].std((1, 2)).mean(),
    "brightest beyond 12 px, mean": lambda x: (x * (RADIUS > 12)).max((1, 2)).mean(),
    "brightest beyond 12 px, scatter": lambda x: (x * (RADIUS > 12)).max((1, 2)).std(),
}


def statistics(images: np.ndarray) -> np.ndarray:
    """Return nine numbers of each image."""
    flat = images.reshape(len(images), -1)
    total = flat.sum(1)
    moments = [(images * axis**2).sum((1, 2)) / total for axis in (AXIS[None, None], AXIS[None, :, None])]
    percentiles = np.percentile(flat, [50, 90, 99, 99.9], axis=1)
    return np.stack([flat.mean(1), flat.std(1), flat.max(1), *percentiles, *moments], axis=1)


def discriminant(images: dict[str, np.ndarray]) -> float:
    """Return the AUROC on the second half of a linear discriminant fitted to the first."""
    rows = np.concatenate([statistics(images[label]) for label in LABELS])
    target = np.repeat([0, 1], [len(images[label]) for label in LABELS])
    odd = np.arange(len(rows)) % 2 == 1
    scores = LinearDiscriminantAnalysis().fit(rows[~odd], target[~odd]).decision_function(rows[odd])
    return float(roc_auc_score(target[odd], scores))


if __name__ == "__main__":
    main()
