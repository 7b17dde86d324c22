"""Results, in the formats that astronomers read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float32

from deeplense.core.files import atomic


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
    hdu.header["HISTORY"] = origin.encode("ascii", "replace").decode()
    with atomic(path) as temporary:
        hdu.writeto(temporary, overwrite=True)
