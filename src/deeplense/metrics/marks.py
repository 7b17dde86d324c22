"""The marks of a classifier, with their intervals for the record or without them for every epoch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deeplense.core.errors import InvalidOption
from deeplense.metrics import calibration, classification, ranking
from deeplense.metrics.classification import Floats, Integers
from deeplense.metrics.intervals import RESAMPLES, Interval, basic, bca, bootstrap, mean_mark, wilson
from deeplense.metrics.temperature import nll_per_image

FEW = 10  # images: with fewer in a class, resampling them says little


def point_marks(probabilities: ArrayLike, targets: ArrayLike, labels: Sequence[str]) -> dict[str, float]:
    """Return `accuracy`, `auroc_macro`, `auroc_micro`, `auroc_<class>` for each class, and `ece`.

    Parameters
    ----------
    probabilities
        [N, K] probability of each class, K ≥ 2.
    targets
        [N] index of the true class.
    labels
        K class names.

    Raises
    ------
    InvalidOption
        Shapes that do not belong together, probabilities that are not finite, names that are not distinct.
    InvalidDataset
        No image, a class without an image, a target that is not the index of a class.
    """
    values, truth = _checked(probabilities, targets, labels)
    areas = ranking.auroc_per_class(values, truth)
    return {
        "accuracy": classification.accuracy(values, truth),
        "auroc_macro": float(areas.mean()),
        "auroc_micro": ranking.auroc_micro(values, truth),
        **{f"auroc_{label}": float(area) for label, area in zip(labels, areas, strict=True)},
        "ece": calibration.ece(values, truth),
    }


def classification_marks(
    probabilities: ArrayLike,
    targets: ArrayLike,
    labels: Sequence[str],
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> dict[str, Interval]:
    """Return the marks of `point_marks`, each with a 95 % interval.

    Accuracy has Wilson's interval. The areas under the ROC curve have the BCa bootstrap interval, images resampled
    within each class. The expected calibration error has the basic bootstrap interval, whose lower end is 0 where a
    perfectly calibrated model would show an error as large in one of forty cases.

    Resampling cannot speak where nothing varies: at an area of exactly 0 or 1, or when one side has fewer than 10
    images. There the area is a fraction of wins among m independent (positive, negative) pairs, m being the size of
    the smaller side (for the micro average, whose two sides share their images, half the images), and Wilson's
    interval for m trials holds whatever the distribution: its lower end at a perfect 1 is m / (m + 3.84).

    Parameters
    ----------
    probabilities
        [N, K] probability of each class, K ≥ 2.
    targets
        [N] index of the true class.
    labels
        K class names.
    seed
        Seed of the resampling.
    resamples
        Number of bootstrap resamples.

    Raises
    ------
    InvalidOption, InvalidDataset
        See `point_marks`.

    References
    ----------
    Hoeffding 1948, Ann. Math. Stat. 19, 293, eq. 5.13: an area varies no more than the mean of m disjoint pairs.
    Obuchowski & Lieber 2002, Academic Radiology 9, 526: bounds for an area of 1.
    """
    values, truth = _checked(probabilities, targets, labels)
    points, images, classes = point_marks(values, truth, labels), len(truth), len(labels)
    found = [ranking.placements(values[:, k], truth == k) for k in range(classes)]
    found.append(ranking.micro_placements(values, truth))
    gaps = calibration.gaps(values, truth)
    replicates = bootstrap(partial(_resampled, found, gaps), truth, seed, resamples)

    effects = [ranking.influence(each, images) for each in found]
    sizes = np.bincount(truth, minlength=classes)
    pairs = [int(min(size, images - size)) for size in sizes]
    ends = {"accuracy": wilson(points["accuracy"], images)}
    for k, label in enumerate(labels):
        name = f"auroc_{label}"
        ends[name] = _area_ends(points[name], pairs[k], replicates[:, k], effects[k], truth)
    ends["auroc_micro"] = _area_ends(
        points["auroc_micro"], max(1, images // 2), replicates[:, classes], effects[classes], truth
    )
    ends["auroc_macro"] = _area_ends(
        points["auroc_macro"],
        min(pairs),
        replicates[:, :classes].mean(axis=1),
        np.mean(effects[:classes], axis=0),
        truth,
    )
    perfect = calibration.calibrated_replicates(values, truth, seed, resamples)
    ends["ece"] = _ece_ends(points["ece"], points["accuracy"], replicates[:, -1], perfect, images)
    return {name: Interval(value, *ends[name], images) for name, value in points.items()}


def ece_mark(probabilities: ArrayLike, targets: ArrayLike, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """Return the expected calibration error with the interval that `classification_marks` gives it; same arguments."""
    values, truth = classification.checked(probabilities, targets)
    gaps, value = calibration.gaps(values, truth), calibration.ece(values, truth)
    replicates = bootstrap(partial(_resampled, (), gaps), truth, seed, resamples)[:, -1]
    perfect = calibration.calibrated_replicates(values, truth, seed, resamples)
    ends = _ece_ends(value, classification.accuracy(values, truth), replicates, perfect, len(truth))
    return Interval(value, *ends, len(truth))


def nll_mark(probabilities: ArrayLike, targets: ArrayLike, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """Return the mean negative log-likelihood [nat] with its BCa bootstrap interval.

    Parameters
    ----------
    probabilities
        [N, K] probability of each class.
    targets
        [N] index of the true class.
    seed
        Seed of the resampling.
    resamples
        Number of bootstrap resamples.

    Raises
    ------
    InvalidOption, InvalidDataset
        See `classification.checked`.
    """
    return mean_mark(nll_per_image(probabilities, targets), np.asarray(targets), seed, resamples)


def auroc_mark(scores: ArrayLike, positive: ArrayLike, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """Return the area under one ROC curve with the interval that `classification_marks` gives such areas.

    Parameters
    ----------
    scores
        [N] higher means more likely positive.
    positive
        [N] truth, boolean or 0/1.
    seed
        Seed of the resampling.
    resamples
        Number of bootstrap resamples.

    Raises
    ------
    InvalidOption, InvalidDataset
        See `ranking.placements`.
    """
    truth = np.asarray(positive).astype(np.int64)
    found = ranking.placements(scores, truth)
    value, images = ranking.area(found), len(truth)
    pairs = int(min(truth.sum(), images - truth.sum()))
    replicates = bootstrap(lambda weights: ranking.resampled_area(found, weights)[:, None], truth, seed, resamples)
    ends = _area_ends(value, pairs, replicates[:, 0], ranking.influence(found, images), truth)
    return Interval(value, *ends, images)


def _resampled(found: Sequence[ranking.Placements], gaps: Floats, weights: Floats) -> NDArray[np.float64]:
    errors = np.abs(weights @ gaps).sum(axis=1) / weights.sum(axis=1)
    return np.stack([*(ranking.resampled_area(each, weights) for each in found), errors], axis=1)


def _area_ends(value: float, pairs: int, replicates: Floats, effects: Floats, strata: Integers) -> tuple[float, float]:
    if pairs < FEW or value in (0.0, 1.0):
        return wilson(value, pairs)
    return bca(value, replicates, effects, strata)


def _ece_ends(value: float, accuracy: float, replicates: Floats, perfect: Floats, images: int) -> tuple[float, float]:
    low, high = basic(value, replicates)
    if accuracy in (0.0, 1.0):  # every image alike: what the next one might do is known from their number alone
        slack = 1 - wilson(1.0, images)[0]
        low, high = min(low, value - slack), max(high, value + slack)
    # The tolerance: equal values may differ by the rounding of sums taken in another order.
    if value <= float(np.quantile(perfect, 0.975)) + 1e-12:
        low = 0.0
    return max(0.0, low), min(1.0, high)


def _checked(probabilities: ArrayLike, targets: ArrayLike, labels: Sequence[str]) -> tuple[Floats, Integers]:
    values, truth = classification.checked(probabilities, targets)
    if len(labels) != values.shape[1] or len(set(labels)) != len(labels) or {"macro", "micro"} & set(labels):
        raise InvalidOption(
            f"the class names {', '.join(map(str, labels))} for {values.shape[1]} classes",
            "one name per class, all different, none of them 'macro' or 'micro'",
            "rename the classes of the dataset",
        )
    classification.require_every_class(truth, labels)
    return values, truth
