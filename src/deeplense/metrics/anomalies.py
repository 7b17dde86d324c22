"""How well a score of strangeness finds the anomalies among normal images, and what a score is worth as a probability.

Ranking marks know two kinds of images: normal ones, and anomalies (the positives). Conformal p-values compare an image
with normal images set aside for it, and hold whatever the detector is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deeplense.core.errors import InvalidDataset, InvalidOption
from deeplense.metrics import ranking
from deeplense.metrics.classification import Floats, Integers, require_every_class
from deeplense.metrics.intervals import RESAMPLES, Interval, bootstrap, wilson
from deeplense.metrics.marks import FEW, auroc_mark
from deeplense.metrics.thresholds import allowed, passed, rate_ends, rungs

CONTAMINATIONS = {"auprc_at_1pct": 0.01, "auprc_at_5pct": 0.05}
ALARMS = {"tpr_at_1pct_fpr": 0.01, "tpr_at_0.1pct_fpr": 0.001}
FALSE_ALARMS, LEVEL = "false_alarms_at_1pct", 0.01
SMALL = 1.18  # below it the second series of the Kolmogorov distribution converges faster


def auprc(scores: ArrayLike, positive: ArrayLike, contamination: float) -> float:
    """Return the area under the precision-recall curve if a given fraction of all images were positive.

    Precision at each threshold is π TPR / (π TPR + (1 − π) FPR): of the sample only the two rates are used, so that
    samples of different composition are comparable. The area is the sum of precision × step in recall (average
    precision), images of equal score passing together.

    Parameters
    ----------
    scores
        [N] higher means more likely positive.
    positive
        [N] truth, boolean or 0/1.
    contamination
        Fraction π of all images that is positive, between 0 and 1.

    Raises
    ------
    InvalidOption, InvalidDataset
        See `ranking.placements`; a contamination that leaves no positives or nothing else.

    References
    ----------
    Davis & Goadrich 2006, ICML, 233: steps, because a straight line between two points promises too much.
    """
    if not 0 < contamination < 1:
        raise InvalidOption(
            f"a contamination of {contamination}", "a fraction above 0 and below 1", "name the fraction of anomalies"
        )
    hits, alarms = rungs(scores, positive)
    return float(_average_precision(hits / hits[-1], alarms / alarms[-1], contamination))


def conformal_p_values(scores: ArrayLike, calibration: ArrayLike) -> NDArray[np.float64]:
    """Return [N] how rarely a normal image is as strange: (1 + number of calibration scores ≥ s) / (n + 1).

    Of a normal image, exchangeable with those of the calibration, it is at most α with a probability of at most α,
    whatever the detector. The smallest one possible is 1 / (n + 1).

    Parameters
    ----------
    scores
        [N] higher is stranger.
    calibration
        [n] scores of normal images that the detector was not fitted to.

    Raises
    ------
    InvalidOption
        When a score is NaN.
    InvalidDataset
        When there is no calibration score.

    References
    ----------
    Vovk, Gammerman & Shafer 2005, Algorithmic Learning in a Random World.
    Bates, Candès, Lei, Romano & Sesia 2023, Ann. Statist. 51, 149.
    """
    values, known = np.asarray(scores), np.sort(np.asarray(calibration))
    bad = int(np.isnan(values).sum() + np.isnan(known).sum())
    if values.ndim != 1 or known.ndim != 1 or bad:
        raise InvalidOption(
            f"scores of shape {list(values.shape)} and {list(known.shape)}, {bad} of them NaN",
            "two lists of scores, none of them NaN",
            "look at what the detector returns: after a diverged training, fit again with a smaller --lr",
        )
    if not len(known):
        raise InvalidDataset(
            "there is no calibration score", "scores of normal images", "set normal images aside for calibration"
        )
    stranger = len(known) - np.searchsorted(known, values, "left")
    return np.asarray((1 + stranger) / (len(known) + 1))


def false_discovery_q_values(p: ArrayLike) -> NDArray[np.float64]:
    """Return [N] the smallest false discovery rate at which each image would be among the discoveries.

    Those with q ≤ α are the discoveries of the Benjamini-Hochberg procedure at level α. It holds for independent
    p-values, and for conformal p-values of one calibration set, whose dependence is of the harmless kind.

    Parameters
    ----------
    p
        [N] p-values.

    Raises
    ------
    InvalidOption
        When they are not within [0, 1].

    References
    ----------
    Benjamini & Hochberg 1995, J. R. Statist. Soc. B 57, 289; Bates et al. 2023, Ann. Statist. 51, 149, theorem 2.
    """
    values = _probabilities(p)
    order = np.argsort(values, kind="stable")
    ratios = values[order] * (len(values) / np.arange(1, len(values) + 1))
    adjusted = np.empty(len(values))
    adjusted[order] = np.minimum.accumulate(ratios[::-1])[::-1]
    return np.minimum(adjusted, 1.0)


def uniformity(p_values: ArrayLike, calibration: int | None = None) -> tuple[float, float]:
    """Return the Kolmogorov-Smirnov distance from the uniform distribution, and the probability of a larger one.

    Parameters
    ----------
    p_values
        [N] p-values, which should be uniform.
    calibration
        Number of calibration scores that conformal p-values share. Their own scatter moves all p-values together: the
        comparison is one of two samples then, and without this number a sound detector would often look unsound.

    Raises
    ------
    InvalidOption
        When p-values are not within [0, 1].
    InvalidDataset
        When there are none.

    References
    ----------
    Kolmogorov 1933, Giorn. Ist. Ital. Attuari 4, 83; Smirnov 1948, Ann. Math. Stat. 19, 279.
    Stephens 1970, J. R. Statist. Soc. B 32, 115: the correction for the number of images.
    """
    values = np.sort(_probabilities(p_values))
    n = len(values)
    if not n:
        raise InvalidDataset("there is no p-value", "at least one", "score some normal images")
    steps = np.arange(n + 1) / n
    distance = float(max((steps[1:] - values).max(), (values - steps[:-1]).max()))
    root = math.sqrt(n if calibration is None else n * calibration / (n + calibration))
    return distance, _kolmogorov_tail((root + 0.12 + 0.11 / root) * distance)


def anomaly_point_marks(
    scores: ArrayLike,
    targets: ArrayLike,
    labels: Sequence[str],
    normal: str,
    p_values: ArrayLike | None = None,
) -> dict[str, float]:
    """Return the marks of `anomaly_marks` without their intervals; same arguments."""
    values, truth, inside = _checked(scores, targets, labels, normal)
    marks = {"auroc": ranking.auroc(values, ~inside)}
    for name, members in _against(truth, inside, labels).items():
        marks[name] = ranking.auroc(values[members], ~inside[members])
    hits, alarms = rungs(values, ~inside)
    recall, false = hits / hits[-1], alarms / alarms[-1]
    marks |= {name: float(_average_precision(recall, false, pi)) for name, pi in CONTAMINATIONS.items()}
    marks |= {name: passed(hits, alarms, allowed(alarms[-1], rate)) for name, rate in ALARMS.items()}
    if p_values is not None:
        marks[FALSE_ALARMS] = float((_of_each(p_values, inside)[inside] <= LEVEL).mean())
    return marks


def anomaly_marks(
    scores: ArrayLike,
    targets: ArrayLike,
    labels: Sequence[str],
    normal: str,
    p_values: ArrayLike | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> dict[str, Interval]:
    """Return how well the scores find the images of all classes but one, each mark with a 95 % interval.

    `auroc`: all other classes together against the normal one. `auroc_<class>`: each of them alone, where there are
    two or more. `auprc_at_1pct`, `auprc_at_5pct`: see `auprc`. `tpr_at_1pct_fpr`, `tpr_at_0.1pct_fpr`: see
    `tpr_at_fpr`. With p-values also `false_alarms_at_1pct`: the fraction of the normal images with p ≤ 0.01.

    Areas under ROC curves have the interval of `auroc_mark`. For the others the bootstrap fails: what counts are the
    few strangest normal images, and it can draw none that are stranger. But the false positive rates at the scores of
    normal images are distributed like ordered uniform numbers, whatever the scores:

    - `auprc`: the anomalies are resampled and such rates drawn; between two normal images the rate may be either's, so
      that the lower end takes the higher one. An area of 1 or fewer than 10 anomalies: not narrower than Wilson's.
    - `tpr`: the number of normal images above the right threshold is binomial, and its 95 % range gives a range of
      thresholds, joined with Wilson's interval of the true positive rate by square-and-add. With fewer than
      3.7 / FPR normal images the lower end is near 0.

    In simulations of Gaussian scores, 100 to 4,000 images a side, these two held the true value in 94 to 100 % of
    cases, the basic bootstrap in 40 to 95 %.

    False alarms have Wilson's interval; the scatter that calibration scores bring to all p-values is not in it.

    Parameters
    ----------
    scores
        [N] higher is stranger.
    targets
        [N] index of the true class.
    labels
        Class names.
    normal
        The one whose images are normal.
    p_values
        [N] conformal p-values.
    seed
        Seed of the resampling.
    resamples
        Number of bootstrap resamples.

    Raises
    ------
    InvalidOption
        Shapes that do not belong together, a NaN, a normal class that is none of the labels.
    InvalidDataset
        No second class, a class without an image, a target that is not the index of a class.

    References
    ----------
    Newcombe 1998, Statistics in Medicine 17, 873; Zou & Donner 2008, ibid. 27, 1693: square-and-add.
    Rubin 1981, Ann. Statist. 9, 130: the Bayesian bootstrap, here with one gap more than images.
    """
    values, truth, inside = _checked(scores, targets, labels, normal)
    points, images = anomaly_point_marks(values, truth, labels, normal, p_values), len(truth)
    hits, alarms = rungs(values, ~inside)
    marks = {"auroc": auroc_mark(values, ~inside, seed, resamples)}
    for name, members in _against(truth, inside, labels).items():
        marks[name] = auroc_mark(values[members], ~inside[members], seed, resamples)
    ends = _area_ends(hits, alarms, seed, resamples)
    ends |= {name: rate_ends(hits, alarms, rate) for name, rate in ALARMS.items()}
    marks |= {name: Interval(points[name], *both, images) for name, both in ends.items()}
    if p_values is not None:
        share, normals = points[FALSE_ALARMS], int(alarms[-1])
        marks[FALSE_ALARMS] = Interval(share, *wilson(share, normals), normals)
    return marks


def _average_precision(recall: Floats, false: Floats, contamination: float) -> NDArray[np.float64]:
    """Return the area of each row of true and false positive rates [..., S], which ascend."""
    found = contamination * recall
    shown = found + (1 - contamination) * false
    # Of a resample the upper rungs may be empty: no step in recall there, whatever the precision.
    precision = found / np.where(shown > 0, shown, 1.0)
    return np.asarray((np.diff(recall, axis=-1, prepend=0.0) * precision).sum(axis=-1))


def _area_ends(hits: Floats, alarms: Floats, seed: int, resamples: int) -> dict[str, tuple[float, float]]:
    found, normals = int(hits[-1]), int(alarms[-1])
    climbed, passed = hits.astype(np.int64), alarms.astype(np.int64)
    generator = np.random.default_rng([seed, 1])

    def resampled(weights: Floats) -> NDArray[np.float64]:
        recall = np.cumsum(np.pad(weights[:, :found], ((0, 0), (1, 0))), axis=1)[:, climbed] / found
        gaps = generator.standard_exponential((len(weights), normals + 1))
        ladder = np.cumsum(np.pad(gaps, ((0, 0), (1, 0))), axis=1)
        ladder /= ladder[:, -1:]
        # Between two normal images any rate between theirs is possible: all the higher ones, all the lower ones.
        rates = ladder[:, passed + 1], ladder[:, passed]
        areas = [_average_precision(recall, rate, pi) for pi in CONTAMINATIONS.values() for rate in rates]
        return np.stack(areas, axis=1)

    replicates = bootstrap(resampled, np.repeat([1, 0], [found, normals]), seed, resamples)
    ends = {}
    for k, (name, pi) in enumerate(CONTAMINATIONS.items()):
        value = float(_average_precision(hits / found, alarms / normals, pi))
        low, high = (float(np.quantile(replicates[:, 2 * k + j], level)) for j, level in enumerate((0.025, 0.975)))
        if found < FEW or value == 1.0:
            least, most = wilson(value, found)
            low, high = min(low, least), max(high, most)
        ends[name] = min(low, value), max(high, value)
    return ends


def _kolmogorov_tail(x: float) -> float:
    """Return the probability that the limit of √n × distance exceeds x."""
    if x < 0.04:  # the series' terms underflow; the probability is 1 to all digits long before
        return 1.0
    if x < SMALL:
        terms = (math.exp(-((2 * k - 1) ** 2) * math.pi**2 / (8 * x * x)) for k in range(1, 6))
        return 1 - math.sqrt(2 * math.pi) / x * sum(terms)
    return 2 * sum((1.0, -1.0)[k % 2] * math.exp(-2 * ((k + 1) * x) ** 2) for k in range(5))


def _against(truth: Integers, inside: NDArray[np.bool_], labels: Sequence[str]) -> dict[str, NDArray[np.bool_]]:
    """Return the images of each other class and the normal ones, by the name of the mark; empty for one other class."""
    others = [k for k in range(len(labels)) if k != truth[inside][0]]
    return {f"auroc_{labels[k]}": inside | (truth == k) for k in others} if len(others) > 1 else {}


def _probabilities(p: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(p, dtype=np.float64)
    if values.ndim != 1 or not ((values >= 0) & (values <= 1)).all():
        raise InvalidOption(
            f"p-values of shape {list(values.shape)}, {int((~((values >= 0) & (values <= 1))).sum())} not in [0, 1]",
            "a list of numbers from 0 to 1",
            "pass what `conformal_p_values` returns",
        )
    return values


def _of_each(p_values: ArrayLike, inside: NDArray[np.bool_]) -> NDArray[np.float64]:
    values = _probabilities(p_values)
    if values.shape != inside.shape:
        raise InvalidOption(
            f"{len(values)} p-values for {len(inside)} images", "one for each", "pass those of the same images"
        )
    return values


def _checked(
    scores: ArrayLike, targets: ArrayLike, labels: Sequence[str], normal: str
) -> tuple[Floats, Integers, NDArray[np.bool_]]:
    values, truth = np.asarray(scores), np.asarray(targets)
    if normal not in labels or len(set(labels)) != len(labels):
        raise InvalidOption(
            f"the normal class '{normal}' of the classes {', '.join(map(str, labels))}",
            "class names that are all different, the normal one among them",
            "name one of the dataset's classes as the normal one",
        )
    if len(labels) < 2 or not len(truth):
        raise InvalidDataset(
            f"{len(truth)} images of {len(labels)} classes", "normal images and anomalies", "choose another dataset"
        )
    if (
        truth.ndim != 1
        or not np.issubdtype(truth.dtype, np.integer)
        or not 0 <= truth.min() <= truth.max() < len(labels)
    ):
        raise InvalidDataset(
            f"targets of type {truth.dtype} and shape {list(truth.shape)} from {truth.min()} to {truth.max()}",
            f"a list of whole numbers from 0 to {len(labels) - 1}: the index of a class",
            "leave out images whose class is not known",
        )
    require_every_class(truth, labels)
    inside = truth == list(labels).index(normal)
    ranking.placements(values, ~inside)  # refuses what cannot be ranked
    return values, truth, inside
