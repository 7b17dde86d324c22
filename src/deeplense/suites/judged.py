"""How a judged run did, in the marks of its dataset: of all classes, or of the normal one against the others."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from deeplense.metrics.anomalies import anomaly_marks
from deeplense.metrics.classification import Floats
from deeplense.metrics.intervals import Interval
from deeplense.metrics.ranking import RocCurve, roc_curve
from deeplense.pages.evaluated import EvaluatedRun
from deeplense.pages.found import FinderRun
from deeplense.pages.judged import JudgedRun
from deeplense.pages.strange import DetectorRun

# 97.5 % quantiles of Student's distribution, for 1, 2, … degrees of freedom
STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
GRID = np.linspace(0, 1, 2001)  # false positive rates at which curves of several seeds are averaged


def strangeness(run: JudgedRun, normal: str) -> Floats:
    """Return [N] the score of a run: a detector's own, a classifier's odds against the normal class, as a logarithm."""
    if isinstance(run, DetectorRun):
        return run.scores
    if not isinstance(run, EvaluatedRun):
        raise TypeError(type(run))
    tiny, place = float(np.finfo(np.float32).tiny), run.labels.index(normal)
    own, others = run.probabilities[:, place], np.delete(run.probabilities, place, axis=1).sum(axis=1)
    odds: Floats = np.log(np.maximum(others, tiny)) - np.log(np.maximum(own, tiny))
    return odds


def marks_against(run: JudgedRun, normal: str) -> dict[str, Interval]:
    """Return how well a classifier finds the images that are not normal: the marks of a detector."""
    return anomaly_marks(strangeness(run, normal), run.targets, run.labels, normal)


def stored_marks(content: object) -> dict[str, Interval] | None:
    """Return marks as they were stored by `as_dict`; None where there are none, or damaged ones."""
    try:
        marks = {name: Interval(**mark) for name, mark in dict(content).items()}  # type: ignore[call-overload]
        numbers = [number for mark in marks.values() for number in (mark.value, mark.low, mark.high, mark.n)]
        return marks if numbers and all(map(math.isfinite, numbers)) else None
    except (TypeError, ValueError):
        return None


def curves_of(runs: Sequence[JudgedRun], normal: str | None) -> dict[str, RocCurve]:
    """Return the ROC curve of each class against the rest, or against the normal one; of several runs their mean.

    Of two classes there is one curve. The mean of curves is that of their true positive rates (Fawcett 2006, Pattern
    Recognition Letters 27, 861, section 8.1), so that its area is the mean area.
    """
    labels = runs[0].labels
    shown = [label for label in labels if label != normal] if normal or len(labels) > 2 else labels[-1:]
    return {label: _mean([_curve(run, label, normal) for run in runs]) for label in shown}


def _curve(run: JudgedRun, label: str, normal: str | None) -> RocCurve:
    place = run.labels.index(label)
    if normal is not None:
        chosen = np.isin(run.targets, (place, run.labels.index(normal)))
        return roc_curve(strangeness(run, normal)[chosen], run.targets[chosen] == place)
    if not isinstance(run, EvaluatedRun | FinderRun):
        raise TypeError(type(run))
    return roc_curve(run.probabilities[:, place], run.targets == place)


def _mean(curves: Sequence[RocCurve]) -> RocCurve:
    if len(curves) == 1:
        return curves[0]
    rates = [np.interp(GRID, curve.false_positive_rate, curve.true_positive_rate) for curve in curves]
    return RocCurve(np.append(0.0, GRID), np.append(0.0, np.mean(rates, axis=0)), np.full(len(GRID) + 1, np.nan))


def over_seeds(
    marks: Sequence[Mapping[str, Interval]], is_fraction: Callable[[str], bool] = lambda name: True
) -> dict[str, Interval]:
    """Return the mean of every mark over runs that differ by their seed, with a 95 % interval; of one run its own.

    Towards either end the interval reaches √(mean of the runs' own distances² + (t s / √n)²): s is the scatter of the
    n values, t Student's quantile. The first part is that of the test images, which are the same for all runs, so that
    more runs do not lower it; the second is how well so few runs tell the mean over all seeds.

    Parameters
    ----------
    marks
        Of each run, by name.
    is_fraction
        Whether a mark lies between 0 and 1: then its interval ends there.
    """
    return {name: _over_seeds([some[name] for some in marks], is_fraction(name)) for name in marks[0]}


def _over_seeds(found: Sequence[Interval], is_fraction: bool) -> Interval:
    if len(found) == 1:
        return found[0]
    values = np.array([mark.value for mark in found])
    mean, n = float(values.mean()), len(found)
    seeds = STUDENT[n - 2] ** 2 * float(values.var(ddof=1)) / n
    low = mean - math.sqrt(float(np.mean([(mark.value - mark.low) ** 2 for mark in found])) + seeds)
    high = mean + math.sqrt(float(np.mean([(mark.high - mark.value) ** 2 for mark in found])) + seeds)
    ends = (max(0.0, low), min(1.0, high)) if is_fraction else (low, high)
    return Interval(mean, *ends, found[0].n)


def scatter(marks: Sequence[Mapping[str, Interval]], name: str) -> Any:
    """Return the standard deviation of a mark over seeds; nothing where there is one."""
    return float(np.std([some[name].value for some in marks], ddof=1)) if len(marks) > 1 else ""
