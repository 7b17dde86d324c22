"""A picture of a galaxy from a file of the user's: what a source of kind "image" shows."""

from __future__ import annotations

import warnings
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from deeplense.core.errors import CorruptFile, MissingFile

MAX_SIDE = 4096
EXPECTED = f"one picture of 2 to {MAX_SIDE} pixels a side, finite, its sum positive (.npy, .fits, .png, .jpg, .tif)"


def read_picture(path: Path) -> Float64[np.ndarray, "h w"]:
    """Return the surface brightness in a file, rows from the bottom of the sky up.

    Raises
    ------
    MissingFile
        When the file cannot be read.
    CorruptFile
        When it holds no picture.
    """
    if not path.is_file():
        raise MissingFile(f"{path} is no file", "a picture of a galaxy", "correct `file` in the recipe")
    return _read_picture(path, path.stat().st_mtime_ns, path.stat().st_size)


@lru_cache(maxsize=16)
def _read_picture(path: Path, _modified: int, _n_bytes: int) -> Float64[np.ndarray, "h w"]:
    try:
        pixels = _pixels(path)
    # Broad on purpose: damaged files make NumPy, astropy and Pillow raise anything.
    except Exception as error:
        what = " ".join(str(error).split())[:200] or type(error).__name__
        raise CorruptFile(path, f"no picture that can be read ({what})", EXPECTED, "choose another file") from error
    sides = pixels.shape
    if pixels.ndim != 2 or not all(2 <= side <= MAX_SIDE for side in sides):
        raise CorruptFile(path, f"an array of shape {sides}", EXPECTED, "choose another file")
    if not np.isfinite(pixels).all() or pixels.sum() <= 0:
        raise CorruptFile(path, "NaN, infinite values or no light", EXPECTED, "mend its pixels")
    pixels.flags.writeable = False  # shared by all who ask
    return pixels


def _pixels(path: Path) -> Float64[np.ndarray, "h w"]:
    if path.suffix == ".npy":
        return np.array(np.squeeze(np.load(path, allow_pickle=False)), dtype=np.float64)
    if path.suffix in (".fits", ".fit", ".fz"):
        from astropy.io import fits

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with fits.open(path, memmap=False) as units:
                data = next(unit.data for unit in units if unit.is_image and unit.data is not None)
        return np.array(np.squeeze(data), dtype=np.float64)
    from PIL import Image

    with Image.open(path) as picture:
        return np.asarray(picture.convert("F"), dtype=np.float64)[::-1].copy()  # row 0 of a picture is its top
