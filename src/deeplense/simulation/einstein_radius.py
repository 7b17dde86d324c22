"""The Einstein radius of lenses after their images were made finer: a measurement that a user would make of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from jaxtyping import Float32, Float64
from torch import Tensor

from deeplense.core.errors import InvalidOption
from deeplense.inverse.lens_fitter import LensFitter
from deeplense.recipes.draw import draw_images
from deeplense.recipes.recipe import Recipe, Sample

SPREAD = 0.05  # of θ_E, relative, where it is the same in every image
SEED = 20_261  # of the scenes: no dataset has it
AT_ONCE = 32

Answer = Callable[[Float32[Tensor, "B C h w"]], Float32[Tensor, "B C H W"]]


def einstein_radius_errors(recipe: Recipe, n: int, answer: Answer) -> dict[str, Float64[np.ndarray, " n"]]:
    """Return the relative errors of the Einstein radius in images made finer, and in the fine ones as observed.

    Scenes of the recipe without substructure, whose Einstein radius varies by 5 % where it is fixed. The same smooth
    lens is fitted to the noise-free fine images, to those that were observed, and to those that were made of coarse
    ones: what is fitted to the noise-free one is right by definition, as starts and steps are the same for all.

    Parameters
    ----------
    recipe
        Of pairs.
    n
        Scenes.
    answer
        Coarse images to finer ones.

    Returns
    -------
    errors
        `observed` and `super_resolved`, [n]; nothing where the lens of such a recipe cannot be fitted.
    """
    varied = recipe.as_dict() | {"classes": {"smooth": {"kind": "none"}}}
    if isinstance(theta_E := recipe.lens.theta_E, float):
        varied["lens"] = varied["lens"] | {"theta_E": {"normal": [theta_E, SPREAD * theta_E]}}
    drawn = Recipe.from_mapping(varied)
    try:
        fitter = LensFitter(drawn.image_shape, dataclasses.replace(drawn, pair=None).as_dict())
    except InvalidOption:
        return {}
    place = fitter.lens.names.index("lens_theta_E")
    parts: dict[str, list[Float64[np.ndarray, " B"]]] = {"noise_free": [], "observed": [], "super_resolved": []}
    for first in range(0, n, AT_ONCE):
        samples = [Sample("check", "smooth", k) for k in range(first, min(n, first + AT_ONCE))]
        images = draw_images(drawn, SEED, samples)
        kinds = (images["truth"], images["image"], answer(images["low"]))
        for name, kind in zip(parts, kinds, strict=True):
            parts[name].append(fitter.fit(kind).theta[:, place].double().cpu().numpy())
    fitted = {name: np.concatenate(values) for name, values in parts.items()}
    return {name: fitted[name] / fitted["noise_free"] - 1 for name in ("observed", "super_resolved")}
