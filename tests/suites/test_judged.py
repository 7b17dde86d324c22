"""Marks of a table: means over seeds, and a classifier read as a detector."""

from __future__ import annotations

import dataclasses
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from deeplense.core.run_folder import RunFolder
from deeplense.evaluate import evaluate
from deeplense.metrics.intervals import Interval
from deeplense.metrics.ranking import auroc
from deeplense.pages.evaluated import EvaluatedRun
from deeplense.suites.judged import curves_of, marks_against, over_seeds, scatter, stored_marks, strangeness
from deeplense.suites.runs import read_run


@pytest.fixture(scope="module")
def run(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> EvaluatedRun:
    copy = Path(shutil.copytree(small_run, tmp_path_factory.mktemp("judged") / "run"))
    evaluate(run_id=str(copy), device="cpu")
    found = read_run(RunFolder(copy), "classify")
    assert isinstance(found, EvaluatedRun)
    return found


def test_one_run_keeps_its_interval() -> None:
    mark = Interval(0.9, 0.8, 0.97, 50)
    assert over_seeds([{"auroc": mark}]) == {"auroc": mark}
    assert scatter([{"auroc": mark}], "auroc") == ""


def test_the_interval_of_several_seeds_holds_their_scatter_and_the_test_images() -> None:
    marks = [{"auroc": Interval(value, value - 0.03, value + 0.01, 50)} for value in (0.80, 0.82, 0.84)]
    found = over_seeds(marks)["auroc"]
    seeds = 4.303**2 * 0.02**2 / 3
    assert found.value == pytest.approx(0.82) and found.n == 50
    assert found.value - found.low == pytest.approx(math.sqrt(0.03**2 + seeds))
    assert found.high - found.value == pytest.approx(math.sqrt(0.01**2 + seeds))
    assert scatter(marks, "auroc") == pytest.approx(0.02)


def test_seeds_that_agree_leave_the_interval_of_the_test_images() -> None:
    found = over_seeds([{"auroc": Interval(0.99, 0.97, 1.0, 50)}] * 5)["auroc"]
    assert (found.value, found.low, found.high) == pytest.approx((0.99, 0.97, 1.0))


def test_ends_stay_within_the_scale() -> None:
    found = over_seeds([{"x": Interval(value, 0.0, 1.0, 9)} for value in (0.0, 1.0)])["x"]
    assert (found.value, found.low, found.high) == (0.5, 0.0, 1.0)


def test_what_is_no_fraction_has_no_ends() -> None:
    marks = [
        {"psnr": Interval(value, value - 0.2, value + 0.1, 9), "ssim": Interval(0.99, 0.9, 1.0, 9)}
        for value in (41, 43)
    ]
    found = over_seeds(marks, lambda name: name == "ssim")
    assert found["psnr"].value == 42 and found["psnr"].low < 41 and found["psnr"].high > 43
    assert found["ssim"].high == 1.0
    assert over_seeds(marks, lambda name: True)["psnr"].high == 1.0, "the test can fail"


def test_the_interval_holds_the_true_value_as_often_as_it_says() -> None:
    """A mark is the truth, plus what the test images do to all seeds alike, plus what a seed does."""
    generator, held = np.random.default_rng(0), 0
    for _ in range(1000):
        values = 0.5 + generator.normal(0, 0.01) + generator.normal(0, 0.02, 5)
        marks = [{"x": Interval(value, value - 1.96 * 0.01, value + 1.96 * 0.01, 9)} for value in values]
        held += over_seeds(marks)["x"].low <= 0.5 <= over_seeds(marks)["x"].high
    assert 0.94 < held / 1000 < 0.985


def test_a_classifier_is_a_detector_by_its_odds_against_the_normal_class(run: EvaluatedRun) -> None:
    scores = strangeness(run, "no_sub")
    normal = run.probabilities[:, 0].astype(np.float64)
    assert np.corrcoef(scores, np.log(1 - normal) - np.log(normal))[0, 1] > 0.999
    marks = marks_against(run, "no_sub")
    assert marks["auroc"].value == pytest.approx(auroc(-run.probabilities[:, 0], run.targets != 0), abs=1e-6)
    assert {"auroc_cdm", "auroc_axion", "auprc_at_1pct", "tpr_at_0.1pct_fpr"} <= set(marks)


def test_a_sure_classifier_leaves_no_ties(run: EvaluatedRun) -> None:
    """Probabilities near 1 are equal in single precision, those of the other classes are not."""
    tail = np.geomspace(1e-30, 1e-10, len(run.targets), dtype=np.float32)
    for own, others in ((1 - tail, tail), (tail, 1 - tail)):
        sure = dataclasses.replace(run, probabilities=np.stack([own, others, np.zeros_like(own)], axis=1))
        assert len(np.unique(strangeness(sure, "no_sub"))) == len(tail)


def test_curves_of_several_seeds_have_the_mean_area(run: EvaluatedRun) -> None:
    other = dataclasses.replace(run, probabilities=run.probabilities[::-1].copy())
    for normal in (None, "no_sub"):
        curves = curves_of([run, other], normal)
        assert list(curves) == (["cdm", "axion"] if normal else ["no_sub", "cdm", "axion"])
        for label, curve in curves.items():
            areas = [_area(curves_of([one], normal)[label]) for one in (run, other)]
            assert _area(curve) == pytest.approx(np.mean(areas), abs=2e-3)


def _area(curve: object) -> float:
    return float(np.trapezoid(curve.true_positive_rate, curve.false_positive_rate))  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "content", [None, {}, [], {"auroc": 1}, {"auroc": {"value": 1}}, {"auroc": {"value": math.nan}}]
)
def test_stored_marks_that_are_none(content: object) -> None:
    assert stored_marks(content) is None


def test_stored_marks_come_back() -> None:
    marks = {"auroc": Interval(0.9, 0.8, 0.95, 40)}
    assert stored_marks({name: mark.as_dict() for name, mark in marks.items()}) == marks
