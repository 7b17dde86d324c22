"""The selection function: which lenses are found, by what they are like."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deeplense.metrics.classification import Floats
from deeplense.metrics.intervals import wilson
from deeplense.metrics.thresholds import allowed

BINS = 8
FEWEST = 10  # lenses in a bin
RATES = (1e-2, 1e-3)


def selection_table(scores: ArrayLike, positive: ArrayLike, properties: Mapping[str, Floats]) -> dict[str, list[Any]]:
    """Return the completeness in bins of as many lenses each, as columns of a table.

    The threshold is that of a false positive rate among the images without a lens; where fewer than one of them would
    pass it, there are no rows for that rate.

    Parameters
    ----------
    scores
        [N] higher means more likely a lens.
    positive
        [N] truth, boolean or 0/1.
    properties
        Name → [N] value of each lens; NaN where it is not known, and of images without one.

    Returns
    -------
    Columns `property`, `false_positive_rate`, `low`, `high`, `median` (of the bin), `lenses`, `completeness`,
    `completeness_low`, `completeness_high` (Wilson).
    """
    values, truth = np.asarray(scores, np.float64), np.asarray(positive).astype(bool)
    rows: list[dict[str, Any]] = []
    for name, column in properties.items():
        known = truth & np.isfinite(column)
        edges = _edges(column[known])
        for rate in RATES:
            threshold = _threshold(values[~truth], rate)
            if threshold is None or len(edges) < 2:
                continue
            place = np.clip(np.searchsorted(edges, column[known], "right") - 1, 0, len(edges) - 2)
            for number in range(len(edges) - 1):
                inside = place == number
                if not inside.any():
                    continue
                found = float((values[known][inside] > threshold).mean())
                low, high = wilson(found, int(inside.sum()))
                rows.append(
                    {
                        "property": name,
                        "false_positive_rate": rate,
                        "low": float(edges[number]),
                        "high": float(edges[number + 1]),
                        "median": float(np.median(column[known][inside])),
                        "lenses": int(inside.sum()),
                        "completeness": found,
                        "completeness_low": low,
                        "completeness_high": high,
                    }
                )
    return {name: [row[name] for row in rows] for name in rows[0]} if rows else {}


def _edges(values: Floats) -> NDArray[np.float64]:
    """Return the ends of bins of as many values each, as many as there are lenses for."""
    bins = min(BINS, len(values) // FEWEST)
    if bins < 1:
        return np.empty(0)
    return np.unique(np.quantile(values, np.linspace(0, 1, bins + 1)))


def _threshold(others: Floats, rate: float) -> float | None:
    """Return the score that at most a fraction of the images without a lens exceeds; None where that is none."""
    most = allowed(len(others), rate)
    return None if most < 1 else float(np.sort(others)[-most - 1])
