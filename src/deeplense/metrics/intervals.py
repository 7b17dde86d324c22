"""How sure a mark is: resampling of images, and 95 % intervals that do not collapse at the ends of the scale."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from deeplense.core.errors import InvalidDataset
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

    @property
    def decimals(self) -> int:
        """Decimals worth printing, 2 to 6: two digits of the interval's half-width up to 0.…35, above that one.

        References
        ----------
        Review of Particle Physics, section 5.3 of the introduction (rounding).
        """
        half = (self.high - self.low) / 2
        return min(6, max(2, math.ceil(math.log10(3.5 / half)))) if half > 0 else 4

    def __str__(self) -> str:
        places = self.decimals
        return f"{self.value:.{places}f} [{self.low:.{places}f}, {self.high:.{places}f}]"


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


def bca(value: float, replicates: Floats, influence: Floats, strata: Integers) -> tuple[float, float]:
    """Return the bias-corrected and accelerated 95 % interval.

    Near 1 the plain percentile interval of an AUROC misses the true value several times too often, always from
    above; this one stays close to 95 %.

    Parameters
    ----------
    value
        The statistic on the whole sample.
    replicates
        [R] its bootstrap replicates.
    influence
        [N] first-order effect of each image on the statistic, up to a constant per stratum.
    strata
        [N] group of each image, as used for the replicates.

    References
    ----------
    Efron 1987, JASA 82, 171; the acceleration for several samples is that of Davison & Hinkley 1997, eq. 5.29.
    """
    groups = np.unique(strata, return_inverse=True)[1]
    means = np.bincount(groups, influence) / np.bincount(groups)
    centred = influence - means[groups]
    spread = float((centred**2).sum())
    if spread <= 0:
        return value, value
    acceleration = float((centred**3).sum()) / (6 * spread**1.5)
    draws = len(replicates)
    # Equal counts half: a statistic of few distinct values would otherwise look biased.
    below = float((replicates < value).sum() + (replicates == value).sum() / 2) / draws
    normal = NormalDist()
    bias = normal.inv_cdf(min(max(below, 0.5 / draws), 1 - 0.5 / draws))
    ends = [bias + sign * Z for sign in (-1, 1)]
    # Past this point the correction turns back on itself; only a handful of images can bring it there.
    levels = [normal.cdf(bias + end / max(1 - acceleration * end, 0.05)) for end in ends]
    low, high = (float(q) for q in np.quantile(replicates, levels))
    return min(low, value), max(high, value)


def mean_mark(values: Floats, strata: Integers, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """Return the mean of one number per image with its BCa bootstrap interval.

    Parameters
    ----------
    values
        [N].
    strata
        [N] group of each image, within which images are resampled.
    seed
        Seed of the resampling.
    resamples
        Number of bootstrap resamples.
    """
    value, images = float(values.mean()), len(values)
    replicates = bootstrap(lambda weights: (weights @ values)[:, None] / images, strata, seed, resamples)[:, 0]
    return Interval(value, *bca(value, replicates, values / images, strata), images)


def mean_interval(values: Floats, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """Return the mean of one number per image with its BCa bootstrap interval, all images being of one kind.

    Parameters
    ----------
    values
        [N].
    seed
        Seed of the resampling.
    resamples
        Number of bootstrap resamples.

    Raises
    ------
    InvalidDataset
        When there is no image, or one without a finite value.
    """
    marks, images = np.asarray(values, np.float64), len(values)
    finite = int(np.isfinite(marks).sum())
    if not images or finite < images:
        raise InvalidDataset(
            f"{finite} finite marks of {images} images", "at least one, and all finite", "leave the others out"
        )
    return mean_mark(marks, np.zeros(images, np.int64), seed, resamples)


def basic(value: float, replicates: Floats) -> tuple[float, float]:
    """Return the basic bootstrap interval, which mirrors the replicates about the value and so undoes their bias.

    Parameters
    ----------
    value
        The statistic on the whole sample.
    replicates
        [R] its bootstrap replicates.

    References
    ----------
    Davison & Hinkley 1997, Bootstrap Methods and their Application, eq. 5.6.
    """
    low, high = (float(q) for q in np.quantile(replicates, [0.025, 0.975]))
    return min(2 * value - high, value), max(2 * value - low, value)
