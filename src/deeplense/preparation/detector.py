"""A detector of anomalies: no steps, one fit."""

from __future__ import annotations

from typing import Any

from accelerate import Accelerator

from deeplense.core.console import note
from deeplense.core.errors import InvalidOption
from deeplense.core.run_folder import RunFolder
from deeplense.data.dataset import open_dataset
from deeplense.data.transforms import fit_normalisation
from deeplense.detectors.calibrated import is_physical
from deeplense.detectors.detector import Effort, Normals
from deeplense.preparation.images import normal_images, symmetry_of
from deeplense.preparation.options import DETECTING, TrainOptions, dataset_named, settings_of
from deeplense.preparation.record import begin, new_record, recipe_of
from deeplense.preparation.trainer import SAMPLE
from deeplense.simulate import ensure
from deeplense.tasks.detect_anomalies import DetectAnomalies
from deeplense.training.detection import fit_detector
from deeplense.training.familiar import ranges, statistics


def fit(options: TrainOptions, run: RunFolder, config: dict[str, Any], accelerator: Accelerator) -> None:
    """Fit a detector of anomalies to the normal images of a dataset, and calibrate it on those for validation."""
    if accelerator.num_processes > 1:
        raise InvalidOption("a detector in several processes", "one process", "start it without torchrun")
    settings = settings_of(options, DETECTING)
    dataset = open_dataset(ensure(dataset_named(options)))
    name = settings["detector"]
    settings["recipe"] = recipe_of(f"detector {name}", is_physical(name), options, dataset)
    task = DetectAnomalies.of(dataset.labels, settings)
    train, held_out = (normal_images(dataset, split, task.normal, options) for split in ("train", "validation"))
    network = task.network(train.image_shape, settings).to(accelerator.device)
    for sentence in dataset.problems:
        note(str(sentence))
    sample = train.sample(SAMPLE)
    normalisation = fit_normalisation("none" if network.detector.raw else options.normalise, sample)
    symmetry = symmetry_of(options, dataset, train.image_shape)
    if not config:
        familiar = ranges(statistics(sample, network))
        config = new_record(run, options, settings, (train, held_out), normalisation, familiar)
        begin(run, config)
    note(f"run {run.id}; if it is interrupted: deeplense train --resume {run.path}")
    fitted_to, kept_back = (
        Normals(images, normalisation, symmetry, accelerator.device) for images in (train, held_out)
    )
    effort = Effort(options.epochs, options.batch_size, options.lr, options.seed)
    fit_detector(network, fitted_to, kept_back, effort, run)
    note(f"run {run.id} is in {run.path}; judge it with: deeplense evaluate {run.path}")
