"""PNG and JPEG pictures, decoded as they are stored: grey levels stay 0…255 (or 0…65535), nothing is rescaled."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deeplense.core.errors import CorruptFile
from deeplense.data.readers.guard import MAX_IMAGE_BYTES, parsing, read_bytes

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 1 << 26
"""Largest picture that is decoded, 8192 × 8192: a small file can claim any size."""

EXPECTED = "a whole PNG or JPEG picture"
_FORMATS = ("PNG", "JPEG")
_STORED = ("1", "L", "RGB", "I", "I;16", "I;16B", "I;16L")
_WITHOUT_ALPHA = {"LA": "L", "La": "L", "RGBA": "RGB", "RGBX": "RGB", "CMYK": "RGB", "YCbCr": "RGB"}


def read_picture(path: Path, max_bytes: int = MAX_IMAGE_BYTES) -> np.ndarray:
    """Return the values of a picture, [H, W] for grey and [H, W, 3] for colour.

    A transparency layer is dropped, a palette is looked up; colour of 16 bits per band comes out as 8 bits.

    Parameters
    ----------
    path
        The file; its content decides the format, not its name.
    max_bytes
        Refuse larger files.

    Raises
    ------
    MissingFile
        When the file is not there or cannot be read.
    CorruptFile
        When it is anything but `EXPECTED`; whatever the bytes are, no other exception comes out.
    """
    from PIL import Image  # here, because importing it takes longer than `deeplense --help` may

    content = read_bytes(path, max_bytes)
    with parsing(path, EXPECTED):
        picture = Image.open(io.BytesIO(content), formats=_FORMATS)
        width, height = picture.size
        if width * height > MAX_PIXELS:
            raise CorruptFile(path, f"{width} × {height} pixels", f"at most {MAX_PIXELS:,} pixels")
        if picture.format == "PNG":  # has checksums, which decoding does not look at; afterwards it must be reopened
            picture.verify()
            picture = Image.open(io.BytesIO(content), formats=_FORMATS)
        picture.load()
        return np.asarray(_plain(picture))


def _plain(picture: Image.Image) -> Image.Image:
    """Return `picture` in a mode whose values are grey levels or three colours."""
    if picture.mode in ("P", "PA"):
        colours = picture.convert("RGB")
        red, green, blue = colours.split()
        grey = red.tobytes() == green.tobytes() == blue.tobytes()
        return red if grey else colours
    if picture.mode in _WITHOUT_ALPHA:
        return picture.convert(_WITHOUT_ALPHA[picture.mode])
    if picture.mode not in _STORED:
        raise ValueError(f"colour mode {picture.mode} is neither grey nor RGB")
    return picture
