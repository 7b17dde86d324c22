"""How many lenses a survey would find, and how pure its list would be, where lenses are rare."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deeplense.core.errors import InvalidOption
from deeplense.metrics import ranking
from deeplense.metrics.classification import Floats
from deeplense.metrics.intervals import Interval, Z, wilson
from deeplense.metrics.marks import FEW
from deeplense.metrics.thresholds import allowed, passed, rate_ends, rungs

CHALLENGE = 100_000  # images in the test of the lens finding challenge, whose false positives TPR0 and TPR10 count
FEWER_THAN = {"tpr0": 1, "tpr10": 10}
RATES = {"completeness_at_1pct_fpr": 1e-2, "completeness_at_0.1pct_fpr": 1e-3, "completeness_at_0.01pct_fpr": 1e-4}
PREVALENCES = (1e-2, 1e-3, 5e-4, 1e-4)
ROWS = 200  # of the table of purity, at most, for each prevalence
FINEST = 30  # false positives that are told one by one; beyond, they rise by a factor


def false_positives_allowed(images: int, fewer_than: int) -> int:
    """Return how many false positives a test of some size may have, where 100,000 images have fewer than a number.

    In proportion: of 20,000 images fewer than 2 in place of fewer than 10, so 1. None are none whatever the size.
    """
    return max(0, math.ceil(fewer_than * min(1.0, images / CHALLENGE)) - 1)


def survey_marks(scores: ArrayLike, positive: ArrayLike) -> dict[str, Interval]:
    """Return how many of the lenses are found where few other images may pass, each mark with a 95 % interval.

    `tpr0`, `tpr10`: the largest true positive rate before the first, and with fewer than ten false positives in a test
    of 100,000 images; of fewer images in proportion, see `false_positives_allowed`. `completeness_at_1pct_fpr`,
    `…0.1pct…`, `…0.01pct…`: at a false positive rate, left out where one image is already more than it.

    The threshold hangs on the few highest scores of images without a lens; what they could have been is in the
    intervals (`thresholds.rate_ends`).

    Parameters
    ----------
    scores
        [N] higher means more likely a lens.
    positive
        [N] truth, boolean or 0/1.

    Raises
    ------
    InvalidOption, InvalidDataset
        See `ranking.placements`.

    References
    ----------
    Metcalf et al. 2019, A&A 625, A119, section 4: TPR0 and TPR10.
    """
    hits, alarms = rungs(scores, positive)
    others, images = int(alarms[-1]), int(alarms[-1] + hits[-1])
    marks = {}
    for name, fewer_than in FEWER_THAN.items():
        most = false_positives_allowed(images, fewer_than)
        value = passed(hits, alarms, most)
        marks[name] = Interval(value, *rate_ends(hits, alarms, min(0.5, (most + 1) / others), value), images)
    for name, rate in RATES.items():
        if rate * others >= 1:
            value = passed(hits, alarms, allowed(others, rate))
            marks[name] = Interval(value, *rate_ends(hits, alarms, rate, value), images)
    return marks


def purity_table(
    scores: ArrayLike, positive: ArrayLike, prevalences: Sequence[float] = PREVALENCES
) -> dict[str, NDArray[np.float64]]:
    """Return completeness and purity at every threshold worth telling, if lenses were so rare.

    Purity is π TPR / (π TPR + (1 − π) FPR): of the sample only the two rates are used. Its ends are those of the two
    rates (Wilson), the worse of both together and the better of both together: at least 95 %.

    Parameters
    ----------
    scores, positive
        As of `survey_marks`.
    prevalences
        Fractions π of all images that are lenses.

    Returns
    -------
    Columns `prevalence`, `threshold`, `completeness`, `false_positive_rate`, `purity`, `purity_low`, `purity_high`.

    Raises
    ------
    InvalidOption
        A prevalence that is none; else see `ranking.placements`.
    InvalidDataset
        See `ranking.placements`.
    """
    if odd := [value for value in prevalences if not 0 < value < 1]:
        raise _no_prevalence(odd[0])
    hits, alarms = rungs(scores, positive)
    thresholds = np.unique(np.asarray(scores, np.float64))[::-1]
    chosen = _spread(hits, alarms)
    rates = [(hits[chosen] / hits[-1], int(hits[-1])), (alarms[chosen] / alarms[-1], int(alarms[-1]))]
    (completeness, (tpr_low, tpr_high)), (fpr, (fpr_low, fpr_high)) = (
        (rate, np.array([wilson(float(value), trials) for value in rate]).T) for rate, trials in rates
    )
    columns: dict[str, list[NDArray[np.float64]]] = {}
    for prevalence in prevalences:
        of_one = {
            "prevalence": np.full(len(chosen), prevalence),
            "threshold": thresholds[chosen],
            "completeness": completeness,
            "false_positive_rate": fpr,
            "purity": _purity(prevalence, completeness, fpr),
            "purity_low": _purity(prevalence, tpr_low, fpr_high),
            "purity_high": _purity(prevalence, tpr_high, fpr_low),
        }
        for name, column in of_one.items():
            columns.setdefault(name, []).append(column)
    return {name: np.concatenate(parts) for name, parts in columns.items()}


def shifted_prior(probabilities: ArrayLike, trained: float, survey: float) -> NDArray[np.float64]:
    """Return probabilities of a lens as they are where lenses are as common as in a survey.

    Parameters
    ----------
    probabilities
        [N] where a fraction `trained` of all images is a lens.
    trained, survey
        Both fractions, above 0 and below 1.

    Raises
    ------
    InvalidOption
        A fraction that is none.

    References
    ----------
    Saerens, Latinne & Decaestecker 2002, Neural Computation 14, 21, eq. 2.4.
    """
    for value in (trained, survey):
        if not 0 < value < 1:
            raise _no_prevalence(value)
    values = np.asarray(probabilities, np.float64)
    lens, other = values * survey / trained, (1 - values) * (1 - survey) / (1 - trained)
    return np.asarray(lens / (lens + other))


def auroc_difference(first: ArrayLike, second: ArrayLike, positive: ArrayLike) -> Interval:
    """Return the AUROC of the second scores less that of the first, of the same images, with a 95 % interval.

    Where nothing varies, because both rankings are perfect or a class has fewer than 10 images, the interval is no
    narrower than Wilson's for as many pairs (see `marks.classification_marks`), unless both are one ranking.

    Parameters
    ----------
    first, second
        [N] scores of each image by two methods.
    positive
        [N] truth.

    Raises
    ------
    InvalidOption, InvalidDataset
        See `ranking.placements`.

    References
    ----------
    DeLong, DeLong & Clarke-Pearson 1988, Biometrics 44, 837.
    """
    truth = np.asarray(positive).astype(bool)
    found = [ranking.placements(scores, truth) for scores in (first, second)]
    value = ranking.area(found[1]) - ranking.area(found[0])
    effects = ranking.influence(found[1], len(truth)) - ranking.influence(found[0], len(truth))
    half = Z * float(np.sqrt((effects**2).sum()))
    pairs = int(min(truth.sum(), (~truth).sum()))
    one, other = (np.argsort(scores, kind="stable") for scores in (first, second))
    if effects.any() or not np.array_equal(one, other):
        perfect = all(ranking.area(each) in (0.0, 1.0) for each in found)
        half = max(half, 1 - wilson(1.0, pairs)[0]) if perfect or pairs < FEW else half
    return Interval(value, max(-1.0, value - half), min(1.0, value + half), len(truth))


def _spread(hits: Floats, alarms: Floats) -> NDArray[np.int64]:
    """Return which thresholds are told: the lowest ones of few false positives, and even steps in completeness."""
    counts = np.concatenate([np.arange(FINEST), np.geomspace(FINEST, max(FINEST, alarms[-1]), FINEST)])
    lowest = np.searchsorted(alarms, np.floor(counts), "right") - 1
    even = np.searchsorted(hits, hits[-1] * np.linspace(0, 1, ROWS - 2 * FINEST + 1)[1:])
    wanted = np.unique(np.concatenate([lowest[lowest >= 0], even]))
    return np.asarray(wanted[hits[wanted] > 0], dtype=np.int64)


def _purity(prevalence: float, tpr: Floats, fpr: Floats) -> NDArray[np.float64]:
    return np.asarray(prevalence * tpr / (prevalence * tpr + (1 - prevalence) * fpr))


def _no_prevalence(value: float) -> InvalidOption:
    return InvalidOption(
        f"a prevalence of {value}", "a fraction above 0 and below 1", "write 0.001 for one lens in a thousand images"
    )
