"""The trained models of the package."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from deeplense.core.run_folder import SHIPPED, find_run, shipped_runs
from deeplense.evaluate import evaluate
from deeplense.predict import predict
from deeplense.simulate import simulate

MEGABYTE = 1 << 20


def test_models_i_ii_iii_and_the_common_test_are_shipped() -> None:
    names = ("model_i", "model_ii", "model_iii", "common_test")
    assert {f"{name}@deeplense" for name in names} <= set(shipped_runs())


@pytest.mark.parametrize("name", shipped_runs())
def test_each_is_small_and_has_a_card_with_its_marks(name: str) -> None:
    run = find_run(name)
    assert run.weights.stat().st_size <= 4 * MEGABYTE
    card = (run.path / "README.md").read_text(encoding="utf-8")
    for mark in run.metrics().values():
        assert f"{mark['value']:.4f}" in card


def test_the_package_stays_small() -> None:
    files = [path for path in SHIPPED.parent.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert sum(path.stat().st_size for path in files) <= 25 * MEGABYTE


@pytest.mark.parametrize("name", shipped_runs())
def test_each_does_on_new_images_what_its_card_says(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = name.partition("@")[0]
    folder = simulate(recipe=recipe, train=0, validation=0, test=100, seed=20261, out=tmp_path / "new")
    marks, promises = evaluate(run_id=name, dataset=str(folder)), find_run(name).metrics()
    primary = next(name for name in ("auroc_macro", "auroc_lens", "psnr_truth") if name in promises)
    found, promised = marks[primary], promises[primary]
    assert found.high >= promised["low"], "a new seed gives the same marks within the intervals"
    assert (tmp_path / "runs" / name / "new-test" / "metrics.json").is_file()
    assert (tmp_path / "runs" / name / "new-test" / "selection.csv").is_file() == (primary == "auroc_lens")
    assert find_run(f"runs/{name}").config()["labels"] == find_run(name).config()["labels"]
    assert not list(SHIPPED.rglob("predictions.parquet")), "an evaluation writes nothing into the package"


def answer(name: str, sample: Path, folder: Path) -> dict[str, Any]:
    table = predict(run_id=name, files=(sample,), out=folder / "answers.parquet")
    row: dict[str, Any] = pq.read_table(table).to_pylist()[0]
    return row


def test_a_real_file_is_answered(test_data: Path, tmp_path: Path) -> None:
    row = answer("model_ii@deeplense", test_data / "samples" / "model_ii.npy", tmp_path)
    probabilities = [value for key, value in row.items() if key.startswith("p_")]
    assert np.isclose(sum(probabilities), 1, atol=1e-4)
    assert row["prediction"] in ("cdm", "axion") and row["unlike"] is None


def test_a_real_file_of_another_lens_is_told_of(test_data: Path, tmp_path: Path) -> None:
    """The circulating counts are of a lens with θ_E = 1.46 arcsec; that of Model I's generator has 1.28."""
    row = answer("model_i@deeplense", test_data / "samples" / "model_i_counts.npy", tmp_path)
    assert "chi2 of the smooth lens" in row["unlike"]
