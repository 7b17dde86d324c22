"""How sure a mark is: 95 % intervals by resampling the images, honest at the ends of the scale."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from deeplense.metrics.classification import Floats, Integers

Z = 1.959963984540054  # 97.5 % quantile of the normal distribution
RESAMPLES = 1000
_CELLS = 2_000_000  # weights in memory at a time: 16 MB, and a few times that in the statistics


@dataclass(frozen=True)
class Interval:
    """A mark with its 95 % interval.

    Parameters
    ----------
    value
        The mark on the whole sample.
    low, high
        Ends of the interval, `low` ≤ `value` ≤ `high`.
    n
        Number of images behind it.
    """

    value: float
    low: float
    high: float
    n: int

    def as_dict(self) -> dict[str, float]:
        """Return the four numbers by name, as `metrics.json` stores them."""
        return asdict(self)


def wilson(fraction: float, trials: int) -> tuple[float, float]:
    """Return the 95 % score interval of a proportion; unlike the bootstrap's it does not collapse at 0 and 1.

    Parameters
    ----------
    fraction
        Proportion of successes.
    trials
        Number of independent trials, at least 1.

    References
    ----------
    Wilson 1927, JASA 22, 209; recommended by Brown, Cai & DasGupta 2001, Statistical Science 16, 101.
    """
    centre = (fraction + Z**2 / (2 * trials)) / (1 + Z**2 / trials)
    half = Z / (1 + Z**2 / trials) * math.sqrt(fraction * (1 - fraction) / trials + (Z / (2 * trials)) ** 2)
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    # At the ends rounding would otherwise leave the value itself just outside.
    return min(low, fraction), max(high, fraction)


def bootstrap(
    statistic: Callable[[Floats], Floats], strata: Integers, seed: int, resamples: int = RESAMPLES
) -> NDArray[np.float64]:
    """Return [R, S] replicates of S statistics, the images drawn with replacement within each stratum.

    Parameters
    ----------
    statistic
        Takes [r, N] weights (how often each image was drawn), returns [r, S].
    strata
        [N] group of each image, 0 … G - 1; every resample holds as many of a group as the sample does, so that no
        class can vanish.
    seed
        Seed of the draws.
    resamples
        R.

    References
    ----------
    Efron & Tibshirani 1993, An Introduction to the Bootstrap, chapters 8 and 13.
    """
    generator = np.random.default_rng(seed)
    rows = max(1, min(resamples, _CELLS // len(strata)))
    members = [np.flatnonzero(strata == group) for group in np.unique(strata)]
    chunks = []
    for start in range(0, resamples, rows):
        size = min(rows, resamples - start)
        weights = np.empty((size, len(strata)))
        for inside in members:
            weights[:, inside] = _draw(generator, size, len(inside))
        chunks.append(statistic(weights))
    return np.concatenate(chunks).astype(np.float64)


def _draw(generator: np.random.Generator, rows: int, images: int) -> NDArray[np.int64]:
    picked = generator.integers(0, images, size=(rows, images))
    picked += np.arange(rows)[:, None] * images
    return np.bincount(picked.ravel(), minlength=rows * images).reshape(rows, images)
