"""Gravitational imaging: the algebra against dense matrices, the map against masses that were put there."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from deeplense.inverse import convergence
from deeplense.inverse.convergence import ConvergenceMap
from deeplense.inverse.fit import Bank, Fit, fit
from deeplense.inverse.smooth_lens import SmoothLens
from deeplense.recipes.draw import draw
from deeplense.recipes.recipe import Sample, load_recipe


def some_fit(n: int, side: int, bands: int = 1) -> Fit:
    """Return a fit of random numbers: only shift and residual matter here."""
    torch.manual_seed(0)
    shape = (n, bands, side, side)
    shift, nothing = 30 * torch.randn(n, 2, bands, side, side), torch.zeros(shape)
    return Fit(torch.zeros(n, 1), torch.randn(shape), nothing, nothing + 1, shift, torch.zeros(n, 1, 1))


@pytest.mark.parametrize(("pixel_scale", "bands"), [(0.1, 1), (0.05, 2)])
def test_it_is_the_solution_of_the_dense_equations(
    pixel_scale: float, bands: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convergence, "STEPS", 300)
    found = some_fit(2, 8 * round(0.1 / pixel_scale), bands)
    imaging = ConvergenceMap(found.residual.shape[-1], pixel_scale, 0.7)
    found = Fit(*(field.double() for field in found))
    side, cell, factor = imaging.side, imaging.cell, imaging.factor
    place = (torch.arange(side, dtype=torch.float64)) * cell
    y, x = (axis.flatten() for axis in torch.meshgrid(place, place, indexing="ij"))
    dx, dy = x[:, None] - x[None], y[:, None] - y[None]
    alpha = 0.7 * torch.stack([dx, dy]) / (dx**2 + dy**2 + (0.5 * cell) ** 2)
    for k, result in enumerate(imaging(found)):
        change = found.shift[k].reshape(2, bands, side, factor, side, factor)
        spread = alpha.reshape(2, side, side, side**2)
        dense = sum(change[i, :, :, :, :, :, None] * spread[i][None, :, None, :, None] for i in range(2))
        dense = dense.reshape(-1, side**2)
        residual = found.residual[k].reshape(-1)
        matrix = dense.T @ dense + (math.pi / (0.1 * 0.1 * cell)) ** 2 * torch.eye(side**2)
        exact = torch.linalg.solve(matrix, dense.T @ residual) * math.pi / cell**2
        torch.testing.assert_close(result.flatten(), exact, rtol=1e-5, atol=1e-7)


@pytest.fixture(scope="module")
def lens() -> SmoothLens:
    return SmoothLens(dataclasses.replace(load_recipe("model_ii"), n_pixels=40), 40)


def maps(lens: SmoothLens, label: str) -> tuple[torch.Tensor, list[dict[str, np.ndarray]]]:
    """Return convergence maps of images with one mass near the Einstein ring, or none, and what was drawn."""
    one = {**lens.recipe.classes["cdm"], "count": 1, "mass": (5e9, 1e10), "radius": (1.0, 1.3)}
    recipe = dataclasses.replace(lens.recipe, classes={**lens.recipe.classes, "cdm": one})
    drawn = draw(recipe, 3, [Sample("test", label, k) for k in range(48)])
    found = fit(lens, drawn.image, Bank(lens, 128).start(drawn.image), 3)
    return ConvergenceMap(40, 0.101, recipe.lens.deflection_scale)(found), list(drawn.parameters)


def test_a_mass_is_found_where_it_is(lens: SmoothLens) -> None:
    kappa, numbers = maps(lens, "cdm")
    peak = kappa.flatten(1).argmax(1)
    x, y = ((peak % 40 - 19.5) * 0.101).numpy(), ((peak // 40 - 19.5) * 0.101).numpy()
    away = [math.hypot(x[k] - one["halo_x"][0], y[k] - one["halo_y"][0]) for k, one in enumerate(numbers)]
    assert np.median(away) < 0.15, "within a pixel or two"


def test_a_smooth_lens_shows_little(lens: SmoothLens) -> None:
    smooth, disturbed = maps(lens, "no_sub")[0], maps(lens, "cdm")[0]
    assert smooth.amax((1, 2)).median() < 0.3 * disturbed.amax((1, 2)).median()
    assert smooth.square().mean() < convergence.KAPPA_RMS**2, "the prior holds it down"
