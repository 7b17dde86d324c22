"""FITS files of astronomers: the images in them, their noise and masks, and headers for images of finer pixels."""

from __future__ import annotations

import gzip
import io
import re
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from jaxtyping import Bool, Float32

from deeplense.core.errors import CorruptFile, InvalidDataset
from deeplense.data.readers.guard import parsing, unreadable

MAX_PIXELS = 1 << 29
"""Largest image, all bands together: 2 GiB as float32; a compressed file may promise far more than it weighs."""
MAX_UNPACKED = 1 << 31
"""Most bytes that a gzip file may unpack to."""
BLOCK = 2880  # bytes; FITS knows no smaller unit
EXPECTED = "a FITS file of images [H, W] or cubes of bands [C, H, W], of at most 2^29 pixels each"

NOISE = frozenset({"RMS", "ERR", "ERROR", "SIGMA", "STD", "STDDEV", "UNC", "UNCERT", "UNCERTAINTY", "NOISE"})
"""Words that, in the name of an extension, say that it holds standard deviations."""
OTHER = frozenset(
    {"PSF", "PRF", "KERNEL", "WHT", "WEIGHT", "WEIGHTS", "IVAR", "INVVAR", "VAR", "VARIANCE", "MASK", "DQ"}
)
OTHER |= {"FLAG", "FLAGS", "BPM", "BITMASK", "CON", "CTX", "CONTEXT", "EXP", "EXPMAP", "TIME", "COVERAGE", "AREA"}
OTHER |= {"SEG", "SEGM", "SEGMENTATION", "D2IMARR", "WCSDVARR"}
"""Words that say that it is neither that nor an image of the sky."""
SKY = frozenset({"PRIMARY", "SCI", "SCIENCE", "IMAGE", "IMG", "DATA", "FLUX", "BGSUB"})
"""Words for the image itself, which its companions replace by their own: DES_G_BGSUB and DES_G_RMS are a pair."""


@dataclass(frozen=True)
class FitsImage:
    """One image of a FITS file.

    Parameters
    ----------
    name
        EXTNAME; PRIMARY, or HDU and its number, where there is none.
    index
        Number of the HDU in the file.
    pixels
        In the unit of the file, BSCALE and BZERO applied; NaN where BLANK is.
    mask
        True where a pixel is not finite.
    header
        As stored, WCS and all.
    wcs
        The celestial coordinates of the pixels (an `astropy.wcs.WCS`); None where there are none that astropy reads.
    sigma
        The noise map of the file that belongs to it, as stored; None where there is none.
    """

    name: str
    index: int
    pixels: Float32[np.ndarray, "C H W"]
    mask: Bool[np.ndarray, "C H W"]
    header: fits.Header
    wcs: WCS | None
    sigma: Float32[np.ndarray, "C H W"] | None = None


def read_fits_images(path: Path) -> list[FitsImage]:
    """Return the images of a FITS file (.fits, .fit, .fits.gz), in its order.

    Tables, spectra and empty HDUs are passed over, and so are extensions that by their name are PSFs, weights or masks.
    A noise map (RMS, ERR, SIGMA, …) goes with the image of its name, EXTVER and shape.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    MissingFile
        When the file is not there or cannot be read.
    CorruptFile
        When it is cut short, or no FITS file.
    InvalidDataset
        When there is no image in it, or one of more than three axes or too many pixels.
    """
    images: list[FitsImage] = []
    noise: list[FitsImage] = []
    passed: list[str] = []
    with parsing(path, EXPECTED), _stream(path) as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # astropy warns of what is raised below, and of headers that it can mend
        # an open file: a name could be a URL, which astropy would fetch
        with fits.open(stream, memmap=False, uint=False) as units:
            _check_whole(path, units, stream)
            for index, unit in enumerate(units):
                words = _words(unit.name)
                if not _is_image(unit) or words & OTHER:
                    passed.append(unit.name or f"HDU{index}")
                    continue
                _check_shape(path, index, unit)
                (noise if words & NOISE else images).append(_image(index, unit, units))
    if not images:
        raise InvalidDataset(
            f"{path}: no image in it, only {', '.join(passed + [one.name for one in noise])[:200] or 'nothing'}",
            EXPECTED,
            "name the file of the images; an extension whose name holds PSF, RMS, WHT, MASK, … is not taken for one",
        )
    return [replace(image, sigma=_noise_of(image, noise)) for image in images]


@contextmanager
def _stream(path: Path) -> Iterator[io.BufferedIOBase]:
    """Yield the bytes of the file; unpacked here, because astropy lets a cut gzip file end early without a word."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe or a device would be read for ever
            raise OSError("not a file")
        opened = path.open("rb")
    except OSError as error:
        raise unreadable(path, error) from error
    with opened as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        if not packed:
            yield raw
            return
        with gzip.open(raw) as unpacking:
            content = unpacking.read(MAX_UNPACKED + 1)
    if len(content) > MAX_UNPACKED:
        raise CorruptFile(path, f"more than {MAX_UNPACKED:,} bytes, unpacked", EXPECTED, "unpack it, or cut it")
    yield io.BytesIO(content)


def _check_whole(path: Path, units: fits.HDUList, stream: io.BufferedIOBase) -> None:
    for index, unit in enumerate(units):
        if not hasattr(unit, "fileinfo"):
            raise CorruptFile(path, f"HDU {index} does not follow the FITS standard", EXPECTED)
    # zeros that should fill the last block are often left out
    last = units[-1].fileinfo()
    end = last["datLoc"] + last["datSpan"]
    size = stream.seek(0, io.SEEK_END)
    stream.seek(min(end, size))
    cut_header = stream.read(8) == b"XTENSION"
    stream.seek(0)
    if cut_header or end - BLOCK >= size:
        raise CorruptFile(
            path, f"cut short after {size:,} bytes", f"the {end:,} bytes of its headers, or more", "fetch it again"
        )


def _is_image(unit: Any) -> bool:
    kinds = isinstance(unit, (fits.PrimaryHDU, fits.ImageHDU)) and not isinstance(unit, fits.GroupsHDU)
    return kinds and len(unit.shape) >= 2 and 0 not in unit.shape


def _check_shape(path: Path, index: int, unit: Any) -> None:
    shape = tuple(map(int, unit.shape))  # Python integers: nothing overflows
    n_pixels = 1
    for side in shape:
        n_pixels *= side
    if len(shape) > 3 or n_pixels > MAX_PIXELS:
        raise InvalidDataset(
            f"{path}: HDU {index} ({unit.name or 'no name'}) has {' x '.join(map(str, shape))} pixels",
            EXPECTED,
            "cut the part that is wanted out of it, as an image of two or three axes",
        )


def _image(index: int, unit: Any, units: fits.HDUList) -> FitsImage:
    header = unit.header.copy()  # before the data are read: astropy then takes BSCALE, BZERO and BLANK out of it
    with np.errstate(over="ignore", invalid="ignore"):  # what float32 cannot hold is masked
        pixels = np.array(unit.data, dtype=np.float32, order="C")
    pixels = pixels if pixels.ndim == 3 else pixels[None]
    return FitsImage(unit.name or f"HDU{index}", index, pixels, ~np.isfinite(pixels), header, _wcs(header, units))


def _wcs(header: fits.Header, units: fits.HDUList) -> WCS | None:
    try:
        wcs = WCS(header, fobj=units)
        return wcs.celestial if wcs.has_celestial and wcs.naxis > 2 else wcs if wcs.has_celestial else None
    except Exception:  # wcslib answers bad headers with anything; the pixels are sound without
        return None


def _words(name: str) -> set[str]:
    return set(re.split(r"[^A-Z0-9]+", name.upper())) - {""}


def _noise_of(image: FitsImage, noise: list[FitsImage]) -> Float32[np.ndarray, "C H W"] | None:
    version, own = image.header.get("EXTVER", 1), _words(image.name) - SKY
    for other in noise:
        same = _words(other.name) - SKY - NOISE == own and other.header.get("EXTVER", 1) == version
        if same and other.pixels.shape == image.pixels.shape:
            return other.pixels
    return None
