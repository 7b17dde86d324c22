"""PSF kernels: profiles with the width they name, pixels from FITS files, what is said of files that cannot serve."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from deeplense.core.errors import CorruptFile, InvalidOption, MissingFile
from deeplense.instruments.instrument import Instrument
from deeplense.instruments.psf import MAX_SIDE, gaussian_taps, kernel, moffat_kernel, read_kernel, rebin


def gaussian(psf_fwhm: float = 0.3, psf_truncation: float = 4.0) -> Instrument:
    """Return a camera of 0.1 arcsec pixels with a Gaussian PSF."""
    return Instrument("a camera", "none", pixel_scale=0.1, psf_fwhm=psf_fwhm, psf_truncation=psf_truncation)


def moffat(psf_fwhm: float = 0.5, beta: float = 3.0, psf_truncation: float = 8.0) -> Instrument:
    """Return a camera of 0.1 arcsec pixels with a Moffat PSF."""
    return Instrument(
        "a camera",
        "none",
        pixel_scale=0.1,
        psf="moffat",
        psf_fwhm=psf_fwhm,
        moffat_beta=beta,
        psf_truncation=psf_truncation,
    )


def from_file(path: Path, psf_supersampling: int = 1) -> Instrument:
    """Return a camera of 0.1 arcsec pixels with the PSF of a file."""
    return Instrument(
        "a camera", "none", pixel_scale=0.1, psf="kernel", psf_file=path, psf_supersampling=psf_supersampling
    )


def lopsided(rows: int = 7, columns: int = 9) -> np.ndarray:
    """Return pixels without any symmetry, some of them negative, as a measured PSF has them."""
    return np.random.default_rng(3).random((rows, columns)) - 0.1


def half_maximum(profile: np.ndarray, step: float) -> float:
    """Return the full width at half maximum of a peak in the middle of `profile`."""
    middle = len(profile) // 2
    falling = profile[middle:] / profile[middle]
    return 2 * step * float(np.interp(-0.5, -falling, np.arange(len(falling))))


@pytest.mark.parametrize("supersampling", [1, 2, 5])
@pytest.mark.parametrize("camera", [gaussian(), gaussian(0.0), moffat(), moffat(0.9, 2.1)])
def test_a_kernel_has_odd_sides_symmetry_and_sum_one(camera: Instrument, supersampling: int) -> None:
    pixels = kernel(camera, supersampling)
    assert pixels.dtype == np.float64
    assert pixels.shape[0] == pixels.shape[1]
    assert pixels.shape[0] % 2 == 1
    assert pixels.sum() == pytest.approx(1, abs=1e-14)
    assert pixels.min() >= 0
    np.testing.assert_allclose(pixels, pixels.T, rtol=1e-15)
    np.testing.assert_array_equal(pixels, pixels[::-1, ::-1])


@pytest.mark.parametrize("camera", [gaussian(0.45), moffat(0.45, 2.2), moffat(0.45, 4.765), moffat(1.2, 30.0)])
def test_the_width_at_half_maximum_is_the_one_asked_for(camera: Instrument) -> None:
    pixels = kernel(camera, 20)
    assert camera.psf_fwhm is not None
    assert half_maximum(pixels[len(pixels) // 2], 0.1 / 20) == pytest.approx(camera.psf_fwhm, rel=1e-3)


def test_the_wings_of_a_moffat_fall_as_its_slope_says() -> None:
    pixels = moffat_kernel(fwhm=4.0, beta=2.5, radius=400)
    middle = pixels[400, 400:]
    assert np.log(middle[400] / middle[200]) / np.log(2) == pytest.approx(-5.0, abs=1e-2)


@pytest.mark.parametrize(("radius", "beta"), [(3.0, 2.5), (10.0, 2.5), (10.0, 4.765)])
def test_a_moffat_encloses_the_light_of_the_formula(radius: float, beta: float) -> None:
    # 1 - (1 + R²/α²)^(1 - β) of all light lies within R
    fwhm, fine = 4.0, 8
    pixels = moffat_kernel(fwhm * fine, beta, 400 * fine // 4)
    rim = 400 / 4
    alpha = fwhm / (2 * np.sqrt(2 ** (1 / beta) - 1))
    y, x = np.indices(pixels.shape) - pixels.shape[0] // 2
    within = pixels[np.hypot(x, y) <= radius * fine].sum() / pixels[np.hypot(x, y) <= rim * fine].sum()
    expected = (1 - (1 + (radius / alpha) ** 2) ** (1 - beta)) / (1 - (1 + (rim / alpha) ** 2) ** (1 - beta))
    assert within == pytest.approx(expected, rel=1e-2)


def test_a_moffat_of_steep_wings_is_a_gaussian() -> None:
    steep, bell = kernel(moffat(0.5, 100.0, 4.0)), kernel(gaussian(0.5))
    np.testing.assert_allclose(steep, bell, atol=1e-2 * bell.max())


def test_a_gaussian_kernel_is_the_product_of_its_taps() -> None:
    for supersampling in (1, 3):
        taps = np.array(gaussian_taps(gaussian(), supersampling))
        np.testing.assert_array_equal(kernel(gaussian(), supersampling), np.outer(taps, taps))


def test_finer_samples_of_a_gaussian_are_those_of_smaller_pixels() -> None:
    fine = Instrument("a camera", "none", pixel_scale=0.025, psf_fwhm=0.3)
    np.testing.assert_allclose(gaussian_taps(gaussian(), 4), gaussian_taps(fine), rtol=1e-13)


def test_only_a_gaussian_has_taps() -> None:
    with pytest.raises(InvalidOption, match="taps") as caught:
        gaussian_taps(moffat())
    assert "kernel" in caught.value.remedy


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True])
@pytest.mark.parametrize("camera", [gaussian(), moffat()])
def test_supersampling_is_a_whole_number(camera: Instrument, wrong: int) -> None:
    with pytest.raises(InvalidOption, match="supersampling is") as caught:
        kernel(camera, wrong)
    assert caught.value.expected == "a whole number from 1"


# FITS files: there and back


@pytest.mark.parametrize("dtype", ["float64", "float32", ">f4", "int16", "uint16"])
@pytest.mark.parametrize("name", ["psf.fits", "psf.fits.gz"])
def test_a_kernel_comes_back_from_its_file(tmp_path: Path, dtype: str, name: str) -> None:
    pixels = (1000 * lopsided() + 100).astype(dtype)
    fits.writeto(tmp_path / name, pixels)
    expected = pixels.astype(np.float64) / pixels.astype(np.float64).sum()
    np.testing.assert_allclose(kernel(from_file(tmp_path / name)), expected, rtol=1e-14)


def test_the_first_image_is_taken_be_it_in_an_extension(tmp_path: Path) -> None:
    table = fits.BinTableHDU.from_columns([fits.Column("a", "E", array=[1.0])])
    units = [fits.PrimaryHDU(), table, fits.ImageHDU(lopsided()), fits.ImageHDU(np.ones((3, 3)))]
    fits.HDUList(units).writeto(tmp_path / "psf.fits")
    np.testing.assert_allclose(read_kernel(tmp_path / "psf.fits"), lopsided() / lopsided().sum(), rtol=1e-14)


def test_a_changed_file_is_read_again_and_no_one_can_spoil_it(tmp_path: Path) -> None:
    path = tmp_path / "psf.fits"
    fits.writeto(path, np.ones((3, 3)))
    first = read_kernel(path)
    with pytest.raises(ValueError, match="read-only"):
        first[0, 0] = 5.0
    fits.writeto(path, np.ones((5, 5)), overwrite=True)
    assert read_kernel(path).shape == (5, 5)


@pytest.mark.parametrize("factor", [1.5, 2, 3, 4, 5])
@pytest.mark.parametrize("side", [1, 3, 7, 20])
def test_larger_pixels_keep_sum_and_symmetry(factor: float, side: int) -> None:
    fine = np.random.default_rng(side).random((2 * side + 1, 2 * side + 3))
    coarse = rebin(fine, factor)
    assert coarse.shape[0] % 2 == coarse.shape[1] % 2 == 1
    assert coarse.shape[0] >= fine.shape[0] / factor > coarse.shape[0] - 2
    assert coarse.sum() == pytest.approx(fine.sum(), rel=1e-13)
    np.testing.assert_allclose(rebin(fine[::-1, ::-1], factor), coarse[::-1, ::-1], rtol=1e-12)


def test_an_odd_factor_sums_whole_pixels() -> None:
    fine = lopsided(9, 15)
    np.testing.assert_allclose(rebin(fine, 3), fine.reshape(3, 3, 5, 3).sum((1, 3)), rtol=1e-12, atol=1e-14)


def test_a_fine_file_serves_coarser_samples_and_no_finer_ones(tmp_path: Path) -> None:
    fits.writeto(tmp_path / "psf.fits", kernel(gaussian(), 6))
    camera = from_file(tmp_path / "psf.fits", 6)
    np.testing.assert_allclose(kernel(camera, 6), kernel(gaussian(), 6), rtol=1e-13, atol=1e-18)
    assert kernel(camera, 4).sum() == pytest.approx(1, abs=1e-13)
    pixels = kernel(camera, 1)
    # averaging over a pixel widens the profile by that of the pixel
    offsets = np.arange(len(pixels)) - len(pixels) // 2
    variance = 0.1**2 * np.sum(offsets**2 * pixels.sum(0))
    assert variance == pytest.approx((0.3 / 2.35482) ** 2 + 0.1**2 / 12, rel=2e-2)
    with pytest.raises(InvalidOption, match="7 samples per pixel") as caught:
        kernel(camera, 7)
    assert "from 1 to 6" in caught.value.expected


# FITS files that cannot serve


def write(path: Path, content: np.ndarray | bytes | fits.HDUList) -> Path:
    """Write a file of pixels, bytes or units."""
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, fits.HDUList):
        content.writeto(path)
    else:
        fits.writeto(path, content)
    return path


def with_value(value: float) -> np.ndarray:
    """Return ones with one other value."""
    pixels = np.ones((5, 5))
    pixels[1, 2] = value
    return pixels


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (np.ones((4, 5)), "shape 4 x 5"),
        (np.ones((5, 4)), "shape 5 x 4"),
        (np.ones((3, 5, 5)), "shape 3 x 5 x 5"),
        (np.ones(5), "shape 5"),
        (np.ones((MAX_SIDE + 2, 1), np.uint8), f"shape {MAX_SIDE + 2} x 1"),
        (with_value(np.nan), "1 of 25 values are NaN"),
        (with_value(np.inf), "1 of 25 values are NaN or infinite"),
        (np.zeros((5, 5)), "sum to 0"),
        (-np.ones((5, 5)), "sum to -25"),
        (b"", "not a FITS file"),
        (b"SIMPLE  = no", "not a FITS file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "not a FITS file"),
        (fits.HDUList([fits.PrimaryHDU()]), "no image"),
        (b"\x1f\x8b\x08\x00 not gzip at all", "not a FITS file"),
        (gzip.compress(b"SIMPLE", mtime=0), "not a FITS file"),
    ],
)
def test_a_file_that_is_no_psf_says_why(tmp_path: Path, content: np.ndarray | bytes, found: str) -> None:
    path = write(tmp_path / "psf.fits", content)
    with pytest.raises(CorruptFile) as caught:
        read_kernel(path)
    assert str(path) in caught.value.found
    assert found in caught.value.found
    assert caught.value.expected
    assert "psf_file" in caught.value.remedy


@pytest.mark.parametrize("kept", [10, 2000, 2880, 4000, 2880 + 25 * 8 - 1])
def test_a_truncated_file_says_so(tmp_path: Path, kept: int) -> None:
    whole = write(tmp_path / "whole.fits", np.random.default_rng(0).random((5, 5)) + 1).read_bytes()
    path = write(tmp_path / "psf.fits", whole[:kept])
    if kept >= 2880 + 25 * 8:  # only the padding is gone
        read_kernel(path)
        return
    with pytest.raises(CorruptFile, match="not a FITS file that can be read"):
        read_kernel(path)


def test_a_header_that_promises_the_world_is_not_believed(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.fits", np.ones((5, 5))).read_bytes()
    path = write(
        tmp_path / "psf.fits", whole.replace(b"NAXIS1  =                    5", b"NAXIS1  =          99999999999")
    )
    with pytest.raises(CorruptFile, match="99999999999"):
        read_kernel(path)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_file_of_gigabytes_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack: Callable[[bytes], bytes]
) -> None:
    monkeypatch.setattr("deeplense.instruments.psf.MAX_FILE_BYTES", 9999)
    with pytest.raises(CorruptFile, match="more than 9,999 bytes"):
        read_kernel(write(tmp_path / "psf.fits", pack(bytes(10000))))


@pytest.mark.parametrize("name", ["nowhere.fits", "."])
def test_a_missing_file_names_the_setting(tmp_path: Path, name: str) -> None:
    with pytest.raises(MissingFile) as caught:
        read_kernel(tmp_path / name)
    assert str(tmp_path / name) in caught.value.found
    assert "psf_file" in caught.value.remedy
