"""Pictures of what a network sees: attributions beside the truth, and how faint a signal is found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deeplense.metrics.classification import Floats
from deeplense.metrics.figures import Figure, blank, canvas, look, styled
from deeplense.metrics.localisation import top_pixels
from deeplense.metrics.sensitivity import SensitivityBin
from deeplense.metrics.stretch import stretched
from deeplense.metrics.style import FAINT, short

DECADES = 10  # from this ratio of largest to smallest on, an axis is logarithmic
OUTLINE = "#56B4E9"
FEW_INCHES = 1.15


@dataclass(frozen=True)
class Panel:
    """An image and maps of it.

    Parameters
    ----------
    title
        What it is.
    image
        [C, H, W].
    attributions
        Method → [H, W].
    truths
        What is known of it → [H, W]; empty where nothing is.
    """

    title: str
    image: Floats
    attributions: Mapping[str, Floats]
    truths: Mapping[str, Floats]


@styled
def sensitivity_figure(curves: Mapping[str, Sequence[SensitivityBin]], xlabel: str) -> Figure:
    """Return the AUROC against the strength of a signal: a point at each bin's median, bars as wide as the bin.

    Parameters
    ----------
    curves
        Name in the legend → bins; not empty.
    xlabel
        What makes the signal strong.
    """
    figure, axes = canvas()
    bins = [one for curve in curves.values() for one in curve]
    low, high = min(one.low for one in bins), max(one.high for one in bins)
    for k, (name, curve) in enumerate(curves.items()):
        middle, value = [one.middle for one in curve], [one.auroc.value for one in curve]
        down, up = ([abs(getattr(one.auroc, end) - one.auroc.value) for one in curve] for end in ("low", "high"))
        wide = np.array([(one.middle - one.low, one.high - one.middle) for one in curve]).T
        bars: dict[str, Any] = {"fmt": "none", "color": look(k)["color"], "linewidth": 1.0}
        axes.errorbar(middle, value, yerr=[down, up], **bars)
        axes.errorbar(middle, value, xerr=wide, alpha=0.35, **bars)
        axes.plot(middle, value, marker="o", markersize=4, label=short(name, 30), **look(k) | {"linewidth": 1.0})
    if 0 < DECADES * low <= high:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")  # powers of ten would need mathtext, which the style turns off
        axes.xaxis.set_minor_formatter("")
    elif high >= 1e4:
        axes.xaxis.set_major_formatter("{x:.2g}")
        axes.locator_params(axis="x", nbins=4)
    floor = min(one.auroc.low for one in bins)
    if floor < 0.6:
        axes.axhline(0.5, color=FAINT, linewidth=0.8, linestyle=":")
    axes.set(xlabel=xlabel, ylabel="AUROC", ylim=(floor - 0.03 * (1 - floor) - 1e-6, 1 + 0.03 * (1 - floor) + 1e-6))
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.legend(loc="lower right")
    return figure


@styled
def attribution_figure(panels: Sequence[Panel]) -> Figure:
    """Return a row for each image: itself, its attributions, and what is known of it, outlined in all of them.

    The outline holds the brightest pixels of the first truth, those that a score asks for.

    Parameters
    ----------
    panels
        One or more, all with the same methods and truths.
    """
    names = ["image", *panels[0].attributions, *panels[0].truths]
    figure = blank((FEW_INCHES * len(names), (FEW_INCHES + 0.22) * len(panels) + 0.2))
    grid = figure.subplots(len(panels), len(names), squeeze=False)
    for row, panel in zip(grid, panels, strict=True):
        shown = [
            stretched(panel.image),
            *map(_bright, panel.attributions.values()),
            *map(_bright, panel.truths.values()),
        ]
        colours = ["gray", *["magma"] * len(panel.attributions), *["viridis"] * len(panel.truths)]
        first = next(iter(panel.truths.values()), None)
        for axes, picture, colour in zip(row, shown, colours, strict=True):
            axes.imshow(picture, cmap=colour, vmin=0, vmax=1, interpolation="nearest")
            axes.set_axis_off()
            if first is not None and (mask := top_pixels(first)).any() and axes is not row[0]:
                axes.contour(mask.astype(float), levels=[0.5], colors=OUTLINE, linewidths=0.5)
        row[0].set_title(short(panel.title, 40), fontsize=6.5, pad=2, loc="left")
    for axes, name in zip(grid[0][1:], names[1:], strict=True):
        axes.set_title(short(name, 24), fontsize=6.5, pad=2)
    return figure


def _bright(map_: Floats) -> NDArray[np.float64]:
    """Return a map from 0 to 1, its root shown: faint parts beside bright ones."""
    top = float(map_.max())
    return np.sqrt(np.clip(map_ / top, 0, 1)) if top > 0 else np.zeros(map_.shape)
