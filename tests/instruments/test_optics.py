"""The pixel grid and the PSF, against scipy.ndimage as the published generator uses it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from deeplense.instruments.instrument import Instrument, load_instrument
from deeplense.instruments.optics import SIGMA_PER_FWHM, convolve_separable, expose, gaussian_taps, pixel_grid
from deeplense.sky.light import Sersic
from deeplense.sky.mass import SIE
from deeplense.sky.scene import Scene


@pytest.mark.parametrize(("name", "radius"), [("published_i", 3), ("published_ii", 3), ("published_iii", 2)])
def test_the_psf_is_scipys_gaussian_filter_with_nearest_edges(name: str, radius: int) -> None:
    instrument = load_instrument(name)
    taps = gaussian_taps(instrument)
    assert len(taps) == 2 * radius + 1
    image = np.random.default_rng(0).random((3, 20, 17))
    sigma = instrument.psf_fwhm * SIGMA_PER_FWHM / instrument.pixel_scale
    reference = ndimage.gaussian_filter(image, (0, sigma, sigma), mode="nearest", truncate=instrument.psf_truncation)
    np.testing.assert_allclose(convolve_separable(torch.from_numpy(image), taps).numpy(), reference, rtol=1e-13)


def test_a_psf_of_no_width_changes_nothing() -> None:
    instrument = Instrument("a camera", "none", pixel_scale=0.1, psf_fwhm=0.0)
    assert gaussian_taps(instrument) == [1.0]
    image = torch.rand(2, 8, 8)
    assert torch.equal(convolve_separable(image, [1.0]), image)


def test_a_psf_wider_than_the_image_still_works() -> None:
    taps = gaussian_taps(Instrument("a camera", "none", pixel_scale=0.1, psf_fwhm=2.0))
    image = torch.rand(1, 8, 8, dtype=torch.float64)
    assert len(taps) > 2 * 8
    reference = ndimage.correlate1d(
        ndimage.correlate1d(image.numpy(), taps, 1, mode="nearest"), taps, 2, mode="nearest"
    )
    np.testing.assert_allclose(convolve_separable(image, taps).numpy(), reference, rtol=1e-12)


@pytest.mark.parametrize("n_pixels", [8, 9, 150])
def test_the_grid_is_centred_with_x_along_columns(n_pixels: int) -> None:
    x, y = pixel_grid(n_pixels, 0.05, torch.zeros(0, dtype=torch.float64))
    assert x.shape == (1, n_pixels)
    assert y.shape == (n_pixels, 1)
    assert torch.equal(x, -x.flip(1)), "the grid is not symmetric about 0"
    np.testing.assert_allclose(x[0].diff().numpy(), 0.05, rtol=1e-12)
    assert x[0, 0].item() == pytest.approx(-(n_pixels - 1) / 2 * 0.05, rel=1e-14)
    assert torch.equal(x[0], y[:, 0])


def test_a_source_to_the_right_and_above_has_large_column_and_row() -> None:
    instrument = Instrument("a camera", "none", pixel_scale=0.1, psf_fwhm=0.1)
    image = expose(Scene((SIE(0.0),), Sersic(1.0, 0.1, 1.0, 0.0, 0.0, 0.55, 0.15)), instrument, 20, torch.zeros(0))
    row, column = divmod(int(image.argmax()), 20)
    assert (row, column) == (11, 15)


def test_pixel_values_are_brightness_times_area() -> None:
    source = Sersic(3.0, 1.0)
    fine = Instrument("a camera", "none", pixel_scale=0.05, psf_fwhm=0.0)
    x, y = pixel_grid(16, 0.05, torch.zeros(0, dtype=torch.float64))
    image = expose(Scene((SIE(0.0),), source), fine, 16, x)
    torch.testing.assert_close(image, source.surface_brightness(x, y) * 0.05**2)
