"""The images that a run learns from and chooses its epoch by."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Int64

from deeplense.core.errors import InvalidDataset, InvalidOption
from deeplense.data.dataset import Dataset, open_dataset
from deeplense.data.features import choose_features, weights_of
from deeplense.data.loader import Loader
from deeplense.data.splits import Fold, few_of_each
from deeplense.data.transforms import Symmetry
from deeplense.models.network import reads_catalogue, resolve_name
from deeplense.preparation.options import TrainOptions, dataset_named
from deeplense.recipes.recipe import is_recipe, load_recipe
from deeplense.simulate import ensure, worth_compiling
from deeplense.simulation.fresh import FreshLoader, RecipeDataset


def training_images(options: TrainOptions) -> tuple[Loader, Loader]:
    """Return training and validation images: of a dataset, or drawn from a recipe."""
    name = dataset_named(options)
    if not options.fresh:
        dataset = open_dataset(ensure(name))
        features = _features(options, dataset)
        return _loader(dataset, "train", options, features), _loader(dataset, "validation", options, features)
    if options.fusion not in (None, "none"):
        raise InvalidOption("--fresh with --fusion", "a dataset with a catalogue", "leave out one of them")
    if options.limit is not None:
        raise InvalidOption(
            "--fresh with --limit", "a dataset of stored images, of which there are few", "leave out one of them"
        )
    if options.folds is not None:
        raise InvalidOption("--fresh with --folds", "a dataset of stored images to divide", "leave out one of them")
    if not is_recipe(name):
        raise InvalidOption(
            f"--fresh with '{name}'",
            "a recipe, from which new images can be drawn",
            "name a recipe such as model_ii or a recipe's TOML file, or leave --fresh out",
        )
    drawn = load_recipe(name)
    n_images = options.epochs * drawn.counts.train * len(drawn.labels)
    recipe = RecipeDataset(name, compiled=worth_compiling(n_images))
    features = _features(options, recipe)  # a recipe has none to read: whoever asks for them hears so
    fresh = FreshLoader(recipe, options.seed, options.crop, options.bands)
    return fresh, _loader(recipe, "validation", options, features)


def rows_of(dataset: Dataset, split: str, options: TrainOptions) -> Int64[np.ndarray, " M"]:
    """Return the rows of a split, of training images no more than asked for."""
    rows = dataset.indices(split, Fold.of(options.as_dict()))
    if split != "train" or options.limit is None:
        return rows
    ids: list[Any] = dataset.catalogue["id"].to_pylist()
    few = few_of_each(rows.tolist(), ids, dataset.catalogue["label"].to_pylist(), options.limit)
    return np.array(few, dtype=np.int64)


def _loader(dataset: Dataset, split: str, options: TrainOptions, features: tuple[str, ...]) -> Loader:
    """Return the labelled images of a split; every class must be in it."""
    rows = rows_of(dataset, split, options)
    labelled = rows[dataset.targets()[rows] >= 0]
    # images that are drawn come from this process: a fork of it could not run the formulas it has compiled
    loader = Loader(
        dataset,
        labelled,
        crop=options.crop,
        workers=0 if options.fresh else options.workers,
        features=features,
        bands=options.bands,
    )
    if split == "train":
        loader.balanced = options.balance == "sampling"
        if options.balance == "catalogue":
            loader.weights = torch.from_numpy(weights_of(dataset, labelled))
    present = set(loader.targets.tolist())
    if missing := [label for i, label in enumerate(dataset.labels) if i not in present]:
        raise InvalidDataset(
            f"{dataset.path} has no image of class '{missing[0]}' in its {split} split",
            "every class in every split",
            "add images of that class (at least 4, so that each split gets one), or remove the class",
        )
    return loader


def _features(options: TrainOptions, dataset: Dataset) -> tuple[str, ...]:
    """Return the columns of the catalogue that the network reads; none where it sees images alone."""
    if options.task != "find_lenses":
        return ()
    alone = reads_catalogue(options.model_source, resolve_name(options.model_source, options.model_name))
    if alone or options.fusion not in (None, "none"):
        return choose_features(dataset, options.features, options.allow_truth_features)
    if options.features or options.allow_truth_features:
        raise InvalidOption(
            "features for a network that sees images alone", "a way to join them", "add --fusion late or --fusion film"
        )
    return ()


def normal_images(dataset: Dataset, split: str, normal: str, options: TrainOptions) -> Loader:
    """Return the normal images of a split."""
    rows = rows_of(dataset, split, options)
    rows = rows[dataset.targets()[rows] == dataset.labels.index(normal)]
    if not rows.size:
        raise InvalidDataset(
            f"{dataset.path} has no image of class '{normal}' in its {split} split",
            "normal images to fit and to calibrate a detector",
            "add images of that class (at least 4, so that each split gets one), or choose another --normal",
        )
    return Loader(dataset, rows, crop=options.crop, workers=options.workers)


def symmetry_of(options: TrainOptions, dataset: Dataset, image_shape: tuple[int, int, int]) -> Symmetry:
    """Return the symmetry to augment with: as asked for, or what the dataset's recipe says is exact."""
    if options.symmetry == "d4" and image_shape[1] != image_shape[2]:
        raise InvalidOption(
            f"symmetry d4 on images of {image_shape[1]}×{image_shape[2]} pixels, which a quarter turn would not fit",
            "square images",
            "add --crop SIZE, or use --symmetry half_turn",
        )
    if options.symmetry != "auto":
        return options.symmetry
    recipe = getattr(dataset, "manifest", {}).get("recipe", {})
    symmetry: Symmetry = recipe.get("symmetry", "half_turn")
    return symmetry
