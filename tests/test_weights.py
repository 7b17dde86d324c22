"""The trained models of the package."""

from pathlib import Path

import numpy as np
import pyarrow.csv
import pytest

from deeplense.core.run_folder import SHIPPED, find_run, shipped_runs
from deeplense.evaluate import evaluate
from deeplense.predict import predict
from deeplense.simulate import simulate

MEGABYTE = 1 << 20


def test_some_are_shipped() -> None:
    assert "model_ii@deeplense" in shipped_runs()


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


def test_model_ii_does_on_new_images_what_its_card_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = simulate(recipe="model_ii", train=0, validation=0, test=100, seed=20261, out=tmp_path / "new")
    found = evaluate(run_id="model_ii@deeplense", dataset=str(folder))["auroc_macro"]
    promised = find_run("model_ii@deeplense").metrics()["auroc_macro"]
    assert found.high >= promised["low"], "a new seed gives the same marks within the intervals"
    assert (tmp_path / "runs" / "model_ii@deeplense" / "new-test" / "metrics.json").is_file()
    assert not list(SHIPPED.rglob("predictions.parquet")), "an evaluation writes nothing into the package"


def test_a_real_file_is_answered(test_data: Path, tmp_path: Path) -> None:
    sample = test_data / "samples" / "model_ii.npy"
    table = predict(run_id="model_ii@deeplense", files=(sample,), out=tmp_path / "answers.csv")
    row = pyarrow.csv.read_csv(table).to_pylist()[0]
    probabilities = [value for key, value in row.items() if key.startswith("p_")]
    assert np.isclose(sum(probabilities), 1, atol=1e-4)
    assert row["prediction"] in ("no_sub", "cdm", "axion")
