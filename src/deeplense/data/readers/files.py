"""One image file of any format → float32 [C, H, W]: what the folder reader and `predict` share."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from deeplense.core.errors import CorruptFile, InvalidOption
from deeplense.data.readers.npy import read_npy
from deeplense.data.readers.pictures import read_picture

PICTURES = (".jpg", ".jpeg", ".png")
SUFFIXES = (".npy", *PICTURES)
MAX_CHANNELS = 32


def read_image(path: Path) -> Float32[np.ndarray, "C H W"]:
    """Return the image in a `.npy`, JPEG or PNG file, in the units of the file.

    Parameters
    ----------
    path
        The file; its suffix chooses the reader.

    Raises
    ------
    InvalidOption
        When the suffix is not one of `SUFFIXES`.
    MissingFile
        When the file is not there or cannot be read.
    CorruptFile
        When its content is not one finite image.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InvalidOption(
            f"{path} has the suffix '{path.suffix}'", f"one of {', '.join(SUFFIXES)}", "convert it, or leave it out"
        )
    pixels = read_npy(path).image if suffix == ".npy" else read_picture(path)
    return to_float32(path, channels_first(path, pixels))


def channels_first(path: Path, pixels: np.ndarray) -> np.ndarray:
    """Return `pixels` as [C, H, W], from [H, W], [C, H, W], [H, W, C], leading axes of 1, or a flat square image.

    Of three axes, the shorter one of the first and the last counts the channels.

    Raises
    ------
    CorruptFile
        When no such reading gives an image of at least 2 × 2 pixels and at most `MAX_CHANNELS` channels.
    """
    image = pixels
    while image.ndim > 3 and image.shape[0] == 1:
        image = image[0]
    if image.ndim == 1 or (image.ndim == 2 and image.shape[0] == 1):
        side = math.isqrt(image.size)
        image = image.reshape(side, side) if side * side == image.size else image
    if image.ndim == 2:
        image = image[None]
    if image.ndim == 3 and image.shape[2] < image.shape[0]:
        image = np.moveaxis(image, 2, 0)
    if image.ndim != 3 or not 1 <= image.shape[0] <= MAX_CHANNELS or min(image.shape[1:]) < 2:
        raise CorruptFile(
            path,
            f"an array of shape {pixels.shape} is not an image",
            f"(H, W), (C, H, W), (H, W, C) with at most {MAX_CHANNELS} channels, or a flat square image",
        )
    return image


def to_float32(path: Path, image: np.ndarray, where: str = "") -> np.ndarray:
    """Return `image` as contiguous native float32.

    Parameters
    ----------
    path
        Names the file in errors.
    image
        Numbers of any type.
    where
        Place in the file, for errors: "row 5: ".

    Raises
    ------
    CorruptFile
        When a value is not finite, in the file or as float32.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # an overflow is reported below, with the file's name
        converted = np.ascontiguousarray(image, dtype=np.float32)
    bad = converted.size - int(np.count_nonzero(np.isfinite(converted)))
    if bad:
        raise CorruptFile(
            path, f"{where}{bad} of {converted.size} values are NaN, infinite or beyond float32", "finite pixels"
        )
    return converted
