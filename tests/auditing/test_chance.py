"""Chance: the area and its interval, words counted on other rows, the distance of two samples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest, mannwhitneyu

from deeplense.auditing.chance import area_interval, kolmogorov_smirnov, separation, tendency

GENERATOR = np.random.default_rng(0)


@given(st.integers(0, 10**6), st.integers(2, 40), st.integers(2, 40))
def test_the_area_is_that_of_mann_and_whitney_in_either_direction(seed: int, m: int, n: int) -> None:
    generator = np.random.default_rng(seed)
    values, truth = generator.integers(0, 9, m + n).astype(float), np.arange(m + n) < m
    found = separation(values, truth)
    wanted = mannwhitneyu(values[truth], values[~truth]).statistic / (m * n)
    assert found is not None and found.area.value == pytest.approx(max(wanted, 1 - wanted))
    assert found.area.low <= found.area.value <= found.area.high and found.area.n == m + n
    mirrored = separation(-values, truth)
    assert mirrored is not None and mirrored.area.value == pytest.approx(found.area.value)


def test_what_is_unknown_is_left_out_and_one_class_alone_tells_nothing() -> None:
    values = np.array([0.0, np.nan, 1.0, np.inf])
    found = separation(values, np.array([False, True, True, False]))
    assert found is not None and found.area.n == 2 and found.area.value == 1 and found.larger
    assert separation(values, np.ones(4, bool)) is None


def test_the_interval_covers_and_does_not_collapse_at_one() -> None:
    assert area_interval(1.0, 20, 20).low < 0.95 and area_interval(1.0, 20, 20).high == 1
    truth = np.arange(120) < 60
    means = [separation(GENERATOR.normal(size=120) + truth, truth) for _ in range(300)]
    covered = [one is not None and one.area.low <= 0.7602 <= one.area.high for one in means]  # Φ(1 / √2)
    assert 0.91 < np.mean(covered) < 0.99


def test_words_tell_a_class_but_not_by_being_rare() -> None:
    truth = np.arange(400) % 2 == 0
    telling = np.where(truth, "north", "south").astype(object)
    found = separation(tendency(telling, truth), truth, fold=False)
    assert found is not None and found.area.value > 0.99
    every = np.array([f"name {row}" for row in range(400)], dtype=object)
    alone = separation(tendency(every, truth), truth, fold=False)
    assert alone is not None and alone.area.value < 0.6


@given(st.integers(0, 10**6), st.integers(20, 200), st.floats(-1, 1))
def test_the_distance_and_its_chance_are_those_of_scipy(seed: int, n: int, offset: float) -> None:
    generator = np.random.default_rng(seed)
    one, other = generator.normal(size=200), generator.normal(size=n) + offset
    distance, p = kolmogorov_smirnov(one, other)
    wanted = kstest(one, other, method="exact")
    assert distance == pytest.approx(wanted.statistic)
    assert p == pytest.approx(wanted.pvalue, rel=0.4, abs=0.03)
