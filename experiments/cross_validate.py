"""Cross-validation: train and judge every fold of a configuration, then judge the answers of all folds as one set.

    python experiments/cross_validate.py experiments/test5_best.toml --folds 10 --out runs/cv/test5_best
    python experiments/cross_validate.py experiments/test5_best.toml --folds 10 --out runs/cv/test5_best --only 0 1

Every labelled image is a test image in one fold, so the pooled marks are of the whole dataset, each image answered by a
network that has not seen it. Folds that are finished are not run again; an interrupted one goes on. The networks of two
folds need not agree on what 0.9 means: where they do not, the pooled AUROC is lower than those of the folds, whose mean
and standard deviation stand beside it.

One row per configuration, of the folds that are in so far, goes to benchmarks/results/cross_validation.csv.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import statistics
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from deeplense.core.console import table
from deeplense.core.errors import InvalidDataset, InvalidOption
from deeplense.core.files import atomic
from deeplense.core.run_folder import RunFolder
from deeplense.data.dataset import open_dataset
from deeplense.data.loader import Loader
from deeplense.evaluate import evaluate
from deeplense.metrics.marks import classification_marks, nll_mark
from deeplense.pages.evaluated import EvaluatedRun, read_evaluated
from deeplense.suites.work import device_name
from deeplense.train import TrainOptions, train
from deeplense.training.trained import TrainedModel

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results" / "cross_validation.csv"
MARKS = ("accuracy", "auroc_macro", "ece", "nll")
BATCH, TIMES = 64, 5
ALONE = 32  # images that are timed one at a time


def options_of_fold(options: TrainOptions, folds: int, fold: int, out: Path) -> TrainOptions:
    """Return what `train` is told in one fold."""
    return dataclasses.replace(options, folds=folds, fold=fold, out=out / f"fold-{fold}")


def is_judged(run: RunFolder) -> bool:
    """Whether a fold is trained and judged."""
    return run.exists() and run.is_finished() and run.predictions.is_file() and (run.path / "metrics.json").is_file()


def run_fold(options: TrainOptions) -> None:
    """Train and judge one fold, or what is missing of it.

    Raises
    ------
    InvalidOption
        When its folder holds a run with other options.
    """
    run = RunFolder(train(options))
    if not is_judged(run):
        evaluate(run_id=str(run.path), device=options.device)


def finished(options: TrainOptions, folds: int, out: Path) -> list[EvaluatedRun]:
    """Return the folds that are trained and judged.

    Raises
    ------
    InvalidOption
        When one was trained with other options.
    """
    runs = []
    for fold in range(folds):
        asked = options_of_fold(options, folds, fold, out)
        run = RunFolder(asked.out or out)
        if is_judged(run):
            train(asked)  # nothing is left to train: it refuses a run with other options
            runs.append(read_evaluated(run))
    return runs


def pooled(runs: Sequence[EvaluatedRun]) -> tuple[np.ndarray, np.ndarray]:
    """Return the probabilities [N, K] and targets [N] of all folds.

    Raises
    ------
    InvalidOption, InvalidDataset
        When there is nothing to pool, the folds do not have the same classes, or an image is in two of them.
    """
    if not runs:
        raise InvalidOption("no fold is finished", "at least one", "run one: leave out --only")
    if len({run.labels for run in runs}) > 1:
        raise InvalidDataset("folds of other classes than the first", "one dataset", "remove them")
    names = [name for run in runs for name in run.ids]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidDataset(f"the image '{twice}' is in two folds", "each image in one", "run the folds anew")
    return np.concatenate([run.probabilities for run in runs]), np.concatenate([run.targets for run in runs])


def latency(run: EvaluatedRun, options: TrainOptions) -> dict[str, float]:
    """Return the milliseconds of an answer, one image at a time and in batches of 64: medians."""
    model = TrainedModel.load(run.folder, options.device)
    dataset = open_dataset(Path(run.config["dataset"]["path"]))
    rows = dataset.indices("test", model.fold)
    images = Loader(dataset, np.resize(rows, max(BATCH, ALONE)), model.labels, model.crop).in_memory().numpy()
    model.answer(images[:BATCH])  # the first answers also prepare
    model.answer(images[:1])
    alone = statistics.median(_seconds(model, images[k : k + 1]) for k in range(ALONE))
    together = statistics.median(_seconds(model, images[:BATCH]) for _ in range(TIMES)) / BATCH
    return {"ms_alone": round(1e3 * alone, 2), "ms_in_batches_of_64": round(1e3 * together, 2)}


def _seconds(model: TrainedModel, images: np.ndarray) -> float:
    begin = time.perf_counter()
    model.answer(images)
    return time.perf_counter() - begin


def row(name: str, options: TrainOptions, folds: int, runs: Sequence[EvaluatedRun]) -> dict[str, object]:
    """Return what is known of a configuration: the pooled marks with intervals, seconds, latency."""
    values, targets = pooled(runs)
    marks = classification_marks(values, targets, runs[0].labels) | {"nll": nll_mark(values, targets)}
    areas = [run.marks["auroc_macro"].value for run in runs]
    seconds = [sum(record["seconds"] for record in run.history) for run in runs]
    found: dict[str, object] = {
        "config": name,
        "model": runs[0].config["model"]["name"],
        "parameters": runs[0].config["model"]["parameters"],
        "dataset": options.dataset,
        "folds": folds,
        "folds_in": len(runs),
        "images": len(targets),
        "epochs": options.epochs,
    }
    for mark in MARKS:
        ends = {mark: marks[mark].value, f"{mark}_low": marks[mark].low, f"{mark}_high": marks[mark].high}
        found |= {key: round(value, 6) for key, value in ends.items()}
    found["auroc_mean_of_folds"] = round(statistics.mean(areas), 6)
    found["auroc_deviation_of_folds"] = round(statistics.stdev(areas), 6) if len(areas) > 1 else ""
    found["seconds_per_fold"] = round(statistics.mean(seconds))
    return found | latency(runs[0], options) | {"device": device_name(options.device), **_made_by(runs[0])}


def _made_by(run: EvaluatedRun) -> dict[str, object]:
    return {key: run.config[key] for key in ("git_commit", "created")}


def record(new: dict[str, object], file: Path) -> None:
    """Replace the row of this configuration in the table of results."""
    old: list[dict[str, object]] = []
    if file.is_file():
        with file.open(newline="", encoding="utf-8") as stream:
            old = [one for one in csv.DictReader(stream) if one["config"] != new["config"]]
    with atomic(file) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, new)
        writer.writeheader()
        writer.writerows([*old, new])


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the folds, pool them, write the row and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, help="options of `deeplense train` as TOML")
    parser.add_argument("--folds", type=int, default=10)
    parser.add_argument("--out", type=Path, required=True, help="folder of the folds' runs")
    parser.add_argument("--only", type=int, nargs="*", help="run these folds now; by default all")
    parser.add_argument("--results", type=Path, default=RESULTS)
    asked = parser.parse_args(arguments)
    options = TrainOptions.from_mapping(tomllib.loads(asked.config.read_text(encoding="utf-8")), str(asked.config))
    for fold in range(asked.folds) if asked.only is None else asked.only:
        run_fold(options_of_fold(options, asked.folds, fold, asked.out))
    runs = finished(options, asked.folds, asked.out)
    found = row(asked.config.stem, options, asked.folds, runs)
    record(found, asked.results)
    rows = [(key, str(value)) for key, value in found.items()]
    table(f"{asked.config.stem}: {len(runs)} of {asked.folds} folds are in", ("what", "value"), rows)


if __name__ == "__main__":
    main()
