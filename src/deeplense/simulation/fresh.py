"""Images that are never stored: a recipe as a dataset, and a loader that draws new ones every epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float32, Int64

from deeplense.core.compiled import Runner
from deeplense.data.bands import band_names
from deeplense.data.dataset import IMAGE, Dataset
from deeplense.data.loader import Batch, Loader
from deeplense.data.transforms import part_taken
from deeplense.recipes.draw import compile_formulas, draw_images
from deeplense.recipes.recipe import Sample, load_recipe

DRAWN_AT_ONCE = 1024
SEED = 0  # of the validation and test images: those of `deeplense simulate` at its defaults


class RecipeDataset(Dataset):
    """A recipe as a dataset: every image is drawn when it is asked for.

    Parameters
    ----------
    recipe
        Name of a recipe or its TOML file.
    compiled
        Compile the formulas.
    """

    layout: ClassVar[str] = "recipe, drawn in memory"

    def __init__(self, recipe: str, compiled: bool) -> None:
        self.recipe, self.run = load_recipe(recipe), Runner(compiled)
        self.path, self.problems, self.labels = Path(self.recipe.name), [], self.recipe.labels
        self.image_shape, self.degradation = self.recipe.image_shape, self.recipe.pair
        self.bands = band_names(self.recipe.instrument)
        self.samples = self.recipe.samples()
        if compiled:
            compile_formulas(self.recipe, self.run)
        self.manifest: dict[str, Any] = {"recipe": self.recipe.as_dict(), "seed": SEED, "compiled": compiled}
        names = ("id", "label", "split")
        text = pa.string()  # also where there is no image
        self.catalogue = pa.table(
            {name: pa.array([getattr(sample, name) for sample in self.samples], text) for name in names}
        )

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """No path is one: it is asked for by name."""
        return False

    @property
    def array_shapes(self) -> dict[str, tuple[int, int, int]]:
        """The shape of each array that would be stored of an image."""
        return self.recipe.array_shapes()

    def images(self, indices: Sequence[int] | Int64[np.ndarray, " B"]) -> Float32[np.ndarray, "B C H W"]:
        """Return images by row."""
        return self.array(IMAGE, indices)

    def array(self, name: str, indices: Sequence[int] | Int64[np.ndarray, " B"]) -> Float32[np.ndarray, "B C H W"]:
        """Return an array by row."""
        samples = [self.samples[int(index)] for index in indices]
        return draw_images(self.recipe, SEED, samples, self.run)[name].numpy()


class FreshLoader(Loader):
    """The training images of a recipe, new ones in every epoch: as many as the recipe says, and none twice.

    Parameters
    ----------
    dataset
        The recipe.
    seed
        Seed of the images.
    crop, bands
        As of `Loader`.
    """

    def __init__(self, dataset: RecipeDataset, seed: int, crop: int | None = None, bands: Sequence[str] = ()) -> None:
        super().__init__(dataset, dataset.indices("train"), crop=crop, bands=bands)
        self.recipe, self.samples = dataset.recipe, dataset.samples
        self.seed, self.epoch, self.run = seed, 0, dataset.run

    def begin_epoch(self, epoch: int) -> None:
        """Draw the images of an epoch from now on."""
        self.epoch = epoch

    def batches(self, positions: Sequence[Int64[np.ndarray, " B"]]) -> Iterator[Batch]:
        """Yield one batch per array of positions, in that order; many batches are drawn at once."""
        many = max(1, DRAWN_AT_ONCE // max(1, len(positions[0]))) if positions else 1
        for first in range(0, len(positions), many):
            some = positions[first : first + many]
            images = self._draw(np.concatenate(some))
            for where, part in zip(some, torch.split(images, [len(where) for where in some]), strict=True):
                yield self._batch({IMAGE: part}, where)

    def sample(self, n: int) -> Float32[torch.Tensor, "n C H W"]:
        """Return n images of the first epoch, or all if there are fewer."""
        return self._draw(np.unique(np.linspace(0, len(self) - 1, min(n, len(self))).astype(np.int64)))

    def _draw(self, positions: Int64[np.ndarray, " B"]) -> Float32[torch.Tensor, "B C H W"]:
        known = [self.samples[int(row)] for row in self.rows[positions]]
        first = self.epoch * self.recipe.counts.train
        samples = [Sample("fresh", sample.label, first + sample.k) for sample in known]
        return part_taken(draw_images(self.recipe, self.seed, samples, self.run)[IMAGE], self.bands, self.crop)
