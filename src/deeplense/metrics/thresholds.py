"""What passes a threshold: true positives where few false ones may pass, and how sure that is."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deeplense.core.errors import InvalidOption
from deeplense.metrics import ranking
from deeplense.metrics.classification import Floats
from deeplense.metrics.intervals import wilson

ROUNDING = 1e-9  # relative: 0.07 × 100 must count as 7


def tpr_at_fpr(scores: ArrayLike, positive: ArrayLike, fpr: float) -> float:
    """Return the largest true positive rate at a false positive rate of at most `fpr`.

    Nothing is interpolated, images of equal score pass together: a threshold in the sample does what is said here.

    Parameters
    ----------
    scores
        [N] higher means more likely positive.
    positive
        [N] truth, boolean or 0/1.
    fpr
        Largest fraction of the negatives that may pass, 0 to 1.

    Raises
    ------
    InvalidOption, InvalidDataset
        See `ranking.placements`; a rate that is none.
    """
    if not 0 <= fpr <= 1:
        raise InvalidOption(f"a false positive rate of {fpr}", "a fraction from 0 to 1", "name a rate such as 0.01")
    hits, alarms = rungs(scores, positive)
    return passed(hits, alarms, allowed(alarms[-1], fpr))


def rungs(scores: ArrayLike, positive: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return [S] positives and [S] negatives with at least each of the S distinct scores, from the highest down."""
    values, truth = np.asarray(scores), np.asarray(positive).astype(bool)
    ranking.placements(values, truth)  # refuses what cannot be ranked
    order = np.argsort(-values, kind="stable")
    ranked = values[order]
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    hits = np.cumsum(truth[order])[last]
    return hits.astype(np.float64), (last + 1 - hits).astype(np.float64)


def allowed(negatives: float, rate: float) -> int:
    """Return how many of so many negatives may pass at a false positive rate."""
    return math.floor(rate * negatives * (1 + ROUNDING))


def passed(hits: Floats, alarms: Floats, most: int) -> float:
    """Return the fraction of the positives that pass where so many negatives may; none where that is negative."""
    rung = int(np.searchsorted(alarms, most, "right")) - 1
    return float(hits[rung] / hits[-1]) if rung >= 0 else 0.0


def rate_ends(hits: Floats, alarms: Floats, rate: float, value: float | None = None) -> tuple[float, float]:
    """Return the 95 % interval of a true positive rate at a false positive rate, as `anomaly_marks` explains it.

    Parameters
    ----------
    hits, alarms
        Of the sample: see `rungs`.
    rate
        False positive rate.
    value
        The true positive rate; by default the largest one there.
    """
    value = passed(hits, alarms, allowed(alarms[-1], rate)) if value is None else value
    few, many = binomial_range(int(alarms[-1]), rate)
    # `few` normal images at or above the threshold: it may be as high as the last of them.
    lower, upper = passed(hits, alarms, few - 1), passed(hits, alarms, many)
    low, high = wilson(value, int(hits[-1]))
    down, up = math.hypot(value - low, max(0.0, value - lower)), math.hypot(high - value, max(0.0, upper - value))
    return max(0.0, value - down), min(1.0, value + up)


def binomial_range(trials: int, rate: float) -> tuple[int, int]:
    """Return the smallest numbers of successes that at least 2.5 % and at least 97.5 % of all samples do not exceed."""
    number = np.arange(1, trials + 1)
    steps = np.log((trials - number + 1) / number) + math.log(rate) - math.log1p(-rate)
    below = np.cumsum(np.exp(trials * math.log1p(-rate) + np.concatenate([[0.0], np.cumsum(steps)])))
    few, many = (min(trials, int(np.searchsorted(below, level))) for level in (0.025, 0.975))
    return few, many
