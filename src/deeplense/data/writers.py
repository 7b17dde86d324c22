"""Results, in the formats that astronomers read."""

from __future__ import annotations

import gzip
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float32

from deeplense.core.errors import InvalidDataset, InvalidOption
from deeplense.core.files import atomic

Convention = Literal["surface_brightness", "flux"]
PER_AREA = re.compile(r"(?<![a-z])(sr|steradian|arcsec|arcmin|deg)", re.IGNORECASE)
"""A unit with a solid angle in it, by which a brightness can only be divided: MJy/sr, mJy arcsec-2."""


@dataclass(frozen=True)
class SuperResolved:
    """One image of finer pixels, and what is known of it.

    Parameters
    ----------
    name
        EXTNAME: that of the coarse image.
    pixels
        In the unit of the coarse image, per coarse pixel: a resize keeps surface brightness.
    header
        A FITS header (`astropy.io.fits.Header`) for these pixels, as by `deeplense.data.fits.finer_header`.
    factor
        Fine pixels per coarse one, along each axis.
    sigma
        Standard deviation of each pixel, in the unit of the pixels.
    mask
        True where a pixel is not to be trusted; its value is written as it is.
    """

    name: str
    pixels: Float32[np.ndarray, "C H W"]
    header: Any
    factor: int
    sigma: Float32[np.ndarray, "C H W"] | None = None
    mask: Bool[np.ndarray, "C H W"] | None = None


def ascii_text(text: str) -> str:
    """Return `text` in the characters that FITS allows, "?" for each of the others."""
    return re.sub(r"[^ -~]", "?", text)


def write_fits_image(image: Float32[np.ndarray, "H W"], path: Path, origin: str) -> None:
    """Write an image as the primary array of a FITS file; row 0 is at the bottom of a viewer, as in arrays.

    Parameters
    ----------
    image
        Pixel values.
    path
        File to write.
    origin
        What made it, for the header's HISTORY.
    """
    from astropy.io import fits

    hdu = fits.PrimaryHDU(image)
    hdu.header["HISTORY"] = ascii_text(origin)
    with atomic(path) as temporary:
        hdu.writeto(temporary, overwrite=True)


def write_array(path: Path, array: np.ndarray) -> None:
    """Write a plain numeric array as a `.npy` file, whole or not at all."""
    with atomic(path) as temporary, temporary.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def write_super_resolved(
    path: Path,
    images: Sequence[SuperResolved],
    provenance: Mapping[str, str],
    convention: Convention = "surface_brightness",
) -> None:
    """Write images of finer pixels as one FITS file, packed where it is called .gz; checksums are in every header.

    Each image is an extension of its name, followed by <NAME>_SIGMA (float32) and <NAME>_MASK (1 where masked); one
    that is called PRIMARY is the primary array. FLUXCONV, SRFACTOR and HISTORY say what the values are.

    Parameters
    ----------
    path
        File to write.
    images
        At least one.
    provenance
        What made them (model, version, checksum, …): for HISTORY, and for a card SR_ + the first five letters of each.
    convention
        "surface_brightness": values stay those per coarse pixel, the sum of the pixels is factor² times the flux;
        "flux": values and σ are divided by factor², the sum is the flux.

    Raises
    ------
    InvalidOption
        When there are no images, σ or mask are of another shape, two names of the provenance begin alike, or "flux" is
        asked of values whose unit is per solid angle.
    InvalidDataset
        When a header cannot be written in the FITS standard.
    CannotWrite
        When the disk is full or not writable.
    """
    from astropy.io import fits

    cards = _provenance_cards(provenance)
    if not images:
        raise InvalidOption("there are no images to write", "at least one", "pass the images")
    primary = fits.PrimaryHDU()
    extensions: list[Any] = []
    for image in images:
        _check(image, convention)
        first, *others = _hdus(image, convention, cards)
        if image.name.upper() == "PRIMARY" and primary.data is None:
            primary = first
        else:
            others.insert(0, first)
        extensions += others
    _say(primary.header, cards)
    try:
        with atomic(path) as temporary, temporary.open("wb") as raw:
            file: Any = gzip.GzipFile(fileobj=raw, mode="wb", filename="") if path.suffix.lower() == ".gz" else raw
            fits.HDUList([primary, *extensions]).writeto(file, checksum=True, output_verify="silentfix+exception")
            if file is not raw:
                file.close()  # writes the last block; the atomic write goes on
    except (fits.VerifyError, ValueError) as error:
        raise InvalidDataset(
            f"a header for {path} breaks the FITS standard: {' '.join(str(error).split())[:200]}",
            "headers by finer_header, which leaves such cards out",
            "remove the card from the header",
        ) from error


def _check(image: SuperResolved, convention: Convention) -> None:
    for what, array in (("sigma", image.sigma), ("mask", image.mask)):
        if array is not None and array.shape != image.pixels.shape:
            raise InvalidOption(
                f"the {what} of {image.name} is of shape {array.shape}",
                f"{image.pixels.shape}, as its pixels",
                "match it",
            )
    unit = str(image.header.get("BUNIT", ""))
    if convention == "flux" and PER_AREA.search(unit):
        raise InvalidOption(
            f"the values of {image.name} are in '{unit}', per solid angle",
            "values per pixel, which finer pixels share among them",
            "use the convention 'surface_brightness'",
        )


def _hdus(image: SuperResolved, convention: Convention, cards: Mapping[str, tuple[str, str]]) -> list[Any]:
    """Return the image and what goes with it, each with the WCS and the words on its values."""
    from astropy.io import fits

    n = image.factor**2
    header = image.header.copy()
    divisor, total, whose = (n, "to the flux", "fine")
    if convention == "surface_brightness":
        divisor, total, whose = (1, f"to {n} x the flux", "coarse")
    header["FLUXCONV"] = (convention, f"per {whose} pixel; {n} fine in a coarse one")
    header["SRFACTOR"] = (image.factor, "fine pixels per original pixel, each axis")
    header["HISTORY"] = f"deeplense: values per {whose} pixel, so that they sum {total}"

    def stored(array: np.ndarray) -> np.ndarray:
        flat = len(array) == 1 and "CTYPE3" not in header
        return array[0] if flat else array

    def extension(name: str, array: np.ndarray, header: Any) -> Any:
        if name.upper() == "PRIMARY":
            return fits.PrimaryHDU(stored(array), header)
        return fits.ImageHDU(stored(array), header, name=ascii_text(name))

    scaled = [array / np.float32(divisor) for array in (image.pixels, image.sigma) if array is not None]
    hdus = [
        extension(name, array.astype(np.float32), header.copy())
        for name, array in zip((image.name, f"{image.name}_SIGMA"), scaled, strict=False)
    ]
    if image.mask is not None:
        for key in ("BUNIT", "FLUXCONV"):
            header.remove(key, ignore_missing=True)
        hdus.append(extension(f"{image.name}_MASK", image.mask.astype(np.uint8), header))
    for hdu in hdus:
        _say(hdu.header, cards)
    return hdus


def _provenance_cards(provenance: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Return keyword → (name, value); the standard's keywords have eight characters."""
    cards: dict[str, tuple[str, str]] = {}
    for name, value in provenance.items():
        keyword = "SR_" + re.sub(r"[^A-Z0-9_-]", "_", name.upper())[:5]
        if keyword in cards:
            raise InvalidOption(
                f"'{name}' and '{cards[keyword][0]}' of the provenance would both be {keyword}",
                "names that differ within five letters",
                "rename one",
            )
        cards[keyword] = (ascii_text(name), ascii_text(str(value)))
    return cards


def _say(header: Any, cards: Mapping[str, tuple[str, str]]) -> None:
    for keyword, (name, value) in cards.items():
        if keyword not in header:
            header["HISTORY"] = f"deeplense {name}: {value}"
        header[keyword] = value
