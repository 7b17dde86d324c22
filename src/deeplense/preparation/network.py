"""A network that says what an image shows: classification, and lens finding with or without a catalogue."""

from __future__ import annotations

from typing import Any

import torch
from accelerate import Accelerator
from jaxtyping import Float
from torch import Tensor

from deeplense.core.console import note
from deeplense.core.run_folder import RunFolder
from deeplense.data.loader import Loader
from deeplense.data.transforms import fit_normalisation
from deeplense.models.network import is_physical, resolve_extractor, resolve_name
from deeplense.preparation.images import training_images
from deeplense.preparation.options import FINDING, TrainOptions, settings_of
from deeplense.preparation.record import begin, new_record, recipe_of
from deeplense.preparation.trainer import SAMPLE, trainer_of
from deeplense.tasks.task import TASKS
from deeplense.training.familiar import ranges, statistics
from deeplense.training.loop import Trainer


def prepare(
    options: TrainOptions, run: RunFolder, config: dict[str, Any], accelerator: Accelerator
) -> tuple[Trainer, dict[str, Any]]:
    """Return the trainer and the run's record; for a resumed run the record is the one that was stored."""
    settings = _resolved(options)
    with accelerator.main_process_first():
        train, validation = training_images(options)
    dataset = train.dataset
    physical = settings["model_source"] != "timm" and is_physical(settings["model_name"])
    settings["recipe"] = recipe_of(settings["model_name"], physical, options, dataset)
    if options.task == "find_lenses":
        settings["features"] = list(train.feature_names)
    settings |= _shares(options, train)
    task: Any = TASKS[options.task].of(dataset.labels, settings)
    torch.manual_seed(options.seed)
    network: Any = task.network(train.image_shape, settings)
    backbone: Any = network.backbone
    if network.fusion is not None:
        network.fusion.fit(train.features, train.targets, options.seed, _counts_for(options, train))
    if accelerator.is_main_process:
        for sentence in (*dataset.problems, *backbone.notes):
            note(str(sentence))
    backbone.expect(options.epochs * len(train))
    if not config:
        kind = "none" if backbone.raw else options.normalise
        sample = train.sample(SAMPLE)
        normalisation = fit_normalisation(kind, sample)
        familiar = ranges(statistics(sample, network.eval()))  # without graphs: nothing is learnt here
        config = new_record(run, options, settings, (train, validation), normalisation, familiar)
        config["model"]["parameters"] = sum(p.numel() for p in network.parameters())
        if accelerator.is_main_process:
            begin(run, config)
    return trainer_of(options, run, config, accelerator, task, network, (train, validation)), config


def _resolved(options: TrainOptions) -> dict[str, Any]:
    """Return the options with those at their defaults that depend on others."""
    name = resolve_name(options.model_source, options.model_name)
    extractor = resolve_extractor(options.model_source, name, options.extractor)
    settings = settings_of(options, FINDING if options.task == "find_lenses" else {})
    return settings | {"model_name": name, "extractor": extractor}


def _shares(options: TrainOptions, train: Loader) -> dict[str, Any]:
    """Return how common each class is to the network, and by how much it counts more than others in the loss."""
    counts = train.targets.bincount(train.weights, minlength=len(train.dataset.labels)).double()
    alike = counts.new_ones(len(counts))
    weights = counts.mean() / counts if options.balance == "weights" else alike
    shares = counts / counts.sum() if options.balance in (None, "none", "catalogue") else alike / len(counts)
    return {"class_weights": weights.tolist(), "shares": shares.tolist()}


def _counts_for(options: TrainOptions, train: Loader) -> Float[Tensor, " N"] | None:
    """Return how much each image counts in what is fitted to all at once; None where all count alike."""
    if options.balance not in ("weights", "sampling"):
        return train.weights
    counts = train.targets.bincount(minlength=len(train.dataset.labels)).double()
    return (counts.mean() / counts)[train.targets]
