"""Pictures of finding rare things: few false positives, pure lists, and what is found by what it is like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deeplense.metrics.classification import Floats
from deeplense.metrics.figures import Figure, canvas, look, styled
from deeplense.metrics.intervals import Interval
from deeplense.metrics.ranking import RocCurve
from deeplense.metrics.style import COLOURS, FAINT, INK, short

LEAST = 1e-6  # false positive rates below it are not drawn


@styled
def low_fpr_figure(curves: Mapping[str, RocCurve], points: Mapping[float, Interval], negatives: int) -> Figure:
    """Return ROC curves with a logarithmic axis of false positives; what lies left of one false positive is shaded.

    Parameters
    ----------
    curves
        Name in the legend → curve.
    points
        False positive rate → true positive rate with its interval, drawn as bars.
    negatives
        How many images without a lens there are: below one of them no rate is measured.
    """
    figure, axes = canvas()
    one = 1 / negatives
    left = max(LEAST, one / 3)
    axes.axvspan(left, one, color=FAINT, alpha=0.18, linewidth=0)
    axes.text((left * one) ** 0.5, 0.99, "none", rotation=90, ha="center", va="top", fontsize=6.5, color=FAINT)
    for k, (name, curve) in enumerate(curves.items()):
        rates = np.maximum(curve.false_positive_rate, left)
        axes.plot(rates, curve.true_positive_rate, label=short(name, 30), **look(k) | {"linewidth": 1.3})
    for rate, mark in points.items():
        axes.vlines(rate, mark.low, mark.high, color=INK, linewidth=1.0, zorder=4)
        axes.plot([rate], [mark.value], "o", color=INK, markersize=3.5, zorder=4)
    steps = np.geomspace(left, 1, 100)
    axes.plot(steps, steps, color=FAINT, linewidth=0.8, linestyle=":")
    axes.set(xscale="log", xlim=(left, 1), ylim=(-0.015, 1.015))
    axes.set(xlabel="false positive rate", ylabel="completeness (true positive rate)")
    _plain_decades(axes, left)
    if len(curves) > 1:
        axes.legend(loc="lower right")
    return figure


@styled
def purity_figure(curves: Mapping[float, Mapping[str, Floats]]) -> Figure:
    """Return purity against completeness, a line with its 95 % band for each prevalence.

    Where no false positive passed, any list looks pure: there a thin line shows the lower end alone.

    Parameters
    ----------
    curves
        Prevalence → columns of `survey.purity_table`, by descending threshold.
    """
    figure, axes = canvas()
    lines = []
    for k, (prevalence, columns) in enumerate(curves.items()):
        x, seen = columns["completeness"], columns["false_positive_rate"] > 0
        low, middle, high = (columns[name] for name in ("purity_low", "purity", "purity_high"))
        axes.fill_between(x[seen], low[seen], high[seen], color=look(k)["color"], alpha=0.15, linewidth=0)
        axes.plot(x[~seen], low[~seen], **look(k) | {"linewidth": 0.7, "alpha": 0.6})
        lines += axes.plot(x[seen], middle[seen], label=one_in(prevalence), **look(k) | {"linewidth": 1.4})
    axes.set(xlim=(0, 1.01), ylim=(-0.01, 1.02), xlabel="completeness", ylabel="purity")
    # Lines may run through every corner.
    figure.legend(
        handles=lines, loc="outside upper center", ncols=2, title="lenses among the images", title_fontsize=7.5
    )
    return figure


@styled
def selection_figure(rows: Sequence[Mapping[str, Any]], xlabel: str) -> Figure:
    """Return completeness against a property of the lenses: a point at each bin's median, bars as wide as the bin.

    Parameters
    ----------
    rows
        Of one property, as `selection.selection_table` makes them; not empty.
    xlabel
        What the property is.
    """
    figure, axes = canvas()
    rates = sorted({float(row["false_positive_rate"]) for row in rows}, reverse=True)
    for k, rate in enumerate(rates):
        some = [row for row in rows if float(row["false_positive_rate"]) == rate]
        x, y = (np.array([row[name] for row in some], float) for name in ("median", "completeness"))
        ends = {name: np.array([row[name] for row in some], float) for name in ("low", "high")}
        down, up = (np.array([row[f"completeness_{end}"] for row in some], float) for end in ("low", "high"))
        bars: dict[str, Any] = {"fmt": "none", "color": look(k)["color"], "linewidth": 1.0}
        axes.errorbar(x, y, yerr=[y - np.minimum(down, y), np.maximum(up, y) - y], **bars)
        axes.errorbar(x, y, xerr=[x - ends["low"], ends["high"] - x], alpha=0.35, **bars)
        label = f"at {100 * rate:g} % false positives"
        axes.plot(x, y, marker="o", markersize=4, label=label, **look(k) | {"linewidth": 1.0})
    low, high = (limit(float(row[end]) for row in rows) for limit, end in ((min, "low"), (max, "high")))
    if 0 < 10 * low <= high:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")  # powers of ten would need mathtext, which the style turns off
        axes.xaxis.set_minor_formatter("")
    axes.set(xlabel=xlabel, ylabel="completeness", ylim=(-0.02, 1.02))
    axes.legend(loc="best")
    return figure


@styled
def difference_figure(marks: Mapping[str, Interval], xlabel: str) -> Figure:
    """Return differences with their 95 % intervals about 0, one below the other.

    Parameters
    ----------
    marks
        Name → difference, top to bottom.
    xlabel
        What differs.
    """
    figure, axes = canvas()
    figure.set_size_inches(4.8, 0.75 + 0.26 * len(marks))
    axes.axvline(0, color=FAINT, linewidth=0.9, linestyle="--")
    for row, mark in enumerate(marks.values()):
        axes.hlines(row, mark.low, mark.high, color=COLOURS[0], linewidth=1.6)
        axes.plot([mark.value], [row], "o", color=COLOURS[0], markersize=5)
    axes.set_yticks(range(len(marks)), [short(name, 30) for name in marks])
    axes.set(xlabel=xlabel, ylim=(len(marks) - 0.5, -0.5))
    axes.locator_params(axis="x", nbins=5)
    axes.grid(False, axis="y")
    axes.spines["left"].set_visible(False)
    return figure


def one_in(prevalence: float) -> str:
    """Return a prevalence in words: 1 in 2,000."""
    return f"1 in {1 / prevalence:,.0f}"


def _plain_decades(axes: Any, left: float) -> None:
    # Powers of ten would need mathtext, which the style turns off.
    decades = [10.0**k for k in range(-6, 1) if 10.0**k >= left]
    axes.set_xticks(decades, [f"{value:g}" for value in decades])
    axes.xaxis.set_minor_formatter("")
