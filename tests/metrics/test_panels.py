"""Panels: everything that is given is on the picture."""

from xml.etree import ElementTree

import numpy as np
import pytest

from deeplense.metrics import figures
from deeplense.metrics.intervals import Interval
from deeplense.metrics.panels import Panel, attribution_figure, sensitivity_figure
from deeplense.metrics.sensitivity import SensitivityBin

RNG = np.random.default_rng(0)


def texts(figure):
    return " ".join(ElementTree.fromstring(figures.svg(figure)).itertext())


def curve(lows, value=0.9):
    return [
        SensitivityBin(x, 1.5 * x, 1.2 * x, 30, Interval(value, value - 0.05, min(1, value + 0.02), 60)) for x in lows
    ]


@pytest.mark.parametrize(
    ("lows", "scale"), [([1e-24, 1e-23, 1e-22], "log"), ([30.0, 50.0, 90.0], "linear"), ([0.0, 50.0, 900.0], "linear")]
)
def test_an_axis_over_decades_is_logarithmic(lows, scale):
    figure = sensitivity_figure({"axion against $no_{": curve(lows), "cdm against no_sub": curve(lows)}, "mass [eV]")
    assert figure.axes[0].get_xscale() == scale
    shown = texts(figure)
    assert "axion against $no_{" in shown and "cdm against no_sub" in shown and "mass [eV]" in shown
    assert "mathdefault" not in figures.svg(figure)


def test_every_interval_lies_within_the_picture():
    bins = [*curve([1.0, 2.0], value=0.45), SensitivityBin(4, 6, 5, 30, Interval(1.0, 0.9, 1.0, 60))]
    low, high = sensitivity_figure({"a": bins}, "x").axes[0].get_ylim()
    assert low < 0.40 and high > 1.0
    perfect = [SensitivityBin(1, 1, 1, 30, Interval(1.0, 1.0, 1.0, 60))]
    texts(sensitivity_figure({"a": perfect}, "x"))


@pytest.mark.parametrize("truths", [("true convergence", "change"), ()])
def test_a_row_per_image_and_a_column_per_map(truths):
    panels = [
        Panel(f"image-{k}: cdm", RNG.normal(size=(1, 12, 12)), {"Grad-CAM": RNG.random((12, 12)) * k},
              {name: RNG.random((12, 12)) for name in truths})
        for k in range(3)
    ]  # fmt: skip
    figure = attribution_figure(panels)
    assert len(figure.axes) == 3 * (2 + len(truths))
    shown = texts(figure)
    for expected in ("image-0: cdm", "image-2: cdm", "Grad-CAM", *truths):
        assert expected in shown
    outlined = [axes for axes in figure.axes if axes.collections]
    assert len(outlined) == (3 * 3 if truths else 0)
