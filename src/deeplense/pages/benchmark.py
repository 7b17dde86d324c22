"""The page of a benchmark: a table and pictures per dataset, every budget and every citation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deeplense.metrics.figures import comparison_figure, roc_comparison_figure
from deeplense.metrics.intervals import Interval
from deeplense.metrics.ranking import RocCurve
from deeplense.metrics.style import INK
from deeplense.pages.parts import page, picture


@dataclass(frozen=True)
class Chart:
    """A picture with its words.

    Parameters
    ----------
    caption, alt
        What stands above it, and what is said to those who do not see it.
    picture
        As a data URI.
    wide
        Whether it takes the width of the page.
    """

    caption: str
    alt: str
    picture: str
    wide: bool


def render(content: Mapping[str, Any]) -> str:
    """Return the page, self-contained: its pictures are within it, it runs no script and loads nothing.

    Parameters
    ----------
    content
        `suite`, `size`, `plan` (the budget); `sections`: of each dataset name, declaration, kind of table, rows,
        columns with the best of each, charts, published figures and left-out methods; `kinds` among them; `methods`
        with their references; `devices`; `absent` datasets.
    """
    return page("benchmark.html.j2", content)


def roc_chart(
    curves: Mapping[str, Mapping[str, RocCurve]],
    areas: Mapping[str, Interval],
    caption: str,
    alt: str,
    legend: str | None = None,
) -> Chart:
    """Return the ROC curves of every method, class by class.

    Parameters
    ----------
    curves
        Method → class → curve; every method has the same classes.
    areas
        Method → its area, for the legend.
    caption, alt
        Words of the chart.
    legend
        Title of the legend, in place of the macro area's.
    """
    classes = next(iter(curves.values()))
    figure = roc_comparison_figure(
        {label: {name: found[label] for name, found in curves.items()} for label in classes}, areas
    )
    if legend is not None:
        figure.legends[0].set_title(legend)
    return Chart(caption, alt, picture(figure), wide=True)


def interval_chart(marks: Mapping[str, Interval], title: str, line: float | None, alt: str) -> Chart:
    """Return one mark of every method, each with its interval, the largest first.

    Parameters
    ----------
    marks
        Method → mark.
    title
        What the mark is, with its unit.
    line
        The noise floor, where it belongs to the mark.
    alt
        Words of the chart.
    """
    ordered = dict(sorted(marks.items(), key=lambda item: -item[1].value))
    figure = comparison_figure(ordered, f"{title}, 95 % interval")
    if line is not None:
        figure.axes[0].axvline(line, color=INK, linewidth=1, linestyle=":")
    caption = title if line is None else f"{title}; dotted: the noise floor, {line:.2f}"
    return Chart(caption, alt, picture(figure), wide=False)
