"""Findings over columns: each on a table made to have it, and on one without."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from deeplense.auditing.columns import Rows, best_clue, predictive, shifted

N = 400
GENERATOR = np.random.default_rng(1)


def rows(n: int = N, classes: int = 2) -> Rows:
    splits = np.array(["train", "train", "validation", "test"] * (n // 4), dtype=object)
    return Rows(np.arange(n) // 4 % classes, tuple(f"class {k}" for k in range(classes)), splits)


def noise(n: int = N) -> np.ndarray[Any, Any]:
    return GENERATOR.normal(size=n)


ROWS = rows()
OF_ONE = ROWS.targets == 1
TELLING = {
    "larger": np.where(OF_ONE, 10, 0) + noise(),
    "smaller": np.where(OF_ONE, -10, 0) + noise(),
    "missing": np.where(OF_ONE, np.nan, noise()),
    "known": np.where(OF_ONE, noise(), np.nan),
    "0": np.where(OF_ONE, 0, noise()),  # of median 0 in both classes: its values do not rank
    "not 0": np.where(OF_ONE, noise(), 0),
    "words": np.where(OF_ONE, "HST", "Euclid").astype(object),
}


@pytest.mark.parametrize("how", TELLING)
def test_a_column_that_gives_the_label_away_is_a_leak_however_it_does(how: str) -> None:
    found = predictive({"column": TELLING[how], "harmless": noise()}, ROWS)
    assert [(one.subject, one.severity, one.kind) for one in found] == [("column", "leak", "predictive_column")]
    assert found[0].numbers["auroc"] > 0.95 and found[0].numbers["n"] > N / 2 - 1
    if how != "words":
        assert f"of 'class 1' it is {how}," in found[0].words


def test_a_column_that_says_much_is_a_warning() -> None:
    found = predictive({"column": noise() + 1.5 * OF_ONE}, ROWS)
    assert [one.severity for one in found] == ["warning"] and 0.7 < found[0].numbers["auroc"] < 0.95


def test_truth_is_a_note_with_its_numbers_and_harmless_truth_is_gathered() -> None:
    columns = {"pixels": TELLING["not 0"], "area": noise(), "mass": noise(), "feature": noise()}
    found = predictive(columns, ROWS, truth=("pixels", "area", "mass"))
    assert [(one.subject, one.severity) for one in found] == [("pixels", "note"), ("area, mass", "note")]
    assert "give the label away" in found[0].words and found[0].numbers["auroc"] > 0.95
    assert "says little" in found[1].words and found[1].numbers["auroc"] < 0.7


def test_of_three_classes_the_one_that_is_told_is_named() -> None:
    three = rows(N - N % 12, 3)
    found = predictive({"column": noise(len(three.targets)) + 9 * (three.targets == 2)}, three)
    assert "'class 2'" in found[0].words and found[0].severity == "leak"


def test_rows_without_label_do_not_count() -> None:
    unlabelled = Rows(np.where(OF_ONE, -1, 0), ("class 0", "class 1"), ROWS.splits)
    assert best_clue(TELLING["larger"], unlabelled) is None


def test_a_few_rows_prove_nothing() -> None:
    few = rows(8)
    assert predictive({"column": np.arange(8.0)}, few) == []
    assert "too few rows" in predictive({"column": np.arange(8.0)}, few, truth=("column",))[0].words


def test_a_shift_between_splits_is_told_with_its_size() -> None:
    test = ROWS.splits == "test"
    found = shifted({"redshift": noise() + 2 * test, "words": np.full(N, "a", object), "same": noise()}, ROWS)
    assert [(one.subject, one.severity, one.kind) for one in found] == [("redshift", "warning", "shift")]
    assert "and test" in found[0].words and found[0].numbers["p"] < 1e-3 and found[0].numbers["n_test"] == N / 4


def test_a_small_shift_of_many_rows_is_a_note() -> None:
    many = rows(40_000)
    found = shifted({"redshift": noise(40_000) + 0.1 * (many.splits == "test")}, many)
    assert [one.severity for one in found] == ["note"]


def test_random_tables_are_clean() -> None:
    """Of 200 tables of 5 columns one in a hundred may be flagged; more than six would be no chance."""
    flagged = 0
    for table in range(200):
        n = (40, 100, 200)[table % 3]
        plain = rows(n, 2 + table % 2)
        order = Rows(GENERATOR.permutation(plain.targets), plain.labels, GENERATOR.permutation(plain.splits))
        columns: dict[str, Any] = {"normal": noise(n)}
        columns["whole"] = GENERATOR.integers(0, 3, n)
        columns["rare"] = (GENERATOR.random(n) < 0.02).astype(float)
        columns["holes"] = np.where(GENERATOR.random(n) < 0.3, np.nan, noise(n))
        columns["word"] = GENERATOR.choice(["a", "b", "c"], n).astype(object)
        flagged += bool(predictive(columns, order) + shifted(columns, order))
    assert flagged <= 6, flagged
