"""Pictures of scores of strangeness: how they are distributed, and whether their p-values are what they should be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from deeplense.metrics.anomalies import uniformity
from deeplense.metrics.classification import Floats
from deeplense.metrics.figures import Figure, blank, canvas, look, png, styled
from deeplense.metrics.intervals import Z
from deeplense.metrics.style import COLOURS, FAINT, short

SHOWN = (0.5, 99.5)  # percentiles of each class that lie within the picture; the rest is gathered at its edges
REACH = 2.0  # times the width of the normal distribution: as far as the picture goes to either side of it
BINS, FEWEST = 40, 8
P_BINS = 20
BRIGHTEST = 99.8  # percentile of a map: no single pixel sets the colours
FAINTER = 75  # percentage of the maps that stay within the colours: the strangest image leaves the others some
DOTS = 100  # per inch


@styled
def score_figure(scores: Mapping[str, Floats], normal: str, xlabel: str = "anomaly score") -> Figure:
    """Return how the scores of each class are distributed: the normal one as an area, the others as lines.

    Scores beyond the range shown count in the outermost bins, so that every distribution adds up to 1.

    Parameters
    ----------
    scores
        Class name → [N] its scores; none empty.
    normal
        Which of them is normal.
    xlabel
        What the score is.
    """
    figure, axes = canvas()
    edges = _edges(scores, normal)
    lines = [name for name in scores if name != normal]
    for name in (normal, *lines):
        # Halfway into the outermost bins: a score on an edge must not fall out by rounding.
        inside = np.clip(scores[name], (edges[0] + edges[1]) / 2, (edges[-2] + edges[-1]) / 2)
        share = np.histogram(inside, edges)[0] / len(inside)
        if name == normal:
            axes.stairs(share, edges, fill=True, color=FAINT, alpha=0.45, zorder=2, label=short(name, 24))
        else:
            axes.stairs(share, edges, label=short(name, 24), linewidth=1.4, zorder=3, **look(lines.index(name)))
    beyond = any(values.min() < edges[0] or values.max() > edges[-1] for values in scores.values())
    axes.set(xlabel=xlabel + " (the rest at the edges)" * beyond, ylabel="fraction of the class")
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(0, 1.05 * axes.get_ylim()[1])
    axes.yaxis.set_major_formatter(lambda fraction, _: f"{fraction:.0%}")
    axes.locator_params(axis="x", nbins=5)
    if len(scores) <= 12:
        axes.legend(loc="best")
    return figure


@styled
def p_value_figure(p_values: Floats, calibration: int | None = None) -> Figure:
    """Return how the p-values of normal images are distributed, with the 95 % band about what they should be.

    Parameters
    ----------
    p_values
        [N] p-values of normal images.
    calibration
        Number of calibration scores that they share: its scatter widens the band, see `uniformity`.

    Raises
    ------
    InvalidOption, InvalidDataset
        See `uniformity`.
    """
    distance, probability = uniformity(p_values, calibration)
    figure, axes = canvas()
    n = len(p_values)
    bins = int(np.clip(n // 20, 5, P_BINS))
    extra = 0.0 if calibration is None else n / calibration
    half = Z * np.sqrt(n / bins * (1 - 1 / bins) * (1 + extra))
    axes.axhspan(max(0.0, n / bins - half), n / bins + half, color=FAINT, alpha=0.25, linewidth=0, label="95 % band")
    axes.axhline(n / bins, color=FAINT, linewidth=1.0, linestyle="--", label="uniform")
    # A p-value of k / (n + 1) stands for the interval below it: on an edge it belongs to the bin before.
    counts, edges = np.histogram(np.minimum(1.0, 1 + 1e-9 - np.asarray(p_values)), np.linspace(0, 1, bins + 1))
    axes.stairs(
        counts[::-1], edges, baseline=None, color=COLOURS[0], linewidth=1.4, zorder=3, label=f"{n:,} normal images"
    )
    axes.set(xlabel="p-value", ylabel="images", xlim=(0, 1))
    axes.set_ylim(0, 1.3 * max(float(counts.max()), n / bins + half))
    axes.set_title(f"KS distance {distance:.3f}, probability {_rounded(probability)}", fontsize=8)
    axes.locator_params(axis="y", nbins=6, integer=True)
    axes.legend(loc="upper center", ncols=3, columnspacing=1.0, handlelength=1.4, fontsize=7)
    return figure


@dataclass(frozen=True)
class MapColours:
    """The colours that maps of strangeness share, so that they can be compared.

    Parameters
    ----------
    low, high
        Values at the ends; what lies beyond has the colour of the end. Of signed maps they lie symmetrically about 0,
        which is white.
    """

    low: float
    high: float

    @classmethod
    def of(cls, maps: Sequence[Floats]) -> Self:
        """Return the colours of one or more maps [H, W]: signed where there are negative values, else from 0 on."""
        finite = [map_[np.isfinite(map_)] for map_ in maps]
        finite = [values for values in finite if values.size] or [np.zeros(1)]
        high = float(np.percentile([np.percentile(np.abs(values), BRIGHTEST) for values in finite], FAINTER))
        high = high or max(float(np.abs(values).max()) for values in finite) or 1.0
        return cls(-high if min(values.min() for values in finite) < 0 else 0.0, high)

    def png(self, map_: Floats) -> bytes:
        """Return a map [H, W] as PNG, a pixel for a pixel; pixels that are not finite are grey."""
        return png(self._drawn(map_), DOTS)

    def bar(self) -> bytes:
        """Return all colours from low to high as PNG, one pixel high."""
        return self.png(np.linspace(self.low, self.high, 256)[None])

    @styled
    def _drawn(self, map_: Floats) -> Figure:
        figure = blank((map_.shape[1] / DOTS, map_.shape[0] / DOTS))
        figure.set_layout_engine("none")
        figure.set_facecolor(FAINT)
        colours = "RdBu_r" if self.low < 0 else "magma"
        known = np.ma.masked_invalid(map_)
        figure.figimage(known, cmap=colours, vmin=self.low, vmax=self.high, origin="upper")
        return figure


def _edges(scores: Mapping[str, Floats], normal: str) -> NDArray[np.float64]:
    # What could not be scored is infinitely strange: it counts at the edge, but sets none.
    finite = {name: values[np.isfinite(values)] for name, values in scores.items()}
    finite = {name: values if len(values) else np.zeros(1) for name, values in finite.items()}
    ends = np.array([np.percentile(values, SHOWN) for values in finite.values()], dtype=np.float64)
    low, high = float(ends[:, 0].min()), float(ends[:, 1].max())
    own_low, own_high = (float(end) for end in np.percentile(finite[normal], SHOWN))
    # Anomalies a thousand times as strange would leave the normal images a single bin.
    reach = REACH * (own_high - own_low) or np.inf
    low, high = max(low, own_low - reach), min(high, own_high + reach)
    if high <= low:
        low, high = low - 0.5 * (abs(low) or 1.0), high + 0.5 * (abs(high) or 1.0)
    fewest = min(len(values) for values in scores.values())
    return np.linspace(low, high, int(np.clip(2 * fewest**0.5, FEWEST, BINS)) + 1)


def _rounded(probability: float) -> str:
    return f"{probability:.2g}" if probability >= 1e-4 else "< 0.0001"
