"""The likelihood behind the ceiling, against brute force."""

from __future__ import annotations

import dataclasses
import importlib.util
import math
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from scipy import stats

from deeplense.core.errors import InvalidDataset, InvalidOption
from deeplense.core.files import write_json
from deeplense.core.run_folder import RunFolder
from deeplense.inverse.smooth_lens import SmoothLens
from deeplense.recipes.recipe import load_recipe

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


def _module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXPERIMENTS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def ceiling() -> ModuleType:
    return _module("ceiling")


@pytest.mark.parametrize("seconds", [1000.0, 3162.0])
@pytest.mark.parametrize("rate", [0.0, 0.001, 0.01, 0.05, 0.2])  # sky to arc of Model I
def test_the_chance_of_a_count_is_that_of_a_fine_sum(ceiling: ModuleType, seconds: float, rate: float) -> None:
    recipe = dataclasses.replace(load_recipe("model_i"), n_pixels=40)
    likelihood = ceiling.Likelihood(recipe, SmoothLens(recipe, 40))
    mean, spread = seconds * rate, math.sqrt(seconds * rate + (seconds * likelihood.sigma) ** 2)
    x = np.concatenate([np.linspace(-14 * spread, 0, 100_001), np.linspace(1e-9, mean + 20 * spread + 50, 400_001)])
    for k in (0, 1, 2, 5, round(mean + 1), round(mean + 2 * spread)):
        exact = np.log(np.trapezoid(stats.norm.pdf(x, mean, spread) * stats.poisson.pmf(k, np.maximum(x, 0)), x))
        found = likelihood.pixel(*(torch.tensor(number) for number in (float(k), rate, seconds)))
        assert found.item() - math.lgamma(k + 1) == pytest.approx(exact, abs=3e-3), k


def test_other_noise_than_that_of_the_published_models_is_refused(ceiling: ModuleType) -> None:
    recipe = dataclasses.replace(load_recipe("model_i_physical"), n_pixels=40)
    with pytest.raises(InvalidOption, match="noise poisson_and_background"):
        ceiling.Likelihood(recipe, SmoothLens(recipe, 40))


def test_the_gap_of_a_run_is_that_of_two_of_its_classes(tmp_path: Path) -> None:
    gap = _module("ceiling_gap")
    write_json(tmp_path / "data" / "manifest.json", {"recipe": {"name": "model_ii", "version": 2}})
    run = RunFolder(tmp_path / "run")
    run.write_config({
        "run_id": "run", "model": {"name": "any"},
        "dataset": {"path": str(tmp_path / "data"), "n_train": 3},
    })  # fmt: skip
    columns = {
        "label": ["no_sub", "no_sub", "axion", "axion", "cdm"],
        "p_no_sub": [0.6, 1e-30, 1e-30, 0.0, 0.0],
        "p_axion": [0.2, 1e-34, 1e-32, 1.0, 1.0],  # three pairs of four are ordered: what cdm has taken does not count
        "p_cdm": [0.2, 1.0, 1.0, 0.0, 0.0],
    }
    pq.write_table(pa.table(columns), run.predictions)
    best = {"model_ii v2": {"auroc": "1.0", "low": "0.98", "images": "400"}}
    row = gap.row_of(run, best)
    assert (row["auroc"], row["gap"], row["images"]) == (0.75, 0.25, 4)
    with pytest.raises(InvalidDataset, match="one of model_i v9"):
        gap.row_of(run, {"model_i v9": best["model_ii v2"]})
