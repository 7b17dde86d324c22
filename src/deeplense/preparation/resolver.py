"""A network that answers a coarse image with a finer one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from accelerate import Accelerator

from deeplense.core.console import note
from deeplense.core.errors import InvalidOption
from deeplense.core.run_folder import RunFolder
from deeplense.data.dataset import open_dataset
from deeplense.data.loader import PairLoader
from deeplense.data.transforms import Normalisation
from deeplense.models.network import load_weights, weights_file
from deeplense.preparation.images import rows_of
from deeplense.preparation.options import RESOLVING, TrainOptions, dataset_named, settings_of
from deeplense.preparation.record import begin, new_record
from deeplense.preparation.trainer import SAMPLE, trainer_of
from deeplense.simulate import ensure
from deeplense.tasks.super_resolve import SuperResolve
from deeplense.training.familiar import ranges, statistics
from deeplense.training.loop import Trainer
from deeplense.training.resolving import contest_of, pair_settings, prepare_resolver, take_features
from deeplense.upscalers.upscaler import UPSCALERS


def prepare(
    options: TrainOptions, run: RunFolder, config: dict[str, Any], accelerator: Accelerator
) -> tuple[Trainer, dict[str, Any]]:
    """Return the trainer of a super-resolution network and the run's record."""
    with accelerator.main_process_first():
        dataset = open_dataset(ensure(dataset_named(options)))
        train, validation = (
            PairLoader(dataset, rows_of(dataset, split, options), workers=options.workers)
            for split in ("train", "validation")
        )
    settings = settings_of(options, RESOLVING) | {
        "model_source": "deeplense",
        "model_name": options.model_name or "residual_unet",
    }
    if options.adversary is None:
        settings["adversary"] = getattr(UPSCALERS[settings["model_name"]], "adversary", 0.0)
    _check(options, settings, min(train.image_shape[1:]))
    settings |= pair_settings(train)
    task = SuperResolve.of(dataset.labels, settings)
    task.wanted(train.sample_batch(1))  # now, not after the record is written
    if options.perceptual is not None:
        take_features(task, options.perceptual, dataset.image_shape, accelerator.device)
    torch.manual_seed(options.seed)
    network = task.network(train.image_shape, settings)
    if options.pretrained == "0":
        prepare_resolver(network, task, train)
    else:
        load_weights(network, weights_file(options.pretrained))
    if accelerator.is_main_process:
        for sentence in dataset.problems:
            note(str(sentence))
    if not config:
        familiar = ranges(statistics(train.sample(SAMPLE), network))
        config = new_record(run, options, settings, (train, validation), Normalisation("none"), familiar)
        config["model"]["parameters"] = sum(p.numel() for p in network.parameters())
        observation = (getattr(dataset, "manifest", {}).get("recipe") or {}).get("observation") or {}
        config["dataset"]["rescale"] = observation.get("rescale", "none")
        if accelerator.is_main_process:
            begin(run, config)
    trainer = trainer_of(options, run, config, accelerator, task, network, (train, validation))
    if settings["adversary"]:
        trainer.contest = contest_of(task, train.image_shape[0], settings["adversary"], options.lr, options.seed)
    return trainer, config


def _check(options: TrainOptions, settings: Mapping[str, Any], side: int) -> None:
    """Refuse an opponent for a network that has learnt nothing, and patches that no image of this side has."""
    if settings["adversary"] and options.pretrained == "0":
        raise InvalidOption(
            "an opponent for a network that has learnt nothing",
            "weights of a run that has learnt by error",
            "train with --adversary 0 first, then add --pretrained RUN/model.safetensors",
        )
    if options.patch is not None and options.patch > side:
        raise InvalidOption(
            f"patches of {options.patch} coarse pixels",
            f"at most the {side} that an image has",
            "change --patch or leave it out",
        )
