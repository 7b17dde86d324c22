"""How faint a signal is still found: the area under the ROC curve in bins of what makes it strong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from deeplense.core.errors import InvalidOption
from deeplense.metrics.classification import Floats
from deeplense.metrics.intervals import RESAMPLES, Interval
from deeplense.metrics.marks import auroc_mark
from deeplense.metrics.temperature import logits_of

BINS = 8
LEAST = 25  # positives in a bin


@dataclass(frozen=True)
class SensitivityBin:
    """Positives of a similar strength against all negatives.

    Parameters
    ----------
    low, high
        Smallest and largest strength in the bin.
    middle
        Their median.
    positives
        How many they are.
    auroc
        Area under the ROC curve; its `n` counts the negatives too.
    """

    low: float
    high: float
    middle: float
    positives: int
    auroc: Interval

    def as_dict(self) -> dict[str, float]:
        """Return its numbers by name, as a table's row holds them."""
        area = self.auroc
        strength = {"low": self.low, "high": self.high, "middle": self.middle, "positives": self.positives}
        return strength | {"auroc": area.value, "auroc_low": area.low, "auroc_high": area.high, "n": area.n}

    @classmethod
    def from_mapping(cls, row: Mapping[str, Any]) -> Self:
        """Return the bin that a row describes.

        Raises
        ------
        KeyError, TypeError, ValueError
            When a number is missing or none.
        """
        number = {name: float(value) for name, value in row.items() if name not in ("class", "against", "quantity")}
        area = Interval(number["auroc"], number["auroc_low"], number["auroc_high"], int(number["n"]))
        return cls(number["low"], number["high"], number["middle"], int(number["positives"]), area)


class Contest(NamedTuple):
    """One class against another.

    Attributes
    ----------
    label, against
        Names of the two.
    scores
        [N] higher for the first.
    positive, negative
        [N] which images are of the first, and of the second.
    """

    label: str
    against: str
    scores: Floats
    positive: NDArray[np.bool_]
    negative: NDArray[np.bool_]


def sensitivity_table(contests: Iterable[Contest], strengths: Mapping[str, Floats]) -> dict[str, list[Any]]:
    """Return, as columns, the curve of every contest by every strength; NaN is a strength that is not known."""
    rows: list[dict[str, Any]] = []
    for one in contests:
        for name, values in strengths.items():
            chosen = one.positive & np.isfinite(values)
            if len(np.unique(values[chosen])) < 2:
                continue
            where = {"class": one.label, "against": one.against, "quantity": name}
            curve = sensitivity_curve(one.scores[chosen], values[chosen], one.scores[one.negative])
            rows += [where | point.as_dict() for point in curve]
    return {name: [row[name] for row in rows] for name in rows[0]} if rows else {}


def pair_scores(probabilities: Floats, positive: int, negative: int) -> Floats:
    """Return [N] how much likelier one class is than another: the logarithm of the ratio of their probabilities.

    Of two classes the other ones have no part in it; no statistic ranks better if the probabilities are right.

    Parameters
    ----------
    probabilities
        [N, K].
    positive, negative
        Index of the two classes.

    References
    ----------
    Neyman & Pearson 1933, Phil. Trans. R. Soc. A 231, 289.
    """
    logits = logits_of(probabilities)
    return np.asarray(logits[:, positive] - logits[:, negative])


def sensitivity_curve(
    positives: Floats, strength: Floats, negatives: Floats, seed: int = 0, resamples: int = RESAMPLES
) -> list[SensitivityBin]:
    """Return bins of equally many positives, at most 8 and none below 25 where there are as many.

    All bins share the negatives, so that their areas move up and down together.

    Parameters
    ----------
    positives
        [P] scores of the images that have the signal.
    strength
        [P] what makes it strong: its signal-to-noise ratio, a mass.
    negatives
        [M] scores of the images without it.
    seed
        Seed of the resampling.
    resamples
        Number of bootstrap resamples.

    Raises
    ------
    InvalidOption
        When strengths are missing or not finite.
    InvalidDataset
        When there are no positives, or no negatives.
    """
    if strength.shape != positives.shape or not np.isfinite(strength).all():
        raise InvalidOption(
            f"{int(np.isfinite(strength).sum())} finite strengths for {len(positives)} positives",
            "one finite strength for each",
            "leave out images whose strength is not known",
        )
    bins = max(1, min(BINS, len(positives) // LEAST, len(np.unique(strength))))
    curve = []
    for members in np.array_split(np.argsort(strength, kind="stable"), bins):
        scores = np.concatenate([positives[members], negatives])
        mark = auroc_mark(scores, np.arange(len(scores)) < len(members), seed, resamples)
        some = strength[members]
        ends = (float(some.min()), float(some.max()), float(np.median(some))) if len(some) else (0.0, 0.0, 0.0)
        curve.append(SensitivityBin(*ends, len(members), mark))
    return curve
