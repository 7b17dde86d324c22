"""The Einstein radius after super-resolution: right for the truth, off by as much as an image is stretched."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from deeplense.recipes.draw import draw_images
from deeplense.recipes.recipe import Recipe, Sample, load_recipe
from deeplense.simulation.einstein_radius import SEED, SPREAD, einstein_radius_errors

N = 4


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return Recipe.from_mapping(load_recipe("super_resolution").as_dict() | {"n_pixels": 96})


@pytest.fixture(scope="module")
def truth(recipe: Recipe) -> Tensor:
    """Return the noise-free fine images of the scenes that are asked about."""
    content = recipe.as_dict()
    content["classes"] = {"smooth": {"kind": "none"}}
    content["lens"]["theta_E"] = {"normal": [recipe.lens.theta_E, SPREAD * recipe.lens.theta_E]}
    samples = [Sample("check", "smooth", k) for k in range(N)]
    return draw_images(Recipe.from_mapping(content), SEED, samples)["truth"]


def stretched(images: Tensor, factor: float) -> Tensor:
    grid = F.affine_grid(
        torch.eye(2, 3).expand(len(images), 2, 3) / factor, [len(images), 1, *images.shape[2:]], align_corners=False
    )
    return F.grid_sample(images, grid, mode="bicubic", align_corners=False)


@pytest.mark.parametrize("factor", [1.0, 1.01])
def test_it_is_off_by_as_much_as_the_image_is_stretched(recipe: Recipe, truth: Tensor, factor: float) -> None:
    errors = einstein_radius_errors(recipe, N, lambda low: truth if factor == 1 else stretched(truth, factor))
    assert errors["super_resolved"] == pytest.approx(
        np.full(N, factor - 1), abs=1e-6 if factor == 1 else 0.003
    )  # the source is stretched, too
    assert 0 < np.abs(errors["observed"]).max() < 0.005, "noise moves it, a little"


def test_of_a_lens_that_cannot_be_fitted_nothing_is_said(recipe: Recipe) -> None:
    content = load_recipe("galaxy_scale").as_dict() | {"pair": recipe.as_dict()["pair"]}
    assert einstein_radius_errors(Recipe.from_mapping(content), N, lambda low: low) == {}
