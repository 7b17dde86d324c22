"""How well one number tells a class, how far two samples differ, and how often chance would do the same."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeplense.metrics.intervals import Interval, Z
from deeplense.metrics.ranking import area, placements

Numbers = NDArray[np.float64]
Truths = NDArray[np.bool_]
BISECTIONS = 60


@dataclass(frozen=True)
class Separation:
    """How well one number tells a class from the rest.

    Parameters
    ----------
    area
        Area under the ROC curve, of whichever direction is above one half.
    larger
        Whether the class has the larger numbers.
    p
        Chance of an area at least this far from one half, were the number to say nothing.
    """

    area: Interval
    larger: bool
    p: float


def separation(values: Numbers, positive: Truths, fold: bool = True) -> Separation | None:
    """Return how well `values` tell the positives, where they are finite; None where one side has none.

    Parameters
    ----------
    values
        [N] NaN where unknown.
    positive
        [N] truth.
    fold
        Whether small values may mean positive too.

    References
    ----------
    The chance is that of the Mann-Whitney statistic, normal approximation without the correction for ties, which would
    make it smaller.
    """
    known = np.isfinite(values)
    truth = positive[known]
    m, n = int(truth.sum()), int((~truth).sum())
    if not m or not n:
        return None
    found = area(placements(values[known], truth))
    larger = found >= 0.5
    score = abs(found - 0.5) / math.sqrt((m + n + 1) / (12 * m * n))
    best = found if larger or not fold else 1 - found
    return Separation(area_interval(best, m, n), larger, math.erfc(score / math.sqrt(2)))


def area_interval(value: float, positives: int, negatives: int) -> Interval:
    """Return an area under the ROC curve with its 95 % score interval, which does not collapse at 1.

    Parameters
    ----------
    value
        The area.
    positives, negatives
        Images behind it.

    References
    ----------
    Newcombe 2006, Statistics in Medicine 25, 559, method 5: the variance of Hanley & McNeil 1982 with both sample sizes
    set to their mean in its inner terms, taken at the ends of the interval.
    """
    inner = (positives + negatives) / 2 - 1

    def beyond(end: float) -> float:
        spread = 1 + inner * ((1 - end) / (2 - end) + end / (1 + end))
        return abs(value - end) - Z * math.sqrt(max(end * (1 - end), 0) * spread / (positives * negatives))

    return Interval(value, _end(beyond, 0.0, value), _end(beyond, 1.0, value), positives + negatives)


def _end(beyond: Callable[[float], float], outside: float, inside: float) -> float:
    """Return where `beyond` turns from positive (outside) to negative (inside)."""
    for _ in range(BISECTIONS):
        middle = (outside + inside) / 2
        outside, inside = (middle, inside) if beyond(middle) > 0 else (outside, middle)
    return inside


def tendency(words: NDArray[Any], positive: Truths) -> Numbers:
    """Return [N] how often each word goes with the positives, counted on the other half of the rows.

    So a word that few rows share cannot tell a class by having been counted on those rows.

    Parameters
    ----------
    words
        [N] any values that can be compared.
    positive
        [N] truth.
    """
    places = np.unique(words.astype(str), return_inverse=True)[1]
    halves = np.random.default_rng(0).permutation(len(words)) % 2
    result = np.full(len(words), float(positive.mean()))
    for half in (0, 1):
        counted, asked = halves != half, halves == half
        total = np.bincount(places[counted], minlength=places.max() + 1)
        hits = np.bincount(places[counted & positive], minlength=places.max() + 1)
        rate = (hits + result[0]) / (total + 1)  # a rare word stays near what all have
        result[asked] = rate[places[asked]]
    return result


def kolmogorov_smirnov(one: Numbers, other: Numbers) -> tuple[float, float]:
    """Return the largest distance between two cumulative distributions, and its chance were both samples of one.

    Parameters
    ----------
    one, other
        Finite numbers, at least one each.

    References
    ----------
    Stephens 1970, J. R. Stat. Soc. B 32, 115: the asymptotic law with his correction for small samples.
    """
    one, other = np.sort(one), np.sort(other)
    steps = np.concatenate([one, other])
    shares = [np.searchsorted(sample, steps, "right") / len(sample) for sample in (one, other)]
    distance = float(np.abs(shares[0] - shares[1]).max())
    size = math.sqrt(len(one) * len(other) / (len(one) + len(other)))
    scaled = (size + 0.12 + 0.11 / size) * distance
    if scaled < 0.2:  # where the series converges slowly, to 1
        return distance, 1.0
    p = 2 * sum((-1) ** (k - 1) * math.exp(-2 * (k * scaled) ** 2) for k in range(1, 101))
    return distance, min(1.0, max(0.0, p))
