"""Pairs of any recipe: resizes, and the pixels and PSF of another instrument."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch

from deeplense.core.degradation import Degradation
from deeplense.core.errors import InvalidOption, UnknownName
from deeplense.data.dataset import open_dataset
from deeplense.instruments.instrument import load_instrument
from deeplense.recipes.draw import draw, draw_images
from deeplense.recipes.pairs import with_pairs
from deeplense.recipes.recipe import Recipe, load_recipe
from deeplense.simulate import simulate


def of(n_pixels: int = 60, **changes: object) -> Recipe:
    """Return a recipe that Euclid's camera sees."""
    recipe = load_recipe("model_ii")
    return dataclasses.replace(recipe, instrument="euclid_vis", n_pixels=n_pixels, **changes)


@pytest.mark.parametrize(("coarse", "factor"), [("bicubic", None), ("area", 3), ("bicubic", 4)])
def test_a_resize_leaves_the_images_as_they_are(coarse: str, factor: int | None) -> None:
    recipe = of()
    paired = with_pairs(recipe, coarse, factor)
    assert paired.pair == Degradation(factor or 2, coarse) and paired.name == f"model_ii_{coarse}_{factor or 2}"  # type: ignore[arg-type]
    samples = recipe.samples()[:3]
    images = draw_images(paired, 1, samples)
    assert torch.equal(images["image"], draw(recipe, 1, samples).image)
    assert images["low"].shape[-1] == 60 // (factor or 2)


def test_another_instruments_image_is_what_it_would_see() -> None:
    recipe = of()
    paired = with_pairs(recipe, "rubin_i")
    assert paired.pair is not None and paired.pair.factor == 2 and paired.pair.method == "gaussian"
    euclid, rubin = load_instrument("euclid_vis"), load_instrument("rubin_i")
    assert euclid.psf_fwhm is not None and rubin.psf_fwhm is not None
    sigma = math.sqrt(rubin.psf_fwhm**2 - euclid.psf_fwhm**2) / 2.3548 / euclid.pixel_scale
    assert paired.pair.blur == pytest.approx(sigma, rel=1e-3)
    # a star that is as wide as one camera's PSF becomes as wide as the other's
    own = euclid.psf_fwhm / 2.3548 / euclid.pixel_scale
    axis = torch.arange(80, dtype=torch.float64) - 39.5
    star = torch.exp(-(axis[:, None] ** 2 + axis**2) / (2 * own**2))[None, None]
    wider = math.sqrt(variance(paired.pair(star)) - 1 / 16)  # pairs of pixels widen it (W. F. Sheppard 1897)
    assert wider * 2 * euclid.pixel_scale * 2.3548 == pytest.approx(rubin.psf_fwhm, rel=0.01)


def variance(image: torch.Tensor) -> float:
    """Return the variance of the light along one axis [pixels²]."""
    light = image[0, 0].sum(0) / image.sum()
    axis = torch.arange(len(light), dtype=light.dtype)
    centre = (light * axis).sum()
    return float((light * (axis - centre) ** 2).sum())


def test_instruments_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InvalidOption, match="a whole number of times"):
        with_pairs(of(), "hst_wfc3_f160w")
    with pytest.raises(InvalidOption, match="a whole number of times"):
        with_pairs(of(), "rubin_i", 3)
    narrow = dataclasses.replace(load_recipe("model_ii"), instrument="rubin_i", n_pixels=32)
    with pytest.raises(InvalidOption, match="whole number of times"):
        with_pairs(narrow, "euclid_vis")
    with pytest.raises(UnknownName):
        with_pairs(of(), "no_such_camera")


def test_the_verb_makes_pairs_of_any_recipe(tmp_path: Path) -> None:
    folder = simulate(recipe="model_iii", train=4, validation=2, test=2, coarse="area", factor=4, out=tmp_path / "set")
    dataset = open_dataset(folder)
    assert dataset.degradation == Degradation(4, "area") and dataset.array_shapes["low"] == (1, 16, 16)
    fine, low = (torch.from_numpy(dataset.array(name, range(6))) for name in ("image", "low"))
    torch.testing.assert_close(Degradation(4, "area")(fine), low)
    with pytest.raises(InvalidOption, match="--factor without --coarse"):
        simulate(recipe="model_iii", factor=2)
