"""The pixel grid, the PSF and the binning: against scipy.ndimage, closed forms and lenstronomy."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from astropy.io import fits
from scipy import ndimage, special

from deeplense.core.errors import InvalidOption
from deeplense.instruments.instrument import Instrument, load_instrument, shipped_instruments
from deeplense.instruments.optics import (
    SIGMA_PER_FWHM,
    bin_pixels,
    convolve_kernel,
    convolve_separable,
    expose,
    gaussian_taps,
    pixel_grid,
)
from deeplense.instruments.psf import kernel, moffat_kernel
from deeplense.sky.light import Sersic, b_n
from deeplense.sky.mass import SIE
from deeplense.sky.scene import Scene

MOFFAT = Instrument("a camera", "none", pixel_scale=0.1, psf="moffat", psf_fwhm=0.4, moffat_beta=2.5)


def blur(image: torch.Tensor, camera: Instrument, supersampling: int = 1) -> torch.Tensor:
    """Return images convolved with the PSF of a camera, as `expose` does it."""
    if camera.psf == "gaussian":
        return convolve_separable(image, gaussian_taps(camera, supersampling))
    return convolve_kernel(image, kernel(camera, supersampling))


def lopsided(rows: int = 7, columns: int = 9) -> np.ndarray:
    """Return a kernel without any symmetry, its sum 1."""
    pixels = np.random.default_rng(3).random((rows, columns))
    return pixels / pixels.sum()


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
    scene = Scene((SIE(0.0),), (Sersic(1.0, 0.1, 1.0, 0.0, 0.0, 0.55, 0.15),))
    image = expose(scene, (instrument,), 20, torch.zeros(0))
    row, column = divmod(int(image.argmax()), 20)
    assert (row, column) == (11, 15)


def test_pixel_values_are_brightness_times_area() -> None:
    source = Sersic(3.0, 1.0)
    fine = Instrument("a camera", "none", pixel_scale=0.05, psf_fwhm=0.0)
    x, y = pixel_grid(16, 0.05, torch.zeros(0, dtype=torch.float64))
    image = expose(Scene((SIE(0.0),), (source,)), (fine,), 16, x)
    assert image.shape == (1, 1, 16, 16), "a scene of mere numbers is a batch of one"
    torch.testing.assert_close(image[0, 0], source.surface_brightness(x, y) * 0.05**2)


# kernels of pixels


@pytest.mark.parametrize("shape", [(20, 17), (8, 31), (3, 4), (1, 1)])
@pytest.mark.parametrize("psf", [lopsided(), lopsided(1, 5), lopsided(21, 3), np.ones((1, 1))])
def test_a_kernel_convolves_as_scipy_with_nearest_edges(psf: np.ndarray, shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).normal(size=(3, *shape))
    reference = np.stack([ndimage.convolve(single, psf, mode="nearest") for single in image])
    np.testing.assert_allclose(convolve_kernel(torch.from_numpy(image), psf).numpy(), reference, atol=1e-13)
    single = convolve_kernel(torch.from_numpy(image).float(), psf)
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single.numpy(), reference, atol=2e-6)


def test_a_point_becomes_the_kernel_upright() -> None:
    image = torch.zeros(1, 15, 15, dtype=torch.float64)
    image[0, 6, 8] = 1
    blurred = convolve_kernel(image, lopsided())[0].numpy()
    np.testing.assert_allclose(blurred[6 - 3 : 6 + 4, 8 - 4 : 8 + 5], lopsided(), atol=1e-16)


def test_a_gaussian_by_taps_and_by_kernel_is_the_same() -> None:
    camera = Instrument("a camera", "none", pixel_scale=0.1, psf_fwhm=0.3)
    image = torch.rand(2, 3, 20, 24, dtype=torch.float64)
    for supersampling in (1, 2):
        torch.testing.assert_close(
            convolve_kernel(image, kernel(camera, supersampling)),
            blur(image, camera, supersampling),
            atol=1e-14,
            rtol=0,
        )


@pytest.mark.parametrize("leading", [(), (4,), (2, 3), (0,), (0, 3)])
def test_images_of_any_leading_shape_are_convolved_one_by_one(leading: tuple[int, ...]) -> None:
    image = torch.rand(*leading, 12, 14)
    blurred = blur(image, MOFFAT)
    assert blurred.shape == image.shape
    for index in np.ndindex(*leading):
        assert torch.equal(blurred[index], blur(image[index], MOFFAT))


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_do_not_change_bits(threads: int) -> None:
    image = torch.rand(5, 150, 150, generator=torch.Generator().manual_seed(0))
    expected = blur(image[2], load_instrument("kids_r"))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert torch.equal(blur(image, load_instrument("kids_r"))[2], expected)
    finally:
        torch.set_num_threads(before)


def test_light_can_be_followed_back_through_the_kernel() -> None:
    image = torch.rand(2, 8, 9, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: bin_pixels(blur(x, MOFFAT, 2), 1), image)


# samples and pixels


def test_binning_sums_blocks() -> None:
    image = torch.arange(2 * 6 * 9, dtype=torch.float64).reshape(2, 6, 9)
    torch.testing.assert_close(bin_pixels(image, 3), image.reshape(2, 2, 3, 3, 3).sum((2, 4)))
    assert torch.equal(bin_pixels(image, 1), image)


def gaussian_source(sigma: float, x: float, y: float) -> Sersic:
    """Return a round Gaussian source of flux 1: a Sérsic profile of index 1/2."""
    peak = 1 / (2 * math.pi * sigma**2)
    return Sersic(peak * math.exp(-b_n(0.5)), sigma * math.sqrt(2 * b_n(0.5)), 0.5, 0.0, 0.0, x, y)


def gaussian_in_pixels(sigma: float, x: float, y: float, n_pixels: int, pixel_scale: float) -> np.ndarray:
    """Return the flux of a Gaussian of flux 1 in each pixel."""
    edges = (np.arange(n_pixels + 1) - n_pixels / 2) * pixel_scale
    along_x, along_y = (np.diff(special.ndtr((edges - centre) / sigma)) for centre in (x, y))
    return along_y[:, None] * along_x[None, :]


@pytest.mark.parametrize(("source", "psf_fwhm"), [(0.12, 0.3), (0.05, 0.4), (0.3, 0.1)])
def test_samples_of_a_pixel_approach_the_closed_form_of_two_gaussians(source: float, psf_fwhm: float) -> None:
    camera = Instrument("a camera", "none", pixel_scale=0.2, psf_fwhm=psf_fwhm, psf_truncation=8.0)
    scene = Scene((SIE(0.0),), (gaussian_source(source, 0.13, -0.31),))
    total = math.hypot(source, psf_fwhm * SIGMA_PER_FWHM)
    expected = gaussian_in_pixels(total, 0.13, -0.31, 31, 0.2)
    like = torch.zeros(0, dtype=torch.float64)
    errors = {
        s: np.abs(expose(scene, (camera,), 31, like, supersampling=s).numpy() - expected).max() / expected.max()
        for s in (1, 2, 4, 8, 16)
    }
    assert errors[16] < 2e-3
    assert errors[16] < errors[4] / 8, "the error does not fall with the square of the samples"
    assert errors[4] < errors[1] / 8


@pytest.mark.parametrize("name", [*shipped_instruments()])
@pytest.mark.parametrize("supersampling", [1, 3])
def test_every_instrument_keeps_the_flux_of_a_source(name: str, supersampling: int) -> None:
    camera = load_instrument(name)
    width = 3 * camera.pixel_scale
    scene = Scene((SIE(0.0),), (gaussian_source(width, 0.3 * width, -0.2 * width),))
    image = expose(scene, (camera,), 101, torch.zeros(0, dtype=torch.float64), supersampling)
    assert image.shape == (1, 1, 101, 101)
    assert image.sum().item() == pytest.approx(1, rel=1e-6)
    row, column = divmod(int(image.argmax()), 101)
    assert abs(row - 50) <= 1
    assert abs(column - 50) <= 1


def test_one_sample_is_the_default() -> None:
    scene = Scene((SIE(1.0),), (Sersic(1.0, 0.2, 1.0, 0.1, 0.0, torch.rand(3, 1, 1, 1), 0.05),))
    for camera in (load_instrument("published_ii"), MOFFAT):
        image = expose(scene, (camera,), 20, torch.zeros(0))
        assert torch.equal(image, expose(scene, (camera,), 20, torch.zeros(0), 1))


def test_bands_are_images_of_their_own() -> None:
    sources = torch.rand(2, 3, 1, 1, dtype=torch.float64)
    like = torch.zeros(0, dtype=torch.float64)
    scene = Scene((SIE(1.0),), (Sersic(sources, 0.2, 1.0, 0.1, 0.0, 0.1, 0.05),))
    sharp, wide = (Instrument("a camera", "none", pixel_scale=0.1, psf_fwhm=fwhm) for fwhm in (0.1, 0.3))
    image = expose(scene, (sharp, wide, MOFFAT), 16, like, supersampling=2)
    assert image.shape == (2, 3, 16, 16)
    for k, camera in enumerate((sharp, wide, MOFFAT)):
        one = Scene((SIE(1.0),), (Sersic(sources[1:, k : k + 1], 0.2, 1.0, 0.1, 0.0, 0.1, 0.05),))
        assert torch.equal(image[1, k], expose(one, (camera,), 16, like, 2)[0, 0])


def test_light_of_one_color_has_one_brightness_in_all_bands() -> None:
    scene = Scene((SIE(1.0),), (Sersic(torch.rand(2, 1, 1, 1), 0.2),))
    image = expose(scene, (MOFFAT, MOFFAT), 16, torch.zeros(0))
    assert image.shape == (2, 2, 16, 16)
    assert torch.equal(image[:, 0], image[:, 1])


def test_a_psf_file_of_the_gaussian_gives_the_gaussians_image(tmp_path: Path) -> None:
    bell = Instrument("a camera", "none", pixel_scale=0.1, psf_fwhm=0.25)
    scene = Scene((SIE(0.8),), (Sersic(1.0, 0.2, 1.0, 0.1, 0.0, 0.1, 0.05),))
    like = torch.zeros(0, dtype=torch.float64)
    for supersampling in (1, 3):
        path = tmp_path / f"psf{supersampling}.fits"
        fits.writeto(path, kernel(bell, supersampling))
        camera = Instrument(
            "a camera", "none", pixel_scale=0.1, psf="kernel", psf_file=path, psf_supersampling=supersampling
        )
        expected = expose(scene, (bell,), 24, like, supersampling)
        torch.testing.assert_close(expose(scene, (camera,), 24, like, supersampling), expected, atol=1e-13, rtol=0)


@pytest.mark.parametrize("supersampling", [0, -2])
def test_samples_are_counted_from_one(supersampling: int) -> None:
    scene = Scene((SIE(0.0),), (Sersic(1.0, 0.2),))
    with pytest.raises(InvalidOption, match="supersampling"):
        expose(scene, (MOFFAT,), 16, torch.zeros(0), supersampling)


# lenstronomy


@pytest.mark.parametrize("kind", ["fft", "fft_static", "grid"])
def test_lenstronomy_convolves_alike_away_from_the_edge(kind: str) -> None:
    convolution = pytest.importorskip("lenstronomy.ImSim.Numerics.convolution")
    image = np.zeros((40, 40))
    image[12:28, 12:28] = np.random.default_rng(1).random((16, 16))  # beyond the edge lenstronomy has zeros
    psf = lopsided(9, 9)
    theirs = convolution.PixelKernelConvolution(psf, convolution_type=kind).convolution2d(image)
    np.testing.assert_allclose(convolve_kernel(torch.from_numpy(image), psf).numpy(), theirs, atol=1e-14)


@pytest.mark.parametrize(("fwhm", "beta"), [(0.7, 4.765), (0.667, 2.48), (0.944, 2.13)])
def test_lenstronomy_has_the_same_moffat(fwhm: float, beta: float) -> None:
    util = pytest.importorskip("lenstronomy.Util.kernel_util")
    theirs = util.kernel_moffat(num_pix=31, delta_pix=0.2, fwhm=fwhm, moffat_beta=beta)
    np.testing.assert_allclose(moffat_kernel(fwhm / 0.2, beta, 15).ravel(), theirs, rtol=1e-11)
