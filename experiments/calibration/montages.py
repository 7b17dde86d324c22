"""Pictures of docs/recipes.md: a few images of each class of a recipe.

Run as `python experiments/calibration/montages.py [--test5 FOLDER PICTURE]`; FOLDER holds the published test-5 images,
which are not ours to ship: PICTURE, which shows them beside ours, is to stay outside the project.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib
import numpy as np
import torch

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from PIL import Image

from deeplense.recipes.draw import draw_images
from deeplense.recipes.recipe import Recipe, Sample, load_recipe

OUT = Path(__file__).parents[2] / "docs" / "figures"
COLUMNS = 8
PAGES = {
    "physical": ("model_i_physical", "model_ii_physical", "model_iii_physical"),
    "galaxy_scale": ("galaxy_scale",),
    "common_test": ("common_test",),
    "test5": ("test5",),
    "lens_finding": ("lens_finding", "lens_finding_4band"),
}


def main() -> None:
    """Make every picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--test5", type=Path, nargs=2, help="published test-5 images, picture to write")
    options = parser.parse_args()
    torch.set_num_threads(1)
    OUT.mkdir(exist_ok=True)
    for page, names in PAGES.items():
        rows = {}
        for recipe in map(load_recipe, names):
            for label in recipe.labels:
                samples = [Sample("train", label, k) for k in range(COLUMNS)]
                images = draw_images(recipe, 0, samples)["image"].numpy()
                name = recipe.name.removesuffix("_physical").replace("_4band", "\n4 bands")
                rows[f"{name}\n{label}"] = [shown(recipe, image) for image in images]
        picture(rows, OUT / f"recipes_{page}.png", 5 if len(rows) > 6 else COLUMNS)
    picture(pairs(), OUT / "recipes_super_resolution.png")
    if options.test5:
        picture(beside(options.test5[0]), options.test5[1])


def shown(recipe: Recipe, image: np.ndarray) -> np.ndarray:
    """Return the image as a picture from 0 to 1: arcsinh of signal over noise, or of the peak where it is scaled."""
    if recipe.observation.rescale == "min_max":
        return np.sqrt(image[0])
    instruments = recipe.instruments()
    sigma = np.array([instrument.background_sigma() for instrument in instruments])[:, None, None]
    if len(image) == 1:
        softening = max(3 * sigma.item(), float(np.percentile(image, 99.5)) / 15)
        stretched = np.arcsinh(image[0] / softening)
        return np.clip((stretched + 0.35) / (np.percentile(stretched, 99.9) + 0.35), 0, 1)
    flux = image / np.array([instrument.electron_rate(22.5) for instrument in instruments])[:, None, None]
    red, green, blue = flux[3] / 1.5, flux[2], flux[1] * 2.0  # i, r, g
    mean = (red + green + blue) / 3
    stretch = np.arcsinh(np.clip(mean, 1e-4, None) / 0.006) / 4.5 / np.clip(mean, 1e-4, None)  # Lupton et al. 2004
    color = np.stack([red, green, blue], -1) * stretch[..., None] + 0.04
    return np.clip(color / np.maximum(color.max(-1, keepdims=True), 1), 0, 1)


def pairs() -> dict[str, list[np.ndarray]]:
    """Return rows of super-resolution pairs and their truth."""
    recipe = load_recipe("super_resolution")
    arrays = draw_images(recipe, 0, [Sample("train", "lens", k) for k in range(COLUMNS)])
    names = {"low": "75 px", "image": "150 px", "truth": "truth"}
    return {text: [np.sqrt(np.clip(image[0], 0, 1)) for image in arrays[name].numpy()] for name, text in names.items()}


def beside(folder: Path) -> dict[str, list[np.ndarray]]:
    """Return rows of published and of our test-5 images."""
    rows = {}
    for label in ("no_sub", "sub"):
        files = sorted((folder / label).glob("*.jpg"))[:COLUMNS]
        rows[f"published\n{label}"] = [np.sqrt(np.asarray(Image.open(file)) / 255) for file in files]
        samples = [Sample("train", label, k) for k in range(COLUMNS)]
        ours = draw_images(load_recipe("test5"), 0, samples)["image"].numpy()
        rows[f"ours\n{label}"] = [np.sqrt(image[0]) for image in ours]
    return rows


def picture(rows: dict[str, list[np.ndarray]], path: Path, columns: int = COLUMNS) -> None:
    """Write a grid of pictures, one row per name."""
    size = 1.1
    figure, axes = plt.subplots(len(rows), columns, figsize=(size * columns + 0.9, size * len(rows)), squeeze=False)
    for (name, images), line in zip(rows.items(), axes, strict=True):
        for image, axis in zip(images[:columns], line, strict=True):
            axis.imshow(image, origin="lower", cmap="inferno", vmin=0, vmax=1, interpolation="nearest")
            axis.set(xticks=[], yticks=[])
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
    figure.subplots_adjust(
        left=0.9 / figure.get_figwidth(), right=0.999, bottom=0.002, top=0.998, wspace=0.03, hspace=0.03
    )
    figure.savefig(path, dpi=80)
    plt.close(figure)
    Image.open(path).convert("RGB").quantize(256).save(path, optimize=True)
    print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
