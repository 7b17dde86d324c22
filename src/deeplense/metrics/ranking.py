"""How well scores rank one class above the rest: ROC curves and the area under them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deeplense.core.errors import InvalidDataset, InvalidOption
from deeplense.metrics.classification import Floats, Integers


@dataclass(frozen=True)
class RocCurve:
    """Points of a ROC curve, from (0, 0) to (1, 1); points on a straight line between two others are left out.

    Parameters
    ----------
    false_positive_rate
        [P] fraction of the negatives with a score of at least `threshold`, ascending.
    true_positive_rate
        [P] fraction of the positives with a score of at least `threshold`, ascending.
    threshold
        [P] descending; the first one, infinity, lets nothing through.
    """

    false_positive_rate: NDArray[np.float64]
    true_positive_rate: NDArray[np.float64]
    threshold: NDArray[np.float64]


@dataclass(frozen=True)
class Placements:
    """Where every positive stands among the sorted negatives: all that the area under the ROC curve depends on.

    Parameters
    ----------
    positives
        [P] index of the image each positive score belongs to.
    negatives
        [N] index of the image each negative score belongs to, by ascending score.
    below
        [P] number of negatives that score lower than the positive.
    upto
        [P] number of negatives that score lower or the same.
    """

    positives: NDArray[np.intp]
    negatives: NDArray[np.intp]
    below: NDArray[np.intp]
    upto: NDArray[np.intp]


def placements(scores: ArrayLike, positive: ArrayLike) -> Placements:
    """Return the placements of the positives among the negatives.

    Parameters
    ----------
    scores
        [N] higher means more likely positive.
    positive
        [N] truth, boolean or 0/1.

    Raises
    ------
    InvalidOption
        When the shapes differ or a score is NaN.
    InvalidDataset
        When all images are positive, or none.
    """
    values, truth = _checked(scores, positive)
    inside, outside = np.flatnonzero(truth), np.flatnonzero(~truth)
    # Sorted positives make the look-ups in the negatives' running sum walk through memory in order.
    inside = inside[np.argsort(values[inside], kind="stable")]
    outside = outside[np.argsort(values[outside], kind="stable")]
    ladder = values[outside]
    return Placements(
        inside,
        outside,
        np.searchsorted(ladder, values[inside], "left"),
        np.searchsorted(ladder, values[inside], "right"),
    )


def micro_placements(probabilities: Floats, targets: Integers) -> Placements:
    """Return the placements of all true-class probabilities among all the other probabilities, classes pooled.

    Parameters
    ----------
    probabilities
        [N, K].
    targets
        [N] index of the true class.
    """
    classes = probabilities.shape[1]
    pooled = placements(probabilities.ravel(), (targets[:, None] == np.arange(classes)).ravel())
    return Placements(pooled.positives // classes, pooled.negatives // classes, pooled.below, pooled.upto)


def area(found: Placements) -> float:
    """Return the area under the ROC curve, in exact integer arithmetic up to the final division.

    Parameters
    ----------
    found
        Placements of the positives.
    """
    pairs = len(found.positives) * len(found.negatives)
    return (int(found.below.sum()) + int(found.upto.sum())) / (2 * pairs)


def resampled_area(found: Placements, weights: Floats) -> NDArray[np.float64]:
    """Return the area under the ROC curve for each of R resamples, without sorting again.

    Parameters
    ----------
    found
        Placements of the positives in the original sample.
    weights
        [R, N] how often each image was drawn.
    """
    ladder = np.zeros((len(weights), len(found.negatives) + 1))
    np.cumsum(weights[:, found.negatives], axis=1, out=ladder[:, 1:])
    drawn = weights[:, found.positives]
    won = np.einsum("rp,rp->r", drawn, ladder[:, found.below]) + np.einsum("rp,rp->r", drawn, ladder[:, found.upto])
    return np.asarray(won / (2 * drawn.sum(axis=1, dtype=np.float64) * ladder[:, -1]))


def influence(found: Placements, images: int) -> NDArray[np.float64]:
    """Return [N] the first-order effect of each image on the area, up to a constant: what intervals are built from.

    Parameters
    ----------
    found
        Placements of the positives.
    images
        N.

    References
    ----------
    The structural components of DeLong, DeLong & Clarke-Pearson 1988, Biometrics 44, 837.
    """
    area_here, positives, negatives = area(found), len(found.positives), len(found.negatives)
    won = (found.below + found.upto) / (2 * negatives)
    rank = np.arange(negatives)
    # `below` and `upto` ascend, because the positives do: count those that the negative at `rank` loses to or ties.
    lost = np.searchsorted(found.below, rank, "right") + np.searchsorted(found.upto, rank, "right")
    beaten = 1 - lost / (2 * positives)
    effect = np.bincount(found.positives, (won - area_here) / positives, minlength=images)
    return np.asarray(effect + np.bincount(found.negatives, (beaten - area_here) / negatives, minlength=images))


def auroc(scores: ArrayLike, positive: ArrayLike) -> float:
    """Return the probability that a positive scores higher than a negative, equal scores counting one half.

    Parameters
    ----------
    scores
        [N] higher means more likely positive.
    positive
        [N] truth, boolean or 0/1.

    Raises
    ------
    InvalidOption, InvalidDataset
        See `placements`.

    References
    ----------
    Hanley & McNeil 1982, Radiology 143, 29: the area under the ROC curve is the Mann-Whitney statistic.
    """
    return area(placements(scores, positive))


def auroc_per_class(probabilities: Floats, targets: Integers) -> NDArray[np.float64]:
    """Return [K] areas under the ROC curve, each class against all the others.

    Their mean is the macro average.

    Parameters
    ----------
    probabilities
        [N, K].
    targets
        [N] index of the true class.

    Raises
    ------
    InvalidOption, InvalidDataset
        See `placements`.
    """
    return np.array([auroc(probabilities[:, k], targets == k) for k in range(probabilities.shape[1])])


def auroc_micro(probabilities: Floats, targets: Integers) -> float:
    """Return the area under the ROC curve of all (image, class) pairs pooled; arguments as in `auroc_per_class`."""
    return area(micro_placements(probabilities, targets))


def roc_curve(scores: ArrayLike, positive: ArrayLike) -> RocCurve:
    """Return the ROC curve: one point per distinct score, those on a straight line left out.

    Parameters
    ----------
    scores
        [N] higher means more likely positive.
    positive
        [N] truth, boolean or 0/1.

    Raises
    ------
    InvalidOption, InvalidDataset
        See `placements`.
    """
    values, truth = _checked(scores, positive)
    order = np.argsort(-values, kind="stable")
    values, truth = values[order], truth[order]
    last = np.flatnonzero(np.append(values[1:] != values[:-1], True))
    hits = np.concatenate([[0], np.cumsum(truth)[last]])
    alarms = np.concatenate([[0], last + 1]) - hits
    threshold = np.concatenate([[np.inf], values[last].astype(np.float64)])
    step_x, step_y = np.diff(alarms), np.diff(hits)
    turns = step_x[1:] * step_y[:-1] != step_x[:-1] * step_y[1:]
    corner = np.concatenate([[True], turns, [True]])
    return RocCurve(alarms[corner] / alarms[-1], hits[corner] / hits[-1], threshold[corner])


def _checked(scores: ArrayLike, positive: ArrayLike) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    values, truth = np.asarray(scores), np.asarray(positive).astype(bool)
    if values.ndim != 1 or values.shape != truth.shape or np.isnan(values).any():
        raise InvalidOption(
            f"scores of shape {list(values.shape)} ({int(np.isnan(values).sum())} of them NaN) for {truth.size} truths",
            "one score per image, none of them NaN",
            "look at what the model returns: after a diverged training, train again with a smaller --lr",
        )
    if truth.all() or not truth.any():
        raise InvalidDataset(
            f"{int(truth.sum())} positive and {int((~truth).sum())} negative images",
            "at least one of each: a ranking of one kind against the other",
            "add images of the missing kind, or choose a split that holds some",
        )
    return values, truth
