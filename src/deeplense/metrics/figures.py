"""Pictures of results: data in, Figure out; the only module that imports matplotlib.

Figures are made without pyplot, so that nothing global is touched and no display is needed.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, ParamSpec

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure as Figure
from matplotlib.image import imsave
from matplotlib.ticker import MaxNLocator

from deeplense.metrics.calibration import ReliabilityTable
from deeplense.metrics.classification import Floats, Integers
from deeplense.metrics.intervals import Interval, wilson
from deeplense.metrics.ranking import RocCurve
from deeplense.metrics.stretch import stretched
from deeplense.metrics.style import COLOURS, DASHES, FAINT, FONT, INK, SIZE, STYLE, short

SHADES = LinearSegmentedColormap.from_list("deeplense", ["#f4f8fb", "#7fb3d3", "#0072B2", "#00446b"])
Arguments = ParamSpec("Arguments")


def styled(draw: Callable[Arguments, Figure]) -> Callable[Arguments, Figure]:
    """Return a drawing function that draws in the common look."""

    @wraps(draw)
    def wrapped(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Figure:
        with matplotlib.rc_context(STYLE):
            return draw(*args, **kwargs)

    return wrapped


@styled
def roc_figure(curves: Mapping[str, RocCurve], areas: Mapping[str, Interval]) -> Figure:
    """Return the ROC curve of each class against the rest, areas with their intervals in the legend.

    Parameters
    ----------
    curves
        Class name → curve.
    areas
        Class name → area under it.
    """
    figure, axes = canvas()
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=0.8, linestyle=":")
    lines = [
        axes.plot(curve.false_positive_rate, curve.true_positive_rate, **look(k))[0]
        for k, curve in enumerate(curves.values())
    ]
    axes.set(xlim=(-0.015, 1.015), ylim=(-0.015, 1.015), aspect="equal")
    axes.set(xlabel="false positive rate", ylabel="true positive rate")
    _enlarge_corner(axes, list(curves.values()))
    names = [f"{short(name, 14)}  {areas[name]}" for name in curves]
    if len(lines) <= 12:
        axes.legend(lines, names, loc="lower right", title="AUROC [95 % interval]", title_fontsize=7.5)
    return figure


@styled
def roc_comparison_figure(curves: Mapping[str, Mapping[str, RocCurve]], areas: Mapping[str, Interval]) -> Figure:
    """Return one panel per class, in it the ROC curve of each method, with a legend for all.

    Parameters
    ----------
    curves
        Class name → method → curve; every class has the same methods.
    areas
        Method → its macro area, for the legend.
    """
    rows = -(-len(areas) // 2)
    figure = blank((max(2, len(curves)) * SIZE[0], SIZE[1] + 0.3 + 0.16 * rows))
    figure.set_layout_engine("constrained", h_pad=0.08)
    lines = []
    for axes, (label, methods) in zip(np.ravel(figure.subplots(1, len(curves))), curves.items(), strict=True):
        axes.plot([0, 1], [0, 1], color=FAINT, linewidth=0.8, linestyle=":")
        thin = [_thinned(curve) for curve in methods.values()]
        lines = [
            axes.plot(curve.false_positive_rate, curve.true_positive_rate, **look(k) | {"linewidth": 1.2})[0]
            for k, curve in enumerate(thin)
        ]
        axes.set(xlim=(-0.015, 1.015), ylim=(-0.015, 1.015), aspect="equal", title=short(label, 30))
        axes.set(xlabel="false positive rate", ylabel="true positive rate")
        _enlarge_corner(axes, thin)
    names = [f"{short(name, 46)}  {area}" for name, area in areas.items()]
    figure.legend(lines, names, loc="outside lower center", ncols=2, title="macro AUROC [95 % interval]")
    return figure


def _thinned(curve: RocCurve, steps: int = 1000) -> RocCurve:
    """Return the curve with at most so many points, evenly spaced along it."""
    way = np.floor((curve.false_positive_rate + curve.true_positive_rate) * steps / 2)
    kept = np.append(True, np.diff(way) > 0)
    kept[-1] = True
    return RocCurve(curve.false_positive_rate[kept], curve.true_positive_rate[kept], curve.threshold[kept])


def _enlarge_corner(axes: Axes, curves: Sequence[RocCurve]) -> None:
    # Where false positives and misses are equally rare lies the bend of a curve: four times that shows it.
    bends = [np.maximum(curve.false_positive_rate, 1 - curve.true_positive_rate).min() for curve in curves]
    side = next((side for side in (0.004, 0.01, 0.02, 0.04, 0.1, 0.2, 0.4) if side > 4 * max(bends)), None)
    if side is None:
        return
    inset = axes.inset_axes((0.4, 0.42, 0.57, 0.5), xlim=(0, side), ylim=(1 - side, 1))
    for k, curve in enumerate(curves):
        inset.plot(curve.false_positive_rate, curve.true_positive_rate, **look(k) | {"linewidth": 1.2})
    inset.set_xticks([0, side / 2, side], ["0", f"{side / 2:g}", f"{side:g}"], fontsize=6.5)
    inset.set_yticks([1 - side, 1 - side / 2, 1], [f"{1 - side:g}", f"{1 - side / 2:g}", "1"], fontsize=6.5)


@styled
def confusion_figure(matrix: Integers, labels: Sequence[str]) -> Figure:
    """Return the confusion matrix: fractions of each true class, with the counts below.

    Parameters
    ----------
    matrix
        [K, K] counts, row = true class.
    labels
        K class names.
    """
    figure, axes = canvas()
    fractions = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    classes = len(labels)
    axes.pcolormesh(fractions, cmap=SHADES, vmin=0, vmax=1, edgecolors="white", linewidth=2 if classes <= 12 else 0)
    places, names = np.arange(classes) + 0.5, [short(label, 14) for label in labels]
    axes.set_xticks(places, names, rotation=0 if classes <= 3 else 45)
    axes.set_yticks(places, names, rotation=90 if classes <= 3 else 0, va="center")
    axes.set(xlabel="predicted class", ylabel="true class", aspect="equal")
    axes.invert_yaxis()
    axes.grid(False)
    axes.spines[:].set_visible(False)
    for (row, column), fraction in np.ndenumerate(fractions) if classes <= 6 else ():
        at: dict[str, Any] = {"color": "white" if fraction > 0.45 else INK, "ha": "center"}
        axes.text(column + 0.5, row + 0.5, f"{fraction:.1%}", va="bottom", fontsize=11 if classes <= 3 else 8, **at)
        axes.text(column + 0.5, row + 0.55, f"{matrix[row, column]:,}", va="top", fontsize=7, **at)
    return figure


@styled
def reliability_figure(table: ReliabilityTable, error: Interval) -> Figure:
    """Return accuracy against confidence, with Wilson's 95 % interval per bin, above the histogram of confidences.

    Parameters
    ----------
    table
        The reliability table.
    error
        Expected calibration error.
    """
    figure = blank(SIZE)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    full = np.flatnonzero(table.count)
    right = table.accuracy[full]
    ends = np.array([wilson(float(table.accuracy[b]), int(table.count[b])) for b in full])
    upper.plot([0, 1], [0, 1], color=FAINT, linewidth=0.8, linestyle=":")
    upper.vlines(table.confidence[full], ends[:, 0], ends[:, 1], color=COLOURS[0], alpha=0.45, linewidth=1.2)
    upper.plot(table.confidence[full], right, color=COLOURS[0], marker="o", markersize=4, linewidth=1)
    upper.set(xlim=(-0.015, 1.015), ylim=(-0.015, 1.03), ylabel="accuracy")
    upper.text(0.03, 0.97, f"ECE {error}", transform=upper.transAxes, va="top", fontsize=7.5)
    width = np.diff(table.edges)
    lower.bar(table.edges[:-1] + width / 2, table.count / table.count.sum(), width * 0.9, color=COLOURS[0], alpha=0.6)
    lower.set(xlabel="confidence", ylabel="images")
    lower.yaxis.set_major_locator(MaxNLocator(2))
    lower.yaxis.set_major_formatter(lambda fraction, _: f"{fraction:.0%}")
    figure.align_ylabels()
    return figure


@styled
def history_figure(history: Sequence[Mapping[str, float]], curves: Mapping[str, str], ylabel: str) -> Figure:
    """Return numbers against the epoch.

    Parameters
    ----------
    history
        One record per epoch; `epoch` is the abscissa, else the record's place, from 1.
    curves
        Key of the record → name in the legend; keys that no record has are left out.
    ylabel
        What the numbers are.
    """
    figure, axes = canvas()
    present = [(key, name) for key, name in curves.items() if any(key in record for record in history)]
    for k, (key, name) in enumerate(present):
        points = [(record.get("epoch", place), record[key]) for place, record in enumerate(history, 1) if key in record]
        marker = "o" if len(points) <= 20 else ""
        axes.plot(*zip(*points, strict=True), label=name, marker=marker, markersize=3, **look(k))
    axes.set(xlabel="epoch", ylabel=ylabel)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    values = [record[key] for key, _ in present for record in history if key in record]
    if values and 0 < 20 * min(values) < max(values):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")  # powers of ten would need mathtext, which the style turns off
        axes.yaxis.set_minor_formatter("")
    if present:
        axes.legend(loc="best")
    return figure


@styled
def comparison_figure(marks: Mapping[str, Interval], xlabel: str) -> Figure:
    """Return one mark of several runs side by side, each a point with its 95 % interval.

    Parameters
    ----------
    marks
        Name of the run → its mark, top to bottom.
    xlabel
        What the mark is.
    """
    figure = blank((4.8, 0.75 + 0.26 * len(marks)))
    axes = figure.add_subplot()
    rows = np.arange(len(marks))
    values = list(marks.values())
    axes.hlines(rows, [mark.low for mark in values], [mark.high for mark in values], color=COLOURS[0], linewidth=1.6)
    axes.plot([mark.value for mark in values], rows, "o", color=COLOURS[0], markersize=5)
    axes.set_yticks(rows, [short(name, 30) for name in marks])
    axes.set(xlabel=xlabel, ylim=(len(marks) - 0.5, -0.5))
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.ticklabel_format(axis="x", useOffset=False)
    axes.grid(False, axis="y")
    axes.spines["left"].set_visible(False)
    return figure


@styled
def image_grid(images: Floats, captions: Sequence[str], columns: int = 6, inches: float = 1.2) -> Figure:
    """Return a sheet of images, each stretched by itself, with its caption below.

    Parameters
    ----------
    images
        [M, C, H, W].
    captions
        M texts of one or two lines.
    columns
        Images per row.
    inches
        Width of one image.
    """
    columns = max(1, min(columns, len(images)))
    rows = -(-len(images) // columns)
    figure = blank((columns * inches, max(1, rows) * (inches + 0.3)))
    for place, (image, caption) in enumerate(zip(images, captions, strict=True), 1):
        axes = figure.add_subplot(rows, columns, place)
        axes.imshow(stretched(image), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set_axis_off()
        axes.set_title("\n".join(short(line, 20) for line in caption.splitlines()), fontsize=6.5, pad=2)
    return figure


def image_png(image: Floats) -> bytes:
    """Return one image, stretched, as PNG, a pixel for a pixel.

    Parameters
    ----------
    image
        [C, H, W].
    """
    buffer = io.BytesIO()
    imsave(buffer, stretched(image), format="png", cmap="gray", vmin=0, vmax=1)
    return buffer.getvalue()


def svg(figure: Figure) -> str:
    """Return the figure as an SVG document in the reader's own sans-serif font; equal figures give equal text."""
    buffer = io.StringIO()
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        # The reader's font draws the text: that this machine's lacks a letter does not matter.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue().replace(f"'{FONT}'", "system-ui, 'Segoe UI', Roboto, 'Helvetica Neue', Arial")


def png(figure: Figure, dots_per_inch: int = 200) -> bytes:
    """Return the figure as a PNG file's bytes."""
    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format="png", dpi=dots_per_inch)
    return buffer.getvalue()


def blank(size: tuple[float, float]) -> Figure:
    """Return an empty figure [inch]."""
    figure = Figure(figsize=size)
    FigureCanvasAgg(figure)
    return figure


def canvas() -> tuple[Figure, Axes]:
    """Return a figure of the common size with one pair of axes."""
    figure = blank(SIZE)
    return figure, figure.add_subplot()


def look(place: int) -> dict[str, Any]:
    """Return colour and dashes of the k-th line."""
    return {"color": COLOURS[place % len(COLOURS)], "linestyle": DASHES[place % len(DASHES)]}
