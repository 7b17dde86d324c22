"""The header of an image of finer pixels: its world coordinates, and every keyword that is a length on the sky."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from typing import Any

from astropy.io import fits

from deeplense.core.errors import InvalidDataset, InvalidOption

LENGTHS = ["PIXSCALE", "PIXSCAL1", "PIXSCAL2", "PIXSCL", "SECPIX", "SECPIX1", "SECPIX2", "D001SCAL"]
"""Keywords that are a pixel's side, whatever their unit."""
AREAS = ["PIXAR_SR", "PIXAR_A2"]
"""Keywords that are a pixel's area (JWST)."""
GONE = re.compile(
    r"(LTM\d_\d|LTV\d|ATM\d_\d|ATV\d|(DATA|TRIM|BIAS|CCD|AMP|DET|ORIG)SEC|CNPIX\d|TARGET[XY]"  # pixels of the original
    r"|DATAMIN|DATAMAX|CHECKSUM|DATASUM|BLANK|BSCALE|BZERO"  # what is true of its values only
    r"|ZIMAGE|ZBITPIX|ZNAXIS\d*|ZTILE\d+|ZCMPTYPE|ZNAME\d+|ZVAL\d+|ZMASKCMP|ZQUANTIZ|ZDITHER0|ZSIMPLE|ZTENSION|ZEXTEND"
    r"|ZPCOUNT|ZGCOUNT|ZHECKSUM|ZDATASUM|ZBLANK|ZSCALE|ZZERO)"  # how it was compressed
)
TABLES = re.compile(r"(CPDIS|CQDIS|D2IMDIS|PLTRAH)\w*")
LINEAR = re.compile(r"(?:(?:CTYPE|CRVAL|CRPIX|CDELT)\d|(?:CD|PC)\d_\d)([A-Z]?)")
SIP = re.compile(r"(?:A|B|AP|BP)_(\d)_(\d)")


def finer_header(header: fits.Header, factor: int) -> fits.Header:
    """Return the header of the image of `factor` times finer pixels along axes 1 and 2: the sky stays where it is.

    Rescaled are the WCS (CRPIX, CD or CDELT and PC, alternate ones too), SIP polynomials, `LENGTHS` and `AREAS`;
    what `GONE` matches is removed, as are cards that break the standard. HISTORY says so.

    Parameters
    ----------
    header
        Of the coarse image.
    factor
        Fine pixels per coarse one, along each axis.

    Raises
    ------
    InvalidOption
        When the factor is less than 1.
    InvalidDataset
        When the header has distortions that lie in tables of other extensions or are a photographic plate's, or a
        keyword that should be a number is none.

    References
    ----------
    Greisen and Calabretta 2002, equations 1 to 3; Shupe et al. 2005 (SIP).
    """
    if factor < 1:
        raise InvalidOption(f"factor is {factor}", "a whole number from 1", "change factor")
    _refuse_tables(header)
    fine, removed = _standard(header)
    for version in sorted({match[1] for key in fine if (match := LINEAR.fullmatch(key))}):
        _scale_linear(fine, factor, version)
    powers = {key: 1 - int(match[1]) - int(match[2]) for key in fine if (match := SIP.fullmatch(key))}
    powers |= dict.fromkeys(("A_DMAX", "B_DMAX"), 1) | dict.fromkeys(LENGTHS, -1) | dict.fromkeys(AREAS, -2)
    scaled = [key for key in powers if key in fine]
    for key in scaled:
        fine[key] = _number(fine, key) * float(factor) ** powers[key]
    fine["HISTORY"] = f"deeplense: pixels {factor} x finer along axes 1 and 2; WCS rescaled"
    for what, keys in (("rescaled", scaled), ("removed", removed)):
        if keys:
            fine["HISTORY"] = f"deeplense: {what} {' '.join(keys)}"
    return fine


def _refuse_tables(header: fits.Header) -> None:
    of_tables = [key for key in header if TABLES.fullmatch(key)]
    of_tables += [key for key in header if re.fullmatch(r"CTYPE\d[A-Z]?", key) and "-TAB" in str(header[key])]
    if of_tables:
        raise InvalidDataset(
            f"the WCS uses {', '.join(of_tables[:6])}: a table in another extension, or a photographic plate",
            "a WCS that is in the header: CD, or CDELT and PC, with or without SIP",
            "resample the image without distortion (drizzle, SWarp) first, or remove these keywords",
        )


def _standard(header: fits.Header) -> tuple[fits.Header, list[str]]:
    """Return the cards that another image may have, and the keywords of the others."""
    kept, removed = fits.Header(), []
    for card in header.copy(strip=True).cards:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                card.verify("silentfix+exception")
            if not GONE.fullmatch(card.keyword):
                kept.append(card, bottom=True)
                continue
        except (fits.VerifyError, ValueError):
            pass
        removed.append(re.sub(r"[^ -~]", "?", card.keyword))
    return kept, removed


def _scale_linear(header: fits.Header, factor: int, version: str) -> None:
    """Change one WCS in place; `version` is "" or the letter of an alternate one. Defaults are the standard's."""
    for axis in (1, 2):  # 0.5 is the image's edge, in coarse and fine pixels alike
        crpix = f"CRPIX{axis}{version}"
        header[crpix] = (_number(header, crpix, 0.0) - 0.5) * factor + 0.5
    found = {
        name: [key for key in header if re.fullmatch(rf"{name}{version}", key)] for name in ("CDELT\\d", r"PC\d_\d")
    }
    matrix = [key for key in header if re.fullmatch(rf"CD\d_[12]{version}", key)]
    for key in matrix:
        header[key] = _number(header, key) / factor
    if matrix and not any(found.values()):
        return
    coupled = [key for key in found[r"PC\d_\d"] if (key[2] in "12") != (key[4] in "12") and _number(header, key) != 0]
    if coupled:  # rows of the matrix mix fine axes with others: divide its columns instead
        for key in {f"PC{row}_{row}{version}" for row in (1, 2)} | {k for k in found[r"PC\d_\d"] if k[4] in "12"}:
            header[key] = _number(header, key, 1.0) / factor
        return
    for axis in (1, 2):
        header[f"CDELT{axis}{version}"] = _number(header, f"CDELT{axis}{version}", 1.0) / factor


def _number(header: Mapping[str, Any], key: str, default: float | None = None) -> float:
    value = header.get(key, default)
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise InvalidDataset(f"{key} is {value!r}", "a number", "correct the header, or remove the keyword") from error
