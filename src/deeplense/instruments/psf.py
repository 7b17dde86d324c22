"""The point-spread function of an instrument as numbers: Gaussian, Moffat, or pixels from a FITS file."""

from __future__ import annotations

import gzip
import io
import math
import stat
import warnings
import zlib
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64

from deeplense.core.errors import CorruptFile, InvalidOption, MissingFile

if TYPE_CHECKING:  # an instrument looks at its PSF file when it is loaded
    from deeplense.instruments.instrument import Instrument

SIGMA_PER_FWHM = 1 / (2 * math.sqrt(2 * math.log(2)))
MAX_SIDE = 4097
"""Largest side of a kernel [pixel]: twice that of the largest usual image."""
MAX_FILE_BYTES = 1 << 28

Kernel = Float64[np.ndarray, "K L"]


def kernel(instrument: Instrument, supersampling: int = 1) -> Kernel:
    """Return the PSF on pixels of `pixel_scale / supersampling`: odd sides, its sum 1, rows are y.

    Gaussian and Moffat are the profile at the pixel centres. A kernel from a file is given as it is where its
    sampling is the one asked for, and averaged over the larger pixels where it is finer.

    Parameters
    ----------
    instrument
        What has the PSF.
    supersampling
        Samples per detector pixel and axis.

    Raises
    ------
    InvalidOption
        When `supersampling` is not a whole number from 1, or finer than the sampling of the file.
    """
    check_supersampling(supersampling)
    if instrument.psf == "gaussian":
        taps = np.array(gaussian_taps(instrument, supersampling))
        return np.outer(taps, taps)
    if instrument.psf == "moffat":
        assert instrument.psf_fwhm is not None
        assert instrument.moffat_beta is not None
        fwhm = instrument.psf_fwhm / instrument.pixel_scale * supersampling
        radius = _radius(instrument.psf_truncation, fwhm * SIGMA_PER_FWHM)
        return moffat_kernel(fwhm, instrument.moffat_beta, radius)
    assert instrument.psf_file is not None
    if supersampling > instrument.psf_supersampling:
        raise InvalidOption(
            f"{supersampling} samples per pixel, but {instrument.psf_file} has {instrument.psf_supersampling}",
            f"supersampling from 1 to {instrument.psf_supersampling}",
            "sample the image less finely, or give a finer PSF with its psf_supersampling",
        )
    return rebin(read_kernel(instrument.psf_file), instrument.psf_supersampling / supersampling)


def gaussian_taps(instrument: Instrument, supersampling: int = 1) -> list[float]:
    """Return the taps of a Gaussian PSF along one axis, normalised to 1, cut at `psf_truncation` σ (as scipy.ndimage).

    Raises
    ------
    InvalidOption
        When the PSF is no Gaussian: it has no taps.
    """
    check_supersampling(supersampling)
    if instrument.psf != "gaussian" or instrument.psf_fwhm is None:
        raise InvalidOption(
            f"taps of the PSF of '{instrument.description}', which is of kind '{instrument.psf}'",
            "a Gaussian PSF: no other is a product of two one-dimensional ones",
            "convolve with its two-dimensional kernel",
        )
    sigma = instrument.psf_fwhm * SIGMA_PER_FWHM / instrument.pixel_scale * supersampling
    radius = _radius(instrument.psf_truncation, sigma)
    taps = [math.exp(-0.5 * (k / sigma) ** 2) if sigma else 1.0 for k in range(-radius, radius + 1)]
    return [tap / math.fsum(taps) for tap in taps]


def moffat_kernel(fwhm: float, beta: float, radius: int) -> Kernel:
    """Return (1 + r²/α²)^−β with α = FWHM / (2 √(2^{1/β} − 1)), its sum 1 (Moffat 1969, A&A 3, 455).

    Parameters
    ----------
    fwhm
        Full width at half maximum [pixel].
    beta
        Slope of the wings.
    radius
        Pixels on each side of the central one.
    """
    alpha = fwhm / (2 * math.sqrt(2 ** (1 / beta) - 1))
    offsets = np.arange(-radius, radius + 1, dtype=np.float64)
    profile: Kernel = (1 + (offsets[:, None] ** 2 + offsets[None, :] ** 2) / alpha**2) ** -beta
    profile /= profile.sum()
    return profile


def rebin(fine: Kernel, ratio: float) -> Kernel:
    """Return a kernel on pixels `ratio` times larger, its centre and sum unchanged.

    Every fine pixel is shared out by the area it has in each of the larger ones, which are centred on the middle.
    """
    if ratio == 1:
        return fine
    coarse: Kernel = _overlap(fine.shape[0], ratio) @ fine @ _overlap(fine.shape[1], ratio).T
    return coarse


def _overlap(n_fine: int, ratio: float) -> Float64[np.ndarray, "K L"]:
    """Return which part of each of `n_fine` pixels lies in each pixel of `ratio` times the size, [coarse, fine]."""
    radius = math.ceil((n_fine / ratio - 1) / 2)
    coarse, fine = np.arange(-radius, radius + 1) * ratio, np.arange(n_fine) - (n_fine - 1) / 2
    low = np.maximum(coarse[:, None] - ratio / 2, fine - 0.5)
    high = np.minimum(coarse[:, None] + ratio / 2, fine + 0.5)
    shared: Kernel = np.clip(high - low, 0, None)
    return shared


def read_kernel(path: Path) -> Kernel:
    """Return the first image of a FITS file, divided by its sum.

    Raises
    ------
    MissingFile
        When there is no such file, or it cannot be read.
    CorruptFile
        When it is no FITS file, or its image cannot be a PSF: not of two dimensions, an even side, a value that is
        no number, a sum that is not positive.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise OSError("not a file")
        return _read_kernel(path, status.st_mtime_ns, status.st_size)
    except OSError as error:
        raise MissingFile(
            f"{path} cannot be read: {error.strerror or error}",
            "a FITS file with the PSF",
            "correct psf_file in the instrument's TOML file; the path starts at the folder of that file",
        ) from error


@lru_cache(maxsize=8)
def _read_kernel(path: Path, _modified: int, n_bytes: int) -> Kernel:
    content = path.read_bytes() if n_bytes <= MAX_FILE_BYTES else b""
    if content.startswith(b"\x1f\x8b"):
        content = _unpacked(path, content)
    if max(n_bytes, len(content)) > MAX_FILE_BYTES:
        limit = f"{MAX_FILE_BYTES:,} bytes"
        raise _unfit(path, f"more than {limit}", f"at most {limit}: one PSF")
    pixels = _first_image(path, content)
    if not np.isfinite(pixels).all():
        bad = np.count_nonzero(~np.isfinite(pixels))
        raise _unfit(path, f"{bad} of {pixels.size} values are NaN or infinite", "finite numbers")
    total = math.fsum(pixels.ravel().tolist())
    if total <= 0:
        raise _unfit(path, f"the values sum to {total:g}", "a positive sum")
    normalised = pixels / total
    normalised.flags.writeable = False  # shared by all who ask
    return normalised


def _unpacked(path: Path, content: bytes) -> bytes:
    """Return the bytes that gzip packed, or one more than are allowed."""
    try:
        with gzip.open(io.BytesIO(content)) as packed:
            return packed.read(MAX_FILE_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise _unfit(path, f"not a FITS file that can be read (gzip: {error})", "an unbroken file") from error


def _first_image(path: Path, content: bytes) -> Kernel:
    """Return the pixels of the first image in the bytes of a FITS file, as they stand there."""
    from astropy.io import fits

    sides = f"an image of two odd sides of at most {MAX_SIDE} pixels, the PSF in its middle"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # astropy warns of a cut file before it fails
            # as bytes: a name could be a URL, which astropy would fetch
            with fits.open(io.BytesIO(content), memmap=False) as units:
                image = next((unit for unit in units if unit.is_image and unit.header.get("NAXIS", 0)), None)
                if image is None:
                    raise _unfit(path, "no image in it", sides)
                shape = tuple(image.shape)  # from the header: nothing is unpacked yet
                if len(shape) != 2 or any(side % 2 == 0 or side > MAX_SIDE for side in shape):
                    raise _unfit(path, f"an image of shape {' x '.join(map(str, shape))}", sides)
                return np.array(image.data, dtype=np.float64)
    except CorruptFile:
        raise
    # Broad on purpose: astropy answers damaged bytes with anything from KeyError to OSError.
    except Exception as error:
        what = " ".join(str(error).split())[:200] or type(error).__name__
        raise _unfit(path, f"not a FITS file that can be read ({what})", sides) from error


def _unfit(path: Path, found: str, expected: str) -> CorruptFile:
    return CorruptFile(path, found, expected, "correct the PSF file, or name another one in psf_file")


def _radius(truncation: float, sigma: float) -> int:
    return int(truncation * sigma + 0.5)


def check_supersampling(supersampling: int) -> None:
    """Raise InvalidOption when `supersampling` is no number of samples."""
    if isinstance(supersampling, bool) or not isinstance(supersampling, int) or supersampling < 1:
        raise InvalidOption(f"supersampling is {supersampling!r}", "a whole number from 1", "change supersampling")
