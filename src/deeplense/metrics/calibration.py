"""Whether a confidence of 90 % is right 90 % of the time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deeplense.metrics.classification import Floats, Integers, checked

BINS = 15


@dataclass(frozen=True)
class ReliabilityTable:
    """Confidence against accuracy in equal-width bins of the confidence, empty bins included.

    Parameters
    ----------
    edges
        [B + 1] limits of the bins, from 0 to 1; a bin holds its upper limit, not its lower one.
    count
        [B] images in the bin.
    confidence
        [B] their mean probability of the predicted class; NaN where the bin is empty.
    accuracy
        [B] the fraction of them predicted right; NaN where the bin is empty.
    """

    edges: NDArray[np.float64]
    count: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]


def reliability_table(probabilities: ArrayLike, targets: ArrayLike, bins: int = BINS) -> ReliabilityTable:
    """Return how confidence and accuracy compare, bin by bin.

    Parameters
    ----------
    probabilities
        [N, K] probability of each class; confidence is the largest one.
    targets
        [N] index of the true class.
    bins
        Number of equal-width bins between 0 and 1.

    Raises
    ------
    InvalidOption, InvalidDataset
        See `checked`.
    """
    confidence, right, index = _binned(*checked(probabilities, targets), bins)
    count = np.bincount(index, minlength=bins)
    full = np.where(count, count, np.nan)
    return ReliabilityTable(
        np.linspace(0, 1, bins + 1),
        count,
        np.bincount(index, confidence, minlength=bins) / full,
        np.bincount(index, right, minlength=bins) / full,
    )


def ece(probabilities: ArrayLike, targets: ArrayLike, bins: int = BINS) -> float:
    """Return the expected calibration error: the mean distance of confidence from accuracy, bins weighted by images.

    Parameters
    ----------
    probabilities
        [N, K] probability of each class; confidence is the largest one.
    targets
        [N] index of the true class.
    bins
        Number of equal-width bins between 0 and 1.

    Raises
    ------
    InvalidOption, InvalidDataset
        See `checked`.

    References
    ----------
    Guo et al. 2017, On Calibration of Modern Neural Networks, eq. 3 (arXiv:1706.04599).
    """
    return float(np.abs(gaps(*checked(probabilities, targets), bins).sum(axis=0)).sum() / len(np.asarray(targets)))


def gaps(probabilities: Floats, targets: Integers, bins: int = BINS) -> NDArray[np.float64]:
    """Return [N, B]: confidence minus correctness in the column of the image's bin, zero elsewhere.

    The expected calibration error of a resample with weights w [N] is `sum(abs(w @ gaps)) / sum(w)`.

    Parameters
    ----------
    probabilities
        [N, K].
    targets
        [N] index of the true class.
    bins
        Number of equal-width bins between 0 and 1.
    """
    confidence, right, index = _binned(probabilities, targets, bins)
    table = np.zeros((len(index), bins))
    table[np.arange(len(index)), index] = confidence - right
    return table


def calibrated_replicates(
    probabilities: Floats, targets: Integers, seed: int, resamples: int, bins: int = BINS
) -> NDArray[np.float64]:
    """Return [R] calibration errors the same confidences would show if they were exactly right.

    The error is a sum of absolute values, so that it is above zero for a perfect model too.

    Parameters
    ----------
    probabilities
        [N, K].
    targets
        [N] index of the true class; only its length matters here.
    seed
        Seed of the draws.
    resamples
        R.
    bins
        Number of equal-width bins between 0 and 1.

    References
    ----------
    Bröcker & Smith 2007, Weather and Forecasting 22, 651: consistency resampling.
    """
    confidence, _, index = _binned(probabilities, targets, bins)
    generator = np.random.default_rng(seed)
    order = np.argsort(index, kind="stable")
    starts = np.searchsorted(index[order], np.unique(index))
    chance = confidence[order]
    errors = []
    for _ in range(resamples):
        surplus = chance - (generator.random(len(chance)) < chance)
        errors.append(np.abs(np.add.reduceat(surplus, starts)).sum() / len(chance))
    return np.array(errors)


def _binned(
    probabilities: Floats, targets: Integers, bins: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.int64]]:
    confidence = probabilities.max(axis=1).astype(np.float64)
    index = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    return confidence, probabilities.argmax(axis=1) == targets, index
