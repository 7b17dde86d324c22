"""Probabilities made honest by a rising step function, as plain numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deeplense.core.config import Config
from deeplense.core.errors import InvalidDataset, InvalidOption

EXACT = 1e-9  # closer to 0 or 1 than any fraction of images


@dataclass(frozen=True)
class Isotonic(Config):
    """A function that never falls, linear between its knots and constant beyond them.

    Parameters
    ----------
    x
        Probabilities as a network gives them, ascending.
    y
        What they are worth.
    """

    x: tuple[float, ...]
    y: tuple[float, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        rising = all(np.all(np.diff(knots) >= 0) for knots in (self.x, self.y))
        if not self.x or len(self.x) != len(self.y) or not rising or not 0 <= self.y[0] <= self.y[-1] <= 1:
            raise InvalidOption(
                f"knots x = {self.x[:3]}…, y = {self.y[:3]}…", "as many of both, rising, y from 0 to 1", "fit it again"
            )

    def __call__(self, probabilities: ArrayLike) -> NDArray[np.float64]:
        """Return what probabilities are worth."""
        return np.asarray(np.interp(np.asarray(probabilities, np.float64), self.x, self.y))


def fit_isotonic(probabilities: ArrayLike, positive: ArrayLike) -> Isotonic:
    """Return the rising function that fits best how often an image of some probability is positive.

    No probability is 0 or 1: where all n images at an end are of one class, it is that of Laplace's rule of succession,
    (n + 1) / (n + 2), but no less sure than the images beside them are.

    Parameters
    ----------
    probabilities
        [N] of held-out images.
    positive
        [N] truth, boolean or 0/1.

    Raises
    ------
    InvalidDataset
        When there is no image, or all are of one class.

    References
    ----------
    Zadrozny & Elkan 2002, KDD, 694: isotonic regression of probabilities.
    """
    from sklearn.isotonic import IsotonicRegression

    values, truth = np.asarray(probabilities, np.float64), np.asarray(positive).astype(np.float64)
    if not len(truth) or truth.min() == truth.max():
        raise InvalidDataset(
            f"{len(truth)} images of one class to calibrate on", "held-out images of both", "choose another split"
        )
    fitted = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(values, truth)
    x, y, own = fitted.X_thresholds_, fitted.y_thresholds_, fitted.predict(values)
    never, always = (int(block.sum()) for block in (own < EXACT, own > 1 - EXACT))
    # No further than the next block: a few images at an end must not speak for the many beside them.
    y = np.where(y < EXACT, min(1 / (never + 2), y[y >= EXACT].min()), y)
    y = np.where(y > 1 - EXACT, max(1 - 1 / (always + 2), y[y <= 1 - EXACT].max()), y)
    return Isotonic(tuple(map(float, x)), tuple(map(float, y)))
