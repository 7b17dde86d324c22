"""Physical models: the fit is part of the network."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import deeplense
from deeplense.core.compiled import can_compile
from deeplense.core.errors import InvalidDataset, InvalidOption
from deeplense.core.run_folder import RunFolder
from deeplense.models.attribution import attribute
from deeplense.models.backbone import MODELS
from deeplense.models.network import ModelChoice, build_network
from deeplense.recipes.draw import draw_images
from deeplense.recipes.recipe import Recipe, Sample, load_recipe, shipped_recipes

NAMES = ("lens_inverse", "lens_inverse_amortised")


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return dataclasses.replace(load_recipe("model_ii"), n_pixels=40)


@pytest.fixture(scope="module")
def image(recipe: Recipe) -> torch.Tensor:
    return draw_images(recipe, 1, [Sample("test", recipe.labels[k % 3], k) for k in range(7)])["image"]


@pytest.mark.parametrize("name", NAMES)
def test_an_image_is_answered_the_same_in_any_batch(name: str, recipe: Recipe, image: torch.Tensor) -> None:
    torch.manual_seed(0)
    model = MODELS[name]((1, 40, 40), recipe.as_dict()).eval()
    with torch.inference_mode():
        together = model.pooled(model.forward_features(image))
        alone = model.pooled(model.forward_features(image[4:5]))
    assert together.shape == (7, model.num_pooled)
    torch.testing.assert_close(together[4:5], alone, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_an_image_with_a_pixel_that_is_no_number_is_named(name: str, recipe: Recipe, image: torch.Tensor) -> None:
    torch.manual_seed(0)
    model = MODELS[name]((1, 40, 40), recipe.as_dict()).eval()
    bad = image.clone()
    bad[2, 0, 5, 5], bad[3, 0, 1, 1] = torch.nan, torch.inf
    with pytest.raises(InvalidDataset, match="2 of 7 images"):
        model.forward_features(bad)
    odd = torch.cat([torch.full((1, 1, 40, 40), value) for value in (0.0, -5.0, 1e6)] + [-image])
    with torch.inference_mode():
        assert torch.isfinite(model.pooled(model.forward_features(odd))).all()


def test_images_of_other_bands_than_the_recipe_are_refused(recipe: Recipe) -> None:
    with pytest.raises(InvalidOption, match="3 bands and a lens model of recipe model_ii, which has 1"):
        MODELS["lens_inverse"]((3, 40, 40), recipe.as_dict())


def test_gradients_reach_the_network_that_predicts_the_lens(recipe: Recipe, image: torch.Tensor) -> None:
    torch.manual_seed(0)
    model = MODELS["lens_inverse_amortised"]((1, 40, 40), recipe.as_dict()).train()
    model.pooled(model.forward_features(image)).square().sum().backward()
    gradients = [p.grad for p in model.predictor.parameters()]
    assert all(g is not None and torch.isfinite(g).all() and g.abs().sum() > 0 for g in gradients)


def test_the_predicted_lens_is_near_the_fitted_one(recipe: Recipe) -> None:
    torch.manual_seed(0)
    model = MODELS["lens_inverse_amortised"]((1, 40, 40), recipe.as_dict()).eval()
    smooth = draw_images(recipe, 2, [Sample("test", "no_sub", k) for k in range(32)])["image"]
    with torch.no_grad():
        error = (model.start(smooth) - MODELS["lens_inverse"]((1, 40, 40), recipe.as_dict()).fit(smooth).theta).abs()
        chi2 = (model.fit(smooth).residual ** 2).mean((1, 2, 3))
    assert error.median() < 0.05
    assert chi2.median() < 1.5, "one step polishes it"


def test_the_convergence_it_images_is_among_the_attributions(recipe: Recipe, image: torch.Tensor) -> None:
    torch.manual_seed(0)
    choice = ModelChoice("deeplense", "lens_inverse", recipe=recipe.as_dict())
    maps = attribute(build_network(choice, (1, 40, 40), 3).eval(), image, torch.zeros(7, dtype=torch.int64))
    assert maps["imaged convergence"].shape == image.shape
    smooth = torch.tensor([recipe.labels[k % 3] == "no_sub" for k in range(7)])
    power = maps["imaged convergence"].square().mean((1, 2, 3))
    assert power[smooth].max() < power[~smooth].min()


@pytest.mark.skipif(not can_compile(), reason="no C++ compiler")
def test_compiled_fits_agree_with_plain_ones(tmp_path: Path) -> None:
    """In a process of its own: the type checks of the tests cannot be compiled."""
    code = """
import dataclasses, torch
from deeplense.models.backbone import MODELS
from deeplense.recipes.draw import draw_images
from deeplense.recipes.recipe import Sample, load_recipe
recipe = dataclasses.replace(load_recipe("model_ii"), n_pixels=40)
image = draw_images(recipe, 1, [Sample("test", recipe.labels[k % 3], k) for k in range(40)])["image"]
model = MODELS["lens_inverse"]((1, 40, 40), recipe.as_dict())
plain = model.fit(image)
model.expect(10**6)
assert model.fitter.lens.run.compiled
compiled = model.fit(image)
model.expect(10)
assert model.fitter.lens.run.compiled, "what is compiled serves few images, too"
torch.testing.assert_close(compiled.theta, plain.theta, rtol=0, atol=1e-4)
torch.testing.assert_close(compiled.residual, plain.residual, rtol=0, atol=0.02)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=600)


def tiny(folder: Path) -> Path:
    path = folder / "tiny.toml"
    text = shipped_recipes()["model_ii"].replace("n_pixels = 64", "n_pixels = 40").replace('"model_ii"', '"tiny"', 1)
    path.write_text(text, encoding="utf-8")
    return path


def test_from_recipe_to_answers(tmp_path: Path) -> None:
    """The residual says whether there is substructure: a handful of images is enough to learn it."""
    data = deeplense.simulate(recipe=str(tiny(tmp_path)), out=tmp_path / "data", train=24, validation=8, test=16)
    run = deeplense.train(
        dataset=str(data), model_name="lens_inverse", epochs=3, batch_size=12, lr=3e-3, out=tmp_path / "run"
    )
    config = RunFolder(run).config()
    assert config["normalisation"]["kind"] == "none"
    assert config["options"]["recipe"]["name"] == "tiny"
    marks = deeplense.evaluate(run_id=str(run))
    assert marks["auroc_no_sub"].value > 0.8
    tree = tmp_path / "files"
    tree.mkdir()
    turned = dataclasses.replace(load_recipe(str(tiny(tmp_path))), name="turned")
    turned = dataclasses.replace(turned, lens=dataclasses.replace(turned.lens, theta_E=1.4))
    for name, origin in (("other_lens", turned), ("same_lens", load_recipe(str(tiny(tmp_path))))):
        drawn = draw_images(origin, 3, [Sample("test", "no_sub", 0)])["image"]
        np.save(tree / f"{name}.npy", drawn[0].numpy())
    answers = deeplense.predict(run_id=str(run), files=(str(tree),), out=tmp_path / "answers.parquet")
    other, same = pq.read_table(answers)["unlike"].to_pylist()
    assert "chi2 of the smooth lens" in other, "it looks like the others, but is the image of another lens"
    assert same is None


def test_images_of_unknown_origin_need_a_recipe(tmp_path: Path) -> None:
    data = deeplense.simulate(recipe=str(tiny(tmp_path)), out=tmp_path / "data", train=4, validation=4, test=4)
    from deeplense.describe import export

    export(str(data), tmp_path / "tree")
    options = {"dataset": str(tmp_path / "tree"), "epochs": 1, "batch_size": 4}
    with pytest.raises(InvalidOption, match="without a recipe") as caught:
        deeplense.train(model_name="lens_inverse", out=tmp_path / "none", **options)
    assert "--lens-recipe" in caught.value.remedy
    recipe = str(tiny(tmp_path))
    run = deeplense.train(model_name="lens_inverse", lens_recipe=recipe, out=tmp_path / "run", **options)
    assert json.loads((run / "config.json").read_text())["options"]["recipe"]["name"] == "tiny"
    with pytest.raises(InvalidOption, match="lens-recipe with residual_cnn"):
        deeplense.train(lens_recipe="model_ii", out=tmp_path / "other", **options)
