"""What a benchmark knows of a task and of a kind of table: an entry for each, and nothing that does not exist."""

from __future__ import annotations

from importlib.resources import files
from typing import get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deeplense.metrics.intervals import Interval
from deeplense.suites.kinds import KINDS, Column, kind_of, own_kind
from deeplense.suites.runs import SHOWN, TASKS
from deeplense.tasks import super_resolve
from deeplense.tasks.task import TASKS as ASKED
from deeplense.train import TrainOptions

VALUES = st.lists(st.floats(-100, 100), min_size=2, max_size=6)
PAIRS = KINDS["pairs"]


def options(estimator: str | None) -> TrainOptions:
    return TrainOptions.from_mapping({"task": "super_resolve", "estimator": estimator})


def test_every_task_that_can_be_trained_can_be_compared() -> None:
    assert set(TASKS) == set(ASKED) == set(get_args(get_type_hints(TrainOptions)["task"]))
    assert {name for asked in TASKS.values() for name in (asked.table, asked.against_normal)} == {*KINDS, None}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_has_its_words_and_its_marks(name: str) -> None:
    words = files("deeplense.pages").joinpath(f"benchmark_{name}.html.j2").read_text(encoding="utf-8")
    assert all(part in words for part in ("set validation", "set intervals %}", "macro budget", "macro protocol"))
    kind = KINDS[name]
    assert kind.name == name and next(iter(kind.terminal)) == kind.always[0]


@pytest.mark.parametrize(
    ("task", "normal", "table"),
    [
        ("classify", None, "classes"),
        ("classify", "no_sub", "anomalies"),
        ("detect_anomalies", None, None),
        ("detect_anomalies", "no_sub", "anomalies"),
        ("super_resolve", None, "pairs"),
        ("super_resolve", "no_sub", None),
    ],
)
def test_where_a_method_stands(task: str, normal: str | None, table: str | None) -> None:
    found = kind_of(task, normal)
    assert (found and found.name) == table


def test_what_a_run_is_judged_by_is_the_primary_metric_of_its_task() -> None:
    assert own_kind("classify").primary(TrainOptions()) == ASKED["classify"].primary_metric
    assert own_kind("detect_anomalies").primary(TrainOptions()) == ASKED["detect_anomalies"].primary_metric
    found = {estimator: PAIRS.primary(options(estimator)) for estimator in ("fidelity", "truth", None)}
    assert found == {"fidelity": "psnr", "truth": "psnr_truth", None: "psnr_truth"}


def test_pairs_are_compared_by_marks_that_exist_within_their_estimator() -> None:
    names = set(PAIRS.marks)  # type: ignore[attr-defined]
    assert names | set(PAIRS.always) | set(PAIRS.terminal) <= {*super_resolve.COLUMNS, "theta_E_error"}
    assert PAIRS.group(options("truth")) == "truth" and set(PAIRS.groups) == {"truth", "fidelity"}
    for group, primary in (("fidelity", "psnr"), ("truth", "psnr_truth")):
        assert {name for name in names if name.startswith("psnr") and PAIRS.counts(name, group)} == {primary}


def test_only_fractions_end_at_1() -> None:
    assert [name for name in PAIRS.marks if PAIRS.is_fraction(name)] == [  # type: ignore[attr-defined]
        *("ssim", "ssim_truth", "coverage_68", "coverage_95")
    ]
    assert KINDS["classes"].is_fraction("auroc_macro")


@given(VALUES)
def test_the_best_is_one_of_the_values_and_none_is_better(values: list[float]) -> None:
    assert Column("x").best_of(values) == max(values)
    assert Column("x", "smallest").best_of(values) == min(values)
    nearest = Column("x", "nearest", 3.0).best_of(values)
    assert nearest in values and abs(nearest - 3) == min(abs(value - 3) for value in values)
    assert Column("x", "none").best_of(values) is None and Column("x").best_of(values[:1]) is None


def test_a_fraction_in_per_cent() -> None:
    mark = Interval(0.6827, 0.5, 0.75, 9)
    assert Column("x", percent=True).shown(mark) == Interval(pytest.approx(68.27), 50.0, 75.0, 9)
    assert Column("x").shown(mark) is mark


def test_what_a_method_was_shown_has_words() -> None:
    assert set(SHOWN) == {"normal", "simulated", "labelled", "pairs"}
