"""What the tests of pages share: run folders as `train` and `evaluate` write them, made of random numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import csv
from safetensors.numpy import save_file

from deeplense.core.files import write_json
from deeplense.core.run_folder import RunFolder
from deeplense.metrics.intervals import mean_interval
from deeplense.metrics.isotonic import fit_isotonic
from deeplense.metrics.marks import ece_mark
from deeplense.metrics.selection import selection_table
from deeplense.tasks.find_lenses import FindLenses
from deeplense.tasks.super_resolve import COLUMNS

MIDDLES = {"psnr": 41.0, "psnr_truth": 47.0, "floor": 42.0, "gap": 1.0, "ssim": 0.9, "ssim_truth": 0.95, "chi2": 1.0,
           "coverage_68": 0.68, "coverage_95": 0.95, "flux_error": -0.002, "centroid_offset": 0.05}  # fmt: skip
OF_TRUTH = {"mse_truth", "psnr_truth", "ssim_truth", "floor", "gap", "flux_error", "aperture_flux_error",
            "centroid_offset", "chi2"}  # fmt: skip
Maker = Callable[..., Path]


def write_marks(folder: Path, real: bool = False, images: int = 40, **middles: float) -> None:
    """Write predictions and marks; of real pairs, those that need no truth."""
    generator = np.random.default_rng(0)
    names = [name for name in COLUMNS if not (real and name in OF_TRUTH)]
    middle = MIDDLES | middles
    values = {name: (middle.get(name, 0.5) + 0.01 * generator.normal(size=images)) for name in names}
    folder.mkdir(parents=True, exist_ok=True)
    run = RunFolder(folder)
    run.write_metrics({name: mean_interval(column, resamples=50).as_dict() for name, column in values.items()})
    columns: dict[str, Any] = {
        "id": [f"test/lens/{k:06d}" for k in range(images)],
        "label": pa.nulls(images, pa.string()) if real else ["lens"] * images,
        "split": ["test"] * images,
        **{name: column.astype(np.float32) for name, column in values.items()},
    }
    pq.write_table(pa.table(columns), run.predictions)


def write_panels(folder: Path, real: bool, bands: int) -> None:
    generator = np.random.default_rng(1)
    fine, coarse = (3, bands, 16, 16), (3, bands, 8, 8)
    arrays = {name: generator.normal(size=fine).astype(np.float32) for name in ("estimate", "fine", "truth")}
    arrays |= {"images": generator.normal(size=coarse).astype(np.float32), "sigma": np.ones(fine, np.float32)}
    if real:
        del arrays["truth"]
    save_file(arrays, folder / "panels.safetensors")
    kinds = zip(("best", "median", "worst"), (48.0, 47.0, 46.0), strict=True)
    write_json(
        folder / "panels.json",
        [{"id": f"<i>{kind}", "label": None, "kind": kind, "psnr": psnr} for kind, psnr in kinds],
    )


@pytest.fixture
def resolved(tmp_path: Path) -> Maker:
    """Return what makes the folder of an evaluated run of super-resolution; of no epochs, little is to be drawn."""

    def make(
        name: str = "a",
        estimator: str = "truth",
        real: bool = False,
        data_range: float = 1.0,
        bands: int = 1,
        epochs: int = 3,
        model: str = "srcnn",
        **middles: float,
    ) -> Path:
        folder = tmp_path / name
        write_marks(folder, real, **middles)
        if epochs:
            write_panels(folder, real, bands)
        config = {
            "task": "super_resolve",
            "labels": [] if real else ["lens"],
            "image_shape": [bands, 8, 8],
            "model": {"name": model, "parameters": 12345},
            "dataset": {"name": "pairs", "n_train": 100, "n_validation": 20},
            "options": {
                "estimator": estimator,
                "loss": "mse",
                "degradation": {"factor": 2, "method": "gaussian", "blur": 1.25},
                "degradation_is_known": not real,
                "data_range": data_range,
                "noise": None if real else {"background": 1e-4, "per_value": 0.0},
            },
        }
        RunFolder(folder).write_config(config)
        record = {"train_loss": -1.0, "validation_loss": -2.0, "validation_psnr": 40.0, "seconds": 2.0}
        RunFolder(folder).write_history([{"epoch": k} | record for k in range(1, epochs + 1)])
        return folder

    return make


def write_found(folder: Path, images: int, separation: float, seed: int) -> None:
    """Write what `evaluate` does of lenses that are the likelier to be found the larger they are."""
    generator, run = np.random.default_rng([seed, 1]), RunFolder(folder)
    sky = np.random.default_rng(0)  # the same lenses for every run
    targets, size = np.arange(images) % 2, sky.uniform(0.5, 2.5, images)
    logit = separation * (targets * size + sky.normal(size=images) + 0.3 * generator.normal(size=images) - 0.7)
    p = 1 / (1 + np.exp(-logit))
    answers = np.stack([1 - p, p], axis=1).astype(np.float32)
    task = FindLenses(("nonlens", "lens"))
    isotonic = fit_isotonic(answers[:, 1], targets == 1)
    honest = isotonic(answers[:, 1])
    marks = task.marks_with_intervals(answers, targets, 1.5)
    marks |= {"ece_isotonic": ece_mark(np.stack([1 - honest, honest], axis=1), targets)}
    run.write_metrics({name: mark.as_dict() for name, mark in marks.items()})
    names = np.array(task.labels, object)[targets]
    ids = [f"image-{k}" for k in range(images)]
    table = {"id": ids, "label": names, "split": ["test"] * images, **task.columns(answers)}
    pq.write_table(pa.table(table), run.predictions)
    write_json(run.calibration, {"temperature": 1.5, "isotonic": isotonic.as_dict(), "prevalence": 0.5})
    rows = selection_table(answers[:, 1], targets == 1, {"theta_E": np.where(targets == 1, size, np.nan)})
    csv.write_csv(pa.table(rows), run.selection)
    examples = task.examples(answers, targets)
    places = [example.position for example in examples]
    shown = [{"id": f"<i>{ids[one.position]}", "label": names[one.position], **one.facts} for one in examples]
    write_json(folder / "mistakes.json", shown)
    pixels = generator.normal(size=(len(places), 1, 16, 16)).astype(np.float32)
    save_file({"images": pixels}, folder / "mistakes.safetensors")


@pytest.fixture
def finder(tmp_path: Path) -> Maker:
    """Return what makes the folder of an evaluated finder of lenses; the same images whatever the seed."""

    def make(name: str = "a", images: int = 600, separation: float = 2.0, seed: int = 0, **options: Any) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        config = {
            "task": "find_lenses",
            "labels": ["nonlens", "lens"],
            "image_shape": [1, 64, 64],
            "model": {"name": "residual_cnn", "parameters": 12345},
            "dataset": {"name": "lens_finding", "n_train": 100, "n_validation": 20},
            "options": {"features": [], "allow_truth_features": False} | options,
        }
        RunFolder(folder).write_config(config)
        record = {"train_loss": 0.5, "validation_loss": 0.6, "validation_auroc_lens": 0.8, "seconds": 2.0}
        RunFolder(folder).write_history([{"epoch": k} | record for k in range(1, 4)])
        write_found(folder, images, separation, seed)
        return folder

    return make
