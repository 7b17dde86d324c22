"""How often the most probable class is the right one, and the checks every classification mark relies on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deeplense.core.errors import InvalidDataset, InvalidOption

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.integer[Any]]


def checked(probabilities: ArrayLike, targets: ArrayLike) -> tuple[Floats, Integers]:
    """Return both arguments as arrays, once it is certain that marks can be computed from them.

    Parameters
    ----------
    probabilities
        [N, K] probability of each class, K ≥ 2, within [0, 1].
    targets
        [N] index of the true class, 0 … K - 1.

    Raises
    ------
    InvalidOption
        Shapes that do not belong together; probabilities that are not finite or not within [0, 1].
    InvalidDataset
        No image at all, or a target that is not the index of a class.
    """
    values, truth = np.asarray(probabilities), np.asarray(targets)
    if values.ndim != 2 or values.shape[1] < 2 or truth.shape != values.shape[:1]:
        raise InvalidOption(
            f"probabilities of shape {list(values.shape)} with targets of shape {list(truth.shape)}",
            "probabilities [N, K] with K ≥ 2 classes and targets [N]",
            "pass one row of class probabilities per image and one target per row",
        )
    if not len(truth):
        raise InvalidDataset("there is no image to mark", "at least one image of each class", "choose another split")
    if not np.issubdtype(truth.dtype, np.integer) or truth.min() < 0 or truth.max() >= values.shape[1]:
        raise InvalidDataset(
            f"targets of type {truth.dtype} from {truth.min()} to {truth.max()}",
            f"whole numbers from 0 to {values.shape[1] - 1}: the index of a class",
            "check that the dataset's labels are the ones the model was trained on",
        )
    # Softmax in reduced precision may overshoot 1 by a rounding error; that is no reason to refuse.
    if not np.isfinite(values).all() or values.min() < -1e-3 or values.max() > 1 + 1e-3:
        bad = int((~np.isfinite(values)).any(axis=1).sum())
        raise InvalidOption(
            f"{bad} of {len(values)} predictions are not finite" if bad else "scores outside [0, 1]",
            "finite class probabilities within [0, 1]",
            "train with a smaller --lr or in full precision" if bad else "apply a softmax first",
        )
    return values, truth


def require_every_class(targets: Integers, labels: Sequence[str]) -> None:
    """Check that each class has an image: ranking it against the rest means nothing otherwise.

    Raises
    ------
    InvalidDataset
        When `targets` lacks one of the classes; the message names those missing.
    """
    counts = np.bincount(targets, minlength=len(labels))
    absent = [label for label, count in zip(labels, counts, strict=True) if not count]
    if absent:
        raise InvalidDataset(
            f"no image of class {', '.join(absent)} among {len(targets)}",
            "at least one image of each class: " + ", ".join(labels),
            "add images of that class, or choose a split that holds some",
        )


def accuracy(probabilities: ArrayLike, targets: ArrayLike) -> float:
    """Return the fraction of images whose most probable class is the true one.

    Parameters
    ----------
    probabilities
        [N, K] probability of each class; of equal ones the first counts as predicted.
    targets
        [N] index of the true class.

    Raises
    ------
    InvalidOption, InvalidDataset
        See `checked`.
    """
    values, truth = checked(probabilities, targets)
    return float((values.argmax(axis=1) == truth).mean())


def confusion_matrix(predicted: ArrayLike, targets: ArrayLike, classes: int) -> NDArray[np.int64]:
    """Return [K, K] counts: row = true class, column = predicted class.

    Parameters
    ----------
    predicted, targets
        [N] class indices, 0 … `classes` - 1.
    classes
        K.

    Raises
    ------
    InvalidDataset
        When an index is not one of a class, or the lengths differ.
    """
    guess, truth = np.asarray(predicted), np.asarray(targets)
    both = np.concatenate([guess.ravel(), truth.ravel()])
    if guess.shape != truth.shape or guess.ndim != 1 or (both.size and not 0 <= both.min() <= both.max() < classes):
        raise InvalidDataset(
            f"predictions of shape {list(guess.shape)} and targets of shape {list(truth.shape)} for {classes} classes",
            f"two lists of equal length of class indices from 0 to {classes - 1}",
            "check that the dataset's labels are the ones the model was trained on",
        )
    cells = truth.astype(np.int64) * classes + guess.astype(np.int64)
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)
