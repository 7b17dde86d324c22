"""Models I, II and III against images of the released generator: pixel by pixel, and the noise by its law."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from deeplense.core.seeding import Streams, stable_key
from deeplense.instruments.instrument import load_instrument
from deeplense.recipes.draw import draw, expected_images, moments, observe
from deeplense.recipes.recipe import load_recipe
from deeplense.sky.substructure import Parameters

MODELS = {"I": "model_i", "II": "model_ii", "III": "model_iii"}
LABELS = ("no_sub", "cdm", "axion")
COLUMNS = {
    "source_center_x": "src_x",
    "source_center_y": "src_y",
    "halo_mass": "halo_mass",
    "halo_x": "halo_x",
    "halo_y": "halo_y",
    "axion_mass": "axion_mass",
    "vortex_half_length": "vortex_half_length",
    "vortex_angle": "angle",
    "exposure_time": "exp_time",
}

pytestmark = pytest.mark.usefixtures("test_data")


@cache
def reference(folder: Path, model: str, label: str) -> dict[str, np.ndarray]:
    """Return one file of reference images."""
    with np.load(folder / "reference_sims" / f"Model_{model}_{label}.npz") as archive:
        return {name: archive[name] for name in archive.files}


def parameters(file: dict[str, np.ndarray]) -> Parameters:
    """Return the parameters of reference images under our names."""
    return {ours: file[theirs] for ours, theirs in COLUMNS.items()}


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float32, 1e-4)])
def test_noise_free_images_are_those_of_the_generator(
    test_data: Path, model: str, label: str, dtype: torch.dtype, tolerance: float
) -> None:
    file = reference(test_data, model, label)
    recipe = load_recipe(MODELS[model])
    image = expected_images(recipe, label, parameters(file), dtype)[:, 0].double().numpy()
    truth = file["image_noiseless"].astype(np.float64)
    error = np.abs(image - truth).max((1, 2)) / truth.max((1, 2))
    assert image.shape == truth.shape
    assert error.max() < tolerance, f"image {error.argmax()} is off by {error.max():.1e} of its peak"


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("model", ["II", "III"])
def test_the_noiseless_recipes_are_what_the_last_script_saves(test_data: Path, model: str, label: str) -> None:
    file = reference(test_data, model, label)
    recipe = load_recipe(f"{MODELS[model]}_noiseless")
    expected = expected_images(recipe, label, parameters(file))
    image = observe(recipe, expected, {}, Streams.of([], []))
    saved = file["image_saved"]
    assert np.abs(image[:, 0].numpy() - saved).max() < 1e-4 * saved.max()
    same, variance = moments(recipe, expected, {})
    assert torch.equal(same, image)
    assert not variance.any()


@pytest.mark.parametrize("model", ["II", "III"])
def test_the_noise_of_the_generator_follows_our_variance(test_data: Path, model: str) -> None:
    """The noise that the script computes (and drops) and the noise that we add have one law."""
    recipe = load_recipe(MODELS[model])
    instrument = load_instrument(recipe.instrument)
    residuals: dict[str, list[np.ndarray]] = {"theirs": [], "ours": []}
    for label in LABELS:
        file = reference(test_data, model, label)
        assert instrument.background_sigma() == pytest.approx(file["background_noise"].item(), rel=1e-12)
        assert instrument.total_exposure_time == file["total_exposure_time"].item()
        expected = expected_images(recipe, label, parameters(file))
        streams = Streams.of([stable_key(label)] * len(expected), range(len(expected)))
        image = observe(recipe, expected, {}, streams)
        same, variance = moments(recipe, expected, {})
        assert torch.equal(same, expected)
        residuals["theirs"].append((file["noise_lenstronomy"] / variance[:, 0].sqrt().numpy()).ravel())
        residuals["ours"].append(((image - expected) / variance.sqrt()).numpy().ravel())
    for whose, parts in residuals.items():
        values = np.concatenate(parts)[::5]
        n = values.size
        assert abs(values.mean()) < 4.5 / np.sqrt(n), f"{whose}: mean {values.mean():.2e}"
        assert abs(values.var() - 1) < 4.5 * np.sqrt(2 / n), f"{whose}: variance {values.var():.4f}"
        assert stats.kstest(values, "norm").pvalue > 1e-3, f"{whose}: not Gaussian"


def counts_moments(rate: np.ndarray, seconds: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mean, variance and P(0) of Poisson counts whose rate is a Gaussian clipped at 0."""
    mu, sigma = seconds * rate, np.sqrt(seconds * rate + (seconds * 0.01) ** 2)
    above, density = stats.norm.cdf(mu / sigma), sigma * stats.norm.pdf(mu / sigma)
    mean, square = mu * above + density, (mu**2 + sigma**2) * above + mu * density
    zero = stats.norm.sf(mu / sigma) + np.exp(sigma**2 / 2 - mu + stats.norm.logcdf(mu / sigma - sigma))
    return mean, square - mean**2 + mean, zero


@pytest.mark.parametrize("label", LABELS)
def test_saved_counts_and_ours_follow_one_law(test_data: Path, label: str) -> None:
    """Every pixel of the generator's Model I, standardised by the mean and variance of the law at that pixel."""
    file, recipe = reference(test_data, "I", label), load_recipe("model_i")
    drawn = parameters(file)
    expected = expected_images(recipe, label, drawn, torch.float64)
    ours = observe(recipe, expected, drawn, Streams.of([stable_key(label)] * len(expected), range(len(expected))))
    seconds = np.broadcast_to(file["exp_time"][:, None, None, None], expected.shape)[::4].ravel()
    mean, variance, zero = counts_moments(expected[::4].numpy().ravel(), seconds)
    for whose, image in (("theirs", file["image_saved"]), ("ours", ours.numpy())):
        counts = image[::4].astype(np.float64).ravel()
        z = (counts - mean) / np.sqrt(variance)
        n = z.size
        assert (counts == np.round(counts)).all()
        assert abs(z.mean()) < 4.5 / np.sqrt(n), f"{whose}: mean residual {z.mean():.4f}"
        assert abs((z**2).mean() - 1) < 4.5 * (z**2).std() / np.sqrt(n), f"{whose}: variance ratio {(z**2).mean():.4f}"
        excess = ((counts == 0) - zero).sum() / np.sqrt((zero * (1 - zero)).sum())
        assert abs(excess) < 4.5, f"{whose}: zeros are off by {excess:.1f} standard errors"


def test_model_i_has_the_published_statistics(test_data: Path) -> None:
    recipe = load_recipe("model_i")
    image = draw(recipe, 0, recipe.samples()[:90]).image.numpy()
    saved = np.concatenate([reference(test_data, "I", label)["image_saved"] for label in LABELS])
    for whose, counts in (("theirs", saved), ("ours", image)):
        assert (counts == np.round(counts)).all()
        assert 17.5 < counts.mean() < 19.5, f"{whose}: mean {counts.mean():.2f}"
        assert np.median(counts) in (2, 3, 4), f"{whose}: median {np.median(counts)}"
        assert 0.42 < (counts == 0).mean() < 0.46, f"{whose}: {(counts == 0).mean():.1%} zeros"
        assert 500 < counts.max() < 1200, f"{whose}: maximum {counts.max()}"


def test_model_ii_with_noise_has_the_range_of_the_samples_in_circulation(test_data: Path) -> None:
    assert test_data
    recipe = load_recipe("model_ii")
    image = draw(recipe, 0, recipe.samples()[:90]).image
    assert -0.035 < image.min() < -0.015
    assert 1.0 < image.max() < 2.5
