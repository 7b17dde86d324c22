"""Recipe `test5` beside the published images: simple statistics, radial profiles, a linear discriminant, smooth lenses.

Run as `python experiments/calibration/test5.py FOLDER`; FOLDER holds no_sub/ and sub/ with the published JPEGs. The
discriminant has nine statistics of each image: mean, standard deviation, largest pixel, median, 90th, 99th and 99.9th
percentile, and the second moments of the light along both axes. The published value is an AUROC near .70. With `--fit
100` the smooth lens of `experiments/test5_survey.toml`, nearly everything free, is fitted to the central pixels of the
first 100 images of each class.
"""

from __future__ import annotations

import argparse
import tomllib
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import roc_auc_score

from deeplense.data.transforms import centre_crop
from deeplense.inverse.lens_fitter import LensFitter
from deeplense.recipes.draw import draw_images
from deeplense.recipes.recipe import Sample, load_recipe

AXIS = np.arange(150) - 74.5
RADIUS = np.hypot(AXIS[None], AXIS[:, None])
LABELS = ("no_sub", "sub")
SURVEY, CROP = Path(__file__).parents[1] / "test5_survey.toml", 100


def main() -> None:
    """Print both columns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=1000, help="of each class")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fit", type=int, default=0, help="of each class: images to fit a smooth lens to")
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
    if options.fit:
        for owner, images in (("published", theirs), ("ours", ours)):
            for label in LABELS:
                print(f"smooth lenses, {owner} {label}: mean, scatter, 5 and 95 %")
                for name, values in smooth_lenses(images[label][: options.fit]).items():
                    numbers = values.mean(), values.std(), *np.percentile(values, [5, 95])
                    print(f"  {name:34s}" + "".join(f" {number:9.4f}" for number in numbers))


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


def smooth_lenses(images: np.ndarray) -> dict[str, np.ndarray]:
    """Return the parameters of the smooth lenses fitted to images, and the rms of what they leave [counts of 255]."""
    fitter = LensFitter((1, CROP, CROP), tomllib.loads(SURVEY.read_text()))
    pixels = centre_crop(torch.from_numpy(images)[:, None].float(), CROP).contiguous()
    found = fitter.fit(pixels)
    known = dict(zip(fitter.lens.names, found.theta.T.numpy(), strict=True))
    return known | {"residual": 255 * (pixels - found.mean).square().mean((1, 2, 3)).sqrt().numpy()}


if __name__ == "__main__":
    main()
