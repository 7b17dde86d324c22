"""Cross-validation: folds are run once, and pooled into marks of the whole dataset."""

from __future__ import annotations

import csv
import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from deeplense.core.errors import InvalidDataset, InvalidOption
from deeplense.core.run_folder import RunFolder
from deeplense.metrics.marks import classification_marks
from deeplense.pages.evaluated import read_evaluated

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def cross_validate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("cross_validate", ROOT / "experiments" / "cross_validate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_folds_are_run_once_and_pooled(cross_validate: ModuleType, small_set: Path, tmp_path: Path) -> None:
    config, out, results = tmp_path / "small.toml", tmp_path / "out", tmp_path / "results.csv"
    config.write_text(f'dataset = "{small_set}"\nout = "elsewhere"\nepochs = 1\nbatch_size = 24\ndevice = "cpu"\n')
    line = [str(config), "--folds", "3", "--out", str(out), "--results", str(results)]
    cross_validate.main([*line, "--only", "1"])
    first = next(csv.DictReader(results.open()))
    assert (first["folds_in"], first["images"]) == ("1", "39"), "13 of each class"
    weights = RunFolder(out / "fold-1").weights
    before = weights.stat().st_mtime_ns
    cross_validate.main(line)
    assert weights.stat().st_mtime_ns == before, "a finished fold was trained again"
    (row,) = csv.DictReader(results.open())
    assert (row["config"], row["folds"], row["folds_in"], row["images"]) == ("small", "3", "3", "120")
    runs = [read_evaluated(RunFolder(out / f"fold-{k}")) for k in range(3)]
    values, targets = (np.concatenate([getattr(run, name) for run in runs]) for name in ("probabilities", "targets"))
    area = classification_marks(values, targets, runs[0].labels)["auroc_macro"]
    found = [float(row[name]) for name in ("auroc_macro", "auroc_macro_low", "auroc_macro_high")]
    assert found == pytest.approx([area.value, area.low, area.high], abs=1e-6)
    assert float(row["ms_alone"]) > 0 and float(row["ms_in_batches_of_64"]) > 0
    with pytest.raises(InvalidDataset, match="in two folds"):
        cross_validate.pooled([runs[0], *runs])
    config.write_text(config.read_text().replace("epochs = 1", "epochs = 2"))
    with pytest.raises(InvalidOption, match="epochs"):
        cross_validate.main([*line, "--only"])


def test_nothing_is_no_pool(cross_validate: ModuleType) -> None:
    with pytest.raises(InvalidOption, match="no fold is finished"):
        cross_validate.pooled([])
