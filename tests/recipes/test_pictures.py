"""Pictures of galaxies: what is read of a file, and what is refused with a word on what to do."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from PIL import Image

from deeplense.core.errors import CorruptFile, DeepLenseError, MissingFile
from deeplense.recipes.pictures import read_picture

PIXELS = np.arange(12.0).reshape(3, 4)


def test_an_array_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    for name, array in {
        "a": PIXELS,
        "b": PIXELS[None],
        "c": PIXELS.astype(np.uint8),
        "d": PIXELS.astype(">f4"),
    }.items():
        np.save(tmp_path / f"{name}.npy", array)
        pixels = read_picture(tmp_path / f"{name}.npy")
        assert pixels.dtype == np.float64
        np.testing.assert_array_equal(pixels, PIXELS)


def test_the_first_image_of_a_fits_file_is_read_and_the_file_closed(tmp_path: Path) -> None:
    path = tmp_path / "galaxy.fits"
    units = [fits.PrimaryHDU(), fits.ImageHDU(PIXELS.astype(">f4")), fits.ImageHDU(PIXELS + 1)]
    fits.HDUList(units).writeto(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(read_picture(path), PIXELS)


@pytest.mark.parametrize("kind", ["L", "RGB", "RGBA", "I;16", "P"])
def test_a_picture_is_grey_and_upright(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "galaxy.png"
    grey = np.array([[0, 10, 20], [30, 40, 255]])
    if kind == "I;16":
        Image.fromarray((grey * 256).astype(np.uint16)).save(path)
    else:
        Image.fromarray(grey.astype(np.uint8)).convert(kind).save(path)
    pixels = read_picture(path)
    np.testing.assert_allclose(pixels / pixels.max(), grey[::-1] / 255, atol=0.01)


def not_an_array(path: Path) -> Path:
    """Write bytes that are none."""
    path.write_bytes(b"\x93NUMPY but no more")
    return path


def saved(array: np.ndarray) -> Callable[[Path], Path]:
    """Return what writes an array."""

    def write(path: Path) -> Path:
        np.save(path, array, allow_pickle=True)
        return path

    return write


@pytest.mark.parametrize(
    ("write", "word"),
    [
        (not_an_array, "no picture that can be read"),
        (saved(np.array([{}, 1], dtype=object)), "no picture that can be read"),
        (saved(np.arange(5.0)), "shape (5,)"),
        (saved(np.ones((2, 3, 4))), "shape (2, 3, 4)"),
        (saved(np.ones((1, 4))), "shape (4,)"),
        (saved(np.ones((2, 4097), dtype=np.uint8)), "shape (2, 4097)"),
        (saved(np.full((3, 3), np.nan)), "NaN"),
        (saved(np.zeros((3, 3))), "no light"),
        (saved(-np.ones((3, 3))), "no light"),
    ],
)
def test_what_is_no_picture_is_refused(tmp_path: Path, write: Callable[[Path], Path], word: str) -> None:
    path = write(tmp_path / "galaxy.npy")
    with pytest.raises(CorruptFile) as caught:
        read_picture(path)
    assert "galaxy.npy" in str(caught.value)
    assert word in str(caught.value)


@pytest.mark.parametrize("suffix", [".npy", ".fits", ".png", ".gif", ""])
def test_a_file_that_is_damaged_or_missing_is_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"galaxy{suffix}"
    with pytest.raises(MissingFile, match="galaxy"):
        read_picture(path)
    for content in (b"", b"not a picture" * 300):
        path.write_bytes(content)
        with pytest.raises(DeepLenseError) as caught:
            read_picture(path)
        assert all(caught.value.args)
        assert "galaxy" in str(caught.value)


def test_a_fits_file_without_an_image_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "galaxy.fits"
    fits.PrimaryHDU().writeto(path)
    with pytest.raises(CorruptFile, match="no picture"):
        read_picture(path)


def test_a_folder_is_no_picture(tmp_path: Path) -> None:
    with pytest.raises(MissingFile):
        read_picture(tmp_path)


def test_a_picture_that_was_replaced_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "galaxy.npy"
    for pixels in (PIXELS, PIXELS[:, :2] + 1):
        np.save(path, pixels)
        np.testing.assert_array_equal(read_picture(path), pixels)


def test_nobody_can_change_the_picture_of_others(tmp_path: Path) -> None:
    np.save(tmp_path / "galaxy.npy", PIXELS)
    with pytest.raises(ValueError, match="read-only"):
        read_picture(tmp_path / "galaxy.npy")[0, 0] = 5
