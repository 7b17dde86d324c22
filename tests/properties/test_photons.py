"""What every camera obeys: flux is kept, images do not know of each other, magnitudes come back."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deeplense.instruments.instrument import Instrument
from deeplense.instruments.optics import bin_pixels, convolve_kernel, convolve_separable, expose, gaussian_taps
from deeplense.instruments.psf import kernel
from deeplense.sky.light import Sersic, sersic_flux
from deeplense.sky.mass import Shear
from deeplense.sky.scene import Scene

FWHM = st.floats(0.0, 0.5)


def camera(psf_fwhm: float, pixel_scale: float = 0.1, psf_truncation: float = 4.0) -> Instrument:
    """Return a camera with that PSF."""
    return Instrument("a camera", "none", pixel_scale=pixel_scale, psf_fwhm=psf_fwhm, psf_truncation=psf_truncation)


def moffat(psf_fwhm: float, beta: float) -> Instrument:
    """Return a camera with a Moffat PSF."""
    return Instrument("a camera", "none", pixel_scale=0.1, psf="moffat", psf_fwhm=psf_fwhm, moffat_beta=beta)


SIDE = st.integers(0, 8).map(lambda radius: 2 * radius + 1)


@given(psf_fwhm=FWHM, seed=st.integers(0, 99), truncation=st.floats(1, 6))
def test_convolution_keeps_the_flux_of_an_interior_source(psf_fwhm: float, seed: int, truncation: float) -> None:
    taps = gaussian_taps(camera(psf_fwhm, psf_truncation=truncation))
    assert len(taps) % 2 == 1
    assert taps == taps[::-1]
    image = torch.zeros(2, 50, 60, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    image[:, 20:30, 20:30] = torch.rand(2, 10, 10, generator=generator, dtype=torch.float64)
    blurred = convolve_separable(image, taps)
    torch.testing.assert_close(blurred.sum((1, 2)), image.sum((1, 2)), rtol=1e-13, atol=0)
    assert blurred.min() >= 0


@given(psf_fwhm=FWHM, value=st.floats(-5, 5))
def test_convolution_leaves_a_flat_image_flat_to_the_edge(psf_fwhm: float, value: float) -> None:
    image = torch.full((9, 7), value, dtype=torch.float64)
    torch.testing.assert_close(convolve_separable(image, gaussian_taps(camera(psf_fwhm))), image, rtol=1e-14, atol=0)


@given(
    psf_fwhm=FWHM,
    split=st.integers(1, 6),
    side=st.integers(8, 40),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_convolution_does_not_care_how_images_are_batched(
    psf_fwhm: float, split: int, side: int, dtype: torch.dtype
) -> None:
    image = torch.rand(7, side, side + 3, generator=torch.Generator().manual_seed(side), dtype=dtype)
    taps = gaussian_taps(camera(psf_fwhm))
    parts = torch.cat([convolve_separable(part, taps) for part in image.split(split)])
    assert torch.equal(parts, convolve_separable(image, taps)), "bits depend on the batch"


@given(rows=SIDE, columns=SIDE, seed=st.integers(0, 99))
def test_a_kernel_keeps_the_flux_of_an_interior_source_and_a_flat_image(rows: int, columns: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    psf = generator.random((rows, columns))
    psf /= psf.sum()
    image = torch.zeros(2, 30, 33, dtype=torch.float64)
    image[:, 10:20, 10:20] = torch.from_numpy(generator.random((2, 10, 10)))
    blurred = convolve_kernel(image, psf)
    torch.testing.assert_close(blurred.sum((1, 2)), image.sum((1, 2)), rtol=1e-12, atol=0)
    assert blurred.min() >= -1e-14
    flat = torch.full((7, 9), 3.0, dtype=torch.float64)
    torch.testing.assert_close(convolve_kernel(flat, psf), flat, rtol=1e-13, atol=0)


@given(
    psf_fwhm=st.floats(0.01, 0.9),
    beta=st.floats(1.1, 9),
    split=st.integers(1, 6),
    side=st.integers(8, 40),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_a_kernel_does_not_care_how_images_are_batched(
    psf_fwhm: float, beta: float, split: int, side: int, dtype: torch.dtype
) -> None:
    image = torch.rand(7, side, side + 3, generator=torch.Generator().manual_seed(side), dtype=dtype)
    camera = moffat(psf_fwhm, beta)
    psf = kernel(camera)
    assert psf.sum() == pytest.approx(1, abs=1e-13)
    whole = convolve_kernel(image, psf)
    parts = [convolve_kernel(part, psf) for part in image.split(split)]
    assert torch.equal(torch.cat(parts), whole), "bits depend on the batch"
    bands = image[:6].reshape(2, 3, side, side + 3)
    assert torch.equal(convolve_kernel(bands, psf).reshape(6, side, side + 3), whole[:6])


@given(factor=st.integers(1, 6), rows=st.integers(1, 8), columns=st.integers(1, 8), split=st.integers(1, 4))
def test_binning_keeps_the_flux_of_every_image_whatever_the_batch(
    factor: int, rows: int, columns: int, split: int
) -> None:
    image = torch.rand(5, rows * factor, columns * factor, generator=torch.Generator().manual_seed(rows))
    binned = bin_pixels(image.double(), factor)
    assert binned.shape == (5, rows, columns)
    torch.testing.assert_close(binned.sum((1, 2)), image.double().sum((1, 2)), rtol=1e-13, atol=0)
    parts = torch.cat([bin_pixels(part, factor) for part in image.split(split)])
    assert torch.equal(parts, bin_pixels(image, factor)), "bits depend on the batch"


@given(psf_fwhm=FWHM, supersampling=st.integers(1, 4), x=st.floats(-0.3, 0.3))
def test_more_samples_keep_the_flux(psf_fwhm: float, supersampling: int, x: float) -> None:
    scene = Scene((Shear(0.0),), (Sersic(2.0, 0.5, 1.0, 0.1, -0.1, x, 0.1),))
    image = expose(scene, (camera(psf_fwhm),), 120, torch.zeros(0, dtype=torch.float64), supersampling)
    assert image.sum().item() == pytest.approx(2 * sersic_flux(0.5, 1.0), rel=3e-3)


@given(x=st.floats(-0.5, 0.5), y=st.floats(-0.5, 0.5), psf_fwhm=FWHM, n=st.floats(0.7, 1.5))
def test_a_source_that_is_not_lensed_keeps_its_flux(x: float, y: float, psf_fwhm: float, n: float) -> None:
    scene = Scene((Shear(0.0),), (Sersic(2.0, 0.5, n, 0.1, -0.1, torch.full((1, 1, 1, 1), x).double(), y),))
    image = expose(scene, (camera(psf_fwhm),), 160, torch.zeros(0, dtype=torch.float64))
    assert image.sum().item() == pytest.approx(2 * sersic_flux(0.5, n), rel=1e-2)


@given(magnitude=st.floats(10, 35), zero_point=st.floats(20, 30))
def test_magnitude_and_electron_rate_there_and_back(magnitude: float, zero_point: float) -> None:
    instrument = Instrument("a camera", "none", pixel_scale=0.1, psf_fwhm=0.1, zero_point=zero_point)
    rate = instrument.electron_rate(magnitude)
    assert zero_point - 2.5 * math.log10(rate) == pytest.approx(magnitude, abs=1e-12)
    assert instrument.electron_rate(magnitude + 5) == pytest.approx(rate / 100, rel=1e-12)
    assert instrument.electron_rate(zero_point) == 1
