"""The examples do what they say."""

import re
import runpy
from pathlib import Path

import pytest
import torch

from deeplense.recipes.draw import draw
from deeplense.recipes.recipe import load_recipe

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_the_gradient_finds_the_source(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLES / "differentiable_lens.py"), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    true, fitted, chi2 = ([float(number) for number in re.findall(r"[+-]?\d+\.\d+", line)] for line in lines)
    assert fitted == pytest.approx(true, abs=2e-3), "the fit is within a fiftieth of a pixel"
    assert chi2[0] == pytest.approx(1, abs=0.1)


def test_the_recipe_of_ones_own_draws_images() -> None:
    recipe = load_recipe(EXAMPLES / "my_recipe.toml")
    drawn = draw(recipe, seed=0, samples=recipe.samples()[:3])
    assert torch.isfinite(drawn.image).all()
    assert len(drawn.parameters[1]["halo_mass"]) == 60
