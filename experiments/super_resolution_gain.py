r"""What super-resolution is worth: is substructure told better after it, and do smooth lenses look stranger.

    deeplense simulate model_ii --coarse area --factor 2 --train 2000 --validation 300 --test 1000 \
        --out data/model_ii_pairs
    deeplense train --config experiments/super_resolution_model_ii.toml
    python experiments/super_resolution_gain.py runs/super_resolution_model_ii --epochs 10

- The same small classifier is trained, with the same options, on the coarse images, on the coarse images interpolated
  (bicubic), on those super-resolved by the run, and on the observed fine ones; all are judged on the same test lenses,
  in pairs against the coarse ones.
- Physical detectors of anomalies are fitted to the fine images without substructure, and to the super-resolved ones;
  of such images of the test split the share with p ≤ 0.01 is counted.

Rows go to benchmarks/results/super_resolution_gain.csv.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from torch import Tensor

import deeplense
from deeplense.core.console import table
from deeplense.core.files import atomic
from deeplense.core.run_folder import RunFolder
from deeplense.data.dataset import Dataset, open_dataset
from deeplense.data.loader import Batch, PairLoader
from deeplense.metrics.intervals import Interval, wilson
from deeplense.metrics.survey import auroc_difference
from deeplense.training.trained import TrainedModel, locate_run

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results" / "super_resolution_gain.csv"
VERSIONS = ("coarse", "bicubic", "super_resolved", "fine")
AT_ONCE = 64
SMOOTH, LEVEL = "no_sub", 0.01


def main() -> None:
    """Write the images, train, judge, print and record."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("run")
    parser.add_argument("--epochs", type=int, default=10, help="of each classifier")
    given = parser.parse_args()
    model = TrainedModel.load(locate_run(given.run), "cpu")
    dataset = open_dataset(model.config["dataset"]["path"])
    home = model.run.path.with_name(f"{model.run.id}_gain")
    if not (home / "written").exists():
        write(model, dataset, home)
        (home / "written").touch()
    runs = {name: classifier(home, name, given.epochs) for name in VERSIONS}
    found = {name: deeplense.evaluate(run_id=str(run))["auroc_macro"] for name, run in runs.items()}
    for name in VERSIONS[1:]:
        for label in dataset.labels:
            found[f"{name} - coarse, {label}"] = auroc_difference(*scores(runs["coarse"], runs[name], label))
    found |= false_alarms(home)
    rows = [
        (name, f"{mark.value:.4f}", f"{mark.low:.4f} – {mark.high:.4f}", str(mark.n)) for name, mark in found.items()
    ]
    table(f"{model.run.id}: is it of use?", ("mark", "value", "95 % interval", "n"), rows)
    with atomic(RESULTS) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("run", "mark", "value", "low", "high", "n"))
        writer.writerows((model.run.id, name, m.value, m.low, m.high, m.n) for name, m in found.items())


def write(model: TrainedModel, dataset: Dataset, home: Path) -> None:
    """Write the four versions of every image as trees of class folders."""
    names, splits = dataset.catalogue["label"].to_pylist(), dataset.splits()
    loader = PairLoader(dataset, np.arange(len(dataset)))
    for batch in loader.in_order(AT_ONCE):
        for name, images in versions(model, batch).items():
            for row, image in zip(batch.index.tolist(), images.numpy(), strict=True):
                path = home / name / splits[row] / names[row] / f"{row:06d}.npy"
                path.parent.mkdir(parents=True, exist_ok=True)
                np.save(path, image[0])


@torch.inference_mode()
def versions(model: TrainedModel, batch: Batch) -> dict[str, Tensor]:
    """Return a batch as it is, interpolated, super-resolved and as observed in fine pixels."""
    assert batch.fine is not None
    estimate = model.pictures(batch)["estimate"]
    bicubic = F.interpolate(batch.image, estimate.shape[2:], mode="bicubic", align_corners=False)
    return dict(zip(VERSIONS, (batch.image, bicubic, estimate, batch.fine), strict=True))


def classifier(home: Path, name: str, epochs: int) -> Path:
    """Return the run of a classifier of one version."""
    return deeplense.train(
        dataset=str(home / name),
        out=home / f"run_{name}",
        model_name="residual_cnn",
        average_symmetry=True,
        precision="bf16",
        epochs=epochs,
    )


def scores(first: Path, second: Path, label: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what two runs give a class, and where it is true, image by image."""
    tables = [pq.read_table(RunFolder(run).predictions) for run in (first, second)]
    one, other = (part.sort_by("id") for part in tables)
    assert one["id"].equals(other["id"])
    truth = np.array(one["label"].to_pylist()) == label
    return one[f"p_{label}"].to_numpy(), other[f"p_{label}"].to_numpy(), truth


def false_alarms(home: Path) -> dict[str, Interval]:
    """Return the share of smooth test lenses with p <= 0.01: by detectors of fine and of super-resolved images."""
    found = {}
    for learnt, judged in (("fine", "fine"), ("fine", "super_resolved"), ("super_resolved", "super_resolved")):
        run = deeplense.train(
            dataset=str(home / learnt),
            out=home / f"run_physical_{learnt}",
            task="detect_anomalies",
            detector="physical",
            lens_recipe="model_ii",
        )
        marks = deeplense.evaluate(run_id=str(run), dataset=str(home / judged))
        folder = RunFolder(run if judged == learnt else run / f"{judged}-test")
        answers = pq.read_table(folder.predictions)
        smooth = np.array(answers["label"].to_pylist()) == SMOOTH
        share, n = float((answers["p_value"].to_numpy()[smooth] <= LEVEL).mean()), int(smooth.sum())
        about = f"detector of {learnt}, on {judged}"
        found[f"p <= {LEVEL}, smooth: {about}"] = Interval(share, *wilson(share, n), n)
        found[f"AUROC: {about}"] = marks["auroc"]
    return found


if __name__ == "__main__":
    main()
