"""Pairs of any recipe: how its images are made coarse, by a resize or as another instrument would see them."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from deeplense.core.degradation import Degradation
from deeplense.core.errors import InvalidOption
from deeplense.instruments.instrument import Instrument, load_instrument
from deeplense.instruments.psf import SIGMA_PER_FWHM
from deeplense.recipes.recipe import Recipe

RESIZES = ("bicubic", "area")
WHOLE = 0.02  # by how much the ratio of two pixel scales may miss a whole number
MOST = 16


def with_pairs(recipe: Recipe, coarse: str, factor: int | None = None) -> Recipe:
    """Return the recipe with a coarser image of every scene beside it.

    Parameters
    ----------
    recipe
        What is drawn.
    coarse
        "bicubic" or "area", or an instrument whose pixels and point-spread function the coarse images get: the fine
        ones, with their noise, are blurred by the Gaussian that makes one PSF as wide as the other, both taken as
        Gaussians of their FWHM, and binned.
    factor
        Fine pixels per coarse pixel and axis: by default 2, or what the instruments say.

    Raises
    ------
    UnknownName
        When no instrument has that name.
    InvalidOption
        When the instrument sees no coarser than the recipe's own, or its pixels are no whole number of them.
    """
    if coarse in RESIZES:
        degradation = Degradation.from_mapping({"factor": factor or 2, "method": coarse})
    else:
        degradation = _matched(recipe.instruments(), load_instrument(coarse), coarse, factor)
    name = f"{recipe.name}_{coarse.removesuffix('.toml').rsplit('/')[-1]}_{degradation.factor}"
    return dataclasses.replace(recipe, name=name, pair=degradation)


def _matched(fine: tuple[Instrument, ...], coarse: Instrument, name: str, factor: int | None) -> Degradation:
    ratio = coarse.pixel_scale / fine[0].pixel_scale
    wanted = factor or max(2, round(ratio))
    if abs(ratio / wanted - 1) > WHOLE or not 2 <= wanted <= MOST:
        raise InvalidOption(
            f"pixels of {fine[0].pixel_scale:g} arcsec, and {name} has {coarse.pixel_scale:g}: {ratio:.3g} times",
            f"a whole number of times, from 2 to {MOST}",
            "choose another instrument, or a recipe whose pixels fit",
        )
    widths = {_fwhm(instrument, name) for instrument in (*fine, coarse)}
    own, other = max(_fwhm(instrument, name) for instrument in fine), _fwhm(coarse, name)
    if len(widths) > 2 or other <= own:
        raise InvalidOption(
            f"a PSF of {other:g} arcsec for the coarse images, and for the fine ones "
            + ", ".join(f"{_fwhm(band, name):g}" for band in fine),
            "one width in all bands of the recipe, and a wider one of the other instrument",
            "choose another instrument, or area",
        )
    blur = math.sqrt(other**2 - own**2) * SIGMA_PER_FWHM / fine[0].pixel_scale
    settings: dict[str, Any] = {"factor": wanted, "method": "gaussian", "blur": blur}
    return Degradation.from_mapping(settings)


def _fwhm(instrument: Instrument, name: str) -> float:
    if instrument.psf_fwhm is None:
        raise InvalidOption(
            f"the PSF of '{instrument.description}' or of {name} is a picture",
            "a PSF whose width is known",
            "choose area",
        )
    return instrument.psf_fwhm
