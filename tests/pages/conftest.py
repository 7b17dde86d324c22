"""What the tests of pages share: run folders as `train` and `evaluate` write them, made of random numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

from deeplense.core.files import write_json
from deeplense.core.run_folder import RunFolder
from deeplense.metrics.intervals import mean_interval
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
