"""The loop of a run, set up as its options and its record say."""

from __future__ import annotations

import dataclasses
from typing import Any

from accelerate import Accelerator
from torch import nn

from deeplense.core.errors import InvalidOption
from deeplense.core.run_folder import RunFolder
from deeplense.data.loader import Loader
from deeplense.data.transforms import Augmentation, Normalisation
from deeplense.preparation.options import TrainOptions
from deeplense.tasks.task import LearntTask
from deeplense.training.loop import Plan, Trainer

SAMPLE = 512  # training images by which pixel values are normalised and strange images known


def trainer_of(
    options: TrainOptions,
    run: RunFolder,
    config: dict[str, Any],
    accelerator: Accelerator,
    task: LearntTask,
    network: nn.Module,
    images: tuple[Loader, Loader],
) -> Trainer:
    """Return the trainer of a network on images for training and validation, as options and record say."""
    try:
        normalisation = Normalisation.from_mapping(config["normalisation"])
        augmentation = Augmentation(
            config["options"]["symmetry"],
            options.random_rotation,
            options.random_zoom,
            options.random_blur,
            options.random_noise,
        )
    except (KeyError, TypeError, InvalidOption) as error:
        raise run.odd_config(error) from error
    plan = Plan(**{field.name: getattr(options, field.name) for field in dataclasses.fields(Plan)})
    if not options.decay_lr:
        plan = dataclasses.replace(plan, schedule="constant")
    return Trainer(task, network, *images, normalisation, augmentation, plan, run, accelerator)
