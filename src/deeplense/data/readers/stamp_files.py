"""One stamp from its file, FITS most of all: thousands of them are read one by one."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from deeplense.data.fits import read_fits_images
from deeplense.data.readers.files import PICTURES, channels_first
from deeplense.data.readers.guard import parsing, read_bytes
from deeplense.data.readers.npy import read_npy
from deeplense.data.readers.pictures import read_picture

FITS = (".fits", ".fit", ".fits.gz", ".fit.gz")
KINDS = (FITS, (".npy",), PICTURES)
"""Suffixes of stamps; pictures beside FITS files are previews."""
SUFFIXES = tuple(suffix for kind in KINDS for suffix in kind)
FLAG_STANDS_OUT = 1000.0
"""A flag is one only where everything else in the band is so many times smaller."""
CARD, BLOCK = 80, 2880
"""Bytes of a line and of a block of a FITS file."""
BITPIX = {b"8": "u1", b"16": ">i2", b"32": ">i4", b"64": ">i8", b"-32": ">f4", b"-64": ">f8"}
NOT_PLAIN = frozenset((b"BSCALE", b"BZERO", b"BLANK", b"GROUPS"))


def read_stamp(path: Path, flag: float | None) -> Float32[np.ndarray, "C H W"]:
    """Return the bands in a file, NaN where a pixel is not finite or has the flag value."""
    suffix = suffix_of(path.name) or ""
    if suffix in FITS:
        pixels = _fits(path)
    else:
        pixels = channels_first(path, read_picture(path) if suffix in PICTURES else read_npy(path).image)
    with np.errstate(over="ignore", invalid="ignore"):  # what float32 cannot hold is masked
        stamp = np.array(pixels, dtype=np.float32, order="C")
    stamp[~np.isfinite(stamp)] = np.nan
    if flag is not None and pixels.dtype.kind == "f":
        for band in stamp:
            flagged = band == flag
            if flagged.any() and np.nanmax(np.abs(band[~flagged]), initial=0.0) * FLAG_STANDS_OUT < abs(flag):
                band[flagged] = np.nan
    return stamp


def _fits(path: Path) -> np.ndarray:
    """Return the image of a FITS file, of several extensions those of the first one's size as bands."""
    content = read_bytes(path)
    with parsing(path, "a FITS image"):
        if (pixels := _plain_fits(content)) is not None:
            return pixels

    images = read_fits_images(path)
    size = images[0].pixels.shape[1:]
    return np.concatenate([image.pixels for image in images if image.pixels.shape[1:] == size])


def _plain_fits(content: bytes) -> np.ndarray | None:
    """Return the pixels of a FITS file that is one unscaled image and nothing else; None for all others.

    Stamps are such files, and there are many: astropy takes far longer over the header than over the pixels.
    """
    cards: dict[bytes, bytes] = {}
    for start in range(0, len(content), CARD):
        card = content[start : start + CARD]
        if card.rstrip() == b"END":
            break
        if card[8:10] == b"= ":
            cards[card[:8].rstrip()] = card[10:].split(b"/")[0].strip()
    else:
        return None
    if cards.get(b"SIMPLE") != b"T" or cards.get(b"NAXIS") not in (b"2", b"3") or NOT_PLAIN & cards.keys():
        return None
    shape = tuple(int(cards[b"NAXIS%d" % axis]) for axis in range(int(cards[b"NAXIS"]), 0, -1))
    dtype = np.dtype(BITPIX.get(cards[b"BITPIX"], "V1"))
    offset = -(-(start + CARD) // BLOCK) * BLOCK
    n_bytes = math.prod(shape) * dtype.itemsize
    whole = offset + n_bytes <= len(content) <= offset + -(-n_bytes // BLOCK) * BLOCK
    if dtype.kind == "V" or min(shape) < 1 or not whole:
        return None
    pixels = np.frombuffer(content, dtype, math.prod(shape), offset).reshape(shape)
    return pixels if pixels.ndim == 3 else pixels[None]


def suffix_of(name: str) -> str | None:
    """Return the suffix of an image file, None of others."""
    lower = name.lower()
    return next((suffix for suffix in SUFFIXES if lower.endswith(suffix)), None) if lower.endswith(SUFFIXES) else None
