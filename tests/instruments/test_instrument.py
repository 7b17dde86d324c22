"""Instruments: zero points, backgrounds, and what is said when a number is missing."""

from __future__ import annotations

import dataclasses
import math

import pytest

from deeplense.core.errors import InvalidOption, UnknownName
from deeplense.instruments.instrument import Instrument, load_instrument

CAMERA = Instrument(
    "a camera",
    "a paper",
    pixel_scale=0.1,
    psf_fwhm=0.2,
    zero_point=25.0,
    sky_brightness=22.5,
    read_noise=3.0,
    exposure_time=100.0,
    num_exposures=4,
)


def test_background_is_sky_and_read_noise_of_all_exposures() -> None:
    sky_electrons = 10 ** (0.4 * 2.5) * 0.1**2 * 400  # in all exposures
    assert CAMERA.background_sigma() == pytest.approx(math.sqrt(sky_electrons + 4 * 9) / 400, rel=1e-14)
    assert CAMERA.total_exposure_time == 400


def test_a_given_background_is_taken_as_it_is() -> None:
    assert dataclasses.replace(CAMERA, background_rms=0.5).background_sigma() == 0.5
    assert Instrument("a", "b", pixel_scale=0.1, psf_fwhm=0.1, background_rms=0.0).background_sigma() == 0


@pytest.mark.parametrize(
    ("name", "sigma", "seconds", "amplitude"),
    [
        ("published_i", 0.01, None, None),
        ("published_ii", 0.005869103335680559, 2260.0, 53.24524195256707),
        ("published_iii", 0.005919973387690837, 5400.0, 323.8029528291004),
    ],
)
def test_the_published_cameras_have_their_published_numbers(
    name: str, sigma: float, seconds: float | None, amplitude: float | None
) -> None:
    from deeplense.sky.light import sersic_flux

    instrument = load_instrument(name)
    assert instrument.background_sigma() == pytest.approx(sigma, rel=1e-14)
    assert instrument.total_exposure_time == seconds
    if amplitude is not None:
        assert instrument.electron_rate(20.0) / sersic_flux(0.25, 1.0) == pytest.approx(amplitude, rel=1e-14)


@pytest.mark.parametrize("missing", ["sky_brightness", "exposure_time", "zero_point"])
def test_a_background_that_cannot_be_computed_says_what_to_add(missing: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        dataclasses.replace(CAMERA, **{missing: None}).background_sigma()
    assert "a camera" in caught.value.found
    assert "add" in caught.value.remedy


def test_magnitudes_need_a_zero_point() -> None:
    with pytest.raises(InvalidOption, match="no zero_point"):
        dataclasses.replace(CAMERA, zero_point=None).electron_rate(20.0)


def test_an_unknown_instrument_lists_the_nearest() -> None:
    with pytest.raises(UnknownName) as caught:
        load_instrument("published_iv")
    assert "published_ii" in caught.value.expected
