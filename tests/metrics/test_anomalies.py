"""Marks of anomaly scores: against other people's code where there is some, against simulated truth where not."""

import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import average_precision_score
from sklearn.metrics import roc_curve as sklearn_roc_curve

from deeplense.core.errors import InvalidDataset, InvalidOption
from deeplense.metrics import anomalies, thresholds
from deeplense.metrics.anomalies import (
    anomaly_marks,
    anomaly_point_marks,
    auprc,
    conformal_p_values,
    false_discovery_q_values,
    uniformity,
)
from deeplense.metrics.intervals import wilson
from deeplense.metrics.marks import auroc_mark
from deeplense.metrics.thresholds import tpr_at_fpr

LABELS = ["no_sub", "cdm", "axion"]


def sample(kind, images=400):
    generator = np.random.default_rng(3)
    positive = generator.random(images) < 0.3
    scores = generator.normal(positive * 1.5, 1.0)
    return {
        "random": scores,
        "tied": np.round(scores),
        "constant": np.zeros(images),
        "perfect": positive + generator.random(images) / 2,
        "reversed": -(positive + generator.random(images) / 2),
        "float32": scores.astype(np.float32),
        "saturated": (1 / (1 + np.exp(-40 * scores))).astype(np.float32),
    }[kind], positive


def scored(images=600, separation=2.0, seed=0, classes=3):
    targets = np.arange(images) % classes
    return np.random.default_rng(seed).normal(size=images) + separation * (targets > 0), targets


KINDS = ["random", "tied", "constant", "perfect", "reversed", "float32", "saturated"]


@pytest.mark.parametrize("kind", KINDS)
def test_area_at_the_sample_s_own_contamination_is_scikit_learn_s_average_precision(kind):
    scores, positive = sample(kind)
    assert auprc(scores, positive, positive.mean()) == pytest.approx(
        average_precision_score(positive, scores), abs=1e-12
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("contamination", [0.01, 0.05, 0.6])
def test_area_at_another_contamination_is_that_of_weighted_images(kind, contamination):
    scores, positive = sample(kind)
    weights = np.where(positive, contamination / positive.sum(), (1 - contamination) / (~positive).sum())
    expected = average_precision_score(positive, scores, sample_weight=weights)
    assert auprc(scores, positive, contamination) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rate", [0.0, 0.001, 0.01, 0.1, 0.5, 1.0])
def test_true_positive_rate_is_the_best_point_of_the_curve_that_is_allowed(kind, rate):
    scores, positive = sample(kind)
    false, true, _ = sklearn_roc_curve(positive, scores, drop_intermediate=False)
    assert tpr_at_fpr(scores, positive, rate) == pytest.approx(true[false <= rate + 1e-12].max(), abs=1e-12)


def test_rates_that_floating_point_misses_by_a_hair_are_met():
    scores = np.arange(200.0)  # 0.07 × 100 is more than 7, 0.29 × 100 less than 29
    positive = np.arange(200) % 2 == 0
    for percent in range(101):
        expected = min(100, percent) / 100
        assert tpr_at_fpr(scores, positive, percent / 100) == pytest.approx(expected, abs=1e-12)


def test_marks_of_ranking_refuse_what_is_none():
    scores, positive = sample("random")
    for wrong in (0.0, 1.0, -0.1, math.nan):
        with pytest.raises(InvalidOption, match="contamination"):
            auprc(scores, positive, wrong)
    for wrong in (-0.1, 1.1, math.nan):
        with pytest.raises(InvalidOption, match="false positive rate"):
            tpr_at_fpr(scores, positive, wrong)
    with pytest.raises(InvalidOption, match="NaN"):
        auprc(np.where(positive, np.nan, scores), positive, 0.1)
    with pytest.raises(InvalidDataset, match="0 positive"):
        tpr_at_fpr(scores, np.zeros(400, bool), 0.1)


@given(st.lists(st.integers(0, 9), max_size=20), st.lists(st.integers(0, 9), min_size=1, max_size=30))
def test_p_values_count(scores, calibration):
    expected = [(1 + sum(known >= score for known in calibration)) / (len(calibration) + 1) for score in scores]
    assert conformal_p_values(scores, calibration).tolist() == expected


def test_p_values_of_normal_images_are_what_they_promise():
    generator = np.random.default_rng(0)
    below = [
        (conformal_p_values(generator.normal(size=20), generator.normal(size=99)) <= 0.05).mean() for _ in range(500)
    ]
    assert np.mean(below) == pytest.approx(0.05, abs=0.006)


def test_infinite_scores_are_the_strangest_and_others_are_refused():
    assert conformal_p_values([np.inf, -np.inf], [0.0, 1.0, np.inf]).tolist() == [0.5, 1.0]
    for scores, calibration in (([np.nan], [1.0]), ([1.0], [np.nan]), ([[1.0]], [1.0])):
        with pytest.raises(InvalidOption, match="NaN"):
            conformal_p_values(scores, calibration)
    with pytest.raises(InvalidDataset, match="calibration"):
        conformal_p_values([1.0], [])


@given(st.lists(st.integers(0, 50).map(lambda k: k / 50), min_size=1, max_size=40))
def test_q_values_equal_scipy(p):
    q = false_discovery_q_values(p)
    np.testing.assert_allclose(q, stats.false_discovery_control(p), atol=1e-12)
    assert (q <= 1).all() and (q >= np.array(p) - 1e-12).all()


def test_q_values_of_nothing_and_of_nonsense():
    assert false_discovery_q_values([]).shape == (0,)
    for wrong in ([1.1], [-0.1], [np.nan], [[0.5]]):
        with pytest.raises(InvalidOption, match="p-values"):
            false_discovery_q_values(wrong)


@pytest.mark.parametrize("n", [100, 1000, 5000])
@pytest.mark.parametrize("power", [0.9, 1.0, 1.05, 1.3])
def test_uniformity_equals_scipy(n, power):
    values = np.random.default_rng(n).random(n) ** power
    distance, probability = uniformity(values)
    expected = stats.kstest(values, "uniform")
    assert distance == pytest.approx(expected.statistic, abs=1e-12)
    assert probability == pytest.approx(expected.pvalue, abs=0.012)


@pytest.mark.parametrize("x", [0.001, 0.05, 0.2, 0.5, 1.0, 1.1799, 1.1801, 1.5, 2.0, 4.0])
def test_kolmogorov_distribution(x):
    assert anomalies._kolmogorov_tail(x) == pytest.approx(stats.kstwobign.sf(x), abs=1e-12)


def test_uniformity_knows_of_the_calibration():
    generator = np.random.default_rng(0)
    both = []
    for _ in range(300):
        p = conformal_p_values(generator.normal(size=400), generator.normal(size=200))
        both.append([uniformity(p)[1], uniformity(p, 200)[1]])
    alarms = (np.array(both) < 0.05).mean(axis=0)
    assert alarms[0] > 0.2 and alarms[1] < 0.08


def test_uniformity_needs_p_values():
    with pytest.raises(InvalidDataset, match="no p-value"):
        uniformity([])
    with pytest.raises(InvalidOption, match="p-values"):
        uniformity([0.5, 2.0])
    assert uniformity([0.5])[0] == 0.5


def test_names_order_and_counts():
    scores, targets = scored()
    p = np.full(600, 0.5)
    marks = anomaly_marks(scores, targets, LABELS, "no_sub", p, resamples=50)
    assert list(marks) == [
        "auroc",
        "auroc_cdm",
        "auroc_axion",
        "auprc_at_1pct",
        "auprc_at_5pct",
        "tpr_at_1pct_fpr",
        "tpr_at_0.1pct_fpr",
        "false_alarms_at_1pct",
    ]
    assert [mark.n for mark in marks.values()] == [600, 400, 400, 600, 600, 600, 600, 200]
    two = anomaly_marks(*scored(classes=2), ["lens", "other"], "lens", resamples=50)
    assert list(two) == ["auroc", "auprc_at_1pct", "auprc_at_5pct", "tpr_at_1pct_fpr", "tpr_at_0.1pct_fpr"]


def test_the_normal_class_may_stand_anywhere():
    scores, targets = scored()
    turned = anomaly_point_marks(scores, (targets + 1) % 3, ["axion", "no_sub", "cdm"], "no_sub")
    assert turned == anomaly_point_marks(scores, targets, LABELS, "no_sub")


@given(st.integers(0, 10_000), st.floats(0, 6), st.sampled_from([6, 30, 90, 400]), st.booleans())
def test_every_value_lies_in_its_interval_and_is_the_point_mark(seed, separation, images, tied):
    scores, targets = scored(images, separation, seed)
    scores = np.round(scores) if tied else scores
    p = np.random.default_rng(seed).random(images) ** 3
    marks = anomaly_marks(scores, targets, LABELS, "no_sub", p, seed, resamples=50)
    points = anomaly_point_marks(scores, targets, LABELS, "no_sub", p)
    assert {name: mark.value for name, mark in marks.items()} == points
    for mark in marks.values():
        assert 0 <= mark.low <= mark.value <= mark.high <= 1


def test_marks_are_those_of_the_functions():
    scores, targets = scored()
    p = conformal_p_values(scores, np.random.default_rng(1).normal(size=500))
    marks = anomaly_marks(scores, targets, LABELS, "no_sub", p, seed=4, resamples=100)
    assert marks["auroc"] == auroc_mark(scores, targets > 0, 4, 100)
    pair = targets != 1
    assert marks["auroc_axion"] == auroc_mark(scores[pair], targets[pair] > 0, 4, 100)
    assert marks["auprc_at_5pct"].value == auprc(scores, targets > 0, 0.05)
    assert marks["tpr_at_1pct_fpr"].value == tpr_at_fpr(scores, targets > 0, 0.01)
    share = (p[targets == 0] <= 0.01).mean()
    alarms = marks["false_alarms_at_1pct"]
    assert (alarms.value, (alarms.low, alarms.high)) == (share, wilson(share, 200))


def test_perfection_is_no_surer_than_the_number_of_normal_images():
    lows = []
    for images in (20, 200, 20_000):
        targets = np.arange(images) % 2
        marks = anomaly_marks(targets + np.linspace(0, 0.1, images), targets, ["a", "b"], "a", resamples=20)
        assert {mark.value for mark in marks.values()} == {1.0} == {mark.high for mark in marks.values()}
        lows.append([mark.low for mark in marks.values()])
    assert (np.diff(lows, axis=0) >= 0).all() and (np.array(lows[2]) > lows[0]).all()
    few, many = dict(zip(marks, lows[0], strict=True)), dict(zip(marks, lows[2], strict=True))
    assert few["tpr_at_1pct_fpr"] == few["tpr_at_0.1pct_fpr"] == 0.0  # ten images know nothing of one in a hundred
    assert few["auprc_at_1pct"] < 0.1 < 0.8 < min(many.values())


@pytest.mark.parametrize("images", [200, 2000])
def test_intervals_cover(images):
    separation, missed, runs = 2.0, dict.fromkeys(["auprc_at_1pct", "auprc_at_5pct", *anomalies.ALARMS], 0), 60
    x = np.linspace(-12, 12, 200_001)
    recall, false = stats.norm.sf(x - separation), stats.norm.sf(x)
    truth = {name: stats.norm.sf(stats.norm.isf(rate) - separation) for name, rate in anomalies.ALARMS.items()}
    for name, pi in anomalies.CONTAMINATIONS.items():
        precision = pi * recall / (pi * recall + (1 - pi) * false)
        truth[name] = np.trapezoid(precision * stats.norm.pdf(x - separation), x)
    for seed in range(runs):
        marks = anomaly_marks(*scored(images, separation, seed, 2), ["a", "b"], "a", seed=seed, resamples=100)
        for name in missed:
            missed[name] += not marks[name].low <= truth[name] <= marks[name].high
    assert max(missed.values()) <= 7, missed


@pytest.mark.parametrize(("trials", "rate"), [(5, 0.01), (100, 0.01), (3000, 0.001), (50_000, 0.01), (1000, 0.5)])
def test_binomial_range_equals_scipy(trials, rate):
    assert thresholds.binomial_range(trials, rate) == tuple(stats.binom.ppf([0.025, 0.975], trials, rate))


def test_seed_makes_it_repeatable():
    arguments = (*scored(), LABELS, "no_sub")
    first = anomaly_marks(*arguments, seed=1, resamples=50)
    assert first == anomaly_marks(*arguments, seed=1, resamples=50)
    assert first != anomaly_marks(*arguments, seed=2, resamples=50)


def test_undefined_cases_say_so():
    scores, targets = scored(60)
    cases = [
        (InvalidOption, "normal class", (scores, targets, LABELS, "sub")),
        (InvalidOption, "normal class", (scores, targets, ["a", "a", "b"], "a")),
        (InvalidDataset, "1 classes", (scores, 0 * targets, ["a"], "a")),
        (InvalidDataset, "0 images", (scores[:0], targets[:0], LABELS, "no_sub")),
        (InvalidDataset, "targets", (scores, targets - 1, LABELS, "no_sub")),
        (InvalidDataset, "targets", (scores, targets / 2, LABELS, "no_sub")),
        (InvalidDataset, "no image of class axion", (scores, targets % 2, LABELS, "no_sub")),
        (InvalidOption, "scores", (scores[:-1], targets, LABELS, "no_sub")),
        (InvalidOption, "NaN", (scores * np.nan, targets, LABELS, "no_sub")),
        (InvalidOption, "59 p-values for 60 images", (scores, targets, LABELS, "no_sub", np.ones(59))),
    ]
    for error, words, arguments in cases:
        with pytest.raises(error, match=words):
            anomaly_point_marks(*arguments)
        with pytest.raises(error, match=words):
            anomaly_marks(*arguments, resamples=5)


def test_fast_enough_for_a_large_test_split():
    scores, targets = scored(15_000)
    start = time.process_time()  # the processor's time: another program on the machine must not fail the test
    anomaly_marks(scores, targets, LABELS, "no_sub")
    assert time.process_time() - start < 60
