"""Pictures of finding rare things: everything that is given is on them, and nothing that was not measured."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest

from deeplense.metrics import figures, ranking
from deeplense.metrics.figures import Figure
from deeplense.metrics.intervals import Interval
from deeplense.metrics.survey import purity_table
from deeplense.metrics.survey_figures import difference_figure, low_fpr_figure, one_in, purity_figure, selection_figure

RNG = np.random.default_rng(0)
TRUTH = np.arange(2000) % 2 == 1
SCORES = RNG.normal(size=2000) + 3 * TRUTH


def texts(figure: Figure) -> str:
    return " ".join(ElementTree.fromstring(figures.svg(figure)).itertext())


def test_few_false_positives_have_room_and_less_than_one_is_shaded() -> None:
    curve = ranking.roc_curve(SCORES, TRUTH)
    figure = low_fpr_figure({"a $x_{": curve, "b": curve}, {0.01: Interval(0.5, 0.4, 0.6, 2000)}, 1000)
    axes = figure.axes[0]
    assert axes.get_xscale() == "log" and axes.get_xlim()[0] == pytest.approx(1 / 3000)
    assert axes.patches[0].get_extents().x1 == pytest.approx(axes.transData.transform((1e-3, 0))[0])
    shown = texts(figure)
    assert all(text in shown for text in ("a $x_{", "0.001", "0.01", "none")) and "mathdefault" not in figures.svg(
        figure
    )


def test_purity_is_drawn_only_where_a_false_positive_was_seen() -> None:
    table = purity_table(SCORES, TRUTH, (1e-2, 1e-3))
    curves = {pi: {name: column[table["prevalence"] == pi] for name, column in table.items()} for pi in (1e-2, 1e-3)}
    figure = purity_figure(curves)
    named = [line for line in figure.axes[0].lines if not str(line.get_label()).startswith("_")]
    assert [line.get_label() for line in named] == ["1 in 100", "1 in 1,000"]
    assert all(np.asarray(line.get_ydata()).max() < 1 for line in named)
    assert (curves[1e-3]["purity"] == 1).any(), "else there would be nothing to leave out"


@pytest.mark.parametrize(("factor", "scale"), [(1.0, "linear"), (10.0, "log")])
def test_the_selection_function_has_a_line_for_each_rate(factor: float, scale: str) -> None:
    rows = [
        {"false_positive_rate": rate, "low": 1.0 + factor * k, "high": 2.0 + factor * k, "median": 1.5 + factor * k,
         "completeness": value, "completeness_low": 0.9 * value, "completeness_high": min(1.0, 1.1 * value)}
        for rate in (1e-2, 1e-3) for k, value in enumerate((0.0, 0.5, 1.0))
    ]  # fmt: skip
    figure = selection_figure(rows, "Einstein radius [arcsec]")
    assert figure.axes[0].get_xscale() == scale
    shown = texts(figure)
    assert all(text in shown for text in ("at 1 % false", "at 0.1 % false", "Einstein radius [arcsec]"))


def test_differences_stand_about_nothing() -> None:
    figure = difference_figure({"2. b": Interval(0.1, 0.05, 0.2, 10), "3. c": Interval(-0.1, -0.2, 0.0, 10)}, "AUROC")
    low, high = figure.axes[0].get_xlim()
    assert low < -0.2 < 0.2 < high
    assert all(text in texts(figure) for text in ("2. b", "3. c", "AUROC"))


def test_a_prevalence_in_words() -> None:
    assert [one_in(value) for value in (1e-2, 5e-4)] == ["1 in 100", "1 in 2,000"]
