"""Pictures of finer images: everything is on them, and one grey means one pixel value."""

from __future__ import annotations

import io
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from deeplense.metrics import figures
from deeplense.metrics.resolution_figures import SharedGreys, grey_png, power_of_ten, psnr_figure, spectrum_figure

RNG = np.random.default_rng(0)


def texts(figure):
    return " ".join(ElementTree.fromstring(figures.svg(figure)).itertext())


def test_every_image_has_its_step():
    values = RNG.normal(40, 1, 50)
    figure = psnr_figure({"against observed": values, "against $the_{": values + 6}, values + 1)
    words = texts(figure)
    assert all(word in words for word in ("against observed", "against $the_{", "noise floor", "PSNR [dB]"))
    for line, shift in zip(figure.axes[0].get_lines(), (0, 6, 1), strict=True):
        x, y = line.get_data()
        assert y[-1] == 1 and np.interp(np.median(values) + shift, x, y) == pytest.approx(0.5, abs=0.03)


def test_infinite_ratios_are_left_out():
    (line,) = psnr_figure({"a": np.array([40.0, np.inf, 41.0, np.nan])}).axes[0].get_lines()
    assert set(line.get_xdata()) <= {40.0, 41.0, -np.inf}
    assert "noise floor" not in texts(psnr_figure({"a": np.array([1.0, 2.0])}))


def test_spectra_are_logarithmic_and_the_coarse_limit_is_marked():
    frequencies = np.linspace(0.01, 0.5, 30)
    figure = spectrum_figure(frequencies, {"estimate": frequencies**-2, "observed": np.full(30, 1e-4)}, factor=4)
    axes = figure.axes[0]
    assert axes.get_yscale() == "log"
    words = texts(figure)
    assert all(word in words for word in ("estimate", "observed", "coarse limit", "10⁻", "cycles per fine pixel"))
    assert axes.get_lines()[0].get_xdata()[0] == 0.5 / 4
    assert "mathdefault" not in figures.svg(figure)


@pytest.mark.filterwarnings("error")
def test_spectra_of_nothing():
    for power in (np.zeros(5), np.array([1.0, 0, 0, 1e-30, 1e-3])):
        figures.svg(spectrum_figure(np.linspace(0.1, 0.5, 5), {"flat": power}, 2))


@pytest.mark.parametrize(("value", "text"), [(1e-3, "10⁻³"), (1.0, "10⁰"), (1e12, "10¹²")])
def test_powers_of_ten(value, text):
    assert power_of_ten(value) == text


@given(st.integers(0, 1000), st.floats(0.01, 100))
def test_one_grey_is_one_pixel_value_in_all_images(seed, brightness):
    generator = np.random.default_rng(seed)
    images = [generator.exponential(brightness, (2, side, side)) for side in (6, 12, 12)]
    greys = SharedGreys.of(images)
    assert [picture.shape for picture in greys.pictures] == [(6, 6), (12, 12), (12, 12)]
    pixels = np.concatenate([image.mean(axis=0).ravel() for image in images])
    shown = np.concatenate([picture.ravel() for picture in greys.pictures])
    assert (np.diff(shown[np.argsort(pixels)]) >= 0).all()
    assert greys.black <= greys.middle <= greys.white
    assert (shown[pixels >= greys.white] == 1).all() and (shown[pixels < greys.middle] <= 0.5).all()
    assert (shown[pixels <= greys.black] == shown.min()).all()


def test_the_same_image_alone_may_look_otherwise():
    faint, bright = RNG.random((1, 8, 8)), 1e4 * RNG.random((1, 8, 8))
    together, alone = SharedGreys.of([faint, bright]), SharedGreys.of([faint])
    assert np.ptp(together.pictures[0]) < 0.5 * np.ptp(alone.pictures[0])


def test_constant_images_have_greys():
    greys = SharedGreys.of([np.ones((1, 4, 4)), np.ones((1, 8, 8))])
    assert (greys.black, greys.white) == (1, 1)
    assert len(greys.pngs()) == 2


@pytest.mark.parametrize("shape", [(5, 9), (150, 150), (1, 256), (67, 3)])
def test_greys_are_drawn_a_pixel_for_a_pixel(shape):
    shown = np.linspace(0, 1, shape[0] * shape[1]).reshape(shape)
    drawn = np.asarray(Image.open(io.BytesIO(grey_png(shown))).convert("L"), np.float64)
    assert drawn.shape == shape
    assert np.abs(drawn / 255 - shown).max() < 0.01
