"""Marks of a survey: against counting by hand, against theory, and against their own intervals."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from deeplense.core.errors import InvalidDataset, InvalidOption
from deeplense.metrics.isotonic import fit_isotonic
from deeplense.metrics.selection import selection_table
from deeplense.metrics.survey import (
    auroc_difference,
    false_positives_allowed,
    purity_table,
    shifted_prior,
    survey_marks,
)


def drawn(lenses: int, others: int, seed: int = 0, separation: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    positive = np.repeat([True, False], [lenses, others])
    return generator.normal(positive * separation, 1.0), positive


@pytest.mark.parametrize(
    "images, tpr0, tpr10", [(100_000, 0, 9), (200_000, 0, 9), (20_000, 0, 1), (10_000, 0, 0), (50_000, 0, 4)]
)
def test_false_positives_in_proportion(images: int, tpr0: int, tpr10: int) -> None:
    assert (false_positives_allowed(images, 1), false_positives_allowed(images, 10)) == (tpr0, tpr10)


def test_rates_are_those_of_counting() -> None:
    scores, positive = drawn(10_000, 10_000)
    marks = survey_marks(scores, positive)
    others = np.sort(scores[~positive])
    assert marks["tpr0"].value == (scores[positive] > others[-1]).mean()
    assert marks["tpr10"].value == (scores[positive] > others[-2]).mean(), "fewer than 2 of 20,000"
    assert marks["completeness_at_0.1pct_fpr"].value == (scores[positive] > others[-11]).mean()
    for mark in marks.values():
        assert mark.low <= mark.value <= mark.high


def test_a_rate_that_cannot_be_measured_is_left_out() -> None:
    marks = survey_marks(*drawn(500, 500))
    assert "completeness_at_1pct_fpr" in marks and "completeness_at_0.1pct_fpr" not in marks


def test_intervals_of_the_rates_cover() -> None:
    inside = {"completeness_at_1pct_fpr": 0, "tpr0": 0}
    runs, others = 120, 400
    truth = {
        "completeness_at_1pct_fpr": stats.norm.sf(stats.norm.isf(0.01) - 2),
        "tpr0": np.mean([survey_marks(*drawn(400, others, seed))["tpr0"].value for seed in range(1000, 1300)]),
    }
    for seed in range(runs):
        marks = survey_marks(*drawn(400, others, seed))
        for name in inside:
            inside[name] += marks[name].low <= truth[name] <= marks[name].high
    assert min(inside.values()) >= 0.93 * runs, inside


def test_purity_is_bayes_rule() -> None:
    scores, positive = drawn(2000, 2000)
    table = purity_table(scores, positive, [0.01])
    row = 60
    threshold = table["threshold"][row]
    tpr, fpr = (scores[positive] >= threshold).mean(), (scores[~positive] >= threshold).mean()
    assert table["completeness"][row] == tpr and table["false_positive_rate"][row] == fpr
    assert table["purity"][row] == pytest.approx(0.01 * tpr / (0.01 * tpr + 0.99 * fpr))
    assert (table["purity_low"] <= table["purity"]).all() and (table["purity"] <= table["purity_high"]).all()
    assert len(purity_table(scores, positive)["purity"]) <= 4 * 200
    with pytest.raises(InvalidOption, match="prevalence of 0"):
        purity_table(scores, positive, [0.0])


@pytest.mark.parametrize("separation", [0.0, 2.0, 40.0])
def test_purity_is_told_at_every_small_number_of_false_positives(separation: float) -> None:
    scores, positive = drawn(3000, 2000, separation=separation)
    table = purity_table(scores, positive, (1e-3,))
    assert len(table["purity"]) <= 200 and (np.diff(table["threshold"]) < 0).all()
    assert np.diff(table["completeness"], prepend=0).max() < 0.02 and table["completeness"][-1] == 1
    others = np.sort(scores[~positive])[::-1]
    for few in (1, 2, 5, 20):
        best = (scores[positive] > others[few]).mean()  # what is found where so many others pass
        told = table["completeness"][table["false_positive_rate"] <= few / 2000 + 1e-12]
        assert told.max(initial=0) == pytest.approx(best)


@given(st.floats(0.01, 0.99), st.floats(0.01, 0.99), st.floats(0.001, 0.999))
def test_prior_shift_is_undone_by_the_way_back(trained: float, survey: float, p: float) -> None:
    there = shifted_prior([p], trained, survey)
    assert shifted_prior(there, survey, trained)[0] == pytest.approx(p, abs=1e-9)
    odds = (p / (1 - p)) * (survey / trained) * (1 - trained) / (1 - survey)
    assert there[0] == pytest.approx(odds / (1 + odds), abs=1e-9)


def test_difference_of_areas_is_paired() -> None:
    scores, positive = drawn(500, 500)
    noise = np.random.default_rng(1).normal(size=(200, 1000))
    better = auroc_difference(scores + 0.7 * noise[0], scores, positive)
    assert better.low > 0
    same = auroc_difference(scores, scores, positive)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    wide = np.array([auroc_difference(scores, scores + 0.3 * one, positive).value for one in noise])
    found = auroc_difference(scores, scores + 0.3 * noise[0], positive)
    # given these images the added noise alone scatters; a sample of images adds to it
    assert wide.std() < (found.high - found.low) / (2 * 1.96) < 4 * wide.std()


def test_perfect_rankings_may_still_differ() -> None:
    scores, positive = drawn(50, 60, separation=40.0)
    other = np.random.default_rng(5).permutation(50).tolist() + [-1] * 60
    mark = auroc_difference(scores, other, positive)
    assert mark.value == 0 and mark.high == -mark.low == pytest.approx(1 - 50 / (50 + 1.96**2), abs=1e-4)
    same = auroc_difference(scores, 2 * scores, positive)
    assert (same.low, same.value, same.high) == (0, 0, 0)


def test_the_difference_scatters_as_its_interval_says() -> None:
    inside, wide = 0, []
    for seed in range(200):
        generator = np.random.default_rng([seed, 7])
        positive = np.arange(300) % 3 == 0
        shared = generator.normal(1.5 * positive)
        first, second = (shared + generator.normal(size=300) * sigma for sigma in (0.8, 0.4))
        # Φ(1.5 / √(2 (1 + σ²))): the areas of the two laws
        true = [NormalDist().cdf(1.5 / math.sqrt(2 * (1 + sigma**2))) for sigma in (0.8, 0.4)]
        mark = auroc_difference(first, second, positive)
        inside += mark.low <= true[1] - true[0] <= mark.high
        wide.append(mark.high - mark.low)
    assert 180 <= inside <= 199 and 0.02 < np.mean(wide) < 0.1


def test_isotonic_is_honest_and_never_sure() -> None:
    generator = np.random.default_rng(0)
    true = generator.random(4000)
    positive = generator.random(4000) < true
    claimed = true**3
    fitted = fit_isotonic(claimed, positive)
    new = np.array([0.05, 0.3, 0.7, 0.95])
    assert np.abs(fitted(new**3) - new).max() < 0.06
    everywhere = fitted(np.linspace(0, 1, 1001))
    assert (np.diff(everywhere) >= 0).all() and everywhere[0] > 0 and everywhere[-1] < 1
    with pytest.raises(InvalidDataset, match="one class"):
        fit_isotonic([0.1, 0.2], [0, 0])


def test_few_images_at_an_end_do_not_speak_for_the_many_beside_them() -> None:
    positive = np.repeat([0, 1, 0, 1, 0, 1], [3, 1, 500, 500, 1, 3])
    claimed = np.linspace(0, 1, len(positive))
    worth = fit_isotonic(claimed, positive)(claimed)
    assert worth[100] == worth[0] == pytest.approx(1 / 501) and worth[-100] == worth[-1] == pytest.approx(500 / 501)
    ends = fit_isotonic(claimed, np.repeat([0, 1], [504, 504]))
    assert (min(ends.y), max(ends.y)) == pytest.approx((1 / 506, 505 / 506)), "Laplace's rule"


@given(st.lists(st.tuples(st.integers(0, 20), st.booleans()), min_size=2, max_size=60))
def test_isotonic_keeps_order_and_mean(images: list[tuple[int, bool]]) -> None:
    claimed, positive = np.array([p for p, _ in images]) / 20, np.array([truth for _, truth in images])
    assume(positive.any() and not positive.all())
    fitted = fit_isotonic(claimed, positive)
    assert (np.diff(fitted.x) > 0).all() and (np.diff(fitted.y) >= 0).all() and 0 < fitted.y[0] <= fitted.y[-1] < 1
    # Isotonic regression keeps the sum; either end gives or takes less than one image.
    assert abs(fitted(claimed).sum() - positive.sum()) < 1


def test_selection_function_rises_with_what_makes_lenses_easy() -> None:
    scores, positive = drawn(2000, 2000, separation=0.0)
    size = np.where(positive, np.random.default_rng(1).random(4000), np.nan)
    scores = scores + np.where(positive, 6 * size, 0)
    table = selection_table(scores, positive, {"theta_E": size, "unknown": np.full(4000, np.nan)})
    assert set(table["property"]) == {"theta_E"} and sum(table["lenses"]) == 2 * 2000
    one = [
        value for value, rate in zip(table["completeness"], table["false_positive_rate"], strict=True) if rate == 0.01
    ]
    assert one[0] < 0.1 and one[-1] > 0.99 and len(one) == 8
    threshold = np.sort(scores[~positive])[-21]
    first = positive & (size <= table["high"][0])
    assert one[0] == pytest.approx((scores[first] > threshold).mean(), abs=1 / 200)


def test_a_rate_is_a_whole_number_of_images_in_spite_of_rounding() -> None:
    positive = np.repeat([True, False], [40, 2900])  # 0.01 × 2900 is 28.999…
    scores = np.where(positive, 2900 - 29 + 0.5, np.arange(2940) - 39)  # every lens just below 29 of the others
    table = selection_table(scores, positive, {"theta_E": np.where(positive, np.arange(2940), np.nan)})
    found = zip(table["completeness"], table["false_positive_rate"], strict=True)
    assert [value for value, rate in found if rate == 0.01] == [1.0] * 4
