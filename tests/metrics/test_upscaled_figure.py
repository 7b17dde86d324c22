"""The picture of a super-resolved image: four panels, three of them in one stretch."""

from __future__ import annotations

from typing import Any

import numpy as np

from deeplense.metrics.figures import png
from deeplense.metrics.upscaled_figure import upscaled_figure


def panels(coarse: np.ndarray, fine: np.ndarray) -> list[Any]:
    """Return what the first four axes show."""
    figure = upscaled_figure("$x$", coarse, fine, fine / 2, np.abs(fine))
    assert png(figure).startswith(b"\x89PNG")
    return [axes.images[0].get_array() for axes in figure.axes[:4]]


def test_equal_values_look_equal_in_all_panels_but_that_of_sigma() -> None:
    coarse = np.random.default_rng(0).normal(1, 1, (1, 8, 12))
    fine = coarse.repeat(2, 1).repeat(2, 2)
    low, middle, estimate, sigma = panels(coarse, fine)
    np.testing.assert_array_equal(low, middle)
    assert low.shape == estimate.shape == (16, 24) and (estimate != middle).any()
    np.testing.assert_allclose(sigma, np.abs(fine[0]))


def test_colours_and_holes_are_shown() -> None:
    coarse = np.random.default_rng(0).normal(1, 1, (3, 8, 8))
    coarse[:, 2, 2] = np.nan
    low, *_, sigma = panels(coarse, np.ones((3, 16, 16)))
    assert low.shape == (16, 16, 3) and np.isfinite(low).all() and sigma.shape == (16, 16)
