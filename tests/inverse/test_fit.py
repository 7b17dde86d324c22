"""The smooth lens as a function of its parameters, and its fit to images."""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from deeplense.core.errors import InvalidOption
from deeplense.data.transforms import centre_crop
from deeplense.inverse.fit import Bank, _cost, fit
from deeplense.inverse.smooth_lens import SmoothLens
from deeplense.recipes.draw import Drawn, draw
from deeplense.recipes.parts import Prior
from deeplense.recipes.recipe import Recipe, Sample, load_recipe

SIDE = {"model_i": 60, "model_ii": 40, "common_test": 60}


def small(name: str, n_pixels: int = 0, **observation: Any) -> Recipe:
    """Return a shipped recipe with coarser pixels, so that the arcs still fit."""
    recipe = load_recipe(name)
    observed = dataclasses.replace(recipe.observation, **observation)
    return dataclasses.replace(recipe, n_pixels=n_pixels or SIDE[name], observation=observed)


def images(recipe: Recipe, label: str, n: int) -> Drawn:
    return draw(recipe, 3, [Sample("test", label, k) for k in range(n)])


def truth(lens: SmoothLens, drawn: Drawn) -> torch.Tensor:
    columns = [[numbers[name] for name in lens.names if name in numbers] for numbers in drawn.parameters]
    theta = torch.tensor(columns)
    if "exposure_time" in lens.names:
        place = lens.names.index("exposure_time")
        theta[:, place] = torch.log(theta[:, place])
    return theta


@pytest.fixture(scope="module", params=["model_i", "model_ii"])
def fitted(request: pytest.FixtureRequest) -> tuple[SmoothLens, Drawn, Any]:
    recipe = small(request.param)
    lens, drawn = SmoothLens(recipe, recipe.n_pixels), images(recipe, "no_sub", 64)
    return lens, drawn, fit(lens, drawn.image, Bank(lens, 128).start(drawn.image), 3)


def test_it_predicts_what_the_simulator_draws() -> None:
    for name in ("model_ii", "common_test"):
        recipe = small(name, rescale="none")
        lens, drawn = SmoothLens(recipe, recipe.n_pixels), images(recipe, "no_sub", 4)
        predicted = lens.predict(truth(lens, drawn))
        peak = drawn.expected.max()
        torch.testing.assert_close(predicted.mean, drawn.expected, rtol=0, atol=1e-5 * peak.item())
        torch.testing.assert_close(predicted.variance, drawn.variance, rtol=1e-4, atol=0)


def test_it_predicts_several_bands_sampled_finely_through_any_psf() -> None:
    vary = Prior(uniform=(0.2, 0.4))
    recipe = small("model_ii", supersampling=2)
    source = dataclasses.replace(recipe.source, R_sersic=vary, n_sersic=Prior(uniform=(0.8, 2.5)), colors=(0.7,))
    recipe = dataclasses.replace(recipe, instrument=("rubin_g", "rubin_r"), source=source)  # Moffat PSFs
    lens, drawn = SmoothLens(recipe, recipe.n_pixels), images(recipe, "no_sub", 4)
    assert {"source_R_sersic", "source_n_sersic"} <= set(lens.names)
    numbers = torch.tensor([[one[name] for name in lens.names] for one in drawn.parameters])
    predicted = lens.predict(numbers)
    assert predicted.mean.shape == (4, 2, 40, 40)
    torch.testing.assert_close(predicted.mean, drawn.expected, rtol=1e-4, atol=1e-5 * drawn.expected.max().item())
    torch.testing.assert_close(predicted.variance, drawn.variance, rtol=1e-4, atol=0)
    found = fit(lens, drawn.image, numbers + 0.01, 2)
    assert torch.isfinite(found.residual).all()
    assert found.residual.square().mean().item() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("name", ["model_i", "model_ii", "common_test"])
def test_everything_follows_the_images_to_their_device(name: str) -> None:
    """The device without numbers refuses to be mixed with another, as a GPU does."""
    recipe = small(name)
    lens = SmoothLens(recipe, recipe.n_pixels)
    bank, image = Bank(lens, 8), torch.empty(3, *recipe.image_shape, device="meta")
    found = fit(lens, image, bank.start(image), 2)
    assert all(field.device.type == "meta" for field in found)
    assert torch.isfinite(lens.predict(lens.draw(2)).mean).all(), "and back"


def test_the_mean_of_clipped_counts_is_that_of_many_images() -> None:
    recipe = small("model_i")
    lens = SmoothLens(recipe, recipe.n_pixels)
    drawn = images(recipe, "no_sub", 100)
    predicted = lens.predict(truth(lens, drawn))
    z = (drawn.image - predicted.mean) / predicted.variance.sqrt()
    assert abs(z.mean().item()) < 5 / np.sqrt(z.numel())
    assert abs(z.var().item() - 1) < 0.01


@pytest.mark.parametrize("name", SIDE)
def test_its_derivatives_are_those_of_differences(name: str) -> None:
    recipe = small(name)
    lens = SmoothLens(recipe, recipe.n_pixels)
    theta = lens.draw(3)
    exact = lens.predict(theta, derivatives=True)
    assert len(exact.jacobian) == len(lens.names)
    for p, parameter in enumerate(lens.names):
        step = torch.zeros_like(theta)
        step[:, p] = 2e-3
        difference = (lens.predict(theta + step).mean - lens.predict(theta - step).mean) / 4e-3
        error = (exact.jacobian[p] - difference).abs().amax((1, 2, 3)) / difference.abs().amax((1, 2, 3))
        assert error.max() < 0.05, parameter  # the source has a cusp


def test_a_crop_is_the_centre_of_the_whole() -> None:
    recipe = small("model_ii")
    theta = SmoothLens(recipe, 40).draw(2)
    whole, part = (SmoothLens(recipe, side).predict(theta).mean for side in (40, 30))
    torch.testing.assert_close(part[..., 4:-4, 4:-4], centre_crop(whole, 22), rtol=1e-5, atol=1e-7)
    with pytest.raises(InvalidOption, match="31 pixels"):
        SmoothLens(recipe, 31)


def test_the_fit_finds_the_truth_within_its_errors(fitted: tuple[SmoothLens, Drawn, Any]) -> None:
    lens, drawn, found = fitted
    sigma = torch.linalg.inv(found.curvature).diagonal(dim1=1, dim2=2).sqrt()
    pull = ((found.theta - truth(lens, drawn)) / sigma).flatten()
    assert abs(pull.mean().item()) < 4.5 / np.sqrt(pull.numel())
    assert 0.8 < pull.std().item() < 1.25


def test_the_residual_of_a_smooth_lens_is_noise(fitted: tuple[SmoothLens, Drawn, Any]) -> None:
    lens, _, found = fitted
    n = found.residual.numel()
    assert abs((found.residual**2).mean().item() - 1) < 4.5 * np.sqrt(3 / n) + len(lens.names) / SIDE["model_ii"] ** 2
    if lens.recipe.observation.noise == "background_and_shot":
        assert stats.kstest(found.residual.flatten()[::7].numpy(), "norm").pvalue > 1e-3


@pytest.mark.parametrize("label", ["cdm", "axion"])
def test_substructure_stays_in_the_residual(label: str) -> None:
    recipe = small("model_ii")
    lens = SmoothLens(recipe, recipe.n_pixels)
    bank = Bank(lens, 128)
    chi2 = []
    for name in ("no_sub", label):
        image = images(recipe, name, 24).image
        chi2.append((fit(lens, image, bank.start(image), 2).residual ** 2).mean((1, 2, 3)))
    assert chi2[1].median() > chi2[0].max()


def test_a_free_macro_lens_of_scaled_images_is_fitted() -> None:
    recipe = small("common_test")
    lens, drawn = SmoothLens(recipe, recipe.n_pixels), images(recipe, "no_sub", 16)
    assert {"lens_e1", "lens_gamma2", "source_e1", "lowest", "log_width"} <= set(lens.names)
    found = fit(lens, drawn.image, Bank(lens, 1024).start(drawn.image), 12)
    chi2 = (found.residual**2).mean((1, 2, 3))
    assert chi2.median() < 1.05
    assert (chi2 < 1.2).float().mean() > 0.8


def test_a_source_of_free_brightness_behind_a_shining_lens_is_fitted() -> None:
    recipe = small("test5", 60)
    lens, drawn = SmoothLens(recipe, 60), images(recipe, "no_sub", 24)
    assert {"source_magnitude", "source_R_sersic", "lowest", "log_width"} <= set(lens.names)
    found = fit(lens, drawn.image, Bank(lens, 2048).start(drawn.image), 4)
    chi2 = found.residual.square().mean((1, 2, 3))
    assert chi2.median().item() == pytest.approx(1, abs=0.05)
    assert (chi2 < 1.2).float().mean() > 0.9


def test_no_step_is_kept_that_makes_the_fit_worse() -> None:
    recipe = small("model_i")
    lens, image = SmoothLens(recipe, recipe.n_pixels), images(recipe, "cdm", 64).image
    start = Bank(lens, 128).start(image)
    costs = []
    for steps in (1, 2, 3, 4):
        found = fit(lens, image, start, steps)
        flat = torch.zeros_like(found.theta), torch.zeros_like(found.curvature)
        costs.append(_cost(image, found.mean, found.sigma**2, *flat))
    for before, after in pairwise(costs):
        assert (after - before).max() < 0.1, "a step that was not checked made it worse"


def test_where_only_the_exposure_varies_it_is_fitted() -> None:
    recipe = small("model_i")
    source = dataclasses.replace(recipe.source, center_x=0.1, center_y=0.2)
    recipe = dataclasses.replace(recipe, source=source)
    lens, drawn = SmoothLens(recipe, recipe.n_pixels), images(recipe, "no_sub", 4)
    assert lens.names == ("exposure_time",)
    found = fit(lens, drawn.image, Bank(lens, 16).start(drawn.image), 2)
    assert found.mean.shape == drawn.image.shape
    torch.testing.assert_close(found.theta, truth(lens, drawn), rtol=0, atol=0.05)


@pytest.mark.parametrize("name", ["model_i", "common_test"])
@pytest.mark.parametrize("value", [0.0, 1.0, -7.0, 1e5])
def test_an_image_without_contrast_is_fitted_to_numbers(name: str, value: float) -> None:
    recipe = small(name)
    lens = SmoothLens(recipe, recipe.n_pixels)
    image = torch.full((2, *recipe.image_shape), value)
    found = fit(lens, image, Bank(lens, 16).start(image), 2)
    assert all(torch.isfinite(field).all() for field in found)


def test_one_image_is_fitted_as_in_a_batch(fitted: tuple[SmoothLens, Drawn, Any]) -> None:
    lens, drawn, found = fitted
    bank = Bank(lens, 128)
    alone = fit(lens, drawn.image[5:6], bank.start(drawn.image[5:6]), 3)
    torch.testing.assert_close(alone.theta, found.theta[5:6], rtol=0, atol=1e-5)


def test_the_bank_starts_near_and_at_the_right_exposure() -> None:
    recipe = small("model_i")
    lens, drawn = SmoothLens(recipe, recipe.n_pixels), images(recipe, "no_sub", 50)
    error = (Bank(lens, 512).start(drawn.image) - truth(lens, drawn)).abs().median(0).values
    assert error[:2].max() < 0.03
    assert error[2] < 0.1


def test_gradients_pass_through_the_fit_to_the_parameters() -> None:
    recipe = small("model_ii")
    lens, drawn = SmoothLens(recipe, recipe.n_pixels), images(recipe, "no_sub", 6)
    start = (truth(lens, drawn) + 0.05).requires_grad_()
    found = fit(lens, drawn.image, start, 1)
    (gradient,) = torch.autograd.grad((found.residual**2).sum(), start)
    assert torch.isfinite(gradient).all()
    assert (gradient.abs() > 0).all(), "published inverse lenses lose the gradient in rounded indices"
    step = torch.zeros_like(start)
    step[:, 0] = 5e-4
    with torch.no_grad():
        up, down = ((fit(lens, drawn.image, start + s, 1).residual ** 2).sum((1, 2, 3)) for s in (step, -step))
    torch.testing.assert_close(gradient[:, 0], (up - down) / 1e-3, rtol=0.1, atol=0.05 * gradient.abs().max().item())


def test_what_cannot_be_fitted_is_refused() -> None:
    recipe = load_recipe("lens_finding")
    with pytest.raises(InvalidOption, match="lens model of recipe lens_finding") as caught:
        SmoothLens(recipe, recipe.n_pixels)
    assert "choose another model" in caught.value.remedy
    lumpy = dataclasses.replace(load_recipe("model_ii"), classes={"cdm": {"kind": "point_masses"}})
    with pytest.raises(InvalidOption, match="no class without substructure"):
        SmoothLens(lumpy, lumpy.n_pixels)


def changed(recipe: Recipe, **source: Any) -> Recipe:
    return dataclasses.replace(recipe, source=dataclasses.replace(recipe.source, **source))


@pytest.mark.parametrize(
    ("recipe", "found"),
    [
        (load_recipe("model_ii_noiseless"), "no noise"),
        (changed(load_recipe("model_ii"), center_x=0.0, center_y=0.0), "the same lens in every image"),
        (changed(load_recipe("model_ii"), probability=0.5), "not once in every image"),
        (
            dataclasses.replace(small("model_ii", rescale="min_max"), instrument=("published_ii", "published_ii")),
            "2 bands are each scaled",
        ),
    ],
)
def test_what_would_be_fitted_wrongly_is_refused(recipe: Recipe, found: str) -> None:
    with pytest.raises(InvalidOption, match=found):
        SmoothLens(recipe, recipe.n_pixels)
